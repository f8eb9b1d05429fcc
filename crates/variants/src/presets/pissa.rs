//! PiSSA: LoRA whose factors start at the base's largest singular values; what is left of the base is frozen.
//!
//! `W0 = U·S·Vᵀ`, `A₀ = U_r·√(S_r/s)`, `B₀ = √(S_r/s)·V_rᵀ`, `W' = W0 + s·(A·B − A₀·B₀)` (Eq. 2–4); the mechanism is in
//! [`residual_init`]. The authors use `α = r`, no dropout and no weight decay; here decay
//! pulls the factors toward their start.
//!
//! Meng, Wang and Zhang, NeurIPS 2024, arXiv:2404.02948.

use super::lora;
use crate::{
    delta::{DeltaSpec, residual_init},
    preset::{Parity, Preset, no_knobs},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "pissa",
    about: "factors start at the base's largest singular values",
    paper: "arXiv:2404.02948",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::ResidualInit(residual_init::Spec::at(residual_init::Start::Principal))),
        ..lora::spec(rank)
    },
    parameters: lora::PRESET.parameters,
    knobs: no_knobs,
    parity: Parity::EquationsAndPeft,
};
