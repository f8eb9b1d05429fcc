//! Identities between variants, and oracles that share no code with them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/numbers.rs"]
mod numbers;

use std::collections::BTreeSet;

use burn::{
    module::{LoraAdapter, Param as BurnParam, Reparameterization},
    tensor::{Tensor, module::linear},
};
use nalgebra::DMatrix;
use numbers::{place, random};
use sha2::{Digest, Sha256};
use variants::{
    adapted::{AdaptedLinear, Canonical},
    capability::Capability,
    combine::CombineSpec,
    delta::{Delta as _, DeltaSpec, block_rotation, butterfly_rotation, shared_random},
    gradient::GradientSpec,
    host::values,
    init::{AnyInit, Init, gaussian::Gaussian, kaiming::Kaiming},
    laws::calibrated,
    pass::{Active, Pass},
    peft::{NoPeftForm, PeftForm},
    penalty::{AnyPenalty, orthogonality::departure},
    preset, presets,
    rank::{AnyRankPolicy, RankPolicy, Seen, budget::Budget},
    role::{DecayToward, Param, Role},
    slot::{RunPlan, Slot, StackPlan, attach},
    spec::VariantSpec,
    stream::{self, Stream},
};

const D_IN: usize = 7;
const D_OUT: usize = 6;
const RANK: usize = 3;
/// f64, a few dozen operations.
const EXACT: f64 = 1e-12;

/// A map with one run of `spec` at scale `alpha`, and its named tensors at random values.
fn map(spec: &VariantSpec, alpha: f64) -> AdaptedLinear {
    let mut map = AdaptedLinear::new("map", random("w", [D_IN, D_OUT]), Some(random("bias", [D_OUT])));
    let variant = spec.check(Some(1000)).unwrap();
    let plan = StackPlan::new(variant, vec![RunPlan { init_seed: 0, alpha }], BTreeSet::from(["map".to_owned()]));
    let plan = calibrated(plan, &[("map", [D_IN, D_OUT])]);
    attach(&mut [Slot::Linear(&mut map)], &plan, &place()).unwrap();
    for mut param in map.parameters(0) {
        let dims = param.tensor.dims();
        param.tensor.set(random(param.name, dims));
    }
    map
}

/// Whether a composition fits the map.
fn fits(spec: &VariantSpec) -> bool {
    spec.delta.as_ref().is_none_or(|delta| delta.misfit(spec.rank, [D_IN, D_OUT]).is_none())
}

fn spec(name: &str) -> VariantSpec {
    (preset::find(name).unwrap().spec)(RANK)
}

fn forward(map: &AdaptedLinear) -> Vec<f64> {
    values(&map.forward(random("x", [2, 4, D_IN]), &Pass::evaluation(1)))
}

#[track_caller]
fn close(got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len());
    for (a, b) in got.iter().zip(wanted) {
        assert!((a - b).abs() <= EXACT * (1.0 + b.abs()), "{a} is not {b}");
    }
}

#[test]
fn lora_is_burns_own_reparameterisation() {
    let alpha = 6.0;
    let mut ours = map(&spec("lora"), alpha);
    let (base, bias) = ours.base();
    let mut factors = Vec::new();
    for mut param in ours.parameters(0) {
        let [_, rows, cols] = param.tensor.dims();
        factors.push(param.tensor.clone().reshape([rows, cols]).autodiff().require_grad());
        param.tensor.set(param.tensor.clone().autodiff().require_grad());
    }
    let [a, b] = <[Tensor<2>; 2]>::try_from(factors).unwrap();
    let theirs = LoraAdapter {
        a: BurnParam::from_tensor(a.clone()),
        b: BurnParam::from_tensor(b.clone()),
        scale: alpha / RANK as f64,
    };
    let x = random("x", [2, 4, D_IN]);
    let c = random("c", [2, 4, D_OUT]);
    let y = ours.forward(x.clone(), &Pass::evaluation(1));
    let z = linear(x, theirs.apply(base), bias);
    close(&values(&y.clone().without_autodiff()), &values(&z.clone().without_autodiff()));
    let (mine, their) = ((y * c.clone()).sum().backward(), (z * c).sum().backward());
    let wanted = [theirs.a.val().grad(&their).unwrap(), theirs.b.val().grad(&their).unwrap()];
    for (param, wanted) in ours.parameters(0).into_iter().zip(wanted) {
        close(&values(&param.tensor.grad(&mine).unwrap()), &values(&wanted));
    }
}

#[test]
fn rslora_at_alpha_over_root_rank_is_lora() {
    let alpha = 6.0;
    close(&forward(&map(&spec("rslora"), alpha / (RANK as f64).sqrt())), &forward(&map(&spec("lora"), alpha)));
}

#[test]
fn dora_with_the_norm_as_magnitude_is_lora() {
    let lora = map(&spec("lora"), 6.0);
    let mut dora = map(&spec("dora"), 6.0);
    let norms = values(&lora.weight(0, &Active::All).square().sum_dim(1).sqrt());
    for mut param in dora.parameters(0).into_iter().filter(|param| param.role == Role::Magnitude) {
        param.tensor.set(place().tensor(norms.clone(), [1, 1, D_OUT]));
    }
    close(&forward(&dora), &forward(&lora));
}

