//! The training loop: a cohort from its first step, or its checkpoint, to its records.

use std::{path::Path, time::Instant};

use kernels::ops;
use record::CellId;

use crate::{
    adapter,
    checkpoint::{self, Progress},
    cohort::Cohort,
    error::TrainError,
    evaluate::early_stop::evaluate_due,
    footprint::Footprint,
    guard::{BaseGuard, BaseTensors, OwnTensors},
    records::{self, now},
    sink::{Event, Sink},
    snapshot,
    study::{
        context::StudyContext,
        plan::CohortPlan,
        run_state::{RunLog, RunState},
    },
};

/// Steps that may be under way on a device before the host reads their numbers.
const AHEAD: usize = 32;

/// Trains a cohort to its end and writes its records. Where somebody wants it to stop, everything is saved first, and it resumes from there.
pub fn train(plan: CohortPlan, folder: &Path, context: &StudyContext<'_>, sink: &dyn Sink) -> Result<(), TrainError> {
    let batches = plan.batches(context)?;
    let mut training = Training::begin(plan, folder, context, sink)?;
    if training.owes {
        training.pay()?;
    }
    while training.cohort.is_active() {
        if context.stop.is_asked() {
            training.flush_reports()?;
            training.save_checkpoint()?;
            return Err(TrainError::Interrupted);
        }
        training.cohort.enqueue(&batches);
        #[cfg(test)]
        tests::plant(&mut training.cohort);
        training.measure_first_step()?;
        if !training.is_due() {
            continue;
        }
        training.flush_reports()?;
        training.pay()?;
        if training.is_checkpoint_due() {
            training.base.check_in_passing(&training.cohort.network)?;
            training.write_checkpoint()?;
        }
        training.clock = Instant::now();
    }
    training.flush_reports()?;
    // The last evaluation may take long, and an interruption of it costs no step. The base is compared here for the last time.
    training.save_checkpoint()?;
    training.finish()
}

/// A cohort in training, and what the loop knows beside it.
struct Training<'a> {
    cohort: Cohort,
    /// The cohort's name.
    id: String,
    /// Seconds since 1970 at the first step.
    started: u64,
    /// Length of the longest run.
    steps: u64,
    /// Steps between checkpoints.
    checkpoint_every: u64,
    /// Steps that may be under way before the host reads their numbers.
    ahead: usize,
    /// Whether the evaluations and snapshots that are due after the cohort's step are still to be made.
    owes: bool,
    /// The frozen base, held to the first step.
    base: BaseGuard,
    /// Memory of the first step. A resumed cohort has its moments on the device already, so its first step tells nothing.
    footprint: Option<Footprint>,
    /// Since when steps have been counted into no run's training time.
    clock: Instant,
    folder: &'a Path,
    context: &'a StudyContext<'a>,
    sink: &'a dyn Sink,
}

impl<'a> Training<'a> {
    /// The cohort at its first step, or at that of the checkpoint in its folder.
    fn begin(
        plan: CohortPlan,
        folder: &'a Path,
        context: &'a StudyContext<'a>,
        sink: &'a dyn Sink,
    ) -> Result<Self, TrainError> {
        let (begun, id) = (now(), plan.id().to_owned());
        let checkpoint = checkpoint::path(folder);
        let resumes = checkpoint.is_file();
        let (mut cohort, Progress { started, owes, base, .. }) = if resumes {
            resume(plan, &checkpoint, context)?
        } else {
            let mut cohort = plan.build(context)?;
            context.still_has_it()?;
            cohort.runs().try_for_each(|run| forget(run, context))?;
            hash_first_values(&mut cohort);
            let base = BaseTensors::of(&cohort.network);
            (cohort, Progress { cohort: None, started: begun, owes: false, base })
        };
        let step = cohort.step;
        cohort.runs_mut().try_for_each(|run| open_log(run, folder, step))?;
        let device = &context.cache.place().device;
        let footprint = if resumes { None } else { Footprint::begin(device) };
        let steps = cohort.total_steps();
        let cells: Vec<CellId> = cohort.runs().map(|run| run.cell.id.clone()).collect();
        sink.event(&Event::Started { cells: &cells, step, steps });
        Ok(Self {
            checkpoint_every: cohort.stacks[0].runs[0].cell.recipe.train.checkpoint_every,
            ahead: if ops::writes_in_place(device) { AHEAD } else { 1 },
            clock: Instant::now(),
            cohort,
            id,
            started,
            owes,
            base: BaseGuard::new(base),
            steps,
            footprint,
            folder,
            context,
            sink,
        })
    }

    /// Reads what the first step took of the device's memory.
    fn measure_first_step(&mut self) -> Result<(), TrainError> {
        if !self.footprint.as_ref().is_some_and(Footprint::is_new) {
            return Ok(());
        }
        self.flush_reports()?;
        if let Some(footprint) = &mut self.footprint {
            footprint.stepped(self.cohort.gradient_bytes());
        }
        Ok(())
    }

    /// Whether the host has anything to do after the step that was just enqueued.
    fn is_due(&self) -> bool {
        let step = self.cohort.step;
        let of_run = |run: &RunState| run.evaluates_at(step) || run.saves_at(step);
        step.is_multiple_of(self.checkpoint_every)
            || step == self.steps
            || self.cohort.pending() >= self.ahead
            || self.cohort.runs().any(of_run)
    }

