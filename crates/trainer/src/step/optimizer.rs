//! AdamW over the stacked tensors of a cohort: per-run, per-role rates and decay, per-run clipping by global
//! norm, and a step count per component where components train at different times.
//!
//! One update of a tensor `p` with gradient `g` (Loshchilov and Hutter, *Decoupled Weight Decay
//! Regularization*, ICLR 2019, arXiv:1711.05101, Algorithm 2, in torch's order of operations):
//!
//! ```text
//! m ← β₁m + (1−β₁)g        v ← β₂v + (1−β₂)g²
//! p ← p·(1 − η·λ) − η/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε)
//! ```
//!
//! A tensor with a decay target `p₀` (a part of the base, from which it starts) has `p − η·λ·(p − p₀)` in place of `p·(1 − η·λ)`; it stays
//! at `p₀` bit by bit where it has no gradient.
//!
//! All trained tensors of a stack are concatenated into one flat tensor `[runs, n]`, and the network holds views of it: one kernel updates
//! every role at once. A column belongs to a *segment*, a tensor or one component of it; rates, decay and counts are per run and segment.
//!
//! A finished run, a run with a gradient that is not finite and, where the rank policy says so, a component without gradient keep value,
//! moments and count: old values are *selected*, never multiplied by zero.

mod edit;
mod param;

use std::{collections::BTreeMap, ops::Range};

use burn::tensor::{DType, Int, Tensor, TensorData};
pub use kernels::ops::Adam;
use kernels::ops::{self, Flat};
use models::network::NamedParam;
use variants::{
    host::{Placement, cast, inner},
    role::{Role, TrainConfig},
};

use self::param::rate_and_decay;
pub use self::param::{ParamMeta, ParamSlice, RunStep};

/// What a run's step touches.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// Components of tensors that have a segment for each; none means all.
    pub components: Option<Range<usize>>,
    /// Whether it touches a tensor, in the order of the slices; none means all.
    pub tensors: Option<Vec<bool>>,
}

impl Touched {
    /// Whether a component of slice number `at` is touched.
    fn holds(&self, at: usize, slice: &ParamSlice, component: usize) -> bool {
        let range = self.components.as_ref().filter(|_| slice.axis.is_some());
        self.tensors.as_ref().is_none_or(|tensors| tensors[at]) && range.is_none_or(|range| range.contains(&component))
    }
}

/// Moments and counts of one tensor.
#[derive(Clone, Debug)]
pub struct Moments {
    /// First moment, like the tensor.
    pub first: Tensor<3>,
    /// Second moment, like the tensor.
    pub second: Tensor<3>,
    /// Updates of every run, or of every component of every run, `[runs, components]` row-major.
    pub counts: Vec<u64>,
}

/// The trained tensors of one stack, concatenated, and their moments.
#[derive(Clone, Debug, Default)]
pub struct StackOptimizer {
    slices: Vec<ParamSlice>,
    runs: usize,
    /// Updates of every run and segment, `[runs, segments]`.
    counts: Vec<u64>,
    laid: Option<Laid>,
    /// Moments of a checkpoint that are not laid out yet.
    waiting: BTreeMap<String, Moments>,
}

/// What lies on the device.
#[derive(Clone, Debug)]
struct Laid {
    flat: Flat,
    /// The segment of every column, `[n]`.
    segment: Tensor<1, Int>,
    /// What decay pulls every number toward, `[runs, n]`; none where it is 0 for all.
    target: Option<Tensor<2>>,
    /// 1 where a run's losses and gradients have all been finite, else 0, `[runs]`.
    alive: Tensor<1>,
}

impl StackOptimizer {
    /// Whether the tensors are laid out.
    pub fn is_laid_out(&self) -> bool {
        self.laid.is_some()
    }

