//! LoKr: a Kronecker product of two small matrices.
//!
//! `ΔW = (α/r)·W₁ ⊗ W₂`, `W₂` of rank `r` where it is large enough for that; the mechanism, the split of the widths and the first values are
//! in [`kronecker`]. All else is [`lora`], `α` included; PEFT's own default is `α = r = 8`.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | at least 1; from half of the longer side of `W₂` on it is that matrix whole |
//! | `delta.decompose_factor` | none: at the root | at least 1 |
//! | `delta.decompose_both` | `false` | – |
//!
//! Trains both parts: with `d_in = m·n` and `d_out = l·k`, `m·l + r·(n + k)` parameters per map while `r < max(n, k)/2`, else `m·l + n·k`.
//!
//! Departures: LyCORIS takes `α/r = 1` where both parts are whole, PEFT keeps `α/r`, as here. Dropout acts on the input; PEFT and LyCORIS drop
//! rows of `ΔW` or the whole of it.
//!
//! Yeh et al., ICLR 2024, arXiv:2309.14859, Section 3.3.

use super::lora;
use crate::{
    delta::{DeltaSpec, kronecker},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "lokr",
    about: "a Kronecker product of two small matrices",
    paper: "arXiv:2309.14859",
    spec: |rank| VariantSpec { delta: Some(DeltaSpec::Kronecker(kronecker::Spec::default())), ..lora::spec(rank) },
    parameters: Some(|d_in, d_out, rank| kronecker::Spec::default().parameters([d_in, d_out], rank)),
    knobs: lora::PRESET.knobs,
    parity: Parity::Peft,
};
