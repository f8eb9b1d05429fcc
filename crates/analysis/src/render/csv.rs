//! For other programs: `summary.csv`, in raw units and full precision.

use polars::prelude::*;

use crate::AnalysisError;
use crate::summary::SummaryTable;

/// The summary with one line per row; an interval that does not exist is an empty field.
///
/// Columns: `task, variant, rank, metric, n, mean, std, ci_low, ci_high, trainable_params, head_params, seconds_per_step, split,
/// failed, dirty, steps, adapter_bytes, tokens_per_second, merge_error, final_rank_mean, code_hash, peak_memory_bytes`.
pub fn csv(summary: &SummaryTable) -> Result<String, AnalysisError> {
    frame_csv(summary.to_frame()?)
}

/// Any data frame without nested columns, such as the [long form](crate::summary::long), as CSV.
pub fn frame_csv(mut frame: DataFrame) -> Result<String, AnalysisError> {
    let mut bytes = Vec::new();
    CsvWriter::new(&mut bytes).finish(&mut frame)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => unreachable!("strings and numbers are written as utf-8: {error}"),
    }
}
