//! IncLoRA: a new LoRA for every task of a sequence, beside those of the tasks before, which stay frozen and in use.
//!
//! `W_t = W0 + s·Σ_{i≤t} A_i·B_i`, of which `A_t`, `B_t` train; the mechanism is in [`previous`]. It is a baseline of O-LoRA's
//! paper, which adds to it what keeps tasks apart. On a task that starts from no other it is LoRA, bit for bit.
//!
//! Trains `A`, `B`: `r·(d_in + d_out)` numbers per map and task.
//!
//! Wang et al., *Orthogonal Subspace Learning for Language Model Continual Learning*, Findings of EMNLP 2023, arXiv:2310.14152.
//!
//! [`previous`]: crate::base_update::previous

use super::lora;
use crate::{
    base_update::{AnyBaseUpdate, previous::Previous},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

pub(super) fn spec(rank: usize) -> VariantSpec {
    VariantSpec { base_update: AnyBaseUpdate::Previous(Previous { adapters: 0 }), ..lora::spec(rank) }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "inc_lora",
    about: "a new LoRA for every task of a sequence, beside those of earlier tasks",
    paper: "arXiv:2310.14152",
    spec,
    parameters: lora::PRESET.parameters,
    knobs: lora::PRESET.knobs,
    parity: Parity::Equations,
};
