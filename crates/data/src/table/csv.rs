//! Comma-separated values by RFC 4180.

use std::borrow::Cow;
use std::io::Read;

use super::{Format, Layout, Table, at, utf8};
use crate::error::DataError;

/// A last row of our own. Where a quote was left open it ends up inside the row before, which the parser would not tell.
const SENTINEL: &[u8] = b"\n\x1e";

pub(super) fn read<'a>(file: &str, bytes: &'a [u8], layout: &Layout) -> Result<Table<'a>, DataError> {
    quoted(Table::empty(file, Format::Csv), bytes, layout.delimiter, layout)
}

/// The rows of a file with quoting, in a table without rows.
pub(super) fn quoted<'a>(
    mut table: Table<'a>,
    bytes: &'a [u8],
    delimiter: u8,
    layout: &Layout,
) -> Result<Table<'a>, DataError> {
    let (file, format) = (table.file.clone(), table.format);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        // The count of cells is checked in one place for all formats.
        .flexible(true)
        .from_reader(bytes.chain(SENTINEL));
    let mut record = csv::ByteRecord::new();
    let (mut line, mut closed) = (1, false);
    let malformed = |line, reason, remedy| DataError::Malformed { at: at(&file, format, line), reason, remedy };
    while reader
        .read_byte_record(&mut record)
        .map_err(|e| malformed(line, e.to_string(), "mend the line, or export the table again"))?
    {
        // The parser's positions lie before the empty lines that it skips.
        if let Some(position) = record.position() {
            let before = bytes.iter().skip(position.byte() as usize).take_while(|byte| b"\r\n".contains(byte));
            line = position.line() as usize + before.filter(|&&byte| byte == b'\n').count();
        }
        let at_end = reader.position().byte() as usize == bytes.len() + SENTINEL.len();
        if at_end && record.len() == 1 && record[0] == SENTINEL[1..] {
            closed = true;
            break;
        }
        let cell = |bytes| utf8(&file, format, line, bytes).map(|text| Cow::Owned(text.to_owned()));
        // A row that swallowed the sentinel is not worth judging: the open quote is the cause of whatever is wrong with it.
        if record.iter().any(|field| field.ends_with(SENTINEL)) {
            break;
        }
        table.take(line, record.iter().map(cell).collect::<Result<_, _>>()?, layout)?;
    }
    if closed {
        return Ok(table);
    }
    let reason = "a quote opens a field and is never closed".to_owned();
    Err(malformed(
        line,
        reason,
        "double every quote inside a quoted field, or say `format: tsv` for text without quoting",
    ))
}
