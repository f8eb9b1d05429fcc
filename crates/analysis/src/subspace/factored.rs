//! Updates of a map, and their singular value decomposition without a dense `ΔW`.
//!
//! For `ΔW = s·a·b`, QR of the factors, `a = Q_a R_a` and `bᵀ = Q_b R_b`, leaves a core `s·R_a R_bᵀ` of at most `[r, r]`; with its SVD
//! `X Σ Yᵀ`, `ΔW = (Q_a X) Σ (Q_b Y)ᵀ`. The cost is `O((d_in + d_out) r² + r³)` instead of `O(d_in d_out min(d_in, d_out))`.

use nalgebra::DMatrix;

use super::basis::Basis;
use super::kernel::{Backend, product, product_transposed, transposed_product};
use super::{Side, SubspaceError, check, same_shape};

/// `ΔW = scale·a·b`, `[d_in, d_out]`, with `a: [d_in, r]` and `b: [r, d_out]`, all finite.
///
/// The paper's `A` is `aᵀ` and its `B` is `bᵀ`. `r` may exceed `d_in` or `d_out`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    a: DMatrix<f64>,
    b: DMatrix<f64>,
    scale: f64,
}

/// The change `ΔW = W' - W0` of one map, `[d_in, d_out]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A product of factors, never formed.
    Factored(LowRank),
    /// A full matrix, where the change is not low-rank (full fine-tuning, a trained magnitude).
    Dense(DMatrix<f64>),
}

/// A singular value decomposition up to a numerical rank `k`: `W = input·diag(values)·outputᵀ`, with `input: [d_in, k]`,
/// `values: [k]` descending and positive, `output: [d_out, k]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Svd {
    input: DMatrix<f64>,
    values: Vec<f64>,
    output: DMatrix<f64>,
    next: f64,
}

impl LowRank {
    /// Checks the factors: `a: [d_in, r]`, `b: [r, d_out]`.
    pub fn new(a: DMatrix<f64>, b: DMatrix<f64>, scale: f64) -> Result<Self, SubspaceError> {
        check("a", &a)?;
        check("b", &b)?;
        if a.ncols() != b.nrows() {
            let ((a_rows, a_cols), (b_rows, b_cols)) = (a.shape(), b.shape());
            return Err(SubspaceError::Factors { a_rows, a_cols, b_rows, b_cols });
        }
        if !scale.is_finite() {
            return Err(SubspaceError::Scale { value: scale });
        }
        Ok(Self { a, b, scale })
    }

    /// The input factor, `[d_in, r]`.
    pub fn a(&self) -> &DMatrix<f64> {
        &self.a
    }

    /// The output factor, `[r, d_out]`.
    pub fn b(&self) -> &DMatrix<f64> {
        &self.b
    }

    /// The factor `s`.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// `(d_in, d_out)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.a.nrows(), self.b.ncols())
    }

    /// Singular directions of one factor: of `a` in the input space, `[d_in, k]`, or of `b` in the output space, `[d_out, k]`.
    pub fn factor_basis(&self, side: Side) -> Result<Basis, SubspaceError> {
        match side {
            Side::Input => {
                let svd = decompose("a", &self.a, Backend::default())?;
                Ok(svd.basis(Side::Input))
            }
            Side::Output => {
                let svd = decompose("b", &self.b, Backend::default())?;
                Ok(svd.basis(Side::Output))
            }
        }
    }

    /// The SVD of `ΔW` up to its numerical rank.
    pub fn svd(&self) -> Result<Svd, SubspaceError> {
        self.svd_with(Backend::default())
    }

    /// [`LowRank::svd`] by a named library.
    pub fn svd_with(&self, backend: Backend) -> Result<Svd, SubspaceError> {
        let (d_in, d_out) = self.shape();
        let (q_a, r_a) = backend.qr(&self.a); // [d_in, p], [p, r]
        let (q_b, r_b) = backend.qr(&self.b.transpose()); // [d_out, q], [q, r]
        let core = product_transposed(&r_a, &r_b) * self.scale; // [p, q]
        let inner = backend.svd(&core)?;
        // Terms that cancel leave rounding errors of the size of the factors, not of their product.
        let size = self.scale.abs() * self.a.norm() * self.b.norm();
        let threshold = threshold(d_in, d_out, size);
        let rank = inner.values.iter().take_while(|value| **value > threshold).count();
        if rank == 0 {
            return Err(SubspaceError::RankZero { name: "ΔW" });
        }
        Ok(Svd {
            input: product(&q_a, &inner.left.columns(0, rank).into_owned()), // [d_in, k]
            values: inner.values[..rank].to_vec(),
            output: product(&q_b, &inner.right.columns(0, rank).into_owned()), // [d_out, k]
            next: 0.0,
        })
    }

    /// `‖ΔW‖_F`, 0 for an untrained update.
    pub fn norm(&self) -> f64 {
        let r_a = Backend::default().qr(&self.a).1;
        let r_b = Backend::default().qr(&self.b.transpose()).1;
        self.scale.abs() * product_transposed(&r_a, &r_b).norm()
    }

    /// `self - other` as one product of concatenated factors, `[d_in, r + r']` and `[r + r', d_out]`.
    pub fn minus(&self, other: &Self) -> Result<Self, SubspaceError> {
        same_shape(("ΔW", self.shape()), ("the other ΔW", other.shape()))?;
        let (rank, other_rank) = (self.a.ncols(), other.a.ncols());
        let (d_in, d_out) = self.shape();
        let mut a = DMatrix::zeros(d_in, rank + other_rank);
        a.columns_mut(0, rank).copy_from(&self.a);
        a.columns_mut(rank, other_rank).copy_from(&other.a);
        let mut b = DMatrix::zeros(rank + other_rank, d_out);
        b.rows_mut(0, rank).copy_from(&(&self.b * self.scale));
        b.rows_mut(rank, other_rank).copy_from(&(&other.b * -other.scale));
        Self::new(a, b, 1.0)
    }

    /// `ΔW`, `[d_in, d_out]`.
    pub fn dense(&self) -> DMatrix<f64> {
        product(&self.a, &self.b) * self.scale
    }
}

