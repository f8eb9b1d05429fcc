//! LibTorch's kernels against the composed operations on the same device, forward and backward.
//!
//! `LORA_LAB_TEST_DEVICE` is `tch:cpu`, the default, or a GPU such as `tch:cuda:0`.
#![cfg(feature = "tch")]
#![expect(deprecated, reason = "Burn plans to drop LibTorch")]

use std::sync::RwLock;

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use kernels::{
    bits,
    libtorch::{self, Graph},
    ops::{self, Adam, Dropout, Flat, SharedInputGrad, composed},
};

/// The GPU's number, if the tests run on one.
fn gpu() -> Option<usize> {
    let name = std::env::var("LORA_LAB_TEST_DEVICE").unwrap_or_else(|_| "tch:cpu".into());
    if let Some(index) = name.strip_prefix("tch:cuda:") {
        return Some(index.parse().expect("a GPU is a number"));
    }
    assert_eq!(name, "tch:cpu", "the device is tch:cpu or tch:cuda:<n>");
    None
}

fn device() -> Device {
    gpu().map_or_else(Device::libtorch, Device::libtorch_cuda)
}

/// Evenly spread values in `[-1, 1)`, the same for a name everywhere.
fn values(name: &str, count: usize) -> Vec<f32> {
    let key = bits::site(name);
    (0..count).map(|index| (bits::word(key, index as u64) >> 40) as f32 / 8_388_608.0 - 1.0).collect()
}

fn tensor<const D: usize>(name: &str, shape: [usize; D], dtype: DType) -> Tensor<D> {
    let data = TensorData::new(values(name, shape.iter().product()), shape).convert_dtype(dtype);
    Tensor::from_data(data, (&device(), dtype))
}

fn tracked<const D: usize>(name: &str, shape: [usize; D], dtype: DType) -> Tensor<D> {
    tensor(name, shape, dtype).autodiff().require_grad()
}

fn read<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    let data = x.clone().without_autodiff().into_data().convert::<f64>();
    data.try_to_vec().expect("f64 data reads as f64")
}

/// The largest difference against the largest expected value. What cancels to nothing (a gradient over a single key) keeps the rounding of
/// values about 1, and is held against a hundredth of those.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-2, |largest: f64, value| largest.max(value.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    worst.fold(0.0, |worst: f64, d| if d.is_nan() { f64::INFINITY } else { worst.max(d) }) / scale
}

/// f32 sums in another order; bf16 holds 8 bits, and the composed form rounds after every one of a dozen operations.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 1e-5,
        _ => 4e-2,
    }
}

const DTYPES: [DType; 3] = [DType::F32, DType::F64, DType::BF16];

#[track_caller]
fn close(what: &str, dtype: DType, found: &[f64], expected: &[f64]) {
    let distance = distance(found, expected);
    assert!(distance <= tolerance(dtype), "{what}, {dtype:?}: {distance:e}");
}

/// How exact products are is a setting of the whole process: held shared by what measures, and alone by what changes it.
static PRECISION: RwLock<()> = RwLock::new(());

