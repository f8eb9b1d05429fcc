//! Identities of updates that are products or structured matrices: what each is where its structure is trivial, and its equation entry by entry.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{DType, Device, Tensor};
use nalgebra::DMatrix;
use variants::{
    adapted::AdaptedLinear,
    delta::{self, DeltaSpec},
    host::{Placement, values},
    pass::{Active, Pass},
    preset,
    slot::{RunPlan, Slot, StackPlan, attach},
    spec::VariantSpec,
    stream::{self, Stream},
};

const D_IN: usize = 8;
const D_OUT: usize = 12;
const RANK: usize = 4;
const ALPHA: f64 = 6.0;
/// f64, a few dozen operations.
const EXACT: f64 = 1e-12;

type Matrix = DMatrix<f64>;

fn place() -> Placement {
    Placement::new(&Device::flex(), DType::F64)
}

fn random<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
    let rng = &mut stream::generator(11, Stream::Data, name);
    place().tensor(stream::normal(rng, shape.iter().product(), 0.6), shape)
}

fn spec(name: &str) -> VariantSpec {
    (preset::find(name).unwrap().spec)(RANK)
}

fn with(name: &str, delta: DeltaSpec) -> VariantSpec {
    VariantSpec { delta: Some(delta), ..spec(name) }
}

/// A map `shape` with one run of `spec` at its first values.
fn fresh(spec: &VariantSpec, shape @ [_, d_out]: [usize; 2]) -> AdaptedLinear {
    let mut map = AdaptedLinear::new("map", random("w", shape), Some(random("bias", [d_out])));
    let runs = vec![RunPlan { init_seed: 3, alpha: ALPHA }];
    let plan = StackPlan::new(spec.check(Some(1000)).unwrap(), runs, BTreeSet::from(["map".to_owned()]));
    attach(&mut [Slot::Linear(&mut map)], &plan, &place()).unwrap();
    map
}

/// Puts `given` on by name, and random values on what has none.
fn put(map: &mut AdaptedLinear, given: &[(&str, Matrix)]) {
    let mut left: BTreeSet<&str> = given.iter().map(|(name, _)| *name).collect();
    for mut param in map.parameters(0) {
        let dims @ [_, rows, cols] = param.tensor.dims();
        let value = match given.iter().find(|(name, _)| *name == param.name) {
            Some((name, matrix)) => {
                assert_eq!(matrix.shape(), (rows, cols), "{name}");
                left.remove(name);
                place().tensor(row_major(matrix), dims)
            }
            None => random(param.name, dims),
        };
        param.tensor.set(value);
    }
    assert!(left.is_empty(), "no place for {left:?}");
}

fn row_major(matrix: &Matrix) -> Vec<f64> {
    matrix.transpose().iter().copied().collect()
}

/// The tensors of a map by name.
fn tensors(map: &mut AdaptedLinear) -> BTreeMap<&'static str, Matrix> {
    let of = |param: variants::role::Param<'_>| {
        let [_, rows, cols] = param.tensor.dims();
        (param.name, Matrix::from_row_slice(rows, cols, &values(&param.tensor)))
    };
    map.parameters(0).into_iter().map(of).collect()
}

fn base(map: &AdaptedLinear) -> Matrix {
    let [rows, cols] = map.shape();
    Matrix::from_row_slice(rows, cols, &values(&map.base().0))
}

/// `W' − W0`.
fn change(map: &AdaptedLinear) -> Matrix {
    let [rows, cols] = map.shape();
    Matrix::from_row_slice(rows, cols, &values(&map.weight(0, &Active::All))) - base(map)
}

fn normal(name: &str, rows: usize, cols: usize) -> Matrix {
    Matrix::from_row_slice(rows, cols, &values(&random(name, [rows, cols])))
}

#[track_caller]
fn close(got: &Matrix, wanted: &Matrix) {
    assert_eq!(got.shape(), wanted.shape());
    let (error, scale) = ((got - wanted).amax(), 1.0 + wanted.amax());
    assert!(error <= EXACT * scale, "off by {error:e} at a scale of {scale}");
}

/// LoRA's update of two factors.
fn lora(a: &Matrix, b: &Matrix) -> Matrix {
    a * b * (ALPHA / RANK as f64)
}

