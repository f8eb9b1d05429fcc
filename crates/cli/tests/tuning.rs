//! A tuned study from its trials to its tables: what is chosen, what is trained twice (nothing), and what a clone needs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

#[path = "support/tiny_gpt2.rs"]
mod tiny_gpt2;

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

/// What a change of tuned.json is called, and the change.
type Edit<'a> = (&'a str, &'a dyn Fn(&mut Value));

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
        first.contains("tuning first: 4 settings for 2 rows, 1 seed each")
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

    // A clone has no trials and no adapters, and needs none.
    fs::remove_dir_all(folder.path("results/s/tune")).unwrap();
    for run in ["rte-lora-r2-s0", "rte-dylora-r2-s0"] {
        fs::remove_file(folder.path(&format!("results/s/runs/{run}/adapter.safetensors"))).unwrap();
    }
    let shown = folder.good(&["table", "s.yaml"]);
    assert!(shown.contains("Tuned for every row: learning rate, 2 settings of 1 seed each"), "{shown}");
    folder.good(&["figures", "s.yaml"]);
    assert!(folder.path("results/s/figures/sensitivity.svg").is_file());

    // The same runs without a tuning: what shows one goes, and what another program put there stays.
    folder.write(&STUDY.replace("max_length: 48}", "max_length: 48, learning_rate: 1e-2}").replace("tune:", "# tune:"));
    let table = |name: &str| folder.path(&format!("results/s/tables/{name}"));
    let figure = |name: &str| folder.path(&format!("results/s/figures/{name}"));
    fs::write(figure("budget-2.csv"), "month,euros\n").unwrap();
    fs::copy(figure("sensitivity.csv"), figure("sensitivity-7.csv")).unwrap();
    folder.good(&["table", "s.yaml"]);
    folder.good(&["figures", "s.yaml"]);
    let gone = ["txt", "md", "tex"].map(|end| table(&format!("tuning.{end}")));
    let drawn = ["svg", "pdf", "png", "csv"]
        .map(|end| [figure(&format!("sensitivity.{end}")), figure(&format!("budget.{end}"))]);
    for path in gone.iter().chain(drawn.iter().flatten()).chain([&figure("sensitivity-7.csv")]) {
        assert!(!path.exists(), "{}", path.display());
    }
    assert!(figure("budget-2.csv").exists() && figure("training.svg").exists() && table("main.txt").exists());
    fs::write(table("tuning.txt"), "piano: 440 Hz\n").unwrap();
    folder.good(&["table", "s.yaml"]);
    assert!(table("tuning.txt").exists());

    // Another space is another tuning.
    folder.write(&STUDY.replace("1e-9", "1e-8"));
    let stale = folder.call(&["table", "s.yaml"]);
    assert_eq!(stale.status.code(), Some(2));
    assert!(said(&stale).contains("no tuning of `s` as it stands now"), "{}", said(&stale));
}