#[test]
fn dora_is_the_papers_formula() {
    // Eq. 5 written out on the host: m·(W0 + s·A·B)/‖W0 + s·A·B‖ per column.
    let mut dora = map(&spec("dora"), 6.0);
    let tensors: Vec<Vec<f64>> = dora.parameters(0).iter().map(|param| values(&param.tensor)).collect();
    let base = DMatrix::from_row_slice(D_IN, D_OUT, &values(&dora.base().0));
    let a = DMatrix::from_row_slice(D_IN, RANK, &tensors[0]);
    let b = DMatrix::from_row_slice(RANK, D_OUT, &tensors[1]);
    let mut sum = base + a * b * (6.0 / RANK as f64);
    for (mut column, m) in sum.column_iter_mut().zip(&tensors[2]) {
        let norm = column.norm();
        column *= m / norm;
    }
    let wanted: Vec<f64> = sum.transpose().iter().copied().collect();
    close(&values(&dora.weight(0, &Active::All)), &wanted);
}

#[test]
fn dora_survives_a_column_of_zeros() {
    let zero_column = random("w", [D_IN, D_OUT]).slice_fill([0..D_IN, 1..2], 0.0);
    let mut map = AdaptedLinear::new("map", zero_column, None);
    let plan = StackPlan::new(
        spec("dora").check(None).unwrap(),
        vec![RunPlan { init_seed: 0, alpha: 6.0 }],
        BTreeSet::from(["map".to_owned()]),
    );
    attach(&mut [Slot::Linear(&mut map)], &plan, &place()).unwrap();
    assert!(forward(&map).iter().all(|v| v.is_finite()));
    assert!(values(&map.weight(0, &Active::All)).iter().all(|v| v.is_finite()));
}

#[test]
fn vera_is_the_papers_formula() {
    // Eq. 2 written out: ΔW = Aᵀ·diag(d)·Bᵀ·diag(b), the pair redrawn from its seed.
    let mut vera = map(&spec("vera"), 1.0);
    let [a, b] = variants::delta::shared_random::pair(0, RANK, [D_IN, D_OUT]);
    let (a, b) = (DMatrix::from_row_slice(RANK, D_IN, &a), DMatrix::from_row_slice(D_OUT, RANK, &b));
    let vectors: Vec<Vec<f64>> = vera.parameters(0).iter().map(|param| values(&param.tensor)).collect();
    let d = DMatrix::from_diagonal(&nalgebra::DVector::from_vec(vectors[0].clone()));
    let scale = DMatrix::from_diagonal(&nalgebra::DVector::from_vec(vectors[1].clone()));
    let delta = a.transpose() * d * b.transpose() * scale;
    let base = DMatrix::from_row_slice(D_IN, D_OUT, &values(&vera.base().0));
    let wanted: Vec<f64> = (base + delta).transpose().iter().copied().collect();
    close(&values(&vera.weight(0, &Active::All)), &wanted);
}

#[test]
fn the_preconditioner_is_the_inverse_gram_over_s_squared() {
    let spec = spec("lora_fa_preconditioned");
    let mut map = AdaptedLinear::new("map", random("w", [D_IN, D_OUT]), None);
    let plan = StackPlan::new(
        spec.check(None).unwrap(),
        vec![RunPlan { init_seed: 4, alpha: 9.0 }],
        BTreeSet::from(["map".to_owned()]),
    );
    attach(&mut [Slot::Linear(&mut map)], &plan, &place()).unwrap();
    let a = values(&map.parameters(0)[0].tensor);
    let a = DMatrix::from_row_slice(D_IN, RANK, &a);
    let left = DMatrix::from_row_slice(RANK, RANK, &values(&map.preconditioner(0).unwrap()));
    let gram = (a.transpose() * &a + DMatrix::identity(RANK, RANK) * 1e-8) * 9.0; // s = 3
    let product: DMatrix<f64> = left * gram;
    assert!((product - DMatrix::identity(RANK, RANK)).norm() < 1e-10);
}

/// Where `AᵀA` has no inverse, it is the Moore-Penrose inverse: what rounding leaves of the missing directions is cut off, at any scale.
#[test]
fn the_preconditioner_of_dependent_directions_is_the_pseudo_inverse() {
    for scale in [1e-5, 1.0, 1e5] {
        let independent = random("a", [D_IN, RANK - 1]) * scale;
        let last = independent.clone().sum_dim(1) * 0.7;
        let a: Tensor<3> = Tensor::cat(vec![independent, last], 1).unsqueeze();
        let rule = GradientSpec::Preconditioned { ridge: 0.0 };
        let left = rule.preconditioner(&a, &[3.0], &place()).unwrap();
        let left = DMatrix::from_row_slice(RANK, RANK, &values(&left)) * 9.0;
        let a = DMatrix::from_row_slice(D_IN, RANK, &values(&a));
        let gram = a.transpose() * &a;
        let wanted = gram.clone().pseudo_inverse(1e-9 * gram.norm()).unwrap();
        // Rounding is the condition of what is left, a few hundred, times that of the numbers.
        assert!((&left - &wanted).norm() <= 1e-9 * wanted.norm(), "at {scale}: {left} is not {wanted}");
    }
    assert!(GradientSpec::Plain.preconditioner(&random("a", [1, D_IN, RANK]), &[3.0], &place()).is_none());
}

