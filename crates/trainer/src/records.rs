//! What a cohort's runs leave behind when they end: evaluations, adapters and records.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use data::metric::Metric;
use models::network::{NamedParam, Network};
use record::{
    ADAPTER, Best, CellId, Cohort as CohortRecord, FORMAT, Forgetting, Goal, Measured, PrimaryMetric, RunRecord,
    Status, create_directory, sha256_hex, spec_hash, write_through,
};
use variants::{
    host::{inner, values},
    rank::RankPolicy,
};

use crate::{
    adapter,
    cohort::Cohort,
    error::TrainError,
    evaluate::{
        batched::{self, EvalRequest},
        earlier,
        readout::{EvalResult, Evaluator},
        routing,
        score::Split,
        single,
    },
    guard::{self, OwnTensors},
    sink::{Event, Sink},
    study::{
        context::StudyContext,
        identity::spec_of,
        run_state::{BestState, RunAt, RunState},
    },
};
use experiment::hyper::Select;

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// What the records of a cohort have in common.
struct Closing<'a> {
    cohort: CohortRecord,
    started: u64,
    /// Of the unfinished cohort.
    folder: &'a Path,
    context: &'a StudyContext<'a>,
    sink: &'a dyn Sink,
}

/// What the runs of a stack have forgotten, by their place in it, with a run's share of the seconds that it took to measure.
type Forgotten = BTreeMap<usize, (Forgetting, f64)>;

/// How a run ended.
struct End {
    /// Its step: that of the last update, or of the state that is kept.
    step: u64,
    /// Step and reason, where it failed.
    failure: Option<(u64, String)>,
    /// Maps that train and have not moved, where others have.
    unmoved: Vec<String>,
}

/// Evaluates every run in all its readouts, saves its adapter and writes its record. `started` is when the first step was, `folder` that of the
/// unfinished cohort. Runs whose record another process has written, which then lost the cohort, are left as they are.
pub fn write(
    cohort: &mut Cohort,
    id: String,
    (started, folder): (u64, &Path),
    context: &StudyContext<'_>,
    sink: &dyn Sink,
) -> Result<(), TrainError> {
    let members = cohort.runs().map(|run| run.cell.id.slug()).collect();
    let memory = cohort.memory;
    let changes = cohort.changes.clone();
    let closing = Closing { cohort: CohortRecord { id, members, changes, memory }, started, folder, context, sink };
    for stack in 0..cohort.stacks.len() {
        let addresses = (0..cohort.stacks[stack].runs.len()).map(|run| RunAt { stack, run });
        let ends: Vec<End> = addresses.clone().map(|at| End::of(cohort, at)).collect();
        let (mut together, mut forgotten) = closing.evaluate_together(cohort, stack, &ends)?;
        for (at, end) in addresses.zip(ends) {
            context.still_has_it()?;
            if closing.has_ended(&cohort.at(at).cell.id) {
                sink.event(&Event::EndedElsewhere { cells: 1, steps: 0 });
                continue;
            }
            let mut left = closing.close(cohort, at, &end, together.remove(&at.run))?;
            if let Some((forgetting, seconds)) = forgotten.remove(&at.run) {
                left.measured.forgetting = Some(forgetting);
                left.measured.eval_seconds += seconds;
            }
            let record = closing.record_of(cohort.at_mut(at), end, left)?;
            context.store.write_from(&record, folder)?;
            sink.event(&Event::Finished { record: &record });
        }
    }
    Ok(())
}

impl RunState {
    /// The state that is reported, where it is not the last one.
    fn chosen(&self) -> Option<&BestState> {
        self.best.as_ref().filter(|_| self.cell.recipe.train.select == Select::Best)
    }
}

impl End {
    fn of(cohort: &mut Cohort, at: RunAt) -> Self {
        let run = &cohort.stacks[at.stack].runs[at.run];
        let step = run.chosen().map_or(run.log.steps.step().last().copied().unwrap_or(0), |best| best.step);
        // No later loss checks the last update.
        let (mut failure, mut unmoved) = (run.failure.clone(), Vec::new());
        if failure.is_none() {
            let name = first_non_finite(&mut cohort.network, at, run.chosen());
            let found = match name {
                Some(name) => Err(format!("`{name}` is not finite after the last update")),
                None => check_moves(cohort, at),
            };
            match found {
                Ok(maps) => unmoved = maps,
                Err(reason) => failure = Some((step, reason)),
            }
        }
        Self { step, failure, unmoved }
    }

    /// What is asked of the run at its end.
    fn request<'a>(&self, run: &'a RunState, index: usize) -> EvalRequest<'a> {
        let variant = &run.cell.recipe.variant;
        let mut splits: Vec<&Split> = run.task().splits.iter().map(AsRef::as_ref).collect();
        if run.chosen().is_some() {
            splits.extend(run.task().test.as_deref()); // the other splits chose the checkpoint
        }
        let readouts = run.cell.readouts(&variant.rank_policy.readouts(variant.rank));
        EvalRequest { run: index, step: self.step, chosen: run.chosen(), readouts, splits }
    }
}

