//! Singular directions of updates and maps, up to a numerical rank.
//!
//! An update in factors is decomposed without forming `ΔW` ([`lowrank`]).

use lowrank::linalg::{Backend, product, product_transposed, transposed_product};
use lowrank::{LowRank, Update};
use nalgebra::DMatrix;

use super::basis::Basis;
use super::{Side, SubspaceError, check};

/// A singular value decomposition up to a numerical rank `k`: `W = input·diag(values)·outputᵀ`, with `input: [d_in, k]`,
/// `values: [k]` descending and positive, `output: [d_out, k]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Svd {
    input: DMatrix<f64>,
    values: Vec<f64>,
    output: DMatrix<f64>,
    next: f64,
}

/// What has singular directions.
pub trait SingularDirections {
    /// The SVD up to the numerical rank.
    fn svd(&self) -> Result<Svd, SubspaceError>;
}

impl SingularDirections for LowRank {
    fn svd(&self) -> Result<Svd, SubspaceError> {
        svd_with(self, Backend::default())
    }
}

impl SingularDirections for Update {
    fn svd(&self) -> Result<Svd, SubspaceError> {
        match self {
            Self::LowRank(product) => product.svd(),
            Self::Dense(matrix) => decompose("ΔW", matrix, Backend::default()),
        }
    }
}

/// The SVD of a product of factors by a named library.
pub fn svd_with(update: &LowRank, backend: Backend) -> Result<Svd, SubspaceError> {
    let (d_in, d_out) = update.shape();
    let decomposed = update.decompose_with(backend)?;
    // Terms that cancel leave rounding errors of the size of the factors, not of their product.
    let size = update.down().norm() * update.up().norm();
    let threshold = threshold(d_in, d_out, size);
    let rank = decomposed.values().iter().take_while(|value| **value > threshold).count();
    if rank == 0 {
        return Err(SubspaceError::RankZero { name: "ΔW" });
    }
    let first = decomposed.first(rank);
    Ok(Svd { input: first.left, values: first.values, output: first.right, next: 0.0 })
}

/// Singular directions of one factor: of `down` (the paper's `A`) in the input space, `[d_in, k]`, or of `up` (its `B`) in the output
/// space, `[d_out, k]`.
pub fn factor_basis(update: &LowRank, side: Side) -> Result<Basis, SubspaceError> {
    let (name, factor) = match side {
        Side::Input => ("a", update.down()),
        Side::Output => ("b", update.up()),
    };
    Ok(decompose(name, factor, Backend::default())?.basis(side))
}

/// `‖Qᵀ ΔW‖_F²` for orthonormal `directions: [d_in, k]`, or `‖ΔW Q‖_F²` for `[d_out, k]`.
pub(crate) fn captured(update: &Update, directions: &DMatrix<f64>, side: Side) -> f64 {
    match (update, side) {
        (Update::Dense(matrix), Side::Input) => transposed_product(directions, matrix).norm_squared(),
        (Update::Dense(matrix), Side::Output) => product(matrix, directions).norm_squared(),
        (Update::LowRank(low), Side::Input) => {
            let r_up = Backend::default().qr(&low.up().transpose()).1; // [q, r]
            let inner = transposed_product(directions, low.down()); // [k, r]
            product_transposed(&inner, &r_up).norm_squared()
        }
        (Update::LowRank(low), Side::Output) => {
            let r_down = Backend::default().qr(low.down()).1; // [p, r]
            product(&r_down, &product(low.up(), directions)).norm_squared()
        }
    }
}

impl Svd {
    /// The full SVD of a dense map `W`, `[d_in, d_out]`, up to its numerical rank.
    pub fn full(matrix: &DMatrix<f64>) -> Result<Self, SubspaceError> {
        Self::full_with(matrix, Backend::default())
    }

    /// [`Svd::full`] by a named library.
    pub fn full_with(matrix: &DMatrix<f64>, backend: Backend) -> Result<Self, SubspaceError> {
        decompose("W", matrix, backend)
    }

    /// From parts that are sorted, positive and orthonormal; `next` is the singular value after the last, 0 if none follows.
    pub(crate) fn from_parts(input: DMatrix<f64>, values: Vec<f64>, output: DMatrix<f64>, next: f64) -> Self {
        Self { input, values, output, next }
    }

    /// The number `k` of triplets.
    pub fn rank(&self) -> usize {
        self.values.len()
    }

    /// Singular values, `[k]`, descending.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Directions of one side: `[d_in, k]` or `[d_out, k]`.
    pub fn directions(&self, side: Side) -> &DMatrix<f64> {
        match side {
            Side::Input => &self.input,
            Side::Output => &self.output,
        }
    }

    /// Directions of one side with their singular values.
    pub fn basis(&self, side: Side) -> Basis {
        Basis::from_parts(self.directions(side).clone(), &self.values, self.next)
    }

    /// The leading `count` triplets.
    pub fn first(&self, count: usize) -> Result<Self, SubspaceError> {
        if count == 0 || count > self.rank() {
            return Err(SubspaceError::TooManyDirections { asked: count, available: self.rank() });
        }
        Ok(Self {
            input: self.input.columns(0, count).into_owned(),
            values: self.values[..count].to_vec(),
            output: self.output.columns(0, count).into_owned(),
            next: self.values.get(count).copied().unwrap_or(self.next),
        })
    }

    /// `(Σ σ_i²)^½`: the Frobenius norm where the decomposition is complete.
    pub fn norm(&self) -> f64 {
        self.values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }
}

/// Singular values up to this are rounding errors of a `[d_in, d_out]` matrix whose entries' scale is `size`: numpy's `matrix_rank`
/// uses the same with `size = σ_1`.
pub(crate) fn threshold(d_in: usize, d_out: usize, size: f64) -> f64 {
    d_in.max(d_out) as f64 * f64::EPSILON * size
}

/// The SVD of a dense matrix, `[rows, cols]`, up to its numerical rank.
pub(crate) fn decompose(name: &'static str, matrix: &DMatrix<f64>, backend: Backend) -> Result<Svd, SubspaceError> {
    check(name, matrix)?;
    let thin = backend.svd(matrix)?;
    let threshold = threshold(matrix.nrows(), matrix.ncols(), thin.values[0]);
    let rank = thin.values.iter().take_while(|value| **value > threshold).count();
    if rank == 0 {
        return Err(SubspaceError::RankZero { name });
    }
    Ok(Svd {
        input: thin.left.columns(0, rank).into_owned(),
        values: thin.values[..rank].to_vec(),
        output: thin.right.columns(0, rank).into_owned(),
        next: 0.0,
    })
}
