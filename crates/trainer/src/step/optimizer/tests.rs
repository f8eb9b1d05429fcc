//! AdamW against its algorithm written out for one number, and what runs and components keep.

use super::*;
use burn::tensor::Device;
use variants::{
    host::values,
    role::{Param, RoleConfig},
};

const ADAM: Adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

fn meta(role: Role) -> ParamMeta {
    ParamMeta { slot: String::new(), field: "p", role, decays: true, has_target: false }
}

fn run(rate: f64, decay: f64, limit: Option<f64>) -> RunStep {
    RunStep { rate, multiple: 1.0, head_rate: rate, decay, limit, active: true }
}

/// torch's `clip_grad_norm_`: `min(1, limit/(norm + 1e-6))`.
fn clip_coefficient(norm: f64, limit: Option<f64>) -> f64 {
    limit.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
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
    optimizer.lay_out(vec![named], &TrainConfig::default(), axis.is_some(), &place());
    optimizer
}

/// An optimizer over one tensor called `p` that decays toward `target`.
fn toward(mut value: Tensor<3>, target: Tensor<3>) -> StackOptimizer {
    let mut optimizer = StackOptimizer::default();
    let param = Param::ranked("p", Role::A, 2, &mut value).decaying_toward(Some(target));
    let named = NamedParam { slot: String::new(), name: "p".to_owned(), param };
    optimizer.lay_out(vec![named], &TrainConfig::default(), true, &place());
    optimizer
}

/// One step of a tensor `[runs, 1, n]` with these gradients; `range` is what every run may change.
fn step(
    optimizer: &mut StackOptimizer,
    gradients: Vec<f64>,
    runs: &[RunStep],
    range: Option<&std::ops::Range<usize>>,
) -> Vec<f64> {
    step_under(true, optimizer, gradients, runs, range)
}

