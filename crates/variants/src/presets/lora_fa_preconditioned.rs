//! LoRA-FA as PEFT's optimizer has it: the gradient of `B` is multiplied by `(A·Aᵀ + 1e-8·I)⁺/s²`.
//!
//! With `A` fixed, this makes a plain step on `B` the step on `ΔW` that is nearest to the full gradient;
//! Adam follows. PEFT's optimizer defaults to eps 1e-6 and computes the inverse under bf16 autocast; here it
//! is computed once, in f64.
//!
//! Source: huggingface/peft, src/peft/optimizers/lorafa.py. All else is [`lora_fa`].

use super::lora_fa;
use crate::{
    gradient::GradientSpec,
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "lora_fa_preconditioned",
    about: "LoRA-FA with PEFT's preconditioned gradient of B",
    paper: "arXiv:2308.03303",
    spec: |rank| VariantSpec { gradient: GradientSpec::Preconditioned { ridge: 1e-8 }, ..lora_fa::spec(rank) },
    parameters: lora_fa::PRESET.parameters,
    knobs: lora_fa::PRESET.knobs,
    parity: Parity::Peft,
};
