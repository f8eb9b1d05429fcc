//! The same operations out of Burn's differentiable ones: what a backend without kernels runs, and what the kernels are tested against.

use burn::tensor::{Int, Tensor, TensorData, activation, module::layer_norm};

use super::{Adam, Dropout, Flat, host_mask};

/// See [`dropout`](super::dropout); the mask is drawn on the host.
pub fn dropout(x: Tensor<3>, drop: &Dropout) -> Tensor<3> {
    let (shape, device, dtype) = (x.dims(), x.device().without_autodiff(), x.dtype());
    let mask = TensorData::new(host_mask(drop, shape), shape).convert_dtype(dtype);
    x * Tensor::from_data(mask, (&device, dtype))
}

/// See [`add_norm`](super::add_norm).
pub fn add_norm(
    x: Tensor<3>,
    residual: Option<Tensor<3>>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    drop: Option<&Dropout>,
) -> Tensor<3> {
    let x = match drop {
        Some(drop) => dropout(x, drop),
        None => x,
    };
    let z = match residual {
        Some(residual) => residual + x,
        None => x,
    };
    layer_norm(z, gamma, Some(beta), epsilon)
}

/// See [`gelu`](super::gelu): `x/2·(1 + erf(x/√2))`, whose derivative every backend has exactly.
pub fn gelu(x: Tensor<3>) -> Tensor<3> {
    let half = x.clone() * 0.5;
    half * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0)
}

/// Steps of Newton and Schulz: each squares the distance of `A·M` from `I`, which starts at `1 − 1/(1 + ‖Q‖²/4)` or less. After 20 it is below
/// rounding while `‖Q‖ < 300`, where planes have turned by more than 179°.
const NEWTON_STEPS: usize = 20;

/// See [`cayley`](super::cayley).
///
/// The inverse is found by matrix products alone, so that all matrices are one batch on every device. Its value needs no gradient: the last
/// step from it, `M = M₀·(2I − A·M₀)`, has the exact one, `dM = −M₀·dA·M₀`.
pub fn cayley(q: Tensor<3>) -> Tensor<3> {
    let [_, b, _] = q.dims();
    let one = Tensor::<2>::eye(b, &q.device().without_autodiff()).cast(q.dtype()).unsqueeze::<3>();
    let a = q + one.clone(); // A = I + Q
    let value = a.clone().detach();
    // Squared singular values of A are 1 + θ² where ±iθ are eigenvalues of Q, and these come in pairs: 1 ≤ σ² ≤ 1 + ‖Q‖²/2.
    let square = (value.clone() - one.clone()).square().sum_dim(2).sum_dim(1); // [n, 1, 1]
    let start = (square * 0.25 + 1.0).recip();
    let mut inverse = value.clone().swap_dims(1, 2) * start;
    for _ in 0..NEWTON_STEPS {
        inverse = newton(&value, inverse);
    }
    newton(&a, inverse) * 2.0 - one // (I − Q) = 2I − A
}

/// `M·(2I − A·M)`.
fn newton(a: &Tensor<3>, inverse: Tensor<3>) -> Tensor<3> {
    inverse.clone() * 2.0 - inverse.clone().matmul(a.clone().matmul(inverse))
}

/// `[rows, seq, heads·d_head]` to `[rows, heads, seq, d_head]`.
fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [rows, seq, d] = x.dims();
    x.reshape([rows, seq, heads, d / heads]).swap_dims(1, 2)
}

/// See [`attention`](super::attention).
pub fn attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    bias: Tensor<4>,
    heads: usize,
    scale: f64,
    drop: Option<&Dropout>,
) -> Tensor<3> {
    let [rows, seq, d] = q.dims();
    // The scale goes on the smaller operand.
    let (q, k, v) = (split_heads(q * scale, heads), split_heads(k, heads), split_heads(v, heads));
    let mut weights = activation::softmax(q.matmul(k.swap_dims(2, 3)) + bias, 3); // [rows, heads, seq, seq]
    if let Some(drop) = drop {
        let flat = weights.swap_dims(1, 2).reshape([rows, seq * heads, seq]);
        weights = dropout(flat, drop).reshape([rows, seq, heads, seq]).swap_dims(1, 2);
    }
    weights.matmul(v).swap_dims(1, 2).reshape([rows, seq, d])
}

