//! OFT: the input turned block by block before the frozen weight.
//!
//! `W' = R·W0` with `R = diag(R₁, .., R_k)` orthogonal, here `y = (x·M)·W0` with `M = R` in PEFT's layout; the mechanism is in
//! [`block_rotation`]. Norms of the weight's columns and the angles between them stay.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | the size `b` of a block: 2 or more, a divisor of `d_in`; PEFT's default is 32 |
//! | `delta.cayley` | `neumann`, as PEFT | `neumann`, `exact` |
//!
//! There is no `α`. Trains the rotations: `d_in·(b − 1)/2` parameters per map.
//!
//! Qiu et al., *Controlling Text-to-Image Diffusion by Orthogonal Finetuning*, NeurIPS 2023, arXiv:2306.07280.

use super::lora;
use crate::{
    delta::{DeltaSpec, block_rotation},
    preset::{Parity, Preset, no_knobs},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "oft",
    about: "the input turned block by block before the frozen weight",
    paper: "arXiv:2306.07280",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::BlockRotation(block_rotation::Spec::default())),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(rank)
    },
    parameters: Some(|d_in, _, rank| d_in / rank * (rank * (rank - 1) / 2)),
    knobs: no_knobs,
    parity: Parity::Peft,
};
