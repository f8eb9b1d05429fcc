//! The only place where `W0` meets an adapter.
//!
//! Forward, merge, restore and the dense weight derive from one definition of the variant, so they cannot
//! disagree. Laws (checked for every preset): `forward(x) = x·weight() + bias`; merging preserves outputs;
//! taking the stacks off restores the base bit for bit.

mod batched;

use std::sync::OnceLock;

use burn::tensor::Tensor;
use kernels::ops::{self, Dropout, SharedInputGrad};

use self::batched::BatchedAdapters;
use crate::{
    base::BiasSpec,
    combine::{AnyCombine, Combine, MapForward},
    compress,
    delta::{AnyDelta, Delta, Factors, Shared, Site},
    dropout,
    error::AttachError,
    gradient::GradientSpec,
    host::{Placement, cast},
    orthogonality::Factor,
    pass::{Active, GateKey, Pass, StackPass, gate, gate_values},
    role::{Param, Role},
    scaling::Scaling,
    slot::{StackPlan, copies},
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

/// How a map that computes several in one (GPT-2's query, key and value) relates to slots for each of them.
///
/// A stack uses the parts if it adapts or trains one of them, and the fused map otherwise: all that it adapts or copies is on one side.
#[derive(Clone, Debug)]
enum Fusion {
    /// The fused map, with the names of its parts.
    Fused(Vec<String>),
    /// A part, with the names of all parts.
    Part(Vec<String>),
}

impl Fusion {
    /// Whether a stack with this plan uses the slot.
    fn is_used(&self, plan: &StackPlan) -> bool {
        let named = |part: &String| plan.targets.contains(part) || plan.fully_trained.contains(part);
        let divided = |parts: &[String]| parts.iter().any(named);
        match self {
            Self::Fused(parts) => !divided(parts),
            Self::Part(parts) => divided(parts),
        }
    }
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

/// A delta, its scale and how it meets the base.
#[derive(Clone, Debug)]
pub struct Adapter {
    delta: AnyDelta,
    combine: AnyCombine,
    /// Whether `W' − W0` is the delta itself.
    additive: bool,
    scaling: Scaling,
    rank: usize,
    alphas: Vec<f64>,
    dropout: f64,
    /// The gate with every component active, `[runs, 1, rank]`.
    full_gate: Tensor<3>,
    gradient: GradientSpec,
    /// Left factor of the gradient of `B`, `[runs, rank, rank]`: made at its first use, when `A` has the value it keeps. A warm start
    /// or an imported adapter replaces the `A` that was drawn.
    preconditioner: OnceLock<Option<Tensor<3>>>,
    place: Placement,
}

/// The update of one map in the form that leaves this crate.
#[derive(Clone, Debug)]
pub enum Canonical {
    /// `ΔW = W' − W0 = down·up`.
    LowRank(Factors),
    /// `W'` itself, `[runs, d_in, d_out]`, where the update is not low-rank.
    Dense(Tensor<3>),
}

impl LinearStack {
    /// Whether its output is the base's, bias and all, plus an update: the base's own bias may come with the product.
    fn adds(&self) -> bool {
        self.weight.is_none() && self.bias.is_none() && self.adapter.as_ref().is_none_or(|adapter| adapter.additive)
    }
}

impl Adapter {
    fn gate(&self, active: &Active) -> Tensor<3> {
        match active {
            Active::All => self.full_gate.clone(),
            _ => self.place.tensor(self.gate_values(active), [self.alphas.len(), 1, self.rank]),
        }
    }

    /// The gate of a pass, which may be on the device already.
    fn gate_of(&self, pass: &StackPass) -> Tensor<3> {
        pass.gates.get(&self.gate_key()).cloned().unwrap_or_else(|| self.gate(&pass.active))
    }

    fn gate_key(&self) -> GateKey {
        (self.rank, self.alphas.iter().map(|alpha| alpha.to_bits()).collect())
    }

    fn gate_values(&self, active: &Active) -> Vec<f64> {
        gate_values(active, self.rank, &|run, b| self.scaling.at(self.alphas[run], b), self.alphas.len())
    }

    /// Thin factors of a pass, in the width they train in.
    fn row_factors(&self, pass: &StackPass) -> Factors {
        self.delta.chain(&self.gate_of(pass)).row_factors()
    }

    fn left_factor(&self) -> Option<Tensor<3>> {
        let scales: Vec<f64> = self.alphas.iter().map(|alpha| self.scaling.at(*alpha, self.rank)).collect();
        let mut delta = self.delta.clone();
        let a = delta.parameters().into_iter().find(|param| param.role == Role::A)?;
        self.gradient.preconditioner(a.tensor, &scales, &self.place)
    }

    fn parameters(&mut self) -> Vec<Param<'_>> {
        let mut params = self.delta.parameters();
        params.extend(self.combine.parameters());
        params
    }
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
        let spec = plan.variant.spec();
        let (shape @ [d_in, d_out], rank) = (self.shape(), plan.rank(&self.name));
        let recipe = spec.delta.as_ref().unwrap_or_else(|| unreachable!("only adapting variants come here"));
        let max = d_in.min(d_out);
        if recipe.rank_bounded() && rank > max {
            return Err(AttachError::RankTooLarge { slot: self.name.clone(), d_in, d_out, max, rank });
        }
        let (seeds, alphas) = (plan.seeds(), plan.alphas(&self.name));
        let scales: Vec<f64> = alphas.iter().map(|alpha| spec.scaling.at(*alpha, rank)).collect();
        let delta = recipe.init(&mut Site {
            slot: &self.name,
            shape,
            weight: &self.weight,
            widest,
            rank,
            init: &spec.init,
            seeds: &seeds,
            scales: &scales,
            place,
            shared,
        });
        let full_gate = gate(&Active::All, rank, &|run, _| scales[run], alphas.len(), place);
        let combine = spec.combine.init(&self.weight, delta.factors(&full_gate), place);
        Ok(Adapter {
            delta,
            combine,
            additive: spec.combine.is_additive(),
            scaling: spec.scaling,
            rank,
            alphas,
            dropout: spec.dropout,
            full_gate,
            gradient: spec.gradient,
            preconditioner: OnceLock::new(),
            place: place.clone(),
        })
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
        let adapter = self.stacks[stack].adapter.as_ref()?;
        adapter.preconditioner.get_or_init(|| adapter.left_factor()).clone()
    }

    /// The factors of a stack here whose components are to be orthonormal.
    pub fn orthonormal(&self, stack: usize) -> Vec<Factor> {
        self.stacks[stack].adapter.as_ref().map(|adapter| adapter.delta.orthonormal()).unwrap_or_default()
    }

    /// A hash of the frozen tensors that a stack's adapter here draws from a seed and does not save.
    pub fn checksum(&self, stack: usize) -> Option<String> {
        self.stacks[stack].adapter.as_ref()?.delta.checksum()
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

    /// `[rows, seq, d_in] -> [rows, seq, d_out]`, every stack on its own rows.
    #[expect(clippy::needless_pass_by_value, reason = "as every layer takes its input")]
    pub fn forward(&self, x: Tensor<3>, pass: &Pass) -> Tensor<3> {
        self.forward_among(&x, pass, &pass.input_grad(&self.name))
    }

    /// [`forward`](Self::forward) where `x` has other consumers, which share `input_grad`: maps that share an input share the sum of its gradients.
    pub fn forward_among(&self, x: &Tensor<3>, pass: &Pass, input_grad: &SharedInputGrad) -> Tensor<3> {
        let [y] = Self::forward_all([self], x, pass, input_grad);
        y
    }

    /// [`forward_among`](Self::forward_among) of maps with the same input, whose thin products with it are one where they can be.
    pub fn forward_all<const N: usize>(
        maps: [&Self; N],
        x: &Tensor<3>,
        pass: &Pass,
        input_grad: &SharedInputGrad,
    ) -> [Tensor<3>; N] {
        let per_run = x.dims()[0] / pass.runs().max(1); // a map without stacks takes a pass without any
        let mut batches = maps.map(|map| map.batches(pass, per_run));
        batched::share_down_products(batches.iter_mut().flatten(), x, input_grad);
        let mut index = 0;
        batches.map(|batches| {
            index += 1;
            maps[index - 1].with(batches, x, pass, input_grad)
        })
    }

    /// The updates that are added to the base's output; those of equal key on consecutive rows as one batch.
    fn batches(&self, pass: &Pass, per_run: usize) -> Vec<BatchedAdapters> {
        let mut batches: Vec<BatchedAdapters> = Vec::new();
        let mut start = 0;
        for (stack, here) in self.stacks.iter().zip(&pass.stacks) {
            let rows = here.runs * per_run;
            if let Some(adapter) = stack.adapter.as_ref().filter(|_| stack.adds()) {
                let one = BatchedAdapters::of(adapter, here, self.site, [start, rows]);
                match batches.last_mut().filter(|batch| batch.can_join(&one)) {
                    Some(batch) => batch.extend(one),
                    None => batches.push(one),
                }
            }
            start += rows;
        }
        batches
    }

    /// The output of every stack on its rows, with the updates that are added given.
    fn with(
        &self,
        batches: Vec<BatchedAdapters>,
        x: &Tensor<3>,
        pass: &Pass,
        input_grad: &SharedInputGrad,
    ) -> Tensor<3> {
        let [rows, seq, _] = x.dims();
        let per_run = rows / pass.runs().max(1);
        let mut batches = batches.into_iter().peekable();
        let mut parts: Vec<Tensor<3>> = Vec::new();
        let (mut at, mut start) = (0, 0);
        while at < self.stacks.len() {
            // Consecutive stacks that add to the base's output share one product with it.
            let adding = self.stacks[at..].iter().take_while(|stack| stack.adds()).count();
            let several = at..at + adding.max(1);
            let own = [start, pass.stacks[several.clone()].iter().map(|here| here.runs * per_run).sum()];
            parts.push(if adding > 0 {
                let mut y = ops::affine(x.clone(), own, self.weight.clone(), self.bias.clone(), input_grad);
                while let Some(batch) = batches.next_if(|batch| batch.starts_before(own[0] + own[1])) {
                    y = batch.add_to(y, x, start, input_grad);
                }
                y
            } else {
                self.own(&self.stacks[at], x, own, &pass.stacks[at], input_grad)
            });
            (at, start) = (several.end, own[0] + own[1]);
        }
        debug_assert!(batches.next().is_none());
        if parts.is_empty() {
            return ops::affine(x.clone(), [0, rows], self.weight.clone(), self.bias.clone(), input_grad);
        }
        debug_assert_eq!(start, rows);
        debug_assert!(parts.iter().all(|part| part.dims()[1] == seq));
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0) }
    }

    /// Output of a stack with a weight, a bias or a magnitude of its own on its rows of `x`, `[len, seq, d_out]`.
    fn own(
        &self,
        stack: &LinearStack,
        x: &Tensor<3>,
        own: [usize; 2],
        here: &StackPass,
        input_grad: &SharedInputGrad,
    ) -> Tensor<3> {
        let ([_, seq, _], [d_in, d_out]) = (x.dims(), self.shape());
        let frozen = self.bias.clone().filter(|_| stack.bias.is_none());
        let y = match (&stack.weight, &stack.adapter) {
            (Some(weight), _) => {
                let input = ops::rows(x.clone(), own, input_grad).reshape([here.runs, own[1] * seq / here.runs, d_in]);
                let y = input.matmul(cast(weight, x.dtype()));
                match frozen {
                    Some(bias) => y + bias.unsqueeze::<3>(),
                    None => y,
                }
            }
            (None, Some(adapter)) => adapter.combine.forward(&MapForward {
                x,
                own,
                input_grad,
                weight: &self.weight,
                bias: frozen,
                factors: adapter.row_factors(here),
                here,
                dropout: Dropout::at(here.keys.as_ref(), self.site, adapter.dropout),
            }),
            (None, None) => {
                let y = ops::affine(x.clone(), own, self.weight.clone(), frozen, input_grad);
                y.reshape([here.runs, own[1] * seq / here.runs, d_out])
            }
        }; // [runs, n, d_out]
        let y = match &stack.bias {
            Some(bias) => {
                let bias = cast(bias, y.dtype());
                y + bias
            }
            None => y,
        };
        y.reshape([own[1], seq, d_out])
    }

    /// `W'` of every run of a stack with `active` components, `[runs, d_in, d_out]`.
    pub fn weight(&self, stack: usize, active: &Active) -> Tensor<3> {
        let LinearStack { adapter, weight, .. } = &self.stacks[stack];
        match (weight, adapter) {
            (Some(weight), _) => weight.clone(),
            (None, Some(adapter)) => adapter.combine.weight(&self.weight, adapter.delta.factors(&adapter.gate(active))),
            (None, None) => self.weight.clone().unsqueeze::<3>(),
        }
    }

    /// `W0 + ΔW` of a stack before it is combined, `[runs, d_in, d_out]`.
    #[cfg(feature = "testing")]
    pub(crate) fn sum(&self, stack: usize, active: &Active) -> Tensor<3> {
        let base = self.weight.clone().unsqueeze::<3>();
        match &self.stacks[stack].adapter {
            Some(adapter) => base + adapter.delta.factors(&adapter.gate(active)).product(),
            None => base,
        }
    }

    /// The update of a stack in canonical form; `None` where it leaves the map as it is.
    pub fn canonical(&self, stack: usize, active: &Active) -> Option<Canonical> {
        let LinearStack { adapter, weight, .. } = &self.stacks[stack];
        match (weight, adapter) {
            (Some(weight), _) => Some(Canonical::Dense(weight.clone())),
            (None, Some(adapter)) => {
                let factors = adapter.delta.factors(&adapter.gate(active));
                Some(if adapter.additive {
                    Canonical::LowRank(factors)
                } else {
                    Canonical::Dense(adapter.combine.weight(&self.weight, factors))
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
        let bias = match &self.stacks[stack].bias {
            Some(own) => Some(cast(own, self.weight.dtype()).slice([run..run + 1]).reshape([d_out])),
            None => self.bias.clone(),
        };
        (cast(&weight, self.weight.dtype()), bias)
    }

    /// Replaces a stack's additive update by its best approximation at `rank`, or at the map's own where that is smaller.
    pub fn compress(&mut self, stack: usize, rank: usize) {
        let Some(adapter) = &mut self.stacks[stack].adapter else { return };
        let rank = rank.min(adapter.rank);
        let factors = adapter.delta.factors(&adapter.full_gate);
        let delta = compress::best_approximation(&factors, rank, &adapter.place);
        adapter.full_gate =
            adapter.full_gate.ones_like().slice([0..adapter.alphas.len(), 0..1, 0..1]).repeat_dim(2, rank);
        adapter.scaling = Scaling::Constant { value: 1.0 };
        adapter.rank = rank;
        adapter.delta = AnyDelta::LowRank(delta);
    }

    /// An unadapted map with the update of one run folded in and no stacks.
    pub fn merge(&self, stack: usize, run: usize, active: &Active) -> Self {
        let (weight, bias) = self.merged(stack, run, active);
        Self { weight, bias, stacks: Vec::new(), ..self.clone() }
    }

    /// The same map with one of its stacks alone.
    pub fn only(&self, stack: usize) -> Self {
        Self { stacks: vec![self.stacks[stack].clone()], ..self.clone() }
    }
}
