//! MoV: several gains of a map's outputs, which a router mixes for every token.
//!
//! `h = y∘Σᵢ ωᵢ(y)·lᵢ` of `y = W0·x`, with `ω(y) = softmax(W_g·y)`: (IA)³ with a mixture in the place of its vector; the mechanism is in [`routed_gain`].
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | there is none |
//! | `delta.experts` | 10 | at least 1 |
//!
//! There is no `α`. Trains the gains and the router: `2·N·d_out` parameters per map. It cannot be merged.
//!
//! Departures: gains are those of outputs on every map, as the paper has them on keys and values; on the feed-forward map (IA)³ and the paper
//! multiply the inner activation, which is the output of the map before it. A bias is not multiplied; the paper's models have none. The
//! authors' routers start at N(0, 0.02²), and their configuration has 30 experts.
//!
//! Zadouri et al., *Pushing Mixture of Experts to the Limit: Extremely Parameter Efficient MoE for Instruction Tuning*, ICLR 2024,
//! arXiv:2309.05444.

use super::lora;
use crate::{
    delta::{DeltaSpec, routed_gain},
    preset::{Parity, Preset, no_knobs},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "mov",
    about: "several gains of a map's outputs, which a router mixes for every token",
    paper: "arXiv:2309.05444",
    spec: |_| VariantSpec {
        delta: Some(DeltaSpec::RoutedGain(routed_gain::Spec::default())),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(0)
    },
    parameters: Some(|_, d_out, _| 2 * routed_gain::Spec::default().experts * d_out),
    knobs: no_knobs,
    parity: Parity::Equations,
};
