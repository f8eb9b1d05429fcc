//! The only place where `W0` meets an adapter.
//!
//! Forward, merge, restore and the dense weight derive from one definition of the variant, so they cannot
//! disagree. Laws (checked for every preset): `forward(x) = x·weight() + bias`; merging preserves outputs;
//! taking the stacks off restores the base bit for bit.

pub(crate) mod adapter;
mod batched;
mod forward;
mod fusion;

use burn::tensor::Tensor;

use self::{adapter::Adapter, fusion::Fusion};
use crate::{
    base::BiasSpec,
    base_update::Change,
    calibration::Calibration,
    combine::Combine,
    delta::{AnyDelta, Delta, DeltaSpec, Shared, Site},
    dropout,
    error::AttachError,
    form::{Experts, Factors, Form, Routed},
    host::{Placement, cast},
    pass::{Active, GateKey},
    penalty::Penalised,
    role::{Param, Role},
    slot::{FirstValues, StackPlan, copies},
};

/// A linear map of a frozen backbone with the adapters of every stack of a cohort.
#[derive(Clone, Debug)]
pub struct AdaptedLinear {
    name: String,
    site: u64,
    /// `W0`, `[d_in, d_out]`.
    weight: Tensor<2>,
    /// `[d_out]`
    bias: Option<Tensor<1>>,
    fusion: Option<Fusion>,
    stacks: Vec<LinearStack>,
}

/// What one stack has on one map.
#[derive(Clone, Debug)]
struct LinearStack {
    adapter: Option<Adapter>,
    /// Each run's own weight (`base: trained`, or the map named as trained in full), `[runs, d_in, d_out]`.
    weight: Option<Tensor<3>>,
    /// Each run's own bias, `[runs, 1, d_out]`.
    bias: Option<Tensor<3>>,
}

fn recipe(plan: &StackPlan) -> &DeltaSpec {
    plan.variant.spec().delta.as_ref().unwrap_or_else(|| unreachable!("only adapting variants come here"))
}

/// The update of one map in the form that leaves this crate.
#[derive(Clone, Debug)]
pub enum Canonical {
    /// `ΔW = W' − W0 = down·up`.
    LowRank(Factors),
    /// `W'` itself, `[runs, d_in, d_out]`, where the update is not low-rank.
    Dense(Tensor<3>),
}

