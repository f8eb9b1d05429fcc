//! Two trained factors with a trained core between them: `ΔW = s·A·G·B`.
//!
//! `A: [runs, d_in, rank]` and `B: [runs, rank, d_out]` are drawn from `init` with torch's fan-ins (`kaiming`: `U(±1/√d_in)` and `U(±1/√rank)`),
//! the core `G` `[runs, rank, rank]` starts at zero. `rank·(d_in + d_out) + rank²` trained numbers per map. At the first step the core alone has
//! a gradient, since both factors are multiplied by it. Rows pass `A·G` and `B`. A core that is a diagonal is [`diagonal`](super::diagonal).
//!
//! Si et al., *Maintaining Structural Integrity in Parameter Spaces for Parameter Efficient Fine-tuning* (FLoRA), arXiv:2405.14739, with the
//! authors' code for first values.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site, scale};
use crate::{
    capability::{Capability, Requirement},
    form::{Chain, Form},
    init::{AnyInit, Init},
    role::{Param, Role},
};

/// No parameters of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

/// Two factors and a core per run.
#[derive(Clone, Debug)]
pub struct Core {
    /// `[runs, d_in, rank]`
    pub a: Tensor<3>,
    /// `[runs, rank, rank]`
    pub core: Tensor<3>,
    /// `[runs, rank, d_out]`
    pub b: Tensor<3>,
}

impl DeltaRecipe for Spec {
    type Delta = Core;
    const PROVIDES: &'static [Capability] = &[Capability::DrawnFactors, Capability::OwnRanks];
    const REQUIRES: &'static [Requirement] = &[Requirement {
        needs: Capability::ConstantRank,
        rule: "the middle of `core` mixes all components; use it with `rank_policy: {kind: constant}`, or `diagonal` under another policy",
    }];
    const ROLES: &'static [Role] = &[Role::A, Role::Core, Role::B];

    /// `‖a_k‖·‖b_l‖`: what a number of the core is multiplied by.
    fn start_norm(&self, init: &AnyInit, rank: usize, [d_in, d_out]: [usize; 2]) -> Option<f64> {
        Some(init.std(d_in, rank) * init.std(rank, rank) * (d_in as f64 * d_out as f64).sqrt())
    }

    fn init(&self, at: &mut Site<'_>) -> Core {
        let [d_in, d_out] = at.shape;
        Core { a: at.drawn("a", d_in), core: at.zeros(at.rank, at.rank), b: at.drawn_up("b", d_out) }
    }
}

impl Delta for Core {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![
            Param::new("a", Role::A, &mut self.a),
            Param::new("core", Role::Core, &mut self.core),
            Param::new("b", Role::B, &mut self.b),
        ]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let middle = scale(gate, self.a.dims()[2]);
        Form::LowRank(Chain { down: self.a.clone().matmul(self.core.clone()), middle, up: self.b.clone() })
    }
}
