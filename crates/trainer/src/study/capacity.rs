//! How many runs a device's memory takes at once.

use std::any::Any;

use kernels::memory;
use variants::slot::StackPlan;

use super::{context::StudyContext, plan::CohortPlan};
use crate::{adapter, error::TrainError};
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
    let done = or_out_of_memory(step, context);
    let peak = memory::usage(device).map_or(before.now, |memory| memory.peak);
    memory::release(device);
    match done {
        Some(done) => done?,
        // One run of every stack is too much at once; a run alone fits, or says in training that it does not.
        None => return Ok(1),
    }
    // Twice: a recorded step keeps its memory beside that of a step of another length. And half as much again: blocks of many lengths
    // leave gaps between them.
    let run = 3.0 * (peak.saturating_sub(before.now)).max(1) as f64 / trial.len() as f64;
    let room = FILLED * total as f64 - before.now as f64;
    Ok(((room / run) as usize).max(1))
}

/// The first cell of every stack that a cohort of `cells` has.
pub(super) fn one_of_each_stack(cells: &[Cell], context: &StudyContext<'_>) -> Result<Vec<Cell>, TrainError> {
    let mut found: Vec<(StackPlan, Cell)> = Vec::new();
    for cell in cells {
        let plan = adapter::stack_plan(&cell.recipe, &cell.id, context.cache)?;
        if !found.iter().any(|(other, _)| other.is_like(&plan)) {
            found.push((plan, cell.clone()));
        }
    }
    Ok(found.into_iter().map(|(_, cell)| cell).collect())
}

/// What `attempt` gave, or none where the device's memory was full, which a backend says by a panic. What the attempt held is given back.
pub(super) fn or_out_of_memory<T>(attempt: impl FnOnce() -> T, context: &StudyContext<'_>) -> Option<T> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt)) {
        Ok(done) => Some(done),
        Err(panic) if is_out_of_memory(panic.as_ref()) => {
            drop(panic);
            memory::forget_unfinished_graphs();
            memory::release(&context.cache.place().device);
            None
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Whether a panic is a device's that has no memory left. The study catches it.
pub fn is_out_of_memory(panic: &(dyn Any + Send)) -> bool {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.is_some_and(says_out_of_memory)
}

/// Whether a message is of a device that has no memory left: of LibTorch's allocator or the driver, or of a library that allocates beside
/// them.
fn says_out_of_memory(text: &str) -> bool {
    let text = text.to_lowercase();
    ["out of memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed"].iter().any(|said| text.contains(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_is_told_from_other_faults() {
        let full = [
            // What LibTorch's allocator, the driver and cuBLAS say; tch hands the first line on.
            "Torch(\"CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB\")",
            "CUDA error: out of memory",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        ];
        assert!(full.iter().all(|text| says_out_of_memory(text)));
        assert!(!says_out_of_memory("CUDA error: an illegal memory access was encountered"));
    }
}
