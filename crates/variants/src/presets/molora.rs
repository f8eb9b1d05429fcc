//! MoLoRA: several pairs of factors, which a router mixes for every token.
//!
//! `h = W0·x + (α/r)·Σᵢ ωᵢ(x)·Bᵢ·Aᵢ·x` with `ω(x) = softmax(W_g·x)`: the experts are merged softly, all of them for every token; the mechanism is in
//! [`routed_low_rank`] with `down: own`. All else is [`lora`]; with one expert it is LoRA.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `delta.experts` | 3 | at least 1 |
//!
//! Trains all factors and the router: `N·(r·(d_in + d_out) + d_in)` parameters per map. It cannot be merged.
//!
//! Departure: the authors' routers start at N(0, 0.02²), and their configuration has 10 experts.
//!
//! Zadouri et al., *Pushing Mixture of Experts to the Limit: Extremely Parameter Efficient MoE for Instruction Tuning*, ICLR 2024,
//! arXiv:2309.05444.

use super::lora;
use crate::{
    delta::{
        DeltaSpec,
        routed_low_rank::{self, Down},
    },
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "molora",
    about: "several pairs of factors, which a router mixes for every token",
    paper: "arXiv:2309.05444",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::RoutedLowRank(routed_low_rank::Spec {
            down: Down::Own,
            ..routed_low_rank::Spec::default()
        })),
        ..lora::spec(rank)
    },
    parameters: Some(|d_in, d_out, rank| {
        routed_low_rank::Spec::default().experts * (rank * (d_in + d_out) + d_in)
    }),
    knobs: lora::PRESET.knobs,
    parity: Parity::Equations,
};