/// Of four rates two are trained for all steps, and the same command again trains nothing.
#[test]
fn a_halved_study_spends_its_steps_on_the_rates_that_scored_best() {
    let halved = STUDY
        .replace("[1e-9, 1e-2]", "[1e-9, 1e-8, 3e-3, 1e-2]")
        .replace("widen: 0}", "widen: 0, halving: {rungs: 2, factor: 2}}")
        .replace("[lora, dylora]", "[lora]");
    let folder = Folder::new();
    folder.write(&halved);
    let checked = folder.good(&["check", "s.yaml"]);
    assert!(
        checked.contains("after 4 settings with 1 tuning seed each, by successive halving in 2 rungs"),
        "{checked}"
    );
    let shown = folder.good(&["run", "s.yaml"]);
    assert!(shown.contains("by successive halving (the best 1/2 goes on after 1/2 of the steps)"), "{shown}");
    let mut steps: Vec<(String, u64)> = fs::read_dir(folder.path("results/s/tune/runs"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let trial = record(&entry.path());
            (entry.file_name().into_string().unwrap(), trial["spec"]["train"]["steps"].as_u64().unwrap())
        })
        .collect();
    steps.sort();
    let whole: Vec<&String> = steps.iter().filter(|(_, steps)| *steps == 60).map(|(name, _)| name).collect();
    assert_eq!((steps.len(), whole.len()), (6, 2), "{steps:?}");
    assert!(steps.iter().all(|(name, steps)| *steps == 60 || name.contains("+steps=30")), "{steps:?}");
    let group = &folder.tuned()["groups"][0];
    for trial in group["trials"].as_array().unwrap() {
        assert_eq!(trial["rungs"][0].as_array().unwrap().len(), 1, "{trial}");
    }
    let of_rung = |trial: &Value| trial["rungs"][0][0].as_f64().unwrap();
    let (on, dropped): (Vec<&Value>, Vec<&Value>) =
        group["trials"].as_array().unwrap().iter().partition(|trial| !trial["scores"].as_array().unwrap().is_empty());
    assert!(on.iter().all(|on| dropped.iter().all(|dropped| of_rung(on) >= of_rung(dropped))), "{group}");
    let table = fs::read_to_string(folder.path("results/s/tables/tuning.txt")).unwrap();
    assert!(table.contains("at each rung") && table.contains("4, 2"), "{table}");
    folder.good(&["figures", "s.yaml"]);
    let title = fs::read_to_string(folder.path("results/s/figures/sensitivity.svg")).unwrap();
    assert!(title.contains("after 1/2 of the steps") && !folder.path("results/s/figures/budget.svg").exists());

    let again = folder.good(&["run", "s.yaml"]);
    assert!(again.contains("1 cells, 1 finished before") && !again.contains("tuning first"), "{again}");
    // A study that stopped between its rungs goes on with what they found.
    fs::remove_file(folder.path("results/s/tuned.json")).unwrap();
    fs::remove_dir_all(folder.path("results/s/tune/runs").join(whole[0])).unwrap();
    let resumed = folder.good(&["run", "s.yaml"]);
    assert!(resumed.contains("2 cells, 1 finished before"), "{resumed}");
    assert_eq!(&folder.tuned()["groups"][0], group);
}

/// A rung that comes last may not replace trials of another recipe, and nothing is trained before that is said.
#[test]
fn a_halving_over_trials_of_another_recipe_is_refused_before_its_first_rung() {
    let folder = Folder::new();
    let one = STUDY.replace("[lora, dylora]", "[lora]").replace("steps: 60", "steps: 8");
    folder.write(&one);
    folder.good(&["run", "s.yaml"]);
    let halved = one.replace("[1e-9, 1e-2]", "[1e-9, 1e-8, 3e-3, 1e-2]").replace("batch: 16", "batch: 8");
    folder.write(&halved.replace("widen: 0}", "halving: {rungs: 2, factor: 2}}"));
    let refused = folder.call(&["run", "s.yaml"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("--force"), "{}", said(&refused));
    let runs = fs::read_dir(folder.path("results/s/tune/runs")).unwrap();
    let names: Vec<String> = runs.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() == 2 && names.iter().all(|name| !name.contains("+steps=")), "{names:?}");
}

#[test]
fn what_is_still_right_is_not_trained_again() {
    let folder = Folder::new();
    folder.write(STUDY);
    folder.good(&["run", "s.yaml"]);
    let before = folder.tuned();
    let file = folder.path("results/s/tuned.json");

    // A damaged file, and the way out that its error names.
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..300]).unwrap();
    for command in ["run", "table"] {
        let refused = folder.call(&[command, "s.yaml"]);
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        let said = said(&refused);
        assert!(said.contains("tuned.json") && said.contains("delete it and `lora-lab run`"), "{said}");
    }
    fs::remove_file(&file).unwrap();
    let again = folder.good(&["run", "s.yaml"]);
    assert!(again.contains("4 cells, 4 finished before") && again.contains("2 cells, 2 finished before"), "{again}");
    assert_eq!(folder.tuned(), before);

    // One reported seed more has no part in the tuning.
    let more_seeds = STUDY.replace("seeds: [0]", "seeds: [0, 1]");
    folder.write(&more_seeds);
    let again = folder.good(&["run", "s.yaml"]);
    assert!(!again.contains("tuning first") && again.contains("4 cells, 2 finished before"), "{again}");

    // One value more trains its own trials, and nothing else where the choice stays.
    folder.write(&more_seeds.replace("1e-2]", "1e-2, 1e-8]"));
    let again = folder.good(&["run", "s.yaml"]);
    assert!(again.contains("6 cells, 4 finished before") && again.contains("4 cells, 4 finished before"), "{again}");
}

