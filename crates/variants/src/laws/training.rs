//! What gradients reach, what they are, and where they lead.

use burn::tensor::{DType, Gradients, Tensor};

use super::{Case, DEFAULT, FROZEN, Outcome, ROUNDING, ROWS, SEQ};
use crate::{
    adapted::AdaptedLinear,
    capability::Capability,
    host::{inner, values},
    pass::Active,
    penalty::{self, AnyPenalty},
    role::{Param, Role},
    spec::VariantSpec,
    stream::{self, Stream},
};

/// The scalar `Σ c∘y` of a pass, with `c` fixed and random, as a function of the stack's tensors.
fn objective(map: &AdaptedLinear, case: &Case, active: &Active) -> Tensor<1> {
    let y = map.forward(case.input(), &case.pass(active));
    (y.clone() * cotangent(case)).sum()
}

pub(super) fn cotangent(case: &Case) -> Tensor<3> {
    let rows = case.runs * ROWS;
    let rng = &mut stream::generator(4, Stream::Data, "c");
    case.place().tensor(stream::normal(rng, rows * SEQ * case.shape[1], 1.0), [rows, SEQ, case.shape[1]])
}

pub(super) fn track(map: &mut AdaptedLinear, spec: &VariantSpec) {
    for mut param in map.parameters(0) {
        if spec.train.trains(param.role) {
            param.tensor.set(inner(&param.tensor).autodiff().require_grad());
        }
    }
}

/// Whether anything of a map's first stack trains.
pub(super) fn trains(map: &mut AdaptedLinear, spec: &VariantSpec) -> bool {
    map.parameters(0).iter().any(|param| spec.train.trains(param.role))
}

/// The gradient of a tensor, which is there where its role trains, and there alone.
#[track_caller]
pub(super) fn gradient(case: &Case, param: &Param<'_>, gradients: &Gradients) -> Option<Vec<f64>> {
    let found = param.tensor.grad(gradients).map(|gradient| values(&gradient));
    let name = param.name;
    assert_eq!(found.is_some(), case.spec().train.trains(param.role), "a gradient exists: {case:?}: `{name}`");
    found
}

/// Gradients reach exactly the tensors whose roles train, and every one of them.
pub fn gradients_reach_the_declared_roles(case: &Case) -> Outcome {
    let (mut map, spec) = (case.random(), case.spec());
    track(&mut map, &spec);
    if !trains(&mut map, &spec) {
        return FROZEN;
    }
    let gradients = objective(&map, case, &Active::All).backward();
    for param in map.parameters(0) {
        let reached = param.tensor.grad(&gradients).is_some_and(|g| values(&g).iter().any(|v| *v != 0.0));
        assert_eq!(
            reached,
            spec.train.trains(param.role),
            "gradients reach the declared roles: {case:?}: {}",
            param.name
        );
    }
    Outcome::Applied
}

/// The column norms of the dense sum, where the combination's backward pass holds them constant.
fn held_norms(map: &AdaptedLinear, case: &Case, active: &Active) -> Option<Vec<f64>> {
    if !case.spec().combine.holds_norms() {
        return None;
    }
    let sum = map.sum(0, active);
    Some(values(&inner(&sum).square().sum_dim(1).sqrt())) // [runs, 1, d_out]
}

/// Every gradient equals a central difference, with what the backward pass holds constant held constant.
pub fn gradients_are_finite_differences(case: &Case) -> Outcome {
    if case.dtype != DType::F64 {
        return ROUNDING;
    }
    let spec = case.spec();
    for active in case.actives() {
        let mut tracked = case.random();
        let held = held_norms(&tracked, case, &active);
        track(&mut tracked, &spec);
        if !trains(&mut tracked, &spec) {
            return FROZEN;
        }
        let gradients = objective(&tracked, case, &active).backward();
        let gradient_of = |param: Param<'_>| gradient(case, &param, &gradients);
        let analytic: Vec<_> = tracked.parameters(0).into_iter().map(gradient_of).collect();
        for (index, analytic) in analytic.into_iter().enumerate() {
            let Some(analytic) = analytic else { continue }; // of a frozen tensor
            // Every element of small tensors, a spread of those of large ones.
            let stride = (analytic.len() / 12).max(1);
            for element in (0..analytic.len()).step_by(stride) {
                let numeric = difference(case, &active, index, element, held.as_deref());
                let error = (analytic[element] - numeric).abs();
                // Central differences at h = 1e-5 in f64: truncation and rounding both near 1e-9 of the value.
                assert!(
                    error <= 1e-6 * (1.0 + numeric.abs()),
                    "gradient = finite difference: {case:?}, {active:?}: tensor {index}, element {element}: {} is not {numeric}",
                    analytic[element]
                );
            }
        }
    }
    Outcome::Applied
}

