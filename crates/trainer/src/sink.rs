//! What a study tells whoever watches it.

use std::path::Path;

use record::{CellId, Evaluation, RunRecord, StepEntry};

/// News of a study.
#[derive(Debug)]
pub enum Event<'a> {
    /// Before anything runs.
    Planned {
        /// Cells of the experiment.
        cells: usize,
        /// Of these, finished before.
        finished: usize,
        /// Started cohorts whose recipe, base, data or code is another now; they begin again.
        discarded: usize,
        /// Cohorts to train now; more come where cells start from others.
        cohorts: usize,
        /// What is to be done, summed over cells; finished work left out.
        work: Work,
    },
    /// A cohort starts, or goes on from a checkpoint at `step`.
    Started {
        /// Its cells.
        cells: &'a [CellId],
        /// Steps done before.
        step: u64,
        /// Steps in all.
        steps: u64,
    },
    /// Finished cells have no adapter, as in a fresh clone; they are trained again, and their records replaced.
    WithoutAdapter {
        /// How many.
        cells: usize,
        /// The first.
        first: &'a CellId,
    },
    /// A finished cell's record or adapter is not what was written, or its start is another; the cell is trained again.
    Renewed {
        /// The cell.
        cell: &'a CellId,
        /// The file and what is wrong with it.
        reason: &'a str,
    },
    /// A file of an unfinished cohort is not what was written; the cohort begins afresh.
    Restarted {
        /// Runs of the cohort.
        runs: usize,
        /// The file.
        path: &'a Path,
        /// What is wrong with it.
        reason: &'a str,
    },
    /// The device's memory does not take a cohort; its halves begin afresh, one after the other.
    Halved {
        /// Runs of the cohort.
        runs: usize,
    },
    /// Optimizer steps of a cohort, one of each run or as many as a device did before it was asked; `entry` is the first run's last one.
    Steps {
        /// Steps of all runs together since the last such event.
        taken: usize,
        /// The cohort's first cell.
        cell: &'a CellId,
        /// Steps in all.
        steps: u64,
        /// The first run's step.
        entry: StepEntry,
    },
    /// A run was evaluated.
    Evaluated {
        /// The run.
        cell: &'a CellId,
        /// The result.
        evaluation: &'a Evaluation,
    },
    /// Runs that another process trained have ended.
    EndedElsewhere {
        /// How many.
        cells: usize,
        /// Their steps.
        steps: u64,
    },
    /// Another process took over a cohort in training here, which was silent for too long.
    TakenOver {
        /// Its cells.
        cells: usize,
    },
    /// Nothing is left to begin, and other processes train the rest.
    Waiting,
    /// What one of several processes has trained.
    Shared {
        /// Cohorts.
        cohorts: usize,
        /// Seconds that their leases took, and looking for them, all threads together.
        leasing: f64,
    },
    /// A run ended and its record is on disk.
    Finished {
        /// The record.
        record: &'a RunRecord,
    },
}

/// What training takes, before it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Optimizer steps.
    pub steps: u64,
    /// Training rows that these steps read.
    pub rows: u64,
    /// Rows of evaluations: one is read in about a third of the time that a training row takes, since nothing goes backward.
    pub evaluated: u64,
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            steps: sum.steps + one.steps,
            rows: sum.rows + one.rows,
            evaluated: sum.evaluated + one.evaluated,
        })
    }
}

/// Receives the news, from any thread.
pub trait Sink: Sync {
    /// One piece of news.
    fn event(&self, event: &Event<'_>);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Sink for Silent {
    fn event(&self, _event: &Event<'_>) {}
}
