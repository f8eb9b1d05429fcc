//! XGBLoRA: gradient boosting whose weak learners are LoRA of rank 1, merged every few steps.
//!
//! `W_T = W0 + s·Σⱼ AⱼBⱼ` over rounds `j`: each trains a new learner on the model that the rounds before have made, and merges it with a
//! shrinkage of 1; the mechanism is in [`restart`].
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `rank` | – | the paper's is 1 |
//! | `base_update.restarts` | 7 | ours: eight rounds, whose sum has the rank of a LoRA of rank 8 where the learners have rank 1 |
//! | `base_update.moments` | `zero` | a round begins anew |
//! | `base_update.rate` | `kept` | ours: one schedule over all rounds |
//!
//! Trains `A`, `B`: `r·(d_in + d_out)` numbers per map at a time; `W_T − W0` has rank `(restarts + 1)·r` at most.
//!
//! Departs from the paper: every adapted map has a learner in every round, where the paper draws some layers for each; the paper's penalty
//! `‖A‖² + ‖B‖²` is the run's weight decay. The defaults that are not ours are read from secondary descriptions of the paper.
//!
//! Zhang et al., *Less is More: Extreme Gradient Boost Rank-1 Adaption for Efficient Finetuning of LLMs*, 2024, arXiv:2410.19694.
//!
//! [`restart`]: crate::base_update::restart

use super::lora;
use crate::{
    base_update::{
        AnyBaseUpdate, Moments,
        restart::{Rate, Restart},
    },
    preset::{Knob, Parity, Preset},
    spec::VariantSpec,
};

fn spec(rank: usize) -> VariantSpec {
    VariantSpec {
        base_update: AnyBaseUpdate::Restart(Restart { restarts: 7, moments: Moments::Zero, rate: Rate::Kept }),
        ..lora::spec(rank)
    }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "xgblora",
    about: "gradient boosting by LoRA of rank 1, merged every few steps",
    paper: "arXiv:2410.19694",
    spec,
    parameters: lora::PRESET.parameters,
    knobs: |rank| {
        vec![Knob::alpha(spec(rank).alpha), Knob { path: "base_update.restarts", values: vec![3.0, 7.0, 15.0] }]
    },
    parity: Parity::Equations,
};
