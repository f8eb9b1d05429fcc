//! Launches of the kernels in `kernels.cu`: layouts, widths and the shapes of blocks.
//!
//! Every function takes tensors in any layout, all of one CUDA device; `None` means that no kernel is made for lines of this length.

use tch::{Device, Kind, Tensor};

use super::{
    Dropping,
    ffi::{self, Argument, Launch},
};
use crate::{bits, kernel::Adam};

/// The precision that a kind is computed in.
pub(super) fn wide(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}

/// The number of the CUDA device where a tensor lies, if there are kernels for its kind.
pub(super) fn device(x: &Tensor) -> Option<usize> {
    match x.device() {
        Device::Cuda(index) if ffi::has_kernels(x.kind()) => Some(index),
        _ => None,
    }
}

/// Whether a tensor starts at a multiple of 16 bytes.
pub(super) fn starts_aligned(x: &Tensor) -> bool {
    (x.data_ptr() as usize).is_multiple_of(16)
}

/// A contiguous copy, which LibTorch's allocator aligns.
pub(super) fn repacked(x: &Tensor) -> Tensor {
    if x.is_contiguous() { x.copy() } else { x.contiguous() }
}

/// Elements in 16 bytes.
fn vector(kind: Kind) -> i64 {
    16 / kind.elt_size_in_bytes() as i64
}

/// `a/b`, rounded up.
fn div_up(a: i64, b: i64) -> i64 {
    (a + b - 1) / b
}

fn fresh_like(x: &Tensor) -> Tensor {
    Tensor::empty(x.size(), (x.kind(), x.device()))
}

/// `[.., length]` as a number of lines and their length.
fn lines(x: &Tensor) -> (i64, i64) {
    let length = x.size().last().copied().unwrap_or(1);
    (if length == 0 { 0 } else { x.numel() as i64 / length }, length)
}

fn run<const N: usize>(launch: &Launch, arguments: [Argument<'_>; N]) {
    ffi::launch(launch, arguments).unwrap_or_else(|error| panic!("LibTorch, kernel {}: {error}", launch.name));
}

/// A tensor or null.
fn maybe(tensor: Option<&Tensor>) -> Argument<'_> {
    tensor.map_or(Argument::Null, Argument::Tensor)
}

/// A dropout's parameters as the kernels take them.
fn dropout_arguments(drop: Option<&Dropping>, rows: i64) -> [Argument<'_>; 5] {
    match drop {
        Some(drop) => [
            Argument::Tensor(&drop.keys),
            Argument::U64(drop.site),
            Argument::I64(drop.rows_per_run(rows)),
            Argument::U32(bits::threshold(drop.p)),
            Argument::F64(drop.scale()),
        ],
        None => [Argument::Null, Argument::U64(0), Argument::I64(1), Argument::U32(0), Argument::F64(1.0)],
    }
}

/// The kernel of an operation for lines of `length`, one block for as many lines as it holds.
fn over_lines(
    operation: &str,
    device: usize,
    kind: Kind,
    aligned: bool,
    (lines, length): (i64, i64),
) -> Option<Launch> {
    let aligned = aligned && length % vector(kind) == 0 && length <= 4096;
    // The longest line, threads in a block, lines in a block.
    let (longest, block, held) = match length {
        0..=64 if aligned => (64, 128, 16),
        65..=128 if aligned => (128, 128, 8),
        0..=1024 => (1024, 128, 4),
        1025..=4096 => (4096, 256, 1),
        4097..=16384 => (16384, 1024, 1),
        _ => return None,
    };
    let name = format!("{operation}_{longest}");
    Some(Launch { device, kind, aligned, name, grid: (div_up(lines, held), 1), block })
}

/// `x` with dropped values at 0, written to `y`, a contiguous tensor that may be `x` itself; both `[rows, positions, features]`.
pub(super) fn dropout(device: usize, x: &Tensor, y: &Tensor, drop: &Dropping) {
    const WARPS: i64 = 8;
    let x = x.contiguous();
    let size = x.size();
    let (rows, positions, features) = (size[0], size[1], size[2]);
    let lines = if features == 0 { 0 } else { rows * positions };
    let vector = vector(x.kind());
    let aligned = features % vector == 0 && starts_aligned(&x) && starts_aligned(y);
    let steps = div_up(features, 32 * if aligned { vector } else { 1 });
    // Where lines are few, several warps share one.
    let shares = if lines < 4096 { div_up(steps, 2).clamp(1, 64) } else { 1 };
    let launch = Launch {
        device,
        kind: x.kind(),
        aligned,
        name: "dropout".into(),
        grid: (div_up(lines, WARPS), shares),
        block: 256,
    };
    let [keys, site, rows_per_run, limit, keep] = dropout_arguments(Some(drop), rows);
    let (from, to) = (Argument::Tensor(&x), Argument::Tensor(y));
    let sizes = [lines, positions, features].map(Argument::I64);
    run(&launch, [from, to, sizes[0], sizes[1], sizes[2], keys, site, rows_per_run, limit, keep]);
}

