//! SVDiff: a trained shift of the frozen weight's singular values.
//!
//! `W_δ = U·diag(relu(σ + δ))·Vᵀ`; the mechanism is in [`spectral_shift`].
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | there is none |
//!
//! There is no `α`. Trains the shifts: `min(d_in, d_out)` parameters per map. They take a larger rate than a full
//! fine-tuning.
//!
//! Han et al., *SVDiff: Compact Parameter Space for Diffusion Fine-Tuning*, ICCV 2023, arXiv:2303.11305.

use super::lora;
use crate::{
    delta::{DeltaSpec, spectral_shift},
    preset::{Parity, Preset, no_knobs},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "svdiff",
    about: "a shift of the frozen weight's singular values",
    paper: "arXiv:2303.11305",
    spec: |_| VariantSpec {
        delta: Some(DeltaSpec::SpectralShift(spectral_shift::Spec {})),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(0)
    },
    parameters: Some(|d_in, d_out, _| d_in.min(d_out)),
    knobs: no_knobs,
    parity: Parity::Equations,
};
