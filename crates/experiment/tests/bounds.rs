//! Every number that an experiment can hold, at the edges of what a number can be: it is legal or refused in words, and costs nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::panic::catch_unwind;

use peak_alloc::PeakAlloc;
use serde_yaml::{Mapping, Value};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What numbers are tried: below, beyond 32 bits, beyond the whole numbers of a double, beyond signed and unsigned, beyond any.
const TRIED: [&str; 9] = [
    "0",
    "-1",
    "2147483648",
    "9007199254740992",
    "9223372036854775808",
    "18446744073709551615",
    "1e308",
    ".nan",
    ".inf",
];

/// Memory that a check may take, in megabytes. A check without wrong numbers takes about 5.
const MOST: f32 = 64.0;

/// An experiment with every numeric key that there is outside `train` and `with`.
const CLASSES: &str = "\
suite: glue_mini
model: mini_roberta
tasks: [sst2]
seeds: [0]
streams: {init: 1, data: 1, dropout: 1}
targets: [query, value]
layers_to_transform: [0]
rank_pattern: {query: 2}
alpha_pattern: {query: 8}
ranks: [4]
cohort: 2
train: {}
variants:
  - preset: lora
    ranks: [4]
    layers_to_transform: [1]
    rank_pattern: {query: 2}
    alpha_pattern: {query: 8}
    train: {batch: 8}
  - dora
contrasts: [{variant: lora, rank: 4, against: dora, against_rank: 4, margin: 1}]
";

const TEXTS: &str = "\
suite: text
model: hf://org/unknown
data: .
tasks:
  - task:
      name: t
      form: pairs
      train: a.txt
      dev: b.txt
      metrics: [bleu]
      limit: 5
      decoding: {max_new_tokens: 8, beams: 2, length_penalty: 1.0, no_repeat_ngram: 2}
seeds: [0]
targets: [query]
ranks: [4]
train: {steps: 5, max_length: 64}
variants: [lora, dylora]
";

const BLOCKS: &str = "\
suite: text
model: hf://org/unknown
data: .
tasks: [{task: {name: t, form: blocks, train: a.txt, dev: b.txt, block: 8}}]
seeds: [0]
targets: [query]
ranks: [4]
train: {steps: 5, max_length: 64}
variants: [lora]
";

const OWN: &str = "\
suite: custom
model: mini_roberta
data: .
tasks: [{task: {name: t, train: a.csv, dev_share: 0.1, text: a, label: b, labels: [0, 1]}}]
seeds: [0]
targets: [query]
ranks: [4]
train: {steps: 5}
variants: [lora]
";

/// Dotted paths of all numbers in a value; items of lists by their index.
fn numbers(value: &Value, at: &str, found: &mut Vec<String>) {
    let inside = |key: String| if at.is_empty() { key } else { format!("{at}.{key}") };
    match value {
        Value::Number(_) => found.push(at.to_owned()),
        Value::Mapping(map) => {
            map.iter().for_each(|(key, value)| numbers(value, &inside(key.as_str().unwrap().to_owned()), found));
        }
        Value::Sequence(items) => {
            items.iter().enumerate().for_each(|(index, value)| numbers(value, &inside(index.to_string()), found));
        }
        _ => {}
    }
}

fn put(value: &mut Value, path: &str, number: &str) {
    let slot = path.split('.').fold(value, |slot, key| match slot {
        Value::Sequence(items) => &mut items[key.parse::<usize>().unwrap()],
        other => other.as_mapping_mut().unwrap().entry(key.into()).or_insert(Value::Mapping(Mapping::new())),
    });
    *slot = serde_yaml::from_str(number).unwrap();
}

