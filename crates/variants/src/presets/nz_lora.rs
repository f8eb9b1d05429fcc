//! NZLoRA: LoRA whose factors both start at random numbers, with the base less their product.
//!
//! `W = W0 − s·B₀·A₀ + s·B·A` with `A₀`, `B₀` drawn alike, here `ΔW = s·(A·B − A₀·B₀)`; the mechanism is in [`drawn_init`]. All else is [`lora`]. Where
//! LoRA's `A` has no gradient at the first step, because `B` is 0, both factors have one here.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `delta.gain` | 1 | above 0 |
//!
//! Trains `A`, `B`: `r·(d_in + d_out)` parameters per map.
//!
//! Departure: the start is always subtracted; the paper also leaves it in, and reports that this does not matter in general.
//!
//! Li et al., ICML 2025, arXiv:2505.23194.

use super::lora;
use crate::{
    delta::{DeltaSpec, drawn_init},
    preset::{Knob, Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "nz_lora",
    about: "LoRA whose factors both start at random numbers, with the base less their product",
    paper: "arXiv:2505.23194",
    spec: |rank| VariantSpec { delta: Some(DeltaSpec::DrawnInit(drawn_init::Spec::default())), ..lora::spec(rank) },
    parameters: lora::PRESET.parameters,
    // The paper's question is how large a start may be.
    knobs: |rank| {
        let mut knobs = (lora::PRESET.knobs)(rank);
        knobs.push(Knob { path: "delta.gain", values: vec![0.25, 1.0, 4.0] });
        knobs
    },
    parity: Parity::Equations,
};
