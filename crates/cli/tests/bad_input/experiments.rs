//! Experiments that say what cannot be.

use crate::case::Case;

/// Reads the experiment and trains nothing.
pub(crate) const CHECK: &str = "check e.yaml";

/// A valid experiment, with the lines of `rest` in place of those whose keys it gives.
pub(crate) fn yaml(rest: &str) -> String {
    let lines = [
        ("suite", "glue_mini"),
        ("model", "mini_roberta"),
        ("tasks", "[sst2]"),
        ("seeds", "[0]"),
        ("targets", "[query, value]"),
        ("ranks", "[2]"),
        ("train", "{steps: 2, batch: 2}"),
        ("variants", "[lora]"),
    ];
    let missing = |key: &str| !rest.lines().any(|line| line.starts_with(&format!("{key}:")));
    let kept = lines.iter().filter(|(key, _)| missing(key)).map(|(key, value)| format!("{key}: {value}\n"));
    kept.collect::<String>() + rest + "\n"
}

/// Names, and the lines that stand in place of the valid ones.
const LINES: &[(&str, &str)] = &[
    ("a seed of 2^64", "seeds: [18446744073709551616]"),
    ("a seed below 0", "seeds: [-1]"),
    ("a seed that is a fraction", "seeds: [0.5]"),
    ("a seed twice", "seeds: [3, 3]"),
    ("no seeds", "seeds: []"),
    ("seeds as text", "seeds: zero"),
    ("a stream's seed of 2^64", "streams: {init: 18446744073709551616}"),
    ("an unknown stream", "streams: {weights: 1}"),
    ("a rank of 0", "ranks: [0]"),
    ("a rank below 0", "ranks: [-4]"),
    ("a rank above the width", "ranks: [129]"),
    ("a rank of 2^64 - 1", "ranks: [18446744073709551615]"),
    ("a rank of 2^64", "ranks: [18446744073709551616]"),
    ("a rank that is a fraction", "ranks: [2.5]"),
    ("no ranks", "ranks: []"),
    ("no tasks", "tasks: []"),
    ("no variants", "variants: []"),
    ("an unknown task", "tasks: [sst]"),
    ("an unknown preset", "variants: [lorra]"),
    ("an unknown suite", "suite: glue_micro"),
    ("an unknown model", "model: mini_robarta"),
    ("an unknown key", "seed: 1"),
    ("an unknown training field", "train: {stepz: 3}"),
    ("a batch of 0", "train: {steps: 2, batch: 0}"),
    ("a batch of 2^64 - 1", "train: {steps: 2, batch: 18446744073709551615}"),
    ("a batch of 10^12", "train: {steps: 2, batch: 1000000000000}"),
    ("accumulation of 10^12 micro-batches", "train: {steps: 2, accumulate: 1000000000000}"),
    ("steps of 0", "train: {steps: 0}"),
    ("steps of 2^64", "train: {steps: 18446744073709551616}"),
    ("epochs that are not a number", "train: {epochs: .nan}"),
    ("epochs without end", "train: {epochs: .inf}"),
    ("a rate below 0", "train: {steps: 2, learning_rate: -1}"),
    ("a rate that is not a number", "train: {steps: 2, learning_rate: .nan}"),
    ("a rate without end", "train: {steps: 2, learning_rate: .inf}"),
    ("a warm-up of more than all steps", "train: {steps: 2, warmup: 1.5}"),
    ("beta of 1", "train: {steps: 2, beta1: 1}"),
    ("inputs longer than the model's positions", "train: {steps: 2, max_length: 100000}"),
    ("inputs of 2 tokens", "train: {steps: 2, max_length: 2}"),
    ("evaluation every 0 steps", "train: {steps: 2, evaluate_every: 0}"),
    ("checkpoints every 0 steps", "train: {steps: 2, checkpoint_every: 0}"),
    ("patience without evaluations", "train: {steps: 2, patience: 2}"),
    ("dropout of 1", "train: {steps: 2, backbone_dropout: 1}"),
    ("an unknown precision", "train: {steps: 2, precision: fp8}"),
    ("a cohort of 0", "cohort: 0"),
    ("a cohort of 2^64", "cohort: 18446744073709551616"),
    ("an alpha of 0", "variants: [{preset: lora, with: {alpha: 0}}]"),
    ("an alpha that is not a number", "variants: [{preset: lora, with: {alpha: .nan}}]"),
    ("an adapter's dropout of 1", "variants: [{preset: lora, with: {dropout: 1.0}}]"),
    ("an unknown field of a variant", "variants: [{preset: lora, with: {colour: blue}}]"),
    ("a field of another variant", "variants: [{preset: lora, with: {rank_policy: {target_rank: 9}}}]"),
    ("a label twice", "variants: [lora, lora]"),
    ("a label that climbs", "variants: [{preset: lora, label: ../../up}]"),
    ("a name that climbs", "name: ../up"),
    ("a name from the root", "name: /tmp/up"),
    ("an empty name", "name: ''"),
    ("a name with a NUL", "name: \"a\\0b\""),
    ("an expression that does not end", "targets: '(query'"),
    ("an expression that matches nothing", "targets: '.*nothing'"),
    ("an expression of exponential size", "targets: '((a{1000}){1000}){1000}'"),
    ("no targets", "targets: []"),
    ("a target that is a number", "targets: [3]"),
    ("a layer that is not there", "layers_to_transform: [99]"),
    ("a pattern of rank 0", "rank_pattern: {value: 0}"),
    ("a module to save that is not there", "modules_to_save: [crown]"),
    ("a baseline that is no row", "baseline: none"),
    ("a contrast of no row", "contrasts: [{variant: lorra, against: lora}]"),
    ("a start that leads back to itself", "tasks: [{task: sst2, start_from: sst2}]"),
    ("a start that is not there", "tasks: [{task: sst2, start_from: ./nowhere}]"),
    ("a model's folder that is not there", "model: ./nowhere"),
    ("an address that climbs", "model: hf://../../etc"),
    ("an address of three parts", "model: hf://a/b/c"),
    ("an address without a name", "model: hf://"),
    ("an address with an empty part", "model: hf://org/"),
    ("an address with a port", "model: hf://org:80/name"),
    ("an address with a query", "model: hf://org/name?download=1"),
    ("an address with an escape", "model: hf://org/%2e%2e"),
    ("a revision that climbs", "model: hf://org/name@../../main"),
    ("an empty revision", "model: hf://org/name@"),
    ("a dataset's address that climbs", "suite: glue\ndata: hf://../x"),
    ("a data folder that is not there", "suite: glue\ndata: ./nowhere"),
];

