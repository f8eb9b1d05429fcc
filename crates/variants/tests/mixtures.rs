//! Mixtures of experts reduce to the methods that they mix.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/numbers.rs"]
mod numbers;

use std::collections::BTreeSet;

use burn::tensor::Tensor;
use numbers::{place, random};
use variants::{
    adapted::AdaptedLinear,
    capability::Capability,
    combine::{CombineSpec, weight_decomposed},
    delta::{DeltaSpec, routed_gain, routed_low_rank},
    host::values,
    pass::Pass,
    preset,
    role::Role,
    slot::{RunPlan, Slot, StackPlan, attach},
    spec::VariantSpec,
};

const D_IN: usize = 7;
const D_OUT: usize = 6;
const RANK: usize = 3;

fn spec(name: &str) -> VariantSpec {
    (preset::find(name).unwrap().spec)(RANK)
}

/// A map with one run of `spec`, its tensors at random values by their names.
fn map(spec: &VariantSpec) -> AdaptedLinear {
    let mut map = AdaptedLinear::new("map", random("w", [D_IN, D_OUT]), None);
    let runs = vec![RunPlan { init_seed: 0, alpha: 6.0 }];
    let plan = StackPlan::new(spec.check(Some(1000)).unwrap(), runs, BTreeSet::from(["map".to_owned()]));
    attach(&mut [Slot::Linear(&mut map)], &plan, &place()).unwrap();
    for mut param in map.parameters(0) {
        let dims = param.tensor.dims();
        param.tensor.set(random(param.name, dims));
    }
    map
}

fn forward(map: &AdaptedLinear) -> Vec<f64> {
    values(&map.forward(random("x", [2, 4, D_IN]), &Pass::evaluation(1)))
}

#[track_caller]
fn close(got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len());
    for (a, b) in got.iter().zip(wanted) {
        assert!((a - b).abs() <= 1e-12 * (1.0 + b.abs()), "{a} is not {b}"); // f64, a few dozen operations
    }
}

fn with(name: &str, experts: usize) -> VariantSpec {
    let mut spec = spec(name);
    match &mut spec.delta {
        Some(DeltaSpec::RoutedLowRank(delta)) => delta.experts = experts,
        Some(DeltaSpec::RoutedGain(delta)) => delta.experts = experts,
        _ => unreachable!("{name} is a mixture"),
    }
    spec
}

/// The weight of a single expert is 1, whatever its router says.
#[test]
fn one_expert_is_lora() {
    let lora = forward(&map(&spec("lora")));
    for name in ["hydra_lora", "molora"] {
        close(&forward(&map(&with(name, 1))), &lora);
    }
}

/// Weights sum to 1: experts that are equal are one, for any router.
#[test]
fn equal_experts_are_one() {
    let (mut hydra, mut lora) = (map(&with("hydra_lora", 4)), map(&spec("lora")));
    let b: Tensor<3> = random("one b", [1, RANK, D_OUT]);
    for mut param in hydra.parameters(0).into_iter().filter(|param| param.role == Role::B) {
        param.tensor.set(Tensor::cat(vec![b.clone(); 4], 2));
    }
    for mut param in lora.parameters(0).into_iter().filter(|param| param.role == Role::B) {
        param.tensor.set(b.clone());
    }
    close(&forward(&hydra), &forward(&lora));

    let mut mov = map(&with("mov", 5));
    let gain: Tensor<3> = random("one gain", [1, 1, D_OUT]);
    for mut param in mov.parameters(0).into_iter().filter(|param| param.role == Role::Gain) {
        param.tensor.set(gain.clone().repeat_dim(1, 5));
    }
    let base = random::<3>("x", [2, 4, D_IN]).matmul(random::<2>("w", [D_IN, D_OUT]).unsqueeze::<3>());
    close(&forward(&mov), &values(&(base * gain)));
}

/// A router far on one side leaves that expert alone: molora's is then LoRA with that expert's factors.
#[test]
fn a_router_that_is_sure_picks_an_expert() {
    let (mut molora, mut lora) = (map(&with("molora", 2)), map(&spec("lora")));
    let (a, b): (Tensor<3>, Tensor<3>) = (random("a", [1, 2 * D_IN, RANK]), random("b", [1, RANK, 2 * D_OUT]));
    for mut param in molora.parameters(0) {
        match param.role {
            // Inputs are below 1000 times smaller than this.
            Role::Router => {
                let sure = (0..D_IN).flat_map(|i| [0.0, if i == 0 { 1e5 } else { 0.0 }]).collect();
                param.tensor.set(place().tensor(sure, [1, D_IN, 2]));
            }
            Role::A => param.tensor.set(a.clone()),
            _ => param.tensor.set(b.clone()),
        }
    }
    let found = forward(&molora);
    let x = values(&random::<3>("x", [2, 4, D_IN]));
    for expert in [0, 1] {
        for mut param in lora.parameters(0) {
            param.tensor.set(match param.role {
                Role::A => a.clone().slice([0..1, expert * D_IN..(expert + 1) * D_IN, 0..RANK]),
                _ => b.clone().slice([0..1, 0..RANK, expert * D_OUT..(expert + 1) * D_OUT]),
            });
        }
        for (row, wanted) in forward(&lora).chunks(D_OUT).enumerate() {
            // The first input's sign says which logit is the larger.
            if (x[row * D_IN] > 0.0) == (expert == 1) {
                close(&found[row * D_OUT..(row + 1) * D_OUT], wanted);
            }
        }
    }
}

/// Until an expert has moved, the router is not told anything.
#[test]
fn the_router_waits_for_its_experts() {
    let mut hydra = AdaptedLinear::new("map", random("w", [D_IN, D_OUT]), None);
    let runs = vec![RunPlan { init_seed: 0, alpha: 6.0 }];
    let plan = StackPlan::new(spec("hydra_lora").check(None).unwrap(), runs, BTreeSet::from(["map".to_owned()]));
    attach(&mut [Slot::Linear(&mut hydra)], &plan, &place()).unwrap();
    for mut param in hydra.parameters(0) {
        param.tensor.set(param.tensor.clone().autodiff().require_grad());
    }
    let y = hydra.forward(random("x", [2, 4, D_IN]), &Pass::evaluation(1));
    let gradients = (y * random("c", [2, 4, D_OUT])).sum().backward();
    for param in hydra.parameters(0) {
        let moves = param.tensor.grad(&gradients).is_some_and(|g| values(&g).iter().any(|value| *value != 0.0));
        assert_eq!(moves, param.role == Role::B, "{}", param.name);
    }
}

/// What needs one `ΔW` for all tokens refuses a mixture, and says why.
#[test]
fn a_mixture_has_no_matrix() {
    let hydra = spec("hydra_lora");
    let lack = hydra.lacks(&[Capability::Mergeable]).unwrap().to_string();
    assert_eq!(lack, "its delta is `routed_low_rank`, whose experts every token weighs anew");
    let dora = VariantSpec { combine: CombineSpec::WeightDecomposed(weight_decomposed::Spec::default()), ..hydra };
    let problems = dora.check(None).unwrap_err();
    assert!(
        problems.iter().any(|problem| problem.rule.contains("`routed_low_rank` every token has its own")),
        "{problems:?}"
    );
    for delta in [
        DeltaSpec::RoutedLowRank(routed_low_rank::Spec { experts: 0, ..routed_low_rank::Spec::default() }),
        DeltaSpec::RoutedGain(routed_gain::Spec { experts: 0, ..routed_gain::Spec::default() }),
    ] {
        assert_eq!(delta.check()[0].field, "experts");
    }
}
