//! VeRA: one frozen random pair for all maps, two trained vectors per map.
//!
//! `h = W0·x + Λ_b·B·Λ_d·A·x` (Eq. 2); the mechanism is in [`shared_random`]. There is no `α`.
//!
//! Trains the vectors: `r + d_out` parameters per map; the paper uses `r = 256` and above, and learning
//! rates ten times LoRA's.
//!
//! Kopiczko, Blankevoort and Asano, ICLR 2024, arXiv:2310.11454.

use super::lora;
use crate::{
    delta::{DeltaSpec, shared_random},
    preset::{Knob, Parity, Preset},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "vera",
    about: "one frozen random pair for all maps, two trained vectors per map",
    paper: "arXiv:2310.11454",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::SharedRandom(shared_random::Spec::default())),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(rank)
    },
    parameters: Some(|_, d_out, rank| rank + d_out),
    // The paper's ablation of d's first value; PEFT's default is 0.1.
    knobs: |_| vec![Knob { path: "delta.d_initial", values: vec![1e-7, 0.1, 1.0] }],
    parity: Parity::Peft,
};
