//! EVA: LoRA whose `A` starts at the principal directions of the training inputs.
//!
//! `X = U·S·Vᵀ` of a map's inputs, `A₀ = V_r`, `B₀ = 0`, `W' = W0 + s·A·B` (§3.2, Algorithm 1) with one rank for all maps (`ρ = 1`); the
//! mechanism, its defaults and its departures are in [`input_init`].
//!
//! Paischer et al., NeurIPS 2025, arXiv:2410.07170.

use super::lora;
use crate::{
    delta::{DeltaSpec, input_init},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "eva",
    about: "`A` starts at the principal directions of the training inputs",
    paper: "arXiv:2410.07170",
    spec: |rank| VariantSpec { delta: Some(DeltaSpec::InputInit(input_init::Spec::default())), ..lora::spec(rank) },
    parameters: lora::PRESET.parameters,
    knobs: lora::PRESET.knobs,
    parity: Parity::EquationsAndPeft,
};
