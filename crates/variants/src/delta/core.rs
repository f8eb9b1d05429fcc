//! Two trained factors with a trained core between them: `ΔW = s·A·G·B`.
//!
//! `A: [runs, d_in, rank]` and `B: [runs, rank, d_out]` are drawn from `init` with torch's fan-ins (`kaiming`: `U(±1/√d_in)` and `U(±1/√rank)`),
//! the core `G` starts at zero. It is
//!
//! | `shape` | `G` | numbers | method |
//! |---|---|---|---|
//! | `full` | `[runs, rank, rank]` | `rank²` | FLoRA |
//! | `diagonal` | `diag(g)`, `g` `[runs, 1, rank]` | `rank` | TriLoRA |
//!
//! so `rank·(d_in + d_out)` trained numbers and those of the core per map. At the first step the core alone has a gradient, since both factors
//! are multiplied by it. Rows pass `A·G` and `B`.
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

/// Which numbers the core has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A square matrix.
    #[default]
    Full,
    /// A diagonal.
    Diagonal,
}

/// The core's shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Full or diagonal.
    #[serde(default)]
    pub shape: Shape,
}

/// Two factors and a core per run.
#[derive(Clone, Debug)]
pub struct Core {
    /// `[runs, d_in, rank]`
    pub a: Tensor<3>,
    /// `[runs, rank, rank]`, or `[runs, 1, rank]` of a diagonal.
    pub core: Tensor<3>,
    /// `[runs, rank, d_out]`
    pub b: Tensor<3>,
    shape: Shape,
}

impl DeltaRecipe for Spec {
    type Delta = Core;
    const PROVIDES: &'static [Capability] = &[Capability::DrawnFactors, Capability::OwnRanks];
    const REQUIRES: &'static [Requirement] = &[Requirement {
        needs: Capability::ConstantRank,
        rule: "the middle of `core` mixes all components; use it with `rank_policy: {kind: constant}`, or `svd_form` for a diagonal \
               under another policy",
    }];
    const ROLES: &'static [Role] = &[Role::A, Role::Core, Role::B];

    /// `‖a_k‖·‖b_l‖`: what a number of the core is multiplied by.
    fn start_norm(&self, init: &AnyInit, rank: usize, [d_in, d_out]: [usize; 2]) -> Option<f64> {
        Some(init.std(d_in, rank) * init.std(rank, rank) * (d_in as f64 * d_out as f64).sqrt())
    }

    fn init(&self, at: &mut Site<'_>) -> Core {
        let [d_in, d_out] = at.shape;
        let rows = if self.shape == Shape::Full { at.rank } else { 1 };
        Core { a: at.drawn("a", d_in), core: at.zeros(rows, at.rank), b: at.drawn_up("b", d_out), shape: self.shape }
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
        let s = scale(gate, self.a.dims()[2]);
        let (down, middle) = match self.shape {
            Shape::Full => (self.a.clone().matmul(self.core.clone()), s),
            Shape::Diagonal => (self.a.clone(), self.core.clone() * s),
        };
        Form::LowRank(Chain { down, middle, up: self.b.clone() })
    }
}
