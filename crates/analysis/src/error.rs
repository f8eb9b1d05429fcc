//! What can go wrong between records and tables.

use crate::stats::StatsError;

/// Every way in which an analysis fails.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// A table cannot be written as Parquet.
    #[error("cannot write Parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Runs of different specs would be averaged into one row.
    #[error(
        "row {row}: {first} and {second} differ in their specs at `{place}`, so they cannot share a row; run the experiment again to replace stale records, or give the variants different labels"
    )]
    MixedSpecs {
        /// The row both belong to, as task, label and rank.
        row: String,
        /// The first run.
        first: String,
        /// A run of another spec.
        second: String,
        /// The first path at which the specs differ.
        place: String,
    },
    /// One seed would be counted twice in a row.
    #[error(
        "row {row}: {first} and {second} have the same seed and the same spec; remove one of the records or give it another label"
    )]
    RepeatedSeed {
        /// The row both belong to, as task, label and rank.
        row: String,
        /// The first run.
        first: String,
        /// The run that repeats it.
        second: String,
    },
    /// Runs of one task disagree about how it is judged.
    #[error(
        "task `{task}`: {first} is judged by `{first_metric}`, but {second} by `{second_metric}`; run the task again with one primary metric"
    )]
    PrimaryMetric {
        /// The task.
        task: String,
        /// One run.
        first: String,
        /// Its primary metric and goal.
        first_metric: String,
        /// A run that disagrees.
        second: String,
        /// Its primary metric and goal.
        second_metric: String,
    },
    /// The best checkpoint is asked for, but the run selected none.
    #[error(
        "{cell}: no best checkpoint was selected, but the table reports the best one; report the last evaluation instead"
    )]
    NoBest {
        /// The run.
        cell: String,
    },
    /// A readout was evaluated, but not at the step that is reported.
    #[error(
        "{cell}: readout {readout} on `{split}` was not evaluated at the best step {best}, only at step {last}; evaluate every readout at the selected checkpoint, or report the last evaluation"
    )]
    NotEvaluated {
        /// The run.
        cell: String,
        /// The readout.
        readout: String,
        /// The split.
        split: String,
        /// The selected step.
        best: u64,
        /// The last step at which it was evaluated.
        last: u64,
    },
    /// No row reports its task's primary metric on the split.
    #[error("no run reports its task's primary metric on split `{split}`; use {known}")]
    UnknownSplit {
        /// The split asked for.
        split: String,
        /// The splits there are, in backticks.
        known: String,
    },
    /// The baseline of a comparison has no row.
    #[error(
        "task `{task}`: no row `{variant}` at rank {rank} to compare with; name a baseline variant and rank among {known}"
    )]
    NoBaseline {
        /// The task.
        task: String,
        /// The baseline's label.
        variant: String,
        /// The baseline's rank for the row in question.
        rank: usize,
        /// The rows there are.
        known: String,
    },
    /// A sample that no statistic is defined on.
    #[error("{place}: {source}")]
    Stats {
        /// The row or comparison.
        place: String,
        /// What is wrong with the sample.
        source: StatsError,
    },
    /// The data frame library refused an operation.
    #[error("cannot tabulate the records: {0}")]
    Frame(#[from] polars::error::PolarsError),
    /// Rows cannot be written as JSON.
    #[error("cannot write the rows as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A table that was written as CSV and no longer reads as one.
    #[error("cannot read a table: {0}")]
    Csv(#[from] csv::Error),
}
