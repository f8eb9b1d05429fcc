//! BOFT: the input turned by a butterfly of block-diagonal rotations before the frozen weight.
//!
//! `W' = B_m ⋯ B_1·W0` with every `B_i` orthogonal, here `y = (x·B_m ⋯ B_1)·W0∘g` with PEFT's gain `g` of the outputs; the mechanism is in
//! [`butterfly_rotation`].
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | the size `b` of a block: even, `2^{m−1}·b` a divisor of `d_in`; PEFT's default is 4 |
//! | `delta.butterfly_factors` | 2: the paper's `m`; PEFT's default of 1 is OFT's map | 1 or more |
//!
//! There is no `α`. Trains the rotations and the gain: `m·d_in·b + d_out` parameters per map, as PEFT counts them; a skew-symmetric matrix has
//! half of its numbers for itself.
//!
//! Liu et al., *Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization*, ICLR 2024, arXiv:2311.06243.

use super::lora;
use crate::{
    delta::{DeltaSpec, butterfly_rotation},
    preset::{Parity, Preset, no_knobs},
    scaling::Scaling,
    spec::VariantSpec,
};

/// Factors of the butterfly: the fewest that are one.
const FACTORS: usize = 2;

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "boft",
    about: "the input turned by a butterfly of block-diagonal rotations before the frozen weight",
    paper: "arXiv:2311.06243",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::ButterflyRotation(butterfly_rotation::Spec {
            butterfly_factors: FACTORS,
            ..butterfly_rotation::Spec::default()
        })),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(rank)
    },
    parameters: Some(|d_in, d_out, rank| FACTORS * d_in * rank + d_out),
    knobs: no_knobs,
    parity: Parity::Peft,
};
