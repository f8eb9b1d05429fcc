//! Laws of a training step on a device: `LORA_LAB_TEST_DEVICE=tch:cuda:0`, the CPU without it.
//!
//! Where steps are recorded, the third and later steps here are replays.
#![allow(clippy::unwrap_used, reason = "a test")]

use assets::device;
use burn::tensor::DType;
use data::{batch::Encoded, task::Objective};
use experiment::{
    cell::{Cell, Recipe},
    hyper::Hyper,
};
use kernels::memory;
use models::{
    backbone::Backbone,
    config::{Config, Purpose},
    head::{Classifier, Head},
    modules::Modules,
    network::{NamedParam, Network},
    target::Target,
    weights::Weights,
};
use record::CellId;
use trainer::{
    batch::{BatchSource, HostBatch, Padding, RunRows, collate},
    cohort::{Cohort, Stack},
    step::optimizer::Adam,
    study::run_state::{RunAt, RunState},
};
use variants::{
    base_update::AnyBaseUpdate,
    host::{Placement, inner, values},
    laws::calibrated,
    preset::{self, Preset},
    rank::AnyRankPolicy,
    slot::{RunPlan, StackPlan},
    stream::{self, Seeds, Stream},
};

const ROWS: usize = 4;
const SEQ: usize = 16;
const STEPS: u64 = 12;

fn place() -> Placement {
    let name = std::env::var("LORA_LAB_TEST_DEVICE").unwrap_or_else(|_| "flex".to_owned());
    Placement::new(&device::parse(&name).unwrap().device, DType::F32)
}

fn config(dropout: f64) -> Config {
    let json = format!(
        r#"{{"model_type": "roberta", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "vocab_size": 100, "max_position_embeddings": 40, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1,
        "hidden_dropout_prob": {dropout}, "attention_probs_dropout_prob": {dropout}}}"#
    );
    Config::read(json.as_bytes()).unwrap()
}

/// Every run has batches of its own, from its seed.
struct Own {
    /// Seeds by stack.
    seeds: Vec<Vec<u64>>,
    objective: Objective,
    /// Widths of batches, in turn.
    widths: Vec<usize>,
}

impl Own {
    fn width(&self, micro: u64) -> usize {
        self.widths[micro as usize % self.widths.len()]
    }
}

fn examples(seed: u64, micro: u64, seq: usize) -> Vec<Encoded> {
    let draws = stream::uniform(&mut stream::generator(seed, Stream::Data, &micro.to_string()), ROWS * (seq + 2), 1.0);
    let part = |at: usize| f64::midpoint(draws[at], 1.0);
    let length = |row: usize| if row == 0 { seq } else { seq - (part(row) * seq as f64 / 2.0) as usize };
    let id = |cell: usize| 5 + (part(2 * ROWS + cell) * 94.0) as u32;
    let example = |row: usize| Encoded {
        ids: (row * seq..row * seq + length(row)).map(id).collect(),
        label: f32::from(u8::from(part(ROWS + row) > 0.5)),
        ..Encoded::default()
    };
    (0..ROWS).map(example).collect()
}

impl BatchSource for Own {
    fn batch(&self, network: &Network, micro: u64) -> HostBatch {
        let of_run = |seed: &u64| examples(*seed, micro, self.width(micro));
        let of_stack = |seeds: &Vec<u64>| seeds.iter().map(of_run).collect();
        let examples: Vec<Vec<Vec<Encoded>>> = self.seeds.iter().map(of_stack).collect();
        let stacks: Vec<Vec<RunRows<'_>>> = examples
            .iter()
            .map(|stack| stack.iter().map(|run| RunRows::new(run.iter().collect(), ROWS, &self.objective)).collect())
            .collect();
        collate(network, &stacks, Padding { token: 1, bucket: 1, at_least: 0 })
    }
}

/// Losses of every step and final tensors of one run, by stack and run.
type Outcome = (Vec<f64>, Vec<f64>);

/// Trains stacks of `(preset, seeds)` in one cohort.
fn train(stacks: &[(&str, Vec<u64>)], dropout: f64, place: &Placement) -> Vec<Vec<Outcome>> {
    train_wide(stacks, dropout, place, &[SEQ])
}

