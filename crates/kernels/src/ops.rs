//! The interface of this crate: fused operations on Burn tensors.
//!
//! Each function calls the backend's kernel if it has one and the [`composed`] form otherwise; both are differentiable.

use burn::{
    backend::{Dispatch, DispatchDevice},
    tensor::{DType, Device, Int, Tensor, module::linear},
};

use crate::{
    bits,
    fused::{Fused, Maybe, MaybeDropout},
    kernel::LARGEST_CAYLEY,
};
pub use crate::{
    kernel::Adam,
    shared_input_grad::{InputGradAudit, LostInputGrad, SharedInputGrad},
};

pub mod composed;

/// Where dropout acts.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// One key per run, `[runs]`, 64-bit; see [`keys`].
    pub keys: Tensor<1, Int>,
    /// [`site`](bits::site).
    pub site: u64,
    /// Probability.
    pub p: f64,
}

impl Dropout {
    /// `None` where nothing is dropped.
    pub fn at(keys: Option<&Tensor<1, Int>>, site: u64, p: f64) -> Option<Self> {
        keys.filter(|_| p > 0.0).map(|keys| Self { keys: keys.clone(), site, p })
    }
}

/// Whether the backend of `device` has kernels here.
pub fn is_fused(device: &Device) -> bool {
    match device.clone().without_autodiff().as_dispatch() {
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "tch")]
        DispatchDevice::LibTorch(_) => true,
        #[allow(unreachable_patterns, reason = "other backends exist by feature")]
        _ => false,
    }
}

fn maybe_dropout(drop: Option<Dropout>) -> MaybeDropout<Dispatch> {
    match drop {
        Some(Dropout { keys, site, p }) => MaybeDropout::Present { keys: keys.into_dispatch(), site, p },
        None => MaybeDropout::Absent,
    }
}

/// Inverted dropout of `x` `[rows, positions, features]`: the rows are the runs' in their order.
pub fn dropout(x: Tensor<3>, drop: Option<Dropout>) -> Tensor<3> {
    let Some(drop) = drop else { return x };
    if !is_fused(&x.device()) {
        return composed::dropout(x, &drop);
    }
    let y = <Dispatch as Fused>::fused_dropout(x.into_dispatch(), drop.keys.into_dispatch(), drop.site, drop.p);
    Tensor::from_dispatch(y)
}

/// Layer norm of `residual + dropout(x)` over the last axis, with frozen `gamma`, `beta` `[d]`; `x`, `residual` `[rows, seq, d]`. The
/// residual comes with the accumulator of its gradient.
pub fn add_norm(
    x: Tensor<3>,
    residual: Option<(Tensor<3>, &SharedInputGrad)>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    drop: Option<Dropout>,
) -> Tensor<3> {
    let (residual, input_grad) = match residual {
        Some((residual, input_grad)) => (Some(residual), input_grad.clone()),
        None => (None, SharedInputGrad::default()),
    };
    if !is_fused(&x.device()) {
        return composed::add_norm(x, residual, gamma, beta, epsilon, drop.as_ref());
    }
    Tensor::from_dispatch(<Dispatch as Fused>::fused_norm(
        x.into_dispatch(),
        residual.map_or(Maybe::Absent, |residual| Maybe::Present(residual.into_dispatch())),
        input_grad,
        gamma.into_dispatch(),
        beta.into_dispatch(),
        epsilon,
        maybe_dropout(drop),
    ))
}

/// `x·Φ(x)`, exact, element by element.
pub fn gelu(x: Tensor<3>) -> Tensor<3> {
    if !is_fused(&x.device()) {
        return composed::gelu(x);
    }
    Tensor::from_dispatch(<Dispatch as Fused>::fused_gelu(x.into_dispatch()))
}

/// The Cayley transforms `(I − Q)·(I + Q)⁻¹` of skew-symmetric matrices, `Qᵀ = −Q`; `q` `[n, b, b]`. Each is orthogonal with determinant 1.
///
/// `I + Q` is eliminated without a search for pivots: its symmetric part is the identity, so that no pivot is below 1. Where `q` is not
/// skew-symmetric, the value is nothing in particular.
pub fn cayley(q: Tensor<3>) -> Tensor<3> {
    if !is_fused(&q.device()) || q.dims()[1] > LARGEST_CAYLEY {
        return composed::cayley(q);
    }
    Tensor::from_dispatch(<Dispatch as Fused>::fused_cayley(q.into_dispatch()))
}

