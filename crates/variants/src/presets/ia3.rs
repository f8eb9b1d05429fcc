//! (IA)³: gains of the keys and values of attention and of the inner activation of the feed-forward block.
//!
//! `softmax(Q·(l_k∘Kᵀ)/√d_k)·(l_v∘V)` and `(l_ff∘γ(W1·x))·W2` (§3.3), here `y = (x·W0 + bias)∘g` on maps of attention and `y = (x∘g)·W0 + bias`
//! on the second map of a feed-forward block; the mechanism is in [`gain`].
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | there is none |
//! | `delta.feedforward` | PEFT's names | ends of names of the maps with the gain on their inputs |
//!
//! It is the paper's method on keys, values and the second feed-forward map (`targets: [key, value, output.dense]` in BERT, where the latter
//! also names attention's output); on other targets it is another one.
//!
//! There is no `α`. Trains the gains: `d_out` parameters per map, `d_in` where the gain is on the inputs. Of one block with keys, values and
//! the second feed-forward map that is `2·d_kv + d_ff`.
//!
//! Departure: the losses of T-Few (unlikelihood, length normalisation) are not here, the gains alone.
//!
//! Liu et al., *Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning*, NeurIPS 2022, arXiv:2205.05638.

use super::lora;
use crate::{
    delta::{DeltaSpec, gain},
    preset::{Parity, Preset, no_knobs},
    scaling::Scaling,
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "ia3",
    about: "gains of attention's keys and values and of the feed-forward block's inner activation",
    paper: "arXiv:2205.05638",
    spec: |_| VariantSpec {
        delta: Some(DeltaSpec::Gain(gain::Spec::default())),
        scaling: Scaling::Constant { value: 1.0 },
        ..lora::spec(0)
    },
    // Of a map with the gain on its outputs.
    parameters: Some(|_, d_out, _| d_out),
    knobs: no_knobs,
    parity: Parity::Peft,
};
