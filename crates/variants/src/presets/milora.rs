//! MiLoRA: LoRA whose factors start at the base's smallest singular values, so that what the base holds most of is kept.
//!
//! As [`pissa`](super::pissa) with the last `r` singular triplets (Eq. 4–6); the mechanism is in [`residual_init`].
//!
//! Wang et al., NAACL 2025, arXiv:2406.09044.

use super::lora;
use crate::{
    delta::{DeltaSpec, residual_init},
    preset::{Parity, Preset, no_knobs},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "milora",
    about: "factors start at the base's smallest singular values",
    paper: "arXiv:2406.09044",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::ResidualInit(residual_init::Spec::at(residual_init::Start::Minor))),
        ..lora::spec(rank)
    },
    parameters: lora::PRESET.parameters,
    knobs: no_knobs,
    parity: Parity::Equations,
};
