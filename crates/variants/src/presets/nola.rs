//! NOLA: LoRA whose factors are trained mixtures of fixed random matrices.
//!
//! `ΔW = (α/r)·(A₀ + Σₖ αₖ·Aₖ)·(Σₖ βₖ·Bₖ)` (Eq. 3, with the constant `A₀` of the authors' code for language models); the mechanism is in
//! [`mixed_bases`]. All else is [`lora`].
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `delta.bases` | 128; 256 and 1024 in the authors' examples | at least 1 |
//! | `delta.projection_seed` | 0 | – |
//!
//! Trains the coefficients: `2·bases` parameters per map, whatever its widths and the rank.
//!
//! Departure: the bases of all maps are slices of the same ones, as VeRA shares its pair; the authors' code draws them map by map.
//!
//! Koohpayegani et al., ICLR 2024, arXiv:2310.02556.

use super::lora;
use crate::{
    delta::{DeltaSpec, mixed_bases},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "nola",
    about: "LoRA whose factors are trained mixtures of fixed random matrices",
    paper: "arXiv:2310.02556",
    spec: |rank| VariantSpec { delta: Some(DeltaSpec::MixedBases(mixed_bases::Spec::default())), ..lora::spec(rank) },
    parameters: Some(|_, _, _| 2 * mixed_bases::Spec::default().bases),
    knobs: lora::PRESET.knobs,
    parity: Parity::Equations,
};
