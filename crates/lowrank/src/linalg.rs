//! Dense products and decompositions of nalgebra's matrices, and the libraries that compute them.
//!
//! Everything runs on the calling thread, so a result does not depend on the number of cores.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::householder;
use faer::linalg::matmul::matmul;
use faer::linalg::qr::no_pivoting::factor;
use faer::linalg::svd as faer_svd;
use faer::{Accum, Conj, Mat, MatMut, Par};
use nalgebra::DMatrix;

use crate::error::UpdateError;

/// A view of a matrix, `[rows, cols]`, or of a part of it.
pub use faer::MatRef;

/// The library that decomposes. `bench/subspace.md` compares them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// Pure Rust, blocked and vectorised.
    #[default]
    Faer,
    /// Pure Rust, unblocked: the oracle of the tests.
    Nalgebra,
    /// LAPACK's `dgesdd` and `dgeqrf` in the system's OpenBLAS.
    #[cfg(feature = "lapack")]
    Lapack,
}

/// A thin singular value decomposition `M = left·diag(values)·rightᵀ`, values descending: `left: [rows, k]`, `values: [k]`, `right: [cols, k]` with
/// `k = min(rows, cols)`.
#[derive(Clone, Debug, PartialEq)]
pub struct ThinSvd {
    /// `[rows, k]`
    pub left: DMatrix<f64>,
    /// `[k]`
    pub values: Vec<f64>,
    /// `[cols, k]`
    pub right: DMatrix<f64>,
}

impl Backend {
    /// Every backend of this build.
    pub const ALL: &[Self] = &[
        Self::Faer,
        Self::Nalgebra,
        #[cfg(feature = "lapack")]
        Self::Lapack,
    ];

    /// The thin SVD of a finite matrix `[rows, cols]`.
    pub fn svd(self, matrix: &DMatrix<f64>) -> Result<ThinSvd, UpdateError> {
        let (rows, cols) = matrix.shape();
        let thin = match self {
            Self::Faer => svd_faer(matrix),
            Self::Nalgebra => svd_nalgebra(matrix),
            #[cfg(feature = "lapack")]
            Self::Lapack => lapack::svd(matrix),
        };
        // An iteration that broke down may also end in NaN.
        thin.filter(|thin| thin.values.iter().all(|value| value.is_finite())).ok_or(UpdateError::Svd { rows, cols })
    }

    /// `M = Q·R`, thin: `q: [rows, k]`, `r: [k, cols]` with `k = min(rows, cols)`.
    pub fn qr(self, matrix: &DMatrix<f64>) -> (DMatrix<f64>, DMatrix<f64>) {
        match self {
            Self::Faer => qr_faer(matrix),
            Self::Nalgebra => {
                let qr = matrix.clone().qr();
                (qr.q(), qr.r())
            }
            #[cfg(feature = "lapack")]
            Self::Lapack => lapack::qr(matrix),
        }
    }
}

/// `first·second`: `[m, k]`, `[k, n]` to `[m, n]`.
pub fn product(first: &DMatrix<f64>, second: &DMatrix<f64>) -> DMatrix<f64> {
    multiply(view(first), view(second))
}

/// `firstᵀ·second`: `[k, m]`, `[k, n]` to `[m, n]`.
pub fn transposed_product(first: &DMatrix<f64>, second: &DMatrix<f64>) -> DMatrix<f64> {
    multiply(view(first).transpose(), view(second))
}

/// `first·secondᵀ`: `[m, k]`, `[n, k]` to `[m, n]`.
pub fn product_transposed(first: &DMatrix<f64>, second: &DMatrix<f64>) -> DMatrix<f64> {
    multiply(view(first), view(second).transpose())
}

/// The pseudo-inverse of `matrix: [m, n]`, `[n, m]`: singular values up to `cut` count as zero.
pub fn pseudo_inverse(matrix: &DMatrix<f64>, cut: f64) -> Result<DMatrix<f64>, UpdateError> {
    let ThinSvd { left, values, right } = Backend::default().svd(matrix)?;
    let inverse = |value: f64| if value > cut { value.recip() } else { 0.0 };
    let scaled = DMatrix::from_fn(right.nrows(), values.len(), |row, at| right[(row, at)] * inverse(values[at]));
    Ok(product_transposed(&scaled, &left))
}

