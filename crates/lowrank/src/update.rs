//! An update of one map, in factors or dense.

use nalgebra::DMatrix;

use crate::{
    error::{UpdateError, check},
    linalg::Backend,
    low_rank::{Decomposition, LowRank},
};

/// The change `ΔW = W' - W0` of one map, `[d_in, d_out]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A product of factors, never formed.
    LowRank(LowRank),
    /// A full matrix, where the change is not low-rank (full fine-tuning, a trained magnitude).
    Dense(DMatrix<f64>),
}

impl Update {
    /// `(d_in, d_out)`.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::LowRank(product) => product.shape(),
            Self::Dense(matrix) => matrix.shape(),
        }
    }

    /// `ΔW`, `[d_in, d_out]`.
    pub fn dense(&self) -> DMatrix<f64> {
        match self {
            Self::LowRank(product) => product.dense(),
            Self::Dense(matrix) => matrix.clone(),
        }
    }

    /// `‖ΔW‖_F`, 0 for an untrained update.
    pub fn norm(&self) -> f64 {
        match self {
            Self::LowRank(product) => product.norm(),
            Self::Dense(matrix) => matrix.norm(),
        }
    }

    /// `‖ΔW - ΔW'‖_F` of two updates of one map.
    pub fn distance(&self, other: &Self) -> f64 {
        match (self, other) {
            (Self::LowRank(one), Self::LowRank(two)) => one.minus(two).norm(),
            _ => (self.dense() - other.dense()).norm(),
        }
    }

    /// `Σ w_i·ΔW_i`, in factors where all have them. The updates are of one map; at least one is there.
    pub fn weighted_sum(terms: &[(f64, &Self)]) -> Self {
        let factored: Option<Vec<(f64, &LowRank)>> = terms
            .iter()
            .map(|(weight, update)| match update {
                Self::LowRank(product) => Some((*weight, product)),
                Self::Dense(_) => None,
            })
            .collect();
        if let Some(terms) = factored {
            return Self::LowRank(LowRank::weighted_sum(&terms));
        }
        let scaled = terms.iter().map(|(weight, update)| update.dense() * *weight);
        Self::Dense(scaled.reduce(|sum, term| sum + term).unwrap_or_else(|| unreachable!("one update is there")))
    }

    /// The SVD of `ΔW`.
    pub fn decompose(&self) -> Result<Decomposition, UpdateError> {
        match self {
            Self::LowRank(product) => product.decompose(),
            Self::Dense(matrix) => {
                check("ΔW", matrix)?;
                Ok(Decomposition { frames: None, core: Backend::default().svd(matrix)? })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, cols: usize, phase: f64) -> DMatrix<f64> {
        DMatrix::from_fn(rows, cols, |row, col| ((row * 31 + col * 17) as f64 + phase).sin())
    }

    /// Two updates of one map, each in factors and dense.
    fn updates() -> [[Update; 2]; 2] {
        [0.3, 1.7].map(|phase| {
            let (down, up) = (matrix(7, 2, phase), matrix(2, 5, phase + 1.0));
            let dense = Update::Dense(&down * &up);
            [Update::LowRank(LowRank::new(down, up).unwrap()), dense]
        })
    }

    #[test]
    fn an_update_is_the_same_in_factors_and_dense() {
        let [one, other] = updates();
        let norm = one[1].dense().norm();
        for update in &one {
            assert_eq!(update.shape(), (7, 5));
            assert!((update.dense() - one[1].dense()).amax() < 1e-14);
            assert!((update.norm() - norm).abs() < 1e-13 * norm, "{}", update.norm());
        }
        let apart = (one[1].dense() - other[1].dense()).norm();
        for (first, second) in one.iter().flat_map(|first| other.iter().map(move |second| (first, second))) {
            assert!((first.distance(second) - apart).abs() < 1e-13 * apart);
        }
    }
}
