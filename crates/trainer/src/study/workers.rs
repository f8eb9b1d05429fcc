//! Trains cohorts, several at a time.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{capacity::or_out_of_memory, context::StudyContext, plan::CohortPlan, resume};
use crate::{error::TrainError, sink::Sink, train::train};

/// Trains the cohorts, `context.workers` at a time. The first error stops the others at their next step.
pub(super) fn work(plans: Vec<CohortPlan>, context: &StudyContext<'_>, sink: &dyn Sink) -> Result<(), TrainError> {
    let queue = Mutex::new(VecDeque::from(plans));
    let first_error = Mutex::new(None);
    let failed = AtomicBool::new(false);
    let worker = || {
        while !failed.load(Ordering::Relaxed) {
            let Some(plan) = locked(&queue).pop_front() else { break };
            if let Err(error) = train_in_folder(plan, context, &failed, sink) {
                // The error first: a worker that is told to stop reports an interruption.
                locked(&first_error).get_or_insert(error);
                failed.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..context.workers.max(1) {
            scope.spawn(worker);
        }
    });
    let error = locked(&first_error).take();
    error.map_or(Ok(()), Err)
}

fn train_in_folder(
    plan: CohortPlan,
    context: &StudyContext<'_>,
    halt: &AtomicBool,
    sink: &dyn Sink,
) -> Result<(), TrainError> {
    let folder = resume::folder_of(plan.id(), context.store);
    let runs = plan.cells().len();
    let attempt = || {
        resume::open_folder(&folder, &plan)?;
        train(plan, &folder, context, halt, sink)
    };
    or_out_of_memory(attempt, runs, context)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"))
}
