//! Tensors that several maps own together: there is one of each, setting it sets all, and its gradient is the sum over its maps.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/numbers.rs"]
mod numbers;

use std::collections::BTreeSet;

use burn::tensor::Tensor;
use numbers::{place, random};
use variants::{
    adapted::AdaptedLinear,
    delta::{DeltaSpec, vector_bank},
    host::values,
    pass::{Active, Pass},
    preset,
    role::{Param, Role, join},
    slot::{RunPlan, Slot, StackPlan, attach},
    spec::VariantSpec,
};

const D_IN: usize = 4;
const D_OUT: usize = 6;
const RANK: usize = 3;
const NAMES: [&str; 3] = ["layer.0.query", "layer.1.query", "layer.1.value"];

fn spec(name: &str) -> VariantSpec {
    (preset::find(name).unwrap().spec)(RANK)
}

/// Three maps with two runs of `spec`.
fn maps(spec: &VariantSpec) -> [AdaptedLinear; 3] {
    let mut maps = NAMES.map(|name| AdaptedLinear::new(name, random(name, [D_IN, D_OUT]), None));
    let runs = [3, 4].map(|init_seed| RunPlan { init_seed, alpha: 6.0 }).to_vec();
    let plan = StackPlan::new(spec.check(Some(1000)).unwrap(), runs, NAMES.map(str::to_owned).into());
    let mut slots: Vec<Slot<'_>> = maps.iter_mut().map(Slot::Linear).collect();
    attach(&mut slots, &plan, &place()).unwrap();
    maps
}

/// What the maps have, joined.
fn joined(maps: &mut [AdaptedLinear; 3]) -> Vec<Param<'_>> {
    let all = maps.iter_mut().flat_map(|map| map.parameters(0)).map(|param| ((), param));
    join(all).into_iter().map(|((), param)| param).collect()
}

/// The tensors called `name` of each map.
fn of(maps: &mut [AdaptedLinear; 3], name: &str) -> Vec<Vec<f64>> {
    let one = |map: &mut AdaptedLinear| {
        map.parameters(0).into_iter().find(|param| param.name == name).map(|param| values(&param.tensor)).unwrap()
    };
    maps.iter_mut().map(one).collect()
}

/// Queries own a pair, and the value one of its own; every map has its vectors.
#[test]
fn maps_in_one_place_own_a_pair_together() {
    let mut maps = maps(&spec("tied_lora"));
    let names: Vec<(Option<String>, &str)> =
        joined(&mut maps).iter().map(|param| (param.owner.as_deref().map(str::to_owned), param.name)).collect();
    let owned = |owner: &str, name| (Some(format!("tied.layer.{owner}.{D_IN}x{D_OUT}")), name);
    let own = |name| (None, name);
    let wanted = [
        owned("query", "a"),
        owned("query", "b"),
        own("u"),
        own("v"),
        own("u"), // of the second query
        own("v"),
        owned("value", "a"),
        owned("value", "b"),
        own("u"),
        own("v"),
    ];
    assert_eq!(names, wanted);
    let [first, second, other] = <[Vec<f64>; 3]>::try_from(of(&mut maps, "a")).unwrap();
    assert!(first == second && first != other, "queries share what they draw, and the value does not");
    for (at, mut param) in joined(&mut maps).into_iter().enumerate() {
        let dims = param.tensor.dims();
        param.tensor.set(random(&format!("{at}"), dims));
    }
    for name in ["a", "b"] {
        let [first, second, other] = <[Vec<f64>; 3]>::try_from(of(&mut maps, name)).unwrap();
        assert!(first == second && first != other, "setting `{name}` sets it for every map that refers to it");
    }
}

/// The gradient of what maps own together is the sum of those that each map would give it alone.
#[test]
fn a_tied_gradient_is_the_sum_over_its_maps() {
    for name in ["tied_lora", "vb_lora"] {
        let mut maps = maps(&spec(name));
        for (at, mut param) in joined(&mut maps).into_iter().enumerate() {
            let dims = param.tensor.dims();
            param.tensor.set(random(&format!("{at}"), dims).autodiff().require_grad());
        }
        let loss = |map: &AdaptedLinear| {
            let y = map.forward(random("x", [4, 2, D_IN]), &Pass::evaluation(2));
            (y * random(&format!("c {}", map.name()), [4, 2, D_OUT])).sum()
        };
        let [a, b, c] = maps.each_ref().map(loss);
        let alone = maps.each_ref().map(|map| loss(map).backward());
        let together = (a + b + c).backward();
        let mut summed = 0;
        for param in joined(&mut maps) {
            let mut wanted: Option<Tensor<3>> = None;
            let mut maps = 0;
            for gradient in alone.iter().filter_map(|alone| param.tensor.grad(alone)) {
                maps += 1;
                wanted = Some(wanted.map_or(gradient.clone(), |sum| sum + gradient.clone()));
            }
            summed += usize::from(maps > 1);
            let found = values(&param.tensor.grad(&together).unwrap());
            for (found, wanted) in found.iter().zip(values(&wanted.unwrap())) {
                assert!((found - wanted).abs() < 1e-12, "{name}, {}: {found} is not {wanted}", param.name);
            }
        }
        // The queries' pair; the bank.
        assert_eq!(summed, if name == "tied_lora" { 2 } else { 1 }, "{name}");
    }
}

