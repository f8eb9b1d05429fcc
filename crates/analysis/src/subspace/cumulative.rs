//! Two-dimensional cumulative sums of squares: `‖U_AⁱᵀU_Bʲ‖_F²` for every pair of cuts `(i, j)` in one pass.

use nalgebra::DMatrix;

/// `Σ_{p ≤ i, q ≤ j} M[p, q]² / min(i, j)`, `[k_a, k_b]`. Rounding beyond 1 is cut off.
pub(crate) fn normalised_sums(cosines: &DMatrix<f64>) -> DMatrix<f64> {
    let mut sums = cumulative_squares(cosines);
    for j in 0..sums.ncols() {
        for i in 0..sums.nrows() {
            sums[(i, j)] = (sums[(i, j)] / (i.min(j) + 1) as f64).min(1.0);
        }
    }
    sums
}

/// `Σ_{p ≤ i, q ≤ j} M[p, q]²`, `[rows, cols]`.
pub(crate) fn cumulative_squares(matrix: &DMatrix<f64>) -> DMatrix<f64> {
    let mut sums = matrix.map(|value| value * value);
    for j in 0..sums.ncols() {
        let mut column = 0.0;
        for i in 0..sums.nrows() {
            column += sums[(i, j)];
            sums[(i, j)] = column + if j == 0 { 0.0 } else { sums[(i, j - 1)] };
        }
    }
    sums
}