/// Outputs and gradients of two forms of one operation, under a gradient that differs from place to place.
#[track_caller]
fn same<const N: usize>(
    what: &str,
    dtype: DType,
    inputs: [Tensor<3>; N],
    fused: impl Fn([Tensor<3>; N]) -> Tensor<3>,
    composed: impl Fn([Tensor<3>; N]) -> Tensor<3>,
) {
    let _exact = PRECISION.read();
    let run = |form: &dyn Fn([Tensor<3>; N]) -> Tensor<3>| {
        let inputs = inputs.clone().map(|x| x.without_autodiff().autodiff().require_grad());
        let y = form(inputs.clone());
        let weights = tensor("weights", y.dims(), dtype).autodiff();
        let mut gradients = (y.clone() * weights).sum().backward();
        let of_inputs = inputs.map(|x| read(&x.grad_remove(&mut gradients).expect("a gradient")));
        (read(&y), of_inputs)
    };
    let (y, gradients) = run(&fused);
    let (expected, expected_gradients) = run(&composed);
    close(&format!("{what}, output"), dtype, &y, &expected);
    for (index, (found, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
        close(&format!("{what}, gradient {index}"), dtype, found, expected);
    }
    // Without autodiff the same.
    let plain = fused(inputs.map(Tensor::without_autodiff));
    close(&format!("{what}, plain"), dtype, &read(&plain), &expected);
}

fn drop_of(p: f64) -> Dropout {
    let keys = ops::keys(&[bits::run_key(1, 2, 0), bits::run_key(7, 2, 0)], &device());
    Dropout { keys, site: bits::site("here"), p }
}

#[test]
fn dropout_is_the_composed_one() {
    for dtype in DTYPES {
        for features in [1, 7, 8, 64, 130, 768] {
            let x = tracked("x", [4, 3, features], dtype);
            let what = format!("dropout of {features}");
            let drop = drop_of(0.3);
            same(&what, dtype, [x], |[x]| ops::dropout(x, Some(drop.clone())), |[x]| composed::dropout(x, &drop));
        }
    }
}

#[test]
fn dropped_places_are_exact_and_nothing_else_is_written() {
    let (x, drop) = (tensor("x", [4, 3, 130], DType::F32), drop_of(0.5));
    let view = x.clone().slice([0..4, 0..3, 1..130]); // starts anywhere, and shares its memory with x
    let before = read(&x);
    let (found, expected) = (ops::dropout(view.clone(), Some(drop.clone())), composed::dropout(view, &drop));
    assert_eq!(read(&found), read(&expected));
    assert_eq!(read(&x), before);
}

#[test]
fn norms_are_the_composed_ones() {
    for dtype in DTYPES {
        for d in [6, 64, 100, 128, 384, 768, 1030, 2048, 4100] {
            let [gamma, beta] = ["gamma", "beta"].map(|name| tensor(name, [d], dtype));
            let norm = |fused: bool, x: Tensor<3>, residual: Option<Tensor<3>>, drop: Option<&Dropout>| {
                let (gamma, beta) = (gamma.clone(), beta.clone());
                if fused {
                    let input_grad = SharedInputGrad::default();
                    let residual = residual.map(|residual| (residual, &input_grad));
                    ops::add_norm(x, residual, gamma, beta, 1e-5, drop.cloned())
                } else {
                    composed::add_norm(x, residual, gamma, beta, 1e-5, drop)
                }
            };
            let (x, residual) = (tracked("x", [4, 3, d], dtype), tracked("residual", [4, 3, d], dtype));
            for drop in [None, Some(drop_of(0.2))] {
                let drop = drop.as_ref();
                let what = format!("norm of {d}, dropout {}", drop.is_some());
                same(&what, dtype, [x.clone()], |[x]| norm(true, x, None, drop), |[x]| norm(false, x, None, drop));
                same(
                    &format!("{what}, residual"),
                    dtype,
                    [x.clone(), residual.clone()],
                    |[x, residual]| norm(true, x, Some(residual), drop),
                    |[x, residual]| norm(false, x, Some(residual), drop),
                );
            }
        }
    }
}

#[test]
fn a_norm_takes_wide_parameters() {
    let x = tensor("x", [4, 3, 96], DType::BF16);
    let [gamma, beta] = ["gamma", "beta"].map(|name| tensor(name, [96], DType::F32));
    let found = ops::add_norm(x.clone(), None, gamma.clone(), beta.clone(), 1e-5, None);
    let expected = composed::add_norm(x.cast(FloatDType::F32), None, gamma, beta, 1e-5, None);
    close("norm", DType::BF16, &read(&found), &read(&expected));
    assert_eq!(found.dtype(), DType::BF16);
}

#[test]
fn gelu_is_the_composed_one() {
    for dtype in DTYPES {
        let x = tracked("x", [4, 3, 65], dtype) * 3.0;
        same("gelu", dtype, [x], |[x]| ops::gelu(x), |[x]| composed::gelu(x));
    }
}

#[test]
fn cayley_is_the_composed_one() {
    let skew = |x: Tensor<3>| x.clone() - x.swap_dims(1, 2);
    // Inverses by two ways differ by their rounding, which a half has too much of.
    for dtype in [DType::F64, DType::F32] {
        for b in [1, 4, 8, 33, 64, 65] {
            let x = tracked("x", [6, b, b], dtype) * 0.3;
            same("cayley", dtype, [x], |[x]| ops::cayley(skew(x)), |[x]| composed::cayley(skew(x)));
        }
    }
}

/// 0 where a key may be seen, from the left or up to the query.
fn mask(rows: usize, seq: usize, causal: bool, dtype: DType) -> Tensor<4> {
    let queries = if causal { seq } else { 1 };
    let mut values = Vec::new();
    for row in 0..rows {
        for query in 0..queries {
            values.extend((0..seq).map(|key| {
                let seen = key < seq - row % seq.min(3) && (!causal || key <= query);
                if seen { 0.0 } else { -1e9_f32 }
            }));
        }
    }
    let data = TensorData::new(values, [rows, 1, queries, seq]).convert_dtype(dtype);
    Tensor::from_data(data, (&device(), dtype))
}

#[test]
fn attention_is_the_composed_one() {
    for dtype in DTYPES {
        for (seq, heads, d_head) in
            [(1, 2, 8), (5, 3, 6), (16, 1, 16), (64, 2, 32), (72, 2, 8), (130, 2, 16), (1030, 1, 8)]
        {
            let shape = [4, seq, heads * d_head];
            let inputs = ["q", "k", "v"].map(|name| tracked(name, shape, dtype));
            let scale = 1.0 / (d_head as f64).sqrt();
            for causal in [false, true] {
                for drop in [None, Some(drop_of(0.1))] {
                    let bias = mask(4, seq, causal, dtype);
                    let what = format!("attention over {seq} of {d_head}, causal {causal}, dropout {}", drop.is_some());
                    same(
                        &what,
                        dtype,
                        inputs.clone(),
                        |[q, k, v]| ops::attention(q, k, v, bias.clone(), heads, scale, drop.clone()),
                        |[q, k, v]| composed::attention(q, k, v, bias.clone(), heads, scale, drop.as_ref()),
                    );
                }
            }
        }
    }
}

#[test]
fn attention_takes_a_mask_in_f32_and_slices_of_one_product() {
    let dtype = DType::BF16;
    let whole = tracked("qkv", [4, 32, 3 * 64], dtype);
    let slices = |x: Tensor<3>| [0, 64, 128].map(|start| x.clone().slice([0..4, 0..32, start..start + 64]));
    for drop in [None, Some(drop_of(0.1))] {
        same(
            &format!("attention of slices, dropout {}", drop.is_some()),
            dtype,
            [whole.clone()],
            |[x]| {
                let [q, k, v] = slices(x);
                ops::attention(q, k, v, mask(4, 32, false, DType::F32), 2, 0.2, drop.clone())
            },
            |[x]| {
                let [q, k, v] = slices(x);
                composed::attention(q, k, v, mask(4, 32, false, dtype), 2, 0.2, drop.as_ref())
            },
        );
    }
}

#[test]
fn packed_sequences_are_the_composed_ones() {
    // On a GPU the kernel is for bf16; elsewhere both forms are one, which shows that it is not asked for there.
    for (lines, n, d_head) in [(1, 300, 64), (2, 160, 32), (3, 128, 8)] {
        let dtype = DType::BF16;
        let heads = 4;
        // Of every length up to the longest, empty ones among them.
        let (mut starts, mut at, mut next) = (vec![0], 0, 128);
        while at < lines * n {
            at = (at + next).min(lines * n);
            starts.push(at as i64);
            next = [17, 0, 1, 128, 33, 90][starts.len() % 6];
        }
        let places = TensorData::new(starts.clone(), [starts.len()]);
        let places = Tensor::<1, Int>::from_data(places, (&device(), DType::I64));
        let x = ["q", "k", "v"].map(|name| tracked(name, [lines, n, heads * d_head], dtype));
        assert_eq!(ops::supports_varlen(&device(), dtype, d_head, 128), gpu().is_some());
        assert!(
            !ops::supports_varlen(&device(), dtype, d_head, 129)
                && !ops::supports_varlen(&device(), DType::F32, d_head, 1)
        );
        same(
            &format!("{lines} lines of {n}, heads of {d_head}"),
            dtype,
            x,
            |[q, k, v]| ops::varlen_attention(q, k, v, places.clone(), 128, heads, 0.3),
            |[q, k, v]| composed::varlen_attention(q, k, v, &places, heads, 0.3),
        );
    }
}

/// Columns of every third place at 0.
fn hollow(x: Tensor<3>) -> Tensor<3> {
    let [_, _, m] = x.dims();
    let kept: Vec<f32> = (0..m).map(|column| if column % 3 == 1 { 0.0 } else { 1.0 }).collect();
    let kept = TensorData::new(kept, [1, 1, m]).convert_dtype(x.dtype());
    let kept = Tensor::<3>::from_data(kept, (&device(), x.dtype()));
    x * kept
}

/// The precision that factors and norms of columns in `dtype` have.
fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { dtype } else { DType::F32 }
}

