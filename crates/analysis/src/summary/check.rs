//! Checks before records are averaged over seeds.

use std::collections::BTreeMap;

use record::{RunRecord, seedless};
use serde_json::Value;

use crate::AnalysisError;

/// Refuses records of which some would be averaged wrongly or lost without a word.
pub(super) fn consistent(records: &[RunRecord]) -> Result<(), AnalysisError> {
    same_primary_metric(records)?;
    same_spec(records)?;
    distinct_seeds(records)
}

fn same_primary_metric(records: &[RunRecord]) -> Result<(), AnalysisError> {
    let mut seen: BTreeMap<&str, &RunRecord> = BTreeMap::new();
    for record in records {
        let first = *seen.entry(&record.cell.task).or_insert(record);
        if first.primary_metric != record.primary_metric {
            return Err(AnalysisError::PrimaryMetric {
                task: record.cell.task.clone(),
                first: first.cell.to_string(),
                first_metric: judged_by(first),
                second: record.cell.to_string(),
                second_metric: judged_by(record),
            });
        }
    }
    Ok(())
}

fn judged_by(record: &RunRecord) -> String {
    format!("{} ({:?})", record.primary_metric.name, record.primary_metric.goal).to_lowercase()
}

/// A row is a task, a label and a rank. Both the cells themselves and their readouts claim rows: a failed run may have no readout,
/// yet it belongs to a row.
fn same_spec(records: &[RunRecord]) -> Result<(), AnalysisError> {
    let mut seen: BTreeMap<(&str, &str, usize), (&RunRecord, String)> = BTreeMap::new();
    for record in records {
        let group = record.group_hash();
        let cell = (record.cell.variant.as_str(), record.cell.rank);
        let readouts =
            record.evaluations.iter().map(|evaluation| (evaluation.readout.label.as_str(), evaluation.readout.rank));
        for (label, rank) in readouts.chain([cell]) {
            let (first, first_group) =
                seen.entry((&record.cell.task, label, rank)).or_insert_with(|| (record, group.clone()));
            if *first_group != group {
                return Err(AnalysisError::MixedSpecs {
                    row: row(&record.cell.task, label, rank),
                    first: first.cell.to_string(),
                    second: record.cell.to_string(),
                    place: first_difference(&seedless(&first.spec), &seedless(&record.spec), "")
                        .unwrap_or_else(|| "seed".to_owned()),
                });
            }
        }
    }
    Ok(())
}

fn distinct_seeds(records: &[RunRecord]) -> Result<(), AnalysisError> {
    let mut seen: BTreeMap<(&str, &str, usize, u64), &RunRecord> = BTreeMap::new();
    for record in records {
        for evaluation in &record.evaluations {
            let readout = &evaluation.readout;
            let first =
                *seen.entry((&record.cell.task, &readout.label, readout.rank, record.cell.seed)).or_insert(record);
            if first.cell != record.cell {
                return Err(AnalysisError::RepeatedSeed {
                    row: row(&record.cell.task, &readout.label, readout.rank),
                    first: first.cell.to_string(),
                    second: record.cell.to_string(),
                });
            }
        }
    }
    Ok(())
}

fn row(task: &str, label: &str, rank: usize) -> String {
    format!("{task}/{label} rank {rank}")
}

/// The first path at which two specs differ.
fn first_difference(one: &Value, other: &Value, path: &str) -> Option<String> {
    let (Value::Object(first), Value::Object(second)) = (one, other) else {
        return (one != other).then(|| path.to_owned());
    };
    let mut keys: Vec<&String> = first.keys().chain(second.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter().find_map(|key| {
        let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (first.get(key), second.get(key)) {
            (Some(one), Some(other)) => first_difference(one, other, &inner),
            _ => Some(inner),
        }
    })
}