impl AdaptedLinear {
    /// A frozen map, `weight` `[d_in, d_out]`.
    pub fn new(name: impl Into<String>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Self {
        let name = name.into();
        Self { site: dropout::site(&name), name, weight, bias, fusion: None, stacks: Vec::new() }
    }

    /// The same map as the fusion of `parts`, which are slots of their own.
    #[must_use]
    pub fn fusing(self, parts: &[String]) -> Self {
        Self { fusion: Some(Fusion::Fused(parts.to_vec())), ..self }
    }

    /// The part called `name` of this fused map: columns `from..to` of its weight and bias, one of `parts`.
    pub fn part(&self, name: impl Into<String>, parts: &[String], from: usize, to: usize) -> Self {
        let [d_in, _] = self.shape();
        let weight = self.weight.clone().slice([0..d_in, from..to]);
        let bias = self.bias.clone().map(|bias| bias.slice([from..to]));
        Self { fusion: Some(Fusion::Part(parts.to_vec())), ..Self::new(name, weight, bias) }
    }

    /// The fused map of `parts`, in their order, under this one's name: what merging into the parts makes of it.
    pub fn fused_from(&self, parts: &[Self]) -> Self {
        let weights = parts.iter().map(|part| part.weight.clone()).collect();
        let biases: Option<Vec<Tensor<1>>> = parts.iter().map(|part| part.bias.clone()).collect();
        Self {
            weight: Tensor::cat(weights, 1),
            bias: biases.map(|biases| Tensor::cat(biases, 0)),
            stacks: Vec::new(),
            ..self.clone()
        }
    }

    /// Stacks on this map.
    pub fn stacks(&self) -> usize {
        self.stacks.len()
    }

    /// Whether `stack` has anything of its own here.
    pub fn is_used(&self, stack: usize) -> bool {
        let LinearStack { adapter, weight, bias } = &self.stacks[stack];
        adapter.is_some() || weight.is_some() || bias.is_some()
    }

    /// Full name, as Hugging Face has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `[d_in, d_out]`.
    pub fn shape(&self) -> [usize; 2] {
        self.weight.dims()
    }

    /// The frozen weight and bias.
    pub fn base(&self) -> (Tensor<2>, Option<Tensor<1>>) {
        (self.weight.clone(), self.bias.clone())
    }

    /// Takes all stacks off; the base is as it was, bit for bit, because nothing ever wrote it.
    pub fn detach(&mut self) {
        self.stacks.clear();
    }

    pub(crate) fn attach(
        &mut self,
        plan: &StackPlan,
        widest: [usize; 2],
        place: &Placement,
        shared: &mut Shared,
    ) -> Result<(), AttachError> {
        let spec = plan.variant.spec();
        let runs = plan.runs.len();
        if self.fusion.as_ref().is_some_and(|fusion| !fusion.is_used(plan)) {
            self.stacks.push(LinearStack { adapter: None, weight: None, bias: None });
            return Ok(());
        }
        let targeted = plan.targets.contains(&self.name);
        let adapter = match &spec.delta {
            Some(_) if targeted => Some(self.adapter(plan, widest, place, shared)?),
            _ => None,
        };
        let trained = plan.trains_fully(&self.name);
        let own_bias = trained || spec.bias == BiasSpec::All || (spec.bias == BiasSpec::LoraOnly && targeted);
        self.stacks.push(LinearStack {
            adapter,
            weight: trained.then(|| copies(&self.weight, runs)),
            bias: self.bias.as_ref().filter(|_| own_bias).map(|bias| copies(bias, runs)),
        });
        Ok(())
    }

    fn adapter(
        &self,
        plan: &StackPlan,
        widest: [usize; 2],
        place: &Placement,
        shared: &mut Shared,
    ) -> Result<Adapter, AttachError> {
        let (shape @ [d_in, d_out], rank) = (self.shape(), plan.rank(&self.name));
        let recipe = recipe(plan);
        let max = d_in.min(d_out);
        if recipe.rank_bounded() && rank > max {
            return Err(AttachError::RankTooLarge { slot: self.name.clone(), d_in, d_out, max, rank });
        }
        if let Some(why) = recipe.misfit(rank, shape) {
            return Err(AttachError::Misfit { slot: self.name.clone(), d_in, d_out, why });
        }
        let delta = self.first_delta(plan, &self.name, widest, place, shared)?;
        Ok(Adapter::new(plan, &self.name, delta, &self.weight, place))
    }

    /// The delta of `plan` at its first values; `key` is that of its random draws.
    fn first_delta(
        &self,
        plan: &StackPlan,
        key: &str,
        widest: [usize; 2],
        place: &Placement,
        shared: &mut Shared,
    ) -> Result<AnyDelta, AttachError> {
        let (spec, rank) = (plan.variant.spec(), plan.rank(&self.name));
        let scales: Vec<f64> = plan.alphas(&self.name).into_iter().map(|alpha| spec.scaling.at(alpha, rank)).collect();
        let recipe = recipe(plan);
        let statistics = match recipe.calibration().filter(|_| plan.first_values == FirstValues::Init) {
            Some(Calibration { statistic, .. }) => plan.statistics(&self.name).ok_or_else(|| {
                AttachError::NotCalibrated { slot: self.name.clone(), statistic, delta: recipe.kind() }
            })?,
            None => Vec::new(),
        };
        Ok(recipe.init(&mut Site {
            slot: key,
            shape: self.shape(),
            weight: &self.weight,
            widest,
            rank,
            init: &spec.init,
            seeds: &plan.seeds(),
            scales: &scales,
            place,
            first_values: plan.first_values,
            statistics,
            shared,
        }))
    }

    /// What the delta of a run of `plan` begins anew at, by the names of its tensors, `[1, rows, cols]` each: other draws in every `round`.
    pub fn drawn_anew(
        &self,
        plan: &StackPlan,
        run: usize,
        round: u64,
        place: &Placement,
    ) -> Vec<(&'static str, Tensor<3>)> {
        let alone = StackPlan {
            runs: vec![plan.runs[run]],
            first_values: FirstValues::Init,
            calibrations: plan.calibrations.get(run).cloned().into_iter().collect(),
            ..plan.clone()
        };
        let key = format!("{} after restart {round}", self.name);
        let delta = self.first_delta(&alone, &key, self.shape(), place, &mut Shared::default());
        let mut delta = delta.unwrap_or_else(|error| unreachable!("it was drawn before: {error}"));
        delta.parameters().into_iter().map(|param| (param.name, param.tensor.clone())).collect()
    }

    /// Stores a stack's delta into what its runs have accumulated beside the base, as the change of each says.
    pub fn accumulate(&mut self, stack: usize, changes: &[Change]) {
        if let Some(adapter) = &mut self.stacks[stack].adapter {
            adapter.accumulate(changes, &self.weight);
        }
    }

    /// A stack's update at a scale of 1, where its runs accumulate a change beside the base: the delta and that change in one product.
    pub fn whole(&self, stack: usize) -> Option<Factors> {
        self.stacks[stack].adapter.as_ref()?.whole(&self.weight)
    }

    /// The factors of a stack's update at a scale of 1, those accumulated beside the base before the delta's own, `[runs, d_in, k]` and
    /// `[runs, k, d_out]`: what a run keeps that goes on beside both. None where the delta is not of low rank.
    pub fn kept(&self, stack: usize) -> Option<Factors> {
        self.stacks[stack].adapter.as_ref()?.kept(&self.weight)
    }

    /// What a penalty sees of a stack here.
    pub fn penalised(&self, stack: usize) -> Option<Penalised<'_>> {
        self.stacks[stack].adapter.as_ref().map(Adapter::penalised)
    }

