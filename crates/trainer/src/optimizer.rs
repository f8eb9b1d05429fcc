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
//! All trained tensors of a stack lie side by side in one flat tensor `[runs, n]`, and the network holds views of it: one kernel updates
//! every role at once. A column belongs to a *segment*, a tensor or one component of it; rates, decay and counts are per run and segment.
//!
//! A frozen component, a finished run and a run with a gradient that is not finite keep value, moments and
//! count: old values are *selected*, never multiplied by zero.

use std::collections::BTreeMap;

use burn::tensor::{DType, Int, Tensor, TensorData};
pub use kernels::ops::Adam;
use kernels::ops::{self, Flat};
use models::network::NamedParam;
use variants::{
    host::{Placement, inner},
    role::{Role, RoleConfig, TrainConfig},
};

/// One run's part in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunStep {
    /// Learning rate of this step, schedule included.
    pub rate: f64,
    /// The schedule's multiple, for roles with a peak rate of their own.
    pub multiple: f64,
    /// Peak rate of the head.
    pub head_rate: f64,
    /// Decoupled decay.
    pub decay: f64,
    /// Largest norm of the run's gradient.
    pub limit: Option<f64>,
    /// Whether the run still trains.
    pub active: bool,
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

/// A tensor as the optimizer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// What it is for.
    pub role: Role,
    /// Whether decay acts on it where its role's plan says nothing.
    pub decays: bool,
}

/// Where one tensor lies in the flat one.
#[derive(Clone, Debug)]
pub struct Part {
    /// Full name.
    pub name: String,
    /// Role and decay.
    pub subject: Subject,
    /// Of one run, `[rows, cols]`.
    pub shape: [usize; 2],
    /// Its first column.
    pub start: usize,
    /// Its first segment.
    pub segment: usize,
    /// The axis of its components, 1 or 2, where it has any.
    pub rank_axis: Option<usize>,
    /// The same, where every component is a segment; none makes it one segment.
    pub axis: Option<usize>,
}

impl Part {
    /// Numbers of one run.
    pub fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its segments.
    pub fn segments(&self) -> usize {
        self.axis.map_or(1, |axis| self.shape[axis - 1])
    }

    /// Its numbers in `flat` `[runs, n]`, as `[runs, rows, cols]`: a view where the device has views.
    pub fn of(&self, flat: &Tensor<2>) -> Tensor<3> {
        let [runs, _] = flat.dims();
        let [rows, cols] = self.shape;
        flat.clone().slice([0..runs, self.start..self.start + self.len()]).reshape([runs, rows, cols])
    }

    /// The segment of every column, within its own.
    fn columns(&self) -> impl Iterator<Item = usize> {
        let ([rows, cols], axis) = (self.shape, self.axis);
        (0..rows * cols).map(move |at| match axis {
            Some(1) => at / cols,
            Some(_) => at % cols,
            None => 0,
        })
    }
}

/// The trained tensors of one stack, laid out side by side, and their moments.
#[derive(Clone, Debug, Default)]
pub struct StackOptimizer {
    parts: Vec<Part>,
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
    /// 1 where a run's losses and gradients have all been finite, else 0, `[runs]`.
    alive: Tensor<1>,
}

/// Peak-to-step rate and decay of a tensor for one run.
fn rate_and_decay(plan: &TrainConfig, Subject { role, decays }: Subject, run: &RunStep) -> (f64, f64) {
    let own = if role == Role::Head { run.head_rate * run.multiple } else { run.rate };
    match plan.of_role(role) {
        RoleConfig::Frozen => (0.0, 0.0),
        RoleConfig::Trained { lr_multiplier, learning_rate, weight_decay } => (
            learning_rate.map_or(own, |peak| peak * run.multiple) * lr_multiplier,
            weight_decay.unwrap_or(if decays { run.decay } else { 0.0 }),
        ),
    }
}

impl StackOptimizer {
    /// Whether the tensors are laid out.
    pub fn is_laid_out(&self) -> bool {
        self.laid.is_some()
    }

