//! An optimizer step's loss is a mean over its tokens (or rows), however they are split into micro-batches.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/study.rs"]
mod support;

use std::{path::Path, sync::atomic::AtomicBool};

use burn::tensor::DType;
use record::RunRecord;
use support::{cache, cells, run};
use trainer::sink::Silent;

/// Rows per micro-batch, and micro-batches.
type Split = (usize, usize);

/// Trains in f64, where a sum in another order is 1e-16 away and not 1e-7, and Adam does not make a step of a rounding error.
fn train(yaml: &str, (batch, accumulate): Split, cohort: usize) -> Vec<RunRecord> {
    let sets = [format!("train.batch={batch}"), format!("train.accumulate={accumulate}")];
    let cells = cells(yaml, &sets.each_ref().map(String::as_str));
    let root = tempfile::tempdir().unwrap();
    run(&cache(DType::F64), &cells, root.path(), cohort, &AtomicBool::new(false), &Silent).unwrap()
}

#[track_caller]
fn agree(one: &RunRecord, other: &RunRecord, split: Split) {
    let columns = |record: &RunRecord| [record.steps.task_loss().to_vec(), record.steps.gradient_norm().to_vec()];
    for (one, other) in columns(one).into_iter().flatten().zip(columns(other).into_iter().flatten()) {
        assert!((one - other).abs() < 1e-7 * one.abs(), "{split:?}: {one} {other}"); // row shares are f32
    }
}

fn write(folder: &Path, name: &str, lines: &[&str]) {
    std::fs::write(folder.join(name), lines.join("\n")).unwrap();
}

#[test]
fn tokens_weigh_alike_in_every_micro_batch() {
    let data = tempfile::tempdir().unwrap();
    let [short, long, word, count, letter] = [
        r#"{"prompt": "q: ", "completion": "a"}"#,
        r#"{"prompt": "say: ", "completion": "the quick brown fox jumps over it"}"#,
        r#"{"prompt": "x ", "completion": "yes"}"#,
        r#"{"prompt": "count ", "completion": "one two three four five"}"#,
        r#"{"prompt": "z", "completion": "w"}"#,
    ];
    write(data.path(), "first.jsonl", &[short, long, word, count]);
    write(data.path(), "second.jsonl", &[long, long, letter, count]);
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/token_means");
    let yaml = format!(
        "suite: text\nmodel: {}\ndata: {}\nseeds: [0, 1]\ntargets: [c_attn]\nranks: [2]\n\
         train: {{steps: 4, learning_rate: 1e-2, max_length: 60, warmup: 0, backbone_dropout: 0}}\n\
         tasks:\n  - task: {{name: first, form: instructions, train: first.jsonl, dev: dev.jsonl}}\n  \
         - task: {{name: second, form: instructions, train: second.jsonl, dev: dev.jsonl}}\n\
         variants: [lora, dora, {{preset: adalora, with: {{rank_policy: {{target_rank: 1, initial_steps: 1, final_steps: 1, interval: 1}}}}}}]\n",
        base.display(),
        data.path().display()
    );
    write(data.path(), "dev.jsonl", &[letter]);
    // A step sees all four rows of a run, so nothing but their split differs.
    let whole = train(&yaml, (4, 1), 12);
    assert_eq!(whole[0].cohort.members.len(), 12, "one cohort of tasks, variants and seeds");
    for record in whole.iter().filter(|record| record.cell.task == "first") {
        assert!((record.steps.task_loss()[0] - 6.2994).abs() < 5e-5, "{:?}", record.steps.task_loss());
    }
    for split in [(2, 2), (1, 4)] {
        for cohort in [1, 12] {
            for (one, other) in whole.iter().zip(&train(&yaml, split, cohort)) {
                agree(one, other, split);
            }
        }
    }
}

#[test]
fn rows_weigh_alike_in_a_short_micro_batch() {
    let data = tempfile::tempdir().unwrap();
    let row = |n: usize| format!("{},{}", ["the dog runs", "a cat sees the big house", "dog"][n % 3], n % 2);
    let rows: Vec<String> = std::iter::once("sentence,mood".to_owned()).chain((0..10).map(row)).collect();
    write(data.path(), "rows.csv", &rows.iter().map(String::as_str).collect::<Vec<_>>());
    write(data.path(), "dev.csv", &["sentence,mood", "a dog,1", "a cat,0"]);
    let yaml = format!(
        "suite: own\nmodel: mini_roberta\ndata: {}\nseeds: [0]\ntargets: [query]\nranks: [2]\n\
         train: {{steps: 3, learning_rate: 1e-2, warmup: 0, backbone_dropout: 0}}\n\
         tasks: [{{task: {{name: mood, train: rows.csv, dev: dev.csv, text: sentence, label: mood}}}}]\nvariants: [lora]\n",
        data.path().display()
    );
    let whole = train(&yaml, (10, 1), 1);
    // Three micro-batches of 4, 4 and 2 rows in some order.
    for split in [(5, 2), (4, 3), (1, 10)] {
        agree(&whole[0], &train(&yaml, split, 1)[0], split);
    }
}
