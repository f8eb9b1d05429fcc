//! Calibration before training: the statistics that a composition's first values need of a run's first training batches.
//!
//! They are taken of the unadapted base, without dropout, over the micro-batches that the run's training begins with, and of each map that the
//! run adapts. Runs that share a base, its data and their order share them: each is taken once in a study and kept with the models.
//! A run that resumes, or starts from an adapter, has its first values from a file and is not calibrated.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use burn::tensor::Tensor;
use experiment::cell::{Cell, Recipe};
use models::{
    head::Outputs,
    network::{NamedParam, Network},
    tokens::Layout,
};
use record::sha256_hex;
use variants::{
    calibration::{Calibration, InputProbe, MapStatistic, MomentSums, RunStatistics, Statistic},
    host::{Placement, inner},
    pass::{Active, Pass},
    presets::head_only,
    role::Role,
    slot::{FirstValues, RunPlan, StackPlan},
};

use crate::{
    adapter,
    batch::{HostBatch, Padding, RunRows, Sampler, collate, forward},
    cohort::Stack,
    error::TrainError,
    model_cache::{ModelCache, TokenizedTask},
    stop::Stop,
    study::{context::StudyContext, run_state::RunState},
};

/// What a recipe's first values need of training batches.
fn asked(recipe: &Recipe) -> Option<Calibration> {
    let is_started = recipe.start_from.is_some();
    recipe.variant.delta.as_ref().filter(|_| !is_started)?.calibration()
}

/// The examples of micro-batch `micro`, without the rows that fill a batch up.
fn examples<'a>(sampler: &'a Sampler, micro: usize, recipe: &Recipe) -> RunRows<'a> {
    let mut rows = sampler.rows(micro as u64, recipe.train.batch);
    rows.rows.retain(Option::is_some);
    rows
}

/// Refuses a cell whose calibration batches have fewer tokens than an adapter of a linear map has components, before anything is trained.
pub fn check(cell: &Cell, task: &TokenizedTask, cache: &ModelCache) -> Result<(), TrainError> {
    let recipe = &cell.recipe;
    let Some(Calibration { statistic: Statistic::SecondMoment, batches }) = asked(recipe) else { return Ok(()) };
    let (plan, base) = (adapter::stack_plan(recipe, &cell.id, cache)?, cache.base_of(recipe)?);
    let sampler = Sampler::of_run(recipe, task);
    let tokens: u64 = (0..batches).map(|micro| examples(&sampler, micro, recipe).n_tokens()).sum();
    let mut adapted = base.backbone.linears().into_iter().filter(|map| plan.targets.contains(map.name()));
    adapted.try_for_each(|map| enough(map.name(), tokens, plan.rank(map.name()), batches))
}

/// Refuses a start with more directions than there are inputs.
fn enough(map: &str, inputs: u64, rank: usize, batches: usize) -> Result<(), TrainError> {
    if inputs >= rank as u64 {
        return Ok(());
    }
    Err(TrainError::Uncalibrated {
        reason: format!(
            "`{map}` sees {inputs} inputs in {batches} batches (`delta.batches`), which have no {rank} directions (its rank); give more batches \
             or a smaller rank"
        ),
    })
}

/// The statistics of every run of a stack; nothing where its composition needs none.
pub(crate) fn of_stack(
    stack: &Stack,
    context: &StudyContext<'_>,
) -> Result<Vec<Option<Arc<RunStatistics>>>, TrainError> {
    let of_run = |run: &RunState| statistics(&run.cell.recipe, &stack.plan, context.cache, context.stop);
    let all: Vec<_> = stack.runs.iter().map(of_run).collect::<Result<_, _>>()?;
    Ok(if all.iter().all(Option::is_none) { Vec::new() } else { all })
}