/// [`train`] on batches of these widths in turn.
fn train_wide(stacks: &[(&str, Vec<u64>)], dropout: f64, place: &Placement, widths: &[usize]) -> Vec<Vec<Outcome>> {
    let config = config(dropout);
    let weights = Weights::random(&config.wanted(Purpose::Classify), 3);
    let mut network = Network::new(Backbone::new(&config, &weights, Purpose::Classify, place).unwrap());
    let targets = Target::Endings(vec!["query".into(), "value".into()]);
    let train = Hyper { steps: Some(STEPS), batch: ROWS, learning_rate: 5e-3, warmup: 0.0, ..Hyper::default() };
    let mut all = Vec::new();
    for (name, seeds) in stacks {
        let published = preset::find(name).unwrap().spec;
        let is_ranked = published(4).delta.is_none_or(|delta| delta.is_ranked());
        let mut spec = published(if is_ranked { 4 } else { 0 });
        if let AnyRankPolicy::Budget(budget) = &mut spec.rank_policy {
            budget.interval = 2; // several allocations within the few steps here
        }
        if let AnyBaseUpdate::Restart(restart) = &mut spec.base_update {
            restart.restarts = restart.restarts.min(3);
        }
        let variant = spec.check(Some(STEPS)).unwrap();
        let maps = Modules::default().select(variant.adapts().then_some(&targets), &config).unwrap().maps;
        let runs = seeds.iter().map(|seed| RunPlan { init_seed: *seed, alpha: spec.alpha }).collect();
        let shapes: Vec<(&str, [usize; 2])> = maps.iter().map(|(name, map)| (name.as_str(), map.shape)).collect();
        let plan = calibrated(StackPlan::new(variant, runs, maps.keys().cloned().collect()), &shapes);
        let head = Classifier::new(&network.backbone, &plan, &vec![2; seeds.len()], &Weights::default());
        network.attach(&plan, Head::Classifier(head)).unwrap();
        let run = |seed: &u64| {
            let id = CellId { task: "given".into(), variant: (*name).into(), rank: spec.rank, seed: *seed };
            let plan = Recipe {
                suite: "given".into(),
                data: None,
                task: "given".into(),
                given: None,
                model: "given".into(),
                start_from: None,
                targets: targets.clone(),
                modules: Modules::default(),
                preset: (*name).into(),
                variant: spec.clone(),
                train: train.clone(),
                readouts: Vec::new(),
                holdout: None,
                forgetting: None,
                seeds: Seeds::all(*seed),
            };
            let cell = Cell { id, recipe: plan, diff: serde_json::Value::Null };
            RunState::new(cell, STEPS)
        };
        all.push(Stack::new(seeds.iter().map(run).collect(), plan));
    }
    let adam = Adam { beta1: train.beta1, beta2: train.beta2, epsilon: train.epsilon };
    let mut cohort = Cohort::new(network, all, 1, adam);
    let batches = Own {
        seeds: stacks.iter().map(|(_, seeds)| seeds.clone()).collect(),
        objective: Objective::Classification { labels: vec!["no".into(), "yes".into()] },
        widths: widths.to_vec(),
    };
    (0..STEPS).for_each(|_| cohort.enqueue(&batches));
    let reports = cohort.flush();
    assert_eq!(cohort.recordings.refused, None, "every step can be recorded");
    let outcome = |stack: usize, run: usize, cohort: &mut Cohort| {
        let of_run = |report: &trainer::step::report::StepReport| {
            report.runs.iter().find(|report| report.at == RunAt { stack, run }).unwrap().entry.task_loss
        };
        let losses = reports.iter().map(of_run).collect();
        let numbers = |named: NamedParam<'_>| values(&inner(&named.param.tensor).slice([run..run + 1]));
        (losses, cohort.network.parameters(stack).into_iter().flat_map(numbers).collect())
    };
    (0..stacks.len())
        .map(|stack| (0..stacks[stack].1.len()).map(|run| outcome(stack, run, &mut cohort)).collect())
        .collect()
}

/// One test at a time: a recording forbids other work on its device.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Largest difference, relative to the largest number.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let top = a.iter().fold(0.0, |top: f64, v| top.max(v.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / top
}

