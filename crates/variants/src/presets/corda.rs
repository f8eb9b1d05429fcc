//! CorDA: LoRA whose factors start at the part of the base that matters most to the training inputs.
//!
//! `C·W0 = V·S·Uᵀ` with the inputs' second moment `C`, `A₀ = C⁻¹·V_r·√(S_r/s)`, `B₀ = √(S_r/s)·U_rᵀ`, `W' = W0 + s·(A·B − A₀·B₀)` (Eq. 2–5):
//! the instruction-previewed mode; `with: {delta: {kind: covariance_init, mode: knowledge_preserved}}` is the other. The mechanism, its
//! defaults and its departures are in [`covariance_init`].
//!
//! Yang et al., NeurIPS 2024, arXiv:2406.05223.

use super::lora;
use crate::{
    delta::{DeltaSpec, covariance_init},
    preset::{Parity, Preset, no_knobs},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "corda",
    about: "factors start at the part of the base that the training inputs use most",
    paper: "arXiv:2406.05223",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::CovarianceInit(covariance_init::Spec::default())),
        ..lora::spec(rank)
    },
    parameters: lora::PRESET.parameters,
    knobs: no_knobs,
    parity: Parity::EquationsAndPeft,
};
