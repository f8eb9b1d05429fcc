//! Evaluation on the way, and what a run leaves behind when it ends.

use std::{collections::BTreeMap, time::Instant};

use data::metric::Metric;
use models::network::{Named, Network};
use record::{
    Best, Cohort as CohortRecord, FORMAT, Goal, Measured, PrimaryMetric, Readout, RunRecord, Status, spec_hash,
};
use variants::{host::plain, pass::Active, rank::RankPolicy};

use crate::{
    adapter::{self, Card},
    cell::View,
    cohort::{Cohort, Member},
    error::TrainError,
    evaluate::Split,
    hyper::Select,
    readout::{Reader, merge_error},
    run::{Log, Slot, now},
    sink::{Event, Sink},
    state::{BestState, Progress},
    study::{Setting, spec_of},
};

/// The network with one run of one stack alone, its tensors as they are now or as `chosen`.
fn alone(
    cohort: &mut Cohort,
    slot: &Slot,
    at: (usize, usize),
    chosen: Option<&BestState>,
    setting: &Setting<'_>,
) -> Result<Network, TrainError> {
    let tensors = match chosen {
        Some(best) => best.tensors.clone(),
        None => adapter::tensors(&mut cohort.network, at.0, at.1),
    };
    let plan = adapter::stack_plan(&slot.cell.plan, &slot.cell.id, setting.library)?;
    let mut network =
        setting.library.network(&slot.cell.plan, &[(plan, vec![slot.task.info.objective.n_outputs()])])?;
    for Named { name, owned, .. } in network.owned(0) {
        let [_, rows, cols] = owned.tensor.dims();
        // A narrow head in a stack of wider ones has spare columns; they stay behind.
        *owned.tensor = plain(&tensors[&name]).slice([0..1, 0..rows, 0..cols]);
    }
    Ok(network)
}

fn card(slot: &Slot, model_hash: &str, network: &Network) -> Card {
    Card {
        drawn: adapter::drawn(network),
        cell: slot.cell.id.clone(),
        plan: slot.cell.plan.clone(),
        outputs: slot.task.info.objective.n_outputs(),
        model_hash: model_hash.to_owned(),
    }
}

/// Saves the adapters of runs whose recipe keeps them at this step, as `snapshots/<step>.safetensors` beside the record.
pub fn snapshots(cohort: &mut Cohort, slots: &[&[Slot]], setting: &Setting<'_>) -> Result<(), TrainError> {
    let step = cohort.step;
    for (stack, slots) in slots.iter().enumerate() {
        for (run, slot) in slots.iter().enumerate() {
            let due = slot.cell.plan.train.snapshot_every.is_some_and(|every| step.is_multiple_of(every));
            if !due || !cohort.stacks[stack].members[run].active {
                continue;
            }
            let mut network = alone(cohort, slot, (stack, run), None, setting)?;
            let folder = setting.store.run_dir(&slot.cell.id).join("snapshots");
            std::fs::create_dir_all(&folder).map_err(|source| TrainError::Io { path: folder.clone(), source })?;
            let card = card(slot, &setting.library.base_of(&slot.cell.plan)?.hash, &network);
            // Zeros in front, so that names sort by step.
            adapter::save(
                &folder.join(format!("{step:08}.safetensors")),
                &card,
                &adapter::tensors(&mut network, 0, 0),
            )?;
        }
    }
    Ok(())
}

/// Whether a run is to be evaluated or saved after the step that was just done.
pub fn is_due(cohort: &Cohort, slots: &[&[Slot]]) -> bool {
    let step = cohort.step;
    let of_run = |(slot, member): (&Slot, &Member)| {
        member.active
            && step <= slot.steps
            && (evaluates(slot, step)
                || slot.cell.plan.train.snapshot_every.is_some_and(|every| step.is_multiple_of(every)))
    };
    slots.iter().zip(&cohort.stacks).any(|(slots, stack)| slots.iter().zip(&stack.members).any(of_run))
}

/// Whether a run's recipe evaluates after a step.
fn evaluates(slot: &Slot, step: u64) -> bool {
    let train = &slot.cell.plan.train;
    let every = train.evaluate_every.map(|every| every.steps(train, slot.task.train.rows.len()));
    every.is_some_and(|every| step.is_multiple_of(every) || step == slot.steps)
}

