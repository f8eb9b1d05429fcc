//! The head alone, over the frozen base: the floor of every comparison.

use super::lora;
use crate::{
    preset::{Parity, Preset, no_knobs},
    spec::VariantSpec,
};

/// Nothing adapted.
pub fn spec(_rank: usize) -> VariantSpec {
    VariantSpec { delta: None, ..lora::spec(0) }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "head_only",
    about: "the task's head over a frozen base",
    paper: "reference point",
    spec,
    parameters: None,
    knobs: no_knobs,
    parity: Parity::Untested("it trains what every other reference trains too, the head"),
};
