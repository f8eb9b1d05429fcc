//! A tuned study from its trials to its tables: what is chosen, what is trained twice (nothing), and what a clone needs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// A rate that trains, one that cannot move anything, and one that diverges.
const STUDY: &str = "\
# A tuned study.
suite: glue_mini
model: mini_roberta
tasks: [rte]
seeds: [0]
targets: [query, value]
ranks: [2]
train: {steps: 60, batch: 16, max_length: 48}
variants: [lora, dylora]
baseline: lora
tune: {space: {train.learning_rate: [1e-9, 1e-2]}, seeds: [100], widen: 0}
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, yaml: &str) {
        fs::write(self.path("s.yaml"), yaml).unwrap();
    }

    fn call(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_lora-lab")).current_dir(self.0.path()).args(arguments).output().unwrap()
    }

    /// What a command that has to succeed said, on both streams.
    #[track_caller]
    fn good(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        let said = said(&output);
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    fn tuned(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("results/s/tuned.json")).unwrap()).unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn record(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path.join("record.json")).unwrap()).unwrap()
}

#[test]
fn a_study_is_tuned_once_and_trained_with_what_was_chosen() {
    let folder = Folder::new();
    folder.write(STUDY);
    let first = folder.good(&["run", "s.yaml"]);
    assert!(
        first.contains("tuning first: 4 settings for 2 rows, 1 seeds each")
            && first.contains("the settings that were chosen"),
        "{first}"
    );
    for group in folder.tuned()["groups"].as_array().unwrap() {
        let chosen = &group["trials"][group["chosen"].as_u64().unwrap() as usize];
        assert_eq!(chosen["setting"]["train.learning_rate"], 1e-2, "{group}");
        assert_eq!(group["edges"]["train.learning_rate"], "upper", "{group}");
    }
    // Every trial is a record on the split that was cut from train, and knows no other.
    let mut trials = 0;
    for entry in fs::read_dir(folder.path("results/s/tune/runs")).unwrap() {
        let trial = record(&entry.unwrap().path());
        for evaluation in trial["evaluations"].as_array().unwrap() {
            assert_eq!(evaluation["split"], "tune");
        }
        assert_eq!(trial["spec"]["holdout"]["seed"], 100);
        trials += 1;
    }
    assert_eq!(trials, 4);
    let reported = record(&folder.path("results/s/runs/rte-lora-r2-s0"));
    assert_eq!(reported["spec"]["train"]["learning_rate"], 1e-2);
    assert!(reported["spec"].get("holdout").is_none() && reported["evaluations"][0]["split"] == "dev", "{reported}");

    // Again: nothing is trained, and the tables are the same.
    let table = |folder: &Folder| fs::read_to_string(folder.path("results/s/tables/main.txt")).unwrap();
    let before = table(&folder);
    let again = folder.good(&["run", "s.yaml"]);
    assert!(again.contains("2 cells, 2 finished before") && !again.contains("tuning first"), "{again}");
    assert_eq!(table(&folder), before);

    // A clone has no trials, and needs none.
    fs::remove_dir_all(folder.path("results/s/tune")).unwrap();
    let shown = folder.good(&["table", "s.yaml"]);
    assert!(shown.contains("Tuned for every row: learning rate, 2 settings of 1 seeds each"), "{shown}");
    folder.good(&["figures", "s.yaml"]);
    assert!(folder.path("results/s/figures/sensitivity.svg").is_file());

    // Another space is another tuning, whose results may not replace these unasked.
    folder.write(&STUDY.replace("1e-9", "1e-8"));
    let stale = folder.call(&["table", "s.yaml"]);
    assert_eq!(stale.status.code(), Some(2));
    assert!(said(&stale).contains("no tuning of `s` as it stands now"), "{}", said(&stale));
    let refused = folder.call(&["run", "s.yaml"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("`--force` replaces them"), "{}", said(&refused));
}

#[test]
fn a_setting_that_diverges_is_not_chosen_and_where_all_do_it_is_said() {
    // Nothing holds a step back: no clipping, no warm-up, and a scale that makes every rate too high.
    let wild = STUDY
        .replace("steps: 60,", "steps: 12, clip: null, schedule: constant, warmup: 0,")
        .replace("[lora, dylora]", "[{preset: lora, with: {alpha: 1e6}}]");
    let folder = Folder::new();
    folder.write(&wild.replace("[1e-9, 1e-2]", "[900, 1e-9]"));
    folder.good(&["run", "s.yaml"]);
    let group = folder.tuned()["groups"][0].clone();
    assert_eq!(group["chosen"], 1, "{group}");
    assert!(group["trials"][0]["scores"][0].is_null() && group["trials"][1]["scores"][0].is_number(), "{group}");

    let folder = Folder::new();
    folder.write(&wild.replace("[1e-9, 1e-2]", "[900, 1000]"));
    let output = folder.call(&["run", "s.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("none of the 2 settings of rte/lora rank 2"), "{}", said(&output));
    assert!(!folder.path("results/s/tuned.json").exists(), "nothing was chosen");
}

#[test]
fn an_interrupted_tuning_goes_on_with_the_trials_that_are_left() {
    let (folder, other) = (Folder::new(), Folder::new());
    folder.write(STUDY);
    other.write(STUDY);
    folder.good(&["run", "s.yaml"]);
    other.good(&["run", "s.yaml"]);
    // As after an interruption: some trials are there, and nothing was chosen.
    fs::remove_file(other.path("results/s/tuned.json")).unwrap();
    fs::remove_dir_all(other.path("results/s/runs")).unwrap();
    fs::remove_dir_all(other.path("results/s/tune/runs/rte-lora+learning_rate=0.01-r2-s100")).unwrap();
    let again = other.good(&["run", "s.yaml"]);
    assert!(again.contains("4 cells, 3 finished before"), "{again}");
    assert_eq!(folder.tuned(), other.tuned());
    let adapter = |folder: &Folder| fs::read(folder.path("results/s/runs/rte-lora-r2-s0/adapter.safetensors")).unwrap();
    assert_eq!(adapter(&folder), adapter(&other));
}
