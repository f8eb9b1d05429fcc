//! Records to the summary table: one row per task, readout, metric and split, over the seeds.
//!
//! The long form has one row per run, readout, metric and split at the run's reported step; the summary groups it over seeds. Failed
//! runs are counted and never averaged; runs from modified code are averaged and counted as dirty. Runs that differ in anything but
//! their seed cannot share a row: that is an error which names them.

mod check;
mod group;
mod long;

use std::collections::BTreeMap;

use polars::prelude::*;
use record::{Goal, RunRecord};

use crate::AnalysisError;
use crate::stats;

pub use long::{long, reported};

/// Which evaluation of a run is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The one at the checkpoint that the run selected, where its recipe selects; the last one elsewhere.
    Reported,
    /// The one at the checkpoint that was selected as best.
    Best,
    /// The last one.
    Last,
}

/// One row: a readout of a variant on a task, in one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryRow {
    /// The task.
    pub task: String,
    /// The readout's label.
    pub variant: String,
    /// The rank at which it was evaluated; 0 for methods without.
    pub rank: usize,
    /// The metric.
    pub metric: String,
    /// The split; empty where every run failed and no other run tells on which splits the task is judged.
    pub split: String,
    /// Whether this is the metric by which the task is judged.
    pub primary: bool,
    /// Which direction of the task's primary metric is better.
    pub goal: Goal,
    /// The value of each finished run, by seed.
    pub values: BTreeMap<u64, f64>,
    /// Statistics over `values`; the mean is NaN, without spread or interval, if there is no value or one is not finite.
    pub summary: stats::Summary,
    /// Trained parameters without the head's; the largest over seeds. A readout at a smaller rank keeps its cell's count.
    pub trainable_params: u64,
    /// Trained parameters of the head.
    pub head_params: u64,
    /// Mean over seeds.
    pub seconds_per_step: f64,
    /// Runs of this row's spec that failed.
    pub failed: usize,
    /// Runs in `values` that were made by code other than their commit's.
    pub dirty: usize,
    /// Most training steps any of the runs took.
    pub steps: u64,
    /// Size of the adapter's file.
    pub adapter_bytes: u64,
    /// Mean over seeds.
    pub tokens_per_second: f64,
    /// Largest difference between merged and unmerged logits over seeds, where measured.
    pub merge_error: Option<f64>,
    /// Mean final rank over adapted maps and seeds, where the method has ranks.
    pub final_rank_mean: Option<f64>,
    /// The first 12 digits of each code hash involved, sorted and joined by `+`.
    pub code_hash: String,
    /// Largest peak of device memory over seeds, where the device tells.
    pub peak_memory_bytes: Option<u64>,
    /// Examples of the split; the fewest over seeds, 0 where no run finished.
    pub examples: usize,
}

/// Metrics that count right answers: a change in one example moves them by about one over the number of examples.
const COUNTED: [&str; 4] = ["accuracy", "f1", "matthews", "exact_match"];

impl SummaryRow {
    /// The step in which the metric can move: one example's share where it counts right answers, else 0.
    pub fn resolution(&self) -> f64 {
        if self.examples > 0 && COUNTED.contains(&self.metric.as_str()) { 1.0 / self.examples as f64 } else { 0.0 }
    }
}

/// The rows of an experiment, ordered by task, variant, rank, primary metric first, metric and split.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryTable {
    /// The rows.
    pub rows: Vec<SummaryRow>,
    /// The split that each task is judged on first, such as MNLI's matched development set.
    firsts: BTreeMap<String, String>,
}

/// Groups the records over their seeds.
pub fn summarise(records: &[RunRecord], selection: Selection) -> Result<SummaryTable, AnalysisError> {
    check::consistent(records)?;
    let mut rows = group::rows(&long::long(records, selection)?, records)?;
    rows.sort_by(|one, other| order(one).cmp(&order(other)));
    let mut firsts = BTreeMap::new();
    for record in records {
        if let Some(first) = record.evaluations.first() {
            firsts.entry(record.cell.task.clone()).or_insert_with(|| first.split.clone());
        }
    }
    Ok(SummaryTable { rows, firsts })
}

fn order(row: &SummaryRow) -> impl Ord + '_ {
    (&row.task, &row.variant, row.rank, !row.primary, &row.metric, &row.split)
}

