//! Every variant against a reference, over twenty steps of the real cohort.
//!
//! The fixtures are made by `variants.py`, `products.py`, `maps.py`, `calibrated_starts.py` and `over_time.py` of `scripts/oracle`: PEFT 0.18.1
//! where it has the method, and the papers' equations in plain torch where it has not or has it in f32 alone; a preset says which
//! ([`Parity`]). AdaLoRA's allocator runs both ways. DyLoRA's rule is run under torch's AdamW, as in its authors' code, and under an
//! optimizer of the script's own for the masked state. Each run has weight decay 0.1, another rate for the head, a falling schedule and a
//! clipping norm that some of its steps exceed; adapters start away from their first values, so that no gradient is 0.
//!
//! Where a definition departs from the reference on purpose, a test pins both sides.
//!
//! | tolerance | of what | reason |
//! |---|---|---|
//! | `EXACT`, 1e-9 | the largest value of the tensor, f64 | sums in another order, thousands of operations a step; 2e-13 is reached |
//! | `FLOOR`, 1e-13 | the largest value of all tensors, f64 | what is 0 in exact arithmetic (a key's bias has no gradient) is rounding on both sides |
//! | `SINGLE`, 1e-5 | the largest logit, f32 | some hundred roundings of 6e-8; 2e-6 is reached |
//! | `MOVEMENT`, 1e-3 | `‖w20 − w0‖` of each tensor, f32 | Adam divides by √v, so the error of a small gradient is not small in its step; 2e-5 is reached |
//! | `ROUNDINGS`, 3.1·2⁻⁸ | see the one test that has it | bf16 |
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(clippy::disallowed_methods, reason = "fixtures are files")]

#[path = "parity/cases.rs"]
mod cases;
#[path = "parity/maps.rs"]
mod maps;
#[path = "parity/products.rs"]
mod products;
#[path = "parity/reference.rs"]
mod reference;

use burn::tensor::DType;
use cases::{CASES, Case, budget, vera};
use reference::{Bench, Named64, Reference, ours};
use variants::{
    delta::{DeltaSpec, shared_random},
    host::values,
    pass::Active,
    preset::{self, Parity},
    rank::AnyRankPolicy,
    role::{Role, RoleConfig},
    slot::{RunPlan, Slot, StackPlan},
    spec::VariantSpec,
};

/// torch's `clip_grad_norm_`: `min(1, limit/(norm + 1e-6))`.
fn clip_coefficient(norm: f64, limit: f64) -> f64 {
    (limit / (norm + 1e-6)).min(1.0)
}

const EXACT: f64 = 1e-9;
const FLOOR: f64 = 1e-13;
const SINGLE: f64 = 1e-5;
const MOVEMENT: f64 = 1e-3;
/// Three roundings to eight bits, and their products.
const ROUNDINGS: f64 = 3.1 / 256.0;

#[test]
fn every_preset_has_a_reference_or_says_why_not() {
    for preset in preset::all() {
        let cases = CASES.iter().filter(|case| case.preset == preset.name).count();
        match preset.parity {
            Parity::Peft | Parity::EquationsAndPeft | Parity::Equations => {
                assert!(cases > 0, "`{}` says that it is tested, but has no case", preset.name);
            }
            Parity::Untested(why) => assert!(cases == 0 && !why.is_empty(), "`{}` has a case", preset.name),
        }
    }
}

fn largest<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().fold(0.0, |most, value| value.abs().max(most))
}

/// The same tensors, each within `EXACT` of its largest value and `FLOOR` of the largest of all.
#[track_caller]
fn same(what: &str, found: &Named64, wanted: &Named64) {
    assert!(found.keys().eq(wanted.keys()), "{what}: {:?} but {:?}", found.keys(), wanted.keys());
    let floor = FLOOR * largest(wanted.values().flatten());
    for (name, wanted) in wanted {
        close(&format!("{what} of {name}"), &found[name], wanted, floor);
    }
}

#[track_caller]
fn close(what: &str, found: &[f64], wanted: &[f64], floor: f64) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let (error, scale) = (apart(found, wanted), largest(wanted));
    assert!(error <= EXACT * scale + floor, "{what}: off by {error:e} at a scale of {scale:e}");
}

/// The largest difference; NaN where there is one.
fn apart(found: &[f64], wanted: &[f64]) -> f64 {
    found
        .iter()
        .zip(wanted)
        .map(|(f, w)| (f - w).abs())
        .fold(0.0, |most, e| if e > most || e.is_nan() { e } else { most })
}

/// The part of a tensor's name behind its map's.
fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap()
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// What trains of a run's tensors.
fn of(mut all: Named64, wanted: &Named64) -> Named64 {
    all.retain(|name, _| wanted.contains_key(name));
    all
}

/// Merged weights by map.
fn merged(bench: &Bench, maps: &Named64, active: &Active) -> Named64 {
    let mut backbone = bench.cohort.network.frozen().backbone;
    let of_slot = |slot: &Slot<'_>| match slot {
        Slot::Linear(map) => Some(values(&map.weight(0, active))),
        Slot::Embedding(table) => Some(values(&table.merged(0, 0, active))),
        Slot::Norm(_) => None,
    };
    let slots = backbone.slots();
    let chosen = slots.iter().filter(|slot| maps.contains_key(slot.name()));
    chosen.map(|slot| (slot.name().to_owned(), of_slot(slot).unwrap())).collect()
}