#[test]
fn column_norms_are_those_of_the_dense_sum() {
    for dtype in DTYPES {
        for (runs, d, k, m) in [(1, 24, 3, 10), (3, 70, 9, 33), (2, 768, 8, 768), (1, 64, 300, 40)] {
            let base = hollow(tensor("base", [1, d, m], dtype));
            let (down, up) =
                (tensor("down", [runs, d, k], wide(dtype)), hollow(tensor("up", [runs, k, m], wide(dtype))));
            let squares = base.clone().cast(wide(dtype)).square().sum_dim(1);
            let base: Tensor<2> = base.reshape([d, m]);
            // A view whose rows are not neighbours in memory.
            let turned = base.clone().swap_dims(0, 1).mul_scalar(1.0).swap_dims(0, 1);
            let expected = read(&composed::column_norms(base.clone(), down.clone(), up.clone()));
            for base in [base, turned] {
                let found = ops::column_norms(base, squares.clone(), down.clone(), up.clone());
                assert_eq!(found.dtype(), wide(dtype));
                close(&format!("{runs} runs of {d}x{k}x{m}"), wide(dtype), &read(&found), &expected);
                assert_eq!(read(&found)[1], 0.0, "an empty column has norm 0, exactly");
            }
        }
    }
}

#[test]
fn scaled_columns_are_the_composed_ones() {
    for dtype in DTYPES {
        for (runs, n, m) in [(1, 5, 7), (3, 4, 8), (2, 300, 768), (1, 70, 129)] {
            let norm = hollow(tensor("norm", [runs, 1, m], wide(dtype)).abs() + 0.1);
            for bias in [None, Some(tensor("bias", [m], dtype)), Some(tensor("bias", [m], wide(dtype)))] {
                let run = |form: &dyn Fn(Tensor<3>, Tensor<3>) -> Tensor<3>| {
                    let x = tracked("x", [runs, n, m], dtype);
                    let magnitude = tracked("magnitude", [runs, 1, m], wide(dtype));
                    let y = form(x.clone(), magnitude.clone());
                    let mut gradients = (y.clone() * tensor("weights", y.dims(), dtype).autodiff()).sum().backward();
                    let [dx, dm] = [x, magnitude].map(|x| x.grad_remove(&mut gradients).expect("a gradient"));
                    (y, dx, dm)
                };
                let found = run(&|x, magnitude| ops::scale_columns(x, magnitude, norm.clone(), bias.clone()));
                let expected = run(&|x, magnitude| composed::scale_columns(x, magnitude, norm.clone(), bias.clone()));
                let what = format!("columns of {runs}x{n}x{m}");
                close(&what, dtype, &read(&found.0), &read(&expected.0));
                close(&what, dtype, &read(&found.1), &read(&expected.1));
                assert_eq!(found.2.dtype(), wide(dtype));
                close(&what, dtype, &read(&found.2), &read(&expected.2));
            }
        }
    }
}