/// A map of `spec` with `given` and random values, of the usual shape.
fn map(spec: &VariantSpec, given: &[(&str, Matrix)]) -> AdaptedLinear {
    let mut map = fresh(spec, [D_IN, D_OUT]);
    put(&mut map, given);
    map
}

/// Entry by entry from a function.
fn entries(of: impl Fn(usize, usize) -> f64) -> Matrix {
    Matrix::from_fn(D_IN, D_OUT, of)
}

fn pair() -> [Matrix; 2] {
    [normal("a", D_IN, RANK), normal("b", RANK, D_OUT)]
}

#[test]
fn loha_with_a_second_product_of_ones_is_lora() {
    let [a, b] = pair();
    let first = |rows, cols, is_one: fn(usize, usize) -> bool| {
        Matrix::from_fn(rows, cols, |row, col| f64::from(u8::from(is_one(row, col))))
    };
    let ones = [first(D_IN, RANK, |_, col| col == 0), first(RANK, D_OUT, |row, _| row == 0)];
    let [a2, b2] = ones;
    let loha = map(&spec("loha"), &[("a1", a.clone()), ("b1", b.clone()), ("a2", a2), ("b2", b2)]);
    close(&change(&loha), &lora(&a, &b));
}

#[test]
fn loha_is_the_product_entry_by_entry_of_two_products() {
    let mut loha = map(&spec("loha"), &[]);
    let of = tensors(&mut loha);
    let wanted = (&of["a1"] * &of["b1"]).component_mul(&(&of["a2"] * &of["b2"])) * (ALPHA / RANK as f64);
    close(&change(&loha), &wanted);
    // Above the rank of either factor's product; at most its square, as a law says.
    assert_eq!(change(&loha).rank(1e-9), D_IN);
}

#[test]
fn lokr_is_the_kronecker_product_of_its_parts() {
    for (decompose_factor, decompose_both, rank) in
        [(None, false, 1), (None, false, 4), (Some(4), true, 1), (Some(2), true, 1), (Some(3), false, 2)]
    {
        let delta = delta::kronecker::Spec { decompose_factor, decompose_both };
        let lokr = VariantSpec { rank, ..with("lokr", DeltaSpec::Kronecker(delta)) };
        let mut lokr = map(&lokr, &[]);
        let of = tensors(&mut lokr);
        let part = |name: &str| match of.get(name) {
            Some(whole) => whole.clone(),
            None => &of[format!("{name}_down").as_str()] * &of[format!("{name}_up").as_str()],
        };
        close(&change(&lokr), &(part("w1").kronecker(&part("w2")) * (ALPHA / rank as f64)));
    }
}

#[test]
fn lokr_with_one_number_on_the_left_is_lora() {
    let [a, b] = pair();
    let rank = 3; // below half of 12
    let (a, b) = (a.columns(0, rank).into_owned(), b.rows(0, rank).into_owned());
    let delta = delta::kronecker::Spec { decompose_factor: Some(1), decompose_both: false };
    let lokr = VariantSpec { rank, ..with("lokr", DeltaSpec::Kronecker(delta)) };
    let one = Matrix::from_element(1, 1, 1.0);
    let lokr = map(&lokr, &[("w1", one), ("w2_down", a.clone()), ("w2_up", b.clone())]);
    close(&change(&lokr), &(a * b * (ALPHA / rank as f64)));
}

/// The factors are singular: a core of `I/s` gives the best approximation of the base, any core a matrix of their spaces.
#[test]
fn lora_xs_lives_in_the_first_singular_spaces_of_the_base() {
    let identity = Matrix::identity(RANK, RANK) * (RANK as f64 / ALPHA);
    let mut lora_xs = fresh(&spec("lora_xs"), [D_IN, D_OUT]);
    let svd = base(&lora_xs).svd(true, true);
    let (u, v) = (svd.u.unwrap(), svd.v_t.unwrap());
    let (u, v) = (u.columns(0, RANK).into_owned(), v.rows(0, RANK).into_owned());
    let best = &u * Matrix::from_diagonal(&svd.singular_values.rows(0, RANK)) * &v;
    let set = |map: &mut AdaptedLinear, core: &Matrix| {
        for mut param in map.parameters(0).into_iter().filter(|param| param.name == "core") {
            param.tensor.set(place().tensor(row_major(core), [1, RANK, RANK]));
        }
    };
    set(&mut lora_xs, &identity);
    close(&change(&lora_xs), &best);
    let core = normal("core", RANK, RANK);
    set(&mut lora_xs, &core);
    let of = tensors(&mut lora_xs);
    close(&change(&lora_xs), &(&of["a"] * &core * &of["b"] * (ALPHA / RANK as f64)));
    let inside = &u * u.transpose() * change(&lora_xs) * v.transpose() * &v;
    close(&change(&lora_xs), &inside);
    close(&(&of["b"] * of["b"].transpose()), &Matrix::identity(RANK, RANK));
}

