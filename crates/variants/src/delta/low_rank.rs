//! The product of two thin factors, `ΔW = s·A·B`.
//!
//! `A: [runs, d_in, rank]` (the paper's `Aᵀ`) is drawn from the variant's `init`, `B: [runs, rank, d_out]`
//! (the paper's `Bᵀ`) starts at zero, so the start is the base. Two thin products replace `x·ΔW`:
//! `rank·(d_in + d_out)` multiplications per row instead of `d_in·d_out`.
//!
//! Where `A` is frozen, autodiff keeps `x·A` (`[n, rank]`) for the backward pass and not `x`
//! (`[n, d_in]`), because an untracked factor needs no gradient.
//!
//! Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022, arXiv:2106.09685, Eq. 3.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    form::{Chain, Form},
    init::{AnyInit, Init},
    peft::PeftForm,
    role::{Param, Role},
};

/// No parameters of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

/// Two factors per run.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// Down-projection, `[runs, d_in, rank]`.
    pub a: Tensor<3>,
    /// Up-projection, `[runs, rank, d_out]`.
    pub b: Tensor<3>,
}

impl DeltaRecipe for Spec {
    type Delta = LowRank;
    const PROVIDES: &'static [Capability] = &[Capability::TwoFactors, Capability::DrawnFactors, Capability::OwnRanks];
    // On an embedding table both factors have the role `embedding`.
    const ROLES: &'static [Role] = &[Role::A, Role::B, Role::Embedding];

    fn peft(&self) -> Option<PeftForm> {
        Some(PeftForm::Lora)
    }

    /// `‖a_k‖`: what a row of `B` is multiplied by.
    fn start_norm(&self, init: &AnyInit, rank: usize, [d_in, _]: [usize; 2]) -> Option<f64> {
        Some(init.std(d_in, rank) * (d_in as f64).sqrt())
    }

    fn init(&self, at: &mut Site<'_>) -> LowRank {
        let [d_in, d_out] = at.shape;
        LowRank { a: at.drawn("a", d_in), b: at.zeros(at.rank, d_out) }
    }
}

impl Delta for LowRank {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::ranked("a", Role::A, 2, &mut self.a), Param::ranked("b", Role::B, 1, &mut self.b)]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        Form::LowRank(Chain { down: self.a.clone(), middle: gate.clone(), up: self.b.clone() })
    }
}
