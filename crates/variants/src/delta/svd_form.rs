//! A singular-value form with trained factors, `ΔW = s·P Λ Q`.
//!
//! In our layout `ΔW = s·Q·diag(λ)·P` with `Q: [runs, d_in, rank]` (the paper's `Qᵀ`, PEFT's `lora_A`),
//! `λ: [runs, 1, rank]` (`lora_E`) and `P: [runs, rank, d_out]` (the paper's `Pᵀ`, `lora_B`). `λ` starts at
//! zero; both factors are drawn. A component is pruned by zeroing its `λ`; its factors keep training, so it
//! may come back.
//!
//! What keeps the factors near orthonormal is in [`orthogonality`](crate::penalty::orthogonality).
//!
//! Zhang et al., *Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning*, ICLR 2023,
//! arXiv:2303.10512, Eqs. 3 and 4.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    form::{Chain, Form},
    init::{AnyInit, Init},
    peft::PeftForm,
    penalty::orthogonality::Factor,
    role::{Param, Role},
};

/// No parameters of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

/// Two drawn factors and a diagonal per run.
#[derive(Clone, Debug)]
pub struct SvdForm {
    /// Right factor, `[runs, d_in, rank]`.
    pub q: Tensor<3>,
    /// Diagonal, `[runs, 1, rank]`.
    pub lambda: Tensor<3>,
    /// Left factor, `[runs, rank, d_out]`.
    pub p: Tensor<3>,
}

impl DeltaRecipe for Spec {
    type Delta = SvdForm;
    const PROVIDES: &'static [Capability] =
        &[Capability::Prunable, Capability::Orthonormal, Capability::DrawnFactors, Capability::OwnRanks];
    const ROLES: &'static [Role] = &[Role::A, Role::Lambda, Role::B];

    fn peft(&self) -> Option<PeftForm> {
        Some(PeftForm::AdaLora)
    }

    /// `‖q_k‖·‖p_k‖`: what `λ_k` is multiplied by.
    fn start_norm(&self, init: &AnyInit, rank: usize, shape: [usize; 2]) -> Option<f64> {
        Some(shape.into_iter().map(|width| init.std(width, rank) * (width as f64).sqrt()).product())
    }

    fn init(&self, at: &mut Site<'_>) -> SvdForm {
        let [d_in, d_out] = at.shape;
        SvdForm {
            q: at.drawn("q", d_in),
            lambda: at.zeros(1, at.rank),
            p: at.drawn("p", d_out).swap_dims(1, 2), // [runs, rank, d_out]
        }
    }
}

impl Delta for SvdForm {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![
            Param::ranked("q", Role::A, 2, &mut self.q),
            Param::ranked("lambda", Role::Lambda, 2, &mut self.lambda),
            Param::ranked("p", Role::B, 1, &mut self.p),
        ]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        Form::LowRank(Chain { down: self.q.clone(), middle: self.lambda.clone() * gate.clone(), up: self.p.clone() })
    }

    fn diagonal(&self) -> Option<Tensor<3>> {
        Some(self.lambda.clone())
    }

    fn orthonormal(&self) -> Vec<Factor> {
        vec![Factor { value: self.q.clone(), axis: 2 }, Factor { value: self.p.clone(), axis: 1 }]
    }
}
