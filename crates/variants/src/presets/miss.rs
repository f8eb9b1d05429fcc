//! MiSS: one small matrix whose rows are repeated over the inputs.
//!
//! `ΔW = expand(D)`: row `i` of the update is row `i mod r` of the trained `D` `[r, d_out]`; the mechanism and its form with repeated columns
//! (`with: {delta: {columns: ..}}`, PEFT's `mini`) are in [`shard_sharing`]. There is no scale.
//!
//! Trains `D`: `r·d_out` parameters per map, half of LoRA's on a square one. `r` may be up to `d_in`.
//!
//! Kang and Yin, 2024, arXiv:2409.15371.

use super::lora;
use crate::{
    delta::{DeltaSpec, shard_sharing},
    preset::{Parity, Preset, no_knobs},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "miss",
    about: "one small matrix whose rows are repeated over the inputs",
    paper: "arXiv:2409.15371",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::ShardSharing(shard_sharing::Spec::default())),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(rank)
    },
    parameters: Some(|_, d_out, rank| rank * d_out),
    knobs: no_knobs,
    parity: Parity::Peft,
};
