//! LoRA from two random factors whose product is zero: both train from the first step on, and the start is the base.
//!
//! The first values are in [`orthogonal_init`]; all else is [`lora`]. The rank is even.
//!
//! Trains `A`, `B`: `r·(d_in + d_out)` parameters per map.
//!
//! PEFT's `init_lora_weights="orthogonal"`, after I. Datta, *Rethinking LoRA initialisation*, 2024.

use super::lora;
use crate::{
    delta::{DeltaSpec, orthogonal_init},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "lora_orthogonal",
    about: "LoRA from two random factors whose product is zero",
    paper: "https://datta0.github.io/posts/rethink-lora-init",
    spec: |rank| VariantSpec { delta: Some(DeltaSpec::OrthogonalInit(orthogonal_init::Spec {})), ..lora::spec(rank) },
    parameters: lora::PRESET.parameters,
    knobs: lora::PRESET.knobs,
    parity: Parity::Peft,
};
