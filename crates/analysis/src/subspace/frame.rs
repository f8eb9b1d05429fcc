//! An orthonormal basis that grows block by block, for the iteration in [`super::top`].

use lowrank::linalg::{Backend, MatRef, multiply, product, subtract_product, view};
use nalgebra::DMatrix;

use super::random::Gaussian;

/// Orthonormal columns `[d, n]`, `n` growing block by block.
pub(super) struct Frame {
    data: DMatrix<f64>,
    len: usize,
}

impl Frame {
    /// No columns yet, room for `capacity`.
    pub(super) fn new(dimension: usize, capacity: usize) -> Self {
        Self { data: DMatrix::zeros(dimension, capacity), len: 0 }
    }

    /// The number `n` of columns.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The columns there are, `[d, n]`.
    fn columns(&self) -> MatRef<'_, f64> {
        view(&self.data).get(.., ..self.len)
    }

    /// The last `count` columns, `[d, count]`.
    pub(super) fn last(&self, count: usize) -> DMatrix<f64> {
        self.data.columns(self.len - count, count).into_owned()
    }

    /// Combinations of the first columns, `[d, n']` times `coefficients: [n', k]`.
    pub(super) fn combine(&self, coefficients: &DMatrix<f64>) -> DMatrix<f64> {
        multiply(view(&self.data).get(.., ..coefficients.nrows()), view(coefficients))
    }

    /// Removes from `block: [d, k]` what lies in the span of the columns; returns its coefficients, `[n, k]`.
    pub(super) fn project_out(&self, block: &mut DMatrix<f64>) -> DMatrix<f64> {
        let mut coefficients = DMatrix::zeros(self.len, block.ncols());
        if self.len == 0 {
            return coefficients;
        }
        // Once leaves rounding errors of the size of what was removed; twice is enough (Giraud, Langou and Rozloznik 2005).
        for _ in 0..2 {
            let found = multiply(self.columns().transpose(), view(block)); // [n, k]
            subtract_product(block, self.columns(), &found);
            coefficients += found;
        }
        coefficients
    }

    /// Appends an orthonormal basis `Q` of `block: [d, k]`, which was projected out before; returns `R: [k, k]` of `block = Q R`.
    ///
    /// Directions below `rounding` are noise, and have a zero row in `R`: random ones orthogonal to all others take their place.
    pub(super) fn append(&mut self, block: &DMatrix<f64>, rounding: f64, gaussian: &mut Gaussian) -> DMatrix<f64> {
        let (mut q, mut r) = Backend::default().qr(block);
        let width = q.ncols();
        let pivots = || (0..width).map(|i| r[(i, i)].abs());
        let (smallest, largest) = (pivots().fold(f64::INFINITY, f64::min), pivots().fold(0.0, f64::max));
        // A column much shorter than the others keeps rounding errors along the older columns.
        if smallest <= 1e-4 * largest || smallest <= rounding {
            if let Ok(inner) = Backend::default().svd(&r) {
                q = product(&q, &inner.left); // the columns below `rounding` come last
                for (i, value) in inner.values.iter().enumerate() {
                    let kept = *value > rounding;
                    r.set_row(i, &(inner.right.column(i).transpose() * if kept { *value } else { 0.0 }));
                    if !kept {
                        q.set_column(i, &gaussian.matrix(q.nrows(), 1).column(0));
                    }
                }
            }
            self.project_out(&mut q);
            let (clean, change) = Backend::default().qr(&q);
            (q, r) = (clean, product(&change, &r));
        }
        self.data.columns_mut(self.len, width).copy_from(&q);
        self.len += width;
        r
    }
}

#[cfg(test)]
mod tests {
    use lowrank::linalg::transposed_product;

    use super::*;

    #[test]
    fn columns_stay_orthonormal_when_blocks_lose_rank() {
        let mut gaussian = Gaussian::new(1);
        let mut frame = Frame::new(40, 30);
        let full = gaussian.matrix(40, 10);
        let thin = product(&gaussian.matrix(40, 3), &gaussian.matrix(3, 10));
        for block in [full, thin, DMatrix::zeros(40, 10)] {
            let mut rest = block.clone();
            let above = frame.project_out(&mut rest);
            let before = frame.len;
            let r = frame.append(&rest, 1e-12, &mut gaussian);
            let mut coefficients = DMatrix::zeros(before + 10, 10);
            coefficients.rows_mut(0, before).copy_from(&above);
            coefficients.rows_mut(before, 10).copy_from(&r);
            assert!((frame.combine(&coefficients) - &block).amax() < 1e-12);
            let columns = frame.last(frame.len);
            let gram = transposed_product(&columns, &columns);
            assert!((gram - DMatrix::identity(frame.len, frame.len)).amax() < 1e-13);
        }
    }
}