/// Logits of the first batch by the merged model.
fn merged_logits(bench: &Bench, active: &Active) -> Vec<f64> {
    let plain = StackPlan::new(
        (variants::preset::find("head_only").unwrap().spec)(0).check(None).unwrap(),
        vec![RunPlan { init_seed: 0, alpha: 1.0 }],
        std::collections::BTreeSet::new(),
    );
    let network = bench.cohort.network.merged(0, 0, active, &plain).unwrap();
    values(&bench.batches.logits(&network, 0, &variants::pass::Pass::evaluation(1)))
}

#[test]
fn logits_and_every_gradient_are_theirs() {
    for case in CASES {
        let (reference, spec) = case.open();
        let mut bench = Bench::new(&reference, &spec, DType::F64);
        close(&format!("{}: logits", reference.name), &bench.logits(bench.active(0)), reference.all("logits"), 0.0);
        let wanted = reference.packed("grad");
        same(&format!("{}: gradient", reference.name), &bench.gradients(), &wanted);
        let silent = wanted.iter().filter(|(_, values)| largest(*values) < 1e-12).map(|(name, _)| name);
        let rests = |name: &&String| {
            !spec.layers.is_all() && name.contains(".layer.") || !spec.bilevel.is_none() && name.ends_with(".lambda")
        };
        let silent: Vec<_> = silent.filter(|name| !name.ends_with("key.bias") && !rests(name)).collect();
        assert!(silent.is_empty(), "{}: {silent:?} have no gradient to compare", reference.name);
    }
}

#[test]
fn one_and_twenty_steps_end_where_theirs_do() {
    for case in CASES {
        let (reference, spec) = case.open();
        twenty_steps(&reference, &mut Bench::new(&reference, &spec, DType::F64));
    }
}

/// Activation checkpointing computes every layer a second time and is judged by the same numbers; `full` trains what lies below the layers.
#[test]
fn twenty_steps_with_recomputed_layers_end_where_theirs_do() {
    for case in CASES {
        let (reference, spec) = case.open();
        let mut bench = Bench::new(&reference, &spec, DType::F64);
        bench.cohort.recomputes = true;
        twenty_steps(&reference, &mut bench);
    }
}

/// Loss, penalty, norm and rate of every step; weights and moments after the first and the last.
fn twenty_steps(reference: &Reference, bench: &mut Bench) {
    let steps = reference.count("steps");
    for step in 0..steps {
        let entry = bench.cohort.advance(&bench.batches).runs[0].entry;
        let at = format!("{} step {step}", reference.name);
        let floor = FLOOR;
        close(&format!("{at}: loss"), &[entry.task_loss], &reference.all("losses")[step..=step], floor);
        close(&format!("{at}: norm"), &[entry.gradient_norm], &reference.all("norms")[step..=step], floor);
        let penalty = entry.penalty.unwrap_or(0.0);
        close(&format!("{at}: penalty"), &[penalty], &reference.all("penalties")[step..=step], floor);
        let rate = if reference.has("rates") {
            reference.numbers("rates")[step]
        } else {
            reference.number("learning_rate") * (steps - step) as f64 / steps as f64
        };
        close(&format!("{at}: rate"), &[entry.learning_rate], &[rate], floor);
        let clipped = clip_coefficient(entry.gradient_norm, reference.number("clip")) < 1.0;
        assert_eq!(clipped, reference.all("norms")[step] > reference.number("clip"), "{at}");
        if step == 0 || step + 1 == steps {
            let mark = step + 1;
            let wanted = reference.packed(&format!("w{mark}"));
            same(&format!("{at}: weights"), &of(bench.tensors(), &wanted), &wanted);
            for (key, found) in ["m", "v"].into_iter().zip(bench.moments()) {
                same(&format!("{at}: {key}"), &found, &reference.packed(&format!("{key}{mark}")));
            }
        }
    }
    let frozen = reference.frozen();
    assert_eq!(of(bench.tensors(), &frozen), frozen, "{}: what is frozen stays, bit by bit", reference.name);
}

#[test]
fn merged_weights_are_theirs_and_compute_the_same() {
    for case in CASES {
        let (reference, spec) = case.open();
        if spec.unmergeable().is_some() {
            continue;
        }
        let mut bench = Bench::new(&reference, &spec, DType::F64);
        (0..reference.count("steps")).for_each(|_| drop(bench.cohort.advance(&bench.batches)));
        let readouts = match spec.rank_policy {
            AnyRankPolicy::NestedSampling(_) => (1..=spec.rank).map(|b| Active::Prefix(vec![b])).collect(),
            _ => vec![Active::All],
        };
        for (part, active) in readouts.iter().enumerate() {
            if reference.has("maps") {
                let wanted = reference.merged(part);
                assert!(!wanted.is_empty());
                same(&format!("{} merged {part}", reference.name), &merged(&bench, &wanted, active), &wanted);
            }
            let key = match active {
                Active::Prefix(b) => format!("merged_logits{}", b[0]),
                _ if reference.has("maps") => "merged_logits".to_owned(),
                _ => "last_logits".to_owned(),
            };
            close(&format!("{} {key}", reference.name), &merged_logits(&bench, active), reference.all(&key), 0.0);
            close(&format!("{} un{key}", reference.name), &bench.logits(active.clone()), reference.all(&key), 0.0);
        }
    }
}

