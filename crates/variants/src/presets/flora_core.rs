//! FLoRA (core space): a trained square core between two trained factors.
//!
//! `ΔW = s·A·G·B` with `A` and `B` drawn and the core `G` `[r, r]` at zero: for matrices the Tucker form of the paper, which treats
//! convolutions as tensors of four axes by the same definition. The mechanism is in [`core`]. All else is [`lora`]. Not the
//! FLoRA that compresses gradients by random projections (Hao et al., 2024).
//!
//! Trains `A`, `G` and `B`: `r·(d_in + d_out) + r²` parameters per map.
//!
//! Departure: the paper's scale `s` is a number that its authors tune by task; here it is `α/r`, which a grid over `alpha` tunes the same way.
//!
//! Si et al., *Maintaining Structural Integrity in Parameter Spaces for Parameter Efficient Fine-tuning*, 2024, arXiv:2405.14739.

use super::lora;
use crate::{
    delta::{DeltaSpec, core},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "flora_core",
    about: "a trained square core between two trained factors",
    paper: "arXiv:2405.14739",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::Core(core::Spec {})),
        ..lora::spec(rank)
    },
    parameters: Some(|d_in, d_out, rank| rank * (d_in + d_out) + rank * rank),
    knobs: lora::PRESET.knobs,
    parity: Parity::Equations,
};