#[test]
fn a_ridge_is_pefts_unless_it_is_written_and_never_negative() {
    let read: GradientSpec = serde_yaml::from_str("kind: preconditioned").unwrap();
    assert_eq!(read, GradientSpec::Preconditioned { ridge: 1e-8 });
    for (ridge, broken) in [(0.0, 0), (1e-3, 0), (-1e-12, 1), (f64::NAN, 1), (f64::INFINITY, 1)] {
        assert_eq!(GradientSpec::Preconditioned { ridge }.check().len(), broken, "{ridge}");
    }
    assert!(GradientSpec::Plain.check().is_empty());
}

#[test]
fn a_prefix_of_every_component_is_everything() {
    let map = map(&spec("dylora"), 6.0);
    let whole = values(&map.weight(0, &Active::All));
    close(&values(&map.weight(0, &Active::Prefix(vec![RANK]))), &whole);
    close(&values(&map.weight(0, &Active::Truncated(RANK))), &whole);
}

#[test]
fn truncation_keeps_the_training_scale_and_a_prefix_takes_its_own() {
    let map = map(&spec("dylora"), 6.0);
    let base = values(&map.base().0);
    let update =
        |active| -> Vec<f64> { values(&map.weight(0, &active)).iter().zip(&base).map(|(w, b)| w - b).collect() };
    let scaled: Vec<f64> = update(Active::Truncated(1)).iter().map(|v| v * RANK as f64).collect();
    close(&update(Active::Prefix(vec![1])), &scaled);
}

/// A map `[8, 5]` with one run of `spec` at its start.
fn wide(spec: &VariantSpec) -> AdaptedLinear {
    let mut map = AdaptedLinear::new("map", random("wide", [8, 5]), Some(random("bias", [5])));
    let runs = vec![RunPlan { init_seed: 0, alpha: 1.0 }];
    let plan = StackPlan::new(spec.check(Some(1000)).unwrap(), runs, BTreeSet::from(["map".to_owned()]));
    attach(&mut [Slot::Linear(&mut map)], &plan, &place()).unwrap();
    map
}

/// `Q = (D − Dᵀ)/2` is OFT's skew-symmetric matrix where `D` has twice its numbers above the diagonal and none below.
#[test]
fn boft_with_one_factor_is_oft_by_the_exact_transform() {
    let of = |name: &str, delta| VariantSpec { delta: Some(delta), ..(preset::find(name).unwrap().spec)(4) };
    let mut oft =
        wide(&of("oft", DeltaSpec::BlockRotation(block_rotation::Spec { cayley: block_rotation::Cayley::Exact })));
    let mut boft = wide(&of("boft", DeltaSpec::ButterflyRotation(butterfly_rotation::Spec::default())));
    let upper = values(&random("upper", [1, 2, 6]));
    let places: Vec<[usize; 2]> = (0..4).flat_map(|row| (row + 1..4).map(move |column| [row, column])).collect();
    let mut full = vec![0.0; 2 * 16];
    for (at, number) in upper.iter().enumerate() {
        let [row, column] = places[at % 6];
        full[at / 6 * 16 + row * 4 + column] = 2.0 * number;
    }
    oft.parameters(0)[0].tensor.set(place().tensor(upper, [1, 2, 6]));
    boft.parameters(0)[0].tensor.set(place().tensor(full, [1, 2, 16]));
    let (oft, boft) = (oft.weight(0, &Active::All), boft.weight(0, &Active::All));
    close(&values(&boft), &values(&oft));
    // A rotation keeps the norms of the weight's columns and the angles between them.
    let gram = |w: &[f64]| {
        let w = DMatrix::from_row_slice(8, 5, w);
        (w.transpose() * w).as_slice().to_vec()
    };
    close(&gram(&values(&oft)), &gram(&values(&random("wide", [8, 5]))));
}

#[test]
fn compression_is_the_best_approximation() {
    for rank in 1..=RANK {
        let mut map = map(&spec("lora"), 6.0);
        let Some(Canonical::LowRank(factors)) = map.canonical(0, &Active::All) else {
            unreachable!("lora is additive")
        };
        let delta = DMatrix::from_row_slice(D_IN, D_OUT, &values(&factors.product()));
        let base = DMatrix::from_row_slice(D_IN, D_OUT, &values(&map.base().0));
        map.compress(0, rank);
        let smaller = DMatrix::from_row_slice(D_IN, D_OUT, &values(&map.weight(0, &Active::All))) - base;
        // Eckart and Young: the error of the best rank-b approximation is the norm of the other singular values.
        let singular = delta.clone().svd(false, false).singular_values;
        let best = singular.iter().skip(rank).map(|s| s * s).sum::<f64>().sqrt();
        assert!(((&smaller - &delta).norm() - best).abs() < 1e-10, "rank {rank}");
        assert!(smaller.rank(1e-9) <= rank);
    }
}

