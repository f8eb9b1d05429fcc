//! Captured energy: the share of an update's squared norm that lies in the span of a frozen factor.
//!
//! ```text
//! captured energy = ‖P ΔW‖_F² / ‖ΔW‖_F²   in [0, 1],   P the orthogonal projector onto the span of the frozen factor
//! ```
//! LoRA-FA freezes `a: [d_in, r]`, so every `ΔW = a·b` has its columns in the span of `a` ([`Side::Input`]), and the energy captured
//! of a fully trained `ΔW` is the largest share that any `b` can express. VeRA, `ΔW = a·diag(d)·b·diag(c)` with both factors frozen, is confined to
//! the span of `a` in the same way and to a smaller family within it: for it the share is an upper bound, and on the output side, where
//! `c` rescales every coordinate, a description. A random factor of rank `k` captures `k/d` on average
//! ([`super::random::mean_captured_energy`]).
//!
//! LoRA-FA: Zhang et al. 2023, arXiv:2308.03303. VeRA: Kopiczko et al., ICLR 2024, arXiv:2310.11454.

use lowrank::Update;
use lowrank::linalg::Backend;
use nalgebra::DMatrix;

use super::basis::Basis;
use super::factored::{SingularDirections as _, captured, decompose};
use super::{Side, SubspaceError};

/// The share of `update`, `[d_in, d_out]`, in the span of a frozen factor.
///
/// The factor is `a: [d_in, r]` on the input side, and `b: [r, d_out]` on the output side, where `ΔW P` is meant.
pub fn captured_energy(update: &Update, factor: &DMatrix<f64>, side: Side) -> Result<f64, SubspaceError> {
    let (d_in, d_out) = update.shape();
    let (span, dimension) = match side {
        Side::Input => (column_space(factor)?, d_in),
        Side::Output => (column_space(&factor.transpose())?, d_out),
    };
    if span.dimension() != dimension {
        return Err(SubspaceError::Dimensions { first: dimension, second: span.dimension() });
    }
    let total = update.svd()?.norm();
    Ok((captured(update, span.directions(), side) / (total * total)).min(1.0))
}

/// An orthonormal basis of the columns of `matrix: [d, n]`, in the order of their singular values.
fn column_space(matrix: &DMatrix<f64>) -> Result<Basis, SubspaceError> {
    Ok(decompose("the span", matrix, Backend::default())?.basis(Side::Input))
}
