//! LoRA: a trained low-rank term beside a frozen weight.
//!
//! `h = W0·x + (α/r)·B·A·x` (Eq. 3); here `y = x·W0 + (α/r)·(drop(x)·a)·b`. `A` is kaiming uniform
//! `U(±1/√d_in)` as loralib and PEFT ship it (`init: {kind: gaussian}` is the paper's text), `B` is zero.
//! Dropout acts on the adapter's input alone.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | `1..=min(d_in, d_out)` |
//! | `alpha` | 16 | not 0 |
//! | `dropout` | 0 | `[0, 1)` |
//!
//! Trains `A`, `B`: `r·(d_in + d_out)` parameters per map. `α` is 16 in loralib's GLUE scripts; the paper's
//! Table 9 is read as 8 by some. A table made with one is not comparable with the other.
//!
//! Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022, arXiv:2106.09685.
//!
//! ```
//! let lora = variants::presets::lora::spec(8).check(None).expect("the defaults are valid");
//! assert_eq!(lora.spec().scaling.at(16.0, 8), 2.0);
//! ```

use std::collections::BTreeMap;

use crate::{
    base::{BaseSpec, BiasSpec},
    base_update::AnyBaseUpdate,
    combine::{CombineSpec, additive},
    delta::{DeltaSpec, low_rank},
    gradient::GradientSpec,
    init::{AnyInit, kaiming::Kaiming},
    bilevel::Bilevel,
    layers::LayerSchedule,
    preset::{Knob, Parity, Preset},
    rank::{AnyRankPolicy, constant::Constant},
    role::TrainConfig,
    scaling::Scaling,
    spec::VariantSpec,
};

/// loralib, `examples/NLU/roberta_base`_*.sh.
pub const ALPHA: f64 = 16.0;

/// LoRA at `rank`; what the other presets start from.
pub fn spec(rank: usize) -> VariantSpec {
    VariantSpec {
        rank,
        alpha: ALPHA,
        dropout: 0.0,
        delta: Some(DeltaSpec::LowRank(low_rank::Spec::default())),
        combine: CombineSpec::Additive(additive::Spec {}),
        init: AnyInit::Kaiming(Kaiming::default()),
        scaling: Scaling::AlphaOverRank,
        train: TrainConfig::default(),
        rank_policy: AnyRankPolicy::Constant(Constant {}),
        gradient: GradientSpec::Plain,
        orthogonality: 0.0,
        base: BaseSpec::Frozen,
        bias: BiasSpec::None,
        base_update: AnyBaseUpdate::default(),
        penalties: BTreeMap::new(),
        layers: LayerSchedule::All,
        bilevel: Bilevel::None,
    }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "lora",
    about: "a trained low-rank term beside a frozen weight",
    paper: "arXiv:2106.09685",
    spec,
    parameters: Some(|d_in, d_out, rank| rank * (d_in + d_out)),
    knobs: |rank| vec![Knob::alpha(spec(rank).alpha)],
    parity: Parity::Peft,
};
