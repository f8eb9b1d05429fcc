//! For other programs: columns as Parquet.

use std::sync::Arc;

use parquet::{
    basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel},
    data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::Type,
};

use crate::{
    AnalysisError,
    runs::{Column, Columns},
};

/// Columns as a Parquet file with one row group, compressed by Zstandard. Texts are UTF-8, whole numbers unsigned 64-bit, numbers doubles;
/// every column may have absent values.
pub fn parquet(columns: &Columns) -> Result<Vec<u8>, AnalysisError> {
    Ok(written(columns)?)
}

fn written(columns: &Columns) -> Result<Vec<u8>, ParquetError> {
    let fields = columns.0.iter().map(|(name, column)| Ok(Arc::new(field(name, column)?)));
    let fields = fields.collect::<Result<Vec<_>, ParquetError>>()?;
    let schema = Type::group_type_builder("schema").with_fields(fields).build()?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for (_, column) in &columns.0 {
        let mut open = group.next_column()?.ok_or_else(|| ParquetError::General("a column is missing".to_owned()))?;
        write(&mut open, column)?;
        open.close()?;
    }
    group.close()?;
    writer.into_inner()
}

fn field(name: &str, column: &Column) -> Result<Type, ParquetError> {
    let (physical, logical) = match column {
        Column::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Column::Count(_) => (Physical::INT64, Some(LogicalType::integer(64, false))),
        Column::Number(_) => (Physical::DOUBLE, None),
    };
    Type::primitive_type_builder(name, physical)
        .with_logical_type(logical)
        .with_repetition(Repetition::OPTIONAL)
        .build()
}

fn write(open: &mut SerializedColumnWriter<'_>, column: &Column) -> Result<(), ParquetError> {
    /// 1 for a value that is there, 0 for one that is not.
    fn levels<T>(values: &[Option<T>]) -> Vec<i16> {
        values.iter().map(|value| i16::from(value.is_some())).collect()
    }
    match column {
        Column::Text(values) => {
            let present: Vec<ByteArray> = values.iter().flatten().map(|text| text.as_str().into()).collect();
            open.typed::<ByteArrayType>().write_batch(&present, Some(&levels(values)), None)?;
        }
        Column::Count(values) => {
            // An unsigned number of 64 bits is stored by its bits.
            let present: Vec<i64> = values.iter().flatten().map(|count| count.cast_signed()).collect();
            open.typed::<Int64Type>().write_batch(&present, Some(&levels(values)), None)?;
        }
        Column::Number(values) => {
            let present: Vec<f64> = values.iter().flatten().copied().collect();
            open.typed::<DoubleType>().write_batch(&present, Some(&levels(values)), None)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    #[test]
    fn a_reader_finds_what_was_written() {
        let columns = Columns(vec![
            ("run".into(), Column::Text(vec![Some("a".into()), None, Some("ü".into())])),
            ("seed".into(), Column::Count(vec![Some(u64::MAX), Some(0), None])),
            ("dev/accuracy".into(), Column::Number(vec![None, Some(0.25), Some(f64::NAN)])),
        ]);
        let file = SerializedFileReader::new(Bytes::from(parquet(&columns).unwrap())).unwrap();
        let rows: Vec<String> = file.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(
            rows,
            [
                "{run: \"a\", seed: 18446744073709551615, dev/accuracy: null}",
                "{run: null, seed: 0, dev/accuracy: 0.25}",
                "{run: \"ü\", seed: null, dev/accuracy: NaN}",
            ]
        );
    }
}
