//! Products of matrices.
//!
//! Burn's own product on the CPU gives each call a zeroed result that it copies once for the sake of its alignment, and a linear map of
//! `[rows, seq, d]` becomes one product for each row wherever `seq` is a multiple of 32. Here the rows are one product, what is added is
//! there before the first term, and the right factor is rearranged once for all cores.

use std::borrow::Cow;

use burn::backend::{Flex, ops::FloatTensorOps};
use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::{
    real::Real,
    storage::{cast, dense, fresh, unshared, values},
    tasks::{lines_per_task, run_all, zeros},
};

/// The left factor of a product, `[rows, k]`.
#[derive(Clone, Copy)]
pub(super) enum Left<'a, T> {
    /// Row after row, so many values apart.
    Rows(&'a [T], usize),
    /// Column after column, so many values apart.
    Columns(&'a [T], usize),
}

impl<T> Left<'_, T> {
    /// Without the first `rows` rows and the first `k` columns.
    #[inline(always)]
    fn from(self, rows: usize, k: usize) -> Self {
        match self {
            Self::Rows(values, stride) => Self::Rows(&values[rows * stride + k..], stride),
            Self::Columns(values, stride) => Self::Columns(&values[k * stride + rows..], stride),
        }
    }
}

/// What a product is added to.
#[derive(Clone, Copy)]
enum Start<'a, T> {
    Zero,
    /// The same line for every row.
    Line(&'a [T]),
    /// What is there.
    Out,
}

/// The right factor or a part of it: lines of whole vectors, `[k, stride]`.
#[derive(Clone, Copy)]
struct Lines<'a, T> {
    values: &'a [T],
    stride: usize,
}

/// Lines that begin so many values apart, each with all that comes behind it.
#[inline(always)]
fn apart<T>(mut values: &[T], stride: usize) -> impl Iterator<Item = &[T]> {
    // Neither a product for each line, as an index would take, nor a division, as `chunks` does.
    std::iter::from_fn(move || {
        let line = values;
        values = values.get(stride..).unwrap_or_default();
        Some(line)
    })
}

/// `sums + left·right` for `R` rows from `row` on and `C` vectors from `column` on.
#[inline(always)]
fn tile<S: Simd, T: Real, const R: usize, const C: usize>(
    simd: S,
    k: usize,
    left: Left<'_, T>,
    row: usize,
    right: Lines<'_, T::Lanes<S>>,
    column: usize,
    mut sums: [[T::Lanes<S>; C]; R],
) -> [[T::Lanes<S>; C]; R] {
    // Loops, not closures: what is not inlined would be compiled without the vectors.
    macro_rules! step {
        ($line:expr, $r:ident => $value:expr) => {{
            let line = &$line[..C];
            for $r in 0..R {
                let value = T::splat(simd, $value);
                for c in 0..C {
                    sums[$r][c] = T::fused(simd, value, line[c], sums[$r][c]);
                }
            }
        }};
    }
    macro_rules! walk {
        ($of:ident, $line:ident in $lines:expr => $r:ident => $value:expr) => {
            for ($of, $line) in $lines {
                step!($line, $r => $value);
            }
        };
    }
    // Lines that follow one another are walked without a look at their bounds.
    let (together, _) = right.values.as_chunks::<C>();
    let spread = apart(&right.values[column..], right.stride);
    match left {
        Left::Rows(left, stride) => {
            let mut rows = [left; R];
            for r in 0..R {
                rows[r] = &left[(row + r) * stride..][..k];
            }
            if right.stride == C {
                walk!(at, line in (0..k).zip(together) => r => rows[r][at]);
            } else {
                walk!(at, line in (0..k).zip(spread) => r => rows[r][at]);
            }
        }
        Left::Columns(left, stride) => {
            let left = apart(&left[row..], stride).take(k);
            if right.stride == C {
                walk!(values, line in left.zip(together) => r => values[..R][r]);
            } else {
                walk!(values, line in left.zip(spread) => r => values[..R][r]);
            }
        }
    }
    sums
}