/// See [`varlen_attention`](super::varlen_attention): sequences are padded to the longest one. Their starts are read on the host.
pub fn varlen_attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    starts: &Tensor<1, Int>,
    heads: usize,
    scale: f64,
) -> Tensor<3> {
    let ([lines, n, d], dtype, device) = (q.dims(), q.dtype(), q.device().without_autodiff());
    let starts = super::read_ints(starts);
    let filled: Vec<[i64; 2]> =
        starts.windows(2).map(|ends| [ends[0], ends[1]]).filter(|[from, to]| from < to).collect();
    let (rows, seq) = (filled.len(), filled.iter().map(|[from, to]| to - from).max().unwrap_or(0));
    let ints = |values: Vec<i64>| {
        let count = values.len();
        Tensor::<1, Int>::from_data(TensorData::new(values, [count]), &device)
    };
    // A row of padding repeats its last token, which nobody sees.
    let cells = || filled.iter().flat_map(|[from, to]| (0..seq).map(move |p| (from + p, *to)));
    let spread = ints(cells().map(|(at, end)| at.min(end - 1)).collect());
    let closed: Vec<f64> = cells().map(|(at, end)| if at < end { 0.0 } else { -1e9 }).collect();
    let bias = TensorData::new(closed, [rows, 1, 1, seq as usize]).convert_dtype(dtype);
    let bias = Tensor::from_data(bias, (&device, dtype));
    let padded = |x: Tensor<3>| x.reshape([lines * n, d]).select(0, spread.clone()).reshape([rows, seq as usize, d]);
    let y = attention(padded(q), padded(k), padded(v), bias, heads, scale, None);
    let own = filled.iter().enumerate().flat_map(|(row, [from, to])| (0..to - from).map(move |p| row as i64 * seq + p));
    y.reshape([rows * seq as usize, d]).select(0, ints(own.collect())).reshape([lines, n, d])
}

/// See [`column_norms`](super::column_norms); the dense sum is formed.
pub fn column_norms(base: Tensor<2>, down: Tensor<3>, up: Tensor<3>) -> Tensor<3> {
    let base = base.cast(down.dtype()).unsqueeze::<3>();
    (base + down.matmul(up)).square().sum_dim(1).sqrt()
}

/// See [`scale_columns`](super::scale_columns).
pub fn scale_columns(x: Tensor<3>, magnitude: Tensor<3>, norm: Tensor<3>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let (empty, dtype) = (norm.clone().equal_scalar(0.0), x.dtype());
    let factor = (magnitude / norm.mask_fill(empty.clone(), 1.0)).mask_fill(empty, 1.0);
    let y = x * factor.cast(dtype);
    match bias {
        Some(bias) => y + bias.cast(dtype).unsqueeze::<3>(),
        None => y,
    }
}

/// See [`adamw`](super::adamw).
#[expect(clippy::needless_pass_by_value, reason = "the kernel's signature")]
pub fn adamw(
    flat: Flat,
    gradient: Tensor<2>,
    segment: Tensor<1, Int>,
    coefficients: Tensor<3>,
    clip: Tensor<1>,
    adam: Adam,
) -> Flat {
    let ([runs, n], [_, segments, _]) = (gradient.dims(), coefficients.dims());
    let column = |index: usize| -> Tensor<2> {
        let of_segment = coefficients.clone().slice([0..runs, 0..segments, index..index + 1]).reshape([runs, segments]);
        of_segment.select(1, segment.clone()) // [runs, n]
    };
    let clip = clip.reshape([runs, 1]).expand([runs, n]);
    // A comparison with a number that is not one is false.
    let usable = clip.clone().greater_equal_elem(0.0).bool_and(clip.clone().lower_elem(f64::from(f32::MAX)));
    let updated = column(3).greater_elem(0.5).bool_and(usable);
    let gradient = gradient * clip;
    let first = flat.first.clone() * adam.beta1 + gradient.clone() * (1.0 - adam.beta1);
    let second = flat.second.clone() * adam.beta2 + gradient.square() * (1.0 - adam.beta2);
    let denominator = second.clone().sqrt() * column(1) + adam.epsilon;
    let value = flat.value.clone() * column(2) - column(0) * first.clone() / denominator;
    Flat {
        value: flat.value.mask_where(updated.clone(), value),
        first: flat.first.mask_where(updated.clone(), first),
        second: flat.second.mask_where(updated, second),
    }
}
