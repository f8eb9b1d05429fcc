//! Tied-LoRA: one pair of factors for all layers, and two trained vectors per map.
//!
//! `h = W0·x + (α/r)·Λ_v·B·Λ_u·A·x`, here `y = x·W0 + (α/r)·((x·a)∘u)·b∘v`: maps in the same place of different layers share `a` and `b`; the
//! mechanism is in [`tied_low_rank`]. All else is [`lora`]. With the vectors frozen at 1 on one layer it is LoRA.
//!
//! Trains the pair, `r·(d_in + d_out)` once for all maps of one place and shape, and `r + d_out` per map; of `L` layers that is
//! `r·(d_in + d_out) + L·(r + d_out)`.
//!
//! Departure: the paper's models have one map for queries, keys and values; where they are maps of their own, each place has its own pair.
//!
//! Renduchintala, Konuk and Kuchaiev, NAACL 2024, arXiv:2311.09578.

use super::lora;
use crate::{
    delta::{DeltaSpec, tied_low_rank},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "tied_lora",
    about: "one pair of factors for all layers, and two trained vectors per map",
    paper: "arXiv:2311.09578",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::TiedLowRank(tied_low_rank::Spec::default())),
        ..lora::spec(rank)
    },
    // Of a map that is alone.
    parameters: Some(|d_in, d_out, rank| rank * (d_in + d_out) + rank + d_out),
    knobs: lora::PRESET.knobs,
    parity: Parity::Equations,
};
