//! The one loop: a cohort from its first step, or its checkpoint, to its records.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use kernels::ops;
use record::{CellId, Entry, Evaluation, Journal, StepLog};
use variants::{
    slot::StackPlan,
    stream::{self, Stream},
};

use crate::{
    adapter,
    cell::Cell,
    cohort::{Cohort, Member, Stack},
    error::TrainError,
    finish::{finish, is_due, select, snapshots},
    footprint::Footprint,
    lesson::{Examples, Feed},
    library::Prepared,
    optimizer::Adam,
    sink::{Event, Sink},
    start,
    state::{self, Progress},
    study::{Setting, cohort_id},
};

/// Steps that may be under way on a device before the host reads their numbers.
const AHEAD: usize = 32;

/// Widths of batches on a device are multiples of this, so that few shapes are recorded.
const BUCKET: usize = 8;

/// A cohort before it trains: its stacks, their members and their tasks.
#[derive(Debug)]
pub struct Plan {
    id: String,
    stacks: Vec<(StackPlan, Vec<Slot>)>,
}

/// A member with its task.
#[derive(Clone, Debug)]
pub struct Slot {
    /// What it runs.
    pub cell: Cell,
    /// Its data.
    pub task: Arc<Prepared>,
    /// Its length in optimizer steps.
    pub steps: u64,
    /// The adapter it starts from, as it lies on disk.
    pub start: Option<record::Start>,
}

/// What a run has logged and where.
#[derive(Debug)]
pub struct Log {
    /// Every step.
    pub steps: StepLog,
    /// Every evaluation.
    pub evaluations: Vec<Evaluation>,
    /// Steps at which it was resumed.
    pub resumed: Vec<u64>,
    journal: Journal,
}