/// What [`norm`] gives; `z` is `None` where it is the input.
pub(super) struct Normed {
    pub(super) y: Tensor,
    pub(super) z: Option<Tensor>,
    pub(super) statistics: Tensor,
}

/// `gamma` and `beta` in the precision of `x` or the wider one, whichever they are in.
fn affine(x: Kind, gamma: &Tensor, beta: Option<&Tensor>) -> (Tensor, Option<Tensor>, bool) {
    let same = |kind| gamma.kind() == kind && beta.is_none_or(|beta| beta.kind() == kind);
    let kind = if same(x) { x } else { wide(x) };
    let fitted = |tensor: &Tensor| tensor.to_kind(kind).contiguous();
    (fitted(gamma), beta.map(fitted), kind != x)
}

/// See [`Kernels::norm`](crate::kernel::Kernels::norm).
pub(super) fn norm(
    device: usize,
    x: &Tensor,
    residual: Option<&Tensor>,
    gamma: &Tensor,
    beta: &Tensor,
    epsilon: f64,
    drop: Option<&Dropping>,
) -> Option<Normed> {
    let x = x.contiguous();
    let residual = residual.map(|residual| residual.to_kind(x.kind()).contiguous());
    let (gamma, beta, is_wide) = affine(x.kind(), gamma, Some(beta));
    let beta = beta?;
    let shape @ (count, d) = lines(&x);
    let [rows, positions, _] = x.size()[..] else { panic!("a norm is of [rows, seq, d], not {:?}", x.size()) };
    let y = fresh_like(&x);
    let z = (residual.is_some() || drop.is_some()).then(|| fresh_like(&x));
    let statistics = Tensor::empty([count, 2], (wide(x.kind()), x.device()));
    let aligned = [Some(&x), residual.as_ref(), Some(&gamma), Some(&beta)].into_iter().flatten().all(starts_aligned);
    let launch = over_lines("norm", device, x.kind(), aligned, shape)?;
    let [keys, site, rows_per_run, limit, keep] = dropout_arguments(drop, rows);
    run(
        &launch,
        [
            Argument::Tensor(&x),
            maybe(residual.as_ref()),
            Argument::Tensor(&gamma),
            Argument::Tensor(&beta),
            Argument::Flag(is_wide),
            Argument::Tensor(&y),
            maybe(z.as_ref()),
            Argument::Tensor(&statistics),
            Argument::I64(count),
            Argument::I64(positions),
            Argument::I64(d),
            Argument::F64(epsilon),
            keys,
            site,
            rows_per_run,
            limit,
            keep,
        ],
    );
    Some(Normed { y, z, statistics })
}

/// See [`Kernels::norm_backward`](crate::kernel::Kernels::norm_backward).
pub(super) fn norm_backward(
    device: usize,
    dy: &Tensor,
    z: &Tensor,
    statistics: &Tensor,
    gamma: &Tensor,
) -> Option<Tensor> {
    let z = z.contiguous();
    let (dy, statistics) = (dy.to_kind(z.kind()).contiguous(), statistics.to_kind(wide(z.kind())).contiguous());
    let (gamma, _, is_wide) = affine(z.kind(), gamma, None);
    let shape @ (count, d) = lines(&z);
    let dz = fresh_like(&z);
    let aligned = [&z, &dy, &gamma].into_iter().all(starts_aligned);
    let launch = over_lines("norm_backward", device, z.kind(), aligned, shape)?;
    run(
        &launch,
        [
            Argument::Tensor(&dy),
            Argument::Tensor(&z),
            Argument::Tensor(&statistics),
            Argument::Tensor(&gamma),
            Argument::Flag(is_wide),
            Argument::Tensor(&dz),
            Argument::I64(count),
            Argument::I64(d),
        ],
    );
    Some(dz)
}

