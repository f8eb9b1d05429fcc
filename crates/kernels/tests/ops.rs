//! Every operation and its gradient against the composed form and against finite differences.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use kernels::{
    bits,
    ops::{self, Adam, Dropout, Flat, InputGradAudit, LostInputGrad, SharedInputGrad, composed},
};

/// Numbers in `[-1, 1)`, the same for the same seed.
fn random<const D: usize>(seed: u64, shape: [usize; D], dtype: DType) -> Tensor<D> {
    let values: Vec<f64> = (0..shape.iter().product::<usize>())
        .map(|index| (bits::fold(seed, index as u64) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0)
        .collect();
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(dtype), (&device(), dtype))
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn read<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().convert::<f64>().try_to_vec().expect("f64 data reads as f64")
}

/// Asserts that two tensors differ by at most `tolerance` of the largest value.
fn near<const D: usize>(what: &str, got: &Tensor<D>, expected: &Tensor<D>, tolerance: f64) {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    assert_eq!(got.dtype(), expected.dtype(), "{what}");
    let (got, expected) = (read(got), read(expected));
    let scale = expected.iter().fold(1e-3, |top: f64, value| top.max(value.abs()));
    for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
        assert!(
            (got - expected).abs() <= tolerance * scale,
            "{what}: {got} instead of {expected} at {index}, largest {scale}"
        );
    }
}

/// `x·y` for every run, by the operation on some of a shared tensor's rows.
fn stacked(x: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
    let [runs, ..] = x.dims();
    ops::low_rank_down(x, [0, runs], y, &SharedInputGrad::default())
}

/// A frozen linear map of every row.
fn affine(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let [rows, ..] = x.dims();
    ops::affine(x, [0, rows], weight, bias, &SharedInputGrad::default())
}

/// What is asked of two orders of the same sums, relative to the largest value: a few hundred roundings in a row.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 3e-6,
        DType::F16 => 4e-3,
        _ => 3e-2,
    }
}

/// Which inputs are tracked.
type Tracked<const N: usize> = [bool; N];

/// An operation's value and the gradients of its tracked inputs, for a fixed gradient of the value.
fn differentiate<const N: usize>(
    inputs: &[Tensor<3>; N],
    tracked: Tracked<N>,
    op: &dyn Fn([Tensor<3>; N]) -> Tensor<3>,
) -> (Tensor<3>, [Option<Tensor<3>>; N]) {
    let leaves: [Tensor<3>; N] = std::array::from_fn(|i| {
        let leaf = inputs[i].clone().detach();
        if tracked[i] { leaf.require_grad() } else { leaf }
    });
    let y = op(leaves.clone());
    if !tracked.contains(&true) {
        return (y, [const { None }; N]);
    }
    let dy = random(99, y.dims(), y.dtype());
    let grads = (y.clone() * dy).sum().backward();
    (y.inner(), std::array::from_fn(|i| if tracked[i] { leaves[i].grad(&grads) } else { None }))
}

/// Holds an operation against its composed form.
fn agree<const N: usize>(
    what: &str,
    inputs: &[Tensor<3>; N],
    tracked: Tracked<N>,
    fused: &dyn Fn([Tensor<3>; N]) -> Tensor<3>,
    composed: &dyn Fn([Tensor<3>; N]) -> Tensor<3>,
) {
    let what = format!("{what}, {:?}, tracked {tracked:?}", inputs[0].dtype());
    let tolerance = tolerance(inputs[0].dtype());
    let (y, gradients) = differentiate(inputs, tracked, fused);
    let (expected, expected_gradients) = differentiate(inputs, tracked, composed);
    near(&what, &y, &expected, tolerance);
    for (index, (got, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
        match (got, expected) {
            (Some(got), Some(expected)) => near(&format!("{what}, gradient {index}"), got, expected, tolerance),
            (None, None) => {}
            _ => panic!("{what}: one of the forms has no gradient {index}"),
        }
    }
}

/// Holds an operation's gradients in f64 against central differences.
fn differences<const N: usize>(what: &str, inputs: &[Tensor<3>; N], op: &dyn Fn([Tensor<3>; N]) -> Tensor<3>) {
    const STEP: f64 = 1e-5;
    let (y, gradients) = differentiate(inputs, [true; N], op);
    let dy = random(99, y.dims(), y.dtype()).inner();
    for (index, gradient) in gradients.iter().enumerate() {
        let gradient = read(gradient.as_ref().expect("every input is tracked"));
        let direction = random(100 + index as u64, inputs[index].dims(), DType::F64);
        let at = |step: f64| {
            let mut moved = inputs.clone();
            moved[index] = moved[index].clone() + direction.clone() * step;
            read(&(op(moved).inner() * dy.clone()).sum())[0]
        };
        let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        let expected: f64 = gradient.iter().zip(read(&direction)).map(|(g, d)| g * d).sum();
        // The third derivatives times the step's square, and rounding over the step.
        assert!(
            (slope - expected).abs() <= 2e-8 * (1.0 + slope.abs()),
            "{what}, {index}: {expected} instead of {slope}"
        );
    }
}

/// A pass's keys and a place.
fn drop(runs: &[u64], p: f64) -> Option<Dropout> {
    let keys: Vec<u64> = runs.iter().map(|run| bits::run_key(*run, 5, 0)).collect();
    Dropout::at(Some(&ops::keys(&keys, &Device::flex())), bits::site("layer.3.output"), p)
}

/// The same values with their axes the other way round in memory.
fn turned<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let last = D - 1;
    let turned = x.swap_dims(0, last);
    let data = turned.to_data();
    Tensor::from_data(data, (&device(), turned.dtype())).swap_dims(0, last)
}