impl Plan {
    /// Cells of one cohort: those that may share a stack do, in their order; stacks that are computed alike are neighbours. Its name follows
    /// from its make-up.
    pub fn new(cells: &[Cell], setting: &Setting<'_>) -> Result<Self, TrainError> {
        let mut stacks: Vec<(StackPlan, Vec<Slot>)> = Vec::new();
        for cell in cells {
            let one = adapter::stack_plan(&cell.plan, &cell.id, setting.library)?;
            let task = setting.library.task(&cell.plan)?;
            let steps = cell.plan.train.total_steps(task.train.rows.len());
            let start = cell.plan.start_from.as_ref().map(|from| from.identity(setting.store)).transpose()?.flatten();
            let slot = Slot { cell: cell.clone(), task, steps, start };
            match stacks.iter_mut().find(|(plan, _)| plan.is_like(&one)) {
                Some((plan, slots)) => {
                    plan.runs.extend(&one.runs);
                    slots.push(slot);
                }
                None => stacks.push((one, vec![slot])),
            }
        }
        // Updates of one width side by side are computed as one batch.
        stacks.sort_by_key(|(plan, _)| plan.variant.spec().batch_key());
        let mut plan = Self { id: String::new(), stacks };
        plan.id = cohort_id(&plan.cells(), setting)?;
        Ok(plan)
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its cells, stack by stack.
    pub fn cells(&self) -> Vec<&Cell> {
        self.stacks.iter().flat_map(|(_, slots)| slots).map(|slot| &slot.cell).collect()
    }

    /// How many sets of stacked tensors it has.
    pub fn stacks(&self) -> usize {
        self.stacks.len()
    }

    /// Length of its longest run.
    pub fn steps(&self) -> u64 {
        self.stacks.iter().flat_map(|(_, slots)| slots).map(|slot| slot.steps).max().unwrap_or(0)
    }

    /// The cohort at its first step.
    pub fn build(&self, setting: &Setting<'_>) -> Result<Cohort, TrainError> {
        let train = &self.stacks[0].1[0].cell.plan.train;
        let parts: Vec<_> = self
            .stacks
            .iter()
            .map(|(plan, slots)| {
                (plan.clone(), slots.iter().map(|slot| slot.task.info.objective.n_outputs()).collect())
            })
            .collect();
        let member = |slot: &Slot| Member {
            cell: slot.cell.clone(),
            steps: slot.steps,
            active: true,
            failure: None,
            kept: None,
        };
        let mut network = setting.library.network(&self.stacks[0].1[0].cell.plan, &parts)?;
        for (stack, (_, slots)) in self.stacks.iter().enumerate() {
            for (run, slot) in slots.iter().enumerate() {
                if let Some(from) = &slot.cell.plan.start_from {
                    start::apply(&mut network, (stack, run), &slot.cell, from, setting.store, setting.library)?;
                }
            }
        }
        let stack =
            |(plan, slots): &(StackPlan, Vec<Slot>)| Stack::new(slots.iter().map(member).collect(), plan.clone());
        let adam = Adam { beta1: train.beta1, beta2: train.beta2, epsilon: train.epsilon };
        let mut cohort = Cohort::new(network, self.stacks.iter().map(stack).collect(), train.accumulate, adam);
        cohort.recomputes = train.recompute;
        Ok(cohort)
    }

    /// Batches of all its runs.
    pub fn lesson(&self, setting: &Setting<'_>) -> Result<Examples, TrainError> {
        let first = &self.stacks[0].1[0].cell.plan;
        let feed = |slot: &Slot| {
            let seed = stream::key(slot.cell.plan.seeds.data, Stream::Data, "order");
            Feed::new(slot.task.train.clone(), slot.task.info.objective.clone(), seed)
        };
        Ok(Examples {
            feeds: self.stacks.iter().map(|(_, slots)| slots.iter().map(feed).collect()).collect(),
            rows: first.train.batch,
            pad: setting.library.base_of(first)?.pad,
            at_least: 0,
            bucket: if ops::writes_in_place(&setting.library.place().device) { BUCKET } else { 1 },
        })
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Trains a cohort to its end and writes its records; stops at a step where `setting.stop` or `halt` is set.
pub fn train(
    plan: &Plan,
    folder: &Path,
    setting: &Setting<'_>,
    halt: &AtomicBool,
    sink: &dyn Sink,
) -> Result<(), TrainError> {
    let mut started = now();
    let mut cohort = plan.build(setting)?;
    let lesson = plan.lesson(setting)?;
    let slots: Vec<&[Slot]> = plan.stacks.iter().map(|(_, slots)| slots.as_slice()).collect();
    let mut progress: Vec<Vec<Progress>> = slots.iter().map(|s| vec![Progress::default(); s.len()]).collect();
    let checkpoint = folder.join("checkpoint.safetensors");
    let resumes = checkpoint.is_file();
    if resumes {
        started = state::load(&mut cohort, &mut progress, &checkpoint)?;
    } else {
        forget_snapshots(&plan.cells(), setting)?;
    }
    let mut logs = open_logs(&slots, folder, resumes.then_some(cohort.step))?;
    // A resumed cohort has its moments on the device already: there is no first step to tell the parts by.
    let mut footprint = if resumes { None } else { Footprint::begin(&setting.library.place().device) };
    let (steps, every) = (plan.steps(), plan.cells()[0].plan.train.checkpoint_every);
    let cells: Vec<CellId> = plan.cells().iter().map(|cell| cell.id.clone()).collect();
    sink.event(&Event::Started { cells: &cells, step: cohort.step, steps });
    let ahead = if ops::writes_in_place(&setting.library.place().device) { AHEAD } else { 1 };
    let mut clock = Instant::now();
    while cohort.step < steps && cohort.is_active() {
        if setting.stop.load(Ordering::Relaxed) || halt.load(Ordering::Relaxed) {
            book(&mut cohort, &mut clock, &slots, &mut progress, &mut logs, steps, sink)?;
            logs.iter().flatten().try_for_each(|log| log.journal.sync())?;
            state::save(&mut cohort, &progress, started, &checkpoint)?;
            return Err(TrainError::Interrupted);
        }
        cohort.enqueue(&lesson);
        if let Some(footprint) = footprint.as_mut().filter(|footprint| footprint.is_new()) {
            book(&mut cohort, &mut clock, &slots, &mut progress, &mut logs, steps, sink)?;
            footprint.stepped(cohort.gradient_bytes());
        }
        let saves = cohort.step % every == 0 || cohort.step == steps;
        if !(saves || cohort.pending() >= ahead || is_due(&cohort, &slots)) {
            continue;
        }
        book(&mut cohort, &mut clock, &slots, &mut progress, &mut logs, steps, sink)?;
        snapshots(&mut cohort, &slots, setting)?;
        select(&mut cohort, &slots, &mut progress, &mut logs, setting, sink)?;
        if cohort.step % every == 0 && cohort.step < steps {
            logs.iter().flatten().try_for_each(|log| log.journal.sync())?;
            state::save(&mut cohort, &progress, started, &checkpoint)?;
        }
        clock = Instant::now();
    }
    book(&mut cohort, &mut clock, &slots, &mut progress, &mut logs, steps, sink)?;
    cohort.memory = footprint.and_then(|footprint| footprint.read());
    finish(&mut cohort, &plan.id, &slots, &progress, logs, started, setting, sink)?;
    // The list of members goes first: what a kill leaves then names nobody, and is cleared away by the next run.
    let gone = std::fs::remove_file(folder.join("members.json")).and_then(|()| std::fs::remove_dir_all(folder));
    gone.map_err(|source| TrainError::Io { path: folder.to_owned(), source })
}

/// Enters what the steps since the last time did, and what they took since `clock`, into the runs' books.
fn book(
    cohort: &mut Cohort,
    clock: &mut Instant,
    slots: &[&[Slot]],
    progress: &mut [Vec<Progress>],
    logs: &mut [Vec<Log>],
    steps: u64,
    sink: &dyn Sink,
) -> Result<(), TrainError> {
    let reports = cohort.flush();
    let share =
        clock.elapsed().as_secs_f64() / reports.iter().map(|report| report.runs.len()).sum::<usize>().max(1) as f64;
    *clock = Instant::now();
    for run in reports.iter().flat_map(|report| &report.runs) {
        let (stack, index) = run.at;
        progress[stack][index].train_seconds += share;
        progress[stack][index].tokens += run.tokens;
        logs[stack][index].step(run.entry)?;
    }
    if let Some(first) = reports.last().and_then(|report| report.runs.first()) {
        let (stack, index) = first.at;
        let cell = &slots[stack][index].cell.id;
        let taken = reports.iter().map(|report| report.runs.len()).sum();
        sink.event(&Event::Steps { taken, cell, steps, entry: first.entry });
    }
    Ok(())
}

/// Removes what an earlier run of another recipe has kept under the same names.
fn forget_snapshots(cells: &[&Cell], setting: &Setting<'_>) -> Result<(), TrainError> {
    for cell in cells {
        let path = setting.store.run_dir(&cell.id).join("snapshots");
        match std::fs::remove_dir_all(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(TrainError::Io { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

impl Log {
    /// Logs a step.
    pub fn step(&mut self, entry: record::StepEntry) -> Result<(), TrainError> {
        self.steps.push(entry);
        Ok(self.journal.append(&Entry::Step(entry))?)
    }

    /// Logs an evaluation.
    pub fn evaluation(&mut self, evaluation: Evaluation) -> Result<(), TrainError> {
        self.journal.append(&Entry::Evaluation(evaluation.clone()))?;
        self.evaluations.push(evaluation);
        Ok(())
    }
}

/// Opens every run's journal: afresh, or cut back to the checkpoint's step.
fn open_logs(slots: &[&[Slot]], folder: &Path, step: Option<u64>) -> Result<Vec<Vec<Log>>, TrainError> {
    let open = |slot: &Slot| -> Result<Log, TrainError> {
        let path: PathBuf = folder.join(format!("{}.jsonl", slot.cell.id.slug()));
        let empty = |journal| Log { steps: StepLog::default(), evaluations: Vec::new(), resumed: Vec::new(), journal };
        let Some(step) = step else { return Ok(empty(Journal::create(&path)?)) };
        let (journal, entries) = Journal::reopen(&path, step)?;
        let mut log = empty(journal);
        for entry in entries {
            match entry {
                Entry::Step(entry) => log.steps.push(entry),
                Entry::Evaluation(evaluation) => log.evaluations.push(evaluation),
                Entry::Resumed { step } => log.resumed.push(step),
            }
        }
        log.journal.append(&Entry::Resumed { step })?;
        log.resumed.push(step);
        Ok(log)
    };
    slots.iter().map(|stack| stack.iter().map(open).collect()).collect()
}
