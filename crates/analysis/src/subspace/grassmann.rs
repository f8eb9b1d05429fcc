//! Similarity of subspaces: `φ` for every pair of cuts, principal angles, projection distance.
//!
//! ```text
//! φ(A, B, i, j) = ‖U_Aⁱᵀ U_Bʲ‖_F² / min(i, j)   in [0, 1]                                  LoRA section 7.2, equation (4)
//! ```
//! With `M = U_Aᵀ U_B`, `[k_a, k_b]`, the numerator is the sum of `M²` over its first `i` rows and `j` columns, so one product and one
//! two-dimensional cumulative sum give all pairs.
//!
//! Appendix G relates `φ` to the projection metric `d = (p - Σ σ_l²)^½` of Ham and Lee (2008), `p = min(i, j)` and `σ_l` the singular
//! values of `U_Aⁱᵀ U_Bʲ`. It prints `φ = (1 - d²)/p`; its own definitions give `φ = Σ σ_l² / p = 1 - d²/p`, which is what holds here.

use lowrank::linalg::{Backend, subtract_product, view};
use nalgebra::DMatrix;

use super::SubspaceError;
use super::basis::Basis;
use super::cumulative::normalised_sums;
use super::random::mean_phi;

/// `φ(i, j)` for `i` in `1..=k_a` and `j` in `1..=k_b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Phi {
    values: DMatrix<f64>,
    ambiguous_rows: Vec<bool>,
    ambiguous_cols: Vec<bool>,
    dimension: usize,
}

/// One cell of a [`Phi`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhiEntry {
    /// Number of directions of the first subspace, from 1.
    pub i: usize,
    /// Number of directions of the second subspace, from 1.
    pub j: usize,
    /// `φ(i, j)`.
    pub phi: f64,
    /// Its mean over random subspaces, `max(i, j)/d`.
    pub random_mean: f64,
    /// Whether either cut lies inside a cluster of singular values; such a cell belongs in no comparison.
    pub ambiguous: bool,
}

/// All `φ(i, j)` of two bases of one space, `[d, k_a]` and `[d, k_b]`.
pub fn phi(first: &Basis, second: &Basis) -> Result<Phi, SubspaceError> {
    let cosines = first.cosines(second)?; // [k_a, k_b]
    Ok(Phi {
        values: normalised_sums(&cosines),
        ambiguous_rows: (1..=first.rank()).map(|i| first.is_ambiguous(i)).collect(),
        ambiguous_cols: (1..=second.rank()).map(|j| second.is_ambiguous(j)).collect(),
        dimension: first.dimension(),
    })
}

impl Phi {
    /// All values, `[k_a, k_b]`; `φ(i, j)` is at row `i - 1`, column `j - 1`.
    pub fn values(&self) -> &DMatrix<f64> {
        &self.values
    }

    /// `φ(i, j)`, counting from 1.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.values[(i - 1, j - 1)]
    }

    /// Dimension `d` of the space.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Whether either cut lies inside a cluster of singular values.
    pub fn is_ambiguous(&self, i: usize, j: usize) -> bool {
        self.ambiguous_rows[i - 1] || self.ambiguous_cols[j - 1]
    }

    /// Every cell, `j` fastest.
    pub fn entries(&self) -> impl Iterator<Item = PhiEntry> + '_ {
        let (rows, cols) = self.values.shape();
        (1..=rows).flat_map(move |i| {
            (1..=cols).map(move |j| PhiEntry {
                i,
                j,
                phi: self.at(i, j),
                random_mean: mean_phi(self.dimension, i, j),
                ambiguous: self.is_ambiguous(i, j),
            })
        })
    }
}

/// Principal angles between two subspaces in radians, ascending, `[min(k_a, k_b)]`.
///
/// Small angles come from sines and large ones from cosines, so both are exact to rounding (Björck and Golub 1973).
pub fn principal_angles(first: &Basis, second: &Basis) -> Result<Vec<f64>, SubspaceError> {
    let (large, small) = if first.rank() >= second.rank() { (first, second) } else { (second, first) };
    let cosines = large.cosines(small)?; // [k, p]
    // What of the smaller subspace lies outside the larger one has the sines as singular values.
    let mut outside = small.directions().clone(); // [d, p]
    subtract_product(&mut outside, view(large.directions()), &cosines);
    let cosines = Backend::default().svd(&cosines)?.values; // descending
    let mut sines = Backend::default().svd(&outside)?.values;
    sines.reverse(); // ascending, as the angles
    let angle = |(cosine, sine): (&f64, &f64)| {
        if cosine * cosine >= 0.5 { sine.min(1.0).asin() } else { cosine.min(1.0).acos() }
    };
    Ok(cosines.iter().zip(&sines).map(angle).collect())
}

/// The projection metric of appendix G, `d = (p - ‖U_AᵀU_B‖_F²)^½ = (Σ sin² θ_l)^½` with `p = min(k_a, k_b)`, in `[0, √p]`.
pub fn projection_distance(first: &Basis, second: &Basis) -> Result<f64, SubspaceError> {
    let angles = principal_angles(first, second)?;
    Ok(angles.iter().map(|angle| angle.sin().powi(2)).sum::<f64>().sqrt())
}