#[test]
fn a_core_that_is_the_identity_leaves_lora() {
    let [a, b] = pair();
    let (square, ones) = (Matrix::identity(RANK, RANK), Matrix::from_element(1, RANK, 1.0));
    for (preset, name, core) in
        [("flora_core", "core", square), ("tri_lora", "lambda", ones.clone()), ("sora", "lambda", ones)]
    {
        let cored = map(&spec(preset), &[("a", a.clone()), (name, core), ("b", b.clone())]);
        close(&change(&cored), &lora(&a, &b));
    }
}

#[test]
fn tri_lora_is_adaloras_form() {
    let [a, b] = pair();
    let diagonal = normal("lambda", 1, RANK);
    let tri = map(&spec("tri_lora"), &[("a", a.clone()), ("lambda", diagonal.clone()), ("b", b.clone())]);
    let spec = VariantSpec { scaling: spec("lora").scaling, ..spec("adalora") };
    let ada = map(&spec, &[("q", a), ("lambda", diagonal), ("p", b)]);
    close(&change(&tri), &change(&ada));
}

/// One block is LoRA, first values and all.
#[test]
fn one_block_of_melora_or_gralora_is_lora() {
    let [a, b] = pair();
    let lora_first = tensors(&mut fresh(&spec("lora"), [D_IN, D_OUT]));
    for one in [
        with("melora", DeltaSpec::BlockDiagonal(delta::block_diagonal::Spec { blocks: 1 })),
        with("gralora", DeltaSpec::Granular(delta::granular::Spec { blocks: 1 })),
    ] {
        assert_eq!(tensors(&mut fresh(&one, [D_IN, D_OUT])), lora_first);
        close(&change(&map(&one, &[("a", a.clone()), ("b", b.clone())])), &lora(&a, &b));
    }
}

#[test]
fn melora_is_zero_outside_of_its_blocks_and_lora_inside() {
    let [a, b] = pair();
    for blocks in [2, 4] {
        let rank = D_IN / blocks;
        let (a, b) = (a.columns(0, rank).into_owned(), b.rows(0, rank).into_owned());
        let melora =
            VariantSpec { rank, ..with("melora", DeltaSpec::BlockDiagonal(delta::block_diagonal::Spec { blocks })) };
        let melora = map(&melora, &[("a", a.clone()), ("b", b.clone())]);
        let product = a * b * (ALPHA / rank as f64);
        let is_inside = |i: usize, j: usize| i / (D_IN / blocks) == j / (D_OUT / blocks);
        close(&change(&melora), &entries(|i, j| if is_inside(i, j) { product[(i, j)] } else { 0.0 }));
        assert_eq!(change(&melora).rank(1e-9), blocks * rank);
    }
}

#[test]
fn every_block_of_gralora_has_a_rank_of_its_own() {
    let mut gralora = map(&spec("gralora"), &[]);
    let of = tensors(&mut gralora);
    let (blocks, each) = (2, RANK / 2);
    let (rows, cols) = (D_IN / blocks, D_OUT / blocks);
    let mut wanted = Matrix::zeros(D_IN, D_OUT);
    for (i, j) in (0..blocks).flat_map(|i| (0..blocks).map(move |j| (i, j))) {
        let a = of["a"].view((i * rows, j * each), (rows, each));
        let b = of["b"].view((j * RANK + i * each, 0), (each, cols));
        let block = a * b * (ALPHA / RANK as f64);
        assert_eq!(block.rank(1e-9), each);
        wanted.view_mut((i * rows, j * cols), (rows, cols)).copy_from(&block);
    }
    close(&change(&gralora), &wanted);
    assert_eq!(change(&gralora).rank(1e-9), blocks * RANK);
}

