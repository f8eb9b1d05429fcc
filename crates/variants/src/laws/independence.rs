//! The law of independence: neither the other runs of a stack nor other stacks change a run.

use burn::tensor::Tensor;

use super::{
    Case, Outcome, ROWS,
    training::{cotangent, track, trains},
};
use crate::{
    adapted::AdaptedLinear,
    host::{Placement, values},
    pass::{Active, DropoutClock, Pass, StackPass},
    preset,
    role::Param,
    slot::{RunPlan, Slot, StackPlan, attach},
    stream::{self, Stream},
};

/// The law of independence: a run among others has the first values, outputs and gradients it has alone.
pub fn runs_are_independent(case: &Case) -> Outcome {
    let spec = case.spec();
    for active in case.actives() {
        let (mut together, x) = (case.fresh(), case.input());
        perturb(&mut together, case);
        track(&mut together, &spec);
        let y = together.forward(x.clone(), &case.pass(&active));
        let gradients = trains(&mut together, &spec).then(|| (y.clone() * cotangent(case)).sum().backward());
        for (run, seed) in case.seeds().into_iter().enumerate() {
            let rows = run * ROWS..(run + 1) * ROWS;
            let mut plan = case.plan(&[seed]);
            plan.runs[0].alpha = 8.0 + run as f64; // replaced where the map has its own
            let mut alone = case.base();
            attach(&mut [Slot::Linear(&mut alone)], &plan, &case.place())
                .unwrap_or_else(|error| unreachable!("{error}"));
            for (mine, all) in alone.parameters(0).into_iter().zip(case.fresh().parameters(0)) {
                assert_eq!(
                    values(&mine.tensor),
                    values(&all.tensor.clone().slice([run..run + 1])),
                    "first values alone and among others: {case:?}"
                );
            }
            perturb_run(&mut alone, run, &case.place());
            track(&mut alone, &spec);
            let own = match &active {
                Active::Prefix(ranks) => Active::Prefix(vec![ranks[run]]),
                other => other.clone(),
            };
            let pass = Pass::of(vec![StackPass::with(1, own)]);
            let z = alone.forward(x.clone().slice([rows.clone()]), &pass);
            case.close("outputs alone and among others", &z, &y.clone().slice([rows.clone()]));
            let Some(gradients) = &gradients else { continue };
            let mine = (z * cotangent(case).slice([rows])).sum().backward();
            for (alone, all) in alone.parameters(0).into_iter().zip(together.parameters(0)) {
                let all = all.tensor.grad(gradients).map(|all| all.slice([run..run + 1]));
                same(case, "gradients alone and among others", &alone, [alone.tensor.grad(&mine), all]);
            }
        }
    }
    Outcome::Applied
}

/// Two gradients of one tensor are the same. Both exist where the tensor trains: one that is lost on either side breaks the law.
#[track_caller]
fn same(case: &Case, law: &str, param: &Param<'_>, [one, other]: [Option<Tensor<3>>; 2]) {
    let (name, wanted) = (param.name, case.spec().train.trains(param.role));
    assert_eq!([one.is_some(), other.is_some()], [wanted; 2], "{law}: {case:?}: a gradient of `{name}` is lost");
    if let (Some(one), Some(other)) = (one, other) {
        case.close(law, &one, &other);
    }
}

/// Moves every run off its first values by numbers of its own.
fn perturb(map: &mut AdaptedLinear, case: &Case) {
    for mut param in map.parameters(0) {
        let [_, rows, cols] = param.tensor.dims();
        let noise = (0..case.runs)
            .map(|run| noise(&case.place(), param.name, run, rows * cols).reshape([1, rows, cols]))
            .collect();
        param.tensor.set(param.tensor.clone() + Tensor::cat(noise, 0));
    }
}

fn perturb_run(map: &mut AdaptedLinear, run: usize, place: &Placement) {
    for mut param in map.parameters(0) {
        let [_, rows, cols] = param.tensor.dims();
        param.tensor.set(param.tensor.clone() + noise(place, param.name, run, rows * cols).reshape([1, rows, cols]));
    }
}

fn noise(place: &Placement, name: &str, run: usize, n: usize) -> Tensor<1> {
    place.tensor(stream::normal(&mut stream::generator(run as u64, Stream::Data, name), n, 0.5), [n])
}

/// The case's stack between stacks of other variants on one map: next to it two that are computed as one batch with it where it adds to the
/// base's output, outside two that have products of their own.
pub(super) fn crowded(case: &Case) -> AdaptedLinear {
    let (mut map, spec) = (case.base(), case.spec());
    let [d_in, d_out] = map.shape();
    let width = spec.batch_key().components;
    let beside = |name: &str, rank: usize, seed: u64| {
        let preset = preset::find(name).unwrap_or_else(|_| unreachable!("`{name}` is in the registry"));
        let mut own = (preset.spec)(rank);
        if own.delta.is_some() {
            own.dropout = spec.dropout;
        }
        let variant = own.check(None).unwrap_or_else(|problems| unreachable!("{problems:?}"));
        let runs = vec![RunPlan { init_seed: seed, alpha: 16.0 }];
        StackPlan::new(variant, runs, [super::NAME.to_owned()].into())
    };
    let like = |seed: u64| beside("lora", width.clamp(1, d_in.min(d_out)), seed);
    for plan in [beside("dora", 1, 77), like(79), case.plan(&case.seeds()), like(80), beside("full", 0, 78)] {
        attach(&mut [Slot::Linear(&mut map)], &plan, &case.place())
            .unwrap_or_else(|error| unreachable!("{case:?}: {error}"));
    }
    for (stack, seed) in [(1, 79), (3, 80)] {
        for mut param in map.parameters(stack) {
            let [_, rows, cols] = param.tensor.dims();
            let noise = noise(&case.place(), param.name, seed, rows * cols).reshape([1, rows, cols]);
            param.tensor.set(param.tensor.clone() + noise);
        }
    }
    let mut random = case.random();
    for (mut to, from) in map.parameters(2).into_iter().zip(random.parameters(0)) {
        to.tensor.set(from.tensor.clone());
    }
    map
}

