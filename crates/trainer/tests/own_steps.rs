//! What a run's own steps decide: which are its own, and whether they could move anything.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/study.rs"]
mod support;

use burn::tensor::DType;
use support::{cache, cells, finish};
use trainer::study::{self, run_state::RunState};

const YAML: &str = "suite: glue_mini\nmodel: mini_roberta\ntasks: [rte]\nseeds: [0]\ntargets: [query, value]\nranks: [2]\n\
train: {steps: 5, batch: 4, max_length: 64, learning_rate: 1e-3}\nvariants: [lora]\n";

#[test]
fn a_run_that_ended_keeps_and_evaluates_nothing_of_later_steps() {
    let cell = cells(YAML, &["train.snapshot_every=2", "train.evaluate_every=2"]).remove(0);
    let task = cache(DType::F32).task(&cell.recipe).unwrap();
    // As in a cohort whose longest run has ten steps, on a device that is ahead of the host.
    let mut run = RunState { task: Some(task), ..RunState::new(cell, 5) };
    let due =
        |run: &RunState, at: fn(&RunState, u64) -> bool| (1..=10).filter(|step| at(run, *step)).collect::<Vec<_>>();
    assert_eq!(due(&run, RunState::saves_at), [2, 4]);
    assert_eq!(due(&run, RunState::evaluates_at), [2, 4, 5]);
    run.active = false;
    assert!(due(&run, RunState::saves_at).is_empty() && due(&run, RunState::evaluates_at).is_empty());
}

#[test]
fn a_best_state_before_the_first_rate_above_zero_may_be_the_first_one() {
    // The warm-up's first step has rate 0, and no later one moves a prediction.
    let overrides = ["train.evaluate_every=1", "train.select=best", "train.learning_rate=1e-12"];
    let root = tempfile::tempdir().unwrap();
    let record = finish(&cells(YAML, &overrides), root.path(), 1).remove(0);
    assert_eq!(record.steps.learning_rate()[0], 0.0);
    assert_eq!(record.best.as_ref().map(|best| best.step), Some(1));
    assert!(record.is_finished(), "{:?}", record.status);
}

#[test]
fn steps_at_rate_zero_alone_are_said() {
    let said = |overrides: &[&str]| {
        let cell = cells(YAML, overrides).remove(0);
        study::remarks(&cell.recipe, &cache(DType::F32).task(&cell.recipe).unwrap())
    };
    let remarks = said(&["train.steps=1"]);
    assert!(
        remarks.len() == 1 && remarks[0].contains("the learning rate is 0 at every step (train.steps: 1, "),
        "{remarks:?}"
    );
    assert!(said(&["train.steps=1", "train.warmup=0.0"]).is_empty() && said(&["train.steps=2"]).is_empty());
}
