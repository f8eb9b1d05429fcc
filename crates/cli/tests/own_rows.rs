//! Rows of one's own: predictions as tables by the file's name, and evaluations of any adapter on a file.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// A study of one's own table, trained for a few steps.
struct Place(tempfile::TempDir);

const STUDY: &str = "\
suite: custom
data: DATA
model: mini_roberta
tasks:
  - task: {name: mood, train: train.csv, dev: dev.csv, text: text, label: mood}
seeds: [0, 1]
targets: [query, value]
ranks: [2]
train: {steps: 30, batch: 8, max_length: 16, learning_rate: 2e-3, warmup: 0.0}
variants: [lora]
";

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let row = |i: usize| format!("\"the {}, it slept .\",{}\n", ["dog", "cat"][i % 2], ["calm", "wild"][i % 2]);
        let rows: String = (0..16).map(row).collect();
        place.write("train.csv", &format!("text,mood\n{rows}"));
        place.write("dev.csv", &format!("text,mood\n{rows}"));
        place.write("study.yaml", &STUDY.replace("DATA", &place.text("")));
        place.says(0, &["--results", &place.text("results"), "run", &place.text("study.yaml")], &[]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn run(&self) -> String {
        self.text("results/study/runs/mood-lora-r2-s0")
    }

    /// Runs the program and checks its status and what it says.
    #[track_caller]
    fn says(&self, status: i32, arguments: &[&str], parts: &[&str]) -> String {
        let Output { status: found, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_lora-lab"))
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .args(arguments)
            .env_remove("LORA_LAB_GLUE")
            .output()
            .unwrap();
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert_eq!(found.code(), Some(status), "{arguments:?}: {stdout}\n{stderr}");
        for part in parts {
            assert!(stderr.contains(part) || stdout.contains(part), "no `{part}` in {stdout}\n{stderr}");
        }
        stdout
    }
}

#[test]
fn predictions_are_written_as_the_files_name_says() {
    let place = Place::new();
    let run = place.run();
    // No label, and a column that is nobody's.
    place.write("new.csv", "id,text\n7,\"the dog, it slept .\"\n8,\"the \"\"cat\"\" slept .\"\n");
    let new = place.text("new.csv");
    let predict = |out: &str, parts: &[&str]| {
        place.says(0, &["predict", "--adapter", &run, "--data", &new, "--out", &place.text(out)], parts)
    };
    predict("out.csv", &["wrote predictions of 2 rows", "nothing is scored"]);
    let csv = place.read("out.csv");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "index,prediction,p_calm,p_wild,label,text");
    assert!(lines[1].starts_with("0,") && lines[1].ends_with(",,\"the dog, it slept .\""), "{csv}");
    assert!(lines[2].ends_with(",,\"the \"\"cat\"\" slept .\""), "{csv}");
    predict("out.tsv", &[]);
    assert!(place.read("out.tsv").starts_with("index\tprediction\tp_calm\t"));
    predict("out.jsonl", &[]);
    let jsonl = place.read("out.jsonl");
    let rows: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), &rows[1]["text"], &rows[0]["label"]), (2, &"the \"cat\" slept .".into(), &Value::Null));
    let [calm, wild] = ["calm", "wild"].map(|class| rows[0]["probabilities"][class].as_f64().unwrap());
    assert!((calm + wild - 1.0).abs() < 1e-12);
    let likelier = if calm > wild { "calm" } else { "wild" };
    assert_eq!(rows[0]["prediction"], likelier);
    assert!(lines[1].starts_with(&format!("0,{likelier},{calm},{wild},")), "{csv}");
    // The same command writes its own file again; a file of others stays.
    predict("out.csv", &[]);
    place.write("mine.csv", "a,b\n1,2\n");
    let mine = place.text("mine.csv");
    place.says(2, &["predict", "--adapter", &run, "--data", &new, "--out", &mine], &["not an earlier output"]);
    let other = ["predict", "--adapter", &run, "--data", &new, "--out", &place.text("out.txt")];
    place.says(2, &other, &["out.txt", "`.csv`", "`.tsv`", "`.jsonl`", "`.safetensors`"]);
    assert!(!place.path("out.txt").exists());
    // Labels that are there are shown, and scored.
    let dev = place.text("dev.csv");
    let scored =
        place.says(0, &["predict", "--adapter", &run, "--data", &dev, "--out", &place.text("dev_out.csv")], &[]);
    assert!(scored.starts_with("metric,value,examples\naccuracy,") && scored.ends_with(",16\n"), "{scored}");
    assert!(
        place.read("dev_out.csv").lines().nth(2).unwrap().contains(",wild,\"the cat"),
        "{}",
        place.read("dev_out.csv")
    );
    // A column that is needed is named.
    place.write("without.csv", "body\nhello\n");
    let without = ["predict", "--adapter", &run, "--data", &place.text("without.csv")];
    place.says(2, &without, &["without.csv", "`text`", "`body`"]);
}