/// `bias` `[rows, 1, 1 or queries, keys]` with neighbouring keys, and its strides over rows and queries.
fn bias_strides(bias: &Tensor, x: Kind) -> (Tensor, i64, i64) {
    let kind = if bias.kind() == x { x } else { wide(x) };
    let mut bias = bias.to_kind(kind);
    let strides_of = |bias: &Tensor| {
        let (size, stride) = (bias.size(), bias.stride());
        let over = |axis: usize| if size[axis] == 1 { 0 } else { stride[axis] };
        (over(0), over(2), size[3] == 1 || stride[3] == 1)
    };
    let (mut row, mut query, mut neighbours) = strides_of(&bias);
    if !neighbours {
        bias = bias.contiguous();
        (row, query, neighbours) = strides_of(&bias);
    }
    debug_assert!(neighbours);
    (bias, row, query)
}

/// Dropped probabilities, `None` where nothing is dropped.
pub(super) struct Dropped(pub(super) Option<Tensor>);

/// `softmax(scale·scores + bias)`, and its dropped values where something is dropped. The probabilities are written over `scores`, a fresh
/// contiguous tensor `[rows, heads, queries, keys]`.
pub(super) fn softmax(
    device: usize,
    scores: &Tensor,
    bias: &Tensor,
    scale: f64,
    drop: Option<&Dropping>,
    keeps: bool,
) -> Option<Dropped> {
    let kind = scores.kind();
    let (bias, bias_row, bias_query) = bias_strides(bias, kind);
    let [rows, heads, queries, length] = scores.size()[..] else { panic!("scores are [rows, heads, queries, keys]") };
    let of_bias = vector(kind); // a vector's elements, whichever precision the bias has
    let aligned =
        starts_aligned(scores) && starts_aligned(&bias) && bias_row % of_bias == 0 && bias_query % of_bias == 0;
    let dropped = drop.map(|_| fresh_like(scores));
    let shape @ (count, _) = lines(scores);
    let launch = over_lines("softmax", device, kind, aligned, shape)?;
    let [keys, site, rows_per_run, limit, keep] = dropout_arguments(drop, rows);
    run(
        &launch,
        [
            Argument::Tensor(scores),
            Argument::Tensor(&bias),
            Argument::Flag(bias.kind() != kind),
            Argument::I64(bias_row),
            Argument::I64(bias_query),
            if keeps || dropped.is_none() { Argument::Tensor(scores) } else { Argument::Null },
            maybe(dropped.as_ref()),
            Argument::I64(count),
            Argument::I64(heads),
            Argument::I64(queries),
            Argument::I64(length),
            Argument::F64(scale),
            keys,
            site,
            rows_per_run,
            limit,
            keep,
        ],
    );
    Some(Dropped(dropped))
}

/// From the gradient `dp` of the dropped probabilities, a fresh contiguous tensor, and the probabilities `p`, both
/// `[rows, heads, queries, keys]`: the gradient of the scores before their scale, written over `dp`; gives the dropped probabilities where
/// something is dropped.
pub(super) fn softmax_backward(
    device: usize,
    dp: &Tensor,
    p: &Tensor,
    scale: f64,
    drop: Option<&Dropping>,
) -> Option<Dropped> {
    let p = p.contiguous();
    let [rows, heads, queries, length] = p.size()[..] else { panic!("probabilities are [rows, heads, queries, keys]") };
    let dropped = drop.map(|_| fresh_like(&p));
    let shape @ (count, _) = lines(&p);
    let aligned = starts_aligned(&p) && starts_aligned(dp);
    let launch = over_lines("softmax_backward", device, p.kind(), aligned, shape)?;
    let [keys, site, rows_per_run, limit, keep] = dropout_arguments(drop, rows);
    run(
        &launch,
        [
            Argument::Tensor(dp),
            Argument::Tensor(&p),
            maybe(dropped.as_ref()),
            Argument::I64(count),
            Argument::I64(heads),
            Argument::I64(queries),
            Argument::I64(length),
            Argument::F64(scale),
            keys,
            site,
            rows_per_run,
            limit,
            keep,
        ],
    );
    Some(Dropped(dropped))
}

