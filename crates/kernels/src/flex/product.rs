//! Products of small matrices whose lines are whole vectors, and the product that is added to a tensor.

use burn::backend::{Flex, ops::FloatTensorOps};
use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::{
    real::Real,
    storage::{dense, values, whole},
    tasks::{lines_per_task, run_all},
};

/// Lines of a product that are worked on together, each with [`COLUMNS`] vectors: enough sums under way to hide the latency of an addition.
const ROWS: usize = 4;
const COLUMNS: usize = 2;

/// The left factor of a product, `[rows, k]`.
#[derive(Clone, Copy)]
pub(super) enum Left<'a, T> {
    /// Row after row, so many values apart.
    Rows(&'a [T], usize),
    /// Column after column, so many values apart.
    Columns(&'a [T], usize),
}

/// `sums + left·right` for `R` rows from `row` on, and `C` vectors from `column` on.
#[inline(always)]
fn block<S: Simd, T: Real, const R: usize, const C: usize>(
    simd: S,
    k: usize,
    left: Left<'_, T>,
    row: usize,
    right: &[T::Lanes<S>],
    stride: usize,
    column: usize,
    mut sums: [[T::Lanes<S>; C]; R],
) -> [[T::Lanes<S>; C]; R] {
    // Loops, not closures: what is not inlined would be compiled without the vectors.
    macro_rules! step {
        ($line:expr, $r:ident => $value:expr) => {{
            let line = &right[$line * stride + column..][..C];
            for $r in 0..R {
                let value = T::splat(simd, $value);
                for c in 0..C {
                    sums[$r][c] = T::fused(simd, value, line[c], sums[$r][c]);
                }
            }
        }};
    }
    match left {
        Left::Rows(left, stride) => {
            let mut rows = [left; R];
            for r in 0..R {
                rows[r] = &left[(row + r) * stride..][..k];
            }
            for line in 0..k {
                step!(line, r => rows[r][line]);
            }
        }
        Left::Columns(left, stride) => {
            for line in 0..k {
                let values = &left[line * stride + row..][..R];
                step!(line, r => values[r]);
            }
        }
    }
    sums
}

/// Calls `at` with a block's rows and columns until `rows` rows of `columns` vectors are done.
macro_rules! tiles {
    ($rows:expr, $columns:expr, $at:ident) => {{
        let mut row = 0;
        while row + ROWS <= $rows {
            let mut column = 0;
            while column + COLUMNS <= $columns {
                $at!(ROWS, COLUMNS, row, column);
                column += COLUMNS;
            }
            if column < $columns {
                $at!(ROWS, 1, row, column);
            }
            row += ROWS;
        }
        while row < $rows {
            let mut column = 0;
            while column + COLUMNS <= $columns {
                $at!(1, COLUMNS, row, column);
                column += COLUMNS;
            }
            if column < $columns {
                $at!(1, 1, row, column);
            }
            row += 1;
        }
    }};
}

/// `out ← left·right`; `left` `[rows, k]`, `right` `[k, stride]` and `out` `[rows, stride]` with lines of whole vectors.
#[inline(always)]
pub(super) fn multiply<S: Simd, T: Real>(
    simd: S,
    out: &mut [T],
    left: Left<'_, T>,
    right: &[T],
    stride: usize,
    k: usize,
) {
    let rows = out.len() / stride;
    let (right, out) = (T::lanes::<S>(right).0, T::lanes_mut::<S>(out).0);
    let columns = out.len() / rows;
    let zero = T::splat(simd, T::ZERO);
    macro_rules! at {
        ($R:expr, $C:expr, $row:expr, $column:expr) => {{
            let sums = block::<S, T, { $R }, { $C }>(simd, k, left, $row, right, columns, $column, [[zero; $C]; $R]);
            for (r, sums) in sums.iter().enumerate() {
                out[($row + r) * columns + $column..][..$C].copy_from_slice(sums);
            }
        }};
    }
    tiles!(rows, columns, at);
}

/// Above this inner dimension the right factor no longer stays in the nearest cache, and Burn's product in blocks is faster.
const THIN: usize = 256;

/// Some lines of `c + x·y`, in place.
struct Added<'a, T> {
    c: &'a mut [T],
    x: &'a [T],
    y: &'a [T],
    k: usize,
    m: usize,
}

impl<T: Real> WithSimd for Added<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { c, x, y, k, m } = self;
        let rows = c.len() / m;
        let left = Left::Rows(x, k);
        if T::lanes::<S>(&y[..m]).1.is_empty() {
            let (c, y) = (T::lanes_mut::<S>(c).0, T::lanes::<S>(y).0);
            let columns = c.len() / rows;
            macro_rules! at {
                ($R:expr, $C:expr, $row:expr, $column:expr) => {{
                    let mut sums = [[c[0]; $C]; $R];
                    for r in 0..$R {
                        sums[r].copy_from_slice(&c[($row + r) * columns + $column..][..$C]);
                    }
                    let sums = block::<S, T, { $R }, { $C }>(simd, k, left, $row, y, columns, $column, sums);
                    for (r, sums) in sums.iter().enumerate() {
                        c[($row + r) * columns + $column..][..$C].copy_from_slice(sums);
                    }
                }};
            }
            tiles!(rows, columns, at);
        } else {
            for (c, x) in c.chunks_exact_mut(m).zip(x.chunks_exact(k)) {
                for (y, x) in y.chunks_exact(m).zip(x) {
                    for (c, y) in c.iter_mut().zip(y) {
                        *c = y.mul_add(*x, *c);
                    }
                }
            }
        }
    }
}

/// See [`Kernels::add_product`](crate::kernel::Kernels::add_product), in the width of `T`.
pub(super) fn add_product<T: Real>(c: FlexTensor, x: FlexTensor, y: FlexTensor) -> FlexTensor {
    let [runs, n, m] = c.layout().shape().dims();
    let k = x.layout().shape()[2];
    if k > THIN || k == 0 || runs * n * m == 0 {
        return Flex::float_add(c, Flex::float_matmul(x, y));
    }
    let (mut c, x, y) = (whole::<T>(c), dense::<T>(x), dense::<T>(y));
    let (x, y) = (values::<T>(&x), values::<T>(&y));
    let lines = lines_per_task(runs * n, m * (2 + k / 8)).min(n);
    let of_run = x.chunks_exact(n * k).zip(y.chunks_exact(k * m));
    let mut parts = vec![];
    for (c, (x, y)) in c.storage_mut::<T>().chunks_exact_mut(n * m).zip(of_run) {
        let chunks = c.chunks_mut(lines * m).zip(x.chunks(lines * k));
        parts.extend(chunks.map(|(c, x)| Added { c, x, y, k, m }));
    }
    run_all(parts);
    c
}
