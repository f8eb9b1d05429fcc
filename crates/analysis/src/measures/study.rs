//! The tables of measures that a study's adapters allow, as files.

use super::{
    AdapterSample, MeasureError, across, captured_energy, frame::csv, magnitude_direction, overlap, projection,
    random_column, seeds, spectrum,
};
use crate::{AnalysisError, render, table::projection_table};

/// A file under `results/NAME/analysis`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasureFile {
    /// Its name.
    pub name: String,
    /// Its content.
    pub text: String,
    /// Rows of a CSV file; none for LoRA's table 7, which is laid out for readers.
    pub rows: Option<usize>,
}

/// Why a study's tables of measures cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A measure is not defined on what was given.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// A table cannot be written as CSV.
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
}

/// Every table that has rows. The names of the files are those of the committed results.
pub fn files(samples: &[AdapterSample]) -> Result<Vec<MeasureFile>, StudyError> {
    let moved = magnitude_direction::rows(samples)?;
    let projected = projection::rows(samples)?;
    let mut files = Vec::new();
    if !projected.is_empty() {
        let table = projection_table(&projected);
        for (end, text) in
            [("txt", render::text(&table)), ("md", render::markdown(&table)), ("tex", render::latex(&table))]
        {
            files.push(MeasureFile { name: format!("table7.{end}"), text, rows: None });
        }
    }
    let all = [
        ("seeds", csv(&seeds::rows(samples)?)?),
        ("random_column", csv(&random_column::rows(samples)?)?),
        ("correlation", csv(&magnitude_direction::correlations(&moved))?),
        ("overlap", csv(&overlap::rows(samples)?)?),
        ("across", csv(&across::rows(samples)?)?),
        ("projection", csv(&projected)?),
        ("shape", csv(&spectrum::rows(samples)?)?),
        ("movement", csv(&moved)?),
        ("span", csv(&captured_energy::rows(samples)?)?),
    ];
    for (name, text) in all {
        let rows = text.lines().count().saturating_sub(1);
        if rows > 0 {
            files.push(MeasureFile { name: format!("{name}.csv"), text, rows: Some(rows) });
        }
    }
    Ok(files)
}
