//! A method of your own, composed outside of the crate `variants`: check it, look at one map, train it beside LoRA.
//!
//! ```text
//! cargo run --release -p examples --example add_a_variant
//! ```
//!
//! The method here keeps a random orthonormal frame `Q` on the input side and trains `B` alone, at rsLoRA's scale:
//!
//! ```text
//! y = x·(W0 + (α/√r)·Q·B) + b,    QᵀQ = I frozen, B = 0 at the start,    r·d_out trained numbers per map
//! ```
//!
//! A method is a value, a [`VariantSpec`], and whatever takes one takes yours. What an experiment's file can *name* is the registry of
//! presets, which belongs to `variants`: to reach YAML, `lora-lab list` and the laws, the function [`frame_lora`] becomes a file there.
//! A new *mechanism* (another form of ΔW) always does, because the kinds of an axis are an enum. `docs/src/adding_a_method.md` goes
//! through both.

use std::{collections::BTreeSet, error::Error, path::Path};

use burn::tensor::{DType, Device, Tensor};
use experiment::cell::Cell;
use record::RunRecord;
use trainer::model_cache::ModelCache;
use variants::{
    adapted::AdaptedLinear,
    host::{Placement, values},
    init::{AnyInit, orthonormal::Orthonormal},
    pass::{Active, Pass},
    presets::lora,
    role::{Role, RoleConfig, TrainConfig},
    scaling::Scaling,
    slot::{RunPlan, Slot, StackPlan, attach},
    spec::VariantSpec,
    stream::{self, Stream},
};

/// LoRA with another start, another scale and a frozen `A`.
pub(crate) fn frame_lora(rank: usize) -> VariantSpec {
    VariantSpec {
        init: AnyInit::Orthonormal(Orthonormal {}),
        scaling: Scaling::AlphaOverSqrtRank,
        train: TrainConfig::of([(Role::A, RoleConfig::Frozen)]),
        ..lora::spec(rank)
    }
}

/// What one map with the method showed.
pub(crate) struct OneMap {
    /// Largest entry of `y - (x·W' + b)`, by an adapter whose `B` has been moved: the map stays linear, so it can be merged.
    pub(crate) departure: f64,
    /// `Σ y²` before and after a step of gradient descent on `B`.
    pub(crate) losses: [f64; 2],
}

/// Puts the method on a map of random numbers `[d_in, d_out]`, and takes one step.
pub(crate) fn one_map([d_in, d_out]: [usize; 2], rank: usize) -> Result<OneMap, Box<dyn Error>> {
    let place = Placement::new(&Device::flex(), DType::F64);
    let rng = &mut stream::generator(0, Stream::Init, "example");
    let mut draw = |rows: usize, cols: usize| place.tensor(stream::normal(rng, rows * cols, 0.5), [rows, cols]);
    let (weight, bias) = (draw(d_in, d_out), draw(1, d_out).reshape([d_out]));
    let x: Tensor<3> = draw(5, d_in).unsqueeze::<3>(); // [1, 5, d_in]

    let spec = frame_lora(rank);
    // Every broken rule comes back as a sentence: a rank policy on a method without ranks, a learning rate of -1, ..
    let variant = spec.check(None).map_err(|problems| format!("{problems:?}"))?;
    let run = RunPlan { init_seed: 0, alpha: spec.alpha };
    let mut map = AdaptedLinear::new("map", weight.clone(), Some(bias.clone()));
    let plan = StackPlan::new(variant, vec![run], BTreeSet::from(["map".to_owned()]));
    attach(&mut [Slot::Linear(&mut map)], &plan, &place)?;

    let trains = |role: Role| spec.train.trains(role);
    for mut param in map.parameters(0).into_iter().filter(|param| trains(param.role)) {
        let leaf = param.tensor.clone().autodiff().require_grad();
        param.tensor.set(leaf);
    }
    let loss = |map: &AdaptedLinear| map.forward(x.clone(), &Pass::evaluation(1)).square().sum(); // [1]
    let before = loss(&map);
    let gradients = before.backward();
    for mut param in map.parameters(0).into_iter().filter(|param| trains(param.role)) {
        let gradient = param.tensor.grad(&gradients).ok_or("every trained tensor takes part in the loss")?;
        let stepped = param.tensor.clone().without_autodiff() - gradient * 1e-4;
        param.tensor.set(stepped);
    }
    let y = map.forward(x.clone(), &Pass::evaluation(1)); // [1, 5, d_out]
    let merged = x.matmul(map.weight(0, &Active::All)) + bias.reshape([1, 1, d_out]);
    let number = |tensor: Tensor<1>| values(&tensor)[0];
    let losses = [number(before.without_autodiff()), number(y.clone().square().sum())];
    Ok(OneMap { departure: number((y - merged).abs().max()), losses })
}

/// Trains the method beside LoRA into `results`: the cells of LoRA's rows, and the same cells with the method in LoRA's place.
pub(crate) fn beside_lora(results: &Path) -> Result<Vec<RunRecord>, Box<dyn Error>> {
    let yaml = "{suite: glue_mini, model: mini_roberta, tasks: [rte], seeds: [0, 1], targets: [query, value], ranks: [4], \
                train: {steps: 40, batch: 16, learning_rate: 3e-3, max_length: 32}, variants: [lora]}";
    let mut cells = experiment::read(yaml, "add_a_variant.yaml", "add_a_variant", &[])?.cells().to_vec();
    let own = |cell: &Cell| {
        let mut cell = cell.clone();
        cell.recipe.variant = frame_lora(cell.id.rank);
        "frame_lora".clone_into(&mut cell.recipe.preset);
        "frame_lora".clone_into(&mut cell.id.variant);
        cell
    };
    cells.extend(cells.iter().map(own).collect::<Vec<_>>());
    Ok(examples::train(&cells, &ModelCache::on_cpu(), results)?)
}

#[expect(clippy::print_stdout, reason = "an example shows what it computed")]
fn main() -> Result<(), Box<dyn Error>> {
    let OneMap { departure, losses: [before, after] } = one_map([7, 6], 3)?;
    println!(
        "one map: y - (x·W' + b) is at most {departure:.0e}; a step takes the loss from {before:.4} to {after:.4}"
    );
    for record in beside_lora(tempfile::tempdir()?.path())? {
        let (score, trained) = (record.evaluations[0].metrics["accuracy"], record.measured.trainable_params);
        println!("{}: accuracy {:.1}, {trained} trained numbers", record.cell, 100.0 * score);
    }
    Ok(())
}
