//! The gradient of a slot's input: `∂L/∂x` is a central difference, for every kind of slot and every way in which slots share an input.
//!
//! What lies below a slot trains by this gradient alone, and no law of the slot's own tensors notices when it is wrong or lost.

use std::collections::BTreeSet;

use burn::tensor::{DType, Tensor};

use super::{
    Case, NAME, Outcome, ROUNDING, ROWS, SEQ, calibrated,
    independence::{crowded, crowded_input, crowded_pass},
    training::track,
};
use crate::{
    adapted::AdaptedLinear,
    host::values,
    norm::AdaptedNorm,
    pass::{Active, DropoutClock, Pass},
    slot::{Slot, StackPlan, attach},
    stream::{self, Stream},
};

/// A scalar made of an input in one pass.
type Objective<'a> = &'a dyn Fn(Tensor<3>, &Pass) -> Tensor<1>;

/// The gradient of a linear map's input, in every way the components can be active and with dropout where the variant has it.
pub fn input_gradients_are_finite_differences(case: &Case) -> Outcome {
    if case.dtype != DType::F64 {
        return ROUNDING;
    }
    let mut map = case.random();
    track(&mut map, &case.spec());
    let objective = |x: Tensor<3>, pass: &Pass| weighed(case, map.forward(x, pass));
    for pass in passes(case) {
        check(case, "input gradients are finite differences", &case.input(), &pass, &objective);
    }
    Outcome::Applied
}

/// The same for a map of several stacks, each on its own rows of the input.
pub fn input_gradients_hold_among_stacks(case: &Case) -> Outcome {
    if case.dtype != DType::F64 {
        return ROUNDING;
    }
    let map = crowded(case);
    let objective = |x: Tensor<3>, pass: &Pass| weighed(case, map.forward(x, pass));
    for active in case.actives() {
        let (pass, _) = crowded_pass(case, &active, case.spec().dropout > 0.0);
        check(case, "input gradients hold among stacks", &crowded_input(case), &pass, &objective);
    }
    Outcome::Applied
}

/// An encoder's layer in small: query, key and value read one input, which is the residual of a norm as well. Its gradient is the sum of
/// what all four hand in.
pub fn maps_that_share_an_input_sum_its_gradient(case: &Case) -> Outcome {
    if case.dtype != DType::F64 {
        return ROUNDING;
    }
    let [d_in, d_out] = case.shape;
    let names = [NAME, "encoder.layer.0.attention.self.key", "encoder.layer.0.attention.self.value"];
    let mut maps = names.map(|name| base(case, name, d_out));
    let gain = drawn(case, "gamma", [d_in]) + 1.0;
    let mut norm =
        AdaptedNorm::new("encoder.layer.0.attention.output.LayerNorm", gain, drawn(case, "beta", [d_in]), 1e-5);
    let plan = plan(case, &names.map(|name| (name, d_out)));
    let slots = maps.iter_mut().map(Slot::Linear).chain([Slot::Norm(&mut norm)]);
    attach(&mut slots.collect::<Vec<_>>(), &plan, &case.place())
        .unwrap_or_else(|error| unreachable!("{case:?}: {error}"));
    for map in &mut maps {
        randomize(case, map);
    }
    let beside = drawn(case, "beside", [case.runs * ROWS, SEQ, d_in]);
    let objective = |x: Tensor<3>, pass: &Pass| {
        let input_grad = pass.input_grad("attention");
        let [q, k, v] = AdaptedLinear::forward_all([&maps[0], &maps[1], &maps[2]], &x, pass, &input_grad);
        let normed = norm.after(beside.clone(), Some((x, &input_grad)), None, pass);
        weighed(case, q * k) + weighed(case, v) + weighed(case, normed)
    };
    for pass in passes(case) {
        check(case, "maps that share an input sum its gradient", &case.input(), &pass, &objective);
    }
    Outcome::Applied
}

