//! A cohort on disk: everything a killed run needs to go on to the same bits.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;
use models::network::{NamedParam, Network};
use record::{JournalMark, write_atomic};
use serde::{Deserialize, Serialize};
use variants::{host::inner, rank::RankPolicy, role::Role};

use crate::{
    cohort::Cohort,
    error::TrainError,
    guard::{BaseTensors, OwnTensors},
    step::{
        importance::is_observed,
        optimizer::{Moments, ParamSlice, slices},
    },
    study::run_state::{BestState, RunAt, RunState},
    tensor_file::{decode_own, encode},
};
use experiment::hyper::Select;

/// What a checkpoint says beside its tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    /// Name of the cohort, a hash of its recipes, data and base; earlier builds wrote none.
    #[serde(default)]
    cohort: Option<String>,
    step: u64,
    /// Whether the evaluations and snapshots that are due after this step are still to be made.
    owes: bool,
    /// Seconds since 1970 at the first step.
    started: u64,
    /// The frozen base.
    base: BaseTensors,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Name of the cohort, where the checkpoint has it.
    pub cohort: Option<String>,
    /// Seconds since 1970 at the first step.
    pub started: u64,
    /// Whether the evaluations and snapshots that are due after the cohort's step are still to be made.
    pub owes: bool,
    /// The frozen base, as it was at the first step.
    pub base: BaseTensors,
}

/// Writes a checkpoint, whole or not at all.
pub fn save(cohort: &mut Cohort, progress: Progress, path: &Path) -> Result<(), TrainError> {
    let Progress { cohort: name, started, owes, base } = progress;
    let mut tensors = Tensors::new();
    let mut counts = BTreeMap::new();
    for (index, stack) in cohort.stacks.iter().enumerate() {
        for NamedParam { name, param, .. } in cohort.network.parameters(index) {
            tensors.insert(format!("{index}/value/{name}"), inner(&param.tensor));
        }
        for (name, moments) in &stack.optimizer.moments() {
            tensors.insert(format!("{index}/first/{name}"), moments.first.clone());
            tensors.insert(format!("{index}/second/{name}"), moments.second.clone());
            counts.insert(format!("{index}/{name}"), moments.counts.clone());
        }
        let kept = stack.plan.variant.spec().rank_policy.averages();
        for (name, averages) in stack.importance.averages(&stack.plan.variant.spec().rank_policy, &stack.optimizer) {
            tensors.extend(kept.iter().zip(averages).map(|(of, average)| (format!("{index}/{of}/{name}"), average)));
        }
        for (run, state) in stack.runs.iter().enumerate() {
            for (name, tensor) in state.best.iter().flat_map(|best| &best.tensors) {
                tensors.insert(format!("{index}/best{run}/{name}"), tensor.clone());
            }
        }
    }
    let members = cohort.stacks.iter().map(|stack| stack.runs.iter().map(RunMeta::of).collect()).collect();
    let meta = serde_json::to_string(&Meta { cohort: name, step: cohort.step, owes, started, base, counts, members })
        .unwrap_or_else(|error| unreachable!("numbers and strings are JSON: {error}"));
    Ok(write_atomic(path, &encode(&tensors, "checkpoint", &meta)?)?)
}

/// Puts a checkpoint's state into a freshly built cohort of the same make-up. What does not fit it is
/// [damaged](assets::error::AssetError::Damaged).
pub fn load(cohort: &mut Cohort, path: &Path) -> Result<Progress, TrainError> {
    let damaged = |reason: String| TrainError::damaged(path.to_owned(), reason);
    let place = cohort.network.backbone.place().clone();
    let (mut tensors, text) = decode_own(path, "checkpoint", &place)?;
    let meta: Meta = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    let progress =
        Progress { cohort: meta.cohort.clone(), started: meta.started, owes: meta.owes, base: meta.base.clone() };
    put(cohort, meta, &mut tensors).map_err(damaged)?;
    match tensors.keys().next() {
        Some(extra) => Err(damaged(format!("`{extra}` belongs to nothing in this cohort"))),
        None => Ok(progress),
    }
}

/// Puts the state in, tensor by tensor, which are taken.
fn put(cohort: &mut Cohort, meta: Meta, tensors: &mut Tensors) -> Result<(), String> {
    if meta.step > cohort.total_steps() {
        return Err(format!("it is at step {}, but its runs have {}", meta.step, cohort.total_steps()));
    }
    cohort.step = meta.step;
    put_values(&mut cohort.network, tensors)?;
    put_moments(cohort, tensors, meta.counts)?;
    put_averages(cohort, tensors)?;
    let make_up = |cohort: &Cohort| cohort.stacks.iter().map(|stack| stack.runs.len()).collect::<Vec<_>>();
    if meta.members.iter().map(Vec::len).collect::<Vec<_>>() != make_up(cohort) {
        return Err("its runs are not those of this cohort".to_owned());
    }
    let members = meta.members.into_iter().flatten();
    cohort.addresses().into_iter().zip(members).try_for_each(|(at, meta)| meta.put(cohort, at, tensors))
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

    /// Brings a run where it was; the tensors of its best state are taken.
    fn put(self, cohort: &mut Cohort, at: RunAt, tensors: &mut Tensors) -> Result<(), String> {
        let slug = cohort.at(at).cell.id.slug();
        if slug != self.slug {
            return Err(format!("`{}` is not in this cohort", self.slug));
        }
        for slice in slices_of(cohort, at.stack).iter().filter(|slice| slice.meta.role == Role::Lambda) {
            let kept = self.kept.as_ref().and_then(|kept| kept.get(&slice.meta.slot));
            if kept.is_some_and(|kept| kept.len() != slice.len()) {
                return Err(format!("`{slug}` keeps other components of `{}` than it has", slice.meta.slot));
            }
        }
        let best = self.best.map(|(step, value)| {
            let tensors = best_tensors(cohort, at, tensors)?;
            Ok::<_, String>(BestState { step, value: f64::from_bits(value), tensors })
        });
        let best = best.transpose()?;
        let run = cohort.at_mut(at);
        run.active = self.active;
        run.failure = self.failure;
        run.kept = self.kept;
        run.best = best;
        run.stale = self.stale;
        run.train_seconds = self.train_seconds;
        run.eval_seconds = self.eval_seconds;
        run.tokens = self.tokens;
        run.log.resumes = self.journal;
        run.first = self.first;
        Ok(())
    }
}

