//! O-LoRA: a new LoRA for every task of a sequence, kept orthogonal to those of earlier tasks.
//!
//! `W_t = W0 + s·Σ_{i≤t} A_i·B_i`, of which `A_t`, `B_t` train, with the loss `L_t + λ·Σ_{i<t} Σ|A_iᵀ·A_t|`
//! ([`previous`], [`overlap`]). On a task that starts from no other it is LoRA, bit for bit. Not OLoRA, the orthonormal start
//! ([`olora`](super::olora)).
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `penalties.overlap` | 0.5 | `lamda_1` of the authors' scripts: for three orders of four tasks, and for tasks 2 to 9 of fifteen, of which 10 to 15 have 5 |
//!
//! The authors' scripts use a learning rate of 1e-3, `r` 8, `α` 32, dropout 0.1 and one epoch for each task. The code's second weight, of the
//! norms of the new factors (`lamda_2`), is 0 for four tasks and up to 0.3 among fifteen; it is left out, and weight decay is what shrinks
//! factors here.
//!
//! Trains `A`, `B`: `r·(d_in + d_out)` numbers per map and task.
//!
//! Wang et al., *Orthogonal Subspace Learning for Language Model Continual Learning*, Findings of EMNLP 2023, arXiv:2310.14152; code:
//! cmnfriend/O-LoRA.
//!
//! [`previous`]: crate::base_update::previous
//! [`overlap`]: crate::penalty::overlap

use std::collections::BTreeMap;

use super::{inc_lora, lora};
use crate::{
    penalty::AnyPenalty,
    preset::{Knob, Parity, Preset},
    spec::VariantSpec,
};

/// `λ`.
const WEIGHT: f64 = 0.5;

fn spec(rank: usize) -> VariantSpec {
    VariantSpec { penalties: BTreeMap::from([(AnyPenalty::Overlap, WEIGHT)]), ..inc_lora::spec(rank) }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "o_lora",
    about: "a new LoRA for every task of a sequence, orthogonal to those of earlier tasks",
    paper: "arXiv:2310.14152",
    spec,
    parameters: lora::PRESET.parameters,
    knobs: |rank| {
        vec![Knob::alpha(spec(rank).alpha), Knob { path: "penalties.overlap", values: vec![0.05, WEIGHT, 5.0] }]
    },
    parity: Parity::Equations,
};
