//! Results stand on their own, `check` opens what `run` opens, and a run says what it does: as a person meets it, in a folder of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// What the program said, both streams, and its status.
fn lora_lab(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lora-lab"))
        .current_dir(folder)
        .env("HF_HUB_OFFLINE", "1")
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().unwrap(), said)
}

#[track_caller]
fn says(folder: &Path, arguments: &[&str], status: i32, parts: &[&str]) -> String {
    let (found, said) = lora_lab(folder, arguments);
    assert_eq!(found, status, "{arguments:?}\n{said}");
    for part in parts {
        assert!(said.contains(part), "{arguments:?}: no `{part}` in\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

/// A folder with a study of two runs of six steps on files of its own, in `study`.
fn place() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..24).map(|n| format!("the film was {},{}\n", ["good", "bad"][n % 2], n % 2)).collect();
    write(folder.path(), "study/data/train.csv", &format!("text,label\n{rows}"));
    write(folder.path(), "study/data/dev.csv", &format!("text,label\n{rows}"));
    write(folder.path(), "study/small.yaml", SMALL);
    folder
}

const SMALL: &str = "\
# Two runs of six steps.
suite: custom
data: data
model: mini_roberta
tasks: [{task: {name: mood, train: train.csv, dev: dev.csv, text: text, label: label}}]
seeds: [0, 1]
targets: [query]
ranks: [2]
train: {steps: 6, batch: 4}
variants: [lora]
";

#[test]
fn a_study_is_read_without_its_file_and_its_overrides() {
    let place = place();
    let at = place.path();
    // Paths are relative to the file, wherever the program is started.
    says(at, &["run", "study/small.yaml", "--set", "train.steps=4", "--device", "cpu"], 0, &["mood"]);
    let kept = fs::read_to_string(at.join("results/small/experiment.yaml")).unwrap();
    assert!(kept.starts_with("# Two runs of six steps. With train.steps=4.\n"), "{kept}");
    assert!(kept.contains("steps: 4") && kept.contains("root: ../../study"), "{kept}");
    let table = says(at, &["table", "small"], 0, &["small: Two runs of six steps. With train.steps=4.", "n = 2"]);
    for study in ["results/small", "results/small/"] {
        assert_eq!(says(at, &["table", study], 0, &[]), table, "{study}");
    }
    says(at, &["figures", "small"], 0, &["results/small/figures/"]);
    says(at, &["analyze", "study", "small"], 0, &["results/small/analysis/"]);
    // The file has other steps: what is there is shown, with what differs.
    let changed = "study/small.yaml has changed since these 2 runs were trained, which are shown as they are: train.steps is `6`, `4` in the records";
    says(at, &["table", "study/small.yaml"], 0, &[changed, "With train.steps=4."]);
    // And without what was kept, as of an earlier build.
    fs::remove_file(at.join("results/small/experiment.yaml")).unwrap();
    says(at, &["table", "study/small.yaml"], 0, &[changed]);
    says(at, &["list", "results"], 0, &["small", "2 runs"]);
    let nothing = "no experiment is called `small`; give the experiment's file";
    says(at, &["table", "results/small"], 2, &["has no experiment.yaml, which `run` writes", nothing]);
}

#[test]
fn records_of_several_recipes_are_not_one_study() {
    let place = place();
    let at = place.path();
    let run = |seed: &str, steps: &str| {
        says(at, &["run", "study/small.yaml", "--set", seed, "--set", steps, "--device", "cpu"], 0, &[]);
    };
    run("seeds=[0]", "train.steps=4");
    run("seeds=[1]", "train.steps=5");
    fs::remove_file(at.join("results/small/experiment.yaml")).unwrap();
    let several = "no record is of the present recipe, and those that are there are of several";
    says(at, &["table", "study/small.yaml"], 2, &[several, "train.steps is `6`, `4`", "train.steps is `6`, `5`"]);
}

#[test]
fn a_record_finds_its_data_from_any_folder() {
    let place = place();
    says(place.path(), &["run", "study/small.yaml", "--device", "cpu"], 0, &[]);
    let elsewhere = tempfile::tempdir().unwrap();
    let run = place.path().join("results/small/runs/mood-lora-r2-s0");
    let run = run.display().to_string();
    let here = says(place.path(), &["eval", &run], 0, &["mood,lora,2,dev,accuracy,"]);
    assert_eq!(says(elsewhere.path(), &["eval", &run], 0, &[]), here);
    // The folder as a whole may move.
    let moved = elsewhere.path().join("moved");
    fs::rename(place.path(), &moved).unwrap();
    let run = moved.join("results/small/runs/mood-lora-r2-s0");
    assert_eq!(says(elsewhere.path(), &["eval", &run.display().to_string()], 0, &[]), here);
    says(&moved, &["table", "small"], 0, &["n = 2"]);
    fs::create_dir(place.path()).unwrap();
}

#[test]
fn every_run_and_step_is_a_line() {
    let place = place();
    let at = place.path();
    says(at, &["run", "study/small.yaml", "--set", "train.evaluate_every=3", "--device", "cpu"], 0, &[]);
    let read = |name: &str| fs::read_to_string(at.join("results/small/tables").join(name)).unwrap();
    let runs = read("runs.csv");
    assert!(runs.starts_with("run,task,variant,rank,seed,status,split,metric,value,"), "{runs}");
    assert_eq!(runs.matches(",finished,dev,accuracy,").count(), 2, "{runs}");
    let steps = read("steps.csv");
    let header = "run,task,variant,rank,seed,step,train/loss,train/penalty,train/learning_rate,train/gradient_norm,train/components,dev/accuracy,dev/loss\n";
    assert!(steps.starts_with(header), "{steps}");
    assert_eq!(steps.lines().count(), 1 + 2 * 6, "{steps}");
    let evaluated = steps.lines().skip(1).filter(|line| !line.ends_with(",,")).count();
    assert_eq!(evaluated, 4, "{steps}");
    says(at, &["table", "small", "--parquet"], 0, &[]);
    for name in ["runs.parquet", "steps.parquet"] {
        assert!(fs::read(at.join("results/small/tables").join(name)).unwrap().starts_with(b"PAR1"));
    }
}

#[test]
fn check_opens_data_and_models_and_says_everything_at_once() {
    let place = place();
    let at = place.path();
    says(at, &["check", "study/small.yaml"], 0, &["2 cells, no problems"]);
    let with = |name: &str, from: &str, to: &str| {
        assert!(SMALL.contains(from));
        write(at, &format!("study/{name}.yaml"), &SMALL.replace(from, to));
        format!("study/{name}.yaml")
    };
    let column = with("column", "label: label}", "label: lable}");
    says(at, &["check", &column], 2, &["lable", "did you mean `label`?"]);
    let file = with("file", "dev: dev.csv", "dev: dev_.csv");
    says(at, &["check", &file], 2, &["dev_.csv"]);
    let twice = "tasks: [{task: {name: mood, train: train.csv, dev: dev.csv, text: text, label: label}}, {task: {name: more, train: none.csv, dev: dev.csv, text: texts, label: label}}]\nname: both";
    let (before, _) = SMALL.split_once("tasks:").unwrap();
    let (_, after) = SMALL.split_once("}}]\n").unwrap();
    let both = format!("{before}{twice}\n{after}").replace("model: mini_roberta", "model: ./nowhere");
    write(at, "study/both.yaml", &both);
    says(at, &["check", "study/both.yaml"], 2, &["study/./nowhere: no such folder", "none.csv"]);
    // A model whose weights are no weights is found before a run.
    write(at, "study/base/config.json", "{}");
    let base = with("base", "model: mini_roberta", "model: base");
    says(at, &["check", &base], 2, &["study/base/config.json"]);
}

#[test]
fn names_of_other_programs_are_translated() {
    let place = place();
    let at = place.path();
    let text = SMALL.replace("seeds: [0, 1]", "seeds: 3").replace("model: mini_roberta", "model: roberta-base").replace(
        "train: {steps: 6, batch: 4}",
        "train: {max_steps: 6, per_device_train_batch_size: 4, zz: 1, yy: 2}\nlearning_rate: 1e-3\nnum_train_epochs: 3",
    );
    write(at, "study/trainer.yaml", &text.replace("variants: [lora]", "variants: [LoRA]"));
    let said = says(
        at,
        &["check", "study/trainer.yaml"],
        2,
        &[
            "write `[0, 1, 2]` for 3 seeds, or `[3]` for the seed 3",
            "the hub's model is written `hf://FacebookAI/roberta-base`",
            "unknown key `max_steps`; the number of steps is `steps` under `train`",
            "unknown key `per_device_train_batch_size`; rows of a micro-batch are `batch` under `train`",
            "unknown key `learning_rate` here; it is a field of `train`",
            "unknown key `num_train_epochs`; the number of passes is `epochs` under `train`",
            "unknown preset `LoRA`, did you mean `lora`?",
        ],
    );
    assert_eq!(said.matches("use one of `steps`").count(), 1, "a list is printed once\n{said}");
}

#[test]
fn a_run_says_what_it_trains() {
    let place = place();
    let at = place.path();
    let said = says(
        at,
        &["run", "study/small.yaml", "--device", "cpu"],
        0,
        &[
            "device: cpu",
            "base: mini_roberta, an encoder of 1.00M parameters",
            "task mood: train 24, dev 24; classes 0, 1; none longer than 64 tokens",
            "lora rank 2: 2.05k parameters train, beside the head",
            "2 cells, 0 finished before, 12 steps to do in 2 cohorts",
        ],
    );
    assert!(!said.contains("tensors are not used"), "{said}");
    // With records of the same rows, it says how long they take.
    says(at, &["run", "study/small.yaml", "--device", "cpu", "--force"], 0, &[]);
    fs::remove_dir_all(at.join("results/small/runs/mood-lora-r2-s0")).unwrap();
    says(at, &["run", "study/small.yaml", "--device", "cpu"], 0, &["by records of these rows, all runs take about"]);
}

#[test]
fn scores_of_the_test_split_are_not_shown_while_training() {
    let place = place();
    let at = place.path();
    let rows: String = (0..24).map(|n| format!("a {} plot,{}\n", ["good", "bad"][n % 2], n % 2)).collect();
    write(at, "study/data/test.csv", &format!("text,label\n{rows}"));
    let text = SMALL
        .replace("dev: dev.csv", "dev: dev.csv, test: test.csv")
        .replace("batch: 4}", "batch: 4, evaluate_every: 3, select: best}");
    write(at, "study/tested.yaml", &text);
    let said = says(at, &["run", "study/tested.yaml", "--device", "cpu"], 0, &["[2/2]", " on dev ("]);
    assert!(!said.contains(" on test ("), "{said}");
}

#[test]
fn a_study_whose_runs_all_failed_says_so() {
    let place = place();
    let said = says(
        place.path(),
        &[
            "run",
            "study/small.yaml",
            "--device",
            "cpu",
            "--set",
            "train.learning_rate=1000",
            "--set",
            "train.weight_decay=1000",
            "--set",
            "train.steps=12",
        ],
        1,
        &["2 of 2 runs failed; their records say why"],
    );
    assert!(said.contains("failed at step"), "{said}");
}

#[test]
fn what_init_writes_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    says(at, &["init"], 0, &["wrote ./my_study.yaml", "lora-lab run my_study.yaml"]);
    says(at, &["check", "my_study.yaml"], 0, &["20 cells, no problems"]);
    says(at, &["init"], 2, &["is there already, and nothing is replaced"]);
    says(
        at,
        &["run", "my_study.yaml", "--device", "cpu", "--set", "train.steps=2", "--set", "seeds=[0]"],
        0,
        &["my_study"],
    );
    says(at, &["list", "experiments"], 0, &["quick", "dylora_glue"]);
    says(at, &["check", "quick", "dylora_glue"], 0, &["4 cells, no problems", "45 cells"]);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        says(at, &["completions", shell], 0, &["lora-lab"]);
    }
    says(at, &["man", "--out", "man"], 0, &[]);
    assert!(fs::read_to_string(at.join("man/lora-lab-run.1")).unwrap().contains("continues where it stopped"));
    says(at, &["schema"], 0, &["https://json-schema.org/draft/2020-12/schema"]);
}
