//! Full fine-tuning: every tensor of the base trains, as a per-run copy.

use super::head_only;
use crate::{
    base::BaseSpec,
    preset::{Parity, Preset, no_knobs},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "full",
    about: "full fine-tuning of the base",
    paper: "reference point",
    spec: |rank| VariantSpec { base: BaseSpec::Trained, ..head_only::spec(rank) },
    parameters: None,
    knobs: no_knobs,
    parity: Parity::Equations,
};
