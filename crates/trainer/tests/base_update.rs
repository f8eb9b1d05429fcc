//! The base over time: what a run accumulates beside the base, and how it begins anew. That nobody else notices, and that a killed run goes
//! on to the same bits, is in `study.rs`; what both come to after twenty steps is in `parity.rs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/cohort.rs"]
mod support;

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use support::{Batches, classes};
use trainer::cohort::Cohort;
use variants::{
    base_update::{
        AnyBaseUpdate, Moments,
        follow::Follow,
        restart::{Rate, Restart},
    },
    delta,
    host::{inner, values},
    pass::Active,
    preset,
    role::Role,
    spec::VariantSpec,
};

const RANK: usize = 2;
const STEPS: u64 = 9;

fn spec(base_update: AnyBaseUpdate) -> VariantSpec {
    VariantSpec { base_update, ..(preset::find("lora").unwrap().spec)(RANK) }
}

/// Three periods of three steps.
fn restarting(moments: Moments) -> VariantSpec {
    spec(AnyBaseUpdate::Restart(Restart { restarts: 2, moments, rate: Rate::Kept }))
}

/// Two runs of a composition, of the first run's length or of its own.
fn cohort(spec: &VariantSpec, steps: [u64; 2]) -> Cohort {
    let mut cohort = support::cohort("roberta", &classes(), spec, &["query", "value"]);
    cohort.runs_mut().zip(steps).for_each(|(run, steps)| {
        run.steps = steps;
        run.cell.recipe.train.warmup = 0.0;
        run.cell.recipe.train.learning_rate = 1e-2;
    });
    cohort
}

fn step(cohort: &mut Cohort, runs: usize) {
    let report = cohort.advance(&Batches::new(classes(), runs));
    assert!(report.runs.iter().all(|run| run.entry.task_loss.is_finite()));
}

/// The part of a tensor's name behind its map's.
fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap()
}

/// Numbers by name.
type Numbers = BTreeMap<String, Vec<f64>>;

/// A run's tensors.
fn tensors(cohort: &mut Cohort, stack: usize, run: usize) -> Numbers {
    let of = |tensor: &Tensor<3>| values(&inner(tensor).slice([run..run + 1]));
    cohort.network.parameters(stack).into_iter().map(|named| (named.name, of(&named.param.tensor))).collect()
}

/// `ΔW` of a run on every map.
fn updates(cohort: &Cohort, stack: usize, run: usize) -> Numbers {
    let of = |map: &variants::adapted::AdaptedLinear| {
        let base = map.base().0.unsqueeze::<3>();
        let update = inner(&map.weight(stack, &Active::All)).slice([run..run + 1]) - base;
        (map.name().to_owned(), values(&update))
    };
    cohort.network.adapted(stack).into_iter().map(of).collect()
}

/// `s·A·B` of a run on every map, from its two factors alone.
fn products(cohort: &mut Cohort, spec: &VariantSpec, run: usize) -> Numbers {
    let own = tensors(cohort, 0, run);
    let scale = spec.scaling.at(spec.alpha, spec.rank);
    let product = |map: &str| {
        let (a, b) = (&own[&format!("{map}.a")], &own[&format!("{map}.b")]);
        let (d_in, d_out) = (a.len() / RANK, b.len() / RANK);
        let at = |row: usize, col: usize| (0..RANK).map(|k| scale * a[row * RANK + k] * b[k * d_out + col]).sum();
        (0..d_in).flat_map(|row| (0..d_out).map(move |col| (row, col))).map(|(row, col)| at(row, col)).collect()
    };
    let maps: Vec<String> = cohort.stacks[0].plan.targets.iter().cloned().collect();
    maps.into_iter().map(|map| (map.clone(), product(&map))).collect()
}

fn plus(sum: &mut Numbers, more: &Numbers, times: f64) {
    for (name, more) in more {
        let sum = sum.entry(name.clone()).or_insert_with(|| vec![0.0; more.len()]);
        sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += times * more);
    }
}

