//! LISA: full fine-tuning of a few layers at a time, drawn anew after some steps.
//!
//! Every `interval` steps, `count` layers are drawn; they, embeddings and head take steps of AdamW, and the others rest. The mechanism is
//! in [`layers`](crate::layers), with what is not saved here.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `layers.count` | 1 | `lisa_activated_layers` in the authors' examples (OptimalScale/LMFlow) |
//! | `layers.interval` | 20 | `lisa_interval_steps` there |
//!
//! Trains every tensor of the base, as a per-run copy, some of them at a time. Layers are drawn uniformly, as in the authors' code.
//!
//! Pan et al., *LISA: Layerwise Importance Sampling for Memory-Efficient Large Language Model Fine-Tuning*, NeurIPS 2024, arXiv:2403.17919.

use super::full;
use crate::{
    layers::LayerSchedule,
    preset::{Knob, Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "lisa",
    about: "full fine-tuning of a few layers at a time, drawn anew after some steps",
    paper: "arXiv:2403.17919",
    spec: |rank| VariantSpec { layers: LayerSchedule::Sampled { count: 1, interval: 20 }, ..full::PRESET.at(rank) },
    parameters: None,
    knobs: |_| vec![Knob { path: "layers.count", values: vec![1.0, 2.0] }],
    parity: Parity::Equations,
};
