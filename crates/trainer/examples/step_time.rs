//! Seconds per training step at a shape, on any device, with random weights and tokens: what the scripts under `bench/` time beside PEFT.
//!
//! ```text
//! cargo run --release --example step_time -- --shape roberta-base --batch 32 --seq 128 --runs 1 --device tch:cuda:0 --base bf16
//! ```
//! Prints one line of JSON. Shapes: `mini` (4 x 128), `minilm` (6 x 384), `roberta-base` (12 x 768), all with RoBERTa's head of two maps.
//! `--variants lora,dora` puts `--runs` runs of each into one cohort; `--each lora,dora` times one after another on one base, a line of JSON
//! for each, and `--each all` every method that is registered, `lora` again after every ten. Rows are between half of `--seq` and all of it long, and padded to it
//! where they are not packed.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "a benchmark prints its figures"
)]

use std::{collections::BTreeMap, time::Instant};

use assets::device;
use burn::tensor::DType;
use data::{batch::Encoded, task::Objective};
use experiment::{
    cell::{Cell, Recipe},
    hyper::Hyper,
};
use models::{
    backbone::Backbone,
    config::{Config, Purpose},
    head::{Classifier, Head},
    modules::Modules,
    network::Network,
    target::Target,
    weights::{Start, Weights},
};
use record::CellId;
use trainer::{
    batch::{BatchSource, HostBatch, Padding, RunRows, collate},
    cohort::{Cohort, Stack},
    step::optimizer::Adam,
    study::run_state::RunState,
};
use variants::{
    host::{Placement, values},
    pass::{Active, Pass},
    preset,
    slot::{RunPlan, StackPlan},
    stream::{self, Seeds, Stream},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Batches that come again in turn, the same for every run.
struct Given {
    batches: Vec<Vec<Encoded>>,
    stacks: Vec<usize>,
    objective: Objective,
}

impl BatchSource for Given {
    fn batch(&self, network: &Network, micro: u64) -> HostBatch {
        let batch = &self.batches[micro as usize % self.batches.len()];
        let run = RunRows::new(batch.iter().collect(), batch.len(), &self.objective);
        let stacks: Vec<_> = self.stacks.iter().map(|runs| vec![run.clone(); *runs]).collect();
        collate(network, &stacks, Padding { token: 1, bucket: 1, at_least: 0 })
    }
}

fn config(shape: &str, dropout: f64) -> String {
    let (layers, d, heads, wide, vocabulary) = match shape {
        "mini" => (4, 128, 4, 512, 2048),
        "minilm" => (6, 384, 12, 1536, 30522),
        "roberta-base" => (12, 768, 12, 3072, 50265),
        other => panic!("`{other}`: a shape is mini, minilm or roberta-base"),
    };
    format!(
        r#"{{"model_type": "roberta", "hidden_size": {d}, "num_hidden_layers": {layers}, "num_attention_heads": {heads},
        "intermediate_size": {wide}, "vocab_size": {vocabulary}, "max_position_embeddings": 514, "type_vocab_size": 1,
        "layer_norm_eps": 1e-5, "pad_token_id": 1, "hidden_dropout_prob": {dropout}, "attention_probs_dropout_prob": {dropout}}}"#
    )
}

