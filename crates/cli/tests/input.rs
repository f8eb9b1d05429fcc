//! What users give: empty texts and prompts, files of no format and without end, YAML with several mistakes. Each is done or refused in
//! words, and nothing panics.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

#[path = "support/tiny_gpt2.rs"]
mod tiny_gpt2;

/// A folder with a tiny GPT-2 in `base`, whose tokenizer frames nothing.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny_gpt2::write(&folder.path().join("base"));
    folder
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Runs the program in a folder; nothing may panic.
#[track_caller]
fn check(folder: &TempDir, arguments: &[&str], status: i32, parts: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_lora-lab"))
        .current_dir(folder.path())
        .env("HF_HUB_OFFLINE", "1")
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}\n{said}");
    assert!(!said.contains("panicked"), "{arguments:?}\n{said}");
    for part in parts {
        assert!(said.contains(part), "{arguments:?}: no `{part}` in\n{said}");
    }
    said
}

const CLASSES: &str = "\
suite: custom
data: .
model: ./base
tasks: [{task: {name: mood, train: train.csv, dev: dev.csv, text: text, label: label}}]
seeds: [0]
targets: [c_attn]
ranks: [2]
train: {steps: 3, batch: 4, max_length: 12}
variants: [lora]
";

/// A folder in which [`CLASSES`] can run.
fn classes() -> TempDir {
    let folder = workplace();
    write(&folder, "train.csv", "text,label\na good film .,1\n\"\",0\nthe bad plot .,0\n\"\",1\n");
    write(&folder, "dev.csv", "text,label\n\"\",0\ngood plot,1\n");
    write(&folder, "e.yaml", CLASSES);
    folder
}

#[test]
fn empty_texts_train_and_predict() {
    let folder = classes();
    let said = check(&folder, &["run", "e.yaml"], 0, &["train.csv: rows with an empty text: 2"]);
    assert!(said.contains("dev: texts that train has as well: 1 of 2"), "{said}");
    write(&folder, "one.csv", "text,label\n\"\",1\n");
    let run = "results/e/runs/mood-lora-r2-s0";
    check(&folder, &["predict", "--adapter", run, "--data", "one.csv", "--out", "a.safetensors"], 0, &["accuracy"]);
}

#[test]
fn files_of_rows_that_cannot_be_read_are_named() {
    let folder = classes();
    check(&folder, &["run", "e.yaml"], 0, &[]);
    let predict = |data: &str, parts: &[&str]| {
        let run = "results/e/runs/mood-lora-r2-s0";
        check(&folder, &["predict", "--adapter", run, "--data", data, "--out", "a.safetensors"], 2, parts);
        check(&folder, &["merge", run, "--data", data, "--out", "merged"], 2, parts);
    };
    write(&folder, "rows.txt", "text,label\ngood,1\n");
    predict("rows.txt", &["rows.txt: ends in no known format; use .tsv, .csv, .jsonl or .parquet"]);
    predict("nope.csv", &["has no file `nope.csv`"]);
    fs::create_dir(folder.path().join("folder.csv")).unwrap();
    predict("folder.csv", &["folder.csv", "is a folder, but only regular files are read"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("endless.csv")).unwrap();
        predict("endless.csv", &["endless.csv", "is a device, but only regular files are read"]);
        let pipe = folder.path().join("pipe.csv");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        predict("pipe.csv", &["pipe.csv", "is a pipe, but only regular files are read"]);
        write(&folder, "endless.yaml", &CLASSES.replace("train.csv", "endless.csv"));
        check(&folder, &["run", "endless.yaml"], 2, &["endless.csv", "is a device"]);
        check(&folder, &["check", "/dev/zero"], 2, &["/dev/zero: is a device, but only regular files are read"]);
    }
}