/// The first of a run's tensors, as they are now or as `chosen`, that holds a number that is not finite.
fn first_non_finite(network: &mut Network, at: RunAt, chosen: Option<&BestState>) -> Option<String> {
    let is_finite = |named: &NamedParam<'_>| {
        let tensor = match chosen {
            Some(best) => inner(&best.tensors[&named.name]),
            None => inner(&named.param.tensor).slice([at.run..at.run + 1]),
        };
        values(&tensor).iter().all(|value| value.is_finite())
    };
    network.parameters(at.stack).into_iter().find(|named| !is_finite(named)).map(|named| named.name)
}

/// The maps of a run that train and have not moved; refused where none has, or where something frozen has.
///
/// A map whose rank policy ended it at rank 0 has no update left to judge, and a run without an update had no reason to move.
fn check_moves(cohort: &mut Cohort, at: RunAt) -> Result<Vec<String>, String> {
    let stack = &cohort.stacks[at.stack];
    let (run, roles) = (&stack.runs[at.run], &stack.variant().spec().train);
    let chosen = run.chosen().map(|best| &best.tensors);
    let now = OwnTensors::of(&mut cohort.network, [at.stack, at.run], chosen, roles);
    if let Some(map) = now.thawed(&run.first) {
        return Err(format!("a frozen tensor of `{map}` has changed"));
    }
    // A state that is kept was reached by the steps up to its own.
    let last = run.chosen().map_or(u64::MAX, |best| best.step);
    if !run.log.steps.iter().any(|entry| entry.step <= last && entry.learning_rate > 0.0) {
        return Ok(Vec::new());
    }
    let (unmoved, all) = now.unmoved(&run.first);
    if all > 0 && unmoved.len() == all {
        return Err(
            "no tensor that trains has moved: the learning rate is too small for the numbers' precision, or no gradient arrives"
                .to_owned(),
        );
    }
    let mut found = guard::zeros(&mut cohort.network, [at.stack, at.run], chosen, roles);
    found.extend(unmoved.into_iter().map(str::to_owned));
    let ranks = stack.final_ranks(at.run);
    found.retain(|map| ranks.get(map) != Some(&0));
    let name = |map: String| if map.is_empty() { "head".to_owned() } else { map };
    Ok(found.into_iter().map(name).collect())
}

/// What is left of a run beside its log.
struct Left {
    measured: Measured,
    /// SHA-256 of the adapter's file; none where the run failed.
    adapter_hash: Option<String>,
}