const WIDTHS: [DType; 2] = [DType::F64, DType::F32];
const EVERY_WIDTH: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

#[test]
fn dropout_is_the_mask_of_the_host() {
    for dtype in EVERY_WIDTH {
        for (rows, positions, features) in [(4, 3, 8), (2, 5, 7), (6, 1, 1), (64, 64, 33)] {
            let x = [random(1, [rows, positions, features], dtype)];
            for (runs, p) in [(vec![1], 0.1), (vec![1, 2], 0.5)] {
                let drop = drop(&runs, p);
                agree("dropout", &x, [true], &|[x]| ops::dropout(x, drop.clone()), &|[x]| {
                    composed::dropout(x, drop.as_ref().expect("p is above 0"))
                });
            }
        }
    }
}

#[test]
fn dropped_values_are_the_same_ones_whatever_is_beside_them() {
    let x = Tensor::ones([6, 5, 9], (&Device::flex(), DType::F32));
    let together = ops::dropout(x.clone(), drop(&[7, 8, 9], 0.3));
    for (run, key) in [7, 8, 9].into_iter().enumerate() {
        let rows = together.clone().slice([2 * run..2 * run + 2]);
        let alone = ops::dropout(x.clone().slice([0..2]), drop(&[key], 0.3));
        assert_eq!(read(&rows), read(&alone), "run {run}");
        let unpadded = ops::dropout(x.clone().slice([0..2, 0..3, 0..6]), drop(&[key], 0.3));
        assert_eq!(read(&rows.slice([0..2, 0..3, 0..6])), read(&unpadded), "run {run}");
    }
    let kept = read(&together).into_iter().filter(|value| *value > 0.0).collect::<Vec<_>>();
    assert!(kept.iter().all(|value| (value - 1.0 / 0.7).abs() < 1e-6));
    // 270 draws at 0.7: six standard deviations.
    assert!((kept.len() as f64 - 189.0).abs() < 45.0, "{} of 270 are kept", kept.len());
}

#[test]
fn a_norm_agrees_with_its_composed_form() {
    for dtype in WIDTHS {
        for shape in [[2, 3, 16], [4, 5, 7], [2, 1, 1], [6, 33, 130]] {
            let [rows, seq, d] = shape;
            let inputs = [random(1, shape, dtype) * 3.0 + 1.0, random(2, shape, dtype)];
            let (gamma, beta) = (random(3, [d], dtype), random(4, [d], dtype));
            // With one feature the norm is constant and its gradient what rounding leaves.
            let epsilon = if d == 1 { 1.0 } else { 1e-5 };
            for drop in [None, drop(&[1, 2], 0.2)] {
                let what = format!("norm of {rows}x{seq}x{d}, dropout {}", drop.is_some());
                for turn in [false, true] {
                    let inputs = if turn { inputs.clone().map(turned) } else { inputs.clone() };
                    for tracked in [[true, true], [true, false], [false, true], [false, false]] {
                        agree(
                            &what,
                            &inputs,
                            tracked,
                            &|[x, r]| {
                                ops::add_norm(
                                    x,
                                    Some((r, &SharedInputGrad::default())),
                                    gamma.clone(),
                                    beta.clone(),
                                    epsilon,
                                    drop.clone(),
                                )
                            },
                            &|[x, r]| {
                                composed::add_norm(x, Some(r), gamma.clone(), beta.clone(), epsilon, drop.as_ref())
                            },
                        );
                    }
                    agree(
                        &what,
                        &[inputs[0].clone()],
                        [true],
                        &|[x]| ops::add_norm(x, None, gamma.clone(), beta.clone(), epsilon, drop.clone()),
                        &|[x]| composed::add_norm(x, None, gamma.clone(), beta.clone(), epsilon, drop.as_ref()),
                    );
                }
            }
        }
    }
}

