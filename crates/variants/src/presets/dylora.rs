//! DyLoRA: LoRA whose every prefix of components is a trained adapter.
//!
//! `h = W0·x + (α/b)·B[:, :b]·A[:b]·x` with `b` drawn at every step (Eqs. 5 to 7); sampling and update modes
//! are in [`nested_sampling`](crate::rank::nested_sampling). The default is the uniform distribution and the nested update, the better mode
//! in the paper's Table 4; the released code runs the frozen one. All else is [`lora`].
//!
//! Trains `A`, `B`: `r·(d_in + d_out)` parameters per map, of which a readout at rank `b` uses `b/r`.
//!
//! Valipour et al., EACL 2023, arXiv:2210.07558.

use super::lora;
use crate::{
    preset::{Parity, Preset},
    rank::{AnyRankPolicy, nested_sampling::NestedSampling},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "dylora",
    about: "LoRA trained for all ranks at once by nested-rank sampling",
    paper: "arXiv:2210.07558",
    spec: |rank| VariantSpec {
        rank_policy: AnyRankPolicy::NestedSampling(NestedSampling::default()),
        ..lora::spec(rank)
    },
    parameters: lora::PRESET.parameters,
    knobs: lora::PRESET.knobs,
    parity: Parity::Equations,
};
