//! Each operation with its gradient, fused against composed, at the shapes of the models: medians in microseconds and their ratio.
//!
//! `cargo bench -p kernels [part of a name]`.
#![expect(clippy::print_stdout, reason = "a benchmark's output")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use burn::tensor::{DType, Device, Int, Tensor, TensorData, module::linear};
use kernels::{
    bits,
    ops::{self, Adam, Dropout, Flat, SharedInputGrad, composed},
};

/// A line `rows x seq x d`, and the heads and width of a model's layer.
struct Shape {
    name: &'static str,
    rows: usize,
    seq: usize,
    heads: usize,
    d: usize,
    ffn: usize,
}

const SHAPES: [Shape; 5] = [
    Shape { name: "miniature 32x32", rows: 32, seq: 32, heads: 4, d: 128, ffn: 512 },
    Shape { name: "miniature 32x64", rows: 32, seq: 64, heads: 4, d: 128, ffn: 512 },
    Shape { name: "MiniLM 32x64", rows: 32, seq: 64, heads: 12, d: 384, ffn: 1536 },
    Shape { name: "RoBERTa 8x128", rows: 8, seq: 128, heads: 12, d: 768, ffn: 3072 },
    Shape { name: "RoBERTa 32x128", rows: 32, seq: 128, heads: 12, d: 768, ffn: 3072 },
];

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let mut state = 1_u64;
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state = bits::fold(state, 7);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