/// See [`Kernels::adamw`](crate::kernel::Kernels::adamw); over `value`, `first` and `second`, which are contiguous.
#[expect(clippy::too_many_arguments, reason = "as many as the operation has")]
pub(super) fn adamw(
    device: usize,
    value: &Tensor,
    first: &Tensor,
    second: &Tensor,
    gradient: &Tensor,
    segment: &Tensor,
    coefficients: &Tensor,
    clip: &Tensor,
    adam: Adam,
) {
    let kind = value.kind();
    let fitted = |tensor: &Tensor| tensor.to_kind(kind).contiguous();
    let (gradient, clip) = (fitted(gradient), fitted(clip));
    let segment = segment.to_kind(Kind::Int64).contiguous();
    // A segment's four are always read at once.
    let coefficients = {
        let coefficients = fitted(coefficients);
        if starts_aligned(&coefficients) { coefficients } else { repacked(&coefficients) }
    };
    let [runs, n] = value.size()[..] else { panic!("flat tensors are [runs, n], not {:?}", value.size()) };
    let segments = coefficients.size()[1];
    let aligned = n % vector(kind) == 0 && [value, first, second, &gradient, &segment].into_iter().all(starts_aligned);
    let per_block = 256 * if aligned { vector(kind) } else { 1 };
    let blocks = div_up(n, per_block).min(4096);
    let launch = Launch { device, kind, aligned, name: "adamw".into(), grid: (blocks, runs), block: 256 };
    run(
        &launch,
        [
            Argument::Tensor(value),
            Argument::Tensor(first),
            Argument::Tensor(second),
            Argument::Tensor(&gradient),
            Argument::Tensor(&segment),
            Argument::Tensor(&coefficients),
            Argument::Tensor(&clip),
            Argument::I64(n),
            Argument::I64(segments),
            Argument::F64(adam.beta1),
            Argument::F64(adam.beta2),
            Argument::F64(adam.epsilon),
        ],
    );
}

/// See [`squared_norms`](super::squared_norms).
pub(super) fn squared_norms(device: usize, x: &Tensor) -> Tensor {
    let x = x.contiguous();
    let [runs, n] = x.size()[..] else { panic!("flat tensors are [runs, n], not {:?}", x.size()) };
    let blocks = div_up(n, 256 * 16).clamp(1, 512); // of n alone: companions change no bit of a run's sum
    let parts = Tensor::empty([runs, blocks], (Kind::Double, x.device()));
    let total = Tensor::empty([runs], (wide(x.kind()), x.device()));
    // Read element by element: any alignment will do, and the aligned form is the one that is likely compiled.
    let stage =
        |name: &str, grid| Launch { device, kind: x.kind(), aligned: true, name: name.into(), grid, block: 256 };
    run(&stage("squares", (blocks, runs)), [Argument::Tensor(&x), Argument::Tensor(&parts), Argument::I64(n)]);
    run(
        &stage("squares_total", (runs, 1)),
        [Argument::Tensor(&parts), Argument::Tensor(&total), Argument::I64(blocks)],
    );
    total
}

/// `x` from a multiple of 16 bytes on, contiguous, in a precision.
fn packed(x: &Tensor, kind: Kind) -> Tensor {
    let x = x.to_kind(kind).contiguous();
    if starts_aligned(&x) { x } else { repacked(&x) }
}

/// See [`Kernels::column_norms`](crate::kernel::Kernels::column_norms).
pub(super) fn column_norms(device: usize, base: &Tensor, down: &Tensor, up: &Tensor) -> Option<Tensor> {
    let (kind, wide) = (base.kind(), wide(base.kind()));
    let [runs, d, k] = down.size()[..] else { panic!("down is [runs, d, k], not {:?}", down.size()) };
    let m = base.size()[1];
    // As many components as a block's shared memory holds for 32 columns.
    if k > 32768 / (32 * wide.elt_size_in_bytes() as i64) || runs > 65535 {
        return None;
    }
    let (down, up) = (down.to_kind(wide).contiguous(), up.to_kind(wide).contiguous());
    let norm = Tensor::empty([runs, 1, m], (wide, base.device()));
    // Read element by element, see `squared_norms`.
    let launch =
        Launch { device, kind, aligned: true, name: "column_norms".into(), grid: (div_up(m, 32), runs), block: 1024 };
    let stride = base.stride();
    run(
        &launch,
        [
            Argument::Tensor(base),
            Argument::I64(stride[0]),
            Argument::I64(stride[1]),
            Argument::Tensor(&down),
            Argument::Tensor(&up),
            Argument::Tensor(&norm),
            Argument::I64(d),
            Argument::I64(m),
            Argument::I64(k),
        ],
    );
    Some(norm)
}

/// Blocks that share the rows of a run, of the number of its rows alone: companions change no bit of a run's sums.
fn row_blocks(n: i64) -> i64 {
    div_up(n, 64).clamp(1, 64)
}

