//! Tab-separated values: without quoting and escapes as GLUE has them, or quoted as pandas writes them.
//!
//! `DataFrame.to_csv(sep="\t")` puts a field in quotes that holds a quote, a tab or a line end, and doubles the quotes inside. A file
//! counts as quoted so where every quote in it opens, closes or is doubled inside a field in quotes, and one of two things tells that
//! this is no chance: a quote is doubled, or every field but numbers is in quotes. Where a field spans lines, the file must also make
//! no table when its lines are taken for rows.

use std::borrow::Cow;

use super::csv::quoted;
use super::{Format, Layout, Quoting, Table, utf8};
use crate::error::DataError;

pub(super) fn read<'a>(file: &str, bytes: &'a [u8], layout: &Layout) -> Result<Table<'a>, DataError> {
    let plain = plain(file, bytes, layout);
    if layout.quoting == Quoting::Never {
        return plain;
    }
    let Some(quotes) = Quotes::of(bytes) else { return plain };
    if plain.is_ok() && (quotes.spans_lines || !quotes.is_evident) {
        return plain;
    }
    let read = quoted(Table::empty(file, Format::Tsv), bytes, b'\t', layout);
    // Neither reading makes a table: the plain one's complaint fits the format.
    let Ok(mut table) = read else { return plain };
    if layout.quoting == Quoting::WhereConsistent {
        let fields = quotes.fields;
        table.notes.push(format!(
            "{file}: fields in quotes, read without them as csv has it: {fields}; `format: tsv` keeps quotes as text"
        ));
        return Ok(table);
    }
    let mut table = plain?;
    table.notes.push(format!(
        "{file}: every quote follows the rules of csv, but `tsv` keeps quotes as text; `format: csv` with `delimiter: \"\\t\"` reads \
         quoted fields"
    ));
    Ok(table)
}

fn plain<'a>(file: &str, bytes: &'a [u8], layout: &Layout) -> Result<Table<'a>, DataError> {
    let mut table = Table::empty(file, Format::Tsv);
    // Only line ends are trimmed: a last row may end in empty cells.
    let end = bytes.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
    for (line, bytes) in (1..).zip(bytes[..end].split(|&byte| byte == b'\n')) {
        let text = utf8(file, Format::Tsv, line, bytes.strip_suffix(b"\r").unwrap_or(bytes))?;
        table.take(line, text.split('\t').map(Cow::Borrowed).collect(), layout)?;
    }
    Ok(table)
}

/// How a file uses quotes, where all of them follow the rules of `csv`.
struct Quotes {
    /// Fields in quotes.
    fields: usize,
    /// Whether a quote is doubled, or all fields but numbers are in quotes.
    is_evident: bool,
    /// Whether a field in quotes goes over a line end.
    spans_lines: bool,
}

impl Quotes {
    /// None where there are no quotes, or where one breaks a rule.
    fn of(bytes: &[u8]) -> Option<Self> {
        let (mut fields, mut is_doubled, mut is_partial, mut spans_lines) = (0, false, false, false);
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = if let Some(inside) = rest.strip_prefix(b"\"") {
                let length = quoted_length(inside)?;
                is_doubled |= inside[..length].contains(&b'"');
                spans_lines |= inside[..length].contains(&b'\n');
                fields += 1;
                length + 2
            } else {
                let length = rest.iter().position(|byte| b"\t\n".contains(byte)).unwrap_or(rest.len());
                let field = rest[..length].trim_ascii();
                if field.contains(&b'"') {
                    return None;
                }
                let number = std::str::from_utf8(field).is_ok_and(|text| text.parse::<f64>().is_ok());
                is_partial |= !number && !field.is_empty();
                length
            };
            rest = &rest[length..];
            let end = rest.strip_prefix(b"\r").unwrap_or(rest);
            match end.split_first() {
                None => break,
                Some((b'\t' | b'\n', after)) => rest = after,
                Some(_) => return None,
            }
        }
        (fields > 0).then_some(Self { fields, is_evident: is_doubled || !is_partial, spans_lines })
    }
}

/// The length of what stands between quotes, after the first; none where it is not closed.
fn quoted_length(inside: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += inside[at..].iter().position(|&byte| byte == b'"')?;
        if inside.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}
