//! LoRA+: LoRA with a higher learning rate for `B` than for `A`.
//!
//! `η_B = λ·η_A` (§4); the authors' rule of thumb is `λ = 2⁴`, their RoBERTa script uses 80, their GPT-2
//! script 10. Adapters on embedding tables train at a rate of their own, 1e-6 in the authors' code
//! (`loraplus_lr_embedding`), which follows the run's schedule.
//!
//! The authors' optimizer and PEFT's (`create_loraplus_optimizer`) train every one-dimensional parameter at
//! the rate of `B`. Here biases and DoRA's magnitudes keep the run's rate: the paper derives a rate for `B`
//! alone. It matters beside `bias: all` or `lora_only`, and beside `combine: {kind: weight_decomposed}`, where
//! `train: {magnitude: {lr_multiplier: 16}}` gives the magnitudes the rate that they have there.
//!
//! All else is [`lora`].
//!
//! Hayou, Ghosh and Yu, *LoRA+: Efficient Low Rank Adaptation of Large Models*, ICML 2024, arXiv:2402.12354.

use super::lora;
use crate::{
    preset::{Parity, Preset},
    role::{Role, RoleConfig, TrainConfig},
    spec::VariantSpec,
};

/// The authors' rule of thumb, 2⁴.
const RATIO: f64 = 16.0;
/// `loraplus_lr_embedding`.
const EMBEDDING_RATE: f64 = 1e-6;

fn spec(rank: usize) -> VariantSpec {
    let trained =
        |lr_multiplier, learning_rate| RoleConfig::Trained { lr_multiplier, learning_rate, weight_decay: None };
    VariantSpec {
        train: TrainConfig::of([
            (Role::B, trained(RATIO, None)),
            (Role::Embedding, trained(1.0, Some(EMBEDDING_RATE))),
        ]),
        ..lora::spec(rank)
    }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "lora_plus",
    about: "LoRA with a 16 times higher learning rate for B",
    paper: "arXiv:2402.12354",
    spec,
    parameters: lora::PRESET.parameters,
    parity: Parity::Tested,
};