#[test]
fn a_smaller_rank_starts_with_the_same_components() {
    let first = |rank: usize| {
        let mut map = AdaptedLinear::new("map", random("w", [D_IN, D_OUT]), None);
        let plan = StackPlan::new(
            presets::lora::spec(rank).check(None).unwrap(),
            vec![RunPlan { init_seed: 4, alpha: 6.0 }],
            BTreeSet::from(["map".to_owned()]),
        );
        attach(&mut [Slot::Linear(&mut map)], &plan, &place()).unwrap();
        values(&map.parameters(0)[0].tensor.clone().slice([0..1, 0..D_IN, 0..2]))
    };
    close(&first(2), &first(4));
}

#[test]
fn adalora_has_the_penalty_of_the_released_code() {
    let mut map = map(&spec("adalora"), 6.0);
    let tensors: Vec<Vec<f64>> = map.parameters(0).iter().map(|param| values(&param.tensor)).collect();
    let q = DMatrix::from_row_slice(D_IN, RANK, &tensors[0]);
    let p = DMatrix::from_row_slice(RANK, D_OUT, &tensors[2]);
    let identity = DMatrix::identity(RANK, RANK);
    let wanted = [(q.transpose() * q - &identity).norm(), (&p * p.transpose() - &identity).norm()];
    close(&values(&departure(map.delta(0).unwrap().orthonormal()).unwrap()), &wanted);
}

/// `sora` with all numbers of its diagonal at 1 is LoRA with its factors; and its penalty is their mean size, over maps of unlike ranks too.
#[test]
fn sora_at_a_diagonal_of_ones_is_lora() {
    let (mut sora, mut lora) = (map(&spec("sora"), 6.0), map(&spec("lora"), 6.0));
    let factors: Vec<Tensor<3>> = sora
        .parameters(0)
        .into_iter()
        .filter_map(|mut param| {
            if param.role == Role::Lambda {
                param.tensor.set(param.tensor.ones_like());
                return None;
            }
            Some(param.tensor.clone())
        })
        .collect();
    lora.parameters(0).into_iter().zip(factors).for_each(|(mut param, value)| param.tensor.set(value));
    close(&values(&sora.weight(0, &Active::All)), &values(&lora.weight(0, &Active::All)));

    let mut small = map(&VariantSpec { rank: 1, ..spec("sora") }, 6.0);
    for (map, numbers) in [(&mut sora, vec![1.0, -2.0, 0.0]), (&mut small, vec![-5.0])] {
        let mut diagonal = map.parameters(0).into_iter().find(|param| param.role == Role::Lambda).unwrap();
        diagonal.tensor.set(place().tensor(numbers.clone(), [1, 1, numbers.len()]));
    }
    let maps = [&sora, &small].map(|map| map.penalised(0).unwrap());
    close(&values(&AnyPenalty::DiagonalL1.of(&maps).unwrap()), &[8.0 / 4.0]);
    assert!(AnyPenalty::DiagonalL1.of(&[lora.penalised(0).unwrap()]).is_none(), "LoRA has no diagonal");
}

/// A penalty on the adapters of two tasks and a third, on one map: `Σ|A_iᵀ·A|` by loops; 0 where the third's directions are orthogonal to
/// theirs; and the update is the sum of the three.
#[test]
fn o_loras_penalty_is_zero_where_directions_are_orthogonal() {
    let spec = spec("o_lora");
    let base_update = spec.base_update.after(2).unwrap();
    let mut third = map(&VariantSpec { base_update, ..spec.clone() }, 6.0);
    let of = |map: &AdaptedLinear| values(&AnyPenalty::Overlap.of(&[map.penalised(0).unwrap()]).unwrap())[0];
    let tensor = |map: &mut AdaptedLinear, name: &str| {
        let found = map.parameters(0).into_iter().find(|param| param.name == name).unwrap();
        let [_, rows, cols] = found.tensor.dims();
        DMatrix::from_row_slice(rows, cols, &values(&found.tensor))
    };
    let [a, b, p, q] = ["a", "b", "accumulated_a", "accumulated_b"].map(|name| tensor(&mut third, name));
    assert_eq!(p.ncols(), 2 * RANK);
    let sum: f64 = (0..2 * RANK)
        .flat_map(|i| (0..RANK).map(move |j| (i, j)))
        .map(|(i, j)| p.column(i).dot(&a.column(j)).abs())
        .sum();
    close(&[of(&third)], &[sum]);
    let base = third.base().0;
    let update = values(&(third.weight(0, &Active::All) - base.unsqueeze::<3>()));
    let wanted = (a * b + &p * q) * (6.0 / RANK as f64);
    close(&update, wanted.transpose().as_slice());

    let orthogonal = &DMatrix::identity(D_IN, D_IN) - &p * p.clone().pseudo_inverse(1e-12).unwrap();
    let beside = orthogonal.columns(0, RANK).into_owned();
    let mut param = third.parameters(0).into_iter().find(|param| param.name == "a").unwrap();
    param.tensor.set(place().tensor(beside.transpose().as_slice().to_vec(), [1, D_IN, RANK]));
    assert!(of(&third) < 1e-12, "{}", of(&third));
    assert!(
        AnyPenalty::Overlap.of(&[map(&spec, 6.0).penalised(0).unwrap()]).is_none(),
        "the first task has none before it"
    );
}

