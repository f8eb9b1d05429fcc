//! What happens to a gradient before the optimizer sees it.

use burn::tensor::Tensor;
use lowrank::linalg::pseudo_inverse;
use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use crate::{
    capability::{Capability, Requirement},
    error::SpecProblem,
    host::{Placement, values},
};

/// A rule for the gradient of `B`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum GradientSpec {
    /// As it comes.
    #[default]
    Plain,
    /// `∇B ← (AᵀA + ridge·I)⁺ ∇B / s²`: PEFT's LoRA-FA optimizer (optimizers/lorafa.py), with `A` frozen.
    Preconditioned {
        /// Added to the diagonal; PEFT's 1e-8.
        #[serde(default = "ridge")]
        ridge: f64,
    },
}

fn ridge() -> f64 {
    1e-8
}

const PRECONDITIONED: &[Requirement] = &[
    Requirement {
        needs: Capability::ConstantRank,
        rule: "`preconditioned` is defined at one rank and scale; use it with `rank_policy: {kind: constant}`",
    },
    Requirement {
        needs: Capability::TwoFactors,
        rule: "`preconditioned` multiplies the gradient of B by a function of A, which `{kind}` lacks; use {others}",
    },
    Requirement {
        needs: Capability::FixedA,
        rule: "`preconditioned` is defined for a fixed A; write `train: {a: {state: frozen}}`",
    },
];

impl GradientSpec {
    /// What it needs of the other parts.
    pub fn requires(self) -> &'static [Requirement] {
        match self {
            Self::Plain => &[],
            Self::Preconditioned { .. } => PRECONDITIONED,
        }
    }

    /// Rules that its own numbers break, with the field.
    pub fn check(self) -> Vec<SpecProblem> {
        match self {
            Self::Preconditioned { ridge } if !ridge.is_finite() || ridge < 0.0 => {
                vec![SpecProblem::new("ridge", format!("ridge is `{ridge}`, but must be finite and not negative"))]
            }
            _ => Vec::new(),
        }
    }

    /// The matrix that multiplies `∇B` from the left, `[runs, rank, rank]`, from `A` `[runs, d_in, rank]`
    /// and the scale of each run.
    pub fn preconditioner(self, a: &Tensor<3>, scales: &[f64], place: &Placement) -> Option<Tensor<3>> {
        let Self::Preconditioned { ridge } = self else { return None };
        let [runs, d_in, rank] = a.dims();
        let mut out = Vec::with_capacity(runs * rank * rank);
        for (a, scale) in values(a).chunks(d_in * rank).zip(scales) {
            let a = DMatrix::from_row_slice(d_in, rank, a);
            let gram = a.transpose() * &a + DMatrix::identity(rank, rank) * ridge;
            // torch.linalg.pinv's default cut-off, max(m, n)·eps of the largest singular value.
            let cut = rank as f64 * f64::EPSILON * gram.norm();
            // An `A` that is not finite has no inverse; the gradient says so.
            let inverse = pseudo_inverse(&gram, cut).unwrap_or_else(|_| DMatrix::repeat(rank, rank, f64::NAN));
            out.extend((inverse / (scale * scale)).transpose().iter()); // row-major
        }
        Some(place.tensor(out, [runs, rank, rank]))
    }
}