/// The same with the optimizer's state as `keeps_untouched` says.
fn step_under(
    keeps_untouched: bool,
    optimizer: &mut StackOptimizer,
    gradients: Vec<f64>,
    runs: &[RunStep],
    range: Option<&std::ops::Range<usize>>,
) -> Vec<f64> {
    let place = place();
    let n = gradients.len() / runs.len();
    let of = |components| vec![Touched { components, tensors: None }; runs.len()];
    let ranges = of(range.cloned());
    let moved = if keeps_untouched { ranges.clone() } else { of(None) };
    let pulls = optimizer.pulls(runs, &moved, &TrainConfig::default());
    let coefficients = optimizer.coefficients(runs, &moved, &TrainConfig::default(), ADAM);
    let segments = coefficients.len() / (4 * runs.len());
    let coefficients = place.tensor(coefficients, [runs.len(), segments, 4]);
    let touched = place.tensor(optimizer.touched(&ranges), [runs.len(), segments]);
    let gradient = optimizer.visible(place.tensor(gradients, [runs.len(), n]), touched);
    let limits = runs.iter().map(|run| run.limit.unwrap_or(f64::INFINITY)).collect();
    let running = runs.iter().map(|run| f64::from(u8::from(run.active))).collect();
    let square = squared_norm(gradient.clone());
    let shape = [runs.len()];
    let (limits, running) = (place.tensor(limits, shape), place.tensor(running, shape));
    let clip = optimizer.clip(&square, &square.zeros_like(), limits, running);
    if let Some(pulls) = pulls {
        optimizer.decay_toward_targets(place.tensor(pulls, [runs.len(), segments]), &clip);
    }
    optimizer.update(gradient, coefficients, clip, ADAM);
    values(&optimizer.value(&optimizer.slices()[0].clone()))
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
fn a_dense_state_steps_an_untouched_component_with_a_gradient_of_zero() {
    let mut optimizer = over(place().tensor(vec![1.0, 1.0], [1, 1, 2]), Some(2));
    let runs = [run(1e-2, 0.1, None)];
    let mut got = Vec::new();
    for (g, range) in [(0.3, 0..1), (-0.7, 1..2), (0.2, 0..1)] {
        got = step_under(false, &mut optimizer, vec![g, g], &runs, Some(&range));
    }
    let expected = [scalar(1.0, &[0.3, 0.0, 0.2], 1e-2, 0.1), scalar(1.0, &[0.0, -0.7, 0.0], 1e-2, 0.1)];
    for (got, want) in got.iter().zip(expected) {
        assert!((got - want).abs() < 1e-14, "{got} {want}"); // f64, a dozen operations
    }
    assert_eq!(optimizer.moments()["p"].counts, [3, 3]);
}

/// What is left of a way `p − p₀` is what decay toward 0 leaves of `p`: the same algorithm in the coordinate `p − p₀`.
#[test]
fn decay_toward_a_target_is_decay_of_the_way_to_it() {
    let mut optimizer = toward(place().tensor(vec![1.0, -0.4], [1, 1, 2]), place().tensor(vec![0.7, 0.2], [1, 1, 2]));
    let (runs, gradients) = ([run(1e-2, 0.1, None)], [0.3, -0.7, 0.2]);
    let mut got = Vec::new();
    for g in gradients {
        got = step(&mut optimizer, vec![g, g], &runs, None);
    }
    for (got, (start, target)) in got.into_iter().zip([(1.0, 0.7), (-0.4, 0.2)]) {
        let want = target + scalar(start - target, &gradients, 1e-2, 0.1);
        assert!((got - want).abs() < 1e-14, "{got} {want}"); // f64, a dozen operations
    }
}

#[test]
fn decay_toward_a_target_leaves_what_a_step_may_not_change() {
    let (value, target) = (vec![1.0, 2.0, 1.0, 2.0], vec![0.0, 0.0, 0.0, 0.0]);
    let mut optimizer = toward(place().tensor(value, [2, 1, 2]), place().tensor(target, [2, 1, 2]));
    let runs = [run(1e-2, 0.1, None), RunStep { active: false, ..run(1e-2, 0.1, None) }];
    let got = step(&mut optimizer, vec![0.0; 4], &runs, Some(&(0..1)));
    assert_eq!(got, [1.0 - 1e-3, 2.0, 1.0, 2.0], "the second component is not drawn, the second run has ended");
}

/// The recipe of LoRA's authors for `CoLA` (Table 9): 80 epochs of 8,551 rows in batches of 32 at 4e-4, here with decay 0.1. What a pair of
/// factors that nothing drives has left of the part of the base that it started as.
#[test]
fn what_is_not_driven_stays_at_its_target_and_falls_to_zero_without_one() {
    let recipe = experiment::hyper::Hyper { learning_rate: 4e-4, epochs: Some(80.0), ..Default::default() };
    let steps = recipe.total_steps(8_551);
    let start = vec![0.731, -1.9];
    let at = |value: &Vec<f64>| place().tensor(value.clone(), [1, 1, 2]);
    let (mut held, mut free) = (toward(at(&start), at(&start)), over(at(&start), Some(2)));
    let (mut kept, mut left, mut product) = (Vec::new(), Vec::new(), 1.0);
    for at in 0..steps {
        let rate = recipe.learning_rate * recipe.rate(at, steps);
        let runs = [run(rate, recipe.weight_decay, None)];
        [kept, left] = [&mut held, &mut free].map(|optimizer| step(optimizer, vec![0.0; 2], &runs, None));
        product *= 1.0 - rate * recipe.weight_decay;
    }
    assert_eq!(kept, start, "bit by bit");
    for (left, start) in left.iter().zip(&start) {
        assert!((left / start - product).abs() < 1e-11, "{left} of {start}, not {product}"); // 21,440 roundings of 1e-16
    }
    println!(
        "of A·B after {steps} steps: {:.4} toward 0, {:.4} toward the start",
        product * product,
        kept[0] / start[0]
    );
    assert!((product * product - 0.4241).abs() < 1e-4, "{}", product * product);
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
    // The second run has ended, so that no two runs and no two components have the same counts.
    let runs = [run(1e-2, 0.1, None), RunStep { active: false, ..run(1e-2, 0.1, None) }];
    let (values, gradients) = ([1.0, 2.0, 3.0, 4.0].repeat(2), [0.1, 0.2, 0.3, 0.4].repeat(2));
    let mut optimizer = over(place().tensor(values, [2, 2, 2]), Some(1));
    step(&mut optimizer, gradients.clone(), &runs, Some(&(0..1)));
    let mut value = optimizer.value(&optimizer.slices()[0].clone());
    let mut other = StackOptimizer::default();
    other.restore("p".to_owned(), optimizer.moments()["p"].clone());
    let param = Param::ranked("p", Role::A, 1, &mut value);
    other.lay_out(
        vec![NamedParam { slot: String::new(), name: "p".to_owned(), param }],
        &TrainConfig::default(),
        true,
        &place(),
    );
    assert_eq!(optimizer.moments()["p"].counts, [1, 0, 0, 0]);
    assert_eq!(other.moments()["p"].counts, [1, 0, 0, 0]);
    let again = [&mut optimizer, &mut other].map(|it| step(it, gradients.clone(), &runs, Some(&(0..2))));
    assert_eq!(again[0], again[1]);
}

#[test]
fn a_gradient_whose_square_f32_cannot_hold_is_clipped_in_f64() {
    let mut optimizer = over(place().tensor(vec![1.0], [1, 1, 1]), None);
    let got = step(&mut optimizer, vec![1e20], &[run(1e-2, 0.0, Some(1.0))], None)[0];
    let want = scalar(1.0, &[1e20 * clip_coefficient(1e20, Some(1.0))], 1e-2, 0.0);
    assert!((got - want).abs() < 1e-14, "{got} {want}"); // f64, a dozen operations
}

#[test]
fn the_clip_coefficient_says_that_a_run_has_ended() {
    let mut optimizer = over(place().tensor(vec![1.0; 3], [3, 1, 1]), None);
    let of_runs = |values: [f64; 3]| place().tensor::<1>(values.to_vec(), [3]);
    let (limits, running) = (of_runs([1.0; 3]), of_runs([1.0, 1.0, 0.0]));
    let got = values(&optimizer.clip(&of_runs([0.25, 16.0, 16.0]), &of_runs([0.0; 3]), limits, running));
    let want = [1.0, clip_coefficient(4.0, Some(1.0)), -1.0];
    assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-15), "{got:?} {want:?}"); // one division
}

