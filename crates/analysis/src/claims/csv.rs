//! The CSV tables of a study's adapters, read back.

use std::io::Cursor;

use polars::prelude::*;

use crate::{AnalysisError, measures::place};

/// A table with named columns.
#[derive(Clone, Debug)]
pub struct Rows {
    frame: DataFrame,
}

impl Rows {
    /// Reads what [`crate::measures::frame::csv`] wrote.
    pub fn read(text: &str) -> Result<Self, AnalysisError> {
        let options = CsvReadOptions::default().with_has_header(true).with_infer_schema_length(None);
        Ok(Self { frame: options.into_reader_with_file_handle(Cursor::new(text.as_bytes())).finish()? })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.frame.height()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number; none where the cell is empty, no number, or the column is missing.
    pub fn number(&self, row: usize, column: &str) -> Option<f64> {
        self.frame.column(column).ok()?.get(row).ok()?.extract::<f64>().filter(|value| value.is_finite())
    }

    /// Whether a cell reads `text`.
    pub fn is(&self, row: usize, column: &str, text: &str) -> bool {
        let cell = self.frame.column(column).ok().and_then(|column| column.get(row).ok());
        match cell {
            Some(AnyValue::String(value)) => value == text,
            Some(AnyValue::Boolean(value)) => value.to_string() == text,
            Some(AnyValue::StringOwned(value)) => value.as_str() == text,
            _ => false,
        }
    }

    /// Whether the row's map is of a kind, such as `query`.
    pub fn kind_is(&self, row: usize, kind: &str) -> bool {
        match self.frame.column("map").ok().and_then(|column| column.get(row).ok()) {
            Some(AnyValue::String(map)) => place(map).1 == kind,
            _ => false,
        }
    }
}