#[test]
fn an_adapter_is_evaluated_on_a_file_whoever_trained_it() {
    let place = Place::new();
    let (run, dev, study) = (place.run(), place.text("dev.csv"), place.text("study.yaml"));
    let lines = |out: &str| out.lines().map(str::to_owned).collect::<Vec<_>>();
    let own = lines(&place.says(0, &["eval", &run, "--data", &dev], &[]));
    assert_eq!(own[0], "task,variant,rank,split,metric,value,examples");
    assert!(own[1].starts_with("mood,lora,2,dev.csv,accuracy,") && own[1].ends_with(",16"), "{own:?}");
    // The file of the dev split has the numbers of the split.
    let split = lines(&place.says(0, &["eval", &run], &[]));
    assert_eq!(split[1].replace(",dev,", ",dev.csv,"), own[1]);
    place.write("new.csv", "text\nthe dog slept .\n");
    place.says(2, &["eval", &run, "--data", &place.text("new.csv")], &["no label in 1 of 1 rows", "lora-lab predict"]);
    place.says(2, &["eval", &run, "--task", "mood"], &["knows its task"]);
    // Through PEFT and back: the folder itself, and what `import` makes of it.
    let (there, back) = (place.text("there"), place.text("back"));
    place.says(0, &["export", &run, "--to", "peft", "--out", &there], &[]);
    let value = |line: &str| line.split(',').skip(3).collect::<Vec<_>>().join(",");
    let of = |arguments: &[&str]| value(&lines(&place.says(0, arguments, &[]))[1]);
    assert_eq!(of(&["eval", &there, "--data", &dev]), value(&own[1]));
    place.says(0, &["import", &there, "--out", &back], &[]);
    assert_eq!(of(&["eval", &back]), value(&split[1]));
    // As PEFT would have left it: what is missing is said, and with it the numbers are the same.
    fs::remove_file(place.path("there/lora_lab.json")).unwrap();
    place.says(2, &["eval", &there], &["adapter_config.json", "which task", "--task NAME"]);
    let told = ["eval", &there, "--experiment", &study, "--task", "mood"];
    assert_eq!(of(&told), value(&split[1]));
    assert_eq!(of(&[&told[..], &["--data", &dev]].concat()), value(&own[1]));
    place.says(2, &["eval", &there, "--experiment", &study, "--task", "mod"], &["no task `mod`", "mood"]);
    // An imported adapter whose data are elsewhere now is bad input, and no failed run.
    for file in ["train.csv", "dev.csv"] {
        fs::rename(place.path(file), place.path(&format!("{file}.away"))).unwrap();
    }
    place.says(2, &["eval", &back], &["train.csv"]);
    place.says(0, &["import", &there, "--task", "rte", "--suite", "glue", "--out", &place.text("glue")], &["wrote"]);
    place.says(2, &["eval", &place.text("glue")], &["rte"]);
}