/// All of a matrix.
pub fn view(matrix: &DMatrix<f64>) -> MatRef<'_, f64> {
    MatRef::from_column_major_slice(matrix.as_slice(), matrix.nrows(), matrix.ncols())
}

fn view_mut(matrix: &mut DMatrix<f64>) -> MatMut<'_, f64> {
    let (rows, cols) = matrix.shape();
    MatMut::from_column_major_slice_mut(matrix.as_mut_slice(), rows, cols)
}

/// `first·second` of views: `[m, k]`, `[k, n]` to `[m, n]`.
pub fn multiply(first: MatRef<'_, f64>, second: MatRef<'_, f64>) -> DMatrix<f64> {
    let mut out = DMatrix::zeros(first.nrows(), second.ncols());
    matmul(view_mut(&mut out), Accum::Replace, first, second, 1.0, Par::Seq);
    out
}

/// `target -= first·second`, `[m, n]`, `[m, k]`, `[k, n]`.
pub fn subtract_product(target: &mut DMatrix<f64>, first: MatRef<'_, f64>, second: &DMatrix<f64>) {
    matmul(view_mut(target), Accum::Add, first, view(second), -1.0, Par::Seq);
}

fn svd_faer(matrix: &DMatrix<f64>) -> Option<ThinSvd> {
    let (rows, cols) = matrix.shape();
    let size = rows.min(cols);
    let (mut left, mut right) = (DMatrix::zeros(rows, size), DMatrix::zeros(cols, size));
    let mut values = Diag::<f64>::zeros(size);
    let vectors = faer_svd::ComputeSvdVectors::Thin;
    let scratch = faer_svd::svd_scratch::<f64>(rows, cols, vectors, vectors, Par::Seq, faer::prelude::default());
    faer_svd::svd(
        view(matrix),
        values.as_mut(),
        Some(view_mut(&mut left)),
        Some(view_mut(&mut right)),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        faer::prelude::default(),
    )
    .ok()?;
    let values = values.column_vector().iter().copied().collect();
    Some(ThinSvd { left, values, right })
}

fn svd_nalgebra(matrix: &DMatrix<f64>) -> Option<ThinSvd> {
    let svd = matrix.clone().try_svd(true, true, f64::EPSILON, 0)?;
    Some(ThinSvd {
        left: svd.u?,
        values: svd.singular_values.iter().copied().collect(),
        right: svd.v_t?.transpose(), // [cols, k]
    })
}

fn qr_faer(matrix: &DMatrix<f64>) -> (DMatrix<f64>, DMatrix<f64>) {
    let (rows, cols) = matrix.shape();
    let size = rows.min(cols);
    let block = factor::recommended_block_size::<f64>(rows, cols);
    let mut packed = matrix.clone();
    let mut coefficients = Mat::<f64>::zeros(block, size);
    let scratch = factor::qr_in_place_scratch::<f64>(rows, cols, block, Par::Seq, faer::prelude::default());
    factor::qr_in_place(
        view_mut(&mut packed),
        coefficients.as_mut(),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        faer::prelude::default(),
    );
    let r = DMatrix::from_fn(size, cols, |row, col| if row <= col { packed[(row, col)] } else { 0.0 });
    let mut q = DMatrix::identity(rows, size);
    let scratch = householder::apply_block_householder_sequence_on_the_left_in_place_scratch::<f64>(rows, block, size);
    householder::apply_block_householder_sequence_on_the_left_in_place_with_conj(
        view(&packed).get(.., ..size),
        coefficients.as_ref(),
        Conj::No,
        view_mut(&mut q),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
    );
    (q, r)
}

#[cfg(feature = "lapack")]
mod lapack {
    use nalgebra::DMatrix;
    use ndarray::{Array2, ArrayView2, ShapeBuilder};
    use ndarray_linalg::{JobSvd, QR, SVDDC};

    use super::ThinSvd;

    pub(super) fn svd(matrix: &DMatrix<f64>) -> Option<ThinSvd> {
        let (left, values, right) = array(matrix)?.svddc(JobSvd::Some).ok()?;
        Some(ThinSvd { left: back(&left?), values: values.to_vec(), right: back(&right?).transpose() })
    }

