//! Asymmetric LoRA: `A` is a frozen orthonormal frame, `B` trains.
//!
//! `ΔW = s·A·B` with `AᵀA = I` (§4.1; the paper's `B·A`, `A·Aᵀ = I`). The bound on what such an update fails to generalise counts the
//! numbers of `B` alone, so at equal parameters it affords twice LoRA's rank. [`lora_fa`](super::lora_fa) is the same from another
//! first value of `A`.
//!
//! Trains `B`: `r·d_out` parameters per map. The authors use `r = 8`, `α = 16`.
//!
//! Zhu et al., *Asymmetry in Low-Rank Adapters of Foundation Models*, ICML 2024, arXiv:2402.16842.

use super::{lora, lora_fa};
use crate::{
    init::{AnyInit, orthonormal::Orthonormal},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "asymmetric_lora",
    about: "LoRA with A frozen at an orthonormal frame",
    paper: "arXiv:2402.16842",
    spec: |rank| VariantSpec { init: AnyInit::Orthonormal(Orthonormal {}), ..lora_fa::spec(rank) },
    parameters: lora_fa::PRESET.parameters,
    knobs: lora::PRESET.knobs,
    parity: Parity::Untested("LoRA-FA's steps from other first values; unit tests have the values"),
};