/// The statistics of a recipe's run, which adapts the maps of `plan`; none where its first values need none.
pub fn statistics(
    recipe: &Recipe,
    plan: &StackPlan,
    cache: &ModelCache,
    stop: Stop<'_>,
) -> Result<Option<Arc<RunStatistics>>, TrainError> {
    let Some(calibration) = asked(recipe) else { return Ok(None) };
    let task = cache.task(recipe)?;
    let run = Run { recipe, plan, calibration, task: &task, cache, stop };
    let taken = cache.calibration(&run.key()?, || run.take())?;
    // The ranks are not part of the key.
    for (map, (_, inputs)) in taken.iter().filter(|_| calibration.statistic == Statistic::SecondMoment) {
        enough(map, *inputs, plan.rank(map), calibration.batches)?;
    }
    let of_map = |(map, (statistic, _)): (&String, &(MapStatistic, u64))| (map.clone(), statistic.clone());
    Ok(Some(Arc::new(taken.iter().map(of_map).collect())))
}

/// `E[xᵀx]` of the inputs of these maps in a trained run's own network, over the micro-batches that its training began with and without
/// dropout.
pub fn trained_inputs(
    recipe: &Recipe,
    network: &Network,
    maps: &BTreeSet<String>,
    batches: usize,
    cache: &ModelCache,
) -> Result<Taken, TrainError> {
    let task = cache.task(recipe)?;
    let (sampler, token) = (Sampler::of_run(recipe, &task), cache.base_of(recipe)?.pad);
    let (maps, sums) = (Arc::new(maps.clone()), MomentSums::default());
    for micro in 0..batches {
        let padding = Padding { token, bucket: 1, at_least: 1 };
        let batch = collate(network, &[vec![examples(&sampler, micro, recipe)]], padding);
        show_inputs(network, &maps, &sums, batch);
    }
    Ok(sums.means())
}

/// The mean over single examples of the squared gradient in the merged weight of these maps of a trained run, `[d_in, d_out]`, over the
/// examples that its training began with: the diagonal of the empirical Fisher information, with the data's own labels.
pub fn trained_squared_gradients(
    recipe: &Recipe,
    trained: &mut Network,
    maps: &BTreeSet<String>,
    count: usize,
    cache: &ModelCache,
) -> Result<BTreeMap<String, MapStatistic>, TrainError> {
    let task = cache.task(recipe)?;
    let own = RunPlan { init_seed: recipe.seeds.init, alpha: recipe.variant.alpha };
    let head_only = head_only::spec(0).check(None);
    let head_only = head_only.unwrap_or_else(|_| unreachable!("the preset without adapters is valid"));
    // What the run trains of its base itself goes along, as it stands.
    let mut values: BTreeMap<String, Tensor<3>> = BTreeMap::new();
    let mut fully_trained = maps.clone();
    for NamedParam { slot, name, param } in trained.parameters(0) {
        if slot.is_empty() || matches!(param.role, Role::Weight | Role::Bias | Role::Norm) {
            values.insert(name, inner(&param.tensor));
            fully_trained.extend((!slot.is_empty()).then_some(slot));
        }
    }
    let plan = StackPlan { fully_trained, ..StackPlan::new(head_only, vec![own], BTreeSet::new()) };
    let outputs = Outputs { count: task.info.objective.n_outputs(), stored: &task.head };
    let mut network = cache.network_of(recipe, &[(plan, vec![outputs])])?;
    let merged = trained.backbone.linears().into_iter().filter(|map| maps.contains(map.name()));
    let merged: BTreeMap<&str, Tensor<3>> =
        merged.map(|map| (map.name(), inner(&map.weight(0, &Active::All)))).collect();
    for NamedParam { slot, name, mut param } in network.parameters(0) {
        let is_merged = param.role == Role::Weight && maps.contains(&slot);
        let value = if is_merged { merged.get(slot.as_str()).cloned() } else { values.remove(&name) };
        if let Some(value) = value {
            param.tensor.set(value);
        }
    }
    let (sampler, token) = (Sampler::of_run(recipe, &task), cache.base_of(recipe)?.pad);
    let mut sums: BTreeMap<String, Tensor<2>> = BTreeMap::new();
    let rows = (0..).flat_map(|micro| {
        let RunRows { rows, .. } = examples(&sampler, micro, recipe);
        rows.into_iter().flatten()
    });
    for example in rows.take(count) {
        let alone = RunRows::new(vec![example], 1, &task.info.objective);
        let padding = Padding { token, bucket: 1, at_least: 1 };
        let mut gradients = BTreeMap::new();
        let batch = collate(&network, &[vec![alone]], padding);
        add_gradients(&mut network, maps, batch, &mut gradients);
        for (map, gradient) in gradients {
            let square = gradient.square();
            let sum = match sums.remove(&map) {
                Some(earlier) => earlier + square,
                None => square,
            };
            sums.insert(map, sum);
        }
    }
    Ok(sums.into_iter().map(|(map, sum)| (map, MapStatistic::new(&(sum / count as f64)))).collect())
}

