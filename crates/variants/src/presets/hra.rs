//! HRA: the input reflected by a few Householder matrices before the frozen weight.
//!
//! `W' = W0·H_1 ⋯ H_r` in the paper's layout, here `y = (x·H_r ⋯ H_1)·W0`, of which the change of `W0` is of rank `r`; the mechanism
//! is in [`reflections`]. Norms of the weight's columns and the angles between them stay.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | the number `r` of reflections, even, up to `min(d_in, d_out)`; PEFT's default is 8 |
//!
//! There is no `α`. Trains the vectors: `r·d_in` parameters per map.
//!
//! Yuan, Liu and Xu, *Bridging The Gap between Low-rank and Orthogonal Adaptation via Householder Reflection Adaptation*, NeurIPS 2024,
//! arXiv:2405.17484.

use super::lora;
use crate::{
    delta::{DeltaSpec, reflections},
    preset::{Parity, Preset, no_knobs},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "hra",
    about: "the input reflected by a few Householder matrices before the frozen weight",
    paper: "arXiv:2405.17484",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::Reflections(reflections::Spec {})),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(rank)
    },
    parameters: Some(|d_in, _, rank| rank * d_in),
    knobs: no_knobs,
    parity: Parity::Peft,
};
