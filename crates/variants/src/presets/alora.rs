//! ALoRA: LoRA whose components move from map to map, by what the model loses without them.
//!
//! `ΔW = s·A·diag(g)·B` with gates of 0 and 1 that do not train, in [`gated`]; which are open is decided in rounds by ablation on held-out examples,
//! in [`ablation`](crate::rank::ablation). Not the activated LoRA (aLoRA) of PEFT.
//!
//! `rank` is the largest rank of a map; half of it, rounded up, is open at the start. The paper starts with 8 open components a map, which is rank 16
//! here. The scale is `α/rank` throughout.
//!
//! Trains `A`, `B`: `r·(d_in + d_out)` parameters per map are there, of which those of open components train, half of them on average.
//!
//! Departure: see [`ablation`](crate::rank::ablation) for the examples that scores are taken on. The paper gives no scale; here it is LoRA's at the
//! largest rank, and stays, so that a component that moves keeps its own.
//!
//! Liu et al., *ALoRA: Allocating Low-Rank Adaptation for Fine-tuning Large Language Models*, NAACL 2024, arXiv:2403.16187. No code was published.
//!
//! [`gated`]: crate::delta::gated

use super::lora;
use crate::{
    delta::{DeltaSpec, gated},
    preset::{Knob, Parity, Preset},
    rank::{AnyRankPolicy, ablation::Ablation},
    spec::VariantSpec,
};

fn spec(rank: usize) -> VariantSpec {
    VariantSpec {
        delta: Some(DeltaSpec::Gated(gated::Spec { open: Some(rank.div_ceil(2)) })),
        rank_policy: AnyRankPolicy::Ablation(Ablation::default()),
        ..lora::spec(rank)
    }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "alora",
    about: "LoRA whose components move from map to map, by what the model loses without them",
    paper: "arXiv:2403.16187",
    spec,
    parameters: Some(|d_in, d_out, rank| rank * (d_in + d_out)),
    knobs: |rank| vec![Knob::alpha(spec(rank).alpha), Knob { path: "rank_policy.rounds", values: vec![4.0, 8.0, 16.0] }],
    parity: Parity::Equations,
};