/// Twelve steps at a high rate: a rounding of 6e-8 grows by the steps' own sensitivity, a factor of some hundreds.
const REORDERED: f64 = 2e-4;

#[test]
fn a_run_is_what_it_is_alone() {
    let _alone = alone();
    let place = place();
    let stacks = [
        ("lora", vec![1, 2]),
        ("dora", vec![3]),
        ("dylora", vec![4, 5]),
        ("vera", vec![6]),
        ("adalora", vec![7]),
        ("relora", vec![8, 9]),
        ("delta_lora", vec![10]),
    ];
    for dropout in [0.0, 0.1] {
        let together = train(&stacks, dropout, &place);
        for ((name, seeds), together) in stacks.iter().zip(&together) {
            for (seed, (losses, tensors)) in seeds.iter().zip(together) {
                let alone = &train(&[(name, vec![*seed])], dropout, &place)[0][0];
                let (loss, tensor) = (distance(losses, &alone.0), distance(tensors, &alone.1));
                assert!(loss < REORDERED && tensor < REORDERED, "{name} {seed} p {dropout}: {loss:e} {tensor:e}");
            }
        }
    }
}

#[test]
fn a_device_trains_what_the_cpu_trains() {
    let _alone = alone();
    let place = place();
    let cpu = Placement::new(&device::parse("flex").unwrap().device, DType::F32);
    for Preset { name, .. } in preset::all() {
        for dropout in [0.0, 0.1] {
            let [here, there] = [&place, &cpu].map(|place| train(&[(name, vec![1, 2])], dropout, place));
            for (here, there) in here[0].iter().zip(&there[0]) {
                let (loss, tensor) = (distance(&here.0, &there.0), distance(&here.1, &there.1));
                assert!(loss < REORDERED && tensor < 10.0 * REORDERED, "{name} p {dropout}: {loss:e} {tensor:e}");
            }
        }
    }
}

/// A base of 8 bits of mantissa under adapters of 24: losses stay within a few roundings of 2⁻⁹ of their size.
#[test]
fn a_narrow_base_trains_beside_a_wide_one() {
    let _alone = alone();
    let place = place();
    let narrow = place.clone().with_base(DType::BF16);
    for Preset { name, .. } in preset::all() {
        let [wide, narrow] = [&place, &narrow].map(|place| train(&[(name, vec![1])], 0.0, place));
        let gap = distance(&wide[0][0].0, &narrow[0][0].0);
        assert!(gap < 0.03, "{name}: {gap}");
        assert!(gap > 0.0, "{name}: the base is narrower");
    }
}

const WIDTHS: [usize; 4] = [16, 8, 32, 24];

fn nine_runs() -> [(&'static str, Vec<u64>); 2] {
    [("lora", (0..8).collect()), ("dora", vec![9])]
}

/// Recordings of several widths replay each its own.
#[test]
fn widths_take_turns() {
    let _alone = alone();
    let place = place();
    let cpu = Placement::new(&device::parse("flex").unwrap().device, DType::F32);
    let [here, there] = [&place, &cpu].map(|place| train_wide(&nine_runs(), 0.1, place, &WIDTHS));
    for (here, there) in here.iter().flatten().zip(there.iter().flatten()) {
        assert!(distance(&here.0, &there.0) < REORDERED, "{:e}", distance(&here.0, &there.0));
    }
}

/// Recordings of several widths work in the same memory.
#[test]
#[ignore = "needs LORA_LAB_TEST_DEVICE, a device that counts its memory"]
fn widths_share_memory() {
    let _alone = alone();
    let place = place();
    let reserved = || memory::usage(&place.device).expect("a device that counts its memory").reserved;
    let taken = |widths: &[usize]| {
        memory::release(&place.device);
        let before = reserved();
        train_wide(&nine_runs(), 0.1, &place, widths);
        reserved() - before
    };
    let (one, four) = (taken(&[32]), taken(&[32, 24, 16, 8]));
    println!("one width takes {one} bytes, four take {four}");
    assert!(four < 2 * one, "one width takes {one} bytes, four take {four}");
}
