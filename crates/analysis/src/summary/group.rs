//! The long form grouped over seeds.

use std::collections::{BTreeMap, BTreeSet};

use polars::prelude::*;
use record::{Goal, RunRecord};

use super::SummaryRow;
use crate::{AnalysisError, stats};

/// Digits of a code hash that are shown: enough to tell the code states of one repository apart.
const SHOWN_DIGITS: usize = 12;

/// What identifies a row. `group`, the hash of the spec without seeds, is implied by the others and carried along.
const KEYS: [&str; 7] = ["task", "variant", "rank", "metric", "split", "primary", "group"];

/// The rows of the summary, in no particular order, rows of groups in which every run failed included.
pub(super) fn rows(long: &DataFrame, records: &[RunRecord]) -> Result<Vec<SummaryRow>, AnalysisError> {
    let failed = count_failed(records);
    let goals: BTreeMap<&str, Goal> =
        records.iter().map(|record| (record.cell.task.as_str(), record.primary_metric.goal)).collect();
    let groups = long.partition_by_stable(KEYS, true)?;
    let rows: PolarsResult<Vec<SummaryRow>> = groups.iter().map(|group| row(&Group(group), &goals, &failed)).collect();
    let mut rows = rows?;
    let hopeless = all_failed(records, &rows, &failed);
    rows.extend(hopeless);
    Ok(rows)
}

/// One row: the group's key, means of times, maxima of sizes, and its values by seed.
fn row(group: &Group, goals: &BTreeMap<&str, Goal>, failed: &BTreeMap<String, usize>) -> PolarsResult<SummaryRow> {
    let task = group.text("task")?;
    let values: BTreeMap<u64, f64> = group.counts("seed")?.zip(group.numbers("value")?).collect();
    Ok(SummaryRow {
        task: task.to_owned(),
        variant: group.text("variant")?.to_owned(),
        rank: group.count("rank")? as usize,
        metric: group.text("metric")?.to_owned(),
        split: group.text("split")?.to_owned(),
        primary: group.flag("primary")?,
        goal: goals[task],
        summary: summary(&values),
        values,
        trainable_params: group.largest("trainable_params")?.unwrap_or_default(),
        head_params: group.largest("head_params")?.unwrap_or_default(),
        seconds_per_step: group.mean("seconds_per_step")?.unwrap_or(f64::NAN),
        failed: failed.get(group.text("group")?).copied().unwrap_or_default(),
        dirty: group.counts("dirty")?.sum::<u64>() as usize,
        steps: group.largest("steps")?.unwrap_or_default(),
        adapter_bytes: group.largest("adapter_bytes")?.unwrap_or_default(),
        tokens_per_second: group.mean("tokens_per_second")?.unwrap_or(f64::NAN),
        merge_error: group.largest_number("merge_error")?,
        final_rank_mean: group.mean("final_rank_mean")?,
        code_hash: short_hashes(group.texts("code_hash")?),
        peak_memory_bytes: group.largest("peak_memory_bytes")?,
        examples: group.counts("examples")?.min().unwrap_or_default() as usize,
    })
}

fn count_failed(records: &[RunRecord]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records.iter().filter(|record| !record.is_finished()) {
        *counts.entry(record.group_hash()).or_default() += 1;
    }
    counts
}

/// A mean over values that are not all finite says nothing; it is NaN and has no interval.
fn summary(values: &BTreeMap<u64, f64>) -> stats::Summary {
    let values: Vec<f64> = values.values().copied().collect();
    let undefined = stats::Summary { n: values.len(), mean: f64::NAN, std: None, ci_low: None, ci_high: None };
    stats::Summary::of(&values).unwrap_or(undefined)
}