    /// The tensors of one stack on this map.
    pub fn parameters(&mut self, stack: usize) -> Vec<Param<'_>> {
        let LinearStack { adapter, weight, bias } = &mut self.stacks[stack];
        let mut params = adapter.as_mut().map(Adapter::parameters).unwrap_or_default();
        params.extend(weight.as_mut().map(|t| Param::new("weight", Role::Weight, t)));
        params.extend(bias.as_mut().map(|t| Param::new("bias", Role::Bias, t)));
        params
    }

    /// What the gate of a pass holds here, `[runs, rank]` row-major, and what it depends on.
    pub fn gate(&self, stack: usize, active: &Active) -> Option<(GateKey, Vec<f64>)> {
        let adapter = self.stacks[stack].adapter.as_ref()?;
        Some((adapter.gate_key(), adapter.gate_values(active)))
    }

    /// What the gradient of `B` is multiplied by from the left before the optimizer, `[runs, rank, rank]`.
    pub fn preconditioner(&self, stack: usize) -> Option<Tensor<3>> {
        self.stacks[stack].adapter.as_ref()?.preconditioner()
    }

    /// What every component contributes to the size of a stack's delta here, `[runs, rank]`, where it has a diagonal.
    pub fn contributions(&self, stack: usize) -> Option<Tensor<2>> {
        self.stacks[stack].adapter.as_ref()?.contributions(&self.weight)
    }

    /// The delta of a stack here.
    pub fn delta(&self, stack: usize) -> Option<&AnyDelta> {
        self.stacks[stack].adapter.as_ref().map(|adapter| &adapter.delta)
    }

    /// A hash of the frozen tensors that a stack's adapter here draws from a seed and does not save.
    pub fn checksum(&self, stack: usize) -> Option<String> {
        self.stacks[stack].adapter.as_ref()?.delta.checksum()
    }

    /// What a stack's router here weighs its experts by, `[runs, n, experts]`, for rows `[runs, n, d_in]`; none where it has no router.
    pub fn router_weights(&self, stack: usize, x: &Tensor<3>) -> Option<Tensor<3>> {
        let routed = self.routed(stack, &Active::All)?;
        Some(match routed.experts {
            Experts::LowRank { .. } => routed.weights(x),
            Experts::Gains(_) => routed.weights(&x.clone().matmul(cast(&self.weight, x.dtype()).unsqueeze::<3>())),
        })
    }

    /// A stack's experts and their router here, where it has any.
    pub(crate) fn routed(&self, stack: usize, active: &Active) -> Option<Routed> {
        let adapter = self.stacks[stack].adapter.as_ref()?;
        match adapter.form(active, &self.weight) {
            Form::Routed(routed) => Some(routed),
            _ => None,
        }
    }

    /// Rank of a stack's update here.
    pub fn rank(&self, stack: usize) -> Option<usize> {
        Some(self.stacks[stack].adapter.as_ref()?.rank)
    }

    /// `α` of every run of a stack here.
    pub fn alphas(&self, stack: usize) -> Option<&[f64]> {
        Some(&self.stacks[stack].adapter.as_ref()?.alphas)
    }

    /// Whether training drops numbers of any adapter's input here.
    pub fn drops(&self) -> bool {
        self.stacks.iter().filter_map(|stack| stack.adapter.as_ref()).any(|adapter| adapter.dropout > 0.0)
    }

    /// Whether `stack` has an adapter here.
    pub fn is_adapted(&self, stack: usize) -> bool {
        self.stacks[stack].adapter.is_some()
    }

    /// `W'` of every run of a stack with `active` components, `[runs, d_in, d_out]`.
    pub fn weight(&self, stack: usize, active: &Active) -> Tensor<3> {
        let LinearStack { adapter, weight, .. } = &self.stacks[stack];
        match (weight, adapter) {
            (Some(weight), _) => weight.clone(),
            (None, Some(adapter)) => adapter.combine.weight(&self.weight, adapter.form(active, &self.weight)),
            (None, None) => self.weight.clone().unsqueeze::<3>(),
        }
    }

    /// `W0 + ΔW` of a stack before it is combined, `[runs, d_in, d_out]`.
    #[cfg(feature = "testing")]
    pub(crate) fn sum(&self, stack: usize, active: &Active) -> Tensor<3> {
        let base = self.weight.clone().unsqueeze::<3>();
        match &self.stacks[stack].adapter {
            Some(adapter) => base + adapter.form(active, &self.weight).dense(&self.weight),
            None => base,
        }
    }

    /// The part of `W'` that meets the input as it is where dropout changes the input of the rest, `[runs or 1, d_in, d_out]`.
    #[cfg(feature = "testing")]
    pub(crate) fn undropped(&self, stack: usize, active: &Active) -> Tensor<3> {
        match &self.stacks[stack].adapter {
            Some(adapter) => adapter.combine.undropped(&self.weight, &adapter.form(active, &self.weight)),
            None => self.weight.clone().unsqueeze::<3>(),
        }
    }

    /// The update of a stack in canonical form; `None` where it leaves the map as it is.
    pub fn canonical(&self, stack: usize, active: &Active) -> Option<Canonical> {
        let LinearStack { adapter, weight, .. } = &self.stacks[stack];
        match (weight, adapter) {
            (Some(weight), _) => Some(Canonical::Dense(weight.clone())),
            (None, Some(adapter)) => {
                let form = adapter.form(active, &self.weight);
                Some(match adapter.low_rank(&form) {
                    Some(factors) => Canonical::LowRank(factors),
                    None => Canonical::Dense(adapter.combine.weight(&self.weight, form)),
                })
            }
            (None, None) => None,
        }
    }

    /// Weight `[d_in, d_out]` and bias `[d_out]` of one run, as an unadapted map.
    pub fn merged(&self, stack: usize, run: usize, active: &Active) -> (Tensor<2>, Option<Tensor<1>>) {
        let weight = self.weight(stack, active);
        let [runs, d_in, d_out] = weight.dims();
        let run_of = if runs == 1 { 0 } else { run };
        let weight = weight.slice([run_of..run_of + 1]).reshape([d_in, d_out]);
        (cast(&weight, self.weight.dtype()), self.bias_of(stack, run, active))
    }

    /// The bias of one run, `[d_out]`.
    pub(crate) fn bias_of(&self, stack: usize, run: usize, active: &Active) -> Option<Tensor<1>> {
        let [_, d_out] = self.shape();
        let one = |of: Tensor<3>| of.slice([run..run + 1]).reshape([d_out]);
        let bias = match &self.stacks[stack].bias {
            Some(own) => Some(one(cast(own, self.weight.dtype()))),
            None => self.bias.clone(),
        };
        let gain = self.bias_gain(stack, active).map(|gain| cast(&one(gain), self.weight.dtype()));
        match (bias, gain) {
            (Some(bias), Some(gain)) => Some(bias * gain),
            (bias, _) => bias,
        }
    }

    /// What the bias of every run of a stack is multiplied by, `[runs, 1, d_out]`, where the method scales it and the map has one.
    pub fn bias_gain(&self, stack: usize, active: &Active) -> Option<Tensor<3>> {
        let LinearStack { adapter, weight, .. } = &self.stacks[stack];
        let adapter = adapter.as_ref().filter(|_| weight.is_none() && self.bias.is_some())?;
        adapter.bias_gain(&adapter.gate(active))
    }

    /// Replaces a stack's additive update by its best approximation at `rank`, or at the map's own where that is smaller.
    pub fn compress(&mut self, stack: usize, rank: usize) {
        if let Some(adapter) = &mut self.stacks[stack].adapter {
            adapter.compress(rank, &self.weight);
        }
    }

    /// An unadapted map with the update of one run folded in and no stacks.
    pub fn merge(&self, stack: usize, run: usize, active: &Active) -> Self {
        let (weight, bias) = self.merged(stack, run, active);
        Self { weight, bias, stacks: Vec::new(), ..self.clone() }
    }

    /// Leaves one run in the settings of the only stack's adapter.
    pub(crate) fn keep_run(&mut self, run: usize) {
        self.stacks.iter_mut().filter_map(|stack| stack.adapter.as_mut()).for_each(|adapter| adapter.keep_run(run));
    }

    /// The same map with one of its stacks alone.
    pub fn only(&self, stack: usize) -> Self {
        Self { stacks: vec![self.stacks[stack].clone()], ..self.clone() }
    }
}
