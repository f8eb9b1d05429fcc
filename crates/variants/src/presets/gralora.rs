//! GraLoRA: a small low-rank update for each of `n × n` blocks of the map.
//!
//! `ΔW` is a matrix of blocks `Bᵢⱼ·Aᵢⱼ` of rank `r/n` (Eq. 5), so its rank is `n·r` at the parameters of LoRA's `r`; the mechanism is in
//! [`granular`]. The scale is `α/r` as in PEFT; all else is [`lora`], `α` included (PEFT's own default is `α = 2r`).
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | a multiple of `blocks` |
//! | `delta.blocks` | 2; the authors take 4 from rank 64 on | divides both widths |
//!
//! Trains the factors: `r·(d_in + d_out)` parameters per map.
//!
//! Departure: the hybrid of PEFT's `hybrid_r`, which adds a LoRA over the whole map for small ranks, is not there (PEFT's default is 0).
//!
//! Jung et al., NeurIPS 2025, arXiv:2505.20355.

use super::lora;
use crate::{
    delta::{DeltaSpec, granular},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "gralora",
    about: "a small low-rank update for each of several blocks of the map",
    paper: "arXiv:2505.20355",
    spec: |rank| VariantSpec { delta: Some(DeltaSpec::Granular(granular::Spec::default())), ..lora::spec(rank) },
    parameters: lora::PRESET.parameters,
    knobs: lora::PRESET.knobs,
    parity: Parity::Equations,
};