#[test]
fn a_choice_that_changes_replaces_no_result_unasked() {
    let folder = Folder::new();
    folder.write(&STUDY.replace("[1e-9, 1e-2]", "[1e-9, 1e-8]").replace("[lora, dylora]", "[lora]"));
    folder.good(&["run", "s.yaml"]);
    let bytes = || fs::read(folder.path("results/s/tuned.json")).unwrap();
    let before = bytes();
    let wider = STUDY.replace("[1e-9, 1e-2]", "[1e-9, 1e-8, 1e-2]").replace("[lora, dylora]", "[lora]");
    folder.write(&wider);
    let refused = folder.call(&["run", "s.yaml"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("`--force` replaces them"), "{}", said(&refused));
    assert_eq!(bytes(), before, "the file goes with the results that are there");
    // A force keeps the trials, which are right, and trains what is reported.
    let forced = folder.good(&["run", "s.yaml", "--force"]);
    assert!(forced.contains("3 cells, 3 finished before") && forced.contains("1 cells, 0 finished before"), "{forced}");
    assert_eq!(record(&folder.path("results/s/runs/rte-lora-r2-s0"))["spec"]["train"]["learning_rate"], 1e-2);

    // Trials of another recipe are replaced when asked alone.
    fs::remove_file(folder.path("results/s/tuned.json")).unwrap();
    folder.write(&wider.replace("steps: 60", "steps: 59"));
    let refused = folder.call(&["run", "s.yaml"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("records of 3 cells") && said(&refused).contains("--force"), "{}", said(&refused));
    let forced = folder.good(&["run", "s.yaml", "--force"]);
    assert!(forced.contains("3 cells, 0 finished before"), "{forced}");
}

/// Writes a file of a tuning with the checksum that it would have.
fn sign(path: &Path, tuned: &Value) {
    let mut tuned = tuned.clone();
    tuned.as_object_mut().unwrap().remove("checksum");
    tuned["checksum"] = record::sha256_hex(record::canonical_json(&tuned).as_bytes()).into();
    fs::write(path, tuned.to_string()).unwrap();
}

#[test]
fn a_file_that_is_not_the_tunings_is_refused_wherever_it_is_read() {
    let folder = Folder::new();
    let small = STUDY.replace("steps: 60, batch: 16", "steps: 6, batch: 4").replace("1e-9", "1e-3");
    folder.write(&small);
    folder.good(&["run", "s.yaml"]);
    let file = folder.path("results/s/tuned.json");
    let tuned = folder.tuned();
    let refused = |wanted: &str| {
        for command in ["table", "figures", "run"] {
            let output = folder.call(&[command, "s.yaml"]);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(2), "{command}, {wanted}: {said}");
            assert!(said.contains("tuned.json") && said.contains(wanted) && said.contains("delete it"), "{said}");
        }
    };
    let other = 1 - tuned["groups"][0]["chosen"].as_u64().unwrap();
    let edits: [Edit; 11] = [
        ("scored best", &|t| t["groups"][0]["chosen"] = other.into()),
        ("its seeds", &|t| t["seeds"] = serde_json::json!([0])),
        ("its goal is minimise", &|t| t["goal"] = "minimise".into()),
        ("0 scores", &|t| t["groups"][0]["trials"][0]["scores"] = serde_json::json!([])),
        ("3 groups", &|t| {
            let group = t["groups"][0].clone();
            t["groups"].as_array_mut().unwrap().push(group);
        }),
        ("rte/dylora rank 2 is missing", &|t| drop(t["groups"].as_array_mut().unwrap().pop())),
        ("rte/lora rank 2 is missing", &|t| t["groups"][0]["group"]["task"] = "cola".into()),
        ("not next in its space", &|t| t["groups"][0]["trials"][0]["setting"]["train.learning_rate"] = 0.5.into()),
        ("no setting of rte/lora rank 2 has a score", &|t| {
            for trial in t["groups"][0]["trials"].as_array_mut().unwrap() {
                trial["scores"] = serde_json::json!([null]);
            }
        }),
        ("1 trials", &|t| {
            t["groups"][0]["trials"].as_array_mut().unwrap().pop();
            t["groups"][0]["chosen"] = 0.into();
        }),
        ("not next in its space", &|t| {
            // Nothing is widened here.
            let mut trial = t["groups"][0]["trials"][1].clone();
            trial["setting"]["train.learning_rate"] = 0.1.into();
            t["groups"][0]["trials"].as_array_mut().unwrap().push(trial);
        }),
    ];
    for (wanted, edit) in edits {
        let mut edited = tuned.clone();
        edit(&mut edited);
        fs::write(&file, edited.to_string()).unwrap();
        refused("checksum");
        sign(&file, &edited);
        refused(wanted);
    }
    // Scores have nothing that they could be judged by but the checksum.
    for score in [0.99, 1e300] {
        let mut edited = tuned.clone();
        edited["groups"][0]["trials"][0]["scores"][0] = score.into();
        fs::write(&file, edited.to_string()).unwrap();
        refused("checksum");
    }
    sign(&file, &tuned);
    folder.good(&["table", "s.yaml"]);
}

/// Training rows whose words tell their label, or the other one.
fn reviews(rows: usize, flip: bool) -> String {
    let row = |i: usize| {
        let (word, label) = if i.is_multiple_of(2) { ("warm", 1) } else { ("cold", 0) };
        format!("the soup is {word} and the day {i}\t{}\n", if flip { 1 - label } else { label })
    };
    "sentence\tlabel\n".to_owned() + &(0..rows).map(row).collect::<String>()
}

#[test]
fn a_tuning_does_not_outlive_its_data() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("glue/SST-2")).unwrap();
    let write = |name: &str, text| fs::write(folder.path(&format!("glue/SST-2/{name}.tsv")), text).unwrap();
    write("train", reviews(80, false));
    write("dev", reviews(20, false));
    let study = STUDY.replace("suite: glue_mini", "suite: glue\ndata: glue").replace("[rte]", "[sst2]");
    folder.write(&study.replace("steps: 60, batch: 16", "steps: 6, batch: 4"));
    folder.good(&["run", "s.yaml"]);
    let before = folder.tuned();
    assert_eq!(before["sources"].as_array().unwrap().len(), 1, "{before}");

    write("train", reviews(80, true));
    let refused = || {
        let output = folder.call(&["run", "s.yaml"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let said = said(&output);
        assert!(said.contains("tuned.json") && said.contains("of task `sst2`, its data"), "{said}");
    };
    refused();
    // The file of the choice goes first, so that a force that is interrupted leaves none.
    let mut child = Command::new(env!("CARGO_BIN_EXE_lora-lab"))
        .current_dir(folder.0.path())
        .args(["run", "s.yaml", "--force"])
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while folder.path("results/s/tuned.json").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!folder.path("results/s/tuned.json").exists());
    let done = folder.call(&["run", "s.yaml"]);
    // A kill may come before the old records are gone, which is said; an orderly stop never does.
    let done = if done.status.success() { said(&done) } else { folder.good(&["run", "s.yaml", "--force"]) };
    assert!(done.contains("tuning first"), "{done}");
    let after = folder.tuned();
    assert_ne!(after["sources"], before["sources"]);
    let trial = record(&folder.path("results/s/tune/runs/sst2-lora+learning_rate=0.01-r2-s100"));
    assert_eq!(after["sources"][0]["data_hash"], trial["data_hash"]);

    // The file alone, without records that could tell.
    write("train", reviews(80, false));
    fs::remove_dir_all(folder.path("results/s/runs")).unwrap();
    fs::remove_dir_all(folder.path("results/s/tune")).unwrap();
    refused();
}

