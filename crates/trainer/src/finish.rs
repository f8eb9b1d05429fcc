//! Evaluation on the way, and what a run leaves behind when it ends.

use std::{collections::BTreeMap, time::Instant};

use data::metric::Metric;
use models::network::{NamedParam, Network};
use record::{
    Best, Cohort as CohortRecord, FORMAT, Goal, Measured, PrimaryMetric, Readout, RunRecord, Status, spec_hash,
};
use variants::{
    host::{inner, values},
    pass::Active,
    rank::RankPolicy,
};

use crate::{
    adapter::{self, Card},
    cell::View,
    cohort::{Cohort, Member},
    company::{self, Request},
    error::TrainError,
    evaluate::Split,
    hyper::Select,
    readout::{Answer, Reader, merge_error},
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
    for NamedParam { name, param, .. } in network.parameters(0) {
        let [_, rows, cols] = param.tensor.dims();
        // A narrow head in a stack of wider ones has spare columns; they stay behind.
        *param.tensor = inner(&tensors[&name]).slice([0..1, 0..rows, 0..cols]);
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
        let mut requests = Vec::new();
        for (run, slot) in slots.iter().enumerate() {
            let member = &mut cohort.stacks[stack].members[run];
            if !member.active {
                continue;
            }
            member.active = step < slot.steps;
            if evaluates(slot, step) {
                let (readouts, splits) = (vec![whole(slot)], vec![&slot.task.splits[0]]);
                requests.push(Request { run, step, chosen: None, readouts, splits });
            }
        }
        let together = company::answers(cohort, stack, slots, &requests, setting)?;
        let mut together = together.map(Vec::into_iter);
        for request in &requests {
            let slot = &slots[request.run];
            let answer = match together.as_mut().and_then(Iterator::next) {
                Some(answer) => answer,
                None => on_the_way(cohort, slot, stack, request, setting)?,
            };
            let (progress, log) = (&mut progress[stack][request.run], &mut logs[stack][request.run]);
            weigh(cohort, slot, (stack, request.run), &answer, progress);
            for evaluation in answer.evaluations {
                sink.event(&Event::Evaluated { cell: &slot.cell.id, evaluation: &evaluation });
                log.evaluation(evaluation)?;
            }
        }
    }
    Ok(())
}

/// One run's evaluation in training, alone.
fn on_the_way(
    cohort: &mut Cohort,
    slot: &Slot,
    stack: usize,
    request: &Request<'_>,
    setting: &Setting<'_>,
) -> Result<Answer, TrainError> {
    let clock = Instant::now();
    let network = alone(cohort, slot, (stack, request.run), None, setting)?;
    let base = setting.library.base_of(&slot.cell.plan)?;
    // Generation takes as long as many steps; on the way it is done only where it decides.
    let generates = slot.task.info.primary().generates();
    let reader = Reader { base: &base, plan: &slot.cell.plan, task: &slot.task, generates };
    let answer = reader.answer(&network, &request.splits, &request.readouts, request.step)?;
    Ok(Answer { seconds: clock.elapsed().as_secs_f64(), ..answer })
}

/// Keeps a run's state where an evaluation is its best so far, and stops a run that no longer improves.
fn weigh(cohort: &mut Cohort, slot: &Slot, at: (usize, usize), answer: &Answer, progress: &mut Progress) {
    let (train, step) = (&slot.cell.plan.train, cohort.step);
    let primary = slot.task.info.primary();
    let value = answer.evaluations[0].metrics[&primary.to_string()];
    progress.eval_seconds += answer.seconds;
    if step < slot.cell.plan.variant.rank_policy.settled(slot.steps) {
        // Logged, but neither selected nor counted: its ranks are not the ones asked for.
    } else if progress.best.as_ref().is_none_or(|best| better(value, best.value, primary.is_minimised())) {
        let tensors = if train.select == Select::Best {
            adapter::tensors(&mut cohort.network, at.0, at.1)
        } else {
            BTreeMap::new()
        };
        progress.best = Some(BestState { step, value, tensors });
        progress.stale = 0;
    } else {
        progress.stale += 1;
        let patient = train.patience.is_none_or(|patience| progress.stale < patience);
        cohort.stacks[at.0].members[at.1].active &= patient;
    }
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
        let ends: Vec<End<'_>> = slots
            .iter()
            .zip(&logs)
            .enumerate()
            .map(|(run, (slot, log))| End::of(cohort, slot, (stack, run), log, &progress[stack][run]))
            .collect();
        let finite = ends.iter().enumerate().filter(|(_, end)| end.failure.is_none());
        let requests: Vec<Request<'_>> = finite.map(|(run, end)| end.request(&slots[run], run)).collect();
        let together = company::answers(cohort, stack, slots, &requests, setting)?;
        let asked = requests.iter().map(|request| request.run);
        let mut together: BTreeMap<usize, Answer> = asked.zip(together.into_iter().flatten()).collect();
        for (run, ((slot, log), end)) in slots.iter().zip(logs).zip(ends).enumerate() {
            let cohort_record = CohortRecord {
                id: id.to_owned(),
                members: members.clone(),
                changes: Vec::new(),
                memory: cohort.memory,
            };
            let answer = together.remove(&run);
            let (at, progress) = ((stack, run), &progress[stack][run]);
            let record = close(cohort, slot, at, &end, answer, progress, log, started, cohort_record, setting, sink)?;
            setting.store.write(&record)?;
            sink.event(&Event::Finished { record: &record });
        }
    }
    Ok(())
}