/// Rows for the groups of which no run finished: a method that always diverges must not vanish from the table.
fn all_failed(records: &[RunRecord], rows: &[SummaryRow], failed: &BTreeMap<String, usize>) -> Vec<SummaryRow> {
    let finished: BTreeSet<String> =
        records.iter().filter(|record| record.is_finished()).map(RunRecord::group_hash).collect();
    let mut seen = BTreeSet::new();
    let mut more = Vec::new();
    for record in records {
        let group = record.group_hash();
        if finished.contains(&group) || !seen.insert(group.clone()) {
            continue;
        }
        let others = rows.iter().filter(|row| row.primary && row.task == record.cell.task).map(|row| row.split.clone());
        let mut splits: BTreeSet<String> = others.collect();
        if splits.is_empty() {
            splits.insert(String::new());
        }
        more.extend(splits.into_iter().map(|split| without_values(record, split, failed[&group])));
    }
    more
}

fn without_values(record: &RunRecord, split: String, failed: usize) -> SummaryRow {
    SummaryRow {
        task: record.cell.task.clone(),
        variant: record.cell.variant.clone(),
        rank: record.cell.rank,
        metric: record.primary_metric.name.clone(),
        split,
        primary: true,
        goal: record.primary_metric.goal,
        summary: summary(&BTreeMap::new()),
        values: BTreeMap::new(),
        trainable_params: record.measured.trainable_params,
        head_params: record.measured.head_params,
        seconds_per_step: f64::NAN,
        failed,
        dirty: 0,
        steps: 0,
        adapter_bytes: 0,
        tokens_per_second: f64::NAN,
        merge_error: None,
        final_rank_mean: None,
        code_hash: short_hashes([record.code.code_hash.as_str()]),
        peak_memory_bytes: None,
        examples: 0,
    }
}

fn short_hashes<'a>(hashes: impl IntoIterator<Item = &'a str>) -> String {
    let short: BTreeSet<&str> = hashes.into_iter().map(|hash| hash.get(..SHOWN_DIGITS).unwrap_or(hash)).collect();
    short.into_iter().collect::<Vec<_>>().join("+")
}

/// The rows of the long form that share a key.
struct Group<'a>(&'a DataFrame);

impl<'a> Group<'a> {
    /// What every row of the group has in a column of its key.
    fn text(&self, key: &str) -> PolarsResult<&'a str> {
        Ok(self.texts(key)?.next().unwrap_or_default())
    }

    fn count(&self, key: &str) -> PolarsResult<u64> {
        Ok(self.counts(key)?.next().unwrap_or_default())
    }

    fn flag(&self, key: &str) -> PolarsResult<bool> {
        Ok(self.0.column(key)?.bool()?.get(0).unwrap_or_default())
    }

    /// The values of a column, nulls left out.
    fn texts(&self, name: &str) -> PolarsResult<impl Iterator<Item = &'a str>> {
        Ok(self.0.column(name)?.str()?.iter().flatten())
    }

    fn counts(&self, name: &str) -> PolarsResult<impl Iterator<Item = u64>> {
        Ok(self.0.column(name)?.u64()?.iter().flatten())
    }

    fn numbers(&self, name: &str) -> PolarsResult<impl Iterator<Item = f64>> {
        Ok(self.0.column(name)?.f64()?.iter().flatten())
    }

    /// The largest value; none where all are null.
    fn largest(&self, name: &str) -> PolarsResult<Option<u64>> {
        Ok(self.0.column(name)?.u64()?.max())
    }

    fn largest_number(&self, name: &str) -> PolarsResult<Option<f64>> {
        Ok(self.0.column(name)?.f64()?.max())
    }

    /// The mean of the values; none where all are null.
    fn mean(&self, name: &str) -> PolarsResult<Option<f64>> {
        let values: Vec<f64> = self.numbers(name)?.collect();
        Ok((!values.is_empty()).then(|| compensated_sum(&values) / values.len() as f64))
    }
}

/// Kahan's sum, as polars adds up a group: tables that were written by its group-by keep their last digit.
fn compensated_sum(values: &[f64]) -> f64 {
    let (mut sum, mut lost) = (0.0, 0.0);
    for value in values {
        let corrected = value - lost;
        let next = sum + corrected;
        let error = (next - sum) - corrected;
        sum = next;
        if error.is_finite() {
            lost = error;
        }
    }
    sum
}