fn difference(case: &Case, active: &Active, tensor: usize, element: usize, held: Option<&[f64]>) -> f64 {
    let h = 1e-5;
    let at = |step: f64| {
        let mut map = case.random();
        {
            let mut params = map.parameters(0);
            let target = &mut params[tensor];
            let mut moved = values(&target.tensor);
            moved[element] += step;
            target.tensor.set(case.place().tensor(moved, target.tensor.dims()));
        }
        let y = map.forward(case.input(), &case.pass(active));
        let y = match (held, held_norms(&map, case, active)) {
            (Some(held), Some(now)) => {
                let ratio: Vec<f64> = now.iter().zip(held).map(|(now, held)| now / held).collect();
                let bias = biases(&map, case, active);
                rescale(case, y - bias.clone(), ratio) + bias
            }
            _ => y,
        };
        values(&(y * cotangent(case)).sum())[0]
    };
    (at(h) - at(-h)) / (2.0 * h)
}

/// Each run's bias on its own rows, `[rows, 1, d_out]`.
fn biases(map: &AdaptedLinear, case: &Case, active: &Active) -> Tensor<3> {
    let of = |run: usize| {
        let bias = map.merged(0, run, active).1.unwrap_or_else(|| unreachable!("the laws' base has a bias"));
        bias.reshape([1, 1, case.shape[1]]).repeat_dim(0, ROWS)
    };
    Tensor::cat((0..case.runs).map(of).collect(), 0)
}

/// Outputs without bias, rescaled per run and column so that the norm in them is the held one.
fn rescale(case: &Case, y: Tensor<3>, ratio: Vec<f64>) -> Tensor<3> {
    let [rows, seq, d_out] = y.dims();
    let ratio = case.place().tensor(ratio, [case.runs, 1, d_out]);
    (y.reshape([case.runs, rows / case.runs * seq, d_out]) * ratio).reshape([rows, seq, d_out])
}

/// The gradient of every penalty is its central difference, where the delta has one.
pub fn penalties_have_their_gradients(case: &Case) -> Outcome {
    let of = |map: &AdaptedLinear, penalty: AnyPenalty| penalty.of(map.penalised(0).as_slice());
    let spec = case.spec();
    let holds = |penalty: &AnyPenalty| penalty.requires().iter().all(|rule| spec.lacks(&[rule.needs]).is_none());
    let concerned: Vec<_> =
        penalty::all().into_iter().filter(holds).filter(|penalty| of(&case.random(), *penalty).is_some()).collect();
    if concerned.is_empty() {
        return Outcome::NotApplicable("the delta has nothing that a penalty concerns");
    }
    if case.dtype != DType::F64 {
        return ROUNDING;
    }
    for kind in concerned {
        let value = |map: &AdaptedLinear| {
            of(map, kind).unwrap_or_else(|| unreachable!("a penalty concerns it, as asked above")).sum()
        };
        has_its_gradient(case, &value);
    }
    Outcome::Applied
}

/// The gradient of `penalty` is its central difference.
fn has_its_gradient(case: &Case, penalty: &dyn Fn(&AdaptedLinear) -> Tensor<1>) {
    let spec = case.spec();
    let mut tracked = case.random();
    track(&mut tracked, &spec);
    let gradients = penalty(&tracked).backward();
    // A tensor that the penalty does not reach has gradient zero, and a difference of zero.
    let zeros = |param: &Param<'_>| vec![0.0; param.tensor.dims().iter().product()];
    let analytic: Vec<Vec<f64>> = tracked
        .parameters(0)
        .into_iter()
        .map(|param| param.tensor.grad(&gradients).map_or_else(|| zeros(&param), |gradient| values(&gradient)))
        .collect();
    let trained: Vec<bool> = tracked.parameters(0).iter().map(|param| spec.train.trains(param.role)).collect();
    for (index, analytic) in analytic.into_iter().enumerate().filter(|(index, _)| trained[*index]) {
        for element in (0..analytic.len()).step_by((analytic.len() / 8).max(1)) {
            let at = |step: f64| {
                let mut map = case.random();
                {
                    let mut params = map.parameters(0);
                    let mut moved = values(&params[index].tensor);
                    moved[element] += step;
                    let dims = params[index].tensor.dims();
                    params[index].tensor.set(case.place().tensor(moved, dims));
                }
                values(&penalty(&map))[0]
            };
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            let error = (analytic[element] - numeric).abs();
            // As for outputs: central differences in f64.
            assert!(error <= 1e-6 * (1.0 + numeric.abs()), "penalty: {case:?}: tensor {index}, element {element}");
        }
    }
}