/// The f64 reference is the judge of the f32 run too: both start from the same numbers.
#[test]
fn an_f32_run_stays_beside_them() {
    for case in CASES {
        let (reference, spec) = case.open();
        let mut bench = Bench::new(&reference, &spec, DType::F32);
        let (found, wanted) = (bench.logits(bench.active(0)), reference.all("logits"));
        let (error, scale) = (apart(&found, wanted), largest(wanted));
        assert!(error <= SINGLE * scale, "{}: logits off by {error:e} of {scale}", reference.name);
        (0..reference.count("steps")).for_each(|_| drop(bench.cohort.advance(&bench.batches)));
        let (start, end) = (reference.packed("start"), reference.packed("w20"));
        let found = bench.tensors();
        for (name, end) in &end {
            // Its gradient is 0 in exact arithmetic, because a softmax does not see what all keys share: Adam makes steps of rounding.
            if name.ends_with("key.bias") {
                continue;
            }
            let error = norm(found[name].iter().zip(end).map(|(f, w)| f - w));
            let movement = norm(start[name].iter().zip(end).map(|(s, w)| s - w));
            assert!(error <= MOVEMENT * movement, "{} {name}: {error:e} of {movement:e}", reference.name);
        }
    }
}

#[test]
fn ranks_that_were_found_are_theirs() {
    for fixture in ["alora", "autolora"] {
        let (reference, spec) = Case::named(fixture);
        let mut bench = Bench::new(&reference, &spec, DType::F64);
        let at_start: usize = bench.cohort.stacks[0].final_ranks(0).values().sum();
        (0..reference.count("steps")).for_each(|_| drop(bench.cohort.advance(&bench.batches)));
        let found = bench.cohort.stacks[0].final_ranks(0);
        let wanted: std::collections::BTreeMap<String, usize> =
            serde_json::from_value(reference.setting("ranks").clone()).unwrap();
        assert_eq!(found, wanted, "{fixture}");
        if fixture == "alora" {
            assert_eq!(found.values().sum::<usize>(), at_start, "components move and none is lost");
        }
    }
}

#[test]
fn scales_are_theirs() {
    for fixture in ["dora", "lora", "lora_fa", "lora_plus", "milora", "olora", "pissa", "rslora"] {
        let (reference, spec) = Case::named(fixture);
        close(fixture, &[spec.scaling.at(spec.alpha, spec.rank)], &[reference.number("scale")], 0.0);
    }
    let (reference, spec) = Case::named("dylora");
    let found: Vec<f64> = (1..=spec.rank).map(|b| spec.scaling.at(spec.alpha, b)).collect();
    close("dylora", &found, &reference.numbers("scales"), 0.0);
}

#[test]
fn doras_first_magnitudes_are_the_norms_of_the_base() {
    let (reference, spec) = Case::named("dora");
    let bench = Bench::new(&reference, &spec, DType::F64);
    let found = bench.fresh.iter().filter(|(name, _)| last(name) == "magnitude");
    let found: Vec<f64> = found.flat_map(|(_, values)| values.clone()).collect();
    close("magnitudes", &found, reference.all("first_magnitudes"), 0.0);
}

/// `s·A₀·B₀` `[rows, cols]`.
fn product(scale: f64, a: &[Vec<f64>], b: &[Vec<f64>]) -> Vec<f64> {
    let at = |row: usize, col: usize| a.iter().zip(b).map(|(a, b)| scale * a[row] * b[col]).sum();
    (0..a[0].len()).flat_map(|row| (0..b[0].len()).map(move |col| (row, col))).map(|(row, col)| at(row, col)).collect()
}