#[test]
fn rows_of_miss_repeat_and_columns_where_asked() {
    for (rank, columns) in [(3, D_OUT), (D_IN, D_OUT), (3, 4), (1, 1)] {
        let delta = delta::shard_sharing::Spec { columns: Some(columns).filter(|columns| *columns < D_OUT) };
        let block = normal("block", rank, columns);
        let miss = VariantSpec { rank, ..with("miss", DeltaSpec::ShardSharing(delta)) };
        let miss = map(&miss, &[("block", block.clone())]);
        close(&change(&miss), &entries(|i, j| block[(i % rank, j % columns)]));
    }
}

/// Every block `W` of one column of blocks becomes `W + Bᵀ·(W + I)`.
#[test]
fn bone_maps_the_blocks_of_the_base() {
    let mut bone = map(&spec("bone"), &[]);
    let of = tensors(&mut bone);
    let base = base(&bone);
    let mut wanted = Matrix::zeros(D_IN, D_OUT);
    for (i, o) in (0..D_IN / RANK).flat_map(|i| (0..D_OUT / RANK).map(move |o| (i * RANK, o * RANK))) {
        let block = base.view((i, o), (RANK, RANK)) + Matrix::identity(RANK, RANK);
        let turned = of["block"].rows(o, RANK).transpose();
        wanted.view_mut((i, o), (RANK, RANK)).copy_from(&(turned * block));
    }
    close(&change(&bone), &wanted);
}

#[test]
fn hira_with_a_constant_factor_rescales_the_base() {
    let a = Matrix::from_element(D_IN, RANK, 0.5);
    let b = Matrix::from_element(RANK, D_OUT, 0.3);
    let hira = map(&spec("hira"), &[("a", a), ("b", b)]);
    close(&change(&hira), &(base(&hira) * 0.6)); // 4·0.5·0.3
}

/// Over a wide, a tall and a square map: the sum of products written out from the pair.
#[test]
fn randlora_is_the_weighted_sum_of_its_bases() {
    let projection_seed = 5;
    let randlora = with("randlora", DeltaSpec::RandomBases(delta::random_bases::Spec { projection_seed }));
    for (shape, rank) in [([8_usize, 12], 3_usize), ([12, 8], 3), ([8, 8], 8), ([8, 8], 5)] {
        let (least, most) = (shape[0].min(shape[1]), shape[0].max(shape[1]));
        let n = least.div_ceil(rank);
        let [a, b] = delta::random_bases::pair(projection_seed, rank, [least, most]);
        let (a, b) = (Matrix::from_row_slice(rank, least, &a), Matrix::from_row_slice(most, n * rank, &b));
        let mut found = fresh(&VariantSpec { rank, ..randlora.clone() }, shape);
        put(&mut found, &[]);
        let of = tensors(&mut found);
        let (lambda, gamma) = (&of["lambda"], &of["gamma"]);
        let short = Matrix::from_fn(least, n * rank, |side, k| {
            let (p, basis) = (k / n, k % n);
            lambda[(basis, p)] * a[(p, side)] * gamma[(side, basis)]
        });
        let sum = short * b.transpose() * (ALPHA / rank as f64); // [least, most]
        close(&change(&found), &if shape[0] <= shape[1] { sum } else { sum.transpose() });
        assert_eq!(change(&found).rank(1e-9), least, "of full rank: {shape:?} at {rank}");
    }
}

#[test]
fn nola_mixes_its_bases() {
    let delta = delta::mixed_bases::Spec { bases: 5, projection_seed: 2 };
    let mut nola = map(&with("nola", DeltaSpec::MixedBases(delta)), &[]);
    let of = tensors(&mut nola);
    let [start, a, b] = delta::mixed_bases::frozen(2, 5, RANK, [D_IN, D_OUT]);
    let mixed = |all: &[f64], width: usize, coefficients: &Matrix| -> Matrix {
        let each = all.chunks(RANK * width).map(|one| Matrix::from_row_slice(RANK, width, one));
        each.zip(coefficients.iter()).map(|(basis, c)| basis * *c).sum()
    };
    let a = Matrix::from_row_slice(RANK, D_IN, &start) + mixed(&a, D_IN, &of["alpha"]);
    close(&change(&nola), &lora(&a.transpose(), &mixed(&b, D_OUT, &of["beta"])));
    // Without coefficients the second factor is zero.
    let zero = Matrix::zeros(1, 5);
    let nola = map(&with("nola", DeltaSpec::MixedBases(delta)), &[("beta", zero)]);
    assert_eq!(change(&nola).amax(), 0.0);
}

