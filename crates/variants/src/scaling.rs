//! Axis 3: the scale `s` of an update, as a function of the rank in use.

use serde::{Deserialize, Serialize};

use crate::{
    capability::{Capability, Declaration},
    error::SpecProblem,
};

/// The rule for `s`. DyLoRA evaluates it at the sampled rank, everything else at the full one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Scaling {
    /// `s = α/r` (LoRA, arXiv:2106.09685, §4.1; at rank `b` DyLoRA's `α/b`, arXiv:2210.07558, Eq. 7).
    AlphaOverRank,
    /// `s = α/√r` (rsLoRA, arXiv:2312.03732, Eq. 3).
    AlphaOverSqrtRank,
    /// `s = value` whatever the rank (VeRA has none: 1).
    Constant {
        /// The scale.
        value: f64,
    },
}

impl Scaling {
    /// `s` at `rank`.
    pub fn at(self, alpha: f64, rank: usize) -> f64 {
        match self {
            Self::AlphaOverRank => alpha / rank as f64,
            Self::AlphaOverSqrtRank => alpha / (rank as f64).sqrt(),
            Self::Constant { value } => value,
        }
    }

    /// Rules that its own numbers break, with the field.
    pub fn check(self) -> Vec<SpecProblem> {
        match self {
            Self::Constant { value } if !value.is_finite() || value == 0.0 => {
                vec![SpecProblem::new("value", format!("value is `{value}`, but must be finite and not 0"))]
            }
            _ => Vec::new(),
        }
    }

    /// What it says of itself to the other parts.
    pub fn declaration(self) -> Declaration {
        let (kind, provides): (_, &[_]) = match self {
            Self::AlphaOverRank => ("alpha_over_rank", &[Capability::UsesAlpha]),
            Self::AlphaOverSqrtRank => ("alpha_over_sqrt_rank", &[Capability::UsesAlpha]),
            Self::Constant { .. } => ("constant", &[]),
        };
        Declaration { kind, provides, lacks: &[(Capability::UsesAlpha, "which has no alpha")], requires: &[] }
    }
}
