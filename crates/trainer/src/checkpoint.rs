//! A cohort on disk: everything a killed run needs to go on to the same bits.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;
use models::network::{NamedParam, Network};
use record::{JournalMark, write_atomic};
use serde::{Deserialize, Serialize};
use variants::{host::inner, rank::RankPolicy};

use crate::{
    cohort::{Cohort, Stack},
    error::TrainError,
    guard::OwnTensors,
    step::optimizer::Moments,
    study::run_state::{BestState, RunState},
    tensor_file::{decode, encode},
};

/// What a checkpoint says beside its tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    step: u64,
    /// Whether the evaluations and snapshots that are due after this step are still to be made.
    owes: bool,
    /// Seconds since 1970 at the first step.
    started: u64,
    counts: BTreeMap<String, Vec<u64>>,
    members: Vec<Vec<RunMeta>>,
}

/// What a checkpoint says of a run.
#[derive(Debug, Serialize, Deserialize)]
struct RunMeta {
    slug: String,
    active: bool,
    failure: Option<(u64, String)>,
    kept: Option<BTreeMap<String, Vec<bool>>>,
    /// Step and the bits of the value, which may be undefined.
    best: Option<(u64, u64)>,
    stale: u64,
    train_seconds: f64,
    eval_seconds: f64,
    tokens: u64,
    /// How its journal is; none in a cohort that keeps none.
    journal: Option<JournalMark>,
    first: OwnTensors,
}

/// Tensors by their keys in the file.
type Tensors = BTreeMap<String, Tensor<3>>;

/// Where the checkpoint of an unfinished cohort lies.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("checkpoint.safetensors")
}

/// What a checkpoint says of its cohort beside the state of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Seconds since 1970 at the first step.
    pub started: u64,
    /// Whether the evaluations and snapshots that are due after the cohort's step are still to be made.
    pub owes: bool,
}

/// Writes a checkpoint, whole or not at all.
pub fn save(cohort: &mut Cohort, progress: Progress, path: &Path) -> Result<(), TrainError> {
    let Progress { started, owes } = progress;
    let mut tensors = Tensors::new();
    let mut counts = BTreeMap::new();
    for (index, stack) in cohort.stacks.iter().enumerate() {
        for NamedParam { name, param, .. } in cohort.network.parameters(index) {
            tensors.insert(format!("{index}/value/{name}"), inner(param.tensor));
        }
        for (name, moments) in &stack.optimizer.moments() {
            tensors.insert(format!("{index}/first/{name}"), moments.first.clone());
            tensors.insert(format!("{index}/second/{name}"), moments.second.clone());
            counts.insert(format!("{index}/{name}"), moments.counts.clone());
        }
        let kept = stack.plan.variant.spec().rank_policy.averages();
        for (name, averages) in stack.importance.averages(&stack.optimizer) {
            tensors.extend(kept.iter().zip(averages).map(|(of, average)| (format!("{index}/{of}/{name}"), average)));
        }
        for (run, state) in stack.runs.iter().enumerate() {
            for (name, tensor) in state.best.iter().flat_map(|best| &best.tensors) {
                tensors.insert(format!("{index}/best{run}/{name}"), tensor.clone());
            }
        }
    }
    let members = cohort.stacks.iter().map(|stack| stack.runs.iter().map(RunMeta::of).collect()).collect();
    let meta = serde_json::to_string(&Meta { step: cohort.step, owes, started, counts, members })
        .unwrap_or_else(|error| unreachable!("numbers and strings are JSON: {error}"));
    Ok(write_atomic(path, &encode(&tensors, "checkpoint", &meta)?)?)
}

/// Puts a checkpoint's state into a freshly built cohort of the same make-up.
pub fn load(cohort: &mut Cohort, path: &Path) -> Result<Progress, TrainError> {
    let damaged = |reason: String| TrainError::damaged(path.to_owned(), reason);
    let place = cohort.network.backbone.place().clone();
    let (mut tensors, text) = decode(path, "checkpoint", &place)?;
    let meta: Meta = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    cohort.step = meta.step;
    put_values(&mut cohort.network, &mut tensors).map_err(damaged)?;
    put_moments(&mut cohort.stacks, &mut tensors, meta.counts).map_err(damaged)?;
    put_averages(&mut cohort.stacks, &mut tensors).map_err(damaged)?;
    for (index, metas) in meta.members.into_iter().enumerate() {
        for (run, meta) in metas.into_iter().enumerate() {
            let state = cohort.stacks.get_mut(index).and_then(|stack| stack.runs.get_mut(run));
            let state = state.filter(|state| state.cell.id.slug() == meta.slug);
            let state = state.ok_or_else(|| damaged(format!("`{}` is not in this cohort", meta.slug)))?;
            meta.put(state, &tensors, &format!("{index}/best{run}/"));
        }
    }
    Ok(Progress { started: meta.started, owes: meta.owes })
}

