//! How much of an update a frozen factor could have expressed.
//!
//! ```text
//! reach = ‖P ΔW‖_F² / ‖ΔW‖_F²   in [0, 1],   P the orthogonal projector onto the span of the frozen factor
//! ```
//! LoRA-FA freezes `a: [d_in, r]`, so every `ΔW = s·a·b` has its columns in the span of `a` ([`Side::Input`]), and the reach of a fully
//! trained `ΔW` is the largest share that any `b` can express. VeRA, `ΔW = a·diag(d)·b·diag(c)` with both factors frozen, is confined to
//! the span of `a` in the same way and to a smaller family within it: for it the reach is an upper bound, and on the output side, where
//! `c` rescales every coordinate, a description. A random factor of rank `k` reaches `k/d` on average
//! ([`super::random::mean_reach`]).
//!
//! LoRA-FA: Zhang et al. 2023, arXiv:2308.03303. VeRA: Kopiczko et al., ICLR 2024, arXiv:2310.11454.

use nalgebra::DMatrix;

use super::basis::Basis;
use super::factored::Update;
use super::{Side, SubspaceError};

/// The share of `update`, `[d_in, d_out]`, in the span of a frozen factor.
///
/// The factor is `a: [d_in, r]` on the input side, and `b: [r, d_out]` on the output side, where `ΔW P` is meant.
pub fn reach(update: &Update, factor: &DMatrix<f64>, side: Side) -> Result<f64, SubspaceError> {
    let (d_in, d_out) = update.shape();
    let (span, dimension) = match side {
        Side::Input => (Basis::span(factor)?, d_in),
        Side::Output => (Basis::span(&factor.transpose())?, d_out),
    };
    if span.dimension() != dimension {
        return Err(SubspaceError::Dimensions { first: dimension, second: span.dimension() });
    }
    let total = update.svd()?.norm();
    Ok((update.captured(span.directions(), side) / (total * total)).min(1.0))
}