/// Names, and whole files.
const FILES: &[(&str, &[u8])] = &[
    ("an empty file", b""),
    ("a file of white space", b" \n\n"),
    ("a list", b"- 1\n- 2\n"),
    ("a number", b"3\n"),
    ("a tab as indentation", b"train:\n\tsteps: 3\n"),
    ("two documents", b"suite: glue_mini\n---\nsuite: glue\n"),
    ("text that is not UTF-8", b"suite: \xff\xfe\n"),
    ("a NUL", b"suite: a\0b\n"),
    ("a key twice", b"suite: glue_mini\nsuite: glue\n"),
    ("a key that is a list", b"[a, b]: 3\n"),
    ("an alias without an anchor", b"suite: *nowhere\n"),
    ("an anchor inside itself", b"a: &a [*a]\n"),
    ("a tag that names code", b"suite: !!python/object/apply:os.system ['touch strayed']\n"),
    ("a quote that does not end", b"suite: \"glue\n"),
    ("a UTF-16 file", b"\xff\xfes\0u\0i\0t\0e\0"),
];

pub(crate) fn cases() -> Vec<Case> {
    let line = |(name, rest): &(&'static str, &'static str)| {
        let rest = *rest;
        Case::new(format!("experiment: {name}"), CHECK, move |place| place.write("e.yaml", yaml(rest)))
    };
    let file = |(name, bytes): &(&'static str, &'static [u8])| {
        let bytes = *bytes;
        Case::new(format!("experiment: {name}"), CHECK, move |place| place.write("e.yaml", bytes))
    };
    let mut all: Vec<Case> = LINES.iter().map(line).chain(FILES.iter().map(file)).collect();
    all.push(Case::new("experiment: a billion laughs", CHECK, |place| place.write("e.yaml", laughs())));
    all.push(Case::new("experiment: lists in lists", CHECK, |place| {
        place.write("e.yaml", format!("seeds: {}{}", "[".repeat(20_000), "]".repeat(20_000)));
    }));
    all.push(Case::new("experiment: half a million seeds", CHECK, |place| {
        place.write("e.yaml", yaml(&format!("seeds: [{}]", "1, ".repeat(500_000))));
    }));
    all.push(Case::new("experiment: a folder", CHECK, |place| place.write("e.yaml/inside", "")));
    all
}

/// Ten aliases of ten aliases, nine times over.
fn laughs() -> String {
    let mut text = "a0: &a0 [lol]\n".to_owned();
    for level in 1..10 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        text += &format!("a{level}: &a{level} [{before}]\n");
    }
    text + "seeds: *a9\n"
}