/// With as many bases as a factor has numbers, any LoRA is a mixture of them.
#[test]
fn enough_bases_of_nola_reach_every_factor() {
    let bases = RANK * D_OUT;
    let [_, _, b] = delta::mixed_bases::frozen(0, bases, RANK, [D_IN, D_OUT]);
    let matrix = Matrix::from_row_slice(bases, RANK * D_OUT, &b).transpose();
    let wanted = normal("b", RANK, D_OUT);
    let solved = matrix.lu().solve(&Matrix::from_row_slice(RANK * D_OUT, 1, &row_major(&wanted))).unwrap();
    let delta = DeltaSpec::MixedBases(delta::mixed_bases::Spec { bases, projection_seed: 0 });
    let zero = Matrix::zeros(1, bases);
    let nola = map(&with("nola", delta), &[("alpha", zero), ("beta", solved.transpose())]);
    let [start, ..] = delta::mixed_bases::frozen(0, bases, RANK, [D_IN, D_OUT]);
    let a = Matrix::from_row_slice(RANK, D_IN, &start).transpose();
    let error = (change(&nola) - lora(&a, &wanted)).amax();
    assert!(error < 1e-9, "{error:e}"); // a random system of 48 equations loses three digits
}

#[test]
fn dvora_with_the_norm_as_magnitude_is_vera() {
    let vera = map(&spec("vera"), &[]);
    let sum = base(&vera) + change(&vera);
    let norms = Matrix::from_fn(1, D_OUT, |_, column| sum.column(column).norm());
    close(&change(&map(&spec("dvora"), &[("magnitude", norms)])), &change(&vera));
    let fresh = fresh(&spec("dvora"), [D_IN, D_OUT]);
    let x = random("x", [2, 4, D_IN]);
    let (y, bare) = (fresh.forward(x.clone(), &Pass::evaluation(1)), {
        let (weight, bias) = fresh.base();
        AdaptedLinear::new("map", weight, bias).forward(x, &Pass::of(vec![]))
    });
    for (found, wanted) in values(&y).iter().zip(values(&bare)) {
        assert!((found - wanted).abs() < EXACT, "the start is the base: {found} is not {wanted}");
    }
}

/// A base in a lower precision than what trains keeps `W0` and `ΔW` apart: a formed `ΔW` of many rows gives what few rows get without it.
#[test]
fn what_is_formed_for_many_rows_meets_a_base_of_another_precision() {
    const TIMES: usize = 4 * D_OUT;
    for name in ["boft", "loha", "randlora"] {
        let narrow = |x: Tensor<3>| x.cast(DType::F32);
        let weight = random::<2>("w", [D_IN, D_OUT]).cast(DType::F32);
        let mut map = AdaptedLinear::new("map", weight, Some(random::<1>("bias", [D_OUT]).cast(DType::F32)));
        let runs = vec![RunPlan { init_seed: 3, alpha: ALPHA }];
        let plan = StackPlan::new(spec(name).check(Some(1000)).unwrap(), runs, BTreeSet::from(["map".to_owned()]));
        attach(&mut [Slot::Linear(&mut map)], &plan, &place()).unwrap();
        put(&mut map, &[]);
        let pass = Pass::evaluation(1);
        let x = narrow(random("x", [1, 2, D_IN]));
        let few = map.forward(x.clone(), &pass).repeat_dim(1, TIMES);
        let many = map.forward(x.repeat_dim(1, TIMES), &pass);
        let error = values(&(many - few.clone()).abs().max())[0];
        let size = values(&few.abs().max())[0];
        // f32, sums of a few dozen products in another order.
        assert!(error <= 1e-5 * size, "{name}: {error} of {size}");
    }
}
