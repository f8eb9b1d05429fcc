//! Trains cohorts, several at a time.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use assets::error::AssetError;
use experiment::cell::Cell;
use record::{CohortChange, Lease, Leases, RecordError};

use super::{
    capacity::or_out_of_memory,
    context::StudyContext,
    identity::{Standing, standing},
    plan::CohortPlan,
    remove, resume,
    share::{Board, Next, Planned},
};
use crate::{
    error::TrainError,
    sink::{Event, Sink},
    train::train,
};

/// The shortest and the longest pause between two looks at what others train.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];

/// Trains the cohorts, `context.workers` at a time, beside other processes. The first error stops the others at their next step.
pub(super) fn work(
    board: &Board<'_>,
    leases: &Leases,
    context: &StudyContext<'_>,
    sink: &dyn Sink,
) -> Result<(), TrainError> {
    let workers = context.workers.clamp(1, board.len().max(1));
    let first_error = Mutex::new(None);
    let (failed, waits) = (AtomicBool::new(false), AtomicBool::new(false));
    let context = &StudyContext { stop: context.stop.or(&failed), ..*context };
    let ended = |planned: &Planned| {
        let (cells, steps) = planned.counted;
        sink.event(&Event::EndedElsewhere { cells, steps });
    };
    let (cohorts, leasing) = (AtomicUsize::new(0), AtomicU64::new(0));
    let count = |clock: Instant| {
        leasing.fetch_add(u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    };
    let one = || -> Result<(), TrainError> {
        let mut pause = PAUSES[0];
        loop {
            context.stop.check()?;
            let clock = Instant::now();
            let next = board.next(leases, context.store, &ended)?;
            count(clock);
            match next {
                Next::Nothing => return Ok(()),
                Next::Wait if !context.stays => return Ok(()),
                Next::Wait => {
                    if !waits.swap(true, Ordering::Relaxed) {
                        sink.event(&Event::Waiting);
                    }
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(PAUSES[1]);
                }
                Next::Train(index, planned, lease) => {
                    pause = PAUSES[0];
                    let done = train_leased(board, planned, &lease, context, sink);
                    // Where it was lost, an error is only how it was found out, and so is an interruption.
                    let is_lost = lease.lost().load(Ordering::Relaxed) || (done.is_err() && !lease.check());
                    board.ended(index, !is_lost && done.is_ok());
                    cohorts.fetch_add(1, Ordering::Relaxed);
                    let clock = Instant::now();
                    drop(lease);
                    count(clock);
                    if is_lost {
                        sink.event(&Event::TakenOver { cells: planned.cells.len() });
                    } else {
                        done?;
                    }
                }
            }
        }
    };
    let worker = || {
        if let Err(error) = one() {
            // The error first: a worker that is told to stop reports an interruption.
            locked(&first_error).get_or_insert(error);
            failed.store(true, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(worker);
        }
    });
    if context.among > 1 {
        let leasing = Duration::from_nanos(leasing.into_inner()).as_secs_f64();
        sink.event(&Event::Shared { cohorts: cohorts.into_inner(), leasing });
    }
    let error = locked(&first_error).take();
    error.map_or(Ok(()), Err)
}

/// Trains what is left of a cohort on which this process has the lease.
fn train_leased(
    board: &Board<'_>,
    planned: &Planned,
    lease: &Lease,
    context: &StudyContext<'_>,
    sink: &dyn Sink,
) -> Result<(), TrainError> {
    let context = &StudyContext { stop: context.stop.or(lease.lost()), lease: Some(lease), ..*context };
    if lease.generation() > 1 {
        resume::take_over(&planned.cells.iter().map(|cell| cell.id.slug()).collect(), context.store)?;
    }
    // Unfinished work is of all its cells, of which some may have ended; without it, those that have not begin.
    let open = board.open(planned, context.store);
    let is_begun = resume::folder_of(&planned.name, context.store).is_dir();
    let cells = if is_begun { planned.cells.clone() } else { open.into_iter().cloned().collect() };
    train_cohort(CohortPlan::new(&cells, context)?.changed(planned.changes.clone()), context, sink)
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
    // What begins or begins again opens files that are another's where the cohort is.
    context.still_has_it()?;
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
            halves(&cells, &changes, context)?.into_iter().try_for_each(|plan| train_half(plan, context, sink))
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

/// Trains a half of a cohort, unless whoever had the cohort before has done so.
fn train_half(plan: CohortPlan, context: &StudyContext<'_>, sink: &dyn Sink) -> Result<(), TrainError> {
    for cell in plan.cells() {
        if standing(cell, context)? != Standing::Done {
            return train_cohort(plan, context, sink);
        }
    }
    Ok(())
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
