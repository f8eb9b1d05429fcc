//! The best approximation of an update at a smaller rank.

use nalgebra::DMatrix;

use crate::{
    error::UpdateError,
    linalg::ThinSvd,
    low_rank::{Decomposition, LowRank},
    update::Update,
};

/// An update at some rank, and what bringing it there has cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Truncated {
    /// The factors; both have the square roots of the singular values.
    pub update: LowRank,
    /// `‖ΔW‖_F` before.
    pub norm: f64,
    /// `‖ΔW − down·up‖_F`.
    pub lost: f64,
}

impl Update {
    /// The best approximation at `rank`, or the whole at its own rank. Singular values that f64 cannot tell from zero are left out, and
    /// one component stays in any case.
    pub fn truncated(&self, rank: Option<usize>) -> Result<Truncated, UpdateError> {
        let decomposed = self.decompose()?;
        let sigma = decomposed.values();
        let (d_in, d_out) = self.shape();
        let noise = sigma.first().copied().unwrap_or(0.0) * d_in.max(d_out) as f64 * f64::EPSILON;
        let own = sigma.iter().filter(|value| **value > noise).count();
        let kept = rank.unwrap_or(own).min(own).max(1).min(sigma.len());
        // Not `sum`, whose nothing is −0.
        let norm = |values: &[f64]| values.iter().fold(0.0, |sum, value| sum + value * value).sqrt();
        let (norm, lost) = (norm(sigma), norm(&sigma[kept..]));
        let ThinSvd { left, values, right } = decomposed.first(kept);
        let roots: Vec<f64> = values.iter().map(|value| value.sqrt()).collect();
        let update = LowRank::from_parts(scaled(left, &roots), scaled(right, &roots).transpose());
        Ok(Truncated { update, norm, lost })
    }
}

impl Decomposition {
    /// The first `rank` terms as factors: `down` has the singular values, the rows of `up` are orthonormal. Fewer where there are fewer.
    pub fn factors(&self, rank: usize) -> LowRank {
        let ThinSvd { left, values, right } = self.first(rank.min(self.values().len()));
        LowRank::from_parts(scaled(left, &values), right.transpose())
    }
}

/// Every column `[d, k]` times its value `[k]`.
fn scaled(mut matrix: DMatrix<f64>, values: &[f64]) -> DMatrix<f64> {
    for (mut column, value) in matrix.column_iter_mut().zip(values) {
        column *= *value;
    }
    matrix
}

#[cfg(test)]
mod tests;