/// The statistics of a run by map, and how many inputs or batches each was taken over.
pub type Taken = BTreeMap<String, (MapStatistic, u64)>;

/// A run that is calibrated.
struct Run<'a> {
    recipe: &'a Recipe,
    plan: &'a StackPlan,
    calibration: Calibration,
    task: &'a TokenizedTask,
    cache: &'a ModelCache,
    stop: Stop<'a>,
}

impl Run<'_> {
    /// A hash of all that the statistics depend on.
    fn key(&self) -> Result<String, TrainError> {
        let Self { recipe, plan, calibration, task, .. } = self;
        let base = self.cache.base_of(recipe)?;
        let (train, seeds) = (&recipe.train, &recipe.seeds);
        let mut key = format!(
            "{calibration:?} {} {:?} {} {:?} {} {} {} {:?} {:?}",
            base.hash,
            base.backbone.place().base,
            task.hash,
            task.reading,
            train.batch,
            train.max_length,
            seeds.data,
            plan.targets,
            plan.fully_trained
        );
        if calibration.statistic == Statistic::WeightGradient {
            let _ = write!(key, " {} {:?}", seeds.init, task.info.objective); // of the head
        }
        if let Some(split) = Sampler::of_run(recipe, task).split {
            let _ = write!(key, " {split:?}");
        }
        Ok(sha256_hex(key.as_bytes()))
    }

    /// The statistics of the base with the run's head at its first values.
    fn take(&self) -> Result<Taken, TrainError> {
        let seed = self.recipe.seeds.init;
        let bare = bare(self.plan, RunPlan { init_seed: seed, ..self.plan.runs[0] }, self.calibration.statistic);
        let outputs = Outputs { count: self.task.info.objective.n_outputs(), stored: &self.task.head };
        let parts = [(bare, vec![outputs])];
        let mut network = self.cache.network_with(self.recipe, &parts, Some(FirstValues::Init))?;
        let (sampler, pad) = (Sampler::of_run(self.recipe, self.task), self.cache.base_of(self.recipe)?.pad);
        let batch = |network: &Network, micro: usize| {
            self.stop.check()?;
            // A batch that is at least one token long is never packed, so that every input has the shape of its rows.
            let padding = Padding { token: pad, bucket: 1, at_least: 1 };
            Ok(collate(network, &[vec![examples(&sampler, micro, self.recipe)]], padding))
        };
        let taken = take(self.calibration, &mut network, &self.plan.targets, &batch)?;
        for (map, (statistic, _)) in &taken {
            let (values, what) = (statistic.values(), self.calibration.statistic);
            let wrong = if values.iter().all(|value| *value == 0.0) {
                "is 0, so that nothing of it can be decomposed; leave the map out of `targets`"
            } else if values.iter().any(|value| !value.is_finite()) {
                "is not finite, as the base's own outputs are not"
            } else {
                continue;
            };
            return Err(TrainError::Uncalibrated { reason: format!("`{map}`: {what} {wrong}") });
        }
        Ok(taken)
    }
}

