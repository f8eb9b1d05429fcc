//! DeLoRA: LoRA whose components have a direction each and one trained strength together.
//!
//! `W' = W0 + ‖W0‖·(λ/r)·(B·Ξ·A − B₀·Ξ₀·A₀)` with `Ξ_ii = 1/(‖b_i‖·‖a_i‖)` and the norm of each input's weights; the mechanism is in
//! [`bounded_low_rank`].
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | `1..=min(d_in, d_out)` |
//! | `delta.initial_bound` | 15, as PEFT's `delora_lambda` | not 0 |
//! | `delta.start` | `subtracted`, as the paper; PEFT's is `zero` | `subtracted`, `zero` |
//!
//! There is no `α`: `λ` is learnt. Trains `A`, `B` and `λ`: `r·(d_in + d_out) + 1` parameters per map.
//!
//! Bini et al., *DeLoRA: Decoupling Angles and Strength in Low-rank Adaptation*, ICLR 2025, arXiv:2503.18225.

use super::lora;
use crate::{
    delta::{DeltaSpec, bounded_low_rank},
    preset::{Knob, Parity, Preset},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "delora",
    about: "LoRA whose components have a direction each and one trained strength together",
    paper: "arXiv:2503.18225",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::BoundedLowRank(bounded_low_rank::Spec::default())),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(rank)
    },
    parameters: Some(|d_in, d_out, rank| rank * (d_in + d_out) + 1),
    // The authors' are 12 on most tasks of GLUE and 4 on the smallest.
    knobs: |_| vec![Knob { path: "delta.initial_bound", values: vec![4.0, 12.0, 15.0] }],
    parity: Parity::EquationsAndPeft,
};
