//! OLoRA: LoRA whose factors start at a QR decomposition of the base.
//!
//! `W0ᵀ = Q·R`, `B₀ = Q_rᵀ`, `A₀ = R_rᵀ`, `W' = W0 + s·(A·B − A₀·B₀)` (Algorithm 1); the mechanism is in [`residual_init`].
//!
//! Büyükakyüz, 2024, arXiv:2406.01775.

use super::lora;
use crate::{
    delta::{DeltaSpec, residual_init},
    preset::{Parity, Preset, no_knobs},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "olora",
    about: "factors start at an orthonormal basis of the base's outputs",
    paper: "arXiv:2406.01775",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::ResidualInit(residual_init::Spec::at(residual_init::Start::Qr))),
        ..lora::spec(rank)
    },
    parameters: lora::PRESET.parameters,
    knobs: no_knobs,
    parity: Parity::EquationsAndPeft,
};