impl SummaryTable {
    /// The split under which a row is tabulated: its own, or, where it is its task's first, the name that most plainly stands
    /// for the first splits of all tasks (`dev` for `dev` and `dev_matched`), so that one table shows every task.
    pub fn section<'a>(&'a self, row: &'a SummaryRow) -> &'a str {
        self.section_of(&row.task, &row.split)
    }

    /// The same for a task's split by its name.
    pub(crate) fn section_of<'a>(&'a self, task: &str, split: &'a str) -> &'a str {
        match self.firsts.get(task) {
            Some(first) if first == split => self.firsts.values().min().map_or(split, |name| name),
            _ => split,
        }
    }

    /// The splits on which some row reports its task's primary metric, sorted, tasks' first splits under one name.
    pub fn splits(&self) -> Vec<&str> {
        let reported = self.rows.iter().filter(|row| row.primary && !row.split.is_empty());
        let mut splits: Vec<&str> = reported.map(|row| self.section(row)).collect();
        splits.sort_unstable();
        splits.dedup();
        splits
    }

    /// The rows of the tasks' primary metrics on one split. Rows without any finished run belong to every split.
    pub fn primary(&self, split: &str) -> Result<Vec<&SummaryRow>, AnalysisError> {
        let known = self.splits();
        if !known.contains(&split) {
            let known = known.iter().map(|split| format!("`{split}`")).collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() {
                "a split after a run has finished (there is none yet)".to_owned()
            } else {
                known
            };
            return Err(AnalysisError::UnknownSplit { split: split.to_owned(), known });
        }
        Ok(self.rows.iter().filter(|row| row.primary && (self.section(row) == split || row.split.is_empty())).collect())
    }

    /// Tasks whose first split has another name than the one it is tabulated under, as `mnli: dev_matched`.
    pub fn renamed(&self, split: &str) -> Vec<String> {
        let common = self.firsts.values().min().map(String::as_str);
        let renamed = self.firsts.iter().filter(|(_, first)| common == Some(split) && *first != split);
        renamed.map(|(task, first)| format!("{task}: {first}")).collect()
    }

    /// The table as a data frame, its columns in the order of `summary.csv`. An interval that does not exist is null.
    pub fn to_frame(&self) -> Result<DataFrame, AnalysisError> {
        let rows = &self.rows;
        let text = |name: &str, get: fn(&SummaryRow) -> &str| {
            Column::new(name.into(), rows.iter().map(get).collect::<Vec<_>>())
        };
        let count = |name: &str, get: fn(&SummaryRow) -> u64| {
            Column::new(name.into(), rows.iter().map(get).collect::<Vec<_>>())
        };
        let number = |name: &str, get: fn(&SummaryRow) -> Option<f64>| {
            Column::new(name.into(), rows.iter().map(get).collect::<Vec<_>>())
        };
        let peak: Vec<Option<u64>> = rows.iter().map(|row| row.peak_memory_bytes).collect();
        Ok(DataFrame::new_infer_height(vec![
            text("task", |row| &row.task),
            text("variant", |row| &row.variant),
            count("rank", |row| row.rank as u64),
            text("metric", |row| &row.metric),
            count("n", |row| row.summary.n as u64),
            number("mean", |row| Some(row.summary.mean)),
            number("std", |row| row.summary.std),
            number("ci_low", |row| row.summary.ci_low),
            number("ci_high", |row| row.summary.ci_high),
            count("trainable_params", |row| row.trainable_params),
            count("head_params", |row| row.head_params),
            number("seconds_per_step", |row| Some(row.seconds_per_step)),
            text("split", |row| &row.split),
            count("failed", |row| row.failed as u64),
            count("dirty", |row| row.dirty as u64),
            count("steps", |row| row.steps),
            count("adapter_bytes", |row| row.adapter_bytes),
            number("tokens_per_second", |row| Some(row.tokens_per_second)),
            number("merge_error", |row| row.merge_error),
            number("final_rank_mean", |row| row.final_rank_mean),
            text("code_hash", |row| &row.code_hash),
            Column::new("peak_memory_bytes".into(), peak),
        ])?)
    }
}

#[cfg(test)]
pub(crate) mod tests;