/// Sums of products of numbers below 1 in f32, taken off a weight of about 1.
#[track_caller]
fn close(what: &str, found: &Numbers, wanted: &Numbers) {
    assert!(!wanted.is_empty() && found.keys().eq(wanted.keys()), "{what}");
    for (name, wanted) in wanted {
        for (found, wanted) in found[name].iter().zip(wanted) {
            assert!((found - wanted).abs() < 2e-6, "{what}: {name}: {found} is not {wanted}");
        }
    }
}

fn is_zero(numbers: &[f64]) -> bool {
    numbers.iter().all(|number| *number == 0.0)
}

/// `s·P·Q` of places `from..to`, `RANK` components each, on every map.
fn accumulated(own: &Numbers, spec: &VariantSpec, [from, to]: [usize; 2]) -> Numbers {
    let scale = spec.scaling.at(spec.alpha, spec.rank);
    let of = |(name, p): (&String, &Vec<f64>)| {
        let map = name.strip_suffix(".accumulated_a")?;
        let q = &own[&format!("{map}.accumulated_b")];
        let k = 2 * RANK; // two restarts
        let (d_in, d_out) = (p.len() / k, q.len() / k);
        let places = from * RANK..to * RANK;
        let at = |row: usize, col: usize| places.clone().map(|i| scale * p[row * k + i] * q[i * d_out + col]).sum();
        let all = (0..d_in).flat_map(|row| (0..d_out).map(move |col| (row, col)));
        Some((map.to_owned(), all.map(|(row, col)| at(row, col)).collect()))
    };
    own.iter().filter_map(of).collect()
}

#[test]
fn what_is_accumulated_is_the_sum_of_the_merged_deltas() {
    let spec = restarting(Moments::Kept);
    let mut cohort = cohort(&spec, [STEPS; 2]);
    for done in 1..=STEPS {
        let before = [0, 1].map(|run| tensors(&mut cohort, 0, run));
        step(&mut cohort, 2);
        let after = [0, 1].map(|run| tensors(&mut cohort, 0, run));
        let place = (done / 3 - u64::from(done == STEPS)) as usize; // restarts so far
        for (run, (before, after)) in before.iter().zip(&after).enumerate() {
            let at = format!("run {run} after {done} steps");
            let mut wanted = accumulated(after, &spec, [0, place]);
            plus(&mut wanted, &products(&mut cohort, &spec, run), 1.0);
            close(&at, &updates(&cohort, 0, run), &wanted);
            assert!(
                accumulated(after, &spec, [place, 2]).values().all(|empty| is_zero(empty)),
                "{at}: a place too many"
            );
            let restarts = done == 3 || done == 6;
            for (name, value) in after {
                let is_kept = name.contains(".accumulated_") && !restarts;
                assert!(!is_kept || *value == before[name], "{at}: {name} is stored into at restarts alone");
                assert!(!restarts || last(name) != "b" || is_zero(value), "{at}: {name} begins at 0");
            }
            if restarts {
                let earlier = [0, place - 1];
                assert_eq!(
                    accumulated(after, &spec, earlier),
                    accumulated(before, &spec, earlier),
                    "{at}: what was there"
                );
                let new = accumulated(after, &spec, [place - 1, place]);
                assert!(new.values().all(|new| !is_zero(new)), "{at}: a delta is stored");
            }
        }
        // Every restart and every run has draws of its own.
        if done == 3 || done == 6 {
            let draws =
                |own: &Numbers| own.iter().filter(|(name, _)| last(name) == "a").map(|(_, a)| a.clone()).collect();
            let [zeroth, first]: [Vec<Vec<f64>>; 2] = after.each_ref().map(draws);
            let earlier: [Vec<Vec<f64>>; 2] = before.each_ref().map(draws);
            for (new, others) in zeroth.iter().zip(first.iter().zip(&earlier[0])) {
                assert!(new != others.0 && new != others.1);
            }
        }
    }
}

