//! rsLoRA: LoRA at the scale `α/√r`, under which the update's size does not fall with the rank.
//!
//! `h = W0·x + (α/√r)·B·A·x` (Eq. 3). All else is [`lora`]. At `α' = α/√r` it is LoRA at `α`.
//!
//! Kalajdzievski, *A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA*, 2023, arXiv:2312.03732.

use super::lora;
use crate::{
    preset::{Parity, Preset},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "rslora",
    about: "LoRA at the scale alpha/sqrt(rank)",
    paper: "arXiv:2312.03732",
    spec: |rank| VariantSpec { scaling: Scaling::AlphaOverSqrtRank, ..lora::spec(rank) },
    parameters: lora::PRESET.parameters,
    knobs: lora::PRESET.knobs,
    parity: Parity::Peft,
};
