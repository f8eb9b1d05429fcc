//! Axis 3: the scale `s` of an update, as a function of the rank in use.

use serde::{Deserialize, Serialize};

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
}
