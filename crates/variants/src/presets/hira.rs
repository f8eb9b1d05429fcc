//! HiRA: a low-rank matrix that multiplies the base entry by entry.
//!
//! `W' = W0 + W0∘(A·B)` (Eq. 5); the mechanism is in [`elementwise`]. There is no scale in PEFT, and none here. All else is [`lora`].
//!
//! Trains `A` and `B`: `r·(d_in + d_out)` parameters per map. The authors use `r = 32`.
//!
//! Huang et al., ICLR 2025, openreview TwJrTz9cRS.

use super::lora;
use crate::{
    delta::{DeltaSpec, elementwise},
    preset::{Parity, Preset, no_knobs},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "hira",
    about: "a low-rank matrix multiplies the base entry by entry",
    paper: "openreview TwJrTz9cRS",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::Elementwise(elementwise::Spec {})),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(rank)
    },
    parameters: lora::PRESET.parameters,
    knobs: no_knobs,
    parity: Parity::Equations,
};
