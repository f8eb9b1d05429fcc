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
//! **With a regression head** a rate that suits LoRA is too high, and runs of different seeds end far apart. Measured on the miniature's STS-B
//! (250 steps, rank 8, five seeds, Pearson correlation of dev times 100; clipping at 1 and f32 where nothing else is said):
//!
//! | method | learning rate | rate of the head | | mean | lowest and highest seed |
//! |---|---|---|---|---|---|
//! | LoRA | 1e-3 | 1e-3 | | 92.3 | 92.0, 92.5 |
//! | LoRA+ | 3e-3 | 3e-3 | | 80.4 | 54.6, 89.6 |
//! | LoRA+ | 1e-3 | 1e-3 | | 89.8 | 86.5, 93.2 |
//! | LoRA+ | 1e-3 | 1e-3 | bf16 (on the CPU) | 89.3 | 84.2, 92.9 |
//! | LoRA+ | 1e-3 | 1e-3 | no clipping | 86.4 | 81.8, 89.8 |
//! | LoRA+ | 3e-4 | 3e-4 | | 85.3 | 82.6, 87.9 |
//! | LoRA+ | 3e-4 | 1e-3 | | 89.7 | 85.7, 93.2 |
//! | LoRA+ | 1e-4 | 1e-4 | | 71.8 | 69.1, 73.3 |
//! | LoRA+ | 1e-4 | 1e-3 | | 91.8 | 91.3, 92.1 |
//!
//! So neither bf16 nor clipping is the cause here: bf16 moved no seed by more than 2.3 points, and without clipping runs are worse. The rate
//! of `B` is: at a tenth of LoRA's rate, `B` at 1.6 times it, and with the head at LoRA's own, the seeds agree. Tune `learning_rate` from a
//! thirtieth of LoRA's to LoRA's, and give `head_learning_rate`, which follows the run's rate where it is absent. Nothing of
//! this was measured on a real regression task.
//!
//! All else is [`lora`].
//!
//! Hayou, Ghosh and Yu, *LoRA+: Efficient Low Rank Adaptation of Large Models*, ICML 2024, arXiv:2402.12354.

use super::lora;
use crate::{
    preset::{Knob, Parity, Preset},
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
    // Powers of two around the rule of thumb; the authors' scripts have 10 and 80.
    knobs: |_| {
        vec![Knob {
            path: "train.b.lr_multiplier",
            values: vec![RATIO / 4.0, RATIO / 2.0, RATIO, 2.0 * RATIO, 4.0 * RATIO],
        }]
    },
    parity: Parity::Peft,
};
