//! AutoLoRA: the rank of every map is found by weights that train on held-out examples, and LoRA is trained at those ranks.
//!
//! For the first half of the run `ΔW = s·Σ_k softmax(λ)_k·a_k·b_k` (Eq. 2), in [`softmax_gated`]: a step of `A`, `B` and head on one half of the
//! training examples is followed by a step of `λ` on the other half ([`bilevel`](crate::bilevel), the first-order form). Then
//! every map keeps the components that weigh `1/rank` or more, and they train anew, on all examples, as LoRA of the rank that is left
//! ([`softmax_threshold`]). `rank` is the largest that a map may have.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `alpha` | 16 | `lora_alpha` of the authors' scripts, at a largest rank of 8 |
//! | `train.lambda.learning_rate` | 1e-3 | `optimizer_a` in `finetune/lora_glue.py`, by Adam without decay |
//! | `rank_policy.search`, `bilevel.until` | 0.5 | the two runs of the code, in one |
//!
//! Trains `A`, `λ`, `B`: `r·(d_in + d_out + 1)` parameters per map in the search; after it, fewer of `A` and `B`.
//!
//! Departs from paper and code: search and training are one run, whose steps count both levels of the search; `λ` follows the run's schedule, and its
//! Adam has the run's betas; the head goes on where the code begins it anew. The second-order term of the paper's hypergradient is left out, as in
//! `finetune/lora_glue.py` and not as in `run_glue_search.py`.
//!
//! Zhang et al., *AutoLoRA: Automatically Tuning Matrix Ranks in Low-Rank Adaptation Based on Meta Learning*, NAACL 2024, arXiv:2403.09113; code:
//! ruz048/AutoLoRA.
//!
//! [`softmax_gated`]: crate::delta::softmax_gated
//! [`softmax_threshold`]: crate::rank::softmax_threshold

use std::collections::BTreeSet;

use super::lora;
use crate::{
    bilevel::Bilevel,
    delta::{DeltaSpec, softmax_gated},
    preset::{Knob, Parity, Preset},
    rank::{AnyRankPolicy, softmax_threshold::SoftmaxThreshold},
    role::{Role, RoleConfig, TrainConfig},
    spec::VariantSpec,
};

fn spec(rank: usize) -> VariantSpec {
    let weights = RoleConfig::Trained { lr_multiplier: 1.0, learning_rate: Some(1e-3), weight_decay: Some(0.0) };
    VariantSpec {
        alpha: 16.0,
        delta: Some(DeltaSpec::SoftmaxGated(softmax_gated::Spec {})),
        train: TrainConfig::of([(Role::Lambda, weights)]),
        rank_policy: AnyRankPolicy::SoftmaxThreshold(SoftmaxThreshold { search: 0.5 }),
        bilevel: Bilevel::Alternating { upper: BTreeSet::from([Role::Lambda]), held_out: 0.5, until: Some(0.5) },
        ..lora::spec(rank)
    }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "autolora",
    about: "ranks found by weights that train on held-out examples, then LoRA at those ranks",
    paper: "arXiv:2403.09113",
    spec,
    parameters: Some(|d_in, d_out, rank| rank * (d_in + d_out + 1)),
    knobs: |rank| {
        vec![
            Knob::alpha(spec(rank).alpha),
            Knob { path: "train.lambda.learning_rate", values: vec![3e-4, 1e-3, 1e-2] },
        ]
    },
    parity: Parity::Equations,
};