/// The start of an anchored map, `s·A₀·B₀` `[d_in, d_out]` and `A₀` itself, of one run at scale `alpha/RANK`.
fn anchored_start(name: &str, alpha: f64) -> (DMatrix<f64>, DMatrix<f64>) {
    let mut map = AdaptedLinear::new("map", random("w", [D_IN, D_OUT]), None);
    let variant = spec(name).check(Some(1000)).unwrap();
    let plan = StackPlan::new(variant, vec![RunPlan { init_seed: 0, alpha }], BTreeSet::from(["map".to_owned()]));
    attach(&mut [Slot::Linear(&mut map)], &plan, &place()).unwrap();
    let params = map.parameters(0);
    let factor = |name: &str, rows, cols| {
        let tensor = params.iter().find(|params| params.name == name).unwrap().tensor.clone();
        DMatrix::from_row_slice(rows, cols, &values(&tensor))
    };
    assert_eq!(factor("a", D_IN, RANK), factor("start_a", D_IN, RANK));
    assert_eq!(factor("b", RANK, D_OUT), factor("start_b", RANK, D_OUT));
    let a = factor("a", D_IN, RANK);
    (&a * factor("b", RANK, D_OUT) * (alpha / RANK as f64), a)
}

/// Meng et al., Eq. 2–4, and Wang et al., Eq. 4–6, against nalgebra's decomposition: the part taken out of the base is that of the
/// largest, or smallest, singular values at any scale, and both factors have their share of the values.
#[test]
fn pissa_and_milora_start_at_parts_of_the_base() {
    let w = DMatrix::from_row_slice(D_IN, D_OUT, &values(&random("w", [D_IN, D_OUT])));
    let svd = w.clone().svd(true, true);
    let (u, v_t, s) = (svd.u.unwrap(), svd.v_t.unwrap(), svd.singular_values);
    let part = |range: std::ops::Range<usize>| range.map(|i| u.column(i) * s[i] * v_t.row(i)).sum::<DMatrix<f64>>();
    for alpha in [2.0, 6.0, -6.0] {
        for (name, range) in [("pissa", 0..RANK), ("milora", D_OUT - RANK..D_OUT)] {
            let (start, a) = anchored_start(name, alpha);
            let wanted = part(range.clone());
            close(start.as_slice(), wanted.as_slice());
            let share: Vec<f64> =
                a.column_iter().map(|column| column.norm_squared() * (alpha / RANK as f64).abs()).collect();
            let values: Vec<f64> = range.map(|i| s[i]).collect();
            close(&share, &values);
        }
    }
}

/// Algorithm 1 of OLoRA in torch's layout: `B` `[d_out, r]` has orthonormal columns and `s·B·A` is `s` times the rows of the QR product
/// that the first columns of `Q` span.
#[test]
fn olora_starts_at_a_triangular_decomposition() {
    let w_t = DMatrix::from_row_slice(D_IN, D_OUT, &values(&random("w", [D_IN, D_OUT]))).transpose();
    let alpha = 6.0;
    let (start, _) = anchored_start("olora", alpha);
    let q = w_t.clone().qr().q().columns(0, RANK).into_owned(); // [d_out, r]
    let wanted = (&q * q.transpose() * &w_t).transpose() * (alpha / RANK as f64);
    close(start.as_slice(), wanted.as_slice());
}

/// The checksum that a saved adapter has in place of VeRA's pair: SHA-256 of the map's `A` and `B` as f32, row by row; it follows the pair's
/// seed and not the run's. Other presets that have one share frozen tensors too; the rest draw nothing that they do not save.
#[test]
fn the_checksum_is_that_of_the_shared_pair() {
    let of = |spec: &VariantSpec, seed: u64| {
        let mut map = AdaptedLinear::new("map", random("w", [D_IN, D_OUT]), None);
        let runs = vec![RunPlan { init_seed: seed, alpha: 6.0 }];
        let plan = StackPlan::new(spec.check(Some(1000)).unwrap(), runs, BTreeSet::from(["map".to_owned()]));
        let plan = calibrated(plan, &[("map", [D_IN, D_OUT])]);
        attach(&mut [Slot::Linear(&mut map)], &plan, &place()).unwrap();
        map.checksum(0)
    };
    for preset in preset::all() {
        let spec = (preset.spec)(RANK);
        let is_shared =
            spec.delta.as_ref().is_some_and(|delta| delta.roles().contains(&Role::Vector) && !delta.is_drawn());
        // Places of coefficients and of entries; the decomposed base.
        let is_shared = is_shared || ["fourierft", "shira", "svdiff"].contains(&preset.name);
        if fits(&spec) {
            assert_eq!(of(&spec, 0).is_some(), is_shared, "{}", preset.name);
        }
    }
    let seeded = |projection_seed| {
        let delta = shared_random::Spec { projection_seed, ..shared_random::Spec::default() };
        VariantSpec { delta: Some(DeltaSpec::SharedRandom(delta)), ..spec("vera") }
    };
    let [a, b] = shared_random::pair(7, RANK, [D_IN, D_OUT]); // [rank, d_in] and [d_out, rank]
    let a = DMatrix::from_row_slice(RANK, D_IN, &a);
    let b = DMatrix::from_row_slice(D_OUT, RANK, &b);
    // A column after the other is a transposed matrix row by row.
    let bytes: Vec<u8> = a.iter().chain(b.iter()).flat_map(|number| (*number as f32).to_le_bytes()).collect();
    let wanted: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(of(&seeded(7), 0), Some(wanted.clone()));
    assert_eq!(of(&seeded(7), 1), Some(wanted.clone()));
    assert_ne!(of(&seeded(8), 0), Some(wanted));
}