#[test]
fn roles_have_their_own_rates() {
    let trained = RoleConfig::Trained { lr_multiplier: 16.0, learning_rate: None, weight_decay: Some(0.0) };
    let own = RoleConfig::Trained { lr_multiplier: 1.0, learning_rate: Some(1e-6), weight_decay: None };
    let plan = TrainConfig::of([(Role::B, trained), (Role::Embedding, own)]);
    let run = RunStep { rate: 5e-4, multiple: 0.5, head_rate: 2e-3, decay: 0.1, limit: None, active: true };
    assert_eq!(rate_and_decay(&plan, &meta(Role::A), &run), (5e-4, 0.1));
    assert_eq!(rate_and_decay(&plan, &meta(Role::B), &run), (8e-3, 0.0));
    assert_eq!(rate_and_decay(&plan, &meta(Role::Embedding), &run), (5e-7, 0.1));
    assert_eq!(rate_and_decay(&plan, &meta(Role::Head), &run), (1e-3, 0.1));
    let bias = ParamMeta { decays: false, ..meta(Role::Head) };
    assert_eq!(rate_and_decay(&plan, &bias, &run), (1e-3, 0.0), "a head's bias is not decayed");
}

#[test]
fn clipping_is_torchs() {
    assert_eq!(clip_coefficient(0.5, Some(1.0)), 1.0);
    assert!((clip_coefficient(4.0, Some(1.0)) - 1.0 / 4.000_001).abs() < 1e-15);
    assert_eq!(clip_coefficient(4.0, None), 1.0);
}
