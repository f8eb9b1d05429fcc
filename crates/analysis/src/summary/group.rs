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
pub(super) fn rows(long: DataFrame, records: &[RunRecord]) -> Result<Vec<SummaryRow>, AnalysisError> {
    let failed = count_failed(records);
    let goals: BTreeMap<&str, Goal> =
        records.iter().map(|record| (record.cell.task.as_str(), record.primary_metric.goal)).collect();
    let frame = grouped(long)?;
    let (keys, costs) = (Keys::read(&frame)?, Costs::read(&frame)?);
    let mut rows = Vec::with_capacity(frame.height());
    for i in 0..frame.height() {
        let values: BTreeMap<u64, f64> = seeds(&frame, i)?.into_iter().zip(values(&frame, i)?).collect();
        rows.push(SummaryRow {
            task: keys.task[i].clone(),
            variant: keys.variant[i].clone(),
            rank: keys.rank[i] as usize,
            metric: keys.metric[i].clone(),
            split: keys.split[i].clone(),
            primary: keys.primary[i],
            goal: goals[keys.task[i].as_str()],
            summary: summary(&values),
            values,
            trainable_params: costs.trainable_params[i],
            head_params: costs.head_params[i],
            seconds_per_step: costs.seconds_per_step[i].unwrap_or(f64::NAN),
            failed: failed.get(&keys.group[i]).copied().unwrap_or_default(),
            dirty: costs.dirty[i] as usize,
            steps: costs.steps[i],
            adapter_bytes: costs.adapter_bytes[i],
            tokens_per_second: costs.tokens_per_second[i].unwrap_or(f64::NAN),
            merge_error: costs.merge_error[i],
            final_rank_mean: costs.final_rank_mean[i],
            code_hash: short_hashes(&strings(&frame, "code_hash", i)?),
            peak_memory_bytes: costs.peak_memory_bytes[i],
        });
    }
    let hopeless = all_failed(records, &rows, &failed);
    rows.extend(hopeless);
    Ok(rows)
}

/// One row per key, with means of times, maxima of sizes and lists of what is reduced later.
fn grouped(long: DataFrame) -> Result<DataFrame, AnalysisError> {
    let lists = ["seed", "value", "code_hash"].map(col);
    let largest = ["steps", "trainable_params", "head_params", "adapter_bytes", "merge_error", "peak_memory_bytes"]
        .map(|name| col(name).max());
    let means = ["seconds_per_step", "tokens_per_second", "final_rank_mean"].map(|name| col(name).mean());
    let aggregates: Vec<Expr> = lists.into_iter().chain(largest).chain(means).chain([col("dirty").sum()]).collect();
    Ok(long.lazy().group_by_stable(KEYS.map(col)).agg(aggregates).collect()?)
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
        code_hash: short_hashes(std::slice::from_ref(&record.code.code_hash)),
        peak_memory_bytes: None,
    }
}

fn short_hashes(hashes: &[String]) -> String {
    let short: BTreeSet<&str> = hashes.iter().map(|hash| hash.get(..SHOWN_DIGITS).unwrap_or(hash)).collect();
    short.into_iter().collect::<Vec<_>>().join("+")
}

struct Keys {
    task: Vec<String>,
    variant: Vec<String>,
    rank: Vec<u64>,
    metric: Vec<String>,
    split: Vec<String>,
    primary: Vec<bool>,
    group: Vec<String>,
}

impl Keys {
    fn read(frame: &DataFrame) -> PolarsResult<Self> {
        let text = |name: &str| -> PolarsResult<Vec<String>> {
            Ok(frame.column(name)?.str()?.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
        };
        Ok(Self {
            task: text("task")?,
            variant: text("variant")?,
            rank: counts(frame, "rank")?,
            metric: text("metric")?,
            split: text("split")?,
            primary: frame.column("primary")?.bool()?.iter().map(Option::unwrap_or_default).collect(),
            group: text("group")?,
        })
    }
}

struct Costs {
    dirty: Vec<u64>,
    steps: Vec<u64>,
    trainable_params: Vec<u64>,
    head_params: Vec<u64>,
    adapter_bytes: Vec<u64>,
    peak_memory_bytes: Vec<Option<u64>>,
    seconds_per_step: Vec<Option<f64>>,
    tokens_per_second: Vec<Option<f64>>,
    merge_error: Vec<Option<f64>>,
    final_rank_mean: Vec<Option<f64>>,
}

impl Costs {
    fn read(frame: &DataFrame) -> PolarsResult<Self> {
        let number = |name: &str| -> PolarsResult<Vec<Option<f64>>> { Ok(frame.column(name)?.f64()?.iter().collect()) };
        Ok(Self {
            dirty: counts(frame, "dirty")?,
            steps: counts(frame, "steps")?,
            trainable_params: counts(frame, "trainable_params")?,
            head_params: counts(frame, "head_params")?,
            adapter_bytes: counts(frame, "adapter_bytes")?,
            peak_memory_bytes: frame.column("peak_memory_bytes")?.u64()?.iter().collect(),
            seconds_per_step: number("seconds_per_step")?,
            tokens_per_second: number("tokens_per_second")?,
            merge_error: number("merge_error")?,
            final_rank_mean: number("final_rank_mean")?,
        })
    }
}

/// A column of counts that has no nulls by construction.
fn counts(frame: &DataFrame, name: &str) -> PolarsResult<Vec<u64>> {
    Ok(frame.column(name)?.u64()?.iter().map(Option::unwrap_or_default).collect())
}

fn list(frame: &DataFrame, name: &str, i: usize) -> PolarsResult<Series> {
    Ok(frame.column(name)?.list()?.get_as_series(i).unwrap_or_default())
}

fn seeds(frame: &DataFrame, i: usize) -> PolarsResult<Vec<u64>> {
    Ok(list(frame, "seed", i)?.u64()?.iter().flatten().collect())
}

fn values(frame: &DataFrame, i: usize) -> PolarsResult<Vec<f64>> {
    Ok(list(frame, "value", i)?.f64()?.iter().flatten().collect())
}

fn strings(frame: &DataFrame, name: &str, i: usize) -> PolarsResult<Vec<String>> {
    Ok(list(frame, name, i)?.str()?.iter().flatten().map(str::to_owned).collect())
}