/// A stack without adapters, of one run, on the base of which a statistic of the maps that `plan` adapts is taken. For gradients these maps have
/// a weight of the run's own.
pub fn bare(plan: &StackPlan, run: RunPlan, statistic: Statistic) -> StackPlan {
    let variant = head_only::spec(0).check(None);
    let variant = variant.unwrap_or_else(|_| unreachable!("the preset without adapters is valid"));
    let mut fully_trained = plan.fully_trained.clone();
    if statistic == Statistic::WeightGradient {
        fully_trained.extend(plan.targets.iter().cloned());
    }
    StackPlan { fully_trained, ..StackPlan::new(variant, vec![run], plan.targets.clone()) }
}

/// Takes a statistic of these maps of a network with a [`bare`] stack alone, over micro-batches without packed rows and without rows that
/// fill them up.
pub fn take(
    Calibration { statistic, batches }: Calibration,
    network: &mut Network,
    maps: &BTreeSet<String>,
    batch: &dyn Fn(&Network, usize) -> Result<HostBatch, TrainError>,
) -> Result<Taken, TrainError> {
    match statistic {
        Statistic::SecondMoment => {
            let (maps, sums) = (Arc::new(maps.clone()), MomentSums::default());
            for micro in 0..batches {
                show_inputs(network, &maps, &sums, batch(network, micro)?);
            }
            Ok(sums.means())
        }
        Statistic::WeightGradient => {
            let mut sums = BTreeMap::new();
            for micro in 0..batches {
                let batch = batch(network, micro)?;
                add_gradients(network, maps, batch, &mut sums);
            }
            let mean =
                |(map, sum): (String, Tensor<2>)| (map, (MapStatistic::new(&(sum / batches as f64)), batches as u64));
            Ok(sums.into_iter().map(mean).collect())
        }
    }
}

/// Shows the inputs of every map in one micro-batch to the sums.
fn show_inputs(network: &Network, maps: &Arc<BTreeSet<String>>, sums: &MomentSums, batch: HostBatch) {
    let place = network.backbone.place();
    let tokens = batch.n_tokens.iter().flatten().sum();
    let counted = real_tokens(&batch, place);
    let probe = InputProbe::new(Arc::clone(maps), sums.clone(), counted, tokens);
    let pass = Pass { inputs: Some(probe), ..Pass::evaluation(1) };
    let _ = forward::logits(network, &batch.upload(place), &pass);
}

/// 1 for every token of a batch that is not packed, 0 for padding, `[rows, seq]`.
pub(crate) fn real_tokens(batch: &HostBatch, place: &Placement) -> Tensor<2> {
    let Layout { rows, seq, last, .. } = &batch.arrays.tokens;
    // Right-padded rows: what lies behind a row's last token is padding.
    let ends: Vec<usize> = last.iter().map(|last| *last as usize % seq).collect();
    let of_row = |end: usize| (0..*seq).map(move |at| f64::from(u8::from(at <= end)));
    place.tensor(ends.into_iter().flat_map(of_row).collect(), [*rows, *seq])
}

/// Adds the gradient of one micro-batch's mean loss in the weight of every map to the sums.
fn add_gradients(
    network: &mut Network,
    maps: &BTreeSet<String>,
    batch: HostBatch,
    sums: &mut BTreeMap<String, Tensor<2>>,
) {
    network.track();
    let (pass, place) = (Pass::evaluation(1), network.backbone.place().clone());
    let loss = forward::losses(network, &batch.upload(&place), &pass).swap_remove(0);
    let mut gradients = loss.sum().backward();
    for NamedParam { slot, param, .. } in network.parameters(0) {
        let Some(gradient) = param.tensor.grad_remove(&mut gradients) else { continue };
        if param.role != Role::Weight || !maps.contains(&slot) {
            continue;
        }
        let [_, d_in, d_out] = gradient.dims();
        let gradient = gradient.reshape([d_in, d_out]);
        let sum = match sums.remove(&slot) {
            Some(earlier) => earlier + gradient,
            None => gradient,
        };
        sums.insert(slot, sum);
    }
    pass.audit.check().unwrap_or_else(|lost| unreachable!("{lost}"));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
mod tests;
