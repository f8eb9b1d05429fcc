//! Tab-separated values as GLUE has them: no quoting, no escapes.

use std::borrow::Cow;

use super::{Format, Layout, Table, utf8};
use crate::error::DataError;

pub(super) fn read<'a>(file: &str, bytes: &'a [u8], layout: &Layout) -> Result<Table<'a>, DataError> {
    let mut table = Table::empty(file, Format::Tsv);
    // Only line ends are trimmed: a last row may end in empty cells.
    let end = bytes.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
    for (line, bytes) in (1..).zip(bytes[..end].split(|&byte| byte == b'\n')) {
        let text = utf8(file, Format::Tsv, line, bytes.strip_suffix(b"\r").unwrap_or(bytes))?;
        table.take(line, text.split('\t').map(Cow::Borrowed).collect(), layout)?;
    }
    Ok(table)
}