/// The other tests put the reference's `A₀` and `B₀` on. These are the program's own, of the same base and batches: the same product, and the
/// same factors but for the signs, which a decomposition leaves open for each component.
#[test]
fn decompositions_of_the_base_are_theirs_up_to_signs() {
    for fixture in ["corda", "corda_knowledge", "lora_ga", "milora", "olora", "pissa"] {
        let (reference, spec) = Case::named(fixture);
        let (fresh, theirs) = (Bench::new(&reference, &spec, DType::F64).fresh, reference.frozen());
        let (scale, rank) = (spec.scaling.at(spec.alpha, spec.rank), spec.rank);
        assert_ne!(scale, 1.0, "{fixture}: a scale to see");
        for map in reference.maps() {
            let lists = |all: &Named64, part: &str, axis: usize| {
                let values = &all[&format!("{map}.{part}")];
                let other = values.len() / rank;
                components(values, if axis == 1 { [1, rank, other] } else { [1, other, rank] }, axis)
            };
            let [a, b] = [lists(&fresh, "start_a", 2), lists(&fresh, "start_b", 1)];
            let [their_a, their_b] = [lists(&theirs, "start_a", 2), lists(&theirs, "start_b", 1)];
            // LoRA-GA's factors are of different components, each with a sign of its own.
            let is_paired = fixture != "lora_ga";
            if is_paired {
                let wanted = product(reference.number("scale"), &their_a, &their_b);
                close(&format!("{fixture} {map}: s·A₀·B₀"), &product(scale, &a, &b), &wanted, 0.0);
            }
            let sign_of = |ours: &[f64], theirs: &[f64]| {
                ours.iter().zip(theirs).map(|(ours, theirs)| ours * theirs).sum::<f64>().signum()
            };
            for i in 0..rank {
                let of_a = sign_of(&a[i], &their_a[i]);
                let of_b = if is_paired { of_a } else { sign_of(&b[i], &their_b[i]) };
                for (what, sign, ours, theirs) in [("A₀", of_a, &a[i], &their_a[i]), ("B₀", of_b, &b[i], &their_b[i])]
                {
                    let turned: Vec<f64> = theirs.iter().map(|value| sign * value).collect();
                    close(&format!("{fixture} {map}: component {i} of {what}"), ours, &turned, 0.0);
                }
            }
            for part in ["a", "b"] {
                let (trained, start) = (&fresh[&format!("{map}.{part}")], &fresh[&format!("{map}.start_{part}")]);
                assert_eq!(trained, start, "{fixture} {map}: {part} starts at its frozen copy");
            }
        }
    }
}

/// What the base's inputs and gradients say over the first batches: padding counts for nothing.
#[test]
fn statistics_of_the_first_batches_are_theirs() {
    for fixture in ["corda", "eva", "lora_ga"] {
        let (reference, spec) = Case::named(fixture);
        let found = Bench::statistics(&reference, &spec, DType::F64);
        let found: Named64 = found.into_iter().map(|(map, (statistic, _))| (map, statistic.values())).collect();
        same(&format!("{fixture}: statistics"), &found, &reference.statistics());
    }
}

/// Each column of `A` up to its sign, orthonormal, and `B` at 0.
#[test]
fn evas_first_values_are_the_inputs_singular_vectors() {
    let (reference, spec) = Case::named("eva");
    let (fresh, theirs) = (Bench::new(&reference, &spec, DType::F64).fresh, reference.first_a());
    let rank = spec.rank;
    assert_eq!(theirs.len(), reference.maps().len());
    for map in reference.maps() {
        let columns = |values: &[f64]| components(values, [1, values.len() / rank, rank], 2);
        let (ours, theirs) = (columns(&fresh[&format!("{map}.a")]), columns(&theirs[&format!("{map}.a")]));
        for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let sign = ours.iter().zip(theirs).map(|(ours, theirs)| ours * theirs).sum::<f64>().signum();
            let turned: Vec<f64> = theirs.iter().map(|value| sign * value).collect();
            close(&format!("{map}: component {i}"), ours, &turned, 0.0);
            assert!((norm(ours.iter().copied()) - 1.0).abs() < EXACT, "{map}: component {i} is a unit vector");
        }
        assert!(fresh[&format!("{map}.b")].iter().all(|value| *value == 0.0), "{map}: B starts at 0");
    }
}

/// The fixture's run is that of the pair which this program draws, sliced by PEFT.
#[test]
fn veras_pair_is_the_one_that_peft_sliced() {
    let (reference, spec) = Case::named("vera");
    let [a, b] = shared_random::pair(reference.count("projection_seed") as u64, spec.rank, [12, 12]);
    assert_eq!((a.as_slice(), b.as_slice()), (reference.all("pair_a"), reference.all("pair_b")));
}

/// An imported pair: the slices come from the fixture, the recipe's own seed draws another one.
#[test]
fn a_kept_pair_of_vera_takes_the_same_steps() {
    let reference = Reference::read("vera");
    let mut spec = vera(&reference, reference.preset("vera"), shared_random::Save::Yes);
    let Some(DeltaSpec::SharedRandom(form)) = &mut spec.delta else { unreachable!("vera") };
    form.projection_seed += 1;
    let mut bench = Bench::new(&reference, &spec, DType::F64);
    let (place, rank, widest) = (bench.place(), spec.rank, 12);
    let (a, b) = (reference.all("pair_a"), reference.all("pair_b"));
    let mut given = 0;
    for mut named in bench.cohort.network.parameters(0) {
        let [_, rows, cols] = named.param.tensor.dims();
        let slice: Vec<f64> = match named.param.name {
            // `A[:, :d_in]` turned, of `[rank, widest]`.
            "a" if named.param.role == Role::Projection => {
                (0..rows).flat_map(|i| (0..rank).map(move |c| a[c * widest + i])).collect()
            }
            // `B[:d_out]` turned, of `[widest, rank]`.
            "b" if named.param.role == Role::Projection => {
                (0..rank).flat_map(|c| (0..cols).map(move |o| b[o * rank + c])).collect()
            }
            _ => continue,
        };
        assert_ne!(values(&named.param.tensor), slice, "{}: this seed draws another pair", named.name);
        named.param.tensor.set(place.tensor(slice, [1, rows, cols]));
        given += 1;
    }
    assert_eq!(given, 2 * reference.maps().len());
    twenty_steps(&reference, &mut bench);
}