/// A run and its twin without restarts are the same up to the first, and the merge keeps the function.
#[test]
fn a_restart_changes_no_function() {
    for moments in [Moments::Kept, Moments::Zero, Moments::Fresh, Moments::Pruned { share: 0.5 }] {
        let (restarts, lora) = (restarting(moments), spec(AnyBaseUpdate::default()));
        let (mut one, mut other) = (cohort(&restarts, [STEPS; 2]), cohort(&lora, [STEPS; 2]));
        for _ in 0..3 {
            step(&mut one, 2);
            step(&mut other, 2);
        }
        for run in 0..2 {
            close("the first period is LoRA", &updates(&one, 0, run), &updates(&other, 0, run));
        }
    }
}

/// Of whatever delta: one whose start is not 0, or not drawn anew, is refused.
#[test]
fn a_restart_of_any_delta_changes_no_function() {
    let (mut begun, mut refused) = (Vec::new(), 0);
    for delta in delta::defaults() {
        let plain = VariantSpec { delta: Some(delta.clone()), ..spec(AnyBaseUpdate::default()) };
        let restarts = VariantSpec { base_update: restarting(Moments::Zero).base_update, ..plain.clone() };
        if plain.check(Some(STEPS)).is_err() || delta.misfit(RANK, [24, 24]).is_some() || delta.calibration().is_some()
        {
            continue;
        }
        if restarts.check(Some(STEPS)).is_err() {
            refused += 1;
            continue;
        }
        let (mut one, mut other) = (cohort(&restarts, [STEPS; 2]), cohort(&plain, [STEPS; 2]));
        for _ in 0..3 {
            step(&mut one, 2);
            step(&mut other, 2);
        }
        for run in 0..2 {
            close(delta.kind(), &updates(&one, 0, run), &updates(&other, 0, run));
        }
        begun.push(delta.kind());
    }
    assert!(begun.contains(&"low_rank") && begun.contains(&"svd_form") && begun.len() >= 5, "{begun:?}");
    assert!(refused >= 5, "{refused} refused");
}

/// Moments of a run by tensor: first, second, counts.
fn moments(cohort: &Cohort, run: usize) -> BTreeMap<String, (Vec<f64>, Vec<f64>, u64)> {
    let of_run = |tensor: &Tensor<3>| values(&tensor.clone().slice([run..run + 1]));
    let all = cohort.stacks[0].optimizer.moments().into_iter();
    all.map(|(name, of)| (name, (of_run(&of.first), of_run(&of.second), of.counts[run]))).collect()
}

#[test]
fn moments_are_treated_as_the_composition_says() {
    for treatment in [Moments::Kept, Moments::Zero, Moments::Fresh, Moments::Pruned { share: 0.75 }] {
        let spec = restarting(treatment);
        // The second run is shorter, and restarts after two steps.
        let mut cohort = cohort(&spec, [STEPS, 6]);
        (0..2).for_each(|_| step(&mut cohort, 2));
        assert!(moments(&cohort, 0).values().all(|(_, _, count)| *count == 2), "the first run goes on");
        step(&mut cohort, 2);
        let (first, second) = (moments(&cohort, 0), moments(&cohort, 1));
        for (name, (m, v, count)) in &first {
            let is_factor = last(name) == "a" || last(name) == "b";
            let kept = |numbers: &[f64]| numbers.iter().filter(|number| **number != 0.0).count();
            let (of_m, of_v, all) = (kept(m), kept(v), m.len());
            let at = format!("{treatment:?}: {name}: {of_m} and {of_v} of {all} after {count} steps");
            match (treatment, is_factor) {
                (Moments::Fresh, _) | (Moments::Zero, true) => assert_eq!((of_m, of_v, *count), (0, 0, 0), "{at}"),
                (Moments::Pruned { share }, true) => {
                    // torch's quantile: numbers at or below the place `share·(n − 1)` of the sorted list go.
                    let left = all - 1 - (share * (all - 1) as f64).floor() as usize;
                    assert_eq!((of_m, of_v, *count), (left, left, 3), "{at}");
                }
                _ => assert!(of_m * 2 > all && *count == 3, "{at}"),
            }
        }
        // The second run, whose moments were treated a step before.
        let count = |name: &str| second.iter().find(|(own, _)| own.ends_with(name)).unwrap().1.2;
        let wanted = match treatment {
            Moments::Zero | Moments::Fresh => 1,
            Moments::Kept | Moments::Pruned { .. } => 3,
        };
        assert_eq!(count(".b"), wanted, "{treatment:?}");
    }
}