    /// Concatenates the trained tensors of a stack: of all its tensors, `parameters`, those whose role trains. With `nested`, tensors with a
    /// rank axis have a segment per component. Diagonals come first, so that pruning touches one stretch, then what else has components, so
    /// that their importance does too.
    pub fn lay_out(&mut self, parameters: Vec<NamedParam<'_>>, roles: &TrainConfig, nested: bool, place: &Placement) {
        self.slices.clear();
        let mut tensors: [Vec<Tensor<2>>; 4] = Default::default();
        let mut counts: Vec<Vec<u64>> = Vec::new();
        for (index, named) in trained(parameters, roles) {
            let value = inner(&named.param.tensor);
            let [runs, rows, cols] = value.dims();
            let slice = ParamSlice::after(self.slices.last(), index, &named, nested);
            self.runs = runs;
            let flat = |t: Tensor<3>| t.reshape([runs, rows * cols]);
            let [first, second] = if let Some(moments) = self.waiting.remove(&slice.name) {
                counts.push(moments.counts);
                [flat(moments.first), flat(moments.second)]
            } else {
                counts.push(vec![0; runs * slice.segments()]);
                [flat(value.zeros_like()), flat(value.zeros_like())]
            };
            let target = named
                .param
                .decay_target
                .map(|target| flat(cast(&inner(&target), first.dtype()).expand([runs, rows, cols])));
            let target = target.unwrap_or_else(|| first.zeros_like());
            for (list, tensor) in tensors.iter_mut().zip([flat(value), first, second, target]) {
                list.push(tensor);
            }
            self.slices.push(slice);
        }
        self.counts = self.by_run(&counts);
        let columns = self.slices.iter().flat_map(|one| one.columns().map(|column| (one.segment + column) as i64));
        let columns: Vec<i64> = columns.collect();
        let n = columns.len();
        let [value, first, second, target] = tensors.map(|list| Tensor::cat(list, 1));
        self.laid = Some(Laid {
            flat: Flat { value, first, second },
            segment: Tensor::from_data(TensorData::new(columns, [n]), (&place.device, DType::I64)),
            target: self.slices.iter().any(|slice| slice.meta.has_target).then_some(target),
            alive: place.zeros::<1>([self.runs]) + 1.0,
        });
    }

    /// Counts of every slice, `[runs, its segments]` each, as one list `[runs, segments]`.
    fn by_run(&self, counts: &[Vec<u64>]) -> Vec<u64> {
        let mut all = Vec::new();
        for run in 0..self.runs {
            for (slice, counts) in self.slices.iter().zip(counts) {
                let n = slice.segments();
                all.extend(&counts[run * n..(run + 1) * n]);
            }
        }
        all
    }

    /// Where every trained tensor lies; none before they are laid out.
    pub fn slices(&self) -> &[ParamSlice] {
        &self.slices
    }

    fn laid(&self) -> &Laid {
        self.laid.as_ref().unwrap_or_else(|| unreachable!("tensors are laid out before the first step"))
    }

    /// Counts one step and returns its coefficients, `[runs, segments, 4]` row-major: see [`kernels::kernel::Kernels::adamw`]. `touched` has,
    /// for every run, what its step may change.
    pub fn coefficients(&mut self, runs: &[RunStep], touched: &[Touched], roles: &TrainConfig, adam: Adam) -> Vec<f64> {
        let mut all = Vec::with_capacity(self.counts.len() * 4);
        let mut counts = self.counts.iter_mut();
        for (run, touched) in runs.iter().zip(touched) {
            for (at, slice) in self.slices.iter().enumerate() {
                let (rate, decay) = rate_and_decay(roles, &slice.meta, run);
                for (component, count) in counts.by_ref().take(slice.segments()).enumerate() {
                    let hit = run.active && touched.holds(at, slice, component);
                    *count += u64::from(hit);
                    // A segment that was never updated has no bias correction; 1 keeps it finite.
                    let correction = |beta: f64| if *count == 0 { 1.0 } else { 1.0 - beta.powf(*count as f64) };
                    all.extend([
                        rate / correction(adam.beta1),
                        1.0 / correction(adam.beta2).sqrt(),
                        if slice.meta.has_target { 1.0 } else { 1.0 - rate * decay },
                        f64::from(u8::from(hit)),
                    ]);
                }
            }
        }
        all
    }

    /// `η·λ` of every segment with a decay target, 0 for the others and for those that the step leaves as they are, `[runs, segments]`
    /// row-major; none where no tensor has a target. `touched` as for [`coefficients`](Self::coefficients).
    pub fn pulls(&self, runs: &[RunStep], touched: &[Touched], roles: &TrainConfig) -> Option<Vec<f64>> {
        self.slices.iter().any(|slice| slice.meta.has_target).then(|| {
            let mut all = Vec::with_capacity(self.counts.len());
            for (run, touched) in runs.iter().zip(touched) {
                for (at, slice) in self.slices.iter().enumerate() {
                    let (rate, decay) = rate_and_decay(roles, &slice.meta, run);
                    let pull = if run.active && slice.meta.has_target { rate * decay } else { 0.0 };
                    let hit = |component| touched.holds(at, slice, component);
                    all.extend((0..slice.segments()).map(|component| if hit(component) { pull } else { 0.0 }));
                }
            }
            all
        })
    }

    /// 1 for every segment whose gradient counts, `[runs, segments]` row-major. `touched` has, for every run, what has a gradient.
    pub fn touched(&self, touched: &[Touched]) -> Vec<f64> {
        let mut all = Vec::with_capacity(self.counts.len());
        for touched in touched {
            for (at, slice) in self.slices.iter().enumerate() {
                let counts = |component| touched.holds(at, slice, component);
                all.extend((0..slice.segments()).map(|component| f64::from(u8::from(counts(component)))));
            }
        }
        all
    }