#[test]
fn a_norm_leaves_its_operands_as_they_were() {
    let (x, r) = (random(1, [2, 3, 8], DType::F32).inner(), random(2, [2, 3, 8], DType::F32).inner());
    let (before, gamma) = (read(&x), Tensor::ones([8], (&Device::flex(), DType::F32)));
    let y = ops::add_norm(
        x.clone(),
        Some((r, &SharedInputGrad::default())),
        gamma.clone(),
        gamma.clone(),
        1e-5,
        drop(&[1], 0.5),
    );
    assert_eq!(read(&x), before);
    // A part of a larger tensor, whose neighbours must stay too.
    let part = x.clone().slice([1..2]);
    let _ = ops::add_norm(part, None, gamma.clone(), gamma, 1e-5, drop(&[1], 0.5));
    let _ = ops::gelu(x.clone().slice([0..1]));
    assert_eq!(read(&x), before);
    assert_eq!(y.dims(), [2, 3, 8]);
}

#[test]
fn gelu_agrees_with_its_composed_form() {
    for dtype in WIDTHS {
        for shape in [[2, 3, 16], [3, 5, 7], [1, 1, 1], [16, 33, 130]] {
            let x = random(1, shape, dtype) * 6.0;
            for x in [x.clone(), turned(x)] {
                let kept = [x.clone()];
                agree("gelu", &kept, [true], &|[x]| ops::gelu(x), &|[x]| composed::gelu(x));
                // Over a tensor that nobody else holds.
                agree("gelu in place", &[x], [false], &|[x]| ops::gelu(x * 1.0), &|[x]| composed::gelu(x));
            }
        }
    }
}

/// `[n, b, b]`, skew-symmetric.
fn skew(x: Tensor<3>) -> Tensor<3> {
    x.clone() - x.swap_dims(1, 2)
}

/// From no rotation to planes that are turned by almost 180°, one block of each size that fills a vector or does not, and one too wide for the kernel.
#[test]
fn cayley_agrees_with_its_composed_form() {
    for dtype in WIDTHS {
        for (shape, turn) in [
            ([3, 4, 4], 0.0),
            ([1, 1, 1], 1.0),
            ([5, 2, 2], 0.5),
            ([40, 8, 8], 2.0),
            ([3, 17, 17], 0.5),
            ([2, 64, 64], 0.2),
            ([2, 65, 65], 0.2),
        ] {
            let x = [random(1, shape, dtype) * turn];
            agree("cayley", &x, [true], &|[x]| ops::cayley(skew(x)), &|[x]| composed::cayley(skew(x)));
            let r = ops::cayley(skew(x[0].clone()));
            let one = Tensor::<2>::eye(shape[1], &device()).cast(dtype).unsqueeze::<3>();
            near("R·Rᵀ", &r.clone().matmul(r.swap_dims(1, 2)), &one.expand(shape), tolerance(dtype));
        }
    }
}

/// A mask that hides keys from every query.
fn padding(rows: usize, seq: usize, dtype: DType) -> Tensor<4> {
    let values: Vec<f64> = (0..rows * seq).map(|i| if i % seq > seq / 2 + i / seq % 2 { -1e4 } else { 0.0 }).collect();
    Tensor::from_data(TensorData::new(values, [rows, 1, 1, seq]).convert_dtype(dtype), (&device(), dtype))
}

/// A mask that hides what comes later, one for all rows, spread over them without a copy.
fn causal(rows: usize, seq: usize, dtype: DType) -> Tensor<4> {
    let values: Vec<f64> = (0..seq * seq).map(|i| if i % seq > i / seq { -1e4 } else { 0.0 }).collect();
    let mask = TensorData::new(values, [1, 1, seq, seq]).convert_dtype(dtype);
    Tensor::<4>::from_data(mask, (&device(), dtype)).expand([rows, 1, seq, seq])
}