    fn is_checkpoint_due(&self) -> bool {
        self.cohort.step.is_multiple_of(self.checkpoint_every) && self.cohort.step < self.steps
    }

    /// Logs what the steps since the last time did, and shares the time that they took out among the runs.
    fn flush_reports(&mut self) -> Result<(), TrainError> {
        let reports = self.cohort.flush();
        let taken: usize = reports.iter().map(|report| report.runs.len()).sum();
        let share = self.clock.elapsed().as_secs_f64() / taken.max(1) as f64;
        self.clock = Instant::now();
        for report in reports.iter().flat_map(|report| &report.runs) {
            let run = self.cohort.at_mut(report.at);
            run.train_seconds += share;
            run.tokens += report.tokens;
            run.log.step(report.entry)?;
        }
        if let Some(first) = reports.last().and_then(|report| report.runs.first()) {
            let cell = &self.cohort.at(first.at).cell.id;
            self.sink.event(&Event::Steps { taken, cell, steps: self.steps, entry: first.entry });
        }
        Ok(())
    }

    /// Makes the snapshots and evaluations that are due after the step that was made. Where somebody wants it to stop, the checkpoint says
    /// that they are still to be made.
    fn pay(&mut self) -> Result<(), TrainError> {
        self.owes = true;
        snapshot::save_due(&self.cohort, self.context)?;
        match evaluate_due(&mut self.cohort, self.context, self.sink) {
            Err(TrainError::Interrupted) => {
                self.save_checkpoint()?;
                return Err(TrainError::Interrupted);
            }
            done => done?,
        }
        self.owes = false;
        Ok(())
    }

    /// Writes the checkpoint of runs whose base is what it was; of others none, since they would go on from it as if nothing were wrong.
    fn save_checkpoint(&mut self) -> Result<(), TrainError> {
        self.context.still_has_it()?;
        self.base.check(&self.cohort.network)?;
        self.write_checkpoint()
    }

    /// Writes the checkpoint, the journals first: a checkpoint names them valid up to its step.
    fn write_checkpoint(&mut self) -> Result<(), TrainError> {
        self.cohort.runs().try_for_each(|run| run.log.sync())?;
        let progress = Progress {
            cohort: Some(self.id.clone()),
            started: self.started,
            owes: self.owes,
            base: self.base.start().clone(),
        };
        checkpoint::save(&mut self.cohort, progress, &checkpoint::path(self.folder))
    }

    /// Writes the records and removes the folder of the unfinished cohort.
    fn finish(mut self) -> Result<(), TrainError> {
        self.cohort.memory = self.footprint.take().and_then(|footprint| footprint.read());
        records::write(&mut self.cohort, self.id, (self.started, self.folder), self.context, self.sink)?;
        // The list of members goes first: what a kill leaves then names nobody, and is cleared away by the next run.
        let gone =
            std::fs::remove_file(self.folder.join("members.json")).and_then(|()| std::fs::remove_dir_all(self.folder));
        match gone {
            // Whoever looked at it between the two took it for nobody's.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            gone => gone.map_err(|source| TrainError::io(self.folder.to_owned(), source)),
        }
    }
}

/// The cohort at the step of its checkpoint. The base was read anew, and has to be what it was at the first step.
fn resume(plan: CohortPlan, checkpoint: &Path, context: &StudyContext<'_>) -> Result<(Cohort, Progress), TrainError> {
    let id = plan.id().to_owned();
    let (cohort, progress) = plan.resume(checkpoint, context)?;
    if let Some(other) = progress.cohort.as_ref().filter(|name| **name != id) {
        return Err(TrainError::damaged(checkpoint, format!("it is of the cohort `{other}`, not of `{id}`")));
    }
    match progress.base.changed(&BaseTensors::of(&cohort.network)) {
        Some(name) => Err(TrainError::damaged(
            checkpoint,
            format!("`{name}` of the frozen base is not what it was at the first step"),
        )),
        None => Ok((cohort, progress)),
    }
}

/// Removes what an earlier training of a run's cell has kept.
fn forget(run: &RunState, context: &StudyContext<'_>) -> Result<(), TrainError> {
    snapshot::forget(&run.cell.id, context)?;
    adapter::forget(&run.cell.id, context.store)
}

/// Opens a run's journal: afresh, or cut back to where it was at the checkpoint of `step`.
fn open_log(run: &mut RunState, folder: &Path, step: u64) -> Result<(), TrainError> {
    let path = folder.join(format!("{}.jsonl", run.cell.id.slug()));
    run.log = match &run.log.resumes {
        Some(mark) => RunLog::resume(&path, mark, step)?,
        None if step == 0 => RunLog::create(&path)?,
        None => {
            return Err(TrainError::damaged(
                checkpoint::path(folder),
                format!("it says nothing of {}", path.display()),
            ));
        }
    };
    Ok(())
}

/// Hashes every run's tensors before its first step.
fn hash_first_values(cohort: &mut Cohort) {
    for at in cohort.addresses() {
        let roles = cohort.stacks[at.stack].variant().spec().train.clone();
        let first = OwnTensors::of(&mut cohort.network, [at.stack, at.run], None, &roles);
        cohort.at_mut(at).first = first;
    }
}

#[cfg(test)]
mod tests;