    /// The gradients concatenated, `[runs, n]`, from one per tensor of the stack.
    pub fn gather(&self, gradients: &[Option<Tensor<3>>]) -> Tensor<2> {
        self.gather_mapped(gradients, |_, gradient| gradient)
    }

    /// The same with the gradient of every `B` multiplied from the left by its map's preconditioner, `[runs, rank, rank]`.
    pub fn gather_preconditioned(
        &self,
        gradients: &[Option<Tensor<3>>],
        preconditioners: &BTreeMap<String, Tensor<3>>,
    ) -> Tensor<2> {
        self.gather_mapped(gradients, |meta, gradient| {
            let left = preconditioners.get(&meta.slot).filter(|_| meta.role == Role::B);
            left.map_or(gradient.clone(), |left| left.clone().matmul(gradient))
        })
    }

    fn gather_mapped(
        &self,
        gradients: &[Option<Tensor<3>>],
        map: impl Fn(&ParamMeta, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<2> {
        let of = |slice: &ParamSlice| {
            let gradient = gradients[slice.parameter].clone();
            let gradient =
                gradient.unwrap_or_else(|| unreachable!("the loss depends on `{}`, which trains", slice.name));
            map(&slice.meta, gradient).reshape([self.runs, slice.len()])
        };
        Tensor::cat(self.slices.iter().map(of).collect(), 1)
    }

    /// The gradient with every segment at 0 where `touched` `[runs, segments]` is 0, as clipping must see it.
    pub fn visible(&self, gradient: Tensor<2>, touched: Tensor<2>) -> Tensor<2> {
        let hidden = touched.select(1, self.laid().segment.clone()).lower_elem(0.5); // [runs, n]
        gradient.mask_fill(hidden, 0.0)
    }

    /// What multiplies each run's gradient, `[runs]`: torch's `clip_grad_norm_`, `min(1, limit/(norm + 1e-6))`, or −1 where a run is not
    /// updated: it has ended (`running` 0), or a loss or gradient of this step or an earlier one was not finite.
    pub fn clip(&mut self, square: &Tensor<1>, loss: &Tensor<1>, limit: Tensor<1>, running: Tensor<1>) -> Tensor<1> {
        let largest = if square.dtype() == DType::F64 { f64::MAX } else { f64::from(f32::MAX) };
        let laid = self.laid.as_mut().unwrap_or_else(|| unreachable!("tensors are laid out before the first step"));
        let finite = square.clone().lower_elem(largest).bool_and(loss.clone().abs().lower_elem(largest));
        let alive = laid.alive.zeros_like().mask_where(finite, laid.alive.clone());
        laid.alive = ops::assign(laid.alive.clone(), alive);
        let clip = (limit / (square.clone().sqrt() + 1e-6)).clamp_max(1.0);
        let updated = (laid.alive.clone() * running).greater_elem(0.5);
        (clip.zeros_like() - 1.0).mask_where(updated, clip)
    }

    /// The decay of tensors that have a target, `p − η·λ·(p − p₀)`, in the runs that are updated. `pulls` `[runs, segments]`, `clip` `[runs]`.
    pub fn decay_toward_targets(&mut self, pulls: Tensor<2>, clip: &Tensor<1>) {
        let laid = self.laid.as_mut().unwrap_or_else(|| unreachable!("tensors are laid out before the first step"));
        let Some(target) = &laid.target else { return };
        let pull = pulls.select(1, laid.segment.clone()); // [runs, n]
        let [runs, n] = pull.dims();
        let updated = clip.clone().greater_equal_elem(0.0).reshape([runs, 1]).expand([runs, n]);
        let pulled = pull.clone().greater_elem(0.0).bool_and(updated);
        let value = laid.flat.value.clone();
        let new = value.clone() - pull * (value.clone() - target.clone());
        laid.flat.value = ops::assign(value.clone(), value.mask_where(pulled, new));
    }

    /// One update of everything. `gradient` `[runs, n]`, `coefficients` `[runs, segments, 4]`, `clip` `[runs]`.
    pub fn update(&mut self, gradient: Tensor<2>, coefficients: Tensor<3>, clip: Tensor<1>, adam: Adam) {
        let laid = self.laid.as_mut().unwrap_or_else(|| unreachable!("tensors are laid out before the first step"));
        laid.flat = ops::adamw(laid.flat.clone(), gradient, laid.segment.clone(), coefficients, clip, adam);
    }

    /// The value of a tensor, `[runs, rows, cols]`: a view where the device has views.
    pub fn value(&self, slice: &ParamSlice) -> Tensor<3> {
        slice.of(&self.laid().flat.value)
    }

    /// The values of everything that has components, `[runs, m]`: the first `m` columns.
    pub fn ranked(&self) -> Tensor<2> {
        let m = self.slices.iter().filter(|slice| slice.rank_axis.is_some()).map(ParamSlice::len).sum();
        self.laid().flat.value.clone().slice([0..self.runs, 0..m])
    }

    /// Numbers of all diagonals that train, which are the first columns.
    pub fn diagonal_columns(&self) -> usize {
        self.slices.iter().filter(|slice| slice.meta.role == Role::Lambda).map(ParamSlice::len).sum()
    }

    /// How many numbers of the diagonals are not 0, `[runs]`.
    pub fn nonzero_diagonals(&self) -> Tensor<1> {
        let diagonals = self.laid().flat.value.clone().slice([0..self.runs, 0..self.diagonal_columns()]);
        diagonals.clone().zeros_like().mask_fill(diagonals.not_equal_elem(0.0), 1.0).sum_dim(1).reshape([self.runs])
    }

    /// Moves every number of the diagonals toward 0 by its run's threshold, `[runs, 1]`, and to 0 where it is no farther away:
    /// `sign(λ)·max(|λ| − ξ, 0)`.
    pub fn shrink_diagonals(&mut self, thresholds: Tensor<2>) {
        let old = self.laid().flat.value.clone().slice([0..self.runs, 0..self.diagonal_columns()]);
        self.set_diagonals(old.clone().sign() * (old.abs() - thresholds).clamp_min(0.0));
    }

    /// Sets numbers of the diagonals to 0, where `pruned` `[runs, n]` is 1; `n` columns from the first.
    pub fn prune(&mut self, pruned: &Tensor<2>) {
        let old = self.laid().flat.value.clone().slice([0..self.runs, 0..pruned.dims()[1]]);
        self.set_diagonals(old.mask_fill(pruned.clone().greater_elem(0.5), 0.0));
    }

    /// Puts `new` `[runs, n]` in the place of the first `n` columns.
    fn set_diagonals(&mut self, new: Tensor<2>) {
        let laid = self.laid.as_mut().unwrap_or_else(|| unreachable!("tensors are laid out before the first step"));
        let [runs, n] = new.dims();
        let old = laid.flat.value.clone().slice([0..runs, 0..n]);
        if ops::writes_in_place(&old.device()) {
            let _ = ops::assign(old, new);
        } else {
            laid.flat.value = laid.flat.value.clone().slice_assign([0..runs, 0..n], new);
        }
    }

    /// Moments and counts by tensor.
    pub fn moments(&self) -> BTreeMap<String, Moments> {
        let Some(laid) = &self.laid else { return self.waiting.clone() };
        let segments: usize = self.slices.iter().map(ParamSlice::segments).sum();
        let of = |slice: &ParamSlice| {
            let counts = |run: usize| self.counts[run * segments + slice.segment..][..slice.segments()].to_vec();
            let counts = (0..self.runs).flat_map(counts).collect();
            let [first, second] = [&laid.flat.first, &laid.flat.second].map(|flat| slice.of(flat));
            (slice.name.clone(), Moments { first, second, counts })
        };
        self.slices.iter().map(of).collect()
    }

    /// Moments and counts of a checkpoint: they are laid out with the tensors.
    pub fn restore(&mut self, name: String, moments: Moments) {
        self.waiting.insert(name, moments);
    }
}

/// What trains, in the order in which it is concatenated, with its place among all tensors.
fn trained<'a>(parameters: Vec<NamedParam<'a>>, roles: &TrainConfig) -> Vec<(usize, NamedParam<'a>)> {
    let trained = parameters.into_iter().enumerate().filter(|(_, named)| roles.trains(named.param.role));
    let mut trained: Vec<_> = trained.collect();
    trained.sort_by_key(|(_, named)| (named.param.role != Role::Lambda, named.param.rank_axis.is_none()));
    trained
}

/// Where the trained tensors of a stack will lie once they are [laid out](StackOptimizer::lay_out).
pub fn slices(parameters: Vec<NamedParam<'_>>, roles: &TrainConfig, nested: bool) -> Vec<ParamSlice> {
    let mut all: Vec<ParamSlice> = Vec::new();
    for (index, named) in trained(parameters, roles) {
        all.push(ParamSlice::after(all.last(), index, &named, nested));
    }
    all
}

/// `‖g‖²` of every run, `[runs]`; `gradient` `[runs, n]`.
pub fn squared_norm(gradient: Tensor<2>) -> Tensor<1> {
    let [runs, _] = gradient.dims();
    gradient.square().sum_dim(1).reshape([runs])
}

#[cfg(test)]
mod tests;
