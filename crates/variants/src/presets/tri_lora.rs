//! TriLoRA: a trained diagonal between two trained factors.
//!
//! `ΔW = s·A·diag(g)·B` with `A` and `B` drawn and `g` at zero: the form of AdaLoRA, [`svd_form`](crate::delta::svd_form), without its penalty,
//! its budget and its normal first values. The mechanism is in [`diagonal`]. All else is [`lora`].
//!
//! Trains `A`, `g` and `B`: `r·(d_in + d_out) + r` parameters per map.
//!
//! Feng et al., *TriLoRA: Integrating SVD for Advanced Style Personalization in Text-to-Image Generation*, 2024, arXiv:2405.11236; first values
//! as in the code of Si et al., arXiv:2405.14739, which has the form beside its own.

use super::lora;
use crate::{
    delta::{DeltaSpec, diagonal},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "tri_lora",
    about: "a trained diagonal between two trained factors",
    paper: "arXiv:2405.11236",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::Diagonal(diagonal::Spec { start: diagonal::Start::Zero })),
        ..lora::spec(rank)
    },
    parameters: Some(|d_in, d_out, rank| rank * (d_in + d_out) + rank),
    knobs: lora::PRESET.knobs,
    parity: Parity::Equations,
};
