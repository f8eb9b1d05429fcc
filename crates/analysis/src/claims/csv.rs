//! The CSV tables of a study's adapters, read back.

use csv::StringRecord;

use crate::{AnalysisError, measures::place};

/// A table with named columns.
#[derive(Clone, Debug)]
pub struct Rows {
    header: StringRecord,
    lines: Vec<StringRecord>,
}

impl Rows {
    /// Reads what [`crate::measures::frame::csv`] wrote.
    pub fn read(text: &str) -> Result<Self, AnalysisError> {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers()?.clone();
        let lines = reader.records().collect::<Result<_, _>>()?;
        Ok(Self { header, lines })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Names of the columns, in their order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.header.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number; none where the cell is empty, no number, or the column is missing.
    pub fn number(&self, row: usize, column: &str) -> Option<f64> {
        self.cell(row, column)?.parse().ok().filter(|value: &f64| value.is_finite())
    }

    /// Whether a cell reads `text`.
    pub fn is(&self, row: usize, column: &str, text: &str) -> bool {
        self.cell(row, column) == Some(text)
    }

    /// Whether the row's map is of a kind, such as `query`.
    pub fn kind_is(&self, row: usize, kind: &str) -> bool {
        self.cell(row, "map").is_some_and(|map| place(map).1 == kind)
    }

    /// The cell as it is written.
    pub fn text(&self, row: usize, column: &str) -> Option<&str> {
        self.cell(row, column)
    }

    fn cell(&self, row: usize, column: &str) -> Option<&str> {
        let at = self.header.iter().position(|name| name == column)?;
        self.lines.get(row)?.get(at)
    }
}