#[test]
fn a_product_is_added() {
    for dtype in DTYPES {
        for runs in [1, 3] {
            let (c, x) = (tracked("c", [runs, 5, 6], dtype), tracked("x", [runs, 5, 4], dtype));
            let y = tracked("y", [runs, 4, 6], dtype);
            same(
                &format!("product of {runs} runs"),
                dtype,
                [c, x, y],
                |[c, x, y]| ops::add_product(c, x, y),
                |[c, x, y]| c + x.matmul(y),
            );
        }
    }
}

#[test]
fn a_sum_goes_over_what_nobody_else_holds() {
    let (c, x, y) =
        (tensor("c", [2, 5, 6], DType::F32), tensor("x", [2, 5, 4], DType::F32), tensor("y", [2, 4, 6], DType::F32));
    let (kept, before) = (c.clone(), read(&c));
    let first = ops::add_product(c, x.clone(), y.clone());
    assert_eq!(read(&kept), before);
    assert_eq!(read(&ops::add_product(kept, x, y)), read(&first));
}

/// Runs that are updated, and those whose factor says they are not.
const CLIPS: [f32; 5] = [1.0, 0.25, -1.0, f32::NAN, f32::INFINITY];

#[test]
fn the_optimizer_is_the_composed_one() {
    for dtype in [DType::F32, DType::F64] {
        for n in [7, 64, 1000] {
            let shape = [CLIPS.len(), n];
            let flat = || Flat {
                value: tensor("value", shape, dtype),
                first: tensor("first", shape, dtype),
                second: tensor("second", shape, dtype).abs(),
            };
            let segment: Vec<i64> = (0..n as i64).map(|column| column * 3 / n as i64).collect();
            let segment = Tensor::<1, Int>::from_data(TensorData::new(segment, [n]), (&device(), DType::I64));
            // Segment 1 stands still, and its gradient is not a number.
            let mut gradient = values("gradient", CLIPS.len() * n);
            for (index, value) in gradient.iter_mut().enumerate() {
                if (index % n) as i64 * 3 / n as i64 == 1 {
                    *value = f32::NAN;
                }
            }
            let gradient = TensorData::new(gradient, shape).convert_dtype(dtype);
            let gradient = Tensor::<2>::from_data(gradient, (&device(), dtype));
            let coefficients: Vec<f32> = (0..CLIPS.len())
                .flat_map(|run| (0..3).map(move |segment| (run, segment)))
                .flat_map(|(run, segment)| [0.01 * (run + 1) as f32, 1.5, 0.99, if segment == 1 { 0.0 } else { 1.0 }])
                .collect();
            let coefficients = TensorData::new(coefficients, [CLIPS.len(), 3, 4]).convert_dtype(dtype);
            let coefficients = Tensor::<3>::from_data(coefficients, (&device(), dtype));
            let clip = TensorData::new(CLIPS.to_vec(), [CLIPS.len()]).convert_dtype(dtype);
            let clip = Tensor::<1>::from_data(clip, (&device(), dtype));
            let adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
            let arguments = || (gradient.clone(), segment.clone(), coefficients.clone(), clip.clone());
            let (g, s, co, cl) = arguments();
            let found = ops::adamw(flat(), g, s, co, cl, adam);
            let (g, s, co, cl) = arguments();
            let expected = composed::adamw(flat(), g, s, co, cl, adam);
            let start = flat();
            for (what, found, expected, start) in [
                ("value", &found.value, &expected.value, &start.value),
                ("first", &found.first, &expected.first, &start.first),
                ("second", &found.second, &expected.second, &start.second),
            ] {
                let (found, start) = (read(found), read(start));
                close(what, dtype, &found, &read(expected));
                for (index, (found, start)) in found.iter().zip(&start).enumerate() {
                    let still = index / n >= 2 || (index % n) * 3 / n == 1;
                    assert_eq!(found == start, still, "{what} {index}");
                }
            }
        }
    }
}

