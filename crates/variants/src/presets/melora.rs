//! MELoRA: `n` small LoRAs in parallel, each on its own part of inputs and outputs.
//!
//! `ΔW = diag(s·B₁·A₁, …, s·Bₙ·Aₙ)` with `s = α/r` and `r` the rank of each (Eq. 3), so `ΔW` has rank `n·r` at the parameters of LoRA's `r`; the
//! mechanism is in [`block_diagonal`]. All else is [`lora`], whose `α = 16` is the authors'.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | of a block: `1..=min(d_in, d_out)/n` |
//! | `delta.blocks` | 2, as on GLUE; 8 with `rank: 1` for instruction following | divides both widths |
//!
//! Trains the factors: `r·(d_in + d_out)` parameters per map.
//!
//! Departure: all small LoRAs have one rank and one `α`, as in the authors' runs; the paper allows others.
//!
//! Ren et al., ACL 2024, arXiv:2402.17263.

use super::lora;
use crate::{
    delta::{DeltaSpec, block_diagonal},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "melora",
    about: "small LoRAs on the blocks of the diagonal",
    paper: "arXiv:2402.17263",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::BlockDiagonal(block_diagonal::Spec::default())),
        ..lora::spec(rank)
    },
    parameters: lora::PRESET.parameters,
    knobs: lora::PRESET.knobs,
    parity: Parity::Equations,
};