/// How a run ended.
struct End<'a> {
    /// The state that is kept, where it is not the last one.
    best: Option<&'a BestState>,
    /// Its step.
    step: u64,
    /// Step and reason, where it failed.
    failure: Option<(u64, String)>,
}

impl<'a> End<'a> {
    fn of(cohort: &mut Cohort, slot: &Slot, at: (usize, usize), log: &Log, progress: &'a Progress) -> Self {
        let best = progress.best.as_ref().filter(|_| slot.cell.plan.train.select == Select::Best);
        let step = best.map_or(log.steps.step().last().copied().unwrap_or(0), |best| best.step);
        let failed = cohort.stacks[at.0].members[at.1].failure.clone();
        // The last update is checked by no later loss.
        let failure = failed.or_else(|| {
            let name = broken(&mut cohort.network, at, best)?;
            Some((step, format!("`{name}` is not finite after the last update")))
        });
        Self { best, step, failure }
    }

    /// What is asked of it at its end.
    fn request(&self, slot: &'a Slot, run: usize) -> Request<'a> {
        let variant = &slot.cell.plan.variant;
        let mut splits: Vec<&Split> = slot.task.splits.iter().collect();
        if self.best.is_some() {
            splits.extend(&slot.task.test); // the other splits chose the checkpoint
        }
        let readouts = slot.cell.readouts(&variant.rank_policy.readouts(variant.rank));
        Request { run, step: self.step, chosen: self.best, readouts, splits }
    }
}

/// The first of a run's tensors, as they are now or as `chosen`, that holds a number that is not finite.
fn broken(network: &mut Network, at: (usize, usize), chosen: Option<&BestState>) -> Option<String> {
    let finite = |named: &NamedParam<'_>| {
        let tensor = match chosen {
            Some(best) => inner(&best.tensors[&named.name]),
            None => inner(named.param.tensor).slice([at.1..at.1 + 1]),
        };
        values(&tensor).iter().all(|value| value.is_finite())
    };
    network.parameters(at.0).into_iter().find(|named| !finite(named)).map(|named| named.name)
}

#[expect(clippy::too_many_arguments, reason = "one run's share of what `finish` knows")]
fn close(
    cohort: &mut Cohort,
    slot: &Slot,
    at: (usize, usize),
    end: &End<'_>,
    answer: Option<Answer>,
    progress: &Progress,
    mut log: Log,
    started: u64,
    cohort_record: CohortRecord,
    setting: &Setting<'_>,
    sink: &dyn Sink,
) -> Result<RunRecord, TrainError> {
    let (cell, task) = (&slot.cell, &slot.task);
    let base = setting.library.base_of(&cell.plan)?;
    let End { best, failure, .. } = end;
    let mut measured =
        Measured { train_seconds: progress.train_seconds, eval_seconds: progress.eval_seconds, ..Measured::default() };
    let clock = Instant::now();
    let mut network = alone(cohort, slot, at, *best, setting)?;
    let (trainable, head) = network.trained_parameters(0);
    measured.trainable_params = trainable as u64;
    measured.head_params = head as u64;
    let steps_done = log.steps.len().max(1) as f64;
    measured.seconds_per_step = progress.train_seconds / steps_done;
    measured.tokens_per_second = progress.tokens as f64 / progress.train_seconds.max(f64::MIN_POSITIVE);
    measured.peak_memory_bytes = cohort_record.memory.map(|memory| memory.peak);
    measured.final_ranks = cohort.stacks[at.0].final_ranks(at.1);
    if failure.is_none() {
        let answer = if let Some(answer) = answer {
            measured.eval_seconds += answer.seconds;
            answer
        } else {
            let reader = Reader { base: &base, plan: &cell.plan, task, generates: true };
            let Request { step, readouts, splits, .. } = end.request(slot, at.1);
            reader.answer(&network, &splits, &readouts, step)?
        };
        for evaluation in answer.evaluations {
            sink.event(&Event::Evaluated { cell: &cell.id, evaluation: &evaluation });
            log.evaluation(evaluation)?;
        }
        let bare = variants::presets::head_only::spec(0)
            .check(None)
            .unwrap_or_else(|_| unreachable!("the preset without adapters is valid"));
        measured.merge_error = Some(merge_error(&network, &bare, task, base.pad, answer.whole)?);
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
        status: match failure {
            None => Status::Finished,
            Some((step, reason)) => Status::Failed { step: *step, reason: reason.clone() },
        },
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