#[test]
fn versions_are_told_everywhere() {
    let versions = libtorch::versions().expect("no device is asked");
    assert!(versions.libtorch.starts_with("2."), "{versions:?}");
    match (gpu(), libtorch::gpus()) {
        (Some(index), gpus) => {
            let gpus = gpus.expect("a driver");
            assert!(gpus[index].memory > 1 << 30 && gpus[index].capability.0 >= 5, "{gpus:?}");
        }
        (None, Err(error)) => assert!(!error.to_string().is_empty()),
        (None, Ok(_)) => {}
    }
}

#[test]
#[ignore = "needs LORA_LAB_TEST_DEVICE=tch:cuda:<n>"]
fn memory_is_counted() {
    let index = gpu().expect("LORA_LAB_TEST_DEVICE names a card");
    let device = device();
    let held = Tensor::<1>::zeros([1 << 20], (&device, DType::F32));
    libtorch::synchronize(index).expect("a device");
    libtorch::reset_peak(index).expect("a device");
    let more = held.clone().repeat_dim(0, 4);
    std::mem::drop(more);
    let memory = libtorch::memory(index).expect("a device");
    assert!(memory.allocated >= 4 << 20 && memory.allocated_peak >= memory.allocated, "{memory:?}");
    assert!(memory.reserved_peak >= memory.allocated_peak, "{memory:?}");
    libtorch::empty_cache(index).expect("a device");
    std::mem::drop(held);
}

