//! LoRA-FA: LoRA with `A` frozen at its random start.
//!
//! `h = W0·x + (α/r)·B·A·x` with `B` trained alone (Eq. 5), so `ΔW` stays in the row space of the first `A`
//! and the backward pass needs `x·A` (`[n, r]`) instead of `x` (`[n, d_in]`).
//!
//! Trains `B`: `r·d_out` parameters per map. PEFT's optimizer of the same name also multiplies the gradient
//! of `B`: that is [`lora_fa_preconditioned`](super::lora_fa_preconditioned).
//!
//! Zhang et al., *LoRA-FA: Memory-Efficient Low-Rank Adaptation for Large Language Models Fine-Tuning*,
//! 2023, arXiv:2308.03303.

use super::lora;
use crate::{
    preset::{Parity, Preset},
    role::{Role, RoleConfig, TrainConfig},
    spec::VariantSpec,
};

/// LoRA-FA at `rank`.
pub fn spec(rank: usize) -> VariantSpec {
    VariantSpec { train: TrainConfig::of([(Role::A, RoleConfig::Frozen)]), ..lora::spec(rank) }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "lora_fa",
    about: "LoRA with A frozen, which saves the adapter's activations",
    paper: "arXiv:2308.03303",
    spec,
    parameters: Some(|_, d_out, rank| rank * d_out),
    knobs: lora::PRESET.knobs,
    parity: Parity::Peft,
};
