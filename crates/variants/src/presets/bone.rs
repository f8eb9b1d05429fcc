//! Bone: every block of the base is multiplied by a trained matrix, which is also added to it.
//!
//! `ΔW = W0·Bone + Bone` on blocks of `r × r` (Eq. 3, "Bat"); the mechanism is in [`block_affine`]. There is no scale.
//!
//! Trains one matrix per column of blocks: `r·d_out` parameters per map. `r` must divide both widths.
//!
//! Departure: dropout acts on the input of `ΔW`, as everywhere here; PEFT has no dropout in this form.
//!
//! Kang and Yin, 2024, arXiv:2409.15371 in its first versions; later ones call the work MiSS, see [`miss`](super::miss).

use super::lora;
use crate::{
    delta::{DeltaSpec, block_affine},
    preset::{Parity, Preset, no_knobs},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "bone",
    about: "blocks of the base through a trained matrix, which is also added to each",
    paper: "arXiv:2409.15371",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::BlockAffine(block_affine::Spec {})),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(rank)
    },
    parameters: Some(|_, d_out, rank| rank * d_out),
    knobs: no_knobs,
    parity: Parity::Peft,
};
