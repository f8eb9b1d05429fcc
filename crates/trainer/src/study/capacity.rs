//! How many runs a device's memory takes at once.

use std::any::Any;

use kernels::memory;
use variants::slot::StackPlan;

use super::{context::StudyContext, plan::CohortPlan};
use crate::{adapter, error::TrainError};
use assets::error::AssetError;
use experiment::cell::Cell;

/// Share of a device's memory that cohorts may fill: the allocator needs room between its blocks.
const FILLED: f64 = 0.8;

/// Runs that fit on the device at once: a step of one run of every stack, at the length of the longest example, is measured.
pub(super) fn capacity(cells: &[Cell], context: &StudyContext<'_>) -> Result<usize, TrainError> {
    if cells.len() == 1 {
        return Ok(1);
    }
    let device = &context.cache.place().device;
    let trial = one_of_each_stack(cells, context)?;
    let plan = CohortPlan::new(&trial, context)?;
    let (Some(total), Some(before)) = (memory::total(device), memory::usage(device)) else { return Ok(1) };
    memory::reset_peak(device);
    let step = || -> Result<(), TrainError> {
        let longest = plan.batches(context)?.widest();
        plan.build(context)?.advance(&longest);
        Ok(())
    };
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(step));
    let peak = memory::usage(device).map_or(before.now, |memory| memory.peak);
    memory::release(device);
    match done {
        Ok(done) => done?,
        // One run of every stack is too much at once; a run alone fits, or says in training that it does not.
        Err(panic) if is_out_of_memory(panic.as_ref()) => return Ok(1),
        Err(panic) => std::panic::resume_unwind(panic),
    }
    // Twice: a recorded step keeps its memory beside that of a step of another length. And half as much again: blocks of many lengths
    // leave gaps between them.
    let run = 3.0 * (peak.saturating_sub(before.now)).max(1) as f64 / trial.len() as f64;
    let room = FILLED * total as f64 - before.now as f64;
    Ok(((room / run) as usize).max(1))
}

/// The first cell of every stack that a cohort of `cells` has.
fn one_of_each_stack(cells: &[Cell], context: &StudyContext<'_>) -> Result<Vec<Cell>, TrainError> {
    let mut found: Vec<(StackPlan, Cell)> = Vec::new();
    for cell in cells {
        let plan = adapter::stack_plan(&cell.plan, &cell.id, context.cache)?;
        if !found.iter().any(|(other, _)| other.is_like(&plan)) {
            found.push((plan, cell.clone()));
        }
    }
    Ok(found.into_iter().map(|(_, cell)| cell).collect())
}

/// What `attempt` gave; a device whose memory is full says so by a panic, which becomes an error with the way out.
pub(super) fn or_out_of_memory(
    attempt: impl FnOnce() -> Result<(), TrainError>,
    runs: usize,
    context: &StudyContext<'_>,
) -> Result<(), TrainError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt)).unwrap_or_else(|panic| {
        if !is_out_of_memory(panic.as_ref()) {
            std::panic::resume_unwind(panic);
        }
        Err(AssetError::Device {
            name: context.device.to_owned(),
            reason: format!(
                "its memory does not take a cohort of {runs} runs; give a smaller `cohort: N`, or free the device. What was \
                 saved is kept"
            ),
        }
        .into())
    })
}

/// Whether a panic is a device's that has no memory left.
fn is_out_of_memory(panic: &(dyn Any + Send)) -> bool {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.is_some_and(|text| text.contains("out of memory"))
}
