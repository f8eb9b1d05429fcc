//! LoRA-XS: a trained `r × r` matrix between frozen singular factors of the base.
//!
//! `ΔW = s·A·R·B` with `W0 = U·S·Vᵀ` `[d_in, d_out]`, `A = U_r·S_r` on the inputs and `B = V_rᵀ` on the outputs, as the authors' code has
//! them (Eq. 2 writes `W` transposed, with the values on the outputs, which trains otherwise). The mechanism is in [`singular_core`].
//!
//! `R` starts at `N(0, 1e-5²)`, so the start is the base but for that much. All else is [`lora`].
//!
//! Trains `R`: `r²` parameters per map. The authors use `r` of 4 to 25 on GLUE with learning rates of 1e-4 to 1e-3 and another for the head.
//!
//! Departure: the authors' code takes a truncated decomposition by random projections (ten iterations); here it is the decomposition itself.
//!
//! Bałazy et al., 2024, arXiv:2405.17604.

use super::lora;
use crate::{
    delta::{DeltaSpec, singular_core},
    init::{AnyInit, gaussian::Gaussian},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// Standard deviation of the first values of the core, Section 3.
pub const STD: f64 = 1e-5;

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "lora_xs",
    about: "a trained square core between frozen singular factors of the base",
    paper: "arXiv:2405.17604",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::SingularCore(singular_core::Spec {})),
        init: AnyInit::Gaussian(Gaussian { std: Some(STD) }),
        ..lora::spec(rank)
    },
    parameters: Some(|_, _, rank| rank * rank),
    knobs: lora::PRESET.knobs,
    parity: Parity::Equations,
};
