//! RandLoRA: a trained weighting of fixed random products, together of full rank.
//!
//! `ΔW = s·Σ_b Bᵦ·Λᵦ·A·Γᵦ` (Eq. 2); the mechanism is in [`random_bases`]. The scale is `α/r` with `α = 20·r`, PEFT's default.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | of a basis, `1..=min(d_in, d_out)`; a larger one trains *fewer* numbers |
//! | `delta.projection_seed` | 0 | – |
//!
//! Trains `Λ` and `Γ`: with `m = min(d_in, d_out)` and `n = ⌈m/r⌉`, `n·(r + m)` parameters per map.
//!
//! Departure: bases with numbers of -1, 0 and 1 alone (PEFT's `sparse`, `very_sparse`) are not there.
//!
//! Albert et al., ICLR 2025, arXiv:2502.00987.

use super::lora;
use crate::{
    delta::{DeltaSpec, random_bases},
    preset::{Knob, Parity, Preset},
    spec::VariantSpec,
};

/// `α/r` of PEFT's defaults, 640 at rank 32.
const SCALE: f64 = 20.0;

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "randlora",
    about: "a trained weighting of fixed random products, together of full rank",
    paper: "arXiv:2502.00987",
    spec: |rank| VariantSpec {
        alpha: SCALE * rank as f64,
        delta: Some(DeltaSpec::RandomBases(random_bases::Spec::default())),
        ..lora::spec(rank)
    },
    parameters: Some(|d_in, d_out, rank| random_bases::parameters([d_in, d_out], rank)),
    knobs: |rank| vec![Knob::alpha(SCALE * rank as f64)],
    parity: Parity::Peft,
};