/// The readout that selects checkpoints: every component in use.
fn whole(slot: &Slot) -> (Readout, View) {
    (Readout { label: slot.cell.id.variant.clone(), rank: slot.cell.id.rank }, View::Active(Active::All))
}

/// Evaluates runs whose turn it is, keeps the best state and stops runs that no longer improve.
pub fn select(
    cohort: &mut Cohort,
    slots: &[&[Slot]],
    progress: &mut [Vec<Progress>],
    logs: &mut [Vec<Log>],
    setting: &Setting<'_>,
    sink: &dyn Sink,
) -> Result<(), TrainError> {
    let step = cohort.step;
    for (stack, slots) in slots.iter().enumerate() {
        for (run, slot) in slots.iter().enumerate() {
            let train = &slot.cell.plan.train;
            let member = &mut cohort.stacks[stack].members[run];
            if !member.active {
                continue;
            }
            member.active = step < slot.steps;
            if !evaluates(slot, step) {
                continue;
            }
            let clock = Instant::now();
            let network = alone(cohort, slot, (stack, run), None, setting)?;
            let base = setting.library.base_of(&slot.cell.plan)?;
            let (readout, view) = whole(slot);
            let primary = slot.task.info.primary();
            // Generation takes as long as many steps; on the way it is done only where it decides.
            let reader =
                Reader { base: &base, plan: &slot.cell.plan, task: &slot.task, generates: primary.generates() };
            let found = reader.evaluate(&network, &[&slot.task.splits[0]], &readout, &view, step)?;
            let (minimised, primary) = (primary.is_minimised(), primary.to_string());
            let value = found[0].metrics[&primary];
            let progress = &mut progress[stack][run];
            let settled = step >= slot.cell.plan.variant.rank_policy.settled(slot.steps);
            if !settled {
                // Logged below, but neither selected nor counted: its ranks are not the ones asked for.
            } else if progress.best.as_ref().is_none_or(|best| better(value, best.value, minimised)) {
                let tensors = if train.select == Select::Best {
                    adapter::tensors(&mut cohort.network, stack, run)
                } else {
                    BTreeMap::new()
                };
                progress.best = Some(BestState { step, value, tensors });
                progress.stale = 0;
            } else {
                progress.stale += 1;
                let patient = train.patience.is_none_or(|patience| progress.stale < patience);
                cohort.stacks[stack].members[run].active &= patient;
            }
            progress.eval_seconds += clock.elapsed().as_secs_f64();
            for evaluation in found {
                sink.event(&Event::Evaluated { cell: &slot.cell.id, evaluation: &evaluation });
                logs[stack][run].evaluation(evaluation)?;
            }
        }
    }
    Ok(())
}

/// Whether a metric is better; anything beats a value that is undefined, and that beats nothing.
fn better(value: f64, than: f64, minimised: bool) -> bool {
    (if minimised { value < than } else { value > than }) || (than.is_nan() && !value.is_nan())
}

