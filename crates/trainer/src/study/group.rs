//! Which open cells train together.

use kernels::memory;

use super::{capacity::capacity, context::StudyContext, plan::CohortPlan};
use crate::error::TrainError;
use experiment::cell::Cell;

/// New cohorts, in the order of their cells.
pub(super) fn group(open: &[Cell], context: &StudyContext<'_>) -> Result<Vec<CohortPlan>, TrainError> {
    let size = match context.cohort {
        Some(size) => size,
        None if memory::usage(&context.library.place().device).is_some() => return fill(open, context),
        None => 1,
    };
    let mut groups: Vec<(String, Vec<Cell>)> = Vec::new();
    for cell in open {
        let key = cohort_key(cell);
        match groups.iter_mut().find(|(k, cells)| *k == key && cells.len() < size) {
            Some((_, cells)) => cells.push(cell.clone()),
            None => groups.push((key, vec![cell.clone()])),
        }
    }
    groups.iter().map(|(_, cells)| CohortPlan::new(cells, context)).collect()
}

/// New cohorts as large as the device's memory takes, as even as can be, each of one task: rows of other lengths would be padding.
fn fill(open: &[Cell], context: &StudyContext<'_>) -> Result<Vec<CohortPlan>, TrainError> {
    let mut groups: Vec<(String, Vec<Cell>)> = Vec::new();
    for cell in open {
        let key = format!("{} {} {:?}", cohort_key(cell), cell.plan.task, cell.plan.data);
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, cells)) => cells.push(cell.clone()),
            None => groups.push((key, vec![cell.clone()])),
        }
    }
    let mut plans = Vec::new();
    for (_, cells) in groups {
        let cohorts = cells.len().div_ceil(capacity(&cells, context)?);
        // Runs of one stack stay together, and the rest is spread evenly.
        for part in cells.chunks(cells.len().div_ceil(cohorts)) {
            plans.push(CohortPlan::new(part, context)?);
        }
    }
    Ok(plans)
}

/// Cells with equal keys may share a cohort: one base, one micro-batch, one Adam, one rhythm.
fn cohort_key(cell: &Cell) -> String {
    let (plan, train) = (&cell.plan, &cell.plan.train);
    format!(
        "{} {} {:?} {} {:?} {:?} {} {} {} {} {} {} {}",
        plan.model,
        plan.text().is_some(),
        train.precision,
        train.recompute,
        train.backbone_dropout,
        plan.variant.base,
        train.batch,
        train.accumulate,
        train.max_length,
        train.beta1,
        train.beta2,
        train.epsilon,
        train.checkpoint_every,
    )
}