/// Components of a tensor `[1, rows, cols]` as lists, along `axis`.
fn components(values: &[f64], dims: [usize; 3], axis: usize) -> Vec<Vec<f64>> {
    let [_, rows, cols] = dims;
    match axis {
        1 => values.chunks(cols).map(<[f64]>::to_vec).collect(),
        _ => (0..cols).map(|c| (0..rows).map(|r| values[r * cols + c]).collect()).collect(),
    }
}

/// Value and both moments of every component of every factor, by tensor.
fn by_component(bench: &mut Bench) -> Vec<(String, Vec<[Vec<f64>; 3]>)> {
    let moments = bench.cohort.stacks[0].optimizer.moments();
    let mut all = Vec::new();
    for named in bench.cohort.network.parameters(0) {
        let Some(axis) = named.param.rank_axis else { continue };
        let dims = named.param.tensor.dims();
        let split = |values: &[f64]| components(values, dims, axis);
        let value = split(&values(&variants::host::inner(&named.param.tensor)));
        let zeros = vec![0.0; dims.iter().product()];
        let of = |moment: Option<Vec<f64>>| split(&moment.unwrap_or_else(|| zeros.clone()));
        let state = moments.get(&named.name);
        let (first, second) = (of(state.map(|m| values(&m.first))), of(state.map(|m| values(&m.second))));
        all.push((named.name, value.into_iter().zip(first).zip(second).map(|((p, m), v)| [p, m, v]).collect()));
    }
    all
}

/// The steps' ranks are the ones that the fixture's run was given; under the masked state, what a step may not change keeps value, moments
/// and count, and what it may change changes.
#[test]
fn dyloras_ranks_and_rows_are_those_of_the_paper() {
    for (fixture, frozen) in [("dylora", false), ("dylora_frozen", true)] {
        let (reference, spec) = Case::named(fixture);
        let mut bench = Bench::new(&reference, &spec, DType::F64);
        let mut before = by_component(&mut bench);
        for (step, rank) in reference.counts("ranks").into_iter().enumerate() {
            assert_eq!(bench.active(step as u64), Active::Prefix(vec![rank]), "{fixture} step {step}");
            bench.cohort.advance(&bench.batches);
            let after = by_component(&mut bench);
            for ((name, before), (_, after)) in before.iter().zip(&after) {
                for (component, (before, after)) in before.iter().zip(after).enumerate() {
                    // Eq. 10 or Eq. 9.
                    let may = if frozen { component + 1 == rank } else { component < rank };
                    for (before, after) in before.iter().zip(after) {
                        assert_eq!(before != after, may, "{fixture} step {step} {name} component {component}");
                    }
                }
            }
            before = after;
        }
        let moments = bench.cohort.stacks[0].optimizer.moments();
        let wanted: Vec<u64> = reference.counts("counts").into_iter().map(|count| count as u64).collect();
        let factors = moments.iter().filter(|(name, _)| last(name) == "a" || last(name) == "b");
        assert!(factors.map(|(_, of)| &of.counts).all(|counts| *counts == wanted), "{fixture}: counts");
    }
}

/// The released code detaches the components before the last and steps all of them: decay moves them from the first step on, momentum
/// whenever they were trained before. That is the dense state; under the masked one, frozen means frozen, as Eq. 10 has it.
#[test]
fn the_masked_state_departs_from_the_released_code() {
    let (reference, spec) = Case::named("dylora_frozen");
    let mut bench = Bench::new(&reference, &spec, DType::F64);
    let start = by_component(&mut bench);
    let dims: Vec<([usize; 3], usize)> = bench
        .cohort
        .network
        .parameters(0)
        .into_iter()
        .filter_map(|named| Some((named.param.tensor.dims(), named.param.rank_axis?)))
        .collect();
    bench.cohort.advance(&bench.batches);
    let shrink = 1.0 - reference.number("learning_rate") * reference.number("weight_decay");
    let trained = reference.counts("ranks")[0] - 1;
    let released = reference.packed("released_w1");
    for (((name, start), (_, ours)), (dims, axis)) in start.iter().zip(by_component(&mut bench)).zip(dims) {
        for (component, theirs) in components(&released[name], dims, axis).into_iter().enumerate() {
            let ([start, ..], [ours, ..]) = (&start[component], &ours[component]);
            if component == trained {
                close(name, ours, &theirs, 0.0);
            } else {
                assert_eq!(ours, start, "{name}");
                let shrunk: Vec<f64> = start.iter().map(|value| value * shrink).collect();
                close(name, &theirs, &shrunk, 0.0);
            }
        }
    }
    (1..reference.count("steps")).for_each(|_| drop(bench.cohort.advance(&bench.batches)));
    let (released, found) = (reference.packed("released_w20"), bench.tensors());
    let start = reference.packed("start");
    for (name, theirs) in released.iter().filter(|(name, _)| last(name) == "a") {
        let movement = norm(theirs.iter().zip(&start[name]).map(|(t, s)| t - s));
        let gap = norm(theirs.iter().zip(&found[name]).map(|(t, f)| t - f));
        assert!(gap > 0.1 * movement, "{name}: {gap} of {movement}: another algorithm, not another rounding");
    }
}