/// `dropout(softmax(scale·q·kᵀ + bias))·v` over `heads` heads.
///
/// `q`, `k`, `v` `[rows, seq, heads·d_head]`; `bias` `[rows, 1, 1 or seq, seq]` is 0 where a key may be seen and a large negative number
/// where not. A dropout bit's position is `query·heads + head`, its feature the key, so that it does not depend on the padding.
pub fn attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    bias: Tensor<4>,
    heads: usize,
    scale: f64,
    drop: Option<Dropout>,
) -> Tensor<3> {
    if !is_fused(&q.device()) {
        return composed::attention(q, k, v, bias, heads, scale, drop.as_ref());
    }
    Tensor::from_dispatch(<Dispatch as Fused>::fused_attention(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        bias.into_dispatch(),
        heads,
        scale,
        maybe_dropout(drop),
    ))
}

/// Whether [`varlen_attention`] has a deterministic kernel for heads of this width and sequences of this length: on `flex` always, on a GPU
/// LibTorch's in bf16.
pub fn supports_varlen(device: &Device, dtype: DType, d_head: usize, longest: usize) -> bool {
    if matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_)) {
        return true;
    }
    // For longer sequences LibTorch splits the keys among blocks, whose sums are added in any order.
    let fits = d_head <= 64 && d_head.is_multiple_of(8) && longest <= LONGEST;
    fits && dtype == DType::BF16 && has_flash(device)
}

/// Whether LibTorch's flash attention runs on a device.
fn has_flash(device: &Device) -> bool {
    let Some(index) = cuda_index(device) else { return false };
    #[cfg(feature = "tch")]
    return crate::libtorch::has_flash(index);
    #[cfg(not(feature = "tch"))]
    unreachable!("no backend of this build has device {index}")
}

/// The longest sequence of a [`varlen_attention`] by a GPU's kernel.
pub const LONGEST: usize = 128;

/// [`attention`] within each of several packed sequences, without padding and without dropout.
///
/// `q`, `k`, `v` `[lines, n, heads·d_head]`; `starts` `[sequences + 1]` has the flat index of every sequence's first token, ascending, and
/// the number of all tokens. A sequence may be empty; none is longer than `longest`.
pub fn varlen_attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    starts: Tensor<1, Int>,
    longest: usize,
    heads: usize,
    scale: f64,
) -> Tensor<3> {
    if !supports_varlen(&q.device(), q.dtype(), q.dims()[2] / heads, longest) {
        return composed::varlen_attention(q, k, v, &starts, heads, scale);
    }
    Tensor::from_dispatch(<Dispatch as Fused>::fused_varlen_attention(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        starts.into_dispatch(),
        longest,
        heads,
        scale,
    ))
}

/// `c + x·y` for every run; `c` `[runs, n, m]`, `x` `[runs, n, k]`, `y` `[runs, k, m]`.
pub fn add_product(c: Tensor<3>, x: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
    if !is_fused(&c.device()) {
        return c + x.matmul(y);
    }
    let y = <Dispatch as Fused>::fused_add_product(c.into_dispatch(), x.into_dispatch(), y.into_dispatch());
    Tensor::from_dispatch(y)
}

/// `x·weight + bias` on the rows from `start` on, `len` of them, with a frozen `weight` `[d_in, d_out]` and `bias` `[d_out]`; `x`
/// `[rows, seq, d_in]` comes with the accumulator of its gradient.
pub fn affine(
    x: Tensor<3>,
    [start, len]: [usize; 2],
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    input_grad: &SharedInputGrad,
) -> Tensor<3> {
    if !is_fused(&x.device()) {
        let own = if len == x.dims()[0] { x } else { x.slice([start..start + len]) };
        return linear(own, weight, bias);
    }
    Tensor::from_dispatch(<Dispatch as Fused>::fused_affine(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.map_or(Maybe::Absent, |bias| Maybe::Present(bias.into_dispatch())),
        start,
        len,
        input_grad.clone(),
    ))
}

/// `x·weight` for every run on the rows from `start` on, `len` of them; `x` `[rows, seq, d]` comes with the
/// accumulator of its gradient, `weight` `[runs, d, k]`.
/// Gives `[runs, len·seq/runs, k]`.
pub fn low_rank_down(
    x: Tensor<3>,
    [start, len]: [usize; 2],
    weight: Tensor<3>,
    input_grad: &SharedInputGrad,
) -> Tensor<3> {
    let ([_, seq, d], [runs, ..]) = (x.dims(), weight.dims());
    if !is_fused(&x.device()) {
        let own = if len == x.dims()[0] { x } else { x.slice([start..start + len]) };
        return own.reshape([runs, len * seq / runs, d]).matmul(weight);
    }
    let y = <Dispatch as Fused>::fused_low_rank_down(
        x.into_dispatch(),
        weight.into_dispatch(),
        start,
        len,
        input_grad.clone(),
    );
    Tensor::from_dispatch(y)
}

