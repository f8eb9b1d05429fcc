//! BitFit: every bias of the base trains, layer norms' included, and nothing else but the head.
//!
//! Biases are per-run copies and are not decayed.
//!
//! Ben Zaken, Ravfogel and Goldberg, *BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based
//! Masked Language-models*, ACL 2022, arXiv:2106.10199.

use super::head_only;
use crate::{
    base::BiasSpec,
    preset::{Parity, Preset, no_knobs},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "bitfit",
    about: "every bias of the base trains",
    paper: "arXiv:2106.10199",
    spec: |rank| VariantSpec { bias: BiasSpec::All, ..head_only::spec(rank) },
    parameters: None,
    knobs: no_knobs,
    parity: Parity::Equations,
};