#[test]
fn without_a_card_there_is_no_graph() {
    assert!(gpu().is_some() || Graph::capture(0, None, || ()).is_err());
}

#[test]
#[ignore = "needs LORA_LAB_TEST_DEVICE=tch:cuda:<n>"]
fn a_graph_is_replayed_on_what_its_inputs_hold() {
    let index = gpu().expect("LORA_LAB_TEST_DEVICE names a card");
    let (x, w) = (tensor("x", [4, 3, 64], DType::F32), tensor("w", [1, 64, 32], DType::F32));
    let (gamma, beta) = (tensor("gamma", [64], DType::F32), tensor("beta", [64], DType::F32));
    let drop = drop_of(0.1);
    let work = || {
        let y = ops::add_norm(x.clone(), None, gamma.clone(), beta.clone(), 1e-5, Some(drop.clone()));
        ops::gelu(y).matmul(w.clone().expand([4, 64, 32]))
    };
    libtorch::prepare(index, None).expect("the kernels compile");
    let expected = read(&work());
    let (mut graph, y) = Graph::capture(index, None, work).expect("a capture");
    let pool = graph.pool();
    let (mut second, z) = Graph::capture(index, Some(pool), || y.clone() * 2.0).expect("a capture in the same pool");
    for _ in 0..3 {
        graph.replay().expect("a replay");
        second.replay().expect("a replay");
        close("replayed", DType::F32, &read(&y), &expected);
        let doubled: Vec<_> = read(&y).iter().map(|value| value * 2.0).collect();
        assert_eq!(read(&z), doubled);
    }

    // A panic ends the capture, and the device serves on.
    let broken = std::panic::catch_unwind(|| Graph::capture(index, None, || panic!("on purpose")));
    assert!(broken.is_err());
    close("after a broken capture", DType::F32, &read(&work()), &expected);
    let again = Graph::capture(index, None, work).expect("a capture after a broken one");
    std::mem::drop(again);
}

#[test]
fn products_are_exact_when_told() {
    let _alone = PRECISION.write();
    libtorch::matmul_precision(false, false).expect("settings");
    let (x, y) = (tensor("x", [1, 64, 512], DType::F32), tensor("y", [1, 512, 64], DType::F32));
    let wide = x.clone().cast(FloatDType::F64).matmul(y.clone().cast(FloatDType::F64));
    close("product", DType::F32, &read(&x.matmul(y)), &read(&wide));
}
