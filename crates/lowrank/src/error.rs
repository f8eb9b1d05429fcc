//! What keeps a matrix from being an update, or from having a decomposition.

use nalgebra::DMatrix;

/// Why there is no such update, or no decomposition of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UpdateError {
    /// A matrix without rows or columns.
    #[error("`{name}` is `[{rows}, {cols}]`, but a matrix needs at least one row and one column; leave the map out")]
    Empty {
        /// Which matrix.
        name: &'static str,
        /// Its rows.
        rows: usize,
        /// Its columns.
        cols: usize,
    },
    /// A matrix entry is NaN or infinite.
    #[error(
        "`{name}` holds `{value}` at row {row}, column {col}, but directions need finite numbers; leave failed runs out"
    )]
    NotFinite {
        /// Which matrix.
        name: &'static str,
        /// Row of the first such entry, from 0.
        row: usize,
        /// Its column, from 0.
        col: usize,
        /// The entry.
        value: f64,
    },
    /// The factors of a product do not fit.
    #[error(
        "`a` is `[{a_rows}, {a_cols}]` and `b` is `[{b_rows}, {b_cols}]`, but `a` must have as many columns as `b` has rows; take both factors from one map"
    )]
    Factors {
        /// Rows of `a`.
        a_rows: usize,
        /// Columns of `a`.
        a_cols: usize,
        /// Rows of `b`.
        b_rows: usize,
        /// Columns of `b`.
        b_cols: usize,
    },
    /// The SVD iteration did not end.
    #[error("the singular value decomposition of a `[{rows}, {cols}]` matrix did not converge; rescale its entries")]
    Svd {
        /// Rows of the matrix.
        rows: usize,
        /// Its columns.
        cols: usize,
    },
}

/// Refuses an empty matrix and entries that are not finite. `matrix` is `[rows, cols]`.
pub fn check(name: &'static str, matrix: &DMatrix<f64>) -> Result<(), UpdateError> {
    let (rows, cols) = matrix.shape();
    if rows == 0 || cols == 0 {
        return Err(UpdateError::Empty { name, rows, cols });
    }
    match matrix.as_slice().iter().position(|value| !value.is_finite()) {
        Some(at) => Err(UpdateError::NotFinite { name, row: at % rows, col: at / rows, value: matrix.as_slice()[at] }),
        None => Ok(()),
    }
}
