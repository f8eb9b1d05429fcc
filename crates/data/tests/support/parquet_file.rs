//! Small Parquet files for tests.

use std::sync::Arc;

use parquet::basic::{self, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// How pages are compressed.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "each test file uses some")]
pub(crate) enum Compression {
    None,
    Snappy,
    Gzip,
    Zstd,
}

impl Compression {
    #[allow(dead_code, reason = "each test file uses some")]
    pub(crate) const ALL: [Self; 4] = [Self::None, Self::Snappy, Self::Gzip, Self::Zstd];
}

/// Values of one column.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "each test file uses some")]
pub(crate) enum Column<'a> {
    Text(&'a [&'a str]),
    Optional(&'a [Option<&'a str>]),
    /// Bytes that claim to be text.
    Bytes(&'a [&'a [u8]]),
    Integer(&'a [i64]),
    Float(&'a [f32]),
}

/// The bytes of a file with these columns.
pub(crate) fn bytes(columns: &[(&str, Column<'_>)], compression: Compression) -> Vec<u8> {
    let field = |(name, column): &(&str, Column<'_>)| match column {
        Column::Text(_) | Column::Bytes(_) => format!("REQUIRED BYTE_ARRAY {name} (UTF8);"),
        Column::Optional(_) => format!("OPTIONAL BYTE_ARRAY {name} (UTF8);"),
        Column::Integer(_) => format!("REQUIRED INT64 {name};"),
        Column::Float(_) => format!("REQUIRED FLOAT {name};"),
    };
    let schema = format!("message schema {{ {} }}", columns.iter().map(field).collect::<String>());
    let compression = match compression {
        Compression::None => basic::Compression::UNCOMPRESSED,
        Compression::Snappy => basic::Compression::SNAPPY,
        Compression::Gzip => basic::Compression::GZIP(GzipLevel::default()),
        Compression::Zstd => basic::Compression::ZSTD(ZstdLevel::default()),
    };
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (_, column) in columns {
        let mut writer = group.next_column().unwrap().unwrap();
        match column {
            Column::Text(values) => {
                let values: Vec<ByteArray> = values.iter().map(|&value| value.into()).collect();
                writer.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            }
            Column::Optional(values) => {
                let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
                let values: Vec<ByteArray> = values.iter().flatten().map(|&value| value.into()).collect();
                writer.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
            }
            Column::Bytes(values) => {
                let values: Vec<ByteArray> = values.iter().map(|&value| value.to_vec().into()).collect();
                writer.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            }
            Column::Integer(values) => {
                writer.typed::<Int64Type>().write_batch(values, None, None).unwrap();
            }
            Column::Float(values) => {
                writer.typed::<FloatType>().write_batch(values, None, None).unwrap();
            }
        }
        writer.close().unwrap();
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

/// A file with a column of texts, `s`, and one of lists, `tokens`.
#[allow(dead_code, reason = "each test file uses some")]
pub(crate) fn nested() -> Vec<u8> {
    let schema = "message schema { REQUIRED BYTE_ARRAY s (UTF8); OPTIONAL GROUP tokens (LIST) { REPEATED GROUP list { \
                  OPTIONAL BYTE_ARRAY element (UTF8); } } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer =
        SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::builder().build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut texts = group.next_column().unwrap().unwrap();
    texts.typed::<ByteArrayType>().write_batch(&["one".into(), "two".into()], None, None).unwrap();
    texts.close().unwrap();
    let mut lists = group.next_column().unwrap().unwrap();
    let values: [ByteArray; 3] = ["a".into(), "b".into(), "c".into()];
    lists.typed::<ByteArrayType>().write_batch(&values, Some(&[3, 3, 3]), Some(&[0, 1, 0])).unwrap();
    lists.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}
