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
//! A frozen component, a finished run and a run with a gradient that is not finite keep value, moments and
//! count: old values are *selected*, never multiplied by zero.

use std::collections::BTreeMap;

use burn::tensor::{Bool, Tensor, TensorData};
use variants::{
    host::Place,
    role::{Role, RolePlan, TrainPlan},
};

/// Adam's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

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
    /// Multiplies the gradient: the clipping coefficient.
    pub clip: f64,
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

/// Which components of a tensor a step changes: per run a range along `axis`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The rank axis, 1 or 2.
    pub axis: usize,
    /// Per run.
    pub ranges: Vec<std::ops::Range<usize>>,
}

/// The moments of one stack, by tensor name.
#[derive(Clone, Debug, Default)]
pub struct StackOptimizer {
    /// By full tensor name.
    pub moments: BTreeMap<String, Moments>,
}

/// A number per run, or per component: one scalar where it is the same everywhere.
enum Coefficient {
    Scalar(f64),
    Stacked(Tensor<3>),
}

impl Coefficient {
    fn new(values: Vec<f64>, shape: [usize; 3], place: &Place) -> Self {
        match values.as_slice() {
            [first, rest @ ..] if rest.iter().all(|v| v == first) => Self::Scalar(*first),
            _ => Self::Stacked(place.tensor(values, shape)),
        }
    }

    fn times(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Scalar(value) if *value == 1.0 => x,
            Self::Scalar(value) => x * *value,
            Self::Stacked(values) => x * values.clone(),
        }
    }
}

/// A tensor as the optimizer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Full name, the key of its moments.
    pub name: &'a str,
    /// What it is for.
    pub role: Role,
    /// Whether decay acts on it where its role's plan says nothing.
    pub decays: bool,
}

/// Peak-to-step rate and decay of a tensor for one run.
fn rate_and_decay(plan: &TrainPlan, Subject { role, decays, .. }: Subject<'_>, run: &RunStep) -> (f64, f64) {
    let own = if role == Role::Head { run.head_rate * run.multiple } else { run.rate };
    match plan.of_role(role) {
        RolePlan::Frozen => (0.0, 0.0),
        RolePlan::Trained { lr_multiplier, learning_rate, weight_decay } => (
            learning_rate.map_or(own, |peak| peak * run.multiple) * lr_multiplier,
            weight_decay.unwrap_or(if decays { run.decay } else { 0.0 }),
        ),
    }
}

/// Where a step changes a tensor: `true` in `[runs, p, q]`, with `p`, `q` the component axis or 1.
fn mask(runs: &[RunStep], touched: Option<&Touched>, components: usize, place: &Place) -> Option<Tensor<3, Bool>> {
    let hit =
        |run: usize, component: usize| runs[run].active && touched.is_none_or(|t| t.ranges[run].contains(&component));
    let values: Vec<bool> =
        (0..runs.len()).flat_map(|run| (0..components).map(move |c| (run, c))).map(|(r, c)| hit(r, c)).collect();
    if values.iter().all(|v| *v) {
        return None;
    }
    let shape = layout(touched, runs.len(), components);
    Some(Tensor::from_data(TensorData::new(values, shape), &place.device))
}

fn layout(touched: Option<&Touched>, runs: usize, components: usize) -> [usize; 3] {
    match touched.map(|t| t.axis) {
        Some(1) => [runs, components, 1],
        _ => [runs, 1, components],
    }
}

/// `new` where the mask is set, `old` elsewhere.
fn select(mask: Option<&Tensor<3, Bool>>, old: &Tensor<3>, new: Tensor<3>) -> Tensor<3> {
    match mask {
        Some(mask) => old.clone().mask_where(mask.clone().expand(old.shape()), new),
        None => new,
    }
}

/// The gradient with untouched components and inactive runs at zero, as clipping must see it.
pub fn visible(gradient: Tensor<3>, runs: &[RunStep], touched: Option<&Touched>, place: &Place) -> Tensor<3> {
    let components = touched.map_or(1, |t| gradient.dims()[t.axis]);
    match mask(runs, touched, components, place) {
        Some(mask) => gradient.zeros_like().mask_where(mask.expand(gradient.shape()), gradient),
        None => gradient,
    }
}