impl Update {
    /// `W' - W0`, both `[d_in, d_out]`.
    pub fn between(base: &DMatrix<f64>, tuned: &DMatrix<f64>) -> Result<Self, SubspaceError> {
        check("W0", base)?;
        check("W'", tuned)?;
        same_shape(("W'", tuned.shape()), ("W0", base.shape()))?;
        Ok(Self::Dense(tuned - base))
    }

    /// `(d_in, d_out)`.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Factored(product) => product.shape(),
            Self::Dense(matrix) => matrix.shape(),
        }
    }

    /// The SVD of `ΔW` up to its numerical rank.
    pub fn svd(&self) -> Result<Svd, SubspaceError> {
        match self {
            Self::Factored(product) => product.svd(),
            Self::Dense(matrix) => decompose("ΔW", matrix, Backend::default()),
        }
    }

    /// `‖ΔW‖_F`, 0 for an untrained update.
    pub fn norm(&self) -> f64 {
        match self {
            Self::Factored(product) => product.norm(),
            Self::Dense(matrix) => matrix.norm(),
        }
    }

    /// `‖ΔW - ΔW'‖_F`.
    pub fn distance(&self, other: &Self) -> Result<f64, SubspaceError> {
        same_shape(("ΔW", self.shape()), ("the other ΔW", other.shape()))?;
        match (self, other) {
            (Self::Factored(one), Self::Factored(two)) => Ok(one.minus(two)?.norm()),
            _ => Ok((self.dense() - other.dense()).norm()),
        }
    }

    /// `ΔW`, `[d_in, d_out]`.
    pub fn dense(&self) -> DMatrix<f64> {
        match self {
            Self::Factored(product) => product.dense(),
            Self::Dense(matrix) => matrix.clone(),
        }
    }

    /// `‖Qᵀ ΔW‖_F²` for orthonormal `directions: [d_in, k]`, or `‖ΔW Q‖_F²` for `[d_out, k]`.
    pub(crate) fn captured(&self, directions: &DMatrix<f64>, side: Side) -> f64 {
        match (self, side) {
            (Self::Dense(matrix), Side::Input) => transposed_product(directions, matrix).norm_squared(),
            (Self::Dense(matrix), Side::Output) => product(matrix, directions).norm_squared(),
            (Self::Factored(low), Side::Input) => {
                let r_b = Backend::default().qr(&low.b.transpose()).1; // [q, r]
                let inner = transposed_product(directions, &low.a); // [k, r]
                (product_transposed(&inner, &r_b) * low.scale).norm_squared()
            }
            (Self::Factored(low), Side::Output) => {
                let r_a = Backend::default().qr(&low.a).1; // [p, r]
                (product(&r_a, &product(&low.b, directions)) * low.scale).norm_squared()
            }
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

    /// The singular value that follows the last one, 0 where none does.
    pub fn next(&self) -> f64 {
        self.next
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