/// The rows from `start` on, `len` of them; `x` `[rows, seq, d]` comes with the accumulator of its gradient.
pub fn rows(x: Tensor<3>, [start, len]: [usize; 2], input_grad: &SharedInputGrad) -> Tensor<3> {
    if !is_fused(&x.device()) {
        return if len == x.dims()[0] { x } else { x.slice([start..start + len]) };
    }
    Tensor::from_dispatch(<Dispatch as Fused>::fused_rows(x.into_dispatch(), start, len, input_grad.clone()))
}

/// The columns from `start` on, `len` of them; `x` `[rows, seq, d]` comes with the accumulator of its gradient, all of whose consumers read
/// columns, every column once.
pub fn columns(x: Tensor<3>, [start, len]: [usize; 2], input_grad: &SharedInputGrad) -> Tensor<3> {
    if !is_fused(&x.device()) {
        let [rows, seq, _] = x.dims();
        return x.slice([0..rows, 0..seq, start..start + len]);
    }
    Tensor::from_dispatch(<Dispatch as Fused>::fused_columns(x.into_dispatch(), start, len, input_grad.clone()))
}

/// `c` with `x·y` added to its rows from `start` on, run by run; `c` `[rows, seq, m]`, `x` `[runs, n, k]`, `y` `[runs, k, m]`.
pub fn add_low_rank(c: Tensor<3>, start: usize, x: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
    if !is_fused(&c.device()) {
        let ([rows, seq, m], [runs, n, _]) = (c.dims(), x.dims());
        let (product, len) = (x.matmul(y).reshape([runs * n / seq, seq, m]), runs * n / seq);
        if len == rows {
            return c + product;
        }
        let own = c.clone().slice([start..start + len]) + product;
        return c.slice_assign([start..start + len, 0..seq, 0..m], own);
    }
    let y = <Dispatch as Fused>::fused_add_low_rank(c.into_dispatch(), start, x.into_dispatch(), y.into_dispatch());
    Tensor::from_dispatch(y)
}

/// Norms of the columns of `base + down·up` for every run, `[runs, 1, m]`, from values alone; `base` `[d, m]` with the `squares`
/// `[1, 1, m]` of its own columns' norms, `down` `[runs, d, k]` and `up` `[runs, k, m]` in f32 at least. None is tracked.
#[must_use]
pub fn column_norms(base: Tensor<2>, squares: Tensor<3>, down: Tensor<3>, up: Tensor<3>) -> Tensor<3> {
    if !is_fused(&base.device()) {
        return composed::column_norms(base, down, up);
    }
    Tensor::from_dispatch(<Dispatch as Fused>::fused_column_norms(
        base.into_dispatch(),
        squares.into_dispatch(),
        down.into_dispatch(),
        up.into_dispatch(),
    ))
}

/// `(magnitude/norm)∘x + bias` for every run; `x` `[runs, n, m]`, `magnitude` and the constant `norm` `[runs, 1, m]` in f32 at least, a
/// frozen `bias` `[m]`. Where a norm is 0 the factor is 1 and its magnitude gets no gradient.
pub fn scale_columns(x: Tensor<3>, magnitude: Tensor<3>, norm: Tensor<3>, bias: Option<Tensor<1>>) -> Tensor<3> {
    if !is_fused(&x.device()) {
        return composed::scale_columns(x, magnitude, norm, bias);
    }
    Tensor::from_dispatch(<Dispatch as Fused>::fused_scale_columns(
        x.into_dispatch(),
        magnitude.into_dispatch(),
        norm.into_dispatch(),
        bias.map_or(Maybe::Absent, |bias| Maybe::Present(bias.into_dispatch())),
    ))
}

/// `source` in `target`'s place: on a device written into its storage, through every view; elsewhere `source` itself. Neither is tracked.
#[must_use]
pub fn assign<const D: usize>(target: Tensor<D>, source: Tensor<D>) -> Tensor<D> {
    if !is_fused(&target.device()) {
        return source;
    }
    Tensor::from_dispatch(<Dispatch as Fused>::fused_assign(target.into_dispatch(), source.into_dispatch()))
}

/// [`assign`] of whole numbers.
#[must_use]
pub fn assign_ints<const D: usize>(target: Tensor<D, Int>, source: Tensor<D, Int>) -> Tensor<D, Int> {
    if !is_fused(&target.device()) {
        return source;
    }
    Tensor::from_dispatch(<Dispatch as Fused>::fused_assign_ints(target.into_dispatch(), source.into_dispatch()))
}

/// `x`, untracked, in storage that no later write in place reaches.
#[must_use]
pub fn snapshot<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if !is_fused(&x.device()) {
        return x;
    }
    Tensor::from_dispatch(<Dispatch as Fused>::fused_snapshot(x.into_dispatch()))
}

/// The number of a CUDA device of LibTorch.
pub(crate) fn cuda_index(device: &Device) -> Option<usize> {
    match device.clone().without_autodiff().as_dispatch() {
        #[cfg(feature = "tch")]
        DispatchDevice::LibTorch(burn_tch::LibTorchDevice::Cuda(index)) => Some(*index),
        _ => None,
    }
}

