//! LoRA-GA: LoRA whose factors start at singular vectors of the full gradient.
//!
//! `G = ∂L/∂W0 = U·S·Vᵀ`, `A₀ = c·U` of the first `r` components, `B₀ = c·Vᵀ` of the next `r`, `c = d_out^¼/√γ`,
//! `W' = W0 + s·(A·B − A₀·B₀)`, `s = α/√r` (Theorems 3.1 and 3.2); the mechanism, its defaults and its departures are in [`gradient_init`].
//!
//! Wang, Yu and Li, NeurIPS 2024, arXiv:2407.05000.

use super::{lora, rslora};
use crate::{
    delta::{DeltaSpec, gradient_init},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "lora_ga",
    about: "factors start at singular vectors of the full gradient",
    paper: "arXiv:2407.05000",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::GradientInit(gradient_init::Spec::default())),
        scaling: rslora::PRESET.at(rank).scaling,
        ..lora::spec(rank)
    },
    parameters: lora::PRESET.parameters,
    knobs: lora::PRESET.knobs,
    parity: Parity::Equations,
};