    pub(super) fn qr(matrix: &DMatrix<f64>) -> (DMatrix<f64>, DMatrix<f64>) {
        match array(matrix).map(|matrix| matrix.qr()) {
            Some(Ok((q, r))) => (back(&q), back(&r)),
            _ => unreachable!("a Householder QR of a matrix with rows and columns has no way to fail"),
        }
    }

    fn array(matrix: &DMatrix<f64>) -> Option<Array2<f64>> {
        let view = ArrayView2::from_shape(matrix.shape().f(), matrix.as_slice()).ok()?;
        Some(view.to_owned())
    }

    fn back(matrix: &Array2<f64>) -> DMatrix<f64> {
        DMatrix::from_fn(matrix.nrows(), matrix.ncols(), |row, col| matrix[(row, col)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, cols: usize) -> DMatrix<f64> {
        DMatrix::from_fn(rows, cols, |row, col| ((row * 31 + col * 17) as f64).sin() + (row as f64 - col as f64).cos())
    }

    #[test]
    fn decompositions_reconstruct_and_agree() {
        for (rows, cols) in [(1, 1), (1, 7), (7, 1), (5, 5), (40, 9), (9, 40), (70, 64)] {
            let matrix = matrix(rows, cols);
            let oracle = Backend::Nalgebra.svd(&matrix).unwrap();
            for backend in Backend::ALL {
                let svd = backend.svd(&matrix).unwrap();
                let scaled = DMatrix::from_fn(rows, svd.values.len(), |r, c| svd.left[(r, c)] * svd.values[c]);
                let error = (product_transposed(&scaled, &svd.right) - &matrix).amax();
                assert!(error < 1e-12, "{backend:?} [{rows}, {cols}]: {error}");
                for (one, other) in svd.values.iter().zip(&oracle.values) {
                    assert!((one - other).abs() < 1e-12 * oracle.values[0], "{backend:?}: {one} is not {other}");
                }
                let (q, r) = backend.qr(&matrix);
                assert!((product(&q, &r) - &matrix).amax() < 1e-12, "{backend:?} [{rows}, {cols}]");
                let gram = transposed_product(&q, &q);
                assert!((gram - DMatrix::identity(q.ncols(), q.ncols())).amax() < 1e-13, "{backend:?}");
            }
        }
    }

    #[test]
    fn a_product_is_taken_off_its_target() {
        let (target, first, second) = (matrix(6, 5), matrix(6, 3), matrix(3, 5));
        let mut left = target.clone();
        subtract_product(&mut left, view(&first), &second);
        assert!((left - (&target - &first * &second)).amax() < 1e-14);
    }

    #[test]
    fn a_singular_value_at_the_cut_counts_as_zero() {
        assert_eq!(pseudo_inverse(&DMatrix::zeros(4, 3), 0.0).unwrap(), DMatrix::zeros(3, 4));
        let two = DMatrix::from_diagonal_element(2, 2, 2.0);
        assert_eq!(pseudo_inverse(&two, 2.0).unwrap(), DMatrix::zeros(2, 2));
        assert!((pseudo_inverse(&two, 1.0).unwrap() - &two / 4.0).amax() < 1e-15);
    }

    /// The four conditions of Penrose, for a matrix of full rank and one whose smallest singular value is cut.
    #[test]
    fn a_pseudo_inverse_is_penroses() {
        let cut = matrix(6, 2) * matrix(2, 5);
        for (matrix, rank) in [(matrix(5, 5), None), (matrix(7, 3), None), (cut, Some(2))] {
            let inverse = pseudo_inverse(&matrix, 1e-10).unwrap();
            assert_eq!(inverse.shape(), (matrix.ncols(), matrix.nrows()));
            let (onto, from) = (&matrix * &inverse, &inverse * &matrix);
            let size = matrix.amax() * inverse.amax() * 100.0;
            assert!((&onto * &matrix - &matrix).amax() < 1e-12 * size * matrix.amax());
            assert!((&from * &inverse - &inverse).amax() < 1e-12 * size * inverse.amax());
            assert!((onto.transpose() - &onto).amax() < 1e-12 * size);
            assert!((from.transpose() - &from).amax() < 1e-12 * size);
            if let Some(rank) = rank {
                assert!((onto.trace() - f64::from(rank)).abs() < 1e-10, "a projection's trace is its rank");
            }
        }
    }
}