/// The tensors of a run's best state; none where its recipe reports the last one.
fn best_tensors(cohort: &mut Cohort, at: RunAt, tensors: &mut Tensors) -> Result<Tensors, String> {
    if cohort.at(at).cell.recipe.train.select != Select::Best {
        return Ok(Tensors::new());
    }
    let one = |NamedParam { name, param, .. }: NamedParam<'_>| {
        let [_, rows, cols] = param.tensor.dims();
        let found = take(tensors, &format!("{}/best{}/{name}", at.stack, at.run), [1, rows, cols])?;
        Ok((name, found))
    };
    cohort.network.parameters(at.stack).into_iter().map(one).collect()
}

/// The tensor under a key, which has to have a shape.
fn take(tensors: &mut Tensors, key: &str, shape: [usize; 3]) -> Result<Tensor<3>, String> {
    let found = tensors.remove(key).ok_or_else(|| format!("`{key}` is missing"))?;
    if found.dims() == shape {
        Ok(found)
    } else {
        Err(format!("`{key}` is {:?}, but the run's is {shape:?}", found.dims()))
    }
}

/// Where the trained tensors of a stack will lie.
fn slices_of(cohort: &mut Cohort, index: usize) -> Vec<ParamSlice> {
    let stack = &cohort.stacks[index];
    let (roles, nested) = (stack.variant().spec().train.clone(), stack.is_nested(cohort.step));
    slices(cohort.network.parameters(index), &roles, nested)
}

/// Trained and frozen tensors of every stack.
fn put_values(network: &mut Network, tensors: &mut Tensors) -> Result<(), String> {
    for index in 0..network.stacks() {
        for NamedParam { name, mut param, .. } in network.parameters(index) {
            param.tensor.set(take(tensors, &format!("{index}/value/{name}"), param.tensor.dims())?);
        }
    }
    Ok(())
}

/// Adam's moments, and how many steps each has seen. Before the first step there are none.
fn put_moments(
    cohort: &mut Cohort,
    tensors: &mut Tensors,
    mut counts: BTreeMap<String, Vec<u64>>,
) -> Result<(), String> {
    for index in 0..cohort.stacks.len() {
        if cohort.step == 0 {
            break;
        }
        let runs = cohort.stacks[index].runs.len();
        for slice in slices_of(cohort, index) {
            let (name, [rows, cols]) = (&slice.name, slice.shape);
            let [first, second] =
                ["first", "second"].map(|of| take(tensors, &format!("{index}/{of}/{name}"), [runs, rows, cols]));
            let counts = counts.remove(&format!("{index}/{name}")).unwrap_or_default();
            if counts.len() != runs * slice.segments() {
                return Err(format!("`{index}/{name}` has {} counts, not {}", counts.len(), runs * slice.segments()));
            }
            let moments = Moments { first: first?, second: second?, counts };
            cohort.stacks[index].optimizer.restore(slice.name.clone(), moments);
        }
    }
    counts.keys().next().map_or(Ok(()), |key| Err(format!("`{key}` names nothing that trains in this cohort")))
}

/// The averages that rank policies keep: of everything that they observe, or of nothing before the first observation.
fn put_averages(cohort: &mut Cohort, tensors: &mut Tensors) -> Result<(), String> {
    for index in 0..cohort.stacks.len() {
        let policy = cohort.stacks[index].plan.variant.spec().rank_policy.clone();
        let kept = policy.averages();
        let is_kept = |key: &String| kept.iter().any(|of| key.starts_with(&format!("{index}/{of}/")));
        if !tensors.keys().any(is_kept) {
            continue;
        }
        let runs = cohort.stacks[index].runs.len();
        for slice in slices_of(cohort, index).iter().filter(|slice| is_observed(&policy, slice)) {
            let (name, [rows, cols]) = (&slice.name, slice.shape);
            let averages = kept.iter().map(|of| take(tensors, &format!("{index}/{of}/{name}"), [runs, rows, cols]));
            let averages = averages.collect::<Result<_, _>>()?;
            cohort.stacks[index].importance.restore(name.clone(), averages);
        }
    }
    Ok(())
}