/// Tries every number at `path`; none may end the program, take memory, or be refused without naming the key and the value.
#[track_caller]
fn walk(text: &str, path: &str, refused: &mut usize) {
    for number in TRIED {
        let mut root: Value = serde_yaml::from_str(text).unwrap();
        put(&mut root, path, number);
        let text = serde_yaml::to_string(&root).unwrap();
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage_as_mb();
        let read = catch_unwind(|| experiment::read(&text, "x.yaml", "x", &[]))
            .unwrap_or_else(|_| panic!("{path}: {number} ends the program"));
        let taken = MEMORY.peak_usage_as_mb() - before;
        assert!(taken < MOST, "{path}: {number} takes {taken} MB");
        if let Err(errors) = read {
            *refused += 1;
            let message = errors.to_string();
            let mut keys = path.rsplit('.').filter(|part| part.parse::<usize>().is_err()).take(2);
            assert!(keys.any(|key| message.contains(key)), "{path}: {number} is refused without its key: {message}");
        }
    }
}

#[test]
fn numbers_of_an_experiment_are_legal_or_refused() {
    let mut refused = 0;
    for text in [CLASSES, TEXTS, BLOCKS, OWN] {
        let mut paths = Vec::new();
        numbers(&serde_yaml::from_str(text).unwrap(), "", &mut paths);
        assert!(paths.len() > 4, "{paths:?}");
        for path in &paths {
            walk(text, path, &mut refused);
        }
    }
    assert!(refused > 100, "{refused}");
}

/// A recipe with a number for every field that takes one.
fn every_field() -> Mapping {
    let mut all = serde_yaml::to_value(experiment::hyper::Hyper::default()).unwrap();
    for key in [
        "steps",
        "epochs",
        "head_learning_rate",
        "clip",
        "evaluate_every",
        "patience",
        "backbone_dropout",
        "snapshot_every",
    ] {
        put(&mut all, key, "1");
    }
    all.as_mapping().unwrap().clone()
}

#[test]
fn numbers_of_a_recipe_are_legal_or_refused() {
    let mut refused = 0;
    let fields = every_field();
    let numeric = fields.iter().filter(|(_, value)| value.is_number()).map(|(key, _)| key.as_str().unwrap());
    let numeric: Vec<&str> = numeric.collect();
    assert!(numeric.len() > 15, "{numeric:?}");
    for key in numeric {
        walk(CLASSES, &format!("train.{key}"), &mut refused);
        walk(CLASSES, &format!("variants.0.train.{key}"), &mut refused);
    }
    assert!(refused > 150, "{refused}");
}

#[test]
fn numbers_of_a_composition_are_legal_or_refused() {
    let mut refused = 0;
    for preset in variants::preset::all() {
        let mut root: Value = serde_yaml::from_str(CLASSES).unwrap();
        let map = root.as_mapping_mut().unwrap();
        let plain = ["contrasts", "layers_to_transform", "rank_pattern", "alpha_pattern"];
        for key in plain {
            map.remove(key);
        }
        let spec = serde_yaml::to_value(preset.at(8)).unwrap();
        let mut paths = Vec::new();
        numbers(&spec, "", &mut paths);
        let ranked = preset.at(8).delta.is_some_and(|delta| delta.is_ranked());
        let ranks = if ranked { "ranks: [8], " } else { "" };
        let entry = format!("[{{preset: {}, {ranks}with: {{}}}}]", preset.name);
        map.insert("variants".into(), serde_yaml::from_str(&entry).unwrap());
        map.insert("train".into(), serde_yaml::from_str("{steps: 100}").unwrap());
        let text = serde_yaml::to_string(&root).unwrap();
        for path in paths.iter().filter(|path| *path != "rank") {
            walk(&text, &format!("variants.0.with.{path}"), &mut refused);
        }
        for role in ["a", "b", "head", "magnitude"] {
            for field in ["lr_multiplier", "learning_rate", "weight_decay"] {
                walk(&text, &format!("variants.0.with.train.{role}.{field}"), &mut refused);
            }
        }
    }
    assert!(refused > 500, "{refused}");
}