#[test]
fn a_setting_that_diverges_is_not_chosen_and_where_all_do_it_is_said() {
    // Nothing holds a step back: no clipping, no warm-up, and a scale that makes every rate too high.
    let wild = STUDY
        .replace("steps: 60,", "steps: 12, clip: null, schedule: constant, warmup: 0,")
        .replace("[lora, dylora]", "[{preset: lora, with: {alpha: 1e6}}]");
    let folder = Folder::new();
    folder.write(&wild.replace("[1e-9, 1e-2]", "[900, 1e-9]"));
    let tables = folder.good(&["run", "s.yaml"]);
    assert!(tables.contains("1 of 2 settings failed") && tables.contains("Failed: settings of which"), "{tables}");
    let group = folder.tuned()["groups"][0].clone();
    assert_eq!(group["chosen"], 1, "{group}");
    assert!(group["trials"][0]["scores"][0].is_null() && group["trials"][1]["scores"][0].is_number(), "{group}");
    // Failed runs are trained again when asked, and trials are runs.
    let retried = folder.good(&["run", "s.yaml", "--retry-failed"]);
    assert!(
        retried.contains("2 cells, 1 finished before") && retried.contains("1 cells, 1 finished before"),
        "{retried}"
    );
    let again = folder.good(&["run", "s.yaml"]);
    assert!(!again.contains("tuning first"), "{again}");

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

/// Real tasks lie in a folder. What their development files say has no part in what is chosen.
#[test]
fn a_task_of_a_folder_is_tuned_by_its_training_file_alone() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("glue/SST-2")).unwrap();
    let write = |name: &str, text: String| fs::write(folder.path(&format!("glue/SST-2/{name}.tsv")), text).unwrap();
    write("train", reviews(80, false));
    write("dev", reviews(20, false));
    let study = STUDY.replace("suite: glue_mini", "suite: glue\ndata: glue").replace("[rte]", "[sst2]");
    folder.write(&study);
    let first = folder.good(&["run", "s.yaml"]);
    assert_eq!(first.matches("sst2, tune: settings are chosen on 16 of 80 training examples").count(), 1, "{first}");
    let before = folder.tuned();
    let group = &before["groups"][0];
    assert_eq!(group["trials"][group["chosen"].as_u64().unwrap() as usize]["setting"]["train.learning_rate"], 1e-2);
    let trial = record(&folder.path("results/s/tune/runs/sst2-lora+learning_rate=0.01-r2-s100"));
    assert_eq!((&trial["evaluations"][0]["split"], &trial["evaluations"][0]["examples"]), (&"tune".into(), &16.into()));
    // The other way round: whoever chose by this file would choose the rate that learns nothing.
    write("dev", reviews(20, true));
    folder.good(&["run", "s.yaml", "--force"]);
    assert_eq!(folder.tuned(), before);
    let reported = record(&folder.path("results/s/runs/sst2-lora-r2-s0"));
    assert_eq!(reported["evaluations"][0]["examples"], 20);
}