/// `C` vectors of a line that may end within one.
#[inline(always)]
fn load<S: Simd, T: Real, const C: usize>(simd: S, line: &[T]) -> [T::Lanes<S>; C] {
    let mut vectors = [T::splat(simd, T::ZERO); C];
    let (whole, rest) = T::lanes::<S>(line);
    if whole.len() == C {
        vectors.copy_from_slice(whole);
    } else {
        vectors[..whole.len()].copy_from_slice(whole);
        vectors[whole.len()] = T::load_part(simd, rest);
    }
    vectors
}

/// The way back from [`load`].
#[inline(always)]
fn store<S: Simd, T: Real, const C: usize>(simd: S, vectors: [T::Lanes<S>; C], line: &mut [T]) {
    let (whole, rest) = T::lanes_mut::<S>(line);
    if whole.len() == C {
        whole.copy_from_slice(&vectors);
    } else {
        whole.copy_from_slice(&vectors[..whole.len()]);
        T::store_part(simd, rest, vectors[whole.len()]);
    }
}

/// Some columns of a product: `out[.., first..first + columns] ← start + left·right`, `out` `[rows, n]`.
///
/// Tiles are as large as the registers hold, so that each loaded value is used several times.
#[inline(always)]
fn columns<S: Simd, T: Real>(
    simd: S,
    (out, n): (&mut [T], usize),
    (first, columns): (usize, usize),
    start: Start<'_, T>,
    left: Left<'_, T>,
    right: Lines<'_, T>,
    k: usize,
) {
    let rows = out.len() / n;
    let lanes = size_of::<T::Lanes<S>>() / size_of::<T>();
    let right = Lines { values: T::lanes::<S>(right.values).0, stride: right.stride / lanes };
    let vectors = columns.div_ceil(lanes);
    macro_rules! at {
        ($R:expr, $C:expr, $row:expr, $column:expr) => {{
            let from = first + $column * lanes;
            let len = ($C * lanes).min(n - from);
            let mut sums = [[T::splat(simd, T::ZERO); $C]; $R];
            match start {
                Start::Zero => {}
                Start::Line(line) => sums = [load(simd, &line[from..][..len]); $R],
                Start::Out => {
                    for r in 0..$R {
                        sums[r] = load(simd, &out[($row + r) * n + from..][..len]);
                    }
                }
            }
            let sums = tile::<S, T, { $R }, { $C }>(simd, k, left, $row, right, $column, sums);
            for r in 0..$R {
                store(simd, sums[r], &mut out[($row + r) * n + from..][..len]);
            }
        }};
    }
    macro_rules! down {
        ($column:expr, $C:expr, $($R:expr),+) => {{
            let mut row = 0;
            $(while rows - row >= $R {
                at!($R, $C, row, $column);
                row += $R;
            })+
        }};
    }
    let mut column = 0;
    if S::REGISTER_COUNT >= 32 {
        while column + 4 <= vectors {
            down!(column, 4, 6, 2, 1);
            column += 4;
        }
        while column + 2 <= vectors {
            down!(column, 2, 8, 4, 1);
            column += 2;
        }
    } else {
        while column + 2 <= vectors {
            down!(column, 2, 4, 1);
            column += 2;
        }
    }
    while column < vectors {
        down!(column, 1, 8, 1);
        column += 1;
    }
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
    columns(simd, (out, stride), (0, stride), Start::Zero, left, Lines { values: right, stride }, k);
}

/// Side of the squares in which a matrix is turned, and what lines of scratch memory are multiples of: whole vectors on every machine.
pub(super) const LINE: usize = 16;

/// `to[c·to_stride + r] ← from[r·stride + c]` for `rows` rows and `columns` columns.
#[inline(always)]
pub(super) fn transpose<T: Real>(
    (from, stride): (&[T], usize),
    (to, to_stride): (&mut [T], usize),
    rows: usize,
    columns: usize,
) {
    let (whole_rows, whole_columns) = (rows - rows % LINE, columns - columns % LINE);
    // Squares of a known size: a loop over strides alone becomes scattered writes, which are slow.
    for row in (0..whole_rows).step_by(LINE) {
        for column in (0..whole_columns).step_by(LINE) {
            let mut square = [[T::ZERO; LINE]; LINE];
            for (r, line) in square.iter_mut().enumerate() {
                line.copy_from_slice(&from[(row + r) * stride + column..][..LINE]);
            }
            for c in 0..LINE {
                let mut line = [T::ZERO; LINE];
                for r in 0..LINE {
                    line[r] = square[r][c];
                }
                to[(column + c) * to_stride + row..][..LINE].copy_from_slice(&line);
            }
        }
    }
    for row in 0..rows {
        for column in if row < whole_rows { whole_columns } else { 0 }..columns {
            to[column * to_stride + row] = from[row * stride + column];
        }
    }
}

