//! What a forward pass keeps for the backward pass, by the allocator's count.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::BTreeSet;

use burn::tensor::{DType, Device, Tensor};
use peak_alloc::PeakAlloc;
use variants::{
    adapted::AdaptedLinear,
    host::{Placement, inner},
    pass::Pass,
    preset,
    slot::{RunPlan, Slot, StackPlan, attach},
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const D: usize = 512;
const ROWS: usize = 4096;

/// Bytes alive after a forward pass whose input came from an earlier tracked operation, output included.
fn retained(name: &str) -> usize {
    let place = Placement::new(&Device::flex(), DType::F32);
    let mut map = AdaptedLinear::new("map", Tensor::ones([D, D], (&place.device, DType::F32)), None);
    let spec = (preset::find(name).unwrap().spec)(8);
    let train = spec.train.clone();
    let plan = StackPlan::new(
        spec.check(None).unwrap(),
        vec![RunPlan { init_seed: 0, alpha: 8.0 }],
        BTreeSet::from(["map".to_owned()]),
    );
    attach(&mut [Slot::Linear(&mut map)], &plan, &place).unwrap();
    for mut param in map.parameters(0).into_iter().filter(|param| train.trains(param.role)) {
        param.tensor.set(inner(&param.tensor).autodiff().require_grad());
    }
    let leaf = Tensor::<3>::ones([1, 1, D], (&place.device, DType::F32)).autodiff().require_grad();
    let before = MEMORY.current_usage();
    let y = {
        let x = leaf.clone().repeat_dim(1, ROWS); // [1, rows, d]; the operation itself keeps nothing of this size
        map.forward(x, &Pass::evaluation(1))
    };
    let after = MEMORY.current_usage();
    drop(y);
    after.saturating_sub(before)
}

#[test]
fn a_frozen_a_keeps_no_input() {
    let _ = retained("lora"); // thread-local buffers of the products
    let (lora, frozen) = (retained("lora"), retained("lora_fa"));
    let (input, output) = (ROWS * D * 4, ROWS * D * 4);
    // LoRA keeps its input [rows, d] beside the output; with A frozen only [rows, rank] is left of it.
    assert!(lora >= input + output, "{lora}");
    assert!(frozen < output + input / 4, "{frozen} against {output}");
}