impl StackOptimizer {
    /// One update of one tensor; returns its new value. `gradient` is what [`visible`] returned.
    #[expect(clippy::too_many_arguments, reason = "one tensor, its place in the stack, and the step's constants")]
    pub fn update(
        &mut self,
        subject: Subject<'_>,
        value: &Tensor<3>,
        gradient: Tensor<3>,
        touched: Option<&Touched>,
        runs: &[RunStep],
        plan: &TrainPlan,
        adam: Adam,
        place: &Place,
    ) -> Tensor<3> {
        let components = touched.map_or(1, |t| value.dims()[t.axis]);
        let shape = layout(touched, runs.len(), components);
        let state = self.moments.entry(subject.name.to_owned()).or_insert_with(|| Moments {
            first: value.zeros_like(),
            second: value.zeros_like(),
            counts: vec![0; runs.len() * components],
        });
        let mask = mask(runs, touched, components, place);
        for (index, count) in state.counts.iter_mut().enumerate() {
            let (run, component) = (index / components, index % components);
            if runs[run].active && touched.is_none_or(|t| t.ranges[run].contains(&component)) {
                *count += 1;
            }
        }
        // A component that was never touched has no bias correction; 1 keeps the unselected branch finite.
        let correction = |beta: f64, count: u64| if count == 0 { 1.0 } else { 1.0 - beta.powf(count as f64) };
        let per_count = |f: &dyn Fn(&RunStep, u64) -> f64| {
            let values = state.counts.iter().enumerate().map(|(i, count)| f(&runs[i / components], *count));
            Coefficient::new(values.collect(), shape, place)
        };
        let clip = per_count(&|run, _| if run.active { run.clip } else { 1.0 });
        let step = per_count(&|run, count| -rate_and_decay(plan, subject, run).0 / correction(adam.beta1, count));
        let root = per_count(&|_, count| 1.0 / correction(adam.beta2, count).sqrt());
        let keep = per_count(&|run, _| {
            let (rate, decay) = rate_and_decay(plan, subject, run);
            1.0 - rate * decay
        });
        let gradient = clip.times(gradient);
        let first = state.first.clone() * adam.beta1 + gradient.clone() * (1.0 - adam.beta1);
        let second = state.second.clone() * adam.beta2 + gradient.square() * (1.0 - adam.beta2);
        let denominator = root.times(second.clone().sqrt()) + adam.epsilon;
        let new = keep.times(value.clone()) + step.times(first.clone() / denominator);
        state.first = select(mask.as_ref(), &state.first, first);
        state.second = select(mask.as_ref(), &state.second, second);
        select(mask.as_ref(), value, new)
    }
}

/// `‖g‖²` of every run, `[runs]`.
pub fn squared_norm(gradient: &Tensor<3>) -> Tensor<1> {
    let [runs, rows, cols] = gradient.dims();
    gradient.clone().square().reshape([runs, rows * cols]).sum_dim(1).reshape([runs])
}