impl Closing<'_> {
    /// Whether a run of this very training has its record: a process before this one was stopped between two of a cohort's.
    fn has_ended(&self, cell: &CellId) -> bool {
        let Ok(Some(record)) = self.context.store.record(cell) else { return false };
        let is_of_this = record.cohort.id == self.cohort.id && record.started == self.started;
        let adapter = std::fs::read(self.context.store.adapter_path(cell));
        let is_whole = !record.is_finished() || adapter.is_ok_and(|bytes| adapter::differs(&bytes, &record).is_none());
        is_of_this && is_whole
    }

    /// Results of a stack's runs by their place in it, where they are evaluated in one pass, and what they have forgotten.
    fn evaluate_together(
        &self,
        cohort: &Cohort,
        stack: usize,
        ends: &[End],
    ) -> Result<(BTreeMap<usize, EvalResult>, Forgotten), TrainError> {
        let finite = ends.iter().zip(&cohort.stacks[stack].runs).enumerate();
        let finite = finite.filter(|(_, (end, _))| end.failure.is_none());
        let requests: Vec<EvalRequest<'_>> = finite.map(|(index, (end, run))| end.request(run, index)).collect();
        let results = batched::evaluate(cohort, stack, &requests, self.context)?;
        let clock = Instant::now();
        let forgotten = batched::forgetting(cohort, stack, &requests, self.context)?;
        let share = clock.elapsed().as_secs_f64() / requests.len().max(1) as f64;
        let forgotten = forgotten.into_iter().map(|(run, forgetting)| (run, (forgetting, share))).collect();
        Ok((requests.iter().map(|request| request.run).zip(results.into_iter().flatten()).collect(), forgotten))
    }

    /// Evaluates a run that did not fail, where `result` has not done so, saves its adapter, and measures both.
    fn close(&self, cohort: &mut Cohort, at: RunAt, end: &End, result: Option<EvalResult>) -> Result<Left, TrainError> {
        let clock = Instant::now();
        let run = cohort.at(at);
        let mut network = single::network(cohort, at, run.chosen());
        let mut measured = self.measure(cohort, at, &mut network);
        if end.failure.is_some() {
            adapter::forget(&run.cell.id, self.context.store)?;
            return Ok(Left { measured, adapter_hash: None });
        }
        let base = self.context.cache.base_of(&run.cell.recipe)?;
        let (recipe, task) = (run.cell.recipe.clone(), Arc::clone(run.task()));
        let evaluator = Evaluator { base: &base, plan: &recipe, task: &task, generates: true, stop: self.context.stop };
        let result = if let Some(result) = result {
            measured.eval_seconds += result.seconds;
            result
        } else {
            let request = end.request(run, at.run);
            evaluator.evaluate(&network, &request.splits, &request.readouts, request.step)?
        };
        let bare = variants::presets::head_only::spec(0)
            .check(None)
            .unwrap_or_else(|_| unreachable!("the preset without adapters is valid"));
        let run = cohort.at_mut(at);
        for evaluation in result.evaluations {
            self.sink.event(&Event::Evaluated { cell: &run.cell.id, evaluation: &evaluation });
            run.log.evaluation(evaluation)?;
        }
        if recipe.variant.unmergeable().is_none() {
            measured.merge_error = Some(evaluator.merge_error(&network, &bare, result.full_logits)?);
        } else {
            measured.routers = routing::of(&network, &task, base.pad, self.context.stop)?;
        }
        measured.earlier = earlier::of(&network, &cohort.at(at).cell, end.step, self.context)?;
        measured.eval_seconds += clock.elapsed().as_secs_f64();
        let run = cohort.at_mut(at);
        let bytes = self.save_adapter(run, &mut network)?;
        measured.adapter_bytes = bytes.len() as u64;
        Ok(Left { measured, adapter_hash: Some(sha256_hex(&bytes)) })
    }

    /// What training took; `network` has the run alone.
    fn measure(&self, cohort: &Cohort, at: RunAt, network: &mut Network) -> Measured {
        let run = cohort.at(at);
        let (trainable, head) = network.trained_parameters(0);
        Measured {
            trainable_params: trainable as u64,
            head_params: head as u64,
            train_seconds: run.train_seconds,
            eval_seconds: run.eval_seconds,
            seconds_per_step: run.train_seconds / run.log.steps.len().max(1) as f64,
            tokens_per_second: run.tokens as f64 / run.train_seconds.max(f64::MIN_POSITIVE),
            peak_memory_bytes: self.cohort.memory.map(|memory| memory.peak),
            final_ranks: cohort.stacks[at.stack].final_ranks(at.run),
            ..Measured::default()
        }
    }

    /// Saves the adapter of a run; returns the bytes of its file.
    fn save_adapter(&self, run: &RunState, network: &mut Network) -> Result<Vec<u8>, TrainError> {
        let folder = self.context.store.run_dir(&run.cell.id);
        create_directory(&folder)?;
        let metadata = adapter::metadata(run, network, self.context)?;
        let bytes = adapter::encode(&metadata, &adapter::tensors(network, 0, 0))?;
        write_through(self.folder, &folder.join(ADAPTER), &bytes)?;
        Ok(bytes)
    }

    /// The record of a run, which takes its log.
    fn record_of(&self, run: &mut RunState, end: End, left: Left) -> Result<RunRecord, TrainError> {
        let log = std::mem::take(&mut run.log);
        let (cell, task) = (&run.cell, run.task());
        let primary = task.info.primary();
        let (spec, seeds) = (spec_of(cell), &cell.recipe.seeds);
        let best = run.chosen().map(|best| Best { step: best.step, metric: primary.to_string(), value: best.value });
        Ok(RunRecord {
            format: FORMAT,
            cell: cell.id.clone(),
            status: match end.failure {
                None => Status::Finished,
                Some((step, reason)) => Status::Failed { step, reason },
            },
            spec_hash: spec_hash(&spec),
            spec,
            diff: cell.diff.clone(),
            seeds: [("init", seeds.init), ("data", seeds.data), ("dropout", seeds.dropout), ("rank", seeds.rank)]
                .into_iter()
                .chain(seeds.sample.map(|seed| ("sample", seed)))
                .map(|(name, seed)| (name.to_owned(), seed))
                .collect(),
            code: self.context.code.clone(),
            versions: self.context.versions.clone(),
            start: run.start.clone(),
            model_hash: self.context.cache.base_of(&cell.recipe)?.hash.clone(),
            data_hash: task.hash.clone(),
            reading_hash: task.reading.clone(),
            adapter_hash: left.adapter_hash,
            truncated: task.truncated.clone(),
            unmoved: end.unmoved,
            device: self.context.device.to_owned(),
            precision: cell.recipe.train.precision.name().to_owned(),
            cohort: self.cohort.clone(),
            primary_metric: PrimaryMetric { name: primary.to_string(), goal: goal(primary) },
            best,
            measured: left.measured,
            resumed_at: log.resumed,
            started: self.started,
            finished: now(),
            evaluations: log.evaluations,
            steps: log.steps.every(cell.recipe.train.log_every),
        })
    }
}

/// Which direction of a metric is better.
pub(crate) fn goal(metric: Metric) -> Goal {
    if metric.is_minimised() { Goal::Minimise } else { Goal::Maximise }
}
