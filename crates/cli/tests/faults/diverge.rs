//! One run of a cohort that becomes NaN: the others end where they end beside any other run.

use std::fs;

use serde_json::Value;

use crate::{
    outcome::{assert_equal, of},
    scratch::{Scratch, failed_well, said},
};

/// `SIZE` is the rate, and the weight decay, of the second run of the cohort: by 1e3 of each, a weight grows a million times a step.
const BESIDE: &str = "\
# A run beside another.
suite: custom
data: .
model: mini_roberta
tasks: [{task: {name: mood, train: train.csv, dev: dev.csv, text: text, label: mood}}]
seeds: [0]
targets: [query, value]
ranks: [2]
cohort: 2
train: {steps: 8, batch: 4, max_length: 16, checkpoint_every: 2, evaluate_every: 3}
variants:
  - {preset: lora, label: tame, train: {learning_rate: 1e-3}}
  - {preset: lora, label: wild, train: {learning_rate: SIZE, weight_decay: SIZE}}
";

#[test]
fn a_run_that_diverges_fails_alone() {
    let (beside, wild) =
        (Scratch::with(&BESIDE.replace("SIZE", "1e-3")), Scratch::with(&BESIDE.replace("SIZE", "1e3")));
    beside.finish_tables();
    let output = wild.output("run");
    failed_well(&output, &[1]);
    let said_first = said(&output);
    assert!(said_first.contains("1 of 2 runs failed") && said_first.contains("--retry-failed"), "{said_first}");
    let adapter =
        |scratch: &Scratch, name: &str| fs::read(scratch.results().join("runs").join(name).join("adapter.safetensors"));
    assert_eq!(adapter(&beside, "mood-tame-r2-s0").unwrap(), adapter(&wild, "mood-tame-r2-s0").unwrap());
    assert!(adapter(&wild, "mood-wild-r2-s0").is_err(), "a run that failed leaves no adapter");
    let record = fs::read(wild.results().join("runs/mood-wild-r2-s0/record.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert!(record["status"]["failed"]["reason"].as_str().unwrap().contains("NaN"), "{}", record["status"]);
    // Again: what failed is not tried again unasked, and fails alike where it is.
    let first = of(&wild.results());
    for extra in [&[][..], &["--retry-failed"]] {
        let again = wild.program().args(["run", "grid.yaml"]).args(extra).output().unwrap();
        failed_well(&again, &[1]);
        assert_equal(&first, &of(&wild.results()), &format!("{extra:?}"));
    }
}