#[test]
fn empty_prompts_generate_and_cut_texts_are_counted() {
    let folder = workplace();
    write(
        &folder,
        "train.jsonl",
        "{\"prompt\": \"\", \"completion\": \"a good film .\"}\n{\"prompt\": \"the\", \"completion\": \" plot\"}\n",
    );
    write(&folder, "dev.jsonl", "{\"prompt\": \"\", \"completion\": \"a bad film .\"}\n");
    let yaml = "\
suite: text
data: .
model: ./base
tasks: [{task: {name: say, form: instructions, train: train.jsonl, dev: dev.jsonl, metrics: [exact_match], decoding: {max_new_tokens: 2}}}]
seeds: [0]
targets: [c_attn]
ranks: [2]
train: {steps: 3, batch: 2, max_length: 12}
variants: [lora]
";
    write(&folder, "e.yaml", yaml);
    let cut = "1 of 1 generated texts cut at their greatest length (100%)";
    check(&folder, &["run", "e.yaml"], 0, &[cut]);
    let run = "results/e/runs/say-lora-r2-s0";
    let record = fs::read_to_string(folder.path().join(run).join("record.json")).unwrap();
    let record: String = record.split_whitespace().collect();
    assert!(record.contains(r#""generated":{"texts":1,"cut":1}"#), "{record}");
    check(&folder, &["eval", run], 0, &[&format!("dev at rank 2: {cut}")]);
    check(&folder, &["predict", "--adapter", run, "--out", "a.jsonl"], 0, &[cut]);
}

#[test]
fn numbers_that_no_machine_has_are_refused_before_anything_starts() {
    let folder = classes();
    // The messages of `check` are snapshots of `bad_input`.
    for (set, part) in [
        ("train.batch=18446744073709551615", "train.batch: batch is"),
        ("cohort=18446744073709551616", "cohort: cohort is"),
        ("ranks=[18446744073709551615]", "ranks[0]: ranks is"),
    ] {
        check(&folder, &["run", "e.yaml", "--set", set], 2, &[part, "at most"]);
    }
    assert!(!folder.path().join("results").exists());
}

/// `check` says before a device is touched what `run` would say once it has read the weights.
#[test]
fn a_tokenizer_of_another_model_is_found_by_check() {
    let folder = classes();
    let path = folder.path().join("base/tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    vocabulary.insert("far".to_owned(), 2_000_000.into());
    fs::write(&path, tokenizer.to_string()).unwrap();
    let parts = ["tokenizer.json gives `far` the id 2000000", "use the tokenizer that was saved with the model"];
    for command in ["check", "run"] {
        check(&folder, &[command, "e.yaml"], 2, &parts);
    }
    fs::write(&path, "{").unwrap();
    check(&folder, &["check", "e.yaml"], 2, &["tokenizer"]);
}

#[test]
fn every_mistake_of_a_file_is_reported_with_its_line() {
    let folder = classes();
    let wrong =
        CLASSES.replace("[lora]", "[loar]").replace("batch: 4", "batch: 0").replace("steps: 3", "steps: 3, clip: -1");
    write(&folder, "a.yaml", &wrong);
    let parts =
        ["variants[0] (line 9)", "did you mean `lora`?", "train.batch (line 8)", "train.clip (line 8)", "3 problems"];
    check(&folder, &["check", "a.yaml"], 2, &parts);
    write(&folder, "b.yaml", &format!("\u{feff}{CLASSES}"));
    check(&folder, &["check", "b.yaml"], 0, &["no problems"]);
    write(&folder, "c.yaml", &format!("{CLASSES}seeds: [1]\n"));
    check(&folder, &["check", "c.yaml"], 2, &["duplicate entry with key \"seeds\" at line 10 column 1"]);
    write(&folder, "d.yaml", "seeds: [\0]\n");
    check(&folder, &["check", "d.yaml"], 2, &["`\\u{0}` at line 1 column 9"]);
    fs::write(folder.path().join("e2.yaml"), b"seeds: [\xff]\n").unwrap();
    check(&folder, &["check", "e2.yaml"], 2, &["byte `0xff` is not UTF-8 at line 1 column 9"]);
    let absent = CLASSES.replace("./base", "./nowhere").replace("data: .", "data: ./nothing");
    write(&folder, "f.yaml", &absent);
    check(&folder, &["check", "f.yaml"], 2, &["./nowhere: no such folder", "./nothing: no such folder"]);
}