/// torch's `clip_grad_norm_`: `min(1, limit/(norm + 1e-6))`.
pub fn clip_coefficient(norm: f64, limit: Option<f64>) -> f64 {
    limit.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};
    use variants::host::values;

    const A: Subject<'_> = Subject { name: "p", role: Role::A, decays: true };
    const ADAM: Adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

    fn run(rate: f64, decay: f64, clip: f64) -> RunStep {
        RunStep { rate, multiple: 1.0, head_rate: rate, decay, clip, active: true }
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

    #[test]
    fn runs_step_at_their_own_rate_and_clip() {
        let place = Place::new(&Device::flex(), DType::F64);
        let mut optimizer = StackOptimizer::default();
        let runs = [run(1e-2, 0.1, 1.0), run(3e-3, 0.0, 0.5)];
        let mut p = place.tensor(vec![1.0, 2.0], [2, 1, 1]);
        for g in [0.3, -0.7, 0.2] {
            let g = place.tensor(vec![g, g], [2, 1, 1]);
            p = optimizer.update(A, &p, g, None, &runs, &TrainPlan::default(), ADAM, &place);
        }
        let expected = [scalar(1.0, &[0.3, -0.7, 0.2], 1e-2, 0.1), scalar(2.0, &[0.15, -0.35, 0.1], 3e-3, 0.0)];
        for (got, want) in values(&p).iter().zip(expected) {
            assert!((got - want).abs() < 1e-14, "{got} {want}"); // f64, a dozen operations
        }
    }

    #[test]
    fn an_untouched_component_keeps_value_moments_count_and_decay() {
        let place = Place::new(&Device::flex(), DType::F64);
        let mut optimizer = StackOptimizer::default();
        let runs = [run(1e-2, 0.1, 1.0)];
        let mut p = place.tensor(vec![1.0, 1.0], [1, 1, 2]);
        for (g, range) in [(0.3, 0..1), (-0.7, 1..2), (0.2, 0..1)] {
            let touched = Touched { axis: 2, ranges: vec![range] };
            let g = visible(place.tensor(vec![g, g], [1, 1, 2]), &runs, Some(&touched), &place);
            p = optimizer.update(A, &p, g, Some(&touched), &runs, &TrainPlan::default(), ADAM, &place);
        }
        let expected = [scalar(1.0, &[0.3, 0.2], 1e-2, 0.1), scalar(1.0, &[-0.7], 1e-2, 0.1)];
        for (got, want) in values(&p).iter().zip(expected) {
            assert!((got - want).abs() < 1e-14, "{got} {want}");
        }
        assert_eq!(optimizer.moments["p"].counts, [2, 1]);
    }

    #[test]
    fn an_inactive_run_is_untouched_even_by_nan() {
        let place = Place::new(&Device::flex(), DType::F64);
        let mut optimizer = StackOptimizer::default();
        let runs = [RunStep { active: false, ..run(1e-2, 0.1, f64::NAN) }, run(1e-2, 0.0, 1.0)];
        let p = place.tensor(vec![1.0, 1.0], [2, 1, 1]);
        let g = visible(place.tensor(vec![f64::NAN, 0.5], [2, 1, 1]), &runs, None, &place);
        let p = optimizer.update(A, &p, g, None, &runs, &TrainPlan::default(), ADAM, &place);
        assert_eq!(values(&p)[0], 1.0);
        assert!((values(&p)[1] - scalar(1.0, &[0.5], 1e-2, 0.0)).abs() < 1e-14);
        assert_eq!(values(&optimizer.moments["p"].first)[0], 0.0);
    }

    #[test]
    fn roles_have_their_own_rates() {
        let trained = RolePlan::Trained { lr_multiplier: 16.0, learning_rate: None, weight_decay: Some(0.0) };
        let own = RolePlan::Trained { lr_multiplier: 1.0, learning_rate: Some(1e-6), weight_decay: None };
        let plan = TrainPlan::of([(Role::B, trained), (Role::Embedding, own)]);
        let run = RunStep { rate: 5e-4, multiple: 0.5, head_rate: 2e-3, decay: 0.1, clip: 1.0, active: true };
        assert_eq!(rate_and_decay(&plan, Subject { role: Role::A, ..A }, &run), (5e-4, 0.1));
        assert_eq!(rate_and_decay(&plan, Subject { role: Role::B, ..A }, &run), (8e-3, 0.0));
        assert_eq!(rate_and_decay(&plan, Subject { role: Role::Embedding, ..A }, &run), (5e-7, 0.1));
        assert_eq!(rate_and_decay(&plan, Subject { role: Role::Head, ..A }, &run), (1e-3, 0.1));
        let bias = Subject { role: Role::Head, decays: false, ..A };
        assert_eq!(rate_and_decay(&plan, bias, &run), (1e-3, 0.0), "a head's bias is not decayed");
    }

    #[test]
    fn clipping_is_torchs() {
        assert_eq!(clip_coefficient(0.5, Some(1.0)), 1.0);
        assert!((clip_coefficient(4.0, Some(1.0)) - 1.0 / 4.000_001).abs() < 1e-15);
        assert_eq!(clip_coefficient(4.0, None), 1.0);
    }
}