/// Columns of the right factor that lie together.
const PANEL: usize = 64;
/// Up to so many lines of the right factor are worked on at a time: a panel of them stays in the nearer caches. Not fewer than it takes,
/// since each time reads and writes the result again.
const DEPTH: usize = 512;
/// Up to so many rows the right factor is not rearranged: that would cost about as much as the product.
const FEW: usize = 24;
/// Nor where it has so few values that it stays in the nearest cache as it is.
const SMALL: usize = 4096;

/// A matrix in memory, one of its axes without gaps.
#[derive(Clone, Copy)]
struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    /// From row to row, and from column to column.
    strides: [usize; 2],
}

impl<'a, T: Real> Matrix<'a, T> {
    /// The `run`-th matrix of a tensor that [`laid_out`] gave, or the only one.
    fn of(tensor: &'a FlexTensor, run: usize) -> Self {
        let layout = tensor.layout();
        let (shape, strides) = (layout.shape(), layout.strides());
        let [rows, columns] = [shape.len() - 2, shape.len() - 1];
        let start = layout.start_offset() + if rows == 0 { 0 } else { run * strides[0] as usize };
        Self {
            values: &tensor.storage()[start..],
            rows: shape[rows],
            columns: shape[columns],
            strides: [strides[rows] as usize, strides[columns] as usize],
        }
    }

    fn left(self) -> Left<'a, T> {
        match self.strides {
            [stride, 1] => Left::Rows(self.values, stride),
            [_, stride] => Left::Columns(self.values, stride),
        }
    }
}

/// A tensor whose last two axes a [`Matrix`] can describe, copied where they cannot.
fn laid_out<T: Real>(tensor: FlexTensor) -> FlexTensor {
    let tensor = cast(tensor, T::dtype());
    let strides = tensor.layout().strides();
    let [.., row, column] = *strides else { unreachable!("a factor has two axes") };
    let plain = strides.iter().all(|stride| *stride > 0) && (row == 1 || column == 1);
    if plain { tensor } else { tensor.to_contiguous() }
}

/// The rearrangement of some panels.
struct Pack<'a, T> {
    to: &'a mut [T],
    from: Matrix<'a, T>,
    /// The first panel's first column.
    first: usize,
}

impl<T: Real> WithSimd for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { to, from: Matrix { values, rows, columns, strides }, first } = self;
        for (to, first) in to.chunks_mut(rows * PANEL).zip((first..).step_by(PANEL)) {
            let (stride, columns) = (to.len() / rows, PANEL.min(columns - first));
            if strides[1] == 1 {
                for (row, to) in to.chunks_exact_mut(stride).enumerate() {
                    to[..columns].copy_from_slice(&values[row * strides[0] + first..][..columns]);
                }
            } else {
                transpose((&values[first * strides[1]..], strides[1]), (to, stride), columns, rows);
            }
        }
    }
}

/// The right factor, ready to be multiplied.
struct Right<'a, T: Real> {
    /// Panels, each `[k, stride]`: all of `panel` columns but the last, which has what is left in whole vectors.
    values: Cow<'a, [T]>,
    panel: usize,
}

impl<'a, T: Real> Right<'a, T> {
    /// What `rows` rows are multiplied with.
    fn new(right: Matrix<'a, T>, rows: usize) -> Self {
        let Matrix { values, rows: k, columns, strides } = right;
        let lines = strides == [columns, 1] && columns.is_multiple_of(LINE);
        if lines && (rows <= FEW || k * columns <= SMALL) {
            return Self { values: Cow::Borrowed(&values[..k * columns]), panel: columns };
        }
        let (full, rest) = (columns / PANEL, columns % PANEL);
        let mut packed = zeros::<T>(k * (full * PANEL + rest.next_multiple_of(LINE)));
        let panels = lines_per_task(full + 1, k * PANEL);
        run_all(
            packed
                .chunks_mut(panels * k * PANEL)
                .enumerate()
                .map(|(task, to)| Pack { to, from: right, first: task * panels * PANEL })
                .collect(),
        );
        Self { values: Cow::Owned(packed), panel: PANEL }
    }
}

