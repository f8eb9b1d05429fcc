//! SoRA: a diagonal between two factors that a soft threshold makes sparse.
//!
//! `h = W0·x + s·B·(g∘(A·x))` with `s = α/r_max`, which stays when components go: `A` is kaiming, `g` is `N(0, 1)`, `B` is zero, in
//! [`diagonal`]. After every step `g` passes a [soft threshold](soft_threshold) of 3e-4, and the loss has 10 times the mean of `|g|`
//! ([`diagonal_l1`](crate::penalty::diagonal_l1)), which the authors' code adds and the paper does not have. Weight decay leaves `g` alone, as in the
//! code. `rank` is `r_max`.
//!
//! The authors' scripts use `r_max` 8, a learning rate of 8e-4, weight decay 0.1, a warm-up of 0.06, gradients clipped at 0.1, 20 epochs.
//!
//! Trains `A`, `g`, `B`: `r·(d_in + d_out + 1)` parameters per map.
//!
//! Ding et al., *Sparse Low-rank Adaptation of Pre-trained Language Models*, EMNLP 2023, arXiv:2311.11696; code: TsinghuaC3I/SoRA.

use std::collections::BTreeMap;

use super::lora;
use crate::{
    delta::{DeltaSpec, diagonal},
    penalty::AnyPenalty,
    preset::{Knob, Parity, Preset},
    rank::{AnyRankPolicy, soft_threshold::SoftThreshold},
    role::{Role, RoleConfig, TrainConfig},
    spec::VariantSpec,
};

/// The weight of the penalty in the authors' scripts (`sparse_lambda`).
const WEIGHT: f64 = 10.0;

fn spec(rank: usize) -> VariantSpec {
    let undecayed = RoleConfig::Trained { lr_multiplier: 1.0, learning_rate: None, weight_decay: Some(0.0) };
    VariantSpec {
        delta: Some(DeltaSpec::Diagonal(diagonal::Spec { start: diagonal::Start::Normal })),
        rank_policy: AnyRankPolicy::SoftThreshold(SoftThreshold::default()),
        penalties: BTreeMap::from([(AnyPenalty::DiagonalL1, WEIGHT)]),
        train: TrainConfig::of([(Role::Lambda, undecayed)]),
        ..lora::spec(rank)
    }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "sora",
    about: "a diagonal between two factors that a soft threshold makes sparse",
    paper: "arXiv:2311.11696",
    spec,
    parameters: Some(|d_in, d_out, rank| rank * (d_in + d_out + 1)),
    knobs: |rank| {
        vec![
            Knob::alpha(spec(rank).alpha),
            Knob { path: "rank_policy.threshold", values: vec![1e-4, 3e-4, 1e-3] },
            Knob { path: "penalties.diagonal_l1", values: vec![0.1, 1.0, WEIGHT] },
        ]
    },
    parity: Parity::Equations,
};