/// Training recovers a planted update of the variant's own family.
///
/// The teacher is the start with every trained tensor moved; frozen tensors are the student's. The student sees
/// the identity matrix as input, so its outputs are `W' + bias`, and follows Adam down the squared error.
pub fn a_planted_update_is_recovered(case: &Case) -> Outcome {
    let spec = case.spec();
    let mut teacher = case.fresh();
    if case.dtype != DType::F64 {
        return Outcome::NotApplicable("a thousand steps in f32 show no more than in f64");
    }
    if !trains(&mut teacher, &spec) {
        return FROZEN;
    }
    // Each case takes a thousand steps.
    if case.runs == 1 {
        return Outcome::NotApplicable("three runs at once recover theirs");
    }
    if case.axis.name != DEFAULT.name && case.shape[0] > case.shape[1] {
        return Outcome::NotApplicable("wide maps show what the axis changes");
    }
    let is_gated = spec.delta.as_ref().is_some_and(|delta| delta.offers(Capability::Gated));
    if case.axis.name != DEFAULT.name && is_gated {
        return Outcome::NotApplicable(
            "half of the components are closed: few of them, from a start of equal numbers, may end beside the teacher",
        );
    }
    let numbers = |param: &Param<'_>| param.tensor.dims().iter().product::<usize>() / case.runs;
    if teacher.parameters(0).iter().map(numbers).sum::<usize>() > 10_000 {
        return Outcome::NotApplicable("what holds of thousands of numbers on another map, in a tenth of the time");
    }
    // LoRA-GA's under DoRA's norms ends at 0.7% of the error after 1000 steps and after 1500: its own preset, and DoRA's, get to the teacher.
    let is_calibrated = spec.delta.as_ref().is_some_and(|delta| delta.calibration().is_some());
    if is_calibrated && spec.combine.holds_norms() {
        return Outcome::NotApplicable(
            "two mechanisms: descent from random statistics, by a gradient that holds norms, may end beside the teacher",
        );
    }
    for mut param in teacher.parameters(0).into_iter().filter(|param| spec.train.trains(param.role)) {
        let dims @ [runs, rows, cols] = param.tensor.dims();
        let rng = &mut stream::generator(5, Stream::Init, param.name);
        // Numbers of a rotation are angles, and descent goes astray where planes have to turn by a right angle or more.
        let far = if param.role == Role::Rotation { 0.1 } else { 0.3 };
        let moved = case.place().tensor(stream::normal(rng, runs * rows * cols, far), dims);
        let start = param.tensor.clone();
        // What starts at zero or next to it moves off it, the rest in proportion: no number of the teacher lies behind a zero that
        // descent would have to cross.
        let is_zero = values(&start).iter().all(|value| value.abs() < 1e-3);
        param.tensor.set(if is_zero { moved } else { start.clone() + start * moved });
    }
    let [d_in, _] = case.shape;
    let identity = Tensor::<2>::eye(d_in, &case.place().device).cast(case.dtype).unsqueeze::<3>();
    let x = identity.repeat_dim(0, case.runs); // [runs, d_in, d_in]
    let pass = case.pass(&Active::All);
    let wanted = teacher.forward(x.clone(), &pass);
    let mut student = case.fresh();
    let mut moments: Vec<[Vec<f64>; 2]> = Vec::new();
    let (mut first, mut last) = (None, f64::INFINITY);
    for step in 1..=PLANTED_STEPS {
        track(&mut student, &spec);
        let loss = (student.forward(x.clone(), &pass) - wanted.clone()).square().sum();
        last = values(&inner(&loss))[0];
        first.get_or_insert(last);
        let gradients = loss.backward();
        let trained = student.parameters(0).into_iter().filter(|param| spec.train.trains(param.role));
        let rate = 0.05 * (1.0 - f64::from(step) / f64::from(PLANTED_STEPS + 1));
        for (index, mut param) in trained.enumerate() {
            let gradient = param.tensor.grad(&gradients).map(|gradient| values(&gradient));
            let gradient = gradient.unwrap_or_else(|| unreachable!("a trained tensor has a gradient"));
            if moments.len() == index {
                moments.push([vec![0.0; gradient.len()], vec![0.0; gradient.len()]]);
            }
            let mut value = values(&inner(&param.tensor));
            adam(&mut value, &gradient, &mut moments[index], rate, step);
            param.tensor.set(case.place().tensor(value, param.tensor.dims()));
        }
    }
    let first = first.unwrap_or_default();
    // Descent on two factors is slow along some directions. A family that cannot reach its teacher keeps several per cent.
    assert!(last <= 5e-3 * first, "a planted update is recovered: {case:?}: squared error {last} of {first}");
    Outcome::Applied
}

const PLANTED_STEPS: i32 = 1000;

/// One step of Adam; a shorter memory of squares than torch's default, for few steps.
fn adam(value: &mut [f64], gradient: &[f64], [first, second]: &mut [Vec<f64>; 2], rate: f64, step: i32) {
    for (index, g) in gradient.iter().enumerate() {
        first[index] = 0.9 * first[index] + 0.1 * g;
        second[index] = 0.99 * second[index] + 0.01 * g * g;
        let (m, v) = (first[index] / (1.0 - 0.9_f64.powi(step)), second[index] / (1.0 - 0.99_f64.powi(step)));
        value[index] -= rate * m / (v.sqrt() + 1e-12);
    }
}