const TEXTS: &str = "\
suite: text
data: .
model: ./base
tasks: [{task: {name: say, form: pairs, train: train.txt, dev: dev.txt}}]
seeds: [0]
targets: [c_attn]
ranks: [2]
train: {steps: 20, batch: 4, max_length: 12}
variants: [lora]
tune: {space: {train.learning_rate: [1e-9, 1e-2]}, seeds: [100], holdout: 0.25, widen: 0}
";

#[test]
fn texts_are_tuned_by_the_perplexity_of_contexts_that_no_trial_learns() {
    let folder = Folder::new();
    tiny_gpt2::write(&folder.path("base"));
    let contexts = ["a", "the", "a film", "the film", "a plot", "the plot", "good", "bad"];
    let lines: Vec<String> = contexts.iter().flat_map(|c| [format!("{c}||good film"), format!("{c}||bad")]).collect();
    fs::write(folder.path("train.txt"), lines.join("\n")).unwrap();
    fs::write(folder.path("dev.txt"), "film||good film\n").unwrap();
    folder.write(TEXTS);
    folder.good(&["run", "s.yaml"]);
    let tuned = folder.tuned();
    let group = &tuned["groups"][0];
    assert_eq!((&tuned["goal"], &group["chosen"]), (&"minimise".into(), &1.into()), "{tuned}");
    let score = |trial: usize| group["trials"][trial]["scores"][0].as_f64().unwrap();
    assert!(score(1) < score(0), "{tuned}");
    let trial = record(&folder.path("results/s/tune/runs/say-lora+learning_rate=0.01-r2-s100"));
    // Two of eight contexts, with two completions each.
    assert_eq!((&trial["evaluations"][0]["split"], &trial["evaluations"][0]["examples"]), (&"tune".into(), &4.into()));
    assert_eq!(record(&folder.path("results/s/runs/say-lora-r2-s0"))["spec"]["train"]["learning_rate"], 1e-2);

    // A file that cannot be cut is found before anything trains.
    fs::write(folder.path("train.txt"), "a||good film\na||bad\n").unwrap();
    let refused = folder.call(&["run", "s.yaml", "--set", "name=few"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("task `say`: 2 training examples are too few"), "{}", said(&refused));
}

#[test]
fn every_trial_starts_from_the_adapter_that_the_task_names() {
    let folder = Folder::new();
    let plain = STUDY.replace("[lora, dylora]", "[lora]");
    let (first, _) = plain.split_once("tune:").unwrap();
    fs::write(folder.path("first.yaml"), first).unwrap();
    folder.good(&["run", "first.yaml"]);
    let from = "results/first/runs/rte-lora-r2-s0";
    folder.write(&plain.replace("[rte]", &format!("[{{task: wnli, start_from: {from}}}]")));
    folder.good(&["run", "s.yaml"]);
    for path in ["results/s/tune/runs/wnli-lora+learning_rate=0.01-r2-s100", "results/s/runs/wnli-lora-r2-s0"] {
        assert_eq!(record(&folder.path(path))["start"]["name"], from);
    }
}
