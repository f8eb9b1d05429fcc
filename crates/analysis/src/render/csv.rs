//! For other programs: `summary.csv`, in raw units and full precision.

use polars::prelude::*;

use crate::{
    AnalysisError,
    runs::{Column, Columns},
    summary::SummaryTable,
};

/// The summary with one line per row; an interval that does not exist is an empty field.
///
/// Columns: `task, variant, rank, metric, n, mean, std, ci_low, ci_high, trainable_params, head_params, seconds_per_step, split,
/// failed, dirty, steps, adapter_bytes, tokens_per_second, merge_error, final_rank_mean, code_hash, peak_memory_bytes`.
pub fn csv(summary: &SummaryTable) -> Result<String, AnalysisError> {
    frame_csv(&summary.to_frame()?)
}

/// Any data frame of texts, counts, numbers and flags, such as the [long form](crate::summary::long), as CSV.
///
/// A null is an empty field and an empty text is `""`, so that a reader can tell them apart.
pub fn frame_csv(frame: &DataFrame) -> Result<String, AnalysisError> {
    let mut text = String::new();
    let names = frame.columns().iter().map(|column| quoted(column.name()));
    push_line(&mut text, names);
    for i in 0..frame.height() {
        let cells = frame.columns().iter().map(|column| Ok(field(&column.get(i)?)));
        push_line(&mut text, cells.collect::<PolarsResult<Vec<_>>>()?);
    }
    Ok(text)
}

/// Columns as CSV: an absent value is an empty field.
pub fn columns_csv(columns: &Columns) -> String {
    let mut text = String::new();
    push_line(&mut text, columns.0.iter().map(|(name, _)| quoted(name)));
    let mut number = zmij::Buffer::new();
    for row in 0..columns.height() {
        for (index, (_, column)) in columns.0.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            match column {
                Column::Text(values) => text.extend(values[row].as_deref().map(quoted)),
                Column::Count(values) => text.extend(values[row].map(|count| count.to_string())),
                Column::Number(values) => text.extend(values[row].map(|value| number.format(value).to_owned())),
            }
        }
        text.push('\n');
    }
    text
}

fn push_line(text: &mut String, fields: impl IntoIterator<Item = String>) {
    text.push_str(&fields.into_iter().collect::<Vec<_>>().join(","));
    text.push('\n');
}

fn field(value: &AnyValue) -> String {
    match value {
        AnyValue::Null => String::new(),
        AnyValue::String(value) => quoted(value),
        AnyValue::Boolean(value) => value.to_string(),
        AnyValue::UInt64(value) => value.to_string(),
        AnyValue::Float64(value) => zmij::Buffer::new().format(*value).to_owned(),
        other => unreachable!("no table has a column of {}", other.dtype()),
    }
}

/// A text, quoted where it is empty or a reader of CSV would cut it.
fn quoted(text: &str) -> String {
    if text.is_empty() || text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