/// Work on other threads. Dropping it waits for the rest, which must not be cut off when the process ends.
#[derive(Debug)]
pub struct Warming(Option<std::thread::JoinHandle<()>>);

impl Drop for Warming {
    fn drop(&mut self) {
        // The first operation reports what failed.
        let _ = self.0.take().map(std::thread::JoinHandle::join);
    }
}

/// Starts on other threads what a GPU's first operations would wait for: its context, and the kernels compiled for it.
pub fn warm_up(device: &Device) -> Warming {
    let Some(index) = cuda_index(device) else { return Warming(None) };
    #[cfg(feature = "tch")]
    return Warming(Some(std::thread::spawn(move || drop(crate::libtorch::prepare(index, Some(DType::BF16))))));
    #[cfg(not(feature = "tch"))]
    unreachable!("no backend of this build has device {index}")
}

/// Whether tensors on `device` are written in place by [`assign`] and [`adamw`], so that steps can be enqueued ahead of the host.
pub fn writes_in_place(device: &Device) -> bool {
    match device.clone().without_autodiff().as_dispatch() {
        #[cfg(feature = "tch")]
        DispatchDevice::LibTorch(_) => true,
        _ => false,
    }
}

/// Flat stacked tensors and their moments, `[runs, n]` each.
#[derive(Clone, Debug)]
pub struct Flat {
    /// What is trained.
    pub value: Tensor<2>,
    /// First moment.
    pub first: Tensor<2>,
    /// Second moment.
    pub second: Tensor<2>,
}

/// One AdamW update, see [`Kernels::adamw`](crate::kernel::Kernels::adamw) for the equations and what the coefficients are.
///
/// `gradient` `[runs, n]`, `segment` `[n]` (64-bit), `coefficients` `[runs, segments, 4]`, `clip` `[runs]`. On a device the update may be
/// in place: every view of the old `value` shows the new one.
pub fn adamw(
    flat: Flat,
    gradient: Tensor<2>,
    segment: Tensor<1, Int>,
    coefficients: Tensor<3>,
    clip: Tensor<1>,
    adam: Adam,
) -> Flat {
    if !is_fused(&flat.value.device()) {
        return composed::adamw(flat, gradient, segment, coefficients, clip, adam);
    }
    let (value, first, second) = <Dispatch as Fused>::fused_adamw(
        flat.value.into_dispatch(),
        flat.first.into_dispatch(),
        flat.second.into_dispatch(),
        gradient.into_dispatch(),
        segment.into_dispatch(),
        coefficients.into_dispatch(),
        clip.into_dispatch(),
        adam.beta1,
        adam.beta2,
        adam.epsilon,
    );
    Flat {
        value: Tensor::from_dispatch(value),
        first: Tensor::from_dispatch(first),
        second: Tensor::from_dispatch(second),
    }
}

/// A pass's keys on a device, `[runs]`: [`run_key`](bits::run_key) of every run.
pub fn keys(values: &[u64], device: &Device) -> Tensor<1, Int> {
    let data = burn::tensor::TensorData::new(values.iter().map(|key| *key as i64).collect::<Vec<_>>(), [values.len()]);
    Tensor::from_data(data, (device, burn::tensor::DType::I64))
}

/// Whole numbers, read back.
fn read_ints(values: &Tensor<1, Int>) -> Vec<i64> {
    let data = values.to_data().convert::<i64>();
    data.try_to_vec().unwrap_or_else(|error| unreachable!("i64 data reads as i64: {error:?}"))
}

/// The keys of [`keys`], read back.
fn read_keys(keys: &Tensor<1, Int>) -> Vec<u64> {
    read_ints(keys).into_iter().map(|key| key as u64).collect()
}

/// The mask of a site for `[rows, positions, features]`, 0 or `1/(1 − p)`, drawn on the host.
fn host_mask(drop: &Dropout, [rows, positions, features]: [usize; 3]) -> Vec<f64> {
    let keys = read_keys(&drop.keys);
    let (per_run, keep, limit) = (rows / keys.len(), 1.0 / (1.0 - drop.p), u64::from(bits::threshold(drop.p)));
    let mut values = vec![0.0; rows * positions * features];
    for (index, line) in values.chunks_mut(features).enumerate() {
        let (row, position) = (index / positions, index % positions);
        let key = bits::line_key(keys[row / per_run], drop.site, (row % per_run) as u64, position as u64);
        for (feature, value) in line.iter_mut().enumerate() {
            let word = bits::word(key, feature as u64 / 2);
            let half = if feature % 2 == 0 { word & 0xFFFF_FFFF } else { word >> 32 };
            *value = if half < limit { 0.0 } else { keep };
        }
    }
    values
}