/// On one map, with both vectors at 1, Tied-LoRA is LoRA.
#[test]
fn tied_lora_with_vectors_of_ones_is_lora() {
    let (mut tied, mut lora) = (maps(&spec("tied_lora")), maps(&spec("lora")));
    for name in ["a", "b"] {
        let set = |map: &mut AdaptedLinear| {
            for mut param in map.parameters(0).into_iter().filter(|param| param.name == name) {
                let dims = param.tensor.dims();
                param.tensor.set(random(name, dims));
            }
        };
        set(&mut tied[2]);
        set(&mut lora[2]);
    }
    let [tied, lora] = [&tied[2], &lora[2]].map(|map| values(&map.weight(0, &Active::All)));
    for (tied, lora) in tied.iter().zip(&lora) {
        assert!((tied - lora).abs() < 1e-14, "{tied} is not {lora}");
    }
}

/// Where one logit of a piece is far above the others, the piece is that vector of the bank; with as many vectors as the bank has, it is the
/// softmax mixture of all.
#[test]
fn a_piece_is_a_mixture_of_the_banks_vectors() {
    let with = |top_k| {
        let bank = vector_bank::Spec { vectors: 5, vector_length: 2, top_k, ..vector_bank::Spec::default() };
        maps(&VariantSpec { delta: Some(DeltaSpec::VectorBank(bank)), ..spec("vb_lora") })
    };
    for top_k in [1, 5] {
        let mut maps = with(top_k);
        for (at, mut param) in joined(&mut maps).into_iter().enumerate() {
            let dims = param.tensor.dims();
            param.tensor.set(random(&format!("{at}"), dims));
        }
        let [bank, a, b] = ["vectors", "logits_a", "logits_b"].map(|name| of(&mut maps, name).swap_remove(0));
        // One run's factor, `[rank, width]`, of logits `[rank, width/2·5]`.
        let factor = |logits: &[f64], run: usize, width: usize| {
            let own = logits[run * RANK * width / 2 * 5..].chunks(5).take(RANK * width / 2);
            own.flat_map(|logits| {
                let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weigh = |logit: f64| if top_k == 5 || logit == most { (logit - most).exp() } else { 0.0 };
                let sum: f64 = logits.iter().map(|logit| weigh(*logit)).sum();
                [0, 1].map(|j| {
                    let vector = |k: usize| bank[(run * 5 + k) * 2 + j];
                    logits.iter().enumerate().map(|(k, logit)| weigh(*logit) / sum * vector(k)).sum::<f64>()
                })
            })
            .collect::<Vec<f64>>()
        };
        let (base, found) = (values(&maps[0].base().0), values(&maps[0].weight(0, &Active::All)));
        for run in 0..2 {
            let (a, b) = (factor(&a, run, D_IN), factor(&b, run, D_OUT));
            for (i, o) in (0..D_IN).flat_map(|i| (0..D_OUT).map(move |o| (i, o))) {
                let change: f64 = (0..RANK).map(|k| a[k * D_IN + i] * b[k * D_OUT + o]).sum();
                let (found, wanted) = (found[(run * D_IN + i) * D_OUT + o], base[i * D_OUT + o] + change);
                assert!((found - wanted).abs() < 1e-14, "K = {top_k}: {found} is not {wanted}");
            }
        }
    }
}

/// A bank is one for all maps whose vectors have one length.
#[test]
fn banks_are_told_apart_by_length() {
    let mut wide = AdaptedLinear::new("layer.0.up", random("up", [4, 8]), None);
    let mut tall = AdaptedLinear::new("layer.0.down", random("down", [8, 4]), None);
    let mut odd = AdaptedLinear::new("layer.0.odd", random("odd", [6, 4]), None);
    let plan = StackPlan::new(
        spec("vb_lora").check(None).unwrap(),
        vec![RunPlan { init_seed: 0, alpha: 1.0 }],
        BTreeSet::from(["layer.0.up", "layer.0.down", "layer.0.odd"].map(str::to_owned)),
    );
    attach(&mut [Slot::Linear(&mut wide), Slot::Linear(&mut tall), Slot::Linear(&mut odd)], &plan, &place()).unwrap();
    let maps = [&mut wide, &mut tall, &mut odd];
    let all = maps.into_iter().flat_map(|map| map.parameters(0)).map(|param| ((), param));
    let banks: Vec<String> = join(all)
        .into_iter()
        .filter(|((), param)| param.role == Role::Bank)
        .map(|((), param)| param.owner.as_deref().unwrap().to_owned())
        .collect();
    assert_eq!(banks, ["tied.bank.4", "tied.bank.2"]);
}