/// Reads every run out, saves its adapter and writes its record.
#[expect(clippy::too_many_arguments, reason = "everything a cohort knows at its end goes into its records")]
pub fn finish(
    cohort: &mut Cohort,
    id: &str,
    slots: &[&[Slot]],
    progress: &[Vec<Progress>],
    logs: Vec<Vec<Log>>,
    started: u64,
    setting: &Setting<'_>,
    sink: &dyn Sink,
) -> Result<(), TrainError> {
    let members: Vec<String> = slots.iter().flat_map(|s| s.iter()).map(|slot| slot.cell.id.slug()).collect();
    for (stack, (slots, logs)) in slots.iter().zip(logs).enumerate() {
        for (run, (slot, log)) in slots.iter().zip(logs).enumerate() {
            let cohort_record = CohortRecord { id: id.to_owned(), members: members.clone(), changes: Vec::new() };
            let record =
                close(cohort, slot, (stack, run), &progress[stack][run], log, started, cohort_record, setting, sink)?;
            setting.store.write(&record)?;
            sink.event(&Event::Finished { record: &record });
        }
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "one run's share of what `finish` knows")]
fn close(
    cohort: &mut Cohort,
    slot: &Slot,
    at: (usize, usize),
    progress: &Progress,
    mut log: Log,
    started: u64,
    cohort_record: CohortRecord,
    setting: &Setting<'_>,
    sink: &dyn Sink,
) -> Result<RunRecord, TrainError> {
    let (cell, task) = (&slot.cell, &slot.task);
    let base = setting.library.base_of(&cell.plan)?;
    let mut failure = cohort.stacks[at.0].members[at.1].failure.clone();
    let best = progress.best.as_ref().filter(|_| cell.plan.train.select == Select::Best);
    let step = best.map_or(log.steps.step().last().copied().unwrap_or(0), |best| best.step);
    let mut measured =
        Measured { train_seconds: progress.train_seconds, eval_seconds: progress.eval_seconds, ..Measured::default() };
    let (trainable, head) = {
        let mut network = alone(cohort, slot, at, None, setting)?;
        network.trained_parameters(0)
    };
    measured.trainable_params = trainable as u64;
    measured.head_params = head as u64;
    let steps_done = log.steps.len().max(1) as f64;
    measured.seconds_per_step = progress.train_seconds / steps_done;
    measured.tokens_per_second = progress.tokens as f64 / progress.train_seconds.max(f64::MIN_POSITIVE);
    measured.final_ranks = cohort.stacks[at.0].final_ranks(at.1);
    if failure.is_none() {
        // The last update is checked by no later loss.
        failure = adapter::broken(&mut alone(cohort, slot, at, best, setting)?)
            .map(|name| (step, format!("`{name}` is not finite after the last update")));
    }
    if failure.is_none() {
        let clock = Instant::now();
        let mut network = alone(cohort, slot, at, best, setting)?;
        let policy = &cell.plan.variant.rank_policy;
        let mut splits: Vec<&Split> = task.splits.iter().collect();
        if best.is_some() {
            splits.extend(&task.test); // the other splits chose the checkpoint
        }
        for (readout, view) in cell.readouts(&policy.readouts(cell.plan.variant.rank)) {
            let reader = Reader { base: &base, plan: &cell.plan, task, generates: true };
            for evaluation in reader.evaluate(&network, &splits, &readout, &view, step)? {
                sink.event(&Event::Evaluated { cell: &cell.id, evaluation: &evaluation });
                log.evaluation(evaluation)?;
            }
        }
        let bare = variants::presets::head_only::spec(0)
            .check(None)
            .unwrap_or_else(|_| unreachable!("the preset without adapters is valid"));
        measured.merge_error = Some(merge_error(&network, &bare, task, base.pad)?);
        measured.eval_seconds += clock.elapsed().as_secs_f64();
        let folder = setting.store.run_dir(&cell.id);
        std::fs::create_dir_all(&folder).map_err(|source| TrainError::Io { path: folder.clone(), source })?;
        let card = card(slot, &base.hash, &network);
        let tensors = adapter::tensors(&mut network, 0, 0);
        measured.adapter_bytes = adapter::save(&folder.join("adapter.safetensors"), &card, &tensors)?;
    }
    let primary = task.info.primary();
    let spec = spec_of(cell);
    let seeds = &cell.plan.seeds;
    Ok(RunRecord {
        format: FORMAT,
        cell: cell.id.clone(),
        status: failure.map_or(Status::Finished, |(step, reason)| Status::Failed { step, reason }),
        spec_hash: spec_hash(&spec),
        spec,
        diff: cell.diff.clone(),
        seeds: [("init", seeds.init), ("data", seeds.data), ("dropout", seeds.dropout), ("rank", seeds.rank)]
            .map(|(name, seed)| (name.to_owned(), seed))
            .into(),
        code: setting.code.clone(),
        versions: setting.versions.clone(),
        start: slot.start.clone(),
        model_hash: base.hash.clone(),
        data_hash: task.hash.clone(),
        device: setting.device.to_owned(),
        precision: cell.plan.train.precision.name().to_owned(),
        cohort: cohort_record,
        primary_metric: PrimaryMetric { name: primary.to_string(), goal: goal(primary) },
        best: best.map(|best| Best { step: best.step, metric: primary.to_string(), value: best.value }),
        measured,
        resumed_at: log.resumed,
        started,
        finished: now(),
        evaluations: log.evaluations,
        steps: log.steps,
    })
}

fn goal(metric: Metric) -> Goal {
    if metric.is_minimised() { Goal::Minimise } else { Goal::Maximise }
}
