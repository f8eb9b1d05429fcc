//! How much of another row's peak memory a row saves.

use std::collections::BTreeMap;

use record::RunRecord;

use super::{Evidence, Finding, pruning::pooled};

impl Evidence {
    /// `1 - peak/peak of the other`, by seed. Both must have trained alone: the peak is that of a cohort.
    pub(super) fn memory_saved(&self, experiment: &str, variant: &str, against: &str) -> Finding {
        let Some(records) = self.records.get(experiment) else {
            return Finding::none(format!("`{experiment}` was not run"));
        };
        let (own, other) = (peaks(records, variant), peaks(records, against));
        let mut tasks: BTreeMap<&str, BTreeMap<u64, f64>> = BTreeMap::new();
        for ((task, seed), peak) in own {
            if let Some(other) = other.get(&(task, seed)) {
                tasks.entry(task).or_default().insert(seed, 1.0 - peak / other);
            }
        }
        match pooled(&tasks.into_values().collect::<Vec<_>>()) {
            Some(estimate) => Finding {
                remark: Some(format!("judged by whether `{variant}` saves anything, not by how much the paper has")),
                ..Finding::above(&estimate, 0.0)
            },
            None => Finding::none(format!(
                "`{experiment}` has no runs of `{variant}` and `{against}` at one seed that trained alone and have a peak of memory"
            )),
        }
    }
}

/// Bytes by task and seed.
fn peaks<'a>(records: &'a [RunRecord], variant: &str) -> BTreeMap<(&'a str, u64), f64> {
    let is_own = |record: &&RunRecord| record.cell.variant == variant && record.cohort.members.len() == 1;
    let peak = |record: &'a RunRecord| {
        let bytes = record.is_finished().then_some(record.measured.peak_memory_bytes)??;
        Some(((record.cell.task.as_str(), record.cell.seed), bytes as f64))
    };
    records.iter().filter(is_own).filter_map(peak).collect()
}