/// Milliseconds of a batch's logits, read: the base with a head alone, with the adapter beside it, and with the adapter folded in.
fn infer(network: &Network, batches: &Given, place: &Placement, steps: usize) {
    let bare =
        (preset::find("head_only").unwrap().spec)(0).check(None).unwrap_or_else(|problems| panic!("{problems:?}"));
    let plan = StackPlan::new(bare, vec![RunPlan { init_seed: 0, alpha: 1.0 }], std::collections::BTreeSet::new());
    let mut plain = Network::new(network.backbone.clone());
    plain.backbone.slots().iter_mut().for_each(variants::slot::Slot::detach);
    let head = Classifier::new(&plain.backbone, &plan, &[2], &Weights::default());
    plain.attach(&plan, Head::Classifier(head)).unwrap();
    let forms = [
        ("plain", plain),
        ("beside", network.frozen()),
        ("merged", network.merged(0, 0, &Active::All, &plan).unwrap()),
    ];
    let batch = batches.batch(network, 0).upload(place);
    let mut times = vec![Vec::new(); forms.len()];
    for turn in 0..steps + 3 {
        // In turn, so that a drift of the machine's speed falls on all.
        for (at, (_, network)) in forms.iter().enumerate() {
            let clock = Instant::now();
            let logits = network.classify(&batch.tokens, &Pass::evaluation(1)).remove(0);
            assert!(values(&logits).iter().all(|value| value.is_finite()));
            if turn >= 3 {
                times[at].push(clock.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let medians: Vec<f64> = times
        .iter_mut()
        .map(|times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
        .collect();
    let named = |at: usize| (forms[at].0, medians[at], medians[at] / medians[0]);
    println!(
        "{}",
        serde_json::json!({ "system": "lora_lab", "mode": "infer", "forms": [named(0), named(1), named(2)] })
    );
}

/// Random weights: the same few thousand numbers over and over, which costs no minute to draw and changes no time.
fn weights(config: &Config) -> Weights {
    let pool = stream::normal(&mut stream::generator(0, Stream::Init, "weights"), 65_537, 0.02);
    let mut weights = Weights::default();
    for (index, wanted) in config.wanted(Purpose::Classify).into_iter().enumerate() {
        let n = wanted.shape.iter().product();
        let values = match wanted.start {
            Start::Ones => vec![1.0; n],
            Start::Zeros => vec![0.0; n],
            Start::Normal(_) => pool.iter().cycle().skip(index * 997).take(n).map(|v| *v as f32).collect(),
        };
        weights.insert(wanted.name, wanted.shape, values);
    }
    weights
}

/// The options of the command line.
struct Options(BTreeMap<String, String>);

impl Options {
    fn text(&self, key: &str, or: &str) -> String {
        self.0.get(key).cloned().unwrap_or_else(|| or.to_owned())
    }

    fn count(&self, key: &str, or: usize) -> usize {
        self.text(key, &or.to_string()).parse::<usize>().unwrap()
    }
}

/// What `--each` names.
fn each(words: &str) -> Vec<String> {
    if words != "all" {
        return words.split(',').map(str::to_owned).collect();
    }
    let names: Vec<&str> = preset::all().iter().map(|preset| preset.name).filter(|name| *name != "lora").collect();
    names
        .chunks(10)
        .flat_map(|ten| ["lora"].into_iter().chain(ten.iter().copied()))
        .chain(["lora"])
        .map(str::to_owned)
        .collect()
}

fn main() {
    let mut given: BTreeMap<String, String> = BTreeMap::new();
    let mut words = std::env::args().skip(1);
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        given.insert(key.trim_start_matches("--").to_owned(), value);
    }
    let options = Options(given);
    let (shape, dropout) = (options.text("shape", "mini"), options.text("dropout", "0").parse().unwrap());
    let named = device::parse(&options.text("device", "flex")).unwrap();
    let mut place = Placement::new(&named.device, DType::F32);
    if options.text("base", "f32") == "bf16" {
        place = place.with_base(DType::BF16);
    }
    let config = Config::read(config(&shape, dropout).as_bytes()).unwrap();
    let weights = weights(&config);
    let backbone = Backbone::new(&config, &weights, Purpose::Classify, &place).unwrap();
    drop(weights);
    match options.0.get("each") {
        None => measure(&options, &options.text("variants", "lora"), &config, &backbone, &place, &named),
        Some(words) => {
            for name in each(words) {
                measure(&options, &name, &config, &backbone, &place, &named);
            }
        }
    }
}

/// Times the steps of one cohort.
fn measure(
    options: &Options,
    names: &str,
    config: &Config,
    backbone: &Backbone,
    place: &Placement,
    named: &device::Named,
) {
    let (text, count) = (|key: &str, or: &str| options.text(key, or), |key: &str, or: usize| options.count(key, or));
    let (shape, runs, rank, steps) = (text("shape", "mini"), count("runs", 1), count("rank", 8), count("steps", 30));
    let (rows, seq) = (count("batch", 32), count("seq", 64));
    let dropout: f64 = text("dropout", "0").parse().unwrap();
    let clip: f64 = text("clip", "1").parse().unwrap();
    let targets = match text("targets", "query,value").as_str() {
        "all-linear" => vec!["query", "key", "value", "dense"].into_iter().map(str::to_owned).collect(),
        other => other.split(',').map(str::to_owned).collect::<Vec<_>>(),
    };
    let targets = Target::Endings(targets);
    let train = Hyper { steps: Some(1_000_000), batch: rows, clip: (clip > 0.0).then_some(clip), ..Hyper::default() };
    let mut network = Network::new(backbone.clone());
    let mut stacks = Vec::new();
    for name in names.split(',') {
        let spec = preset::find(name).unwrap().at(rank);
        let spec = variants::spec::VariantSpec { alpha: 16.0, ..spec };
        let variant = spec.check(Some(1_000_000)).unwrap_or_else(|problems| panic!("{problems:?}"));
        let maps = Modules::default().select(variant.adapts().then_some(&targets), config).unwrap().maps;
        let seeds: Vec<u64> = (0..runs as u64).collect();
        let plans = seeds.iter().map(|seed| RunPlan { init_seed: *seed, alpha: spec.alpha }).collect();
        let mut plan = StackPlan::new(variant, plans, maps.into_keys().collect());
        if spec.delta.as_ref().is_some_and(|delta| delta.calibration().is_some()) {
            // No batches to calibrate on: zeros take as long.
            plan = plan.with_given_values();
        }
        let head = Classifier::new(&network.backbone, &plan, &vec![2; runs], &Weights::default());
        network.attach(&plan, Head::Classifier(head)).unwrap();
        let run = |seed: &u64| {
            let id = CellId { task: "given".into(), variant: name.into(), rank, seed: *seed };
            let plan = Recipe {
                suite: "given".into(),
                data: None,
                task: "given".into(),
                given: None,
                model: shape.clone().into(),
                start_from: None,
                targets: targets.clone(),
                modules: Modules::default(),
                preset: name.into(),
                variant: spec.clone(),
                train: train.clone(),
                readouts: Vec::new(),
                holdout: None,
                forgetting: None,
                seeds: Seeds::all(*seed),
            };
            let cell = Cell { id, recipe: plan, diff: serde_json::Value::Null };
            RunState::new(cell, 1_000_000)
        };
        stacks.push(Stack::new(seeds.iter().map(run).collect(), plan));
    }
    let adam = Adam { beta1: train.beta1, beta2: train.beta2, epsilon: train.epsilon };
    let recompute = text("recompute", "false") == "true";
    let sizes = stacks.iter().map(|stack| stack.runs.len()).collect();
    let mut cohort = Cohort::new(network, stacks, 1, adam);
    cohort.recomputes = recompute;
    let batch = |number: u64| {
        let draws = stream::uniform(&mut stream::generator(number, Stream::Data, "ids"), rows * (seq + 2), 1.0);
        let part = |at: usize| f64::midpoint(draws[at], 1.0);
        let vocabulary = config.vocab_size() as f64;
        let lengths: Vec<usize> =
            (0..rows).map(|row| if row == 0 { seq } else { seq - (part(row) * seq as f64 / 2.0) as usize }).collect();
        let id = |cell: usize| 5 + (part(2 * rows + cell) * (vocabulary - 6.0)) as u32;
        let example = |row: usize| Encoded {
            ids: (row * seq..row * seq + lengths[row]).map(id).collect(),
            label: f32::from(u8::from(part(rows + row) > 0.5)),
            ..Encoded::default()
        };
        (0..rows).map(example).collect()
    };
    let objective = Objective::Classification { labels: vec!["no".into(), "yes".into()] };
    let batches = Given { batches: (0..4).map(batch).collect(), stacks: sizes, objective };
    if text("mode", "train") == "infer" {
        infer(&cohort.network, &batches, place, steps);
        return;
    }
    let warm = count("warm", 6);
    let mut losses = Vec::new();
    kernels::memory::reset_peak(&named.device);
    // The first step runs kernel by kernel: its peak is what a step needs. A recording keeps that much, and shows less of it.
    losses.push(cohort.advance(&batches).runs[0].entry.task_loss);
    let peak = kernels::memory::usage(&named.device).map(|memory| memory.peak);
    for _ in 1..warm {
        losses.push(cohort.advance(&batches).runs[0].entry.task_loss);
    }
    let mut each = Vec::new();
    // Steps are timed in groups that end with a read, as the training loop has them on a device.
    let group = count("group", if kernels::ops::writes_in_place(&named.device) { 8 } else { 1 });
    while each.len() * group < steps {
        let clock = Instant::now();
        for _ in 0..group {
            cohort.enqueue(&batches);
        }
        let enqueued = clock.elapsed().as_secs_f64();
        let reports = cohort.flush();
        losses.push(reports[group - 1].runs[0].entry.task_loss);
        each.push((clock.elapsed().as_secs_f64() * 1e3 / group as f64, enqueued * 1e3 / group as f64));
    }
    let mut times: Vec<f64> = each.iter().map(|(total, _)| *total).collect();
    times.sort_by(f64::total_cmp);
    let mut hosts: Vec<f64> = each.iter().map(|(_, host)| *host).collect();
    hosts.sort_by(f64::total_cmp);
    let memory = kernels::memory::usage(&named.device);
    // What the first step computed on, padding and what fills lines up included.
    let layout = batches.batch(&cohort.network, 0).arrays.tokens;
    let finite = losses.iter().all(|loss| loss.is_finite());
    println!(
        "{}",
        serde_json::json!({
            "system": "lora_lab", "shape": shape, "device": named.name, "base": text("base", "f32"), "batch": rows, "seq": seq,
            "runs": runs, "variants": names, "rank": rank, "targets": text("targets", "query,value"),
            "dropout": dropout, "recompute": recompute, "tokens": layout.rows * layout.seq, "median_ms": times[times.len() / 2], "min_ms": times[0], "host_ms": hosts[hosts.len() / 2],
            "first_ms": each[0].0, "last_ms": each[each.len() - 1].0,
            "peak_bytes": peak, "now_bytes": memory.map(|memory| memory.now),
            "reserved_bytes": memory.map(|memory| memory.reserved), "finite": finite, "loss": losses[losses.len() - 1],
        })
    );
}
