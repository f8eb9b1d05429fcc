//! Files of a study that lie where others belong: each is named, and none is taken for another.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const YAML: &str = "suite: glue_mini\nmodel: mini_roberta\ntasks: [rte]\nseeds: [0, 1]\ntargets: [query]\nranks: [2]\n\
                    variants: [lora]\nbaseline: lora\ntrain: {steps: 4, batch: 4, max_length: 32, snapshot_every: 2}\n";

/// A folder with a study that finished, and what the program says there.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path("e.yaml"), YAML).unwrap();
        place.says(0, &["run", "e.yaml"], &[]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run_dir(&self, seed: u64) -> PathBuf {
        self.path(&format!("results/e/runs/rte-lora-r2-s{seed}"))
    }

    /// Runs a command; returns all that it prints.
    #[track_caller]
    fn says(&self, status: i32, arguments: &[&str], parts: &[&str]) -> String {
        let program = env!("CARGO_BIN_EXE_lora-lab");
        let output = Command::new(program).args(arguments).current_dir(self.0.path()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{arguments:?}: no `{part}` in: {text}");
        }
        text
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Rows of a measure's table that are of a seed.
fn rows_of(table: &Path, seed: u64) -> usize {
    let text = fs::read_to_string(table).unwrap();
    text.lines().filter(|line| line.starts_with(&format!("rte,lora,2,{seed},"))).count()
}

#[test]
fn an_adapter_that_no_run_of_the_recipe_made_is_not_measured() {
    let place = Place::new();
    let shape = place.path("results/e/analysis/shape.csv");
    let stray = "not measured, since no run of the present recipe has made their adapters: rte-lora-r2-s0";
    place.says(0, &["analyze", "study", "e.yaml"], &[]);
    assert!(rows_of(&shape, 0) > 0 && rows_of(&shape, 1) > 0);
    // Of a run whose record is gone.
    let record = fs::read(place.run_dir(0).join("record.json")).unwrap();
    fs::remove_file(place.run_dir(0).join("record.json")).unwrap();
    place.says(0, &["table", "e.yaml"], &["1 of 2 cells have no record yet"]);
    place.says(0, &["analyze", "study", "e.yaml"], &[stray]);
    assert_eq!((rows_of(&shape, 0), rows_of(&shape, 1) > 0), (0, true));
    fs::write(place.run_dir(0).join("record.json"), record).unwrap();
    // Of another recipe: the file was edited and not run.
    fs::create_dir(place.path("x")).unwrap();
    fs::write(place.path("x/e.yaml"), YAML.replace("steps: 4", "steps: 6")).unwrap();
    let changed =
        "x/e.yaml has changed since these 2 runs were trained, which are shown as they are: train.steps is `6`, `4`";
    place.says(0, &["analyze", "study", "x/e.yaml"], &[changed]);
    let other = place.path("one");
    copy(&place.run_dir(1), &other);
    fs::remove_dir_all(place.run_dir(1)).unwrap();
    place.says(0, &["run", "e.yaml", "--set", "train.learning_rate=0.05", "--force"], &[]);
    fs::remove_dir_all(place.run_dir(1)).unwrap();
    copy(&other, &place.run_dir(1));
    let left_out = "1 of 2 cells have a record of another recipe, which is left out";
    place.says(0, &["table", "e.yaml"], &[left_out]);
    place.says(0, &["figures", "e.yaml"], &[stray]);
}

#[test]
fn a_snapshot_is_of_its_run_and_of_its_step() {
    let place = Place::new();
    let at = |seed: u64, step: &str| place.run_dir(seed).join(format!("snapshots/{step}.safetensors"));
    let (two, four) = (at(0, "00000002"), at(0, "00000004"));
    let own = fs::read(&two).unwrap();
    let run = place.run_dir(0).display().to_string();
    let everywhere = |parts: &[&str]| {
        place.says(2, &["analyze", "magnitude-direction", &run], parts);
        place.says(2, &["analyze", "study", "e.yaml"], parts);
        place.says(2, &["figures", "e.yaml"], parts);
    };
    place.says(0, &["analyze", "magnitude-direction", &run], &[]);
    fs::copy(at(1, "00000002"), &two).unwrap();
    everywhere(&["00000002.safetensors", "rte-lora-r2-s1"]);
    place.says(2, &["eval", &two.display().to_string()], &["rte-lora-r2-s1", "lies in the folder of `rte-lora-r2-s0`"]);
    fs::copy(&four, &two).unwrap();
    everywhere(&["is the snapshot of step 4"]);
    place.says(2, &["eval", &two.display().to_string()], &["is the snapshot of step 4"]);
    fs::write(&two, own).unwrap();
    place.says(0, &["figures", "e.yaml"], &[]);
}

#[test]
fn a_folder_under_another_runs_name_is_nobodys() {
    let place = Place::new();
    fs::remove_dir_all(place.run_dir(0)).unwrap();
    copy(&place.run_dir(1), &place.run_dir(0));
    let run = place.run_dir(0).display().to_string();
    let said = "is of the run `rte-lora-r2-s1`, but lies in the folder of `rte-lora-r2-s0`";
    place.says(2, &["eval", &run], &[said]);
    place.says(2, &["merge", &run, "--out", "m"], &[said]);
    place.says(2, &["combine", &run, "--method", "linear", "--out", "c"], &[said]);
    // A damaged record is input, and so is one in the wrong place.
    place.says(2, &["table", "e.yaml"], &[]);
    // Elsewhere a folder has any name.
    copy(&place.run_dir(1), &place.path("mine"));
    place.says(0, &["eval", "mine"], &[]);
}

#[test]
fn a_record_without_checksum_is_said() {
    let place = Place::new();
    let path = place.run_dir(0).join("record.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for field in ["checksum", "adapter_hash"] {
        record.as_object_mut().unwrap().remove(field);
    }
    fs::write(&path, record.to_string()).unwrap();
    let table = place.says(0, &["table", "e.yaml"], &["1 records have no checksum"]);
    assert!(!table.contains("no record yet"), "{table}");
}

#[test]
fn a_seedless_source_has_no_drawn_training_set_and_no_limit_of_several() {
    let place = Place(tempfile::tempdir().unwrap());
    let yaml = "suite: unseen\nmodel: story_roberta_128\ntasks: [sentiment]\nseeds: [0, 1]\nvary: [sample]\ntargets: [query]\n\
                ranks: [2]\ntrain: {steps: 1, batch: 4}\n\
                variants: [{preset: lora, label: short, train: {max_length: 8}}, {preset: lora, label: long}]\n";
    fs::write(place.path("v.yaml"), yaml).unwrap();
    place.says(0, &["run", "v.yaml"], &[]);
    let of = |seed: u64| format!("results/v/runs/sentiment-long-r2-s{seed}");
    place.says(0, &["merge", &of(0), "--out", "m"], &[]);
    let asked = ["predict", "--model", "m", "--experiment", "v.yaml", "--task", "sentiment", "--split"];
    let limits = "the rows of `sentiment` are cut at 8 or ";
    place.says(2, &[&asked[..], &["dev"]].concat(), &[limits, "`--max-length`"]);
    let limited = |split: &str| [&asked[..], &[split, "--max-length", "8"]].concat().join(" ");
    place.says(0, &limited("dev").split(' ').collect::<Vec<_>>(), &[]);
    place.says(2, &limited("train").split(' ').collect::<Vec<_>>(), &["has no split `train` without a seed"]);
    let scores = |seed: u64| place.says(0, &["predict", "--adapter", &of(seed), "--split", "train"], &[]);
    assert_ne!(scores(0), scores(1), "every seed has its own");
    place.says(2, &["predict", "--adapter", &of(0), "--suite", "unseen", "--split", "dev"], &["--task"]);
}
