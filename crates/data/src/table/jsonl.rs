//! One JSON object per line.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Cell, Format, Table, at, utf8};
use crate::error::DataError;

pub(super) fn read<'a>(file: &str, bytes: &'a [u8]) -> Result<Table<'a>, DataError> {
    let mut table = Table::empty(file, Format::Jsonl);
    for (line, bytes) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let text = utf8(file, Format::Jsonl, line, bytes)?;
        if text.trim().is_empty() {
            continue;
        }
        let malformed = |reason, remedy| DataError::Malformed { at: at(file, Format::Jsonl, line), reason, remedy };
        let object: Map<String, Value> = serde_json::from_str(text)
            .map_err(|e| malformed(e.to_string(), "write one JSON object per line, such as {\"sentence\": \"..\"}"))?;
        let mut row = vec![Cell::Null; table.columns.len()];
        for (key, value) in object {
            let Some(cell) = cell(value) else {
                return Err(malformed(format!("`{key}` holds a list or an object"), "use text, numbers or null"));
            };
            if let Some(column) = table.columns.iter().position(|column| *column == key) {
                row[column] = cell;
            } else {
                table.columns.push(key);
                row.push(cell);
            }
        }
        table.rows.push(row);
        table.lines.push(line);
    }
    let width = table.columns.len();
    table.rows.iter_mut().for_each(|row| row.resize(width, Cell::Null));
    Ok(table)
}

fn cell<'a>(value: Value) -> Option<Cell<'a>> {
    match value {
        Value::Null => Some(Cell::Null),
        Value::Bool(value) => Some(Cell::Text(Cow::Owned(value.to_string()))),
        Value::Number(number) => number.as_f64().map(Cell::Number),
        Value::String(text) => Some(Cell::Text(Cow::Owned(text))),
        Value::Array(_) | Value::Object(_) => None,
    }
}
