//! The legal ones of two hundred random compositions train ten steps in cohorts, and end where they end alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/study.rs"]
mod support;

use experiment::cell::Cell;
use support::{cells, finish, tensors};
use variants::laws::compositions::{drawn, refusals};

const STEPS: u64 = 10;
/// Both sides of the mini model's query and value maps.
const SHAPE: [usize; 2] = [64, 64];
/// Runs of a cohort.
const COHORT: usize = 12;

/// The base's RTE of the miniature, with the composition of a seed; none where it is refused or fits no map.
fn cell(plain: &Cell, seed: u64) -> Option<Cell> {
    let spec = drawn(seed);
    let fits = spec.delta.as_ref().is_none_or(|delta| delta.misfit(spec.rank, SHAPE).is_none());
    (fits && refusals(&spec, STEPS).is_empty()).then(|| {
        let mut cell = plain.clone();
        cell.id.variant = format!("composition_{seed}");
        cell.id.rank = spec.rank;
        cell.recipe.variant = spec;
        cell
    })
}

#[test]
fn legal_compositions_train_in_cohorts() {
    let plain = cells(
        "suite: glue_mini\nmodel: mini_roberta\ntasks: [rte]\nseeds: [0]\ntargets: [query, value]\nranks: [2]\n\
         train: {steps: 10, batch: 4, max_length: 32, learning_rate: 1e-3}\nvariants: [lora]\n",
        &[],
    )
    .remove(0);
    let legal: Vec<Cell> = (0..200).filter_map(|seed| cell(&plain, seed)).collect();
    assert!(legal.len() >= 60, "{} of 200", legal.len());
    let together = tempfile::tempdir().unwrap();
    for record in finish(&legal, together.path(), COHORT) {
        assert!(record.is_finished(), "{}: {:?}", record.cell, record.status);
        let gradients = record.steps.gradient_norm();
        assert_eq!(gradients.len() as u64, STEPS, "{}", record.cell);
        assert!(gradients.iter().all(|norm| norm.is_finite() && *norm > 0.0), "{}: {gradients:?}", record.cell);
    }
    // A tenth of them alone: sums in another order are all that a cohort changes.
    let alone = tempfile::tempdir().unwrap();
    let some: Vec<Cell> = legal.iter().step_by(10).cloned().collect();
    finish(&some, alone.path(), 1);
    for cell in &some {
        let (mine, wanted) = (tensors(cell, together.path()), tensors(cell, alone.path()));
        // A softmax over keys does not see a bias that they share, so its gradient is 0 but for rounding, of which Adam makes steps.
        for (name, wanted) in wanted.into_iter().filter(|(name, _)| !name.ends_with(".key.bias")) {
            // Adam divides by the root of a small square, so the last bits of a gradient reach the third digit of a step of 1e-3, and of single
            // numbers with next to no gradient the first: a tensor is judged as a whole, as in the twenty steps of f32.
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
            let apart = norm(&mut mine[&name].iter().zip(&wanted).map(|(mine, wanted)| mine - wanted));
            let size = norm(&mut wanted.iter().copied()).max(1e-3 * (wanted.len() as f64).sqrt());
            assert!(apart <= 1e-3 * size, "{}: {name}: {apart:e} of {size:e}", cell.id);
        }
    }
    println!("{} compositions trained {STEPS} steps; {} of them alone as well", legal.len(), some.len());
}
