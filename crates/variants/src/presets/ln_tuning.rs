//! LN tuning: gains and biases of all norms train, and nothing else but the head.
//!
//! They are per-run copies and are not decayed. `2·d` parameters per layer norm, `d` per root-mean-square norm.
//!
//! Qi et al., *Parameter-Efficient Tuning on Layer Normalization for Pre-trained Language Models*, 2022, arXiv:2211.08682; `LNTuningConfig`
//! of PEFT.

use super::head_only;
use crate::{
    base::BaseSpec,
    preset::{Parity, Preset, no_knobs},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "ln_tuning",
    about: "gains and biases of the base's norms train",
    paper: "arXiv:2211.08682",
    spec: |rank| VariantSpec { base: BaseSpec::Norms, ..head_only::spec(rank) },
    parameters: None,
    knobs: no_knobs,
    parity: Parity::Untested("its tensors are some of those that the reference of `full` trains"),
};
