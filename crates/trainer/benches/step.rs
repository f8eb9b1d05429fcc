//! Seconds per training step of every variant on the CPU, and as ratios to LoRA at the same rank.
//!
//! Every sample times one step of the variant and one of LoRA in turn, so a ratio holds when the machine's
//! speed drifts. Dropout 0, the miniature base, query and value, batch 32, one run. AdaLoRA is compared at its
//! initial rank. `vera_r256` stands beside the ratio of counted multiplications.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark prints its ratios")]

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use burn::tensor::{DType, Device};
use criterion::{Criterion, criterion_group, criterion_main};
use record::{CodeIdentity, Store};
use trainer::{
    batch::SupervisedBatches,
    cohort::Cohort,
    model_cache::ModelCache,
    stop::Stop,
    study::{context::StudyContext, plan::CohortPlan},
};
use variants::{
    host::Placement,
    preset::{self, Preset},
};

/// Entries that are not a preset at rank 8 with its own settings: label, entry under `variants:`.
const OTHERS: &[(&str, &str)] = &[
    ("adalora", "{preset: adalora, ranks: [8], with: {rank_policy: {target_rank: 4, initial_steps: 1, interval: 1}}}"),
    ("dylora_frozen", "{preset: dylora, label: dylora_frozen, ranks: [8], with: {rank_policy: {update: frozen}}}"),
    ("oft_exact", "{preset: oft, label: oft_exact, ranks: [8], with: {delta: {cayley: exact}}}"),
    ("vera_r256", "{preset: vera, label: vera_r256, ranks: [256]}"),
];

/// LoRA first, then every preset at rank 8, and what is measured at other settings.
fn entries() -> Vec<(String, String)> {
    let of = |preset: &&Preset| {
        let ranked = (preset.spec)(8).delta.is_some_and(|delta| delta.is_ranked());
        let ranks = if ranked { ", ranks: [8]" } else { "" };
        (preset.name.to_owned(), format!("{{preset: {}{ranks}}}", preset.name))
    };
    let mut all: BTreeMap<String, String> = preset::all().iter().map(of).collect();
    all.extend(OTHERS.iter().map(|(label, entry)| ((*label).to_owned(), (*entry).to_owned())));
    let lora = all.remove("lora").map(|entry| ("lora".to_owned(), entry));
    lora.into_iter().chain(all).collect()
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Trainee {
    cohort: Cohort,
    batches: SupervisedBatches,
}

impl Trainee {
    fn new(entry: &str) -> Self {
        let yaml = format!(
            "suite: glue_mini\nmodel: mini_roberta\ntasks: [mnli]\nseeds: [0]\ntargets: [query, value]\n\
             train: {{steps: 1000000, batch: 32}}\nvariants: [{entry}]\n"
        );
        let experiment = experiment::read(&yaml, "bench", "bench", &[]).unwrap_or_else(|errors| panic!("{errors}"));
        let cache = ModelCache::new(Placement::new(&Device::flex(), DType::F32));
        let store = Store::open(std::path::Path::new("target/bench"), "bench").expect("a name");
        let code = CodeIdentity { code_hash: String::new(), commit: String::new(), dirty: true };
        let versions = BTreeMap::new();
        let context = StudyContext {
            cache: &cache,
            store: &store,
            code: &code,
            versions: &versions,
            device: "flex",
            cohort: Some(1),
            workers: 1,
            among: 1,
            stays: true,
            lease: None,
            keeps_records: false,
            stop: Stop::NEVER,
        };
        let mut cells = experiment.cells().to_vec();
        for variant in cells.iter_mut().map(|cell| &mut cell.recipe.variant) {
            // What keeps the adapters of earlier tasks is measured on its third.
            variant.base_update = variant.base_update.after(2).unwrap_or_else(|| variant.base_update.clone());
        }
        let plan = CohortPlan::new(&cells, &context).expect("a plan");
        let batches = plan.batches(&context).expect("batches");
        let cohort = plan.build(&context).expect("a cohort");
        Self { cohort, batches }
    }

    fn step(&mut self) -> Duration {
        let clock = Instant::now();
        let report = self.cohort.advance(&self.batches);
        assert!(!report.runs.is_empty());
        clock.elapsed()
    }
}

/// Multiplications of a step, relative to LoRA r = 8: forward and input gradients through the base's maps, and the
/// adapters' products (LoRA three of each kind, VeRA two, because its factors need no gradient).
fn counted(vera_rank: usize) -> f64 {
    let (d, maps) = (128.0, 2.0);
    let base = 2.0 * 12.0 * d * d;
    let adapter = |products: f64, rank: f64| maps * products * rank * 2.0 * d;
    (base + adapter(2.0, vera_rank as f64)) / (base + adapter(3.0, 8.0))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn steps(criterion: &mut Criterion) {
    let ratios = Mutex::new(Vec::new());
    let mut group = criterion.benchmark_group("step");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    let entries = entries();
    for (label, entry) in &entries {
        // The same step numbers, and so the same batches, for both.
        let (mut lora, mut variant) = (Trainee::new(&entries[0].1), Trainee::new(entry));
        let mut pairs = Vec::new();
        group.bench_function(label, |bencher| {
            bencher.iter_custom(|iterations| {
                (0..iterations)
                    .map(|turn| {
                        // Which goes first alternates, so that neither always finds the other's data in the caches.
                        let (own, other) = if turn % 2 == 0 {
                            let own = variant.step();
                            (own, lora.step())
                        } else {
                            let other = lora.step();
                            (variant.step(), other)
                        };
                        pairs.push(own.as_secs_f64() / other.as_secs_f64());
                        own
                    })
                    .sum()
            });
        });
        // None where the command line names other rows.
        if !pairs.is_empty() {
            ratios.lock().expect("one thread").push((label, median(pairs)));
        }
    }
    group.finish();
    println!("\nseconds per step, median of paired ratios to lora:");
    for (label, ratio) in ratios.into_inner().expect("one thread") {
        let beside = if label == "vera_r256" {
            format!("   by counted multiplications {:.3}", counted(256))
        } else {
            String::new()
        };
        println!("{label:22} {ratio:.3}{beside}");
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
