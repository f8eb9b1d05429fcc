//! DVoRA: a trained magnitude per output over the direction of a VeRA-updated weight.
//!
//! [`vera`]'s update in place of LoRA's under [`dora`]'s decomposition: `W' = m·(W0 + s·A·diag(d)·B·diag(b))/‖…‖_c` (Section 5.4 of the DoRA
//! paper). Both mechanisms are in [`shared_random`](crate::delta::shared_random) and
//! [`weight_decomposed`](crate::combine::weight_decomposed).
//!
//! Trains `d`, `b` and `m`: `r + 2·d_out` parameters per map.
//!
//! Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation*, ICML 2024, arXiv:2402.09353.

use super::{dora, vera};
use crate::{
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "dvora",
    about: "a trained magnitude over the direction of a VeRA-updated weight",
    paper: "arXiv:2402.09353",
    spec: |rank| VariantSpec { combine: dora::PRESET.at(rank).combine, ..vera::PRESET.at(rank) },
    parameters: Some(|_, d_out, rank| rank + 2 * d_out),
    knobs: vera::PRESET.knobs,
    parity: Parity::Equations,
};
