//! What can go wrong between records and a page.

use analysis::AnalysisError;

/// Why a report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The records make no tables.
    #[error("{study}: {source}")]
    Analysis {
        /// The study.
        study: String,
        /// Why.
        source: Box<AnalysisError>,
    },
    /// A file of measures is no table.
    #[error("{study}: analysis/{file} is no table of measures: {source}; `lora-lab figures` writes it anew")]
    Measures {
        /// The study.
        study: String,
        /// The file's name.
        file: String,
        /// Why.
        source: Box<AnalysisError>,
    },
    /// A value has no form in JSON.
    #[error("a value of the report cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    /// The template and its values do not fit each other, which is a bug.
    #[error("the report's template: {0}")]
    Template(#[from] minijinja::Error),
}