/// Rows of the two stacks before, of the case's own and of the two behind; `[runs + 4] · ROWS` rows in all.
pub(super) fn crowded_input(case: &Case) -> Tensor<3> {
    let own = case.input();
    let other = |factor: f64| own.clone().slice([0..ROWS]) * factor;
    Tensor::cat(vec![other(3.0), other(0.5), own.clone(), other(-0.7), other(-2.0)], 0)
}

/// The pass of all stacks, and that of the case's alone.
pub(super) fn crowded_pass(case: &Case, active: &Active, drops: bool) -> (Pass, Pass) {
    let own = StackPass::with(case.runs, active.clone());
    let bare = || StackPass::evaluation(1);
    let (all, alone) = (Pass::of(vec![bare(), bare(), own.clone(), bare(), bare()]), Pass::of(vec![own]));
    if !drops {
        return (all, alone);
    }
    let clock = |seeds: Vec<u64>| DropoutClock { seeds, step: 3, micro: 0 };
    let seeds = case.seeds();
    let of_all = [vec![901, 902], seeds.clone(), vec![903, 904]].concat();
    (all.dropping(&clock(of_all), &case.place()), alone.dropping(&clock(seeds), &case.place()))
}

/// A stack computes, and its tensors receive, what they would with no stack beside it.
pub fn stacks_are_independent(case: &Case) -> Outcome {
    let spec = case.spec();
    let rows = 2 * ROWS..(case.runs + 2) * ROWS;
    for (active, drops) in case.actives().into_iter().flat_map(|active| [(active.clone(), false), (active, true)]) {
        let (mut map, mut alone) = (crowded(case), case.random());
        for mut param in map.parameters(2).into_iter().filter(|param| spec.train.trains(param.role)) {
            param.tensor.set(crate::host::inner(&param.tensor).autodiff().require_grad());
        }
        track(&mut alone, &spec);
        let (pass, own_pass) = crowded_pass(case, &active, drops);
        let y = map.forward(crowded_input(case), &pass).slice([rows.clone()]);
        let z = alone.forward(case.input(), &own_pass);
        case.close("outputs beside other stacks", &y, &z);
        if !trains(&mut alone, &spec) {
            continue;
        }
        let (all, own) = ((y * cotangent(case)).sum().backward(), (z * cotangent(case)).sum().backward());
        for (all_param, own_param) in map.parameters(2).into_iter().zip(alone.parameters(0)) {
            let found = [all_param.tensor.grad(&all), own_param.tensor.grad(&own)];
            same(case, "gradients beside other stacks", &own_param, found);
        }
    }
    Outcome::Applied
}

/// What is not a number in one run, in its rows and in its tensors, reaches no other.
pub fn nan_stays_in_its_run(case: &Case) -> Outcome {
    if case.runs == 1 {
        return Outcome::NotApplicable("there is no other run");
    }
    let spec = case.spec();
    let mut sick = case.random();
    for mut param in sick.parameters(0).into_iter().filter(|param| spec.train.trains(param.role)) {
        let [runs, rows, cols] = param.tensor.dims();
        let healthy = param.tensor.clone().slice([1..runs]);
        let nan = Tensor::full([1, rows, cols], f64::NAN, (&case.place().device, case.dtype));
        param.tensor.set(Tensor::cat(vec![nan, healthy], 0));
    }
    let healthy = case.random();
    let x = case.input();
    let [all, seq, d] = x.dims();
    let nan = Tensor::full([ROWS, seq, d], f64::NAN, (&case.place().device, case.dtype));
    let x_sick = Tensor::cat(vec![nan, x.clone().slice([ROWS..all])], 0);
    let mut tracked = healthy.clone();
    track(&mut sick, &spec);
    track(&mut tracked, &spec);
    for active in case.actives() {
        let y = sick.forward(x_sick.clone(), &case.pass(&active)).slice([ROWS..all]);
        let z = tracked.forward(x.clone(), &case.pass(&active)).slice([ROWS..all]);
        case.close("outputs beside a sick run", &y, &z);
        if !trains(&mut tracked, &spec) {
            continue;
        }
        let c = cotangent(case).slice([ROWS..all]);
        let (a, b) = ((y * c.clone()).sum().backward(), (z * c).sum().backward());
        for (one, other) in sick.parameters(0).into_iter().zip(tracked.parameters(0)) {
            let healthy = |gradient: Tensor<3>| gradient.slice([1..case.runs]);
            let found = [one.tensor.grad(&a).map(healthy), other.tensor.grad(&b).map(healthy)];
            same(case, "gradients beside a sick run", &one, found);
        }
    }
    Outcome::Applied
}
