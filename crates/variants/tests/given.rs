//! A stack whose values are given is the stack that they come from, and nothing is drawn or decomposed for it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{collections::BTreeSet, sync::atomic::Ordering};

use burn::tensor::{DType, Device};
use variants::{
    adapted::AdaptedLinear,
    delta::{DeltaSpec, shared_random},
    embedding::AdaptedEmbedding,
    host::{Placement, values},
    laws::calibrated,
    pass::{Active, Pass},
    preset,
    role::{Param, Role},
    slot::{INITIALISED, RunPlan, Slot, StackPlan, attach},
    stream::{self, Stream},
};

/// Widths that blocks of two divide.
const SHAPE: [usize; 2] = [8, 6];

fn place() -> Placement {
    Placement::new(&Device::flex(), DType::F64)
}

fn map() -> AdaptedLinear {
    let weight = stream::normal(&mut stream::generator(1, Stream::Data, "w"), SHAPE[0] * SHAPE[1], 0.5);
    AdaptedLinear::new("map", place().tensor(weight, SHAPE), Some(place().tensor(vec![0.5; SHAPE[1]], [SHAPE[1]])))
}

fn plan(name: &str, slot: &str) -> StackPlan {
    let variant = (preset::find(name).unwrap().spec)(2).check(Some(1000)).unwrap();
    let runs = vec![RunPlan { init_seed: 3, alpha: 6.0 }, RunPlan { init_seed: 4, alpha: 12.0 }];
    calibrated(StackPlan::new(variant, runs, BTreeSet::from([slot.to_owned()])), &[(slot, map().shape())])
}

/// Puts the values of `made` into `given`, which has the same parameters.
fn put(name: &str, made: Vec<Param<'_>>, given: Vec<Param<'_>>) {
    assert_eq!(made.len(), given.len(), "{name}");
    for (made, mut given) in made.into_iter().zip(given) {
        assert_eq!((made.name, made.role, made.tensor.dims()), (given.name, given.role, given.tensor.dims()), "{name}");
        given.tensor.set(made.tensor.clone());
    }
}

#[test]
fn a_stack_whose_values_are_given_is_the_stack_that_they_come_from() {
    let mut kept = (preset::find("vera").unwrap().spec)(2);
    kept.delta =
        Some(DeltaSpec::SharedRandom(shared_random::Spec { pair: shared_random::Save::Yes, ..Default::default() }));
    let kept = StackPlan { variant: kept.check(Some(1000)).unwrap(), ..plan("vera", "map") };
    let fits = |preset: &&preset::Preset| (preset.spec)(2).delta.is_none_or(|delta| delta.misfit(2, SHAPE).is_none());
    let plans = preset::all().into_iter().filter(fits).map(|preset| (preset.name, plan(preset.name, "map")));
    for (name, plan) in plans.chain([("vera with its pair", kept)]) {
        let (mut made, mut given) = (map(), map());
        let is_mergeable = plan.variant.spec().unmergeable().is_none();
        attach(&mut [Slot::Linear(&mut made)], &plan, &place()).unwrap();
        let before = INITIALISED.load(Ordering::Relaxed);
        attach(&mut [Slot::Linear(&mut given)], &plan.with_given_values(), &place()).unwrap();
        assert_eq!(INITIALISED.load(Ordering::Relaxed), before, "{name}: nothing is initialised");
        for param in given.parameters(0) {
            let drawn = [Role::A, Role::B, Role::Lambda, Role::Projection].contains(&param.role);
            assert!(!drawn || values(&param.tensor).iter().all(|v| *v == 0.0), "{name}: `{}` is zeros", param.name);
        }
        put(name, made.parameters(0), given.parameters(0));
        let x = place().tensor((0..4 * SHAPE[0]).map(|at| (at as f64).sin()).collect(), [4, 1, SHAPE[0]]);
        let outputs = |map: &AdaptedLinear| values(&map.forward(x.clone(), &Pass::evaluation(2)));
        assert_eq!(outputs(&given), outputs(&made), "{name}");
        if is_mergeable {
            assert_eq!(values(&given.weight(0, &Active::All)), values(&made.weight(0, &Active::All)), "{name}");
        }
        assert_eq!(given.checksum(0), made.checksum(0), "{name}: what no file has is drawn");
    }

    let (table, plan) = (|| AdaptedEmbedding::new("words", map().base().0), plan("lora", "words"));
    let (mut made, mut given) = (table(), table());
    attach(&mut [Slot::Embedding(&mut made)], &plan, &place()).unwrap();
    attach(&mut [Slot::Embedding(&mut given)], &plan.with_given_values(), &place()).unwrap();
    put("words", Slot::Embedding(&mut made).into_parameters(0), Slot::Embedding(&mut given).into_parameters(0));
    assert_eq!(values(&given.table(0)), values(&made.table(0)));
}