/// A fused map and its parts, of which a stack adapts one side, pass the gradients of both sides on.
pub fn fused_maps_and_their_parts_pass_gradients_on(case: &Case) -> Outcome {
    if case.dtype != DType::F64 {
        return ROUNDING;
    }
    let [_, d_out] = case.shape;
    let names = ["h.0.attn.c_attn.q", "h.0.attn.c_attn.v"];
    let parts = names.map(str::to_owned);
    let divided = names.map(|name| (name, d_out));
    for adapted in [&[("h.0.attn.c_attn", 2 * d_out)][..], &divided[..], &divided[1..]] {
        let mut fused = base(case, "h.0.attn.c_attn", 2 * d_out).fusing(&parts);
        let mut halves = [0, 1].map(|at| fused.part(names[at], &parts, at * d_out, (at + 1) * d_out));
        let slots = halves.iter_mut().chain([&mut fused]).map(Slot::Linear);
        attach(&mut slots.collect::<Vec<_>>(), &plan(case, adapted), &case.place())
            .unwrap_or_else(|error| unreachable!("{case:?}: {error}"));
        halves.iter_mut().chain([&mut fused]).for_each(|map| randomize(case, map));
        let objective = |x: Tensor<3>, pass: &Pass| {
            let input_grad = pass.input_grad("c_attn");
            let apart = AdaptedLinear::forward_all([&halves[0], &halves[1]], &x, pass, &input_grad);
            let together = fused.forward_among(&x, pass, &input_grad);
            weighed(case, Tensor::cat(apart.to_vec(), 2) * together)
        };
        for pass in passes(case) {
            check(case, "fused maps and their parts pass gradients on", &case.input(), &pass, &objective);
        }
    }
    Outcome::Applied
}

/// A norm, with mean or without, passes its gradient on to what is normed and to the residual.
pub fn norms_pass_gradients_on(case: &Case) -> Outcome {
    if case.dtype != DType::F64 {
        return ROUNDING;
    }
    let [d, _] = case.shape;
    let gain = drawn(case, "gamma", [d]) + 1.0;
    let layer = AdaptedNorm::new("output.LayerNorm", gain.clone(), drawn(case, "beta", [d]), 1e-5);
    for mut norm in [layer, AdaptedNorm::root_mean_square("input_layernorm", gain, 1e-5)] {
        attach(&mut [Slot::Norm(&mut norm)], &case.plan(&case.seeds()), &case.place())
            .unwrap_or_else(|error| unreachable!("{case:?}: {error}"));
        let pass = case.pass(&Active::All);
        let alone = |x: Tensor<3>, pass: &Pass| weighed(case, norm.forward(x, pass));
        check(case, "norms pass gradients on", &case.input(), &pass, &alone);
        let both = |x: Tensor<3>, pass: &Pass| {
            let input_grad = pass.input_grad("norm");
            weighed(case, norm.after(x.clone() * 0.5, Some((x, &input_grad)), None, pass))
        };
        check(case, "norms pass gradients on", &case.input(), &pass, &both);
    }
    Outcome::Applied
}

