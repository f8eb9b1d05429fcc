//! What every row of a study costs: parameters, bytes, time, memory, and what the base forgets.
//!
//! A row is a variant at the rank that it trains with, over all tasks and seeds. Times and memory belong to cohorts, so what runs of several
//! rows shared is told apart here: memory is a row's own only where all runs of its cohorts are of that row.

pub mod settings;

use std::collections::{BTreeMap, BTreeSet};

use record::{MemoryUse, Routing, RunRecord};

use crate::stats::Summary;

/// A row: label and rank, 0 for methods without.
pub type RowKey<'a> = (&'a str, usize);

/// What a row costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Label of the variant.
    pub variant: String,
    /// Rank at which it trains.
    pub rank: usize,
    /// Trained parameters without the head's; the most over its runs.
    pub params: u64,
    /// Bytes of the adapter's file, head included; the most over its runs.
    pub adapter_bytes: Option<u64>,
    /// Mean over tasks and seeds.
    pub seconds_per_step: Option<f64>,
    /// Mean over tasks and seeds.
    pub tokens_per_second: Option<f64>,
    /// Memory of its cohorts, where these have runs of this row alone.
    pub memory: Option<Memory>,
    /// Largest difference of a logit between the merged and the unmerged model.
    pub merge_error: Option<f64>,
    /// Entropy of routers' weights as a share of even ones', the mean over maps and runs; none where nothing is routed.
    pub evenness: Option<f64>,
    /// Rise of the base's own loss on held-out text, the mean over tasks of each seed; over the seeds that have every task.
    pub forgetting: Option<Summary>,
    /// Whether some of its runs trained beside runs of other rows.
    pub is_mixed: bool,
}

/// Bytes on the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// A run's share of what training adds: moments, gradients and activations. The mean over cohorts.
    pub per_run: f64,
    /// Before the first step: base, adapters and heads of the whole cohort. The mean over cohorts.
    pub weights: f64,
}

/// Every row that has a finished run, by label and rank.
pub fn costs(records: &[RunRecord]) -> Vec<Cost> {
    let finished = || records.iter().filter(|record| record.is_finished());
    let tasks: BTreeSet<&str> = finished().map(|record| record.cell.task.as_str()).collect();
    let rows: BTreeMap<String, RowKey<'_>> = records.iter().map(|record| (record.cell.slug(), key(record))).collect();
    let mut groups: BTreeMap<RowKey<'_>, Vec<&RunRecord>> = BTreeMap::new();
    for record in finished() {
        groups.entry(key(record)).or_default().push(record);
    }
    groups.into_iter().map(|(row, runs)| cost(row, &runs, &tasks, &rows)).collect()
}

fn key(record: &RunRecord) -> RowKey<'_> {
    (&record.cell.variant, record.cell.rank)
}

fn cost(row: RowKey<'_>, runs: &[&RunRecord], tasks: &BTreeSet<&str>, rows: &BTreeMap<String, RowKey<'_>>) -> Cost {
    let measured = || runs.iter().map(|run| &run.measured);
    let mean_of = |values: Vec<f64>| {
        let finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite() && *value > 0.0).collect();
        (!finite.is_empty()).then(|| finite.iter().sum::<f64>() / finite.len() as f64)
    };
    let mixed: Vec<bool> = runs.iter().map(|run| is_mixed(run, row, rows)).collect();
    Cost {
        variant: row.0.to_owned(),
        rank: row.1,
        params: measured().map(|measured| measured.trainable_params).max().unwrap_or_default(),
        adapter_bytes: measured().map(|measured| measured.adapter_bytes).max().filter(|bytes| *bytes > 0),
        seconds_per_step: mean_of(measured().map(|measured| measured.seconds_per_step).collect()),
        tokens_per_second: mean_of(measured().map(|measured| measured.tokens_per_second).collect()),
        memory: memory(runs.iter().zip(&mixed).filter(|(_, mixed)| !**mixed).map(|(run, _)| *run)),
        merge_error: measured().filter_map(|measured| measured.merge_error).reduce(larger),
        evenness: evenness(runs),
        forgetting: forgetting(runs, tasks),
        is_mixed: mixed.contains(&true),
    }
}

/// NaN where one of the two is: `f64::max` would pass it over.
fn larger(one: f64, other: f64) -> f64 {
    if other > one || other.is_nan() { other } else { one }
}

/// Members of a run's cohort as it was at its end.
fn members(run: &RunRecord) -> &[String] {
    run.cohort.changes.last().map_or(&run.cohort.members, |change| &change.members)
}

/// Whether a run trained beside runs of other rows, or of rows that have no record.
fn is_mixed(run: &RunRecord, row: RowKey<'_>, rows: &BTreeMap<String, RowKey<'_>>) -> bool {
    members(run).iter().any(|member| rows.get(member) != Some(&row))
}

/// The mean over the cohorts of these runs, each counted once.
fn memory<'a>(runs: impl Iterator<Item = &'a RunRecord>) -> Option<Memory> {
    let cohorts: BTreeMap<&str, (MemoryUse, usize)> = runs
        .filter_map(|run| Some((run.cohort.id.as_str(), (run.cohort.memory?, members(run).len().max(1)))))
        .collect();
    let n = cohorts.len() as f64;
    let mean = |of: &dyn Fn(&MemoryUse, f64) -> f64| {
        cohorts.values().map(|(memory, runs)| of(memory, *runs as f64)).sum::<f64>() / n
    };
    (!cohorts.is_empty()).then(|| Memory {
        per_run: mean(&|memory, runs| (memory.optimizer + memory.gradients + memory.activations) as f64 / runs),
        weights: mean(&|memory, _| memory.weights as f64),
    })
}

/// The mean over the routers of every run.
fn evenness(runs: &[&RunRecord]) -> Option<f64> {
    let routers = runs.iter().flat_map(|run| run.measured.routers.values());
    let all: Vec<f64> = routers.filter_map(Routing::evenness).collect();
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}

/// Per seed the mean over all tasks, over the seeds; none where no seed has every task.
fn forgetting(runs: &[&RunRecord], tasks: &BTreeSet<&str>) -> Option<Summary> {
    let mut by_seed: BTreeMap<u64, BTreeMap<&str, f64>> = BTreeMap::new();
    for run in runs {
        if let Some(forgetting) = &run.measured.forgetting {
            by_seed.entry(run.cell.seed).or_default().insert(&run.cell.task, forgetting.rise());
        }
    }
    let whole = by_seed.values().filter(|of_seed| of_seed.len() == tasks.len());
    let means: Vec<f64> = whole.map(|of_seed| of_seed.values().sum::<f64>() / of_seed.len() as f64).collect();
    Summary::of(&means).ok()
}

/// Whether cohorts trained at the same time on one device, as several workers on a CPU do, so that their times are those of a shared
/// machine. Runs that were interrupted are left out: nothing tells when they rested.
pub fn ran_at_once(records: &[RunRecord]) -> bool {
    let whole = records.iter().filter(|record| record.is_finished() && record.resumed_at.is_empty());
    let mut spans: Vec<(&str, u64, u64, &str)> =
        whole.map(|run| (run.device.as_str(), run.started, run.finished, run.cohort.id.as_str())).collect();
    spans.sort_unstable();
    // Seconds are whole, so spans that touch follow each other.
    let overlap = |one: &(&str, u64, u64, &str), two: &(&str, u64, u64, &str)| {
        one.0 == two.0 && one.3 != two.3 && two.1 < one.2 && one.1 < two.2
    };
    spans.windows(2).any(|pair| overlap(&pair[0], &pair[1]))
}

#[cfg(test)]
mod tests;