/// Averages, scores, budget, threshold, pattern, diagonal and ranks at every step of a whole schedule. The script has held PEFT's
/// `RankAllocator` and its own allocator against each other; the fixture has what both say.
#[test]
fn adaloras_allocation_is_theirs_at_every_step() {
    let (reference, spec) = Case::named("adalora");
    let mut bench = Bench::new(&reference, &spec, DType::F64);
    let (maps, steps, rank) = (reference.names("allocated"), reference.count("steps"), spec.rank);
    let cells = maps.len() * rank;
    let last_observed = steps - reference.count("final_steps") - 1;
    let policy = budget(&reference);
    let mut allocations = 0;
    for step in 0..steps {
        let at = format!("step {step}");
        let entry = bench.cohort.advance(&bench.batches).runs[0].entry;
        let row = |key: &str| &reference.all(key)[step * cells..(step + 1) * cells];
        let left = policy.components(rank, maps.len(), step as u64, steps as u64);
        assert_eq!(left as f64, reference.all("budgets")[step], "{at}: budget");

        let stack = &bench.cohort.stacks[0];
        let found = stack.importance.scores(&spec.rank_policy, &stack.optimizer);
        let scores: Vec<f64> = maps.iter().flat_map(|map| found[map][0].clone()).collect();
        close(&format!("{at}: scores"), &scores, row("scores"), 0.0);
        let threshold = reference.all("thresholds")[step];
        if !threshold.is_nan() {
            let mut sorted = scores;
            sorted.sort_by(f64::total_cmp);
            close(&format!("{at}: threshold"), &[sorted[cells - left - 1]], &[threshold], 0.0);
            allocations += 1;
        }

        let kept = stack.runs[0].kept.as_ref();
        let pattern = maps.iter().flat_map(|map| kept.map_or_else(|| vec![true; rank], |kept| kept[map].clone()));
        let pattern: Vec<f64> = pattern.map(|kept| f64::from(u8::from(kept))).collect();
        assert_eq!(pattern, row("kept"), "{at}: pattern");
        let wanted = row("kept").chunks(rank).map(|map| map.iter().sum::<f64>() as usize);
        let ranks = stack.final_ranks(0);
        assert!(maps.iter().map(|map| ranks[map]).eq(wanted), "{at}: ranks {ranks:?}");
        assert_eq!(entry.components, Some(row("kept").iter().sum::<f64>() as u64), "{at}: components");

        let tensors = bench.tensors();
        let diagonal: Vec<f64> = maps.iter().flat_map(|map| tensors[&format!("{map}.lambda")].clone()).collect();
        close(&format!("{at}: diagonal"), &diagonal, row("lambda"), 0.0);
        let zeros = |values: &[f64]| values.iter().map(|value| *value == 0.0).collect::<Vec<_>>();
        assert_eq!(zeros(&diagonal), zeros(row("lambda")), "{at}: a pruned component is 0, not small");

        if step == last_observed {
            for (key, which) in [("ipt_mean", 0), ("ipt_spread", 1)] {
                let stack = &bench.cohort.stacks[0];
                let averages = stack.importance.averages(&stack.plan.variant.spec().rank_policy, &stack.optimizer);
                let found: Named64 = averages.iter().map(|(name, of)| (name.clone(), values(&of[which]))).collect();
                assert_eq!(found.len(), 3 * maps.len());
                let mut wanted = reference.packed(key);
                wanted.retain(|name, _| found.contains_key(name));
                same(key, &found, &wanted);
            }
        }
    }
    assert_eq!(allocations, 7, "after steps 4, 6, 8, 10, 12, 14 and at the start of the last phase");
}

/// The authors' code and PEFT scale by `α/(r + 1e-5)`, here it is `α/r` as for every variant. The other tests use PEFT's number.
#[test]
fn adaloras_scale_departs_from_pefts_by_its_epsilon() {
    let reference = Reference::read("adalora");
    let spec = reference.preset("adalora");
    let (theirs, ours) = (reference.number("scale"), spec.scaling.at(spec.alpha, spec.rank));
    close("scale", &[theirs], &[spec.alpha / (spec.rank as f64 + 1e-5)], 0.0);
    assert!(ours == spec.alpha / spec.rank as f64 && (ours / theirs - 1.0 - 1e-5 / spec.rank as f64).abs() < 1e-12);
}

/// The appendix prints the cubic with `t − tᵢ − t_f` in the numerator, by which the budget would start above all there is. Both released
/// codes, and this program, start it at `b0`.
#[test]
fn the_cubic_of_adaloras_appendix_is_an_erratum() {
    let (reference, spec) = Case::named("adalora");
    let (maps, steps) = (reference.names("allocated").len(), reference.number("steps"));
    let (first, last) = ((spec.rank * maps) as f64, (reference.count("target_rank") * maps) as f64);
    let (initial, end) = (reference.number("initial_steps"), reference.number("final_steps"));
    let printed = |t: f64| last + (first - last) * (1.0 - (t - initial - end) / (steps - initial - end)).powi(3);
    assert!(printed(initial) > 1.5 * first);
    let found = budget(&reference).components(spec.rank, maps, initial as u64, steps as u64);
    assert_eq!((found as f64, reference.all("budgets")[initial as usize]), (first, first));
}

