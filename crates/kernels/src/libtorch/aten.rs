//! The operations out of LibTorch's own, for devices and sizes without a kernel.

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::{Dropping, cuda::wide};
use crate::{bits, kernel::Adam};

/// 0 or `1/(1 − p)` for every value of `[rows, positions, features]`, in f64, drawn on the host.
fn mask(size: [i64; 3], drop: &Dropping) -> Tensor {
    let [rows, positions, features] = size;
    let keys =
        Vec::<i64>::try_from(drop.keys.to_device(Device::Cpu)).unwrap_or_else(|error| panic!("LibTorch: {error}"));
    let (per_run, limit, keep) = (drop.rows_per_run(rows) as u64, bits::threshold(drop.p), drop.scale());
    let site = drop.site;
    let mut values = vec![0.0; (rows * positions * features) as usize];
    values.par_chunks_mut(features.max(1) as usize).enumerate().for_each(|(index, line)| {
        let (row, position) = (index as u64 / positions as u64, index as u64 % positions as u64);
        let key = keys[(row / per_run) as usize] as u64;
        let key = bits::line_key(key, site, row % per_run, position);
        for (pair, values) in line.chunks_mut(2).enumerate() {
            let word = bits::word(key, pair as u64);
            for (half, value) in values.iter_mut().enumerate() {
                *value = if (word >> (32 * half)) as u32 >= limit { keep } else { 0.0 };
            }
        }
    });
    Tensor::from_slice(&values).view(size)
}

/// See [`Kernels::dropout`](crate::kernel::Kernels::dropout).
pub(super) fn dropout(x: &Tensor, drop: &Dropping) -> Tensor {
    let (kind, size) = (x.kind(), x.size3().unwrap_or_else(|error| panic!("LibTorch: {error}")));
    let mask = mask([size.0, size.1, size.2], drop).to_kind(wide(kind)).to_device(x.device());
    (x.to_kind(wide(kind)) * mask).to_kind(kind).contiguous()
}

/// `y`, `z` and the statistics of [`Kernels::norm`](crate::kernel::Kernels::norm), without dropout.
pub(super) fn norm(
    x: &Tensor,
    residual: Option<&Tensor>,
    gamma: &Tensor,
    beta: &Tensor,
    epsilon: f64,
) -> (Tensor, Option<Tensor>, Tensor) {
    let (kind, wide) = (x.kind(), wide(x.kind()));
    let z = residual.map(|residual| (x.to_kind(wide) + residual.to_kind(wide)).to_kind(kind));
    let at = z.as_ref().unwrap_or(x).to_kind(wide);
    let mean = at.mean_dim(-1, true, wide);
    let centred = at - &mean;
    let rstd = (centred.square().mean_dim(-1, true, wide) + epsilon).rsqrt();
    let y = (centred * &rstd * gamma.to_kind(wide) + beta.to_kind(wide)).to_kind(kind);
    (y.contiguous(), z, Tensor::cat(&[mean, rstd], -1).view([-1, 2]))
}

/// See [`Kernels::cayley`](crate::kernel::Kernels::cayley).
pub(super) fn cayley(q: &Tensor) -> Tensor {
    let (kind, wide) = (q.kind(), wide(q.kind()));
    let one = Tensor::eye(q.size()[1], (wide, q.device()));
    ((q.to_kind(wide) + &one).inverse() * 2.0 - one).to_kind(kind)
}

/// See [`Kernels::norm_backward`](crate::kernel::Kernels::norm_backward).
pub(super) fn norm_backward(dy: &Tensor, z: &Tensor, statistics: &Tensor, gamma: &Tensor) -> Tensor {
    let (kind, wide) = (z.kind(), wide(z.kind()));
    let size = z.size();
    let of_lines = |column: i64| statistics.to_kind(wide).select(1, column).reshape([size[0], size[1], 1]);
    let (mean, rstd) = (of_lines(0), of_lines(1));
    let unit = (z.to_kind(wide) - mean) * &rstd;
    let g = dy.to_kind(wide) * gamma.to_kind(wide);
    let shared = g.mean_dim(-1, true, wide) + &unit * (&g * &unit).mean_dim(-1, true, wide);
    (rstd * (g - shared)).to_kind(kind).contiguous()
}

/// Probabilities of `scores` `[rows, heads, queries, keys]`.
pub(super) fn softmax(scores: &Tensor, bias: &Tensor, scale: f64) -> Tensor {
    let (kind, wide) = (scores.kind(), wide(scores.kind()));
    (scores.to_kind(wide) * scale + bias.to_kind(wide)).softmax(-1, wide).to_kind(kind)
}

/// From the gradient of the probabilities `p` that of the scores before their scale.
pub(super) fn softmax_backward(dp: &Tensor, p: &Tensor, scale: f64) -> Tensor {
    let (kind, wide) = (p.kind(), wide(p.kind()));
    let (dp, p) = (dp.to_kind(wide), p.to_kind(wide));
    let shared = (&dp * &p).sum_dim_intlist(-1, true, wide);
    (p * (dp - shared) * scale).to_kind(kind)
}

/// See [`Kernels::adamw`](crate::kernel::Kernels::adamw).
#[expect(clippy::too_many_arguments, reason = "as many as the operation has")]
pub(super) fn adamw(
    value: &Tensor,
    first: &Tensor,
    second: &Tensor,
    gradient: &Tensor,
    segment: &Tensor,
    coefficients: &Tensor,
    clip: &Tensor,
    adam: Adam,
) -> (Tensor, Tensor, Tensor) {
    let column = |index: i64| coefficients.select(2, index).index_select(1, segment); // [runs, n]
    let clip = clip.unsqueeze(1); // [runs, 1]
    let updated = column(3).gt(0.5).logical_and(&clip.ge(0.0)).logical_and(&clip.isfinite());
    let gradient = gradient * clip;
    let moment = first * adam.beta1 + &gradient * (1.0 - adam.beta1);
    let spread = second * adam.beta2 + gradient.square() * (1.0 - adam.beta2);
    let moved = value * column(2) - column(0) * &moment / (spread.sqrt() * column(1) + adam.epsilon);
    (moved.where_self(&updated, value), moment.where_self(&updated, first), spread.where_self(&updated, second))
}

/// See [`squared_norms`](super::squared_norms).
pub(super) fn squared_norms(x: &Tensor) -> Tensor {
    let wide = wide(x.kind());
    x.to_kind(Kind::Double).square().sum_dim_intlist(-1, false, Kind::Double).to_kind(wide)
}