/// Median time of several calls, after one that is not counted.
fn median(mut call: impl FnMut()) -> Duration {
    call();
    let begun = Instant::now();
    let mut times = vec![];
    while times.len() < 5 || (times.len() < 200 && begun.elapsed() < Duration::from_millis(400)) {
        let start = Instant::now();
        call();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

fn report(shape: &str, op: &str, fused: impl FnMut(), composed: impl FnMut()) {
    let name = format!("{shape:<16} {op}");
    if std::env::args().skip(1).any(|part| !part.starts_with('-') && !name.contains(&part)) {
        return;
    }
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let (fused, composed) = (micros(median(fused)), micros(median(composed)));
    println!("{name:<44} {fused:>10.0} {composed:>10.0} {:>7.1}", composed / fused);
}

/// Forward and backward from inputs that are tracked anew.
fn gradients<const N: usize>(
    inputs: [&Tensor<3>; N],
    dy: &Tensor<3>,
    op: impl Fn([Tensor<3>; N]) -> Tensor<3>,
) -> [Option<Tensor<3>>; N] {
    let tracked = inputs.map(|input| input.clone().detach().require_grad());
    // A copy, so that the operation has its operands for itself as it has behind a linear map.
    let y = op(tracked.each_ref().map(|input| input.clone() * 1.0));
    let grads = (y * dy.clone()).sum().backward();
    tracked.map(|input| input.grad(&grads))
}

fn main() {
    let plain = Device::flex();
    let device = plain.clone().autodiff();
    println!("{:<44} {:>10} {:>10} {:>7}", "", "fused µs", "composed", "ratio");
    for Shape { name, rows, seq, heads, d, ffn } in SHAPES {
        let [x, r, v, dy] = std::array::from_fn(|_| random([rows, seq, d], &device));
        let (gamma, beta) = (random([d], &device), random([d], &device));
        let keys = ops::keys(&[1], &plain);
        let drop = |p| Dropout::at(Some(&keys), bits::site("bench"), p);
        report(
            name,
            "glue alone",
            || drop_all(gradients([&x], &dy, |[x]| x)),
            || drop_all(gradients([&x], &dy, |[x]| x)),
        );
        for p in [0.0, 0.1] {
            report(
                name,
                &format!("residual norm, p {p}"),
                || {
                    drop_all(gradients([&x, &r], &dy, |[x, r]| {
                        let input_grad = SharedInputGrad::default();
                        ops::add_norm(x, Some((r, &input_grad)), gamma.clone(), beta.clone(), 1e-5, drop(p))
                    }));
                },
                || {
                    drop_all(gradients([&x, &r], &dy, |[x, r]| {
                        composed::add_norm(x, Some(r), gamma.clone(), beta.clone(), 1e-5, drop(p).as_ref())
                    }));
                },
            );
        }
        let (wide, dwide) = (random([rows, seq, ffn], &device), random([rows, seq, ffn], &device));
        report(
            name,
            "gelu",
            || drop_all(gradients([&wide], &dwide, |[x]| ops::gelu(x))),
            || drop_all(gradients([&wide], &dwide, |[x]| composed::gelu(x))),
        );
        let bias = Tensor::zeros([rows, 1, 1, seq], (&plain, DType::F32));
        let scale = 1.0 / ((d / heads) as f64).sqrt();
        for p in [0.0, 0.1] {
            report(
                name,
                &format!("attention, p {p}"),
                || {
                    drop_all(gradients([&x, &r, &v], &dy, |[q, k, v]| {
                        ops::attention(q, k, v, bias.clone(), heads, scale, drop(p))
                    }));
                },
                || {
                    drop_all(gradients([&x, &r, &v], &dy, |[q, k, v]| {
                        composed::attention(q, k, v, bias.clone(), heads, scale, drop(p).as_ref())
                    }));
                },
            );
        }
        let (c, h) = (random([1, rows * seq, d], &device), random([1, rows * seq, 8], &device));
        let (b, dc) = (random([1, 8, d], &device), random([1, rows * seq, d], &device));
        for (d_in, d_out) in [(d, d), (d, ffn), (ffn, d)] {
            let (x, dy) = (random([rows, seq, d_in], &device), random([rows, seq, d_out], &device));
            let (w, b) = (random([d_in, d_out], &device), random([d_out], &device));
            report(
                name,
                &format!("linear {d_in} to {d_out}"),
                || {
                    drop_all(gradients([&x], &dy, |[x]| {
                        let [rows, ..] = x.dims();
                        ops::affine(x, [0, rows], w.clone(), Some(b.clone()), &SharedInputGrad::default())
                    }));
                },
                || drop_all(gradients([&x], &dy, |[x]| linear(x, w.clone(), Some(b.clone())))),
            );
        }
        let a = random([1, d, 8], &device);
        let dh = random([1, rows * seq, 8], &device);
        report(
            name,
            "product of rank 8",
            || {
                drop_all(gradients([&c, &a], &dh, |[x, y]| {
                    let [runs, ..] = x.dims();
                    ops::low_rank_down(x, [0, runs], y, &SharedInputGrad::default())
                }));
            },
            || drop_all(gradients([&c, &a], &dh, |[x, y]| x.matmul(y))),
        );
        report(
            name,
            "add a product of rank 8",
            || drop_all(gradients([&c, &h, &b], &dc, |[c, x, y]| ops::add_product(c, x, y))),
            || drop_all(gradients([&c, &h, &b], &dc, |[c, x, y]| c + x.matmul(y))),
        );
    }
    update("update of 16k", 16_384, &plain);
    update("update of 1M", 1 << 20, &plain);
}

fn drop_all<const N: usize>(gradients: [Option<Tensor<3>>; N]) {
    black_box(gradients);
}

fn update(name: &str, n: usize, device: &Device) {
    let segments = 16;
    let segment: Vec<i64> = (0..n).map(|i| (i * segments / n) as i64).collect();
    let segment: Tensor<1, Int> = Tensor::from_data(TensorData::new(segment, [n]), (device, DType::I64));
    let coefficients = random([1, segments, 1], device).mul_scalar(0.0).add_scalar(1.0).repeat_dim(2, 4);
    let clip = Tensor::<1>::ones([1], (device, DType::F32));
    let adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let gradient = random([1, n], device);
    let start = || {
        Some(Flat {
            value: random([1, n], device),
            first: random([1, n], device),
            second: random([1, n], device).abs(),
        })
    };
    let (mut fused, mut plain) = (start(), start());
    let arguments = || (gradient.clone(), segment.clone(), coefficients.clone(), clip.clone());
    report(
        "",
        name,
        || {
            let (g, s, k, c) = arguments();
            fused = fused.take().map(|flat| ops::adamw(flat, g, s, k, c, adam));
        },
        || {
            let (g, s, k, c) = arguments();
            plain = plain.take().map(|flat| composed::adamw(flat, g, s, k, c, adam));
        },
    );
}
