//! HydraLoRA: one down-projection and several up-projections, which a router mixes for every token.
//!
//! `h = W0·x + (α/r)·Σᵢ ωᵢ(x)·Bᵢ·A·x` with `ω(x) = softmax(W_g·x)`, here `y = x·W0 + (α/r)·Σᵢ ωᵢ(x)·(x·a)·bᵢ`; the mechanism is in
//! [`routed_low_rank`]. All else is [`lora`]; with one expert it is LoRA.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `delta.experts` | 3 | at least 1 |
//!
//! Trains `A`, the `Bᵢ` and the router: `r·d_in + N·r·d_out + N·d_in` parameters per map. It cannot be merged.
//!
//! Departure: the number of experts is a field; the paper chooses it by clustering the training data.
//!
//! Tian et al., *HydraLoRA: An Asymmetric LoRA Architecture for Efficient Fine-Tuning*, NeurIPS 2024, arXiv:2404.19245.

use super::lora;
use crate::{
    delta::{DeltaSpec, routed_low_rank},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "hydra_lora",
    about: "one down-projection and several up-projections, which a router mixes for every token",
    paper: "arXiv:2404.19245",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::RoutedLowRank(routed_low_rank::Spec::default())),
        ..lora::spec(rank)
    },
    parameters: Some(|d_in, d_out, rank| {
        let experts = routed_low_rank::Spec::default().experts;
        rank * d_in + experts * (rank * d_out + d_in)
    }),
    knobs: lora::PRESET.knobs,
    parity: Parity::Equations,
};