#[test]
fn attention_agrees_with_its_composed_form() {
    for dtype in WIDTHS {
        for (rows, seq, heads, d_head) in [(2, 8, 2, 16), (4, 5, 3, 7), (2, 1, 1, 1), (4, 33, 2, 17), (8, 64, 4, 32)] {
            let inputs: [Tensor<3>; 3] =
                std::array::from_fn(|i| random(i as u64, [rows, seq, heads * d_head], dtype) * 2.0);
            let scale = 1.0 / (d_head as f64).sqrt();
            for drop in [None, drop(&[1, 2], 0.2)] {
                for (mask, bias) in [("padding", padding(rows, seq, dtype)), ("causal", causal(rows, seq, dtype))] {
                    let what =
                        format!("attention of {rows}x{seq}x{heads}x{d_head}, {mask}, dropout {}", drop.is_some());
                    for tracked in [[true; 3], [true, false, false], [false, false, true], [false; 3]] {
                        for turn in [false, true] {
                            let inputs = if turn { inputs.clone().map(turned) } else { inputs.clone() };
                            agree(
                                &what,
                                &inputs,
                                tracked,
                                &|[q, k, v]| ops::attention(q, k, v, bias.clone(), heads, scale, drop.clone()),
                                &|[q, k, v]| composed::attention(q, k, v, bias.clone(), heads, scale, drop.as_ref()),
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_product_is_added_as_in_its_composed_form() {
    for dtype in WIDTHS {
        for (runs, n, k, m) in [(1, 64, 8, 32), (3, 5, 2, 7), (2, 1, 1, 1), (2, 33, 19, 48), (1, 6, 300, 16)] {
            let inputs =
                [random(1, [runs, n, m], dtype), random(2, [runs, n, k], dtype), random(3, [runs, k, m], dtype)];
            for turn in [false, true] {
                let inputs = if turn { inputs.clone().map(turned) } else { inputs.clone() };
                for tracked in [
                    [true, true, true],
                    [true, true, false],
                    [true, false, true],
                    [false, true, false],
                    [true, false, false],
                    [false; 3],
                ] {
                    agree(
                        &format!("{runs} runs of {n}x{k}x{m}"),
                        &inputs,
                        tracked,
                        &|[c, x, y]| ops::add_product(c, x, y),
                        &|[c, x, y]| c + x.matmul(y),
                    );
                }
            }
        }
    }
}

#[test]
fn a_product_agrees_with_burns() {
    for dtype in WIDTHS {
        // Tiles that are whole, that end within a vector, a panel or a block of the inner dimension.
        // The last two: blocks of lines that differ in length, of several panels; a result that all cores clear.
        let wide = [(1, 37, 300, 83), (2, 130, 600, 8), (1, 37, 1100, 83), (1, 1030, 20, 64)];
        for (runs, n, k, m) in [(1, 64, 8, 128), (3, 5, 2, 7), (2, 1, 1, 1)].into_iter().chain(wide) {
            let inputs = [random(2, [runs, n, k], dtype), random(3, [runs, k, m], dtype)];
            let views = [
                inputs.clone(),
                inputs.clone().map(turned),
                inputs.clone().map(|x| x.swap_dims(1, 2)).map(|x| x.mul_scalar(1.0)).map(|x| x.swap_dims(1, 2)),
            ];
            for inputs in views {
                for tracked in [[true, true], [true, false], [false, true], [false, false]] {
                    agree(
                        &format!("{runs} runs of {n}x{k}x{m}"),
                        &inputs,
                        tracked,
                        &|[x, y]| stacked(x, y),
                        &|[x, y]| x.matmul(y),
                    );
                }
            }
        }
    }
}

#[test]
fn a_linear_map_agrees_with_burns() {
    for dtype in WIDTHS {
        for (rows, seq, d_in, d_out) in
            [(2, 32, 16, 64), (3, 5, 7, 9), (1, 1, 1, 1), (4, 33, 300, 70), (4, 33, 600, 70)]
        {
            let x = random(1, [rows, seq, d_in], dtype);
            let weight = random(2, [1, d_in, d_out], dtype);
            let bias = random(3, [1, 1, d_out], dtype);
            let inputs = [x, weight, bias];
            for turn in [false, true] {
                let inputs = if turn { inputs.clone().map(turned) } else { inputs.clone() };
                for tracked in [[true, false, false], [false; 3]] {
                    for biased in [true, false] {
                        let bias = |bias: Tensor<3>| biased.then(|| bias.reshape([-1]));
                        agree(
                            &format!("{rows}x{seq}, {d_in} to {d_out}, bias {biased}"),
                            &inputs,
                            tracked,
                            &|[x, w, b]| affine(x, w.squeeze_dim::<2>(0), bias(b)),
                            &|[x, w, b]| burn::tensor::module::linear(x, w.squeeze_dim::<2>(0), bias(b)),
                        );
                    }
                }
            }
        }
    }
}

/// A cohort's map in small: three maps of one input, whose stacks of two and one runs add their products on their own rows, and one of them
/// takes its rows for itself as well.
#[test]
fn contributions_to_a_shared_input_sum_to_its_gradient() {
    for dtype in WIDTHS {
        let (per_run, seq, d, m, k) = (2, 3, 5, 4, 2);
        let [rows, first, second] = [3, 2, 1].map(|runs| runs * per_run);
        let x = random(1, [rows, seq, d], dtype);
        let [a, b, c] = [2, 3, 4].map(|seed| random(seed, [1, d, m], dtype));
        let bias = random::<1>(5, [m], dtype);
        let (down, up) = (random(6, [2, d, k], dtype), random(7, [2, k, m], dtype));
        let (thin, wide) = (random(8, [1, d, k], dtype), random(9, [1, k, m], dtype));
        let flat = |w: &Tensor<3>| w.clone().squeeze_dim::<2>(0);
        let (weights, bias) = ([&a, &b, &c].map(flat), bias);
        let fused = |[x, down, up, thin, wide]: [Tensor<3>; 5]| {
            let input_grad = SharedInputGrad::default();
            let of = |weight: &Tensor<2>, bias| ops::affine(x.clone(), [0, rows], weight.clone(), bias, &input_grad);
            let mut q = of(&weights[0], Some(bias.clone()));
            q = ops::add_low_rank(q, 0, ops::low_rank_down(x.clone(), [0, first], down, &input_grad), up);
            let some = ops::affine(x.clone(), [first, second], weights[1].clone(), None, &input_grad);
            let v = ops::add_low_rank(
                of(&weights[2], None),
                first,
                ops::low_rank_down(x.clone(), [first, second], thin, &input_grad),
                wide,
            );
            let own = ops::rows(x.clone(), [first, second], &input_grad).sum_dim(2);
            q * v + Tensor::cat(vec![Tensor::zeros([first, seq, m], (&x.device(), dtype)), some * own], 0)
        };
        let composed = |[x, down, up, thin, wide]: [Tensor<3>; 5]| {
            let of = |weight: &Tensor<2>| burn::tensor::module::linear(x.clone(), weight.clone(), None);
            let part = |from: usize, to: usize| x.clone().slice([from..to]);
            let one = part(0, first).reshape([2, per_run * seq, d]).matmul(down).matmul(up).reshape([first, seq, m]);
            let other = part(first, rows).reshape([1, second * seq, d]).matmul(thin).matmul(wide);
            let zeros = |n: usize| Tensor::<3>::zeros([n, seq, m], (&x.device(), dtype));
            let q = of(&weights[0]) + bias.clone().reshape([1, 1, m]) + Tensor::cat(vec![one, zeros(second)], 0);
            let v = of(&weights[2]) + Tensor::cat(vec![zeros(first), other.reshape([second, seq, m])], 0);
            let some = burn::tensor::module::linear(part(first, rows), weights[1].clone(), None);
            let own = part(first, rows).sum_dim(2);
            q * v + Tensor::cat(vec![zeros(first), some * own], 0)
        };
        let inputs = [x, down, up, thin, wide];
        for tracked in [[true; 5], [true, false, true, false, true], [false, true, true, true, true]] {
            agree("a shared input", &inputs, tracked, &fused, &composed);
        }
    }
}

#[test]
fn halves_agree_with_f32() {
    for dtype in [DType::F16, DType::BF16] {
        let shape = [4, 6, 8];
        let inputs: [Tensor<3>; 3] = std::array::from_fn(|i| random(i as u64, shape, dtype));
        let widen = |x: Tensor<3>| x.cast(DType::F32);
        let (gamma, beta) = (random(4, [8], dtype), random(5, [8], dtype));
        let (wide_gamma, wide_beta) = (gamma.clone().cast(DType::F32), beta.clone().cast(DType::F32));
        agree(
            "norm",
            &[inputs[0].clone(), inputs[1].clone()],
            [true; 2],
            &|[x, r]| {
                ops::add_norm(
                    x,
                    Some((r, &SharedInputGrad::default())),
                    gamma.clone(),
                    beta.clone(),
                    1e-5,
                    drop(&[1], 0.2),
                )
            },
            &|[x, r]| {
                let (x, r) = (widen(x), Some(widen(r)));
                composed::add_norm(x, r, wide_gamma.clone(), wide_beta.clone(), 1e-5, drop(&[1], 0.2).as_ref())
                    .cast(dtype)
            },
        );
        agree("gelu", &[inputs[0].clone()], [true], &|[x]| ops::gelu(x), &|[x]| composed::gelu(widen(x)).cast(dtype));
        let starts = places(&[0, 11, 24]);
        agree(
            "sequences",
            &inputs,
            [true; 3],
            &|[q, k, v]| ops::varlen_attention(q, k, v, starts.clone(), 13, 2, 0.5),
            &|inputs| {
                let [q, k, v] = inputs.map(widen);
                composed::varlen_attention(q, k, v, &starts, 2, 0.5).cast(dtype)
            },
        );
        agree(
            "attention",
            &inputs,
            [true; 3],
            &|[q, k, v]| ops::attention(q, k, v, causal(4, 6, dtype), 2, 0.5, drop(&[1], 0.2)),
            &|[q, k, v]| {
                let (q, k, v) = (widen(q), widen(k), widen(v));
                composed::attention(q, k, v, causal(4, 6, DType::F32), 2, 0.5, drop(&[1], 0.2).as_ref()).cast(dtype)
            },
        );
    }
}

#[test]
fn gradients_are_the_slopes() {
    let [x, r, v]: [Tensor<3>; 3] = std::array::from_fn(|i| random(i as u64, [2, 5, 12], DType::F64) * 2.0);
    let (gamma, beta) = (random(7, [12], DType::F64), random(8, [12], DType::F64));
    for drop in [None, drop(&[3], 0.3)] {
        differences("norm", &[x.clone(), r.clone()], &|[x, r]| {
            ops::add_norm(x, Some((r, &SharedInputGrad::default())), gamma.clone(), beta.clone(), 1e-5, drop.clone())
        });
        differences("attention", &[x.clone(), r.clone(), v.clone()], &|[q, k, v]| {
            ops::attention(q, k, v, causal(2, 5, DType::F64), 3, 0.5, drop.clone())
        });
    }
    let starts = places(&[0, 3, 3, 10]);
    differences("sequences", &[x.clone(), r, v], &|[q, k, v]| {
        ops::varlen_attention(q, k, v, starts.clone(), 7, 3, 0.5)
    });
    differences("gelu", &[x], &|[x]| ops::gelu(x));
    differences("cayley", &[random(1, [3, 5, 5], DType::F64)], &|[x]| ops::cayley(skew(x)));
    let [c, a, b] =
        [random(1, [2, 4, 5], DType::F64), random(2, [2, 4, 3], DType::F64), random(3, [2, 3, 5], DType::F64)];
    differences("product", &[a.clone(), b.clone()], &|[x, y]| stacked(x, y));
    differences("added product", &[c, a, b], &|[c, x, y]| ops::add_product(c, x, y));
}

/// AdamW as its equations say, one value after another.
#[derive(Clone, Debug, PartialEq)]
struct Scalars {
    value: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
}

fn plain<const D: usize>(values: &[f64], shape: [usize; D], dtype: DType) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape).convert_dtype(dtype), (&Device::flex(), dtype))
}

#[test]
fn an_update_is_adams() {
    let (runs, n, segments) = (6, 1000, 4);
    let adam = Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-8 };
    // Stretches of unequal lengths, and one segment in two places.
    let segment: Vec<i64> = (0..n).map(|i| [0, 1, 2, 0, 3][(i / 7 * i / 900) % 5]).collect();
    for dtype in WIDTHS {
        let draw = |seed| read(&random(seed, [runs, n], dtype));
        let mut expected =
            Scalars { value: draw(1), first: draw(2), second: draw(3).iter().map(|v| v.abs()).collect() };
        let flat = |s: &Scalars| Flat {
            value: plain(&s.value, [runs, n], dtype),
            first: plain(&s.first, [runs, n], dtype),
            second: plain(&s.second, [runs, n], dtype),
        };
        let (mut fused, mut shared, mut composed) = (flat(&expected), flat(&expected), flat(&expected));
        for step in 1..=3 {
            let mut gradient = draw(10 + step);
            let clip = [1.0, 0.5, -1.0, f64::NAN, f64::INFINITY, 0.0];
            let mut coefficients = vec![0.0; runs * segments * 4];
            for (index, of_segment) in coefficients.chunks_exact_mut(4).enumerate() {
                let rate = 1e-2 * (1 + index % 3) as f64;
                // Segment 2 of every run and segment 0 of run 1 stand still.
                let updated = index % segments != 2 && index != segments;
                let t = step as i32;
                let root = 1.0 / (1.0 - adam.beta2.powi(t)).sqrt();
                of_segment.copy_from_slice(&[
                    rate / (1.0 - adam.beta1.powi(t)),
                    root,
                    1.0 - rate * 0.1,
                    f64::from(u8::from(updated)),
                ]);
            }
            for (index, gradient) in gradient.iter_mut().enumerate() {
                if segment[index % n] == 2 || index / n == 3 {
                    *gradient = f64::NAN;
                }
            }
            for index in 0..runs * n {
                let run = index / n;
                let [rate, root, keep, updated] =
                    std::array::from_fn(|i| coefficients[(run * segments + segment[index % n] as usize) * 4 + i]);
                if updated == 0.0 || clip[run].is_nan() || clip[run] < 0.0 || clip[run].is_infinite() {
                    continue;
                }
                let g = clip[run] * gradient[index];
                expected.first[index] = adam.beta1 * expected.first[index] + (1.0 - adam.beta1) * g;
                expected.second[index] = adam.beta2 * expected.second[index] + (1.0 - adam.beta2) * g * g;
                let denominator = root * expected.second[index].sqrt() + adam.epsilon;
                expected.value[index] = keep * expected.value[index] - rate * expected.first[index] / denominator;
            }
            let update = |flat, update: fn(_, _, _, _, _, _) -> Flat| {
                let segment: Tensor<1, Int> =
                    Tensor::from_data(TensorData::new(segment.clone(), [n]), (&Device::flex(), DType::I64));
                let gradient = plain(&gradient, [runs, n], dtype);
                let coefficients = plain(&coefficients, [runs, segments, 4], dtype);
                update(flat, gradient, segment, coefficients, plain(&clip, [runs], dtype), adam)
            };
            fused = update(fused, ops::adamw);
            // Somebody else still sees the old tensors.
            let old = shared.clone();
            let before = read(&old.value);
            shared = update(shared, ops::adamw);
            assert_eq!(read(&old.value), before);
            composed = update(composed, composed::adamw);
        }
        let wanted = flat(&expected);
        for (what, got) in [("fused", fused), ("shared", shared), ("composed", composed)] {
            near(&format!("{what} value"), &got.value, &wanted.value, tolerance(dtype));
            near(&format!("{what} first"), &got.first, &wanted.first, tolerance(dtype));
            near(&format!("{what} second"), &got.second, &wanted.second, tolerance(dtype));
        }
    }
}

#[test]
fn what_is_not_a_number_stays_in_its_row() {
    let mut values = read(&random(1, [2, 4, 8], DType::F32));
    values[5] = f64::NAN;
    let x: Tensor<3> = plain(&values, [2, 4, 8], DType::F32);
    let gamma: Tensor<1> = Tensor::ones([8], (&Device::flex(), DType::F32));
    let bias = Tensor::zeros([2, 1, 1, 4], (&Device::flex(), DType::F32));
    for (what, y, within) in [
        ("norm", ops::add_norm(x.clone(), None, gamma.clone(), gamma, 1e-5, None), 8),
        ("gelu", ops::gelu(x.clone()), 1),
        ("attention", ops::attention(x.clone(), x.clone(), x, bias, 2, 0.5, None), 32),
    ] {
        let y = read(&y);
        assert!(y[5].is_nan(), "{what} hides what is not a number");
        assert!(y[5 - 5 % within + within..].iter().all(|value| value.is_finite()), "{what} spreads it");
    }
}

/// A consumer that is left out of the loss takes the whole gradient with it, which an audit names; all of them left out is no loss.
#[test]
fn a_consumer_that_is_left_out_of_the_loss_is_found() {
    let (x, weight) = (random::<3>(1, [2, 3, 4], DType::F64), random::<2>(2, [4, 5], DType::F64));
    let audit = InputGradAudit::default();
    let consumers = || {
        let x = x.clone().autodiff().require_grad();
        let input_grad = audit.input_grad("layer.0");
        let one = ops::affine(x.clone(), [0, 2], weight.clone(), None, &input_grad);
        let other = ops::rows(x.clone(), [0, 1], &input_grad);
        (x, one, other)
    };
    let (x, one, other) = consumers();
    let gradients = (one.sum() + other.sum()).backward();
    assert!(x.grad(&gradients).is_some() && audit.check().is_ok());

    let (x, one, _left_out) = consumers();
    let gradients = one.sum().backward();
    assert!(x.grad(&gradients).is_none(), "if this gradient is there, nothing has to be found");
    let lost = audit.check().expect_err("one of two consumers took part");
    assert_eq!(lost, LostInputGrad { site: "layer.0".to_owned(), arrived: 1, registered: 2 });
    assert!(audit.check().is_ok(), "a check begins anew");

    let (x, ..) = consumers();
    let _gradients = (x * 2.0).sum().backward();
    assert!(audit.check().is_ok(), "none of them took part");
}

#[test]
fn columns_of_a_tensor_concatenate_their_gradients() {
    for dtype in WIDTHS {
        let inputs = [random(1, [2, 5, 7], dtype), random(2, [2, 3, 4], dtype), random(3, [2, 4, 4], dtype)];
        let with = |columns: &dyn Fn(Tensor<3>, [usize; 2]) -> Tensor<3>, [x, u, v]: [Tensor<3>; 3]| {
            // Used in another order than they lie.
            columns(x.clone(), [3, 4]).matmul(v) - columns(x, [0, 3]).matmul(u)
        };
        agree(
            "columns",
            &inputs,
            [true; 3],
            &|inputs| {
                let input_grad = SharedInputGrad::default();
                with(&|x, at| ops::columns(x, at, &input_grad), inputs)
            },
            &|inputs| with(&|x, [start, len]| x.slice([0..2, 0..5, start..start + len]), inputs),
        );
    }
}

/// `x` with the columns of every third place at 0.
fn hollow(x: Tensor<3>) -> Tensor<3> {
    let [_, _, m] = x.dims();
    let kept: Vec<f64> = (0..m).map(|column| if column % 3 == 1 { 0.0 } else { 1.0 }).collect();
    let kept = TensorData::new(kept, [1, 1, m]).convert_dtype(x.dtype());
    let dtype = x.dtype();
    x * Tensor::from_data(kept, (&device(), dtype))
}

#[test]
fn column_norms_are_those_of_the_dense_sum() {
    for dtype in WIDTHS {
        for (runs, d, k, m) in [(1, 24, 3, 10), (3, 7, 9, 5), (2, 130, 8, 64)] {
            let base = hollow(random(1, [1, d, m], dtype)).inner();
            let (down, up) = (random(2, [runs, d, k], dtype).inner(), hollow(random(3, [runs, k, m], dtype)).inner());
            let squares = base.clone().square().sum_dim(1);
            let base = base.reshape([d, m]);
            let found = ops::column_norms(base.clone(), squares, down.clone(), up.clone());
            let expected = composed::column_norms(base, down, up);
            near(&format!("{runs} runs of {d}x{k}x{m}"), &found, &expected, tolerance(dtype));
            assert_eq!(read(&found)[1], 0.0, "an empty column has norm 0, exactly");
        }
    }
}

#[test]
fn scaled_columns_agree_with_their_composed_form() {
    for (runs, n, m) in [(1, 5, 7), (3, 4, 8), (2, 70, 33)] {
        for dtype in WIDTHS {
            let norm = hollow(random(3, [runs, 1, m], dtype).abs() + 0.1).inner();
            let inputs = [random(1, [runs, n, m], dtype), random(2, [runs, 1, m], dtype)];
            for bias in [None, Some(random::<1>(4, [m], dtype).inner())] {
                for tracked in [[true; 2], [true, false], [false, true], [false; 2]] {
                    agree(
                        &format!("columns of {runs}x{n}x{m}"),
                        &inputs,
                        tracked,
                        &|[x, magnitude]| ops::scale_columns(x, magnitude, norm.clone(), bias.clone()),
                        &|[x, magnitude]| composed::scale_columns(x, magnitude, norm.clone(), bias.clone()),
                    );
                }
                if dtype == DType::F64 {
                    differences("columns", &inputs, &|[x, magnitude]| {
                        ops::scale_columns(x, magnitude, norm.clone(), bias.clone())
                    });
                }
            }
        }
    }
}

/// Where sequences begin, and the number of tokens.
fn places(starts: &[i64]) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(starts.to_vec(), [starts.len()]), (&Device::flex(), DType::I64))
}

/// Attention among the tokens of each sequence, one sequence after another.
fn one_by_one(inputs: [Tensor<3>; 3], starts: &[i64], heads: usize, scale: f64) -> Tensor<3> {
    let ([lines, n, d], dtype) = (inputs[0].dims(), inputs[0].dtype());
    let inputs = inputs.map(|x| x.reshape([1, lines * n, d]));
    let of = |ends: &[i64]| {
        let [q, k, v] = inputs.clone().map(|x| x.slice([0..1, ends[0] as usize..ends[1] as usize]));
        let nothing = Tensor::<4>::zeros([1, 1, 1, (ends[1] - ends[0]) as usize], (&Device::flex(), dtype));
        composed::attention(q, k, v, nothing, heads, scale, None)
    };
    let parts = starts.windows(2).filter(|ends| ends[0] < ends[1]).map(of).collect();
    Tensor::cat(parts, 1).reshape([lines, n, d])
}

#[test]
fn packed_sequences_attend_within_themselves() {
    // Lengths that do and do not fill vectors, the longest neither first nor last; few, and enough for several cores.
    let many: Vec<i64> = [17, 0, 1, 150, 16, 90, 33, 5].into_iter().cycle().take(33).collect();
    for (lengths, [lines, n], heads, d_head) in [
        (vec![3, 0, 5, 1, 5, 2], [2, 8], 2, 5),
        (vec![2], [1, 2], 1, 1),
        (many, [1, 1265], 3, 16),
        (vec![64; 8], [4, 128], 4, 32),
    ] {
        let starts: Vec<i64> = std::iter::once(0)
            .chain(lengths.iter().scan(0, |at, length| {
                *at += length;
                Some(*at)
            }))
            .collect();
        assert_eq!(starts.last(), Some(&((lines * n) as i64)));
        let (starting, longest) = (places(&starts), lengths.iter().copied().max().unwrap_or(0) as usize);
        for dtype in WIDTHS {
            assert!(ops::supports_varlen(&device(), dtype, d_head, longest));
            let shape = [lines, n, heads * d_head];
            let inputs: [Tensor<3>; 3] = std::array::from_fn(|i| random(i as u64, shape, dtype) * 2.0);
            for inputs in [inputs.clone(), inputs.map(turned)] {
                for tracked in [[true; 3], [false, true, false], [false; 3]] {
                    agree(
                        &format!("{} sequences", lengths.len()),
                        &inputs,
                        tracked,
                        &|[q, k, v]| ops::varlen_attention(q, k, v, starting.clone(), longest, heads, 0.4),
                        &|inputs| one_by_one(inputs, &starts, heads, 0.4),
                    );
                }
            }
        }
    }
}

/// What diverges in one run must not reach the others that share its batch, in whose order one core computes them.
#[test]
fn what_is_not_a_number_stays_in_its_sequence() {
    // The longest comes first: what it left in scratch memory lies behind the others' own.
    let (starts, shape) = ([0_i64, 30, 37, 40], [1, 40, 6]);
    let inputs: [Tensor<3>; 3] = std::array::from_fn(|i| random(i as u64, shape, DType::F32));
    let infected = inputs.clone().map(|x| {
        let mut values = read(&x);
        values[..30 * 6].fill(f64::NAN);
        Tensor::from_data(TensorData::new(values, shape).convert_dtype(DType::F32), (&device(), DType::F32))
    });
    let of = |inputs: &[Tensor<3>; 3]| {
        let attend = |[q, k, v]: [Tensor<3>; 3]| ops::varlen_attention(q, k, v, places(&starts), 30, 2, 0.4);
        let (y, gradients) = differentiate(inputs, [true; 3], &attend);
        gradients.into_iter().flatten().chain([y]).map(|x| read(&x)).collect::<Vec<_>>()
    };
    for (healthy, ill) in of(&inputs).iter().zip(of(&infected)) {
        assert!(ill[..30 * 6].iter().all(|value| value.is_nan()));
        assert_eq!(healthy[30 * 6..], ill[30 * 6..]);
    }
}