/// Eq. 4 sums squared norms over all factors; the authors' code and PEFT take the mean of the norms, and so does this program.
#[test]
fn adaloras_penalty_is_that_of_the_codes_and_not_of_the_paper() {
    let (reference, spec) = Case::named("adalora");
    let mut bench = Bench::new(&reference, &spec, DType::F64);
    let found = bench.cohort.advance(&bench.batches).runs[0].entry.penalty.unwrap();
    close("penalty", &[found], &[reference.number("penalty")], 0.0);
    assert!(reference.number("penalty_of_the_paper") > 10.0 * found);
}

/// Algorithm 1 of the paper multiplies the gradient by the value that it was taken at; both codes come after the optimizer's step and see
/// the new value beside the clipped gradient. So does this program.
#[test]
fn adaloras_sensitivity_sees_the_stepped_value() {
    let (reference, spec) = Case::named("adalora");
    let mut bench = Bench::new(&reference, &spec, DType::F64);
    bench.cohort.advance(&bench.batches);
    let clip = clip_coefficient(reference.all("norms")[0], reference.number("clip"));
    assert!(clip < 1.0);
    let (grad, old, new) = (reference.packed("grad"), reference.packed("start"), reference.packed("w1"));
    let stack = &bench.cohort.stacks[0];
    for (name, found) in &stack.importance.averages(&stack.plan.variant.spec().rank_policy, &stack.optimizer) {
        let with = |value: &Named64| -> Vec<f64> {
            let each = value[name].iter().zip(&grad[name]);
            each.map(|(p, g)| (1.0 - spec_beta(&spec)) * (p * g * clip).abs()).collect()
        };
        let found = values(&found[0]);
        close(name, &found, &with(&new), 0.0);
        assert!(apart(&found, &with(&old)) > 1e-3 * largest(&found), "{name}");
    }
}

fn spec_beta(spec: &VariantSpec) -> f64 {
    let AnyRankPolicy::Budget(budget) = &spec.rank_policy else { unreachable!("adalora has a budget") };
    budget.beta1
}

/// Rate and decay that a first step had, from its values and moments: the least squares of `w0 − w1 = ηλ·w0 + η·m̂/(√v̂ + ε)`.
fn rate_and_decay(bench: &Bench, name: &str, start: &[f64], end: &[f64], epsilon: f64) -> (f64, f64) {
    let [first, second] = bench.moments();
    let [mut xx, mut xy, mut yy, mut xz, mut yz] = [0.0; 5];
    for (((w0, w1), m), v) in start.iter().zip(end).zip(&first[name]).zip(&second[name]) {
        let (x, y, z) = (*w0, m / 0.1 / ((v / 0.001).sqrt() + epsilon), w0 - w1);
        xx += x * x;
        xy += x * y;
        yy += y * y;
        xz += x * z;
        yz += y * z;
    }
    let determinant = xx * yy - xy * xy;
    let rate = (yz * xx - xz * xy) / determinant;
    (rate, (xz * yy - yz * xy) / determinant / rate)
}

/// PEFT's groups and the rates and decays that every tensor here really had in its first step. Three departures are pinned.
///
/// - PEFT has no rate for heads: a head's matrix trains with A, its bias with B, for it has one dimension. Here both have the head's rate.
/// - PEFT 0.18 asks whether the *parameter* is an embedding layer, which no parameter is: an embedding's factors train with A, and
///   `loraplus_lr_embedding` does nothing (peft#3499). Here they have the rate of their own that the authors' code gives them.
/// - PEFT takes decay from `loraplus_weight_decay` alone and drops the optimizer's. Here the run's decay holds.
#[test]
fn lora_pluss_rates_and_decays_are_those_of_pefts_groups() {
    let (reference, spec) = Case::named("lora_plus");
    let mut bench = Bench::new(&reference, &spec, DType::F64);
    bench.cohort.advance(&bench.batches);
    let (start, end) = (reference.packed("start"), bench.tensors());
    let table = |key: &str| -> Vec<(String, [f64; 2])> {
        let all: std::collections::BTreeMap<String, [f64; 2]> =
            serde_json::from_value(reference.setting(key).clone()).unwrap();
        all.into_iter().map(|(name, pair)| (ours(&name), pair)).collect()
    };
    let rate = reference.number("learning_rate");
    let (high, head) = (rate * reference.number("ratio"), reference.number("head_learning_rate"));
    let shipped = table("shipped");
    assert_eq!(shipped.len(), end.len());
    for (name, [their_rate, their_decay]) in shipped {
        let (found, decay) = rate_and_decay(&bench, &name, &start[&name], &end[&name], reference.number("epsilon"));
        let (theirs, ours) = match name.as_str() {
            "classifier.weight" => (rate, head),
            "classifier.bias" => (high, head),
            name if name.contains("embeddings") => (rate, reference.number("embedding_rate")),
            name if last(name) == "a" => (rate, rate),
            _ => (high, high),
        };
        close(&format!("{name}: PEFT's rate"), &[their_rate], &[theirs], 0.0);
        assert!((found / ours - 1.0).abs() < EXACT, "{name}: rate {found}, not {ours}");
        assert!((decay - their_decay).abs() < EXACT, "{name}: decay {decay}, not {their_decay}");
    }
    assert!(table("shipped_without_own_decay").iter().all(|(_, [_, decay])| *decay == 0.0));
    // What the preset says where a run says nothing.
    let RoleConfig::Trained { learning_rate, .. } = reference.preset("lora_plus").train.of_role(Role::Embedding) else {
        unreachable!("an embedding's factors train")
    };
    assert_eq!(learning_rate, Some(1e-6));
}