/// Some rows of a product.
struct Rows<'a, T: Real> {
    out: &'a mut [T],
    start: Start<'a, T>,
    left: Left<'a, T>,
    right: &'a Right<'a, T>,
    k: usize,
    n: usize,
}

impl<T: Real> WithSimd for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { out, mut start, left, right: Right { values, panel: width }, k, n } = self;
        let depth = k.div_ceil(k.div_ceil(DEPTH));
        for line in (0..k).step_by(depth) {
            let depth = depth.min(k - line);
            for (panel, values) in values.chunks(k * width).enumerate() {
                let (first, stride) = (panel * width, values.len() / k);
                let right = Lines { values: &values[line * stride..][..depth * stride], stride };
                columns(simd, (out, n), (first, *width.min(&(n - first))), start, left.from(0, line), right, depth);
            }
            start = Start::Out;
        }
    }
}

/// The tasks of `out ← start + left·right`, `out` `[rows, n]`.
fn tasks<'a, T: Real>(
    out: &'a mut [T],
    start: Start<'a, T>,
    left: Matrix<'a, T>,
    right: &'a Right<'a, T>,
    n: usize,
) -> impl Iterator<Item = Rows<'a, T>> {
    let k = left.columns;
    // Whole tiles for every task but the last.
    let rows = lines_per_task(left.rows, n * k / 16).next_multiple_of(24);
    out.chunks_mut(rows * n).enumerate().map(move |(task, out)| {
        let left = left.left().from(task * rows, 0);
        Rows { out, start, left, right, k, n }
    })
}

/// See [`Kernels::add_product`](crate::kernel::Kernels::add_product) and [`product`](crate::kernel::Kernels::product), in the precision of `T`.
pub(super) fn add_product<T: Real>(c: Option<FlexTensor>, x: FlexTensor, y: FlexTensor) -> FlexTensor {
    let [runs, n, k] = x.layout().shape().dims();
    let m = y.layout().shape()[2];
    if runs * n * k * m == 0 {
        let (x, y) = (cast(x, T::dtype()), cast(y, T::dtype()));
        let product = Flex::float_matmul(x, y);
        return match c {
            Some(c) => Flex::float_add(cast(c, T::dtype()), product),
            None => product,
        };
    }
    let (start, mut c) = match c {
        Some(c) => (Start::Out, unshared::<T>(c)),
        None => (Start::Zero, fresh(zeros::<T>(runs * n * m), [runs, n, m].into())),
    };
    let (x, y) = (laid_out::<T>(x), laid_out::<T>(y));
    let rights: Vec<Right<'_, T>> = (0..runs).map(|run| Right::new(Matrix::of(&y, run), n)).collect();
    let outs = c.storage_mut::<T>().chunks_exact_mut(n * m).zip(&rights).enumerate();
    run_all(outs.flat_map(|(run, (out, right))| tasks(out, start, Matrix::of(&x, run), right, m)).collect());
    c
}

/// See [`Kernels::affine`](crate::kernel::Kernels::affine), in the precision of `T`.
pub(super) fn affine<T: Real>(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
    let mut shape = x.layout().shape().clone();
    let [d_in, d_out] = weight.layout().shape().dims();
    let last = shape.len() - 1;
    let rows = shape[..last].iter().product::<usize>();
    shape[last] = d_out;
    let mut out = zeros::<T>(rows * d_out);
    let bias = bias.map(dense::<T>);
    let start = bias.as_ref().map_or(Start::Zero, |bias| Start::Line(values(bias)));
    if out.is_empty() || d_in == 0 {
        // Nothing to multiply: a line for every row, if there is one.
        if let Start::Line(line) = start {
            out.chunks_exact_mut(d_out.max(1)).for_each(|out| out.copy_from_slice(line));
        }
        return fresh(out, shape);
    }
    let (x, weight) = (dense::<T>(x), laid_out::<T>(weight));
    let right = Right::new(Matrix::of(&weight, 0), rows);
    let left = Matrix { values: values::<T>(&x), rows, columns: d_in, strides: [d_in, 1] };
    run_all(tasks(&mut out, start, left, &right, d_out).collect());
    fresh(out, shape)
}