/// A kernel over the columns of `x` `[runs, n, m]`.
fn over_columns(name: &str, device: usize, kind: Kind, aligned: bool, [runs, n, m]: [i64; 3]) -> Option<Launch> {
    let vector = vector(kind);
    let aligned = aligned && m % vector == 0;
    let grid = (div_up(m, 32 * if aligned { vector } else { 1 }), runs * row_blocks(n));
    (grid.1 <= 65535).then(|| Launch { device, kind, aligned, name: name.into(), grid, block: 256 })
}

/// See [`Kernels::scale_columns`](crate::kernel::Kernels::scale_columns).
pub(super) fn scale_columns(
    device: usize,
    x: &Tensor,
    magnitude: &Tensor,
    norm: &Tensor,
    bias: Option<&Tensor>,
) -> Option<Tensor> {
    let x = x.contiguous();
    let (kind, wide) = (x.kind(), wide(x.kind()));
    let [runs, n, m] = x.size()[..] else { panic!("columns are of [runs, n, m], not {:?}", x.size()) };
    let (magnitude, norm) = (packed(magnitude, wide), packed(norm, wide));
    let bias = bias.map(|bias| packed(bias, if bias.kind() == kind { kind } else { wide }));
    let y = fresh_like(&x);
    let launch = over_columns("scale_columns", device, kind, starts_aligned(&x), [runs, n, m])?;
    run(
        &launch,
        [
            Argument::Tensor(&x),
            Argument::Tensor(&magnitude),
            Argument::Tensor(&norm),
            maybe(bias.as_ref()),
            Argument::Flag(bias.as_ref().is_some_and(|bias| bias.kind() != kind)),
            Argument::Tensor(&y),
            Argument::I64(n),
            Argument::I64(m),
            Argument::I64(row_blocks(n)),
        ],
    );
    Some(y)
}

/// See [`Kernels::scale_columns_backward`](crate::kernel::Kernels::scale_columns_backward).
pub(super) fn scale_columns_backward(
    device: usize,
    dy: &Tensor,
    x: &Tensor,
    magnitude: &Tensor,
    norm: &Tensor,
) -> Option<(Tensor, Tensor)> {
    let x = x.contiguous();
    let (kind, wide) = (x.kind(), wide(x.kind()));
    let dy = dy.to_kind(kind).contiguous();
    let [runs, n, m] = x.size()[..] else { panic!("columns are of [runs, n, m], not {:?}", x.size()) };
    let (magnitude, norm) = (packed(magnitude, wide), packed(norm, wide));
    let dx = fresh_like(&x);
    let blocks = row_blocks(n);
    let parts = Tensor::empty([runs, blocks, m], (wide, x.device()));
    let total = Tensor::empty([runs, 1, m], (wide, x.device()));
    let aligned = starts_aligned(&x) && starts_aligned(&dy);
    let launch = over_columns("scale_columns_backward", device, kind, aligned, [runs, n, m])?;
    let sizes = [m, blocks].map(Argument::I64);
    run(
        &launch,
        [
            Argument::Tensor(&dy),
            Argument::Tensor(&x),
            Argument::Tensor(&magnitude),
            Argument::Tensor(&norm),
            Argument::Tensor(&dx),
            Argument::Tensor(&parts),
            Argument::I64(n),
            sizes[0],
            sizes[1],
        ],
    );
    let launch = Launch { name: "scale_columns_total".into(), grid: (div_up(m, 32), runs), ..launch };
    run(&launch, [Argument::Tensor(&parts), Argument::Tensor(&norm), Argument::Tensor(&total), sizes[0], sizes[1]]);
    Some((dx, total))
}

/// See [`Kernels::cayley`](crate::kernel::Kernels::cayley).
pub(super) fn cayley(device: usize, q: &Tensor) -> Tensor {
    let q = q.contiguous();
    let [n, b, _] = q.size()[..] else { panic!("matrices are [n, b, b], not {:?}", q.size()) };
    let r = fresh_like(&q);
    // A warp at least, and a thread for each entry as long as there are so many.
    let block = ((b * b).clamp(32, 256) as u32).next_multiple_of(32);
    let launch = Launch { device, kind: q.kind(), aligned: false, name: "cayley".into(), grid: (n, 1), block };
    run(&launch, [Argument::Tensor(&q), Argument::Tensor(&r), Argument::I64(b)]);
    r
}