    /// Lays the trained tensors of a stack out; `params` has those that receive gradients. With `nested`, tensors with a rank axis have
    /// a segment per component. Diagonals come first, so that pruning touches one stretch, then what else has components, so that their
    /// importance does too.
    pub fn lay_out(&mut self, mut params: Vec<NamedParam<'_>>, nested: bool, place: &Placement) {
        params.sort_by_key(|named| (named.param.role != Role::Lambda, named.param.rank_axis.is_none()));
        let (mut start, mut segment) = (0, 0);
        self.parts.clear();
        let mut tensors: [Vec<Tensor<2>>; 3] = Default::default();
        let mut counts: Vec<Vec<u64>> = Vec::new();
        for NamedParam { name, param, .. } in params {
            let value = inner(param.tensor);
            let [runs, rows, cols] = value.dims();
            let subject = Subject { role: param.role, decays: param.decays };
            let rank_axis = param.rank_axis;
            let part = Part {
                name,
                subject,
                shape: [rows, cols],
                start,
                segment,
                rank_axis,
                axis: rank_axis.filter(|_| nested),
            };
            self.runs = runs;
            start += part.len();
            segment += part.segments();
            let flat = |t: Tensor<3>| t.reshape([runs, rows * cols]);
            let [first, second] = if let Some(moments) = self.waiting.remove(&part.name) {
                counts.push(moments.counts);
                [flat(moments.first), flat(moments.second)]
            } else {
                counts.push(vec![0; runs * part.segments()]);
                [flat(value.zeros_like()), flat(value.zeros_like())]
            };
            for (list, tensor) in tensors.iter_mut().zip([flat(value), first, second]) {
                list.push(tensor);
            }
            self.parts.push(part);
        }
        self.counts = (0..self.runs)
            .flat_map(|run| {
                let of_run = |(part, counts): (&Part, &Vec<u64>)| {
                    let n = part.segments();
                    counts[run * n..(run + 1) * n].to_vec()
                };
                self.parts.iter().zip(&counts).flat_map(of_run).collect::<Vec<_>>()
            })
            .collect();
        let columns = self.parts.iter().flat_map(|part| part.columns().map(|column| (part.segment + column) as i64));
        let columns: Vec<i64> = columns.collect();
        let n = columns.len();
        let [value, first, second] = tensors.map(|list| Tensor::cat(list, 1));
        self.laid = Some(Laid {
            flat: Flat { value, first, second },
            segment: Tensor::from_data(TensorData::new(columns, [n]), (&place.device, DType::I64)),
            alive: place.zeros::<1>([self.runs]) + 1.0,
        });
    }

