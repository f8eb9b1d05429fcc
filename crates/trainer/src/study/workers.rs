//! Trains cohorts, several at a time.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use assets::error::AssetError;
use experiment::cell::Cell;
use record::{CohortChange, RecordError};

use super::{capacity::or_out_of_memory, context::StudyContext, plan::CohortPlan, remove, resume};
use crate::{
    error::TrainError,
    sink::{Event, Sink},
    train::train,
};

/// Trains the cohorts, `context.workers` at a time. The first error stops the others at their next step.
pub(super) fn work(plans: Vec<CohortPlan>, context: &StudyContext<'_>, sink: &dyn Sink) -> Result<(), TrainError> {
    let workers = context.workers.clamp(1, plans.len().max(1));
    let queue = Mutex::new(VecDeque::from(plans));
    let first_error = Mutex::new(None);
    let failed = AtomicBool::new(false);
    let context = &StudyContext { stop: context.stop.or(&failed), ..*context };
    let worker = || {
        while !failed.load(Ordering::Relaxed) {
            let Some(plan) = locked(&queue).pop_front() else { break };
            if let Err(error) = train_cohort(plan, context, sink) {
                // The error first: a worker that is told to stop reports an interruption.
                locked(&first_error).get_or_insert(error);
                failed.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(worker);
        }
    });
    let error = locked(&first_error).take();
    error.map_or(Ok(()), Err)
}

/// How an attempt at a cohort ended, where it was no error.
enum Attempt {
    Done,
    /// A file of its unfinished work is not what was written.
    Damaged {
        path: PathBuf,
        reason: String,
    },
    OutOfMemory,
}

/// Trains a cohort. Where its unfinished work is damaged it begins afresh; where the device's memory does not take it, its halves do.
fn train_cohort(plan: CohortPlan, context: &StudyContext<'_>, sink: &dyn Sink) -> Result<(), TrainError> {
    let folder = resume::folder_of(plan.id(), context.store);
    let cells: Vec<Cell> = plan.cells().into_iter().cloned().collect();
    let changes = plan.changes.clone();
    match attempt(plan, &folder, context, sink)? {
        Attempt::Done => Ok(()),
        Attempt::Damaged { path, reason } => {
            sink.event(&Event::Restarted { runs: cells.len(), path: &path, reason: &reason });
            remove(&folder)?;
            train_cohort(CohortPlan::new(&cells, context)?.changed(changes), context, sink)
        }
        Attempt::OutOfMemory if cells.len() == 1 => Err(AssetError::Device {
            name: context.device.to_owned(),
            reason: format!("its memory does not take `{}` alone; give a smaller `train.batch`, or free the device. What was saved is kept", cells[0].id),
        }
        .into()),
        Attempt::OutOfMemory => {
            sink.event(&Event::Halved { runs: cells.len() });
            remove(&folder)?;
            halves(&cells, &changes, context)?.into_iter().try_for_each(|plan| train_cohort(plan, context, sink))
        }
    }
}

fn attempt(
    plan: CohortPlan,
    folder: &Path,
    context: &StudyContext<'_>,
    sink: &dyn Sink,
) -> Result<Attempt, TrainError> {
    let done = or_out_of_memory(
        || {
            resume::open_folder(folder, &plan)?;
            train(plan, folder, context, sink)
        },
        context,
    );
    match done {
        None => Ok(Attempt::OutOfMemory),
        Some(Ok(())) => Ok(Attempt::Done),
        Some(Err(TrainError::Asset(AssetError::Damaged { path, reason }))) if path.starts_with(folder) => {
            Ok(Attempt::Damaged { path, reason })
        }
        Some(Err(TrainError::Record(RecordError::Journal { path, reason }))) => {
            Ok(Attempt::Damaged { path: path.into(), reason })
        }
        Some(Err(error @ TrainError::BaseChanged { .. })) => {
            // An earlier checkpoint is of the base as it was, but nothing tells when it changed.
            remove(folder)?;
            Err(error)
        }
        Some(Err(error)) => Err(error),
    }
}

/// The two halves of a cohort that was too large.
fn halves(cells: &[Cell], changes: &[CohortChange], context: &StudyContext<'_>) -> Result<Vec<CohortPlan>, TrainError> {
    let half = |cells: &[Cell]| {
        let plan = CohortPlan::new(cells, context)?;
        let change = CohortChange {
            step: 0,
            members: plan.cells().iter().map(|cell| cell.id.slug()).collect(),
            reason: "out of memory".to_owned(),
        };
        Ok(plan.changed(changes.iter().cloned().chain([change]).collect()))
    };
    cells.chunks(cells.len().div_ceil(2)).map(half).collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"))
}