/// The expected change of `ΔW/s` per unit of a number that starts at 0, against its root mean square over many draws: such a number scales a
/// drawn row or column, or the product of one with another.
#[test]
fn the_norm_of_the_start_is_that_of_what_a_number_scales() {
    let (shape @ [d_in, d_out], runs) = ([48, 40], 60);
    let gaussian = VariantSpec { init: AnyInit::Gaussian(Gaussian { std: Some(0.3) }), ..spec("lora") };
    for spec in [spec("lora"), gaussian, spec("adalora")] {
        let mut map = AdaptedLinear::new("map", random("w", shape), None);
        let plans = (0..runs).map(|init_seed| RunPlan { init_seed, alpha: 6.0 }).collect();
        let plan = StackPlan::new(spec.check(Some(1000)).unwrap(), plans, BTreeSet::from(["map".to_owned()]));
        attach(&mut [Slot::Linear(&mut map)], &plan, &place()).unwrap();
        let mut squares = vec![1.0; runs as usize * RANK];
        for param in map.parameters(0).into_iter().filter(|param| ["a", "q", "p"].contains(&param.name)) {
            let axis = if param.name == "p" { 2 } else { 1 };
            let norms = values(&param.tensor.clone().square().sum_dim(axis));
            squares.iter_mut().zip(norms).for_each(|(square, norm)| *square *= norm);
        }
        let found = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
        let wanted = spec.delta.as_ref().unwrap().start_norm(&spec.init, RANK, [d_in, d_out]).unwrap();
        // The mean of 180 squared norms of 40 to 48 numbers each has a standard error of at most 2.5 %, its root half of that.
        assert!((found / wanted - 1.0).abs() < 0.05, "{found} is not {wanted}");
    }
    for name in ["pissa", "olora", "vera"] {
        let spec = spec(name);
        assert_eq!(spec.delta.as_ref().unwrap().start_norm(&spec.init, RANK, shape), None, "{name}");
    }
}

/// PEFT's class for every preset that has one there, and none for what PEFT cannot hold.
#[test]
fn peft_has_the_forms_of_its_own_methods() {
    let of = |spec: &VariantSpec| spec.peft_form().map(|form| form.peft_type());
    for preset in preset::all() {
        let wanted = match preset.name {
            "adalora" => Ok("ADALORA"),
            "vera" => Ok("VERA"),
            "full" | "bitfit" | "head_only" | "lisa" | "ln_tuning" => Err(NoPeftForm::NoAdapter),
            "loha" | "ia3" | "hra" | "oft" | "lokr" | "boft" | "c3a" | "miss" | "gralora" | "hira" | "delora"
            | "shira" | "randlora" => Ok(preset.name),
            "bone" => Ok("miss"),
            "vb_lora" => Ok("vblora"),
            _ if (preset.spec)(RANK).delta.is_some_and(|delta| delta.peft().is_none()) => {
                Err(NoPeftForm::NoCounterpart)
            }
            "dvora" => Err(NoPeftForm::NoCounterpart),
            _ => Ok("LORA"),
        };
        let wanted = wanted.map(str::to_uppercase);
        assert_eq!(of(&(preset.spec)(RANK)).map(str::to_owned), wanted, "{}", preset.name);
    }
    for (name, start) in
        [("pissa", Some("pissa")), ("olora", Some("olora")), ("milora", None), ("corda", None), ("lora_ga", None)]
    {
        assert_eq!(spec(name).peft_form(), Ok(PeftForm::DoubledLora { start }), "{name}");
    }
    for name in ["adalora", "vera"] {
        let decomposed = VariantSpec { combine: spec("dora").combine, ..spec(name) };
        assert_eq!(of(&decomposed), Err(NoPeftForm::NoCounterpart), "`use_dora` is LoRA's alone: {name}");
    }
}

