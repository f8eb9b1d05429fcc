//! Init[B]: LoRA whose `B` is drawn and whose `A` starts at zero.
//!
//! `A = 0`, `B ~ (0, Θ(1/r))`, so the first step moves `A` alone. LoRA as published is the paper's Init[A]: the preset `lora`. The authors
//! find that Init[A] bears larger learning rates and does better on average, at the price of some internal instability, while Init[B]
//! is stable and trains `B` too little.
//!
//! `B` is drawn as LoRA's `init` draws for `r` inputs: `U(±1/√r)`. Trains `A` and `B`: `r·(d_in + d_out)` parameters per map.
//!
//! Hayou, Ghosh and Yu, *The Impact of Initialization on LoRA Finetuning Dynamics*, NeurIPS 2024, arXiv:2406.08447.

use super::lora;
use crate::{
    delta::{
        DeltaSpec,
        low_rank::{self, Drawn},
    },
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "init_b",
    about: "LoRA with B drawn and A at zero",
    paper: "arXiv:2406.08447",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::LowRank(low_rank::Spec { drawn: Drawn::B })),
        ..lora::spec(rank)
    },
    parameters: lora::PRESET.parameters,
    knobs: lora::PRESET.knobs,
    parity: Parity::Untested("LoRA's steps from other first values; unit tests have the values"),
};
