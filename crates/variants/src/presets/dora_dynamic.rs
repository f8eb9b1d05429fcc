//! DoRA (dynamic): components between two factors compete for a falling budget by what they contribute to the update.
//!
//! `ΔW = s·Σ_k c_k·a_k·b_k` (Eq. 6) with `s = α/r₀` at the *initial* rank for the whole run: both factors are drawn, `c` is zero, in [`diagonal`].
//! The budget and the scores are in [`norm_budget`](crate::rank::norm_budget); the loss has 0.1 times the mean variance of the components' numbers
//! ([`component_variance`](crate::penalty::component_variance)) until pruning ends. Not the DoRA that decomposes weights (Liu et al.), which is
//! [`dora`](super::dora).
//!
//! `rank` is the initial rank; the default target is two thirds of it, the paper's `r₀ = 1.5·r`. Factors are torch's `kaiming_uniform_`, `α = 8` as
//! in the authors' code.
//!
//! Trains `A`, `c`, `B`: `r·(d_in + d_out + 1)` parameters per map.
//!
//! Departure: where the share of the run falls between two steps, its ends are rounded; the code truncates.
//!
//! Mao et al., *DoRA: Enhancing Parameter-Efficient Fine-Tuning with Dynamic Rank Distribution*, ACL 2024, arXiv:2405.17357; code:
//! MIkumikumi0116/DoRA.

use std::collections::BTreeMap;

use super::lora;
use crate::{
    delta::{DeltaSpec, diagonal},
    init::{AnyInit, kaiming::Kaiming},
    penalty::AnyPenalty,
    preset::{Knob, Parity, Preset},
    rank::{AnyRankPolicy, norm_budget::NormBudget},
    spec::VariantSpec,
};

/// The authors' `regularization_loss_alpha`.
const WEIGHT: f64 = 0.1;

/// The authors' `lora_alpha`.
const ALPHA: f64 = 8.0;

fn spec(rank: usize) -> VariantSpec {
    VariantSpec {
        alpha: ALPHA,
        delta: Some(DeltaSpec::Diagonal(diagonal::Spec { start: diagonal::Start::Zero })),
        init: AnyInit::Kaiming(Kaiming { gain: 6.0_f64.sqrt() }),
        rank_policy: AnyRankPolicy::NormBudget(NormBudget {
            target_rank: (rank * 2 / 3).max(1),
            ..NormBudget::default()
        }),
        penalties: BTreeMap::from([(AnyPenalty::ComponentVariance, WEIGHT)]),
        ..lora::spec(rank)
    }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "dora_dynamic",
    about: "components that compete for a falling budget by what they contribute to the update",
    paper: "arXiv:2405.17357",
    spec,
    parameters: Some(|d_in, d_out, rank| rank * (d_in + d_out + 1)),
    knobs: |rank| {
        vec![
            Knob::alpha(spec(rank).alpha),
            Knob { path: "penalties.component_variance", values: vec![0.01, WEIGHT, 1.0] },
        ]
    },
    parity: Parity::Equations,
};
