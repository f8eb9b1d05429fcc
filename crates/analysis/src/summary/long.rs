//! Records as a data frame in long form.

use std::collections::BTreeMap;

use polars::prelude::*;
use record::{Evaluation, Readout, RunRecord};

use super::Selection;
use crate::AnalysisError;

/// One row per finished run, readout, metric and split at the reported step, with what the run cost.
///
/// Columns: `task, variant, rank, metric, split, seed, value, primary, group, dirty, steps, trainable_params, head_params,
/// adapter_bytes, seconds_per_step, tokens_per_second, merge_error, final_rank_mean, peak_memory_bytes, code_hash,
/// examples`. `group` is the
/// hash of the spec without its seeds; `dirty` is 0 or 1, so that a sum counts.
pub fn long(records: &[RunRecord], selection: Selection) -> Result<DataFrame, AnalysisError> {
    let mut rows = Vec::new();
    for record in records.iter().filter(|record| record.is_finished()) {
        for evaluation in reported(record, selection)? {
            rows.extend(evaluation.metrics.iter().map(|(metric, value)| Row {
                record,
                evaluation,
                metric,
                value: *value,
            }));
        }
    }
    let rows = &rows;
    let text = |name: &str, get: fn(&Row) -> String| Column::new(name.into(), rows.iter().map(get).collect::<Vec<_>>());
    let count = |name: &str, get: fn(&Row) -> u64| Column::new(name.into(), rows.iter().map(get).collect::<Vec<_>>());
    let number =
        |name: &str, get: fn(&Row) -> Option<f64>| Column::new(name.into(), rows.iter().map(get).collect::<Vec<_>>());
    let primary: Vec<bool> = rows.iter().map(|row| *row.metric == row.record.primary_metric.name).collect();
    let peak: Vec<Option<u64>> = rows.iter().map(|row| row.record.measured.peak_memory_bytes).collect();
    Ok(DataFrame::new_infer_height(vec![
        text("task", |row| row.record.cell.task.clone()),
        text("variant", |row| row.evaluation.readout.label.clone()),
        count("rank", |row| row.evaluation.readout.rank as u64),
        text("metric", |row| row.metric.clone()),
        text("split", |row| row.evaluation.split.clone()),
        count("seed", |row| row.record.cell.seed),
        number("value", |row| Some(row.value)),
        Column::new("primary".into(), primary),
        text("group", |row| row.record.group_hash()),
        count("dirty", |row| u64::from(row.record.code.dirty)),
        count("steps", |row| steps(row.record)),
        count("trainable_params", |row| row.record.measured.trainable_params),
        count("head_params", |row| row.record.measured.head_params),
        count("adapter_bytes", |row| row.record.measured.adapter_bytes),
        number("seconds_per_step", |row| Some(row.record.measured.seconds_per_step)),
        number("tokens_per_second", |row| Some(row.record.measured.tokens_per_second)),
        number("merge_error", |row| row.record.measured.merge_error),
        number("final_rank_mean", |row| final_rank_mean(row.record)),
        Column::new("peak_memory_bytes".into(), peak),
        text("code_hash", |row| row.record.code.code_hash.clone()),
        count("examples", |row| row.evaluation.examples as u64),
    ])?)
}

struct Row<'a> {
    record: &'a RunRecord,
    evaluation: &'a Evaluation,
    metric: &'a String,
    value: f64,
}

/// The evaluation of each split and readout that is reported.
///
/// Where one was repeated at the same step, as after a resume, the later one counts.
pub fn reported(record: &RunRecord, selection: Selection) -> Result<Vec<&Evaluation>, AnalysisError> {
    let mut candidates: BTreeMap<(&str, &Readout), Vec<&Evaluation>> = BTreeMap::new();
    for evaluation in &record.evaluations {
        candidates.entry((&evaluation.split, &evaluation.readout)).or_default().push(evaluation);
    }
    let best = match (selection, &record.best) {
        (Selection::Last, _) | (Selection::Reported, None) => None,
        (Selection::Best | Selection::Reported, Some(best)) => Some(best.step),
        (Selection::Best, None) => {
            return Err(AnalysisError::NoBest { cell: record.cell.to_string() });
        }
    };
    candidates.into_values().map(|evaluations| at_step(record, &evaluations, best)).collect()
}

/// Of evaluations of one split and readout, the one at step `best`, or the last one.
fn at_step<'a>(
    record: &RunRecord,
    evaluations: &[&'a Evaluation],
    best: Option<u64>,
) -> Result<&'a Evaluation, AnalysisError> {
    let last = evaluations.iter().max_by_key(|evaluation| evaluation.step);
    let Some(last) = last else { unreachable!("a split and readout is listed because it was evaluated") };
    let step = best.unwrap_or(last.step);
    let found = evaluations.iter().rev().find(|evaluation| evaluation.step == step);
    found.copied().ok_or_else(|| AnalysisError::NotEvaluated {
        cell: record.cell.to_string(),
        readout: last.readout.to_string(),
        split: last.split.clone(),
        best: step,
        last: last.step,
    })
}

fn steps(record: &RunRecord) -> u64 {
    let logged = record.steps.step().last().copied().unwrap_or_default();
    record.evaluations.iter().map(|evaluation| evaluation.step).fold(logged, u64::max)
}

fn final_rank_mean(record: &RunRecord) -> Option<f64> {
    let ranks = &record.measured.final_ranks;
    let total: usize = ranks.values().sum();
    (!ranks.is_empty()).then(|| total as f64 / ranks.len() as f64)
}