impl RunMeta {
    fn of(run: &RunState) -> Self {
        Self {
            slug: run.cell.id.slug(),
            active: run.active,
            failure: run.failure.clone(),
            kept: run.kept.clone(),
            best: run.best.as_ref().map(|best| (best.step, best.value.to_bits())),
            stale: run.stale,
            train_seconds: run.train_seconds,
            eval_seconds: run.eval_seconds,
            tokens: run.tokens,
            journal: run.log.mark(),
            first: run.first.clone(),
        }
    }

    /// Brings a run where it was; the tensors of its best state are those whose key begins with `prefix`.
    fn put(self, run: &mut RunState, tensors: &Tensors, prefix: &str) {
        let of_best =
            |(key, tensor): (&String, &Tensor<3>)| Some((key.strip_prefix(prefix)?.to_owned(), tensor.clone()));
        run.active = self.active;
        run.failure = self.failure;
        run.kept = self.kept;
        run.best = self.best.map(|(step, value)| BestState {
            step,
            value: f64::from_bits(value),
            tensors: tensors.iter().filter_map(of_best).collect(),
        });
        run.stale = self.stale;
        run.train_seconds = self.train_seconds;
        run.eval_seconds = self.eval_seconds;
        run.tokens = self.tokens;
        run.log.resumes = self.journal;
        run.first = self.first;
    }
}

fn take(tensors: &mut Tensors, key: &str) -> Result<Tensor<3>, String> {
    tensors.remove(key).ok_or_else(|| format!("`{key}` is missing"))
}

/// The stack that a key of the file names.
fn stack_of<'a>(stacks: &'a mut [Stack], index: &str, key: &str) -> Result<&'a mut Stack, String> {
    let stack = index.parse::<usize>().ok().and_then(|index| stacks.get_mut(index));
    stack.ok_or_else(|| format!("`{key}` names no stack of this cohort"))
}

/// Trained and frozen tensors of every stack.
fn put_values(network: &mut Network, tensors: &mut Tensors) -> Result<(), String> {
    for index in 0..network.stacks() {
        for NamedParam { name, param, .. } in network.parameters(index) {
            let value = take(tensors, &format!("{index}/value/{name}"))?;
            if value.dims() != param.tensor.dims() {
                return Err(format!("`{name}` is {:?}, but the run's is {:?}", value.dims(), param.tensor.dims()));
            }
            *param.tensor = value;
        }
    }
    Ok(())
}

/// Adam's moments, and how many steps each has seen.
fn put_moments(stacks: &mut [Stack], tensors: &mut Tensors, counts: BTreeMap<String, Vec<u64>>) -> Result<(), String> {
    for (key, counts) in counts {
        let (index, name) = key.split_once('/').ok_or_else(|| format!("`{key}` names no stack"))?;
        let stack = stack_of(stacks, index, &key)?;
        let first = take(tensors, &format!("{index}/first/{name}"))?;
        let second = take(tensors, &format!("{index}/second/{name}"))?;
        stack.optimizer.restore(name.to_owned(), Moments { first, second, counts });
    }
    Ok(())
}

/// The averages that rank policies keep.
fn put_averages(stacks: &mut [Stack], tensors: &mut Tensors) -> Result<(), String> {
    for (index, stack) in stacks.iter_mut().enumerate() {
        let kept = stack.plan.variant.spec().rank_policy.averages();
        let Some(first) = kept.first() else { continue };
        let prefix = format!("{index}/{first}/");
        let names: Vec<String> = tensors.keys().filter_map(|key| Some(key.strip_prefix(&prefix)?.to_owned())).collect();
        for name in names {
            let averages = kept.iter().map(|of| take(tensors, &format!("{index}/{of}/{name}")));
            let averages = averages.collect::<Result<_, _>>()?;
            stack.importance.restore(name, averages);
        }
    }
    Ok(())
}
