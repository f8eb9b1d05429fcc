//! One run of a cohort: what it is to do, how far it is, and what it has logged.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use burn::tensor::Tensor;
use record::{Entry, Evaluation, Journal, JournalMark, Start, StepEntry, StepLog};

use crate::{error::TrainError, guard::OwnTensors, model_cache::TokenizedTask};
use experiment::cell::Cell;

/// The address of a run: its stack in the cohort and its row in the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunAt {
    /// The stack.
    pub stack: usize,
    /// The run in it.
    pub run: usize,
}

/// A run of a cohort.
#[derive(Debug)]
pub struct RunState {
    /// What it runs.
    pub cell: Cell,
    /// Its data; none where whoever made the cohort brings the batches.
    pub task: Option<Arc<TokenizedTask>>,
    /// Its length in optimizer steps.
    pub steps: u64,
    /// The adapter it starts from, as it lies on disk.
    pub start: Option<Start>,
    /// Its tensors at its first step; none before.
    pub first: OwnTensors,
    /// Whether it still trains.
    pub active: bool,
    /// Step and reason of a failure.
    pub failure: Option<(u64, String)>,
    /// Components that the last allocation kept, by map.
    pub kept: Option<BTreeMap<String, Vec<bool>>>,
    /// The best evaluation so far.
    pub best: Option<BestState>,
    /// Evaluations since the best one.
    pub stale: u64,
    /// Seconds spent in steps.
    pub train_seconds: f64,
    /// Seconds spent in evaluation.
    pub eval_seconds: f64,
    /// Tokens seen, padding left out.
    pub tokens: u64,
    /// Its steps and evaluations.
    pub log: RunLog,
}

/// A run's best evaluation so far, and its tensors then.
#[derive(Clone, Debug)]
pub struct BestState {
    /// Step of the evaluation.
    pub step: u64,
    /// Its primary metric.
    pub value: f64,
    /// The run's tensors, `[1, rows, cols]`, by name.
    pub tensors: BTreeMap<String, Tensor<3>>,
}

/// What a run has logged, and the journal that outlives the process.
#[derive(Debug, Default)]
pub struct RunLog {
    /// Every step.
    pub steps: StepLog,
    /// Every evaluation.
    pub evaluations: Vec<Evaluation>,
    /// Steps at which it was resumed.
    pub resumed: Vec<u64>,
    /// How its journal was at the checkpoint that it resumes from; none where it begins.
    pub resumes: Option<JournalMark>,
    /// Where both are appended as they come; nowhere before training begins.
    journal: Option<Journal>,
}

impl RunState {
    /// A run of `steps` optimizer steps at its start.
    pub fn new(cell: Cell, steps: u64) -> Self {
        Self {
            cell,
            task: None,
            steps,
            start: None,
            first: OwnTensors::default(),
            active: true,
            failure: None,
            kept: None,
            best: None,
            stale: 0,
            train_seconds: 0.0,
            eval_seconds: 0.0,
            tokens: 0,
            log: RunLog::default(),
        }
    }

    /// Its task, which every run of a study has.
    pub fn task(&self) -> &Arc<TokenizedTask> {
        self.task.as_ref().unwrap_or_else(|| unreachable!("a run of a study has a task"))
    }

    /// Whether it trains at a step.
    pub fn trains_at(&self, step: u64) -> bool {
        self.active && step < self.steps
    }

    /// Whether a step was one of its own. A device may be ahead: the cohort's step is then beyond the end of a shorter run.
    fn took(&self, step: u64) -> bool {
        self.active && step <= self.steps
    }

    /// Whether it is evaluated after a step.
    pub fn evaluates_at(&self, step: u64) -> bool {
        let train = &self.cell.recipe.train;
        let every = train.evaluate_every.map(|every| every.steps(train, self.task().train.rows.len()));
        self.took(step) && every.is_some_and(|every| step.is_multiple_of(every) || step == self.steps)
    }

    /// Whether its adapter is kept after a step.
    pub fn saves_at(&self, step: u64) -> bool {
        self.took(step) && self.cell.recipe.train.snapshot_every.is_some_and(|every| step.is_multiple_of(every))
    }
}

impl RunLog {
    /// An empty log whose journal begins at `path`.
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        Ok(Self { journal: Some(Journal::create(path)?), ..Self::default() })
    }

    /// The log at `path`, cut back to where it was at the checkpoint of `step`, at which the run resumes.
    pub fn resume(path: &Path, mark: &JournalMark, step: u64) -> Result<Self, TrainError> {
        let (mut journal, entries) = Journal::reopen(path, mark)?;
        let mut log = Self::default();
        for entry in entries {
            match entry {
                Entry::Step(entry) => log.steps.push(entry),
                Entry::Evaluation(evaluation) => log.evaluations.push(evaluation),
                Entry::Resumed { step } => log.resumed.push(step),
            }
        }
        journal.append(&Entry::Resumed { step })?;
        log.resumed.push(step);
        log.journal = Some(journal);
        Ok(log)
    }

    /// Logs a step.
    pub fn step(&mut self, entry: StepEntry) -> Result<(), TrainError> {
        self.steps.push(entry);
        self.append(&Entry::Step(entry))
    }

    /// Logs an evaluation.
    pub fn evaluation(&mut self, evaluation: Evaluation) -> Result<(), TrainError> {
        self.append(&Entry::Evaluation(evaluation.clone()))?;
        self.evaluations.push(evaluation);
        Ok(())
    }

    /// Waits until the journal is on the disk, for a checkpoint that names it.
    pub fn sync(&self) -> Result<(), TrainError> {
        Ok(self.journal.as_ref().map_or(Ok(()), Journal::sync)?)
    }

    /// How the journal is now; none before training begins.
    pub fn mark(&self) -> Option<JournalMark> {
        self.journal.as_ref().map(Journal::mark)
    }

    fn append(&mut self, entry: &Entry) -> Result<(), TrainError> {
        Ok(self.journal.as_mut().map_or(Ok(()), |journal| journal.append(entry))?)
    }
}
