//! AdaLoRA: a singular-value form whose components compete for a falling budget.
//!
//! `W' = W0 + s·P·Λ·Q` (Eq. 3) with the orthogonality penalty of Eq. 4, in [`svd_form`]; the budget and the
//! allocation are in [`budget`](crate::rank::budget), the importance in [`sensitivity`](crate::sensitivity). `s = α/r` with `r`
//! the *initial* rank for the whole run, as in the authors' code. Factors are drawn with `std = 0.02`, `Λ` is
//! zero.
//!
//! `rank` is the initial rank; the default target is two thirds of it, the paper's `b0 = 1.5·bT`. The
//! penalty's weight is the authors' 0.1 (PEFT: 0.5).
//!
//! Trains `P`, `Λ`, `Q`: `r·(d_in + d_out + 1)` parameters per map.
//!
//! Zhang et al., ICLR 2023, arXiv:2303.10512.

use super::lora;
use crate::{
    delta::{DeltaSpec, svd_form},
    init::{AnyInit, gaussian::Gaussian},
    preset::{Parity, Preset},
    rank::{AnyRankPolicy, budget::Budget},
    spec::VariantSpec,
};

fn spec(rank: usize) -> VariantSpec {
    VariantSpec {
        delta: Some(DeltaSpec::SvdForm(svd_form::Spec {})),
        init: AnyInit::Gaussian(Gaussian { std: Some(0.02) }),
        rank_policy: AnyRankPolicy::Budget(Budget { target_rank: (rank * 2 / 3).max(1), ..Budget::default() }),
        orthogonality: 0.1,
        ..lora::spec(rank)
    }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "adalora",
    about: "a singular-value form whose components compete for a falling budget",
    paper: "arXiv:2303.10512",
    spec,
    parameters: Some(|d_in, d_out, rank| rank * (d_in + d_out + 1)),
    parity: Parity::Tested,
};
