//! Ordered orthonormal directions of one space, and which of their cuts a matrix determines.

use lowrank::linalg::{product, transposed_product};
use nalgebra::DMatrix;

use super::{SubspaceError, check};

/// Singular values closer than this, relative to the larger one, form a cluster: a perturbation of that relative size turns their
/// directions into each other, so the cut between them is not a property of the matrix (Davis and Kahan 1970; Wedin 1972).
pub const CLUSTER: f64 = 1e-6;

/// How far `UᵀU` may be from the identity in directions that come from outside.
pub const ORTHONORMAL: f64 = 1e-8;

/// Orthonormal directions `U: [d, k]` in a fixed order.
///
/// `Uⁱ` is the first `i` columns. Signs of columns and rotations within `Uⁱ` do not change any measure here.
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    directions: DMatrix<f64>,
    /// Whether the cut after direction `i + 1` splits a cluster.
    ambiguous: Vec<bool>,
}

impl Basis {
    /// Takes directions `[d, k]` as they are; every cut counts as determined by whoever ordered them.
    pub fn orthonormal(directions: DMatrix<f64>) -> Result<Self, SubspaceError> {
        check("U", &directions)?;
        let size = directions.ncols();
        let deviation = (transposed_product(&directions, &directions) - DMatrix::identity(size, size)).amax();
        if deviation > ORTHONORMAL {
            return Err(SubspaceError::NotOrthonormal { deviation, limit: ORTHONORMAL });
        }
        Ok(Self { ambiguous: vec![false; size], directions })
    }

    /// Singular directions `[d, k]` with their values `[k]` and the value after the last, 0 if none follows.
    pub(crate) fn from_parts(directions: DMatrix<f64>, values: &[f64], next: f64) -> Self {
        let following = values.iter().skip(1).chain(std::iter::once(&next));
        let ambiguous = values.iter().zip(following).map(|(value, next)| value - next < CLUSTER * value).collect();
        Self { directions, ambiguous }
    }

    /// Dimension `d` of the space.
    pub fn dimension(&self) -> usize {
        self.directions.nrows()
    }

    /// Number `k` of directions.
    pub fn rank(&self) -> usize {
        self.directions.ncols()
    }

    /// `U`, `[d, k]`.
    pub fn directions(&self) -> &DMatrix<f64> {
        &self.directions
    }

    /// Whether `Uⁱ`, `i` in `1..=k`, is cut inside a cluster of singular values.
    pub fn is_ambiguous(&self, i: usize) -> bool {
        self.ambiguous[i - 1]
    }

    /// `Uⁱ`, the first `i` directions.
    pub fn first(&self, i: usize) -> Result<Self, SubspaceError> {
        if i == 0 || i > self.rank() {
            return Err(SubspaceError::TooManyDirections { asked: i, available: self.rank() });
        }
        Ok(Self { directions: self.directions.columns(0, i).into_owned(), ambiguous: self.ambiguous[..i].to_vec() })
    }

    /// `R·U` for orthogonal `rotation: [d, d]`.
    pub fn rotated(&self, rotation: &DMatrix<f64>) -> Result<Self, SubspaceError> {
        let rotated = Self::orthonormal(product(rotation, &self.directions))?;
        Ok(Self { ambiguous: self.ambiguous.clone(), ..rotated })
    }

    /// `U_AᵀU_B`, `[k_a, k_b]`, for directions of one space.
    pub(crate) fn cosines(&self, other: &Self) -> Result<DMatrix<f64>, SubspaceError> {
        if self.dimension() != other.dimension() {
            return Err(SubspaceError::Dimensions { first: self.dimension(), second: other.dimension() });
        }
        Ok(transposed_product(&self.directions, &other.directions))
    }
}
