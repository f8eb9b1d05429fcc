//! Parquet, by its records.

use std::borrow::Cow;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;

use super::{Cell, Format, Layout, Table, at, utf8, whole};
use crate::error::DataError;
use crate::foreign::quietly;

mod footer;

/// Rows that a byte of a file stands for at most: columns of equal values take next to nothing, but a table to learn from does.
const ROWS_PER_BYTE: usize = 64;

const REMEDY: &str = "copy the file again, or write it uncompressed or with snappy, gzip or zstd";

pub(super) fn read<'a>(file: &str, bytes: &[u8], layout: &Layout) -> Result<Table<'a>, DataError> {
    // The decoder indexes past the end of some damaged pages.
    quietly(|| decode(file, bytes, layout)).unwrap_or_else(|| {
        let reason = "a page is damaged".to_owned();
        Err(DataError::Malformed { at: file.to_owned(), reason, remedy: REMEDY })
    })
}

fn decode<'a>(file: &str, bytes: &[u8], layout: &Layout) -> Result<Table<'a>, DataError> {
    let mut table = Table::empty(file, Format::Parquet);
    let malformed = |at: String, e: &ParquetError| DataError::Malformed { at, reason: reason(e), remedy: REMEDY };
    let whole = |e: ParquetError| malformed(file.to_owned(), &e);
    let refused = |reason: String| Err(DataError::Malformed { at: file.to_owned(), reason, remedy: REMEDY });
    match footer::problem(bytes) {
        Some(footer::Problem::Claims(items)) => {
            return refused(format!("its footer claims a list of {items} items, more than it has bytes"));
        }
        Some(footer::Problem::Broken) => return refused("its footer is damaged".to_owned()),
        None => {}
    }
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(bytes)).map_err(whole)?;
    let schema = reader.metadata().file_metadata().schema();
    let (read, others): (Vec<_>, Vec<_>) =
        schema.get_fields().iter().cloned().partition(|field| layout.wants(field.name()));
    table.columns = read.iter().map(|field| field.name().to_owned()).collect();
    table.others = others.iter().map(|field| field.name().to_owned()).collect();
    if let Some(reason) = overstated(reader.metadata(), bytes.len(), layout) {
        return refused(reason);
    }
    // Rows without columns have no end but the number that the file claims; one tells which columns there are.
    let most = if read.is_empty() { 1 } else { usize::MAX };
    let projected = Type::group_type_builder(schema.name()).with_fields(read).build().map_err(whole)?;
    for (line, row) in (1..).zip(reader.get_row_iter(Some(projected)).map_err(whole)?.take(most)) {
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

/// What is wrong with the numbers of rows that a file claims. The decoder makes a row of nulls of each that is not there.
fn overstated(metadata: &ParquetMetaData, bytes: usize, layout: &Layout) -> Option<String> {
    let most = bytes.saturating_mul(ROWS_PER_BYTE);
    let mut rows: usize = 0;
    for (at, group) in metadata.row_groups().iter().enumerate() {
        let claimed = group.num_rows();
        rows = rows.saturating_add(usize::try_from(claimed).unwrap_or(usize::MAX));
        if rows > most {
            return Some(format!("it claims {rows} rows in {bytes} bytes"));
        }
        let flat = |column: &&ColumnChunkMetaData| column.column_descr().max_rep_level() == 0;
        let wanted = |column: &&ColumnChunkMetaData| layout.wants(column.column_descr().name());
        let other = |column: &&ColumnChunkMetaData| column.num_values() != claimed;
        if let Some(column) = group.columns().iter().filter(flat).filter(wanted).find(other) {
            let (name, values) = (column.column_descr().name(), column.num_values());
            return Some(format!("row group {at} claims {claimed} rows, but {values} values of column `{name}`"));
        }
    }
    None
}

/// What the decoder says, without the bytes that it shows.
fn reason(error: &ParquetError) -> String {
    let text = error.to_string();
    match text.split_once(" Bytes: [") {
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

fn cell<'a>(file: &str, line: usize, field: Field) -> Result<Option<Cell<'a>>, DataError> {
    let text = |text| Cell::Text(Cow::Owned(text));
    Ok(Some(match field {
        Field::Null => Cell::Null,
        Field::Bool(value) => text(value.to_string()),
        Field::Byte(value) => Cell::Number(value.into()),
        Field::Short(value) => Cell::Number(value.into()),
        Field::Int(value) => Cell::Number(value.into()),
        Field::Long(value) => whole(value),
        Field::UByte(value) => Cell::Number(value.into()),
        Field::UShort(value) => Cell::Number(value.into()),
        Field::UInt(value) => Cell::Number(value.into()),
        Field::ULong(value) => whole(value),
        // By way of the shortest decimal, so that a score of 3.8 reads as 3.8.
        Field::Float(value) => Cell::Number(value.to_string().parse().unwrap_or(f64::NAN)),
        Field::Double(value) => Cell::Number(value),
        Field::Str(value) => text(value),
        Field::Bytes(value) => text(utf8(file, Format::Parquet, line, value.data())?.to_owned()),
        _ => return Ok(None),
    }))
}
