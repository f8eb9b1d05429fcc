//! C³A: an update of circular convolutions, of few numbers and high rank.
//!
//! `ΔW` of circulant blocks `C(w)`, `C(w)·x = w ⋆ x`, each with a kernel of one block's width; the mechanism is in [`block_circulant`].
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | the size `b` of a block, a common divisor of `d_in` and `d_out`; PEFT's default is 256 |
//!
//! There is no `α`. Trains the kernels: `d_in·d_out/b` parameters per map.
//!
//! Chen et al., *Parameter-Efficient Fine-Tuning via Circular Convolution*, 2024, arXiv:2407.19342.

use super::lora;
use crate::{
    delta::{DeltaSpec, block_circulant},
    preset::{Parity, Preset, no_knobs},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "c3a",
    about: "an update of circular convolutions, of few numbers and high rank",
    paper: "arXiv:2407.19342",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::BlockCirculant(block_circulant::Spec {})),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(rank)
    },
    parameters: Some(|d_in, d_out, rank| d_in * d_out / rank),
    knobs: no_knobs,
    parity: Parity::EquationsAndPeft,
};