/// A preset whose decay has a direction, where it may have one.
fn decaying(name: &str, toward: DecayToward) -> VariantSpec {
    let mut spec = spec(name);
    match (&mut spec.delta, &mut spec.combine) {
        (Some(DeltaSpec::SharedRandom(delta)), _) => delta.weight_decay_toward = toward,
        (Some(DeltaSpec::CovarianceInit(delta)), _) => delta.weight_decay_toward = toward,
        (Some(DeltaSpec::GradientInit(delta)), _) => delta.weight_decay_toward = toward,
        (Some(DeltaSpec::ResidualInit(delta)), _) => delta.weight_decay_toward = toward,
        (_, CombineSpec::WeightDecomposed(combine)) => combine.weight_decay_toward = toward,
        _ => {}
    }
    spec
}

/// Records of the time before a field existed have no other value of it, and their hashes stay: exactly that value is left out.
#[test]
fn what_old_records_meant_is_left_out_of_new_ones() {
    let with = |name: &str, toward| decaying(name, toward).unrecorded();
    let toward = &["weight_decay_toward"][..];
    for (name, [delta, combine]) in [
        ("lora", [&[][..], &[]]),
        ("vera", [toward, &[]]),
        ("pissa", [toward, &[]]),
        ("lora_ga", [&[], &[]]),
        ("dora", [&[], toward]),
    ] {
        assert_eq!(
            with(name, DecayToward::Zero),
            [("delta", delta), ("combine", combine), ("rank_policy", &[])],
            "{name}"
        );
        assert_eq!(
            with(name, DecayToward::Start),
            [("delta", &[][..]), ("combine", &[]), ("rank_policy", &[])],
            "{name}"
        );
    }
    assert_eq!(spec("dylora").unrecorded()[2], ("rank_policy", &[][..]));
    assert_eq!(spec("adalora").unrecorded()[2], ("rank_policy", &[][..]));
}

/// Weight decay pulls toward the first value what does not start at 0 and is to stay there, and everything else toward 0.
#[test]
fn decay_pulls_toward_the_start_where_it_is_declared() {
    let with = |name: &str, toward| {
        let spec = decaying(name, toward);
        let mut map = AdaptedLinear::new("map", random("w", [D_IN, D_OUT]), None);
        let runs = [3, 4].map(|init_seed| RunPlan { init_seed, alpha: 6.0 }).to_vec();
        let plan = StackPlan::new(spec.check(Some(1000)).unwrap(), runs, BTreeSet::from(["map".to_owned()]));
        let plan = calibrated(plan, &[("map", [D_IN, D_OUT])]);
        attach(&mut [Slot::Linear(&mut map)], &plan, &place()).unwrap();
        let mut pulled = Vec::new();
        for param in map.parameters(0) {
            if let Some(target) = param.decay_target {
                let [runs, ..] = target.dims();
                let target = if runs == 1 { target.repeat_dim(0, 2) } else { target };
                close(&values(&target), &values(&param.tensor));
                pulled.push(param.name);
            }
        }
        pulled
    };
    let none: [&str; 0] = [];
    for (name, wanted) in [
        ("lora", &[][..]),
        ("adalora", &[]),
        ("pissa", &["a", "b"]),
        ("milora", &["a", "b"]),
        ("olora", &["a", "b"]),
        ("corda", &["a", "b"]),
        ("lora_ga", &["a", "b"]),
        ("eva", &[]),
        ("dora", &["magnitude"]),
        ("vera", &["lambda_d"]),
    ] {
        assert_eq!(with(name, DecayToward::Start), wanted, "{name}");
        assert_eq!(with(name, DecayToward::Zero), none, "{name}");
    }
}

/// The axis that counts rank-one components is the one as long as the rank, in every tensor that has one: masks, pruning and slices go by it.
#[test]
fn components_are_counted_along_the_axis_of_the_rank() {
    let rank = 5; // which is the length of nothing else
    for preset in preset::all() {
        let spec = (preset.spec)(rank);
        // What never changes its rank has no components to count.
        let is_fixed =
            |delta: &DeltaSpec| delta.declaration().requires.iter().any(|of| of.needs == Capability::ConstantRank);
        if !fits(&spec) || spec.delta.as_ref().is_some_and(is_fixed) {
            continue;
        }
        let mut map = map(&spec, 6.0);
        for param in map.parameters(0) {
            let axis = param.tensor.dims().iter().skip(1).position(|length| *length == rank);
            assert_eq!(param.rank_axis, axis.map(|axis| axis + 1), "{}: `{}`", preset.name, param.name);
        }
    }
    let mut bias = random("bias", [1, 1, D_OUT]);
    let exempt = Param::undecayed("bias", Role::Head, &mut bias);
    assert_eq!((exempt.decays, exempt.rank_axis), (false, None));
    assert!(Param::ranked("a", Role::A, 2, &mut bias).decays);
}

