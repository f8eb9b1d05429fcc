//! VB-LoRA: factors whose pieces are mixtures of vectors from a bank that all maps share.
//!
//! A piece of a factor is `Σ_{k ∈ topK(σ)} softmax(topK(σ))_k·S_k` with a bank `S` for the whole model; the mechanism is in [`vector_bank`].
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | –; the paper's is 4 | `1..=min(d_in, d_out)` |
//! | `delta.vectors`, `delta.vector_length` | 256, 256 | at least 1 |
//! | `delta.top_k` | 2 | `1..=vectors` |
//!
//! There is no `α`. Trains the bank, `h·v` once for all maps, and `rank·h·(d_in + d_out)/v` logits per map. To store a trained adapter the paper
//! counts the bank, and `K` indices and `K − 1` weights per piece. `train: {bank: ..}` and `train: {logits: ..}` set rates apart.
//!
//! Li, Han and Ji, NeurIPS 2024, arXiv:2405.15179.

use super::lora;
use crate::{
    delta::{
        DeltaSpec,
        vector_bank::{self, length},
    },
    preset::{Parity, Preset, no_knobs},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "vb_lora",
    about: "factors whose pieces are mixtures of vectors from a bank that all maps share",
    paper: "arXiv:2405.15179",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::VectorBank(vector_bank::Spec::default())),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(rank)
    },
    // Of a map that is alone.
    parameters: Some(|d_in, d_out, rank| {
        let vector_bank::Spec { vectors, vector_length, .. } = vector_bank::Spec::default();
        let v = length(vector_length, [d_in, d_out]);
        vectors * v + rank * vectors * (d_in + d_out) / v
    }),
    knobs: no_knobs,
    parity: Parity::Peft,
};
