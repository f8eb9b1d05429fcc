//! Delta-LoRA: LoRA whose base moves with the change of `A·B` from step to step.
//!
//! `W ← W + λ·s·(A_{t+1}B_{t+1} − A_tB_t)` after step `K` (Eq. 4, Algorithm 1); the mechanism, and why it is exact without writing the base,
//! is in [`follow`].
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `base_update.lambda` | 2 | the paper |
//! | `base_update.start` | 0.1 of the run | the paper's `K` is 500 steps of runs of some thousands; a share is valid in runs of any length |
//! | `dropout` | 0 | the paper takes dropout out of the branch, whose gradient is to be that of `W` |
//!
//! Trains `A`, `B`: `r·(d_in + d_out)` numbers per map; `W' − W0` has rank `2·r` at most.
//!
//! Departs from the paper: nothing but `K` as a share of the run. Its values are read from secondary descriptions of the paper.
//!
//! Zi et al., *Delta-LoRA: Fine-Tuning High-Rank Parameters with the Delta of Low-Rank Matrices*, 2023, arXiv:2309.02411.
//!
//! [`follow`]: crate::base_update::follow

use super::lora;
use crate::{
    base_update::{AnyBaseUpdate, follow::Follow},
    preset::{Knob, Parity, Preset},
    spec::VariantSpec,
};

fn spec(rank: usize) -> VariantSpec {
    VariantSpec { base_update: AnyBaseUpdate::Follow(Follow { start: 0.1, ..Follow::default() }), ..lora::spec(rank) }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "delta_lora",
    about: "LoRA whose base moves with the change of A·B",
    paper: "arXiv:2309.02411",
    spec,
    parameters: lora::PRESET.parameters,
    knobs: |rank| {
        vec![Knob::alpha(spec(rank).alpha), Knob { path: "base_update.lambda", values: vec![0.5, 1.0, 2.0, 4.0] }]
    },
    parity: Parity::Equations,
};