/// PEFT's LoRA-FA ends in transformers' old AdamW: eps stands beside `√v` before bias correction, and decay comes after the step and
/// shrinks it too. Here both are torch's, as for every other variant. Moments agree all the same.
#[test]
fn lora_fas_adam_departs_from_pefts_in_eps_and_decay() {
    let (reference, spec) = Case::named("lora_fa_preconditioned");
    let (epsilon, decay) = (reference.number("their_epsilon"), reference.number("their_decay"));
    let mut bench = Bench::new(&reference, &spec, DType::F64);
    bench.cohort.adam.epsilon = epsilon;
    bench.cohort.stacks[0].runs[0].cell.recipe.train.weight_decay = decay;
    bench.cohort.advance(&bench.batches);
    let [first, second] = bench.moments();
    same("m", &first, &reference.packed("their_m1"));
    same("v", &second, &reference.packed("their_v1"));
    let (start, ours) = (reference.packed("start"), bench.tensors());
    for (name, theirs) in reference.packed("their_w1") {
        let rate =
            reference.number(if name.starts_with("classifier") { "head_learning_rate" } else { "learning_rate" });
        let undecayed = name == "classifier.bias"; // here; PEFT decays every tensor of a group
        let each = || start[&name].iter().zip(&first[&name]).zip(&second[&name]).map(|((p, m), v)| (p, m, v));
        let old: Vec<f64> = each()
            .map(|(p, m, v)| {
                let step = rate * 0.001_f64.sqrt() / 0.1 * m / (v.sqrt() + epsilon);
                (p - step) * (1.0 - rate * decay)
            })
            .collect();
        let torch: Vec<f64> = each()
            .map(|(p, m, v)| {
                let step = rate / 0.1 * m / (v.sqrt() / 0.001_f64.sqrt() + epsilon);
                p * (1.0 - rate * if undecayed { 0.0 } else { decay }) - step
            })
            .collect();
        close(&format!("{name}: PEFT"), &theirs, &old, 0.0);
        close(&format!("{name}: ours"), &ours[&name], &torch, 0.0);
        assert!(apart(&theirs, &ours[&name]) > 1e-6, "{name}: the two differ");
    }
}

/// PEFT multiplies by the inverse under autocast. In f64 autocast does nothing, and the run above is PEFT as shipped; in f32 the product
/// is in bf16. Its operands and its result are rounded to eight bits, `u = 2⁻⁸` each, so the first moment of the first step is within
/// `3.1·u·0.1·|∇B|·|inverse|`, element by element.
///
/// After twenty steps B is within the same `3.1·u` of its movement: roundings of unlike sign in twenty moments do not add up.
#[test]
fn lora_fa_in_f32_is_pefts_to_bf16s_tolerance() {
    let (reference, spec) = Case::named("lora_fa_preconditioned");
    let mut bench = Bench::new(&reference, &spec, DType::F32);
    bench.cohort.advance(&bench.batches);
    let clip = clip_coefficient(reference.all("norms")[0], reference.number("clip"));
    let (gradients, inverses) = (reference.packed("grad"), bench.cohort.network.preconditioners(0));
    assert_eq!(inverses.len(), reference.maps().len());
    let [first, _] = bench.moments();
    let theirs = reference.packed("bf16_m1");
    let mut rounded = false;
    for (map, inverse) in &inverses {
        let name = format!("{map}.b");
        let (inverse, gradient) = (values(inverse), &gradients[&name]); // [rank, rank], [rank, d_out]
        let width = gradient.len() / spec.rank;
        for (at, (found, theirs)) in first[&name].iter().zip(&theirs[&name]).enumerate() {
            let (row, col) = (at / width, at % width);
            let terms = (0..spec.rank).map(|k| (inverse[row * spec.rank + k] * gradient[k * width + col]).abs());
            let bound = ROUNDINGS * 0.1 * clip * terms.sum::<f64>();
            assert!((found - theirs).abs() <= bound, "{name} [{row}, {col}]: {found} {theirs}");
            rounded |= (found - theirs).abs() > 1e-3 * theirs.abs();
        }
    }
    assert!(rounded, "PEFT rounds to bf16, or this test says nothing");
    (1..reference.count("steps")).for_each(|_| drop(bench.cohort.advance(&bench.batches)));
    let (start, found) = (reference.packed("start"), bench.tensors());
    for (name, theirs) in reference.packed("bf16_w20").iter().filter(|(name, _)| last(name) == "b") {
        let error = norm(found[name].iter().zip(theirs).map(|(f, t)| f - t));
        let movement = norm(start[name].iter().zip(theirs).map(|(s, t)| s - t));
        assert!(error <= ROUNDINGS * movement, "{name}: {error:e} of {movement:e}");
    }
}