    /// Where every trained tensor lies; none before they are laid out.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn laid(&self) -> &Laid {
        self.laid.as_ref().unwrap_or_else(|| unreachable!("tensors are laid out before the first step"))
    }

    /// Counts one step and gives its coefficients, `[runs, segments, 4]` row-major: see [`kernels::kernel::Kernels::adamw`]. `touched`
    /// gives the components of a part that a run's step may change; none means all.
    pub fn coefficients(
        &mut self,
        runs: &[RunStep],
        touched: &dyn Fn(&Part, usize) -> Option<std::ops::Range<usize>>,
        plan: &TrainConfig,
        adam: Adam,
    ) -> Vec<f64> {
        let mut all = Vec::with_capacity(self.counts.len() * 4);
        let mut counts = self.counts.iter_mut();
        for (index, run) in runs.iter().enumerate() {
            for part in &self.parts {
                let range = touched(part, index).filter(|_| part.axis.is_some());
                let (rate, decay) = rate_and_decay(plan, part.subject, run);
                for (component, count) in counts.by_ref().take(part.segments()).enumerate() {
                    let hit = run.active && range.as_ref().is_none_or(|range| range.contains(&component));
                    *count += u64::from(hit);
                    // A segment that was never updated has no bias correction; 1 keeps it finite.
                    let correction = |beta: f64| if *count == 0 { 1.0 } else { 1.0 - beta.powf(*count as f64) };
                    all.extend([
                        rate / correction(adam.beta1),
                        1.0 / correction(adam.beta2).sqrt(),
                        1.0 - rate * decay,
                        f64::from(u8::from(hit)),
                    ]);
                }
            }
        }
        all
    }

    /// Gradients by name, side by side, `[runs, n]`.
    pub fn gather(&self, gradients: &BTreeMap<String, Tensor<3>>) -> Tensor<2> {
        let of = |part: &Part| gradients[&part.name].clone().reshape([self.runs, part.len()]);
        Tensor::cat(self.parts.iter().map(of).collect(), 1)
    }

    /// The gradient with untouched segments at 0, as clipping must see it. `coefficients` `[runs, segments, 4]`.
    pub fn visible(&self, gradient: Tensor<2>, coefficients: &Tensor<3>) -> Tensor<2> {
        let [runs, segments, _] = coefficients.dims();
        let hit = coefficients.clone().slice([0..runs, 0..segments, 3..4]).reshape([runs, segments]);
        let hidden = hit.select(1, self.laid().segment.clone()).lower_elem(0.5); // [runs, n]
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

    /// One update of everything. `gradient` `[runs, n]`, `coefficients` `[runs, segments, 4]`, `clip` `[runs]`.
    pub fn update(&mut self, gradient: Tensor<2>, coefficients: Tensor<3>, clip: Tensor<1>, adam: Adam) {
        let laid = self.laid.as_mut().unwrap_or_else(|| unreachable!("tensors are laid out before the first step"));
        laid.flat = ops::adamw(laid.flat.clone(), gradient, laid.segment.clone(), coefficients, clip, adam);
    }

    /// The value of a tensor, `[runs, rows, cols]`: a view where the device has views.
    pub fn value(&self, part: &Part) -> Tensor<3> {
        part.of(&self.laid().flat.value)
    }

    fn named(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// The values of everything that has components, `[runs, m]`: the first `m` columns.
    pub fn ranked(&self) -> Tensor<2> {
        let m = self.parts.iter().filter(|part| part.rank_axis.is_some()).map(Part::len).sum();
        self.laid().flat.value.clone().slice([0..self.runs, 0..m])
    }

    /// The role of the tensor called `name`, where it is one of these.
    pub fn role(&self, name: &str) -> Option<Role> {
        self.named(name).map(|part| part.subject.role)
    }

    /// Sets numbers of the diagonals to 0, where `pruned` `[runs, n]` is 1; `n` columns from the first.
    pub fn prune(&mut self, pruned: &Tensor<2>) {
        let laid = self.laid.as_mut().unwrap_or_else(|| unreachable!("tensors are laid out before the first step"));
        let [runs, n] = pruned.dims();
        let old = laid.flat.value.clone().slice([0..runs, 0..n]);
        let new = old.clone().mask_fill(pruned.clone().greater_elem(0.5), 0.0);
        if ops::writes_in_place(&old.device()) {
            let _ = ops::assign(old, new);
        } else {
            laid.flat.value = laid.flat.value.clone().slice_assign([0..runs, 0..n], new);
        }
    }

    /// Moments and counts by tensor.
    pub fn moments(&self) -> BTreeMap<String, Moments> {
        let Some(laid) = &self.laid else { return self.waiting.clone() };
        let segments: usize = self.parts.iter().map(Part::segments).sum();
        let of = |part: &Part| {
            let counts = |run: usize| self.counts[run * segments + part.segment..][..part.segments()].to_vec();
            let counts = (0..self.runs).flat_map(counts).collect();
            let [first, second] = [&laid.flat.first, &laid.flat.second].map(|flat| part.of(flat));
            (part.name.clone(), Moments { first, second, counts })
        };
        self.parts.iter().map(of).collect()
    }

    /// Moments and counts of a checkpoint: they are laid out with the tensors.
    pub fn restore(&mut self, name: String, moments: Moments) {
        self.waiting.insert(name, moments);
    }
}

/// `‖g‖²` of every run, `[runs]`; `gradient` `[runs, n]`.
pub fn squared_norm(gradient: Tensor<2>) -> Tensor<1> {
    let [runs, _] = gradient.dims();
    gradient.square().sum_dim(1).reshape([runs])
}

/// torch's `clip_grad_norm_`: `min(1, limit/(norm + 1e-6))`.
pub fn clip_coefficient(norm: f64, limit: Option<f64>) -> f64 {
    limit.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use variants::{host::values, role::Param};

    const ADAM: Adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    const A: Subject = Subject { role: Role::A, decays: true };

    fn run(rate: f64, decay: f64, limit: Option<f64>) -> RunStep {
        RunStep { rate, multiple: 1.0, head_rate: rate, decay, limit, active: true }
    }

    /// The algorithm written out for one number in f64, independent of the tensor code.
    fn scalar(mut p: f64, gradients: &[f64], rate: f64, decay: f64) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        for (t, g) in gradients.iter().enumerate() {
            let t = t as i32 + 1;
            p *= 1.0 - rate * decay;
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (mh, vh) = (m / (1.0 - 0.9_f64.powi(t)), v / (1.0 - 0.999_f64.powi(t)));
            p -= rate * mh / (vh.sqrt() + 1e-8);
        }
        p
    }

    fn place() -> Placement {
        Placement::new(&Device::flex(), DType::F64)
    }

    /// An optimizer over one tensor called `p`.
    fn over(mut value: Tensor<3>, axis: Option<usize>) -> StackOptimizer {
        let mut optimizer = StackOptimizer::default();
        let param = match axis {
            Some(axis) => Param::ranked("p", Role::A, axis, &mut value),
            None => Param::new("p", Role::A, &mut value),
        };
        let named = NamedParam { slot: String::new(), name: "p".to_owned(), param };
        optimizer.lay_out(vec![named], axis.is_some(), &place());
        optimizer
    }

    /// One step of a tensor `[runs, 1, n]` with these gradients; `range` is what every run may change.
    fn step(
        optimizer: &mut StackOptimizer,
        gradients: Vec<f64>,
        runs: &[RunStep],
        range: Option<&std::ops::Range<usize>>,
    ) -> Vec<f64> {
        let place = place();
        let n = gradients.len() / runs.len();
        let coefficients = optimizer.coefficients(runs, &|_, _| range.cloned(), &TrainConfig::default(), ADAM);
        let segments = coefficients.len() / (4 * runs.len());
        let coefficients = place.tensor(coefficients, [runs.len(), segments, 4]);
        let gradient = optimizer.visible(place.tensor(gradients, [runs.len(), n]), &coefficients);
        let limits = runs.iter().map(|run| run.limit.unwrap_or(f64::INFINITY)).collect();
        let running = runs.iter().map(|run| f64::from(u8::from(run.active))).collect();
        let square = squared_norm(gradient.clone());
        let shape = [runs.len()];
        let (limits, running) = (place.tensor(limits, shape), place.tensor(running, shape));
        let clip = optimizer.clip(&square, &square.zeros_like(), limits, running);
        optimizer.update(gradient, coefficients, clip, ADAM);
        values(&optimizer.value(&optimizer.parts()[0].clone()))
    }

    #[test]
    fn runs_step_at_their_own_rate_and_clip() {
        let mut optimizer = over(place().tensor(vec![1.0, 2.0], [2, 1, 1]), None);
        let runs = [run(1e-2, 0.1, None), run(3e-3, 0.0, Some(0.1))];
        let clipped: Vec<f64> = [0.3_f64, -0.7, 0.2].iter().map(|g| g * clip_coefficient(g.abs(), Some(0.1))).collect();
        let mut got = Vec::new();
        for g in [0.3, -0.7, 0.2] {
            got = step(&mut optimizer, vec![g, g], &runs, None);
        }
        let expected = [scalar(1.0, &[0.3, -0.7, 0.2], 1e-2, 0.1), scalar(2.0, &clipped, 3e-3, 0.0)];
        for (got, want) in got.iter().zip(expected) {
            assert!((got - want).abs() < 1e-14, "{got} {want}"); // f64, a dozen operations
        }
    }

    #[test]
    fn an_untouched_component_keeps_value_moments_count_and_decay() {
        let mut optimizer = over(place().tensor(vec![1.0, 1.0], [1, 1, 2]), Some(2));
        let runs = [run(1e-2, 0.1, None)];
        let mut got = Vec::new();
        for (g, range) in [(0.3, 0..1), (-0.7, 1..2), (0.2, 0..1)] {
            got = step(&mut optimizer, vec![g, g], &runs, Some(&range));
        }
        let expected = [scalar(1.0, &[0.3, 0.2], 1e-2, 0.1), scalar(1.0, &[-0.7], 1e-2, 0.1)];
        for (got, want) in got.iter().zip(expected) {
            assert!((got - want).abs() < 1e-14, "{got} {want}");
        }
        assert_eq!(optimizer.moments()["p"].counts, [2, 1]);
    }

    #[test]
    fn an_inactive_run_is_untouched_even_by_nan() {
        let mut optimizer = over(place().tensor(vec![1.0, 1.0], [2, 1, 1]), None);
        let runs = [RunStep { active: false, ..run(1e-2, 0.1, Some(1.0)) }, run(1e-2, 0.0, None)];
        let got = step(&mut optimizer, vec![f64::NAN, 0.5], &runs, None);
        assert_eq!(got[0], 1.0);
        assert!((got[1] - scalar(1.0, &[0.5], 1e-2, 0.0)).abs() < 1e-14);
        assert_eq!(values(&optimizer.moments()["p"].first)[0], 0.0);
    }

    #[test]
    fn a_run_whose_gradient_was_not_finite_stays_as_it_was() {
        let mut optimizer = over(place().tensor(vec![1.0, 1.0], [2, 1, 1]), None);
        let runs = [run(1e-2, 0.1, Some(1.0)), run(1e-2, 0.0, Some(1.0))];
        let before = step(&mut optimizer, vec![0.5, 0.5], &runs, None);
        step(&mut optimizer, vec![f64::INFINITY, 0.5], &runs, None);
        let after = step(&mut optimizer, vec![0.5, 0.5], &runs, None);
        assert_eq!(after[0], before[0], "its next gradients are finite, and change nothing");
        assert!((after[1] - scalar(1.0, &[0.5, 0.5, 0.5], 1e-2, 0.0)).abs() < 1e-14);
    }

    #[test]
    fn moments_go_out_and_come_back() {
        let runs = [run(1e-2, 0.1, None)];
        let mut optimizer = over(place().tensor(vec![1.0, 2.0, 3.0, 4.0], [1, 2, 2]), Some(1));
        step(&mut optimizer, vec![0.1, 0.2, 0.3, 0.4], &runs, Some(&(0..1)));
        let mut value = optimizer.value(&optimizer.parts()[0].clone());
        let mut other = StackOptimizer::default();
        other.restore("p".to_owned(), optimizer.moments()["p"].clone());
        let param = Param::ranked("p", Role::A, 1, &mut value);
        other.lay_out(vec![NamedParam { slot: String::new(), name: "p".to_owned(), param }], true, &place());
        assert_eq!(other.moments()["p"].counts, [1, 0]);
        let again = [&mut optimizer, &mut other].map(|it| step(it, vec![0.4, 0.3, 0.2, 0.1], &runs, Some(&(0..2))));
        assert_eq!(again[0], again[1]);
    }

    #[test]
    fn roles_have_their_own_rates() {
        let trained = RoleConfig::Trained { lr_multiplier: 16.0, learning_rate: None, weight_decay: Some(0.0) };
        let own = RoleConfig::Trained { lr_multiplier: 1.0, learning_rate: Some(1e-6), weight_decay: None };
        let plan = TrainConfig::of([(Role::B, trained), (Role::Embedding, own)]);
        let run = RunStep { rate: 5e-4, multiple: 0.5, head_rate: 2e-3, decay: 0.1, limit: None, active: true };
        assert_eq!(rate_and_decay(&plan, Subject { role: Role::A, ..A }, &run), (5e-4, 0.1));
        assert_eq!(rate_and_decay(&plan, Subject { role: Role::B, ..A }, &run), (8e-3, 0.0));
        assert_eq!(rate_and_decay(&plan, Subject { role: Role::Embedding, ..A }, &run), (5e-7, 0.1));
        assert_eq!(rate_and_decay(&plan, Subject { role: Role::Head, ..A }, &run), (1e-3, 0.1));
        let bias = Subject { role: Role::Head, decays: false };
        assert_eq!(rate_and_decay(&plan, bias, &run), (1e-3, 0.0), "a head's bias is not decayed");
    }

    #[test]
    fn clipping_is_torchs() {
        assert_eq!(clip_coefficient(0.5, Some(1.0)), 1.0);
        assert!((clip_coefficient(4.0, Some(1.0)) - 1.0 / 4.000_001).abs() < 1e-15);
        assert_eq!(clip_coefficient(4.0, None), 1.0);
    }
}
