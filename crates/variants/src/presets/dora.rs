//! DoRA: a trained magnitude per output over the direction of a LoRA-updated weight.
//!
//! `W' = m·(W0 + s·B·A)/‖W0 + s·B·A‖_c` (Eq. 5); the mechanism, the norm without a dense product and the
//! dropout forms are in [`weight_decomposed`]. All else is [`lora`].
//!
//! Trains `A`, `B`, `m`: `r·(d_in + d_out) + d_out` parameters per map. The authors' runs use `α = 2r` and a
//! lower learning rate than their LoRA runs.
//!
//! Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation*, ICML 2024, arXiv:2402.09353.

use super::lora;
use crate::{
    combine::{CombineSpec, weight_decomposed},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "dora",
    about: "a trained magnitude over the direction of a LoRA-updated weight",
    paper: "arXiv:2402.09353",
    spec: |rank| VariantSpec {
        combine: CombineSpec::WeightDecomposed(weight_decomposed::Spec::default()),
        ..lora::spec(rank)
    },
    parameters: Some(|d_in, d_out, rank| rank * (d_in + d_out) + d_out),
    knobs: lora::PRESET.knobs,
    parity: Parity::Peft,
};
