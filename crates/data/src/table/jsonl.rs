//! One JSON object per line.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{Cell, Format, Layout, SHOWN, Table, at, utf8, whole};
use crate::error::DataError;

pub(super) fn read<'a>(file: &str, bytes: &'a [u8], layout: &Layout) -> Result<Table<'a>, DataError> {
    let mut table = Table::empty(file, Format::Jsonl);
    let (mut places, mut others): (HashMap<String, usize>, HashSet<String>) = (HashMap::new(), HashSet::new());
    for (line, bytes) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let text = utf8(file, Format::Jsonl, line, bytes)?;
        if text.trim().is_empty() {
            continue;
        }
        let malformed = |reason, remedy| DataError::Malformed { at: at(file, Format::Jsonl, line), reason, remedy };
        let object: Map<String, Value> =
            serde_json::from_str(text).map_err(|e| malformed(e.to_string(), remedy(&e)))?;
        let mut row = vec![Cell::Null; table.columns.len()];
        for (key, value) in object {
            if !layout.wants(&key) {
                if others.len() < SHOWN && others.insert(key.clone()) {
                    table.others.push(key);
                }
                continue;
            }
            let Some(cell) = cell(value) else {
                return Err(malformed(format!("`{key}` holds a list or an object"), "use text, numbers or null"));
            };
            if let Some(&column) = places.get(&key) {
                row[column] = cell;
            } else {
                places.insert(key.clone(), table.columns.len());
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

fn remedy(error: &serde_json::Error) -> &'static str {
    let reason = error.to_string();
    if reason.contains("surrogate") || reason.contains("hex escape") {
        return "write both halves of a pair such as `\\ud83d\\ude00`, or leave the half out";
    }
    "write one JSON object per line, such as {\"sentence\": \"..\"}"
}

fn cell<'a>(value: Value) -> Option<Cell<'a>> {
    match value {
        Value::Null => Some(Cell::Null),
        Value::Bool(value) => Some(Cell::Text(Cow::Owned(value.to_string()))),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Some(whole(value)),
            (_, Some(value)) => Some(whole(value)),
            _ => number.as_f64().map(Cell::Number),
        },
        Value::String(text) => Some(Cell::Text(Cow::Owned(text))),
        Value::Array(_) | Value::Object(_) => None,
    }
}