#[test]
fn the_rate_of_a_run_is_its_base_updates() {
    let jagged =
        AnyBaseUpdate::Restart(Restart { restarts: 2, moments: Moments::Kept, rate: Rate::WarmUp { steps: 2.0 } });
    let mut cohort = cohort(&spec(jagged), [STEPS, 6]);
    let mut rates = [vec![], vec![]];
    for _ in 0..STEPS {
        for run in cohort.advance(&Batches::new(classes(), 2)).runs {
            rates[run.at.run].push(run.entry.learning_rate / 1e-2);
        }
    }
    let wanted = [
        [1.0, 8.0 / 9.0, 7.0 / 9.0, 0.0, 2.5 / 9.0, 4.0 / 9.0, 0.0, 1.0 / 9.0, 1.0 / 9.0].to_vec(),
        [1.0, 5.0 / 6.0, 0.0, 1.5 / 6.0, 0.0, 0.5 / 6.0].to_vec(),
    ];
    for (found, wanted) in rates.iter().flatten().zip(wanted.iter().flatten()) {
        assert!((found - wanted).abs() < 1e-12, "{rates:?}");
    }
}

/// The base moves with the change of the product, step by step, as the algorithm is written.
#[test]
fn a_base_that_follows_is_the_one_that_is_written_step_by_step() {
    let (lambda, start) = (1.5, 2);
    let spec = spec(AnyBaseUpdate::Follow(Follow { lambda, start: 2.0 }));
    let mut cohort = cohort(&spec, [STEPS; 2]);
    let mut written = Numbers::new();
    let mut before = products(&mut cohort, &spec, 1);
    for done in 1..=STEPS {
        step(&mut cohort, 2);
        let now = products(&mut cohort, &spec, 1);
        plus(&mut written, &now, 0.0);
        if done > start {
            plus(&mut written, &now, lambda);
            plus(&mut written, &before, -lambda);
        }
        let mut wanted = written.clone();
        plus(&mut wanted, &now, 1.0);
        close(&format!("after {done} steps"), &updates(&cohort, 0, 1), &wanted);
        before = now;
    }
    assert!(written.values().all(|written| !is_zero(written)));
}

/// What is accumulated trains in no step, and has no moments.
#[test]
fn what_is_accumulated_is_not_trained() {
    let mut cohort = cohort(&restarting(Moments::Zero), [STEPS; 2]);
    step(&mut cohort, 2);
    let accumulated: Vec<String> = cohort
        .network
        .parameters(0)
        .into_iter()
        .filter(|named| named.param.role == Role::Accumulated)
        .map(|named| named.name)
        .collect();
    assert_eq!(accumulated.len(), 2 * cohort.stacks[0].plan.targets.len());
    let moments = cohort.stacks[0].optimizer.moments();
    assert!(accumulated.iter().all(|name| !moments.contains_key(name)));
    let own = tensors(&mut cohort, 0, 0);
    assert!(accumulated.iter().all(|name| is_zero(&own[name])), "nothing is stored before the first restart");
}