/// Holds `∂L/∂x` against central differences of `objective`: along some coordinates, and along one direction that has a share of all.
#[track_caller]
fn check(case: &Case, law: &str, x: &Tensor<3>, pass: &Pass, objective: Objective<'_>) {
    let tracked = x.clone().autodiff().require_grad();
    let gradients = objective(tracked.clone(), pass).backward();
    if let Err(lost) = pass.audit.check() {
        unreachable!("{law}: {case:?}: {lost}");
    }
    let gradient =
        tracked.grad(&gradients).unwrap_or_else(|| unreachable!("{law}: {case:?}: the input has no gradient"));
    let (gradient, start, shape) = (values(&gradient), values(x), x.dims());
    let n = start.len();
    let coordinate = |element: usize| (0..n).map(|at| if at == element { 1.0 } else { 0.0 }).collect::<Vec<f64>>();
    let all = stream::normal(&mut stream::generator(11, Stream::Data, "direction"), n, 1.0);
    let directions: Vec<Vec<f64>> = (0..n).step_by((n / 8).max(1)).map(coordinate).chain([all]).collect();
    let along = |direction: &[f64], values: &[f64]| direction.iter().zip(values).map(|(d, v)| d * v).sum::<f64>();
    let at = |direction: &[f64], step: f64| {
        let moved = start.iter().zip(direction).map(|(value, d)| value + step * d).collect();
        values(&objective(case.place().tensor(moved, shape), pass))[0]
    };
    let numeric: Vec<f64> = directions.iter().map(|d| (at(d, 1e-5) - at(d, -1e-5)) / 2e-5).collect();
    // Central differences at h = 1e-5 in f64: truncation is h² of the value, rounding is the objective's, which is as large as the largest
    // slopes; both stay near 1e-9 of those.
    let scale = numeric.iter().fold(1.0_f64, |most, value| most.max(value.abs()));
    for (index, (direction, numeric)) in directions.iter().zip(&numeric).enumerate() {
        let analytic = along(direction, &gradient);
        assert!(
            (analytic - numeric).abs() <= 1e-6 * scale,
            "{law}: {case:?}, {:?}: direction {index}: {analytic} is not {numeric}",
            pass.stacks
        );
    }
}

/// The ways in which a pass can be made: every activity of components, each with dropout where the variant has it.
fn passes(case: &Case) -> Vec<Pass> {
    let clock = DropoutClock { seeds: (40..40 + case.runs as u64).collect(), step: 3, micro: 1 };
    let of = |active: Active| {
        let pass = case.pass(&active);
        if case.spec().dropout > 0.0 { vec![pass.clone(), pass.dropping(&clock, &case.place())] } else { vec![pass] }
    };
    case.actives().into_iter().flat_map(of).collect()
}

/// `Σ c∘y` with `c` fixed and random.
fn weighed(case: &Case, y: Tensor<3>) -> Tensor<1> {
    let c = drawn(case, "c", y.dims());
    (y * c).sum()
}

fn drawn<const D: usize>(case: &Case, name: &str, shape: [usize; D]) -> Tensor<D> {
    let rng = &mut stream::generator(12, Stream::Data, name);
    case.place().tensor(stream::normal(rng, shape.iter().product(), 0.5), shape)
}

/// A frozen map of the case's inputs.
pub(super) fn base(case: &Case, name: &str, d_out: usize) -> AdaptedLinear {
    let [d_in, _] = case.shape;
    let bias = drawn(case, &format!("{name}.bias"), [d_out]);
    AdaptedLinear::new(name, drawn(case, name, [d_in, d_out]), Some(bias))
}

/// The case's stack on several maps, each with its output width, all of which have what the case's map has of its own.
pub(super) fn plan(case: &Case, slots: &[(&str, usize)]) -> StackPlan {
    let [d_in, _] = case.shape;
    let shapes: Vec<(&str, [usize; 2])> = slots.iter().map(|(name, d_out)| (*name, [d_in, *d_out])).collect();
    let plan = calibrated(case.plan(&case.seeds()), &shapes);
    let own = plan.maps.get(NAME).copied();
    let targets: BTreeSet<String> = slots.iter().map(|(name, _)| (*name).to_owned()).collect();
    let maps = targets.iter().filter_map(|name| Some((name.clone(), own?))).collect();
    StackPlan { targets, maps, ..plan }
}

/// Puts random values in place of a stack's first ones, and tracks those that train.
fn randomize(case: &Case, map: &mut AdaptedLinear) {
    let name = map.name().to_owned();
    for mut param in map.parameters(0) {
        let dims = param.tensor.dims();
        param.tensor.set(drawn(case, &format!("{name}.{}", param.name), dims));
    }
    track(map, &case.spec());
}