/// Zhang et al., Eqs. 8 to 11, number by number on the host, over three steps with different smoothing of the two averages.
#[test]
fn importance_is_the_smoothed_sensitivity_times_its_spread() {
    let (beta1, beta2) = (0.6, 0.9);
    let policy = AnyRankPolicy::Budget(Budget { beta1, beta2, ..Budget::default() });
    assert_eq!(policy.averages(), ["mean", "uncertainty"]);
    let mut averages = vec![place().zeros::<2>([1, 4]), place().zeros([1, 4])];
    let (mut mean, mut spread) = ([0.0; 4], [0.0; 4]);
    for step in 0..3 {
        let of = |name: &str| random::<2>(&format!("{name}{step}"), [1, 4]);
        let (value, gradient) = (of("value"), of("gradient"));
        let now: Vec<f64> = values(&value).iter().zip(values(&gradient)).map(|(v, g)| (v * g).abs()).collect();
        for at in 0..4 {
            mean[at] = beta1 * mean[at] + (1.0 - beta1) * now[at];
            spread[at] = beta2 * spread[at] + (1.0 - beta2) * (now[at] - mean[at]).abs();
        }
        averages = policy.observe(&averages, Seen::Numbers { value: value.clone(), gradient });
        close(&values(&averages[0]), &mean);
        close(&values(&averages[1]), &spread);
        let wanted: Vec<f64> = mean.iter().zip(&spread).map(|(mean, spread)| mean * spread).collect();
        close(&values(&policy.scores(&averages, &value)), &wanted);
    }
}

/// Kopiczko et al., section 3: kaiming uniform numbers for the widest map, `d` at `d_initial` and `b` at 0. The pair that an adapter keeps is
/// the one that its seed draws.
#[test]
fn vera_starts_at_a_kaiming_pair_and_its_vectors_first_values() {
    let bound = |fan_in: f64| (6.0 / fan_in).sqrt();
    let [a, b] = shared_random::pair(5, 40, [60, 50]);
    for (numbers, bound) in [(a, bound(60.0)), (b, bound(40.0))] {
        let largest = numbers.iter().fold(0.0_f64, |most, number| most.max(number.abs()));
        // Of 2000 uniform numbers the largest is within a hundredth of the bound, but for one draw in 10⁸.
        assert!(largest <= bound && largest > 0.99 * bound, "{largest} is not {bound}");
    }
    let with = |pair, d_initial| {
        let delta = shared_random::Spec { pair, d_initial, projection_seed: 7, ..shared_random::Spec::default() };
        let spec = VariantSpec { delta: Some(DeltaSpec::SharedRandom(delta)), ..spec("vera") };
        let mut map = AdaptedLinear::new("map", random("w", [D_IN, D_OUT]), None);
        let runs = [3, 4].map(|init_seed| RunPlan { init_seed, alpha: 6.0 }).to_vec();
        let plan = StackPlan::new(spec.check(Some(1000)).unwrap(), runs, BTreeSet::from(["map".to_owned()]));
        let plan = calibrated(plan, &[("map", [D_IN, D_OUT])]);
        attach(&mut [Slot::Linear(&mut map)], &plan, &place()).unwrap();
        map
    };
    let mut maps = [shared_random::Save::Seed, shared_random::Save::Yes].map(|pair| with(pair, 0.3));
    for map in &mut maps {
        for mut param in map.parameters(0) {
            match param.name {
                "lambda_d" => assert_eq!(values(&param.tensor), [0.3; 2 * RANK]),
                "lambda_b" => {
                    assert_eq!(values(&param.tensor), [0.0; 2 * D_OUT]);
                    param.tensor.set(random("lambda_b", [2, 1, D_OUT]));
                }
                _ => assert_eq!(param.role, Role::Projection),
            }
        }
    }
    close(&values(&maps[1].weight(0, &Active::All)), &values(&maps[0].weight(0, &Active::All)));
    assert_ne!(values(&maps[0].weight(0, &Active::All))[..D_IN * D_OUT], values(&maps[0].base().0));
}

/// The drawn numbers have the spread that their distribution states, and so has what the code says of it.
#[test]
fn initialisations_have_the_spread_of_their_distributions() {
    let n = 3 * 4000;
    for (init, wanted) in [
        (AnyInit::Gaussian(Gaussian { std: Some(0.3) }), 0.3),
        (AnyInit::Gaussian(Gaussian { std: None }), 1.0 / RANK as f64),
        (AnyInit::Kaiming(Kaiming::default()), 1.0 / (3.0 * 4000.0_f64).sqrt()), // U(±1/√d_in)
        (AnyInit::Kaiming(Kaiming { gain: 6.0_f64.sqrt() }), (2.0 / 4000.0_f64).sqrt()), // torch's kaiming_uniform_
    ] {
        let rng = &mut stream::generator(1, Stream::Init, "spread");
        let drawn = init.components([4000, RANK], RANK, rng);
        assert_eq!(drawn.len(), n);
        let found = (drawn.iter().map(|v| v * v).sum::<f64>() / n as f64).sqrt();
        // Four standard errors of a standard deviation from 12000 normal numbers.
        assert!((found / wanted - 1.0).abs() < 4.0 / (2.0 * n as f64).sqrt(), "{init:?}: {found} is not {wanted}");
        assert!((init.std(4000, RANK) - wanted).abs() < 1e-15, "{init:?}");
    }
}
