//! SHiRA: a few entries of the weight train, at places drawn once.
//!
//! `W' = W0 + M∘S` with a fixed sparse mask `M`; the mechanism is in [`sparse`]. The update is of high rank, and as it touches a share of the
//! weights alone, several of them can be added with little overlap.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | `r·(d_in + d_out)` entries train, as many numbers as LoRA has at that rank; at most `d_in·d_out`. PEFT's default is 32 |
//! | `delta.mask_seed` | 0 | any |
//!
//! There is no `α`. Trains the entries: `r·(d_in + d_out)` parameters per map.
//!
//! Bhardwaj et al., *Sparse High Rank Adapters*, NeurIPS 2024, arXiv:2406.13175.

use super::lora;
use crate::{
    delta::{DeltaSpec, sparse},
    preset::{Parity, Preset, no_knobs},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "shira",
    about: "a few entries of the weight train, at places drawn once",
    paper: "arXiv:2406.13175",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::Sparse(sparse::Spec::default())),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(rank)
    },
    parameters: lora::PRESET.parameters,
    knobs: no_knobs,
    parity: Parity::Peft,
};
