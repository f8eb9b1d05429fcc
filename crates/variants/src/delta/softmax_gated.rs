//! Two trained factors whose components are weighted by a softmax: `ΔW = s·A·diag(softmax(λ))·B`.
//!
//! `A: [runs, d_in, rank]` is drawn from `init`, `B: [runs, rank, d_out]` starts at zero, so the start is the base; the logits `λ`
//! `[runs, 1, rank]` start at 1, equal weights of `1/rank`. `rank·(d_in + d_out + 1)` trained numbers per map. Rows pass `A` and `B`.
//!
//! A rank policy ends the search for weights by setting gates `g` `[runs, 1, rank]`, which are stored with the adapter and do not train: a
//! component whose `g` is not negative has the weight `g` from then on, whatever its logit. They start at −1.
//!
//! Zhang et al., *AutoLoRA: Automatically Tuning Matrix Ranks in Low-Rank Adaptation Based on Meta Learning*, NAACL 2024, arXiv:2403.09113, Eq. 2;
//! code: ruz048/AutoLoRA.

use burn::tensor::{Tensor, activation::softmax};
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    form::{Chain, Form},
    init::{AnyInit, Init},
    role::{Param, Role},
};

/// No parameters of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

/// Two factors per run, and what their components weigh.
#[derive(Clone, Debug)]
pub struct SoftmaxGated {
    /// `[runs, d_in, rank]`
    pub a: Tensor<3>,
    /// `[runs, 1, rank]`
    pub lambda: Tensor<3>,
    /// `[runs, rank, d_out]`
    pub b: Tensor<3>,
    /// `[runs, 1, rank]`
    pub gate: Tensor<3>,
}

impl DeltaRecipe for Spec {
    type Delta = SoftmaxGated;
    const PROVIDES: &'static [Capability] = &[Capability::SoftGates, Capability::DrawnFactors, Capability::OwnRanks];
    const ROLES: &'static [Role] = &[Role::A, Role::Lambda, Role::B, Role::Accumulated];

    fn misfit(&self, rank: usize, _shape: [usize; 2]) -> Option<String> {
        let why = || "rank is `1`, but the weights of a softmax over one component never change; use at least 2".to_owned();
        (rank == 1).then(why)
    }

    /// `‖a_k‖/rank`: a component weighs as much at the start.
    fn start_norm(&self, init: &AnyInit, rank: usize, [d_in, _]: [usize; 2]) -> Option<f64> {
        Some(init.std(d_in, rank) * (d_in as f64).sqrt() / rank as f64)
    }

    fn init(&self, at: &mut Site<'_>) -> SoftmaxGated {
        let [d_in, d_out] = at.shape;
        let zero = at.zeros(1, at.rank);
        let lambda = if at.is_given() { zero.clone() } else { zero.clone() + 1.0 };
        SoftmaxGated { a: at.drawn("a", d_in), b: at.zeros(at.rank, d_out), gate: zero - 1.0, lambda }
    }
}

impl Delta for SoftmaxGated {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![
            Param::ranked("a", Role::A, 2, &mut self.a),
            Param::ranked("lambda", Role::Lambda, 2, &mut self.lambda),
            Param::ranked("b", Role::B, 1, &mut self.b),
            Param::ranked("gate", Role::Accumulated, 2, &mut self.gate),
        ]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let is_set = self.gate.clone().greater_equal_elem(0.0);
        let weights = softmax(self.lambda.clone(), 2).mask_where(is_set, self.gate.clone());
        Form::LowRank(Chain { down: self.a.clone(), middle: weights * gate.clone(), up: self.b.clone() })
    }
}
