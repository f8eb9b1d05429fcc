//! Parquet, by its records.

use std::borrow::Cow;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::{Cell, Format, Table, at, utf8};
use crate::error::DataError;

const REMEDY: &str = "copy the file again, or write it uncompressed or with snappy, gzip or zstd";

pub(super) fn read<'a>(file: &str, bytes: &[u8]) -> Result<Table<'a>, DataError> {
    // The decoder indexes past the end of some damaged pages; a damaged file is an error, not a bug.
    std::panic::catch_unwind(|| decode(file, bytes)).unwrap_or_else(|_| {
        let reason = "a page is damaged".to_owned();
        Err(DataError::Malformed { at: file.to_owned(), reason, remedy: REMEDY })
    })
}

fn decode<'a>(file: &str, bytes: &[u8]) -> Result<Table<'a>, DataError> {
    let mut table = Table::empty(file, Format::Parquet);
    let malformed = |at: String, e: &ParquetError| DataError::Malformed { at, reason: e.to_string(), remedy: REMEDY };
    let whole = |e: ParquetError| malformed(file.to_owned(), &e);
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(bytes)).map_err(whole)?;
    let schema = reader.metadata().file_metadata().schema();
    table.columns = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    for (line, row) in (1..).zip(reader.get_row_iter(None).map_err(whole)?) {
        let here = || at(file, Format::Parquet, line);
        let row = row.map_err(|e| malformed(here(), &e))?;
        let cells = row.into_columns().into_iter().map(|(name, field)| {
            cell(file, line, field)?.ok_or_else(|| DataError::Malformed {
                at: here(),
                reason: format!("column `{name}` holds neither text nor numbers"),
                remedy: "write flat columns of text, numbers and truth values",
            })
        });
        table.rows.push(cells.collect::<Result<_, _>>()?);
        table.lines.push(line);
    }
    Ok(table)
}

fn cell<'a>(file: &str, line: usize, field: Field) -> Result<Option<Cell<'a>>, DataError> {
    let text = |text| Cell::Text(Cow::Owned(text));
    Ok(Some(match field {
        Field::Null => Cell::Null,
        Field::Bool(value) => text(value.to_string()),
        Field::Byte(value) => Cell::Number(value.into()),
        Field::Short(value) => Cell::Number(value.into()),
        Field::Int(value) => Cell::Number(value.into()),
        Field::Long(value) => Cell::Number(value as f64),
        Field::UByte(value) => Cell::Number(value.into()),
        Field::UShort(value) => Cell::Number(value.into()),
        Field::UInt(value) => Cell::Number(value.into()),
        Field::ULong(value) => Cell::Number(value as f64),
        // By way of the shortest decimal, so that a score of 3.8 reads as 3.8.
        Field::Float(value) => Cell::Number(value.to_string().parse().unwrap_or(f64::NAN)),
        Field::Double(value) => Cell::Number(value),
        Field::Str(value) => text(value),
        Field::Bytes(value) => text(utf8(file, Format::Parquet, line, value.data())?.to_owned()),
        _ => return Ok(None),
    }))
}
