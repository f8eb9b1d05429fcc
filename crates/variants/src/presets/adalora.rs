//! AdaLoRA: a singular-value form whose components compete for a falling budget.
//!
//! `W' = W0 + s·P·Λ·Q` (Eq. 3) with the orthogonality penalty of Eq. 4, in [`svd_form`]; the budget and the
//! allocation are in [`budget`](crate::rank::budget), the importance in [`sensitivity`](crate::sensitivity). `s = α/r` with `r`
//! the *initial* rank for the whole run, as in the authors' code. Factors are drawn with `std = 0.02`, `Λ` is
//! zero.
//!
//! **The start's gain** is how far `W'` moves per unit of `λ_k`: `s·‖p_k‖·‖q_k‖`, at the start `s·std²·√(d_in·d_out)`. Until the factors
//! have grown, it decides how fast a run learns, and `lora-lab check` prints it. The authors give `α = 32` (16 on MNLI, SST-2 and QQP) at an
//! initial rank of 3, so `s = 10.7` and, at DeBERTa's width of 768, a gain of 3.3. LoRA's `α = 16` at rank 12 on the miniature of width 128
//! has a gain of 0.07. So the default keeps the authors' scale at every rank, `α = 32/3·r`. Measured on the miniature's CoLA (250
//! steps at 1e-3, three seeds, Matthews correlation of dev times 100): 61.2 at `α = 16` and 89.4 at `α = 128`, both at rank 12 with target 8,
//! where LoRA of rank 8 has 92.0. A standard deviation that is larger where the width is smaller (0.049 in place of 0.02) brought
//! nothing: 61.5 at `α = 16`, and 80.9 against 82.4 at `α = 64` (two seeds).
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
    preset::{Knob, Parity, Preset},
    rank::{AnyRankPolicy, budget::Budget},
    spec::VariantSpec,
};

/// The authors' `α/r` on CoLA, RTE, MRPC, QNLI and STS-B: `NLU/scripts` of github.com/QingruZhang/AdaLoRA, `--lora_alpha 32 --lora_r 3`.
const SCALE: f64 = 32.0 / 3.0;

fn spec(rank: usize) -> VariantSpec {
    VariantSpec {
        delta: Some(DeltaSpec::SvdForm(svd_form::Spec {})),
        init: AnyInit::Gaussian(Gaussian { std: Some(0.02) }),
        rank_policy: AnyRankPolicy::Budget(Budget { target_rank: (rank * 2 / 3).max(1), ..Budget::default() }),
        orthogonality: 0.1,
        alpha: SCALE * rank as f64,
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
    // Its paper's own: the start and the budget decide how soon a run learns and how much it may keep.
    knobs: |rank| {
        let targets = [(rank / 2).max(1), (rank * 2 / 3).max(1)];
        let mut targets = targets.map(|target| target as f64).to_vec();
        targets.dedup();
        vec![
            Knob::alpha(spec(rank).alpha),
            Knob { path: "init.std", values: vec![0.02, 0.05] },
            Knob { path: "rank_policy.target_rank", values: targets },
        ]
    },
    parity: Parity::Peft,
};
