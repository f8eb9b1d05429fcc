//! Where AdaLoRA's pruning leaves the ranks, pooled over tasks.

use std::collections::BTreeMap;

use record::RunRecord;

use super::{Evidence, Finding, Kept, shown};
use crate::{
    measures::place,
    stats::{Estimate, together},
};

impl Evidence {
    /// How much more rank a group of maps keeps than the others.
    pub(super) fn final_ranks(&self, experiment: &str, variant: &str, more: Kept) -> Finding {
        let Some(records) = self.records.get(experiment) else {
            return Finding::none(format!("`{experiment}` was not run"));
        };
        let mut tasks: BTreeMap<&str, BTreeMap<u64, f64>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.cell.variant == variant && record.is_finished()) {
            if let Some(value) = kept_more(record, more) {
                tasks.entry(&record.cell.task).or_default().insert(record.cell.seed, value);
            }
        }
        let Some(estimate) = pooled(&tasks.values().cloned().collect::<Vec<_>>()) else {
            return Finding::none(format!("`{experiment}` has no finished run of `{variant}` with final ranks"));
        };
        let mut finding = Finding::above(&estimate, 0.0);
        if tasks.len() > 1 {
            let of_task = |(task, values): (&&str, &BTreeMap<u64, f64>)| {
                let own = Estimate::of(&values.values().copied().collect::<Vec<_>>());
                format!("{task} {}", own.map_or_else(|_| "none".to_owned(), |own| shown(&own)))
            };
            let each: Vec<String> = tasks.iter().map(of_task).collect();
            let (n, freedom) = (estimate.n, estimate.freedom);
            finding.remark = Some(format!(
                "{}, each over {n} seeds and pooled with {freedom:.1} degrees of freedom",
                each.join(" and ")
            ));
        }
        finding
    }
}

/// The mean over tasks of values by seed, as averages over tasks are tested everywhere: the tasks' variances are added, unless the values of
/// one seed go together, which are then averaged first.
pub(super) fn pooled(tasks: &[BTreeMap<u64, f64>]) -> Option<Estimate> {
    let shared = |seed: &&u64| tasks.iter().all(|task| task.contains_key(*seed));
    let seeds: Vec<u64> = tasks.first()?.keys().filter(shared).copied().collect();
    let by_task: Vec<Vec<f64>> = tasks.iter().map(|task| seeds.iter().map(|seed| task[seed]).collect()).collect();
    if together(std::slice::from_ref(&by_task)).is_some_and(|found| found.is_dependent()) {
        let of_seed = |at: usize| by_task.iter().map(|task| task[at]).sum::<f64>() / by_task.len() as f64;
        return Estimate::of(&(0..seeds.len()).map(of_seed).collect::<Vec<_>>()).ok();
    }
    let strata: Option<Vec<Estimate>> =
        tasks.iter().map(|task| Estimate::of(&task.values().copied().collect::<Vec<_>>()).ok()).collect();
    Estimate::stratified(&strata?)
}

/// Mean final rank of one group of maps minus that of the others.
fn kept_more(record: &RunRecord, more: Kept) -> Option<f64> {
    let ranks = &record.measured.final_ranks;
    let layers: Vec<usize> = ranks.keys().filter_map(|map| place(map).0).collect();
    let half = f64::midpoint(*layers.iter().min()? as f64, *layers.iter().max()? as f64);
    let within = |map: &str| match more {
        Kept::FeedForward => !map.contains("attention"),
        Kept::UpperLayers => place(map).0.is_some_and(|layer| layer as f64 > half),
    };
    let mean = |inside: bool| {
        let of: Vec<f64> =
            ranks.iter().filter(|(map, _)| within(map) == inside).map(|(_, rank)| *rank as f64).collect();
        (!of.is_empty()).then(|| of.iter().sum::<f64>() / of.len() as f64)
    };
    Some(mean(true)? - mean(false)?)
}
