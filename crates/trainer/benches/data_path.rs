//! Where the data path stands beside a training step: tokens per second of tokenisation, and the time of one batch as a share of the step
//! that learns from it. `bench/data_path.md` has the figures.
//!
//! ```text
//! cargo bench --workspace --bench data_path
//! cargo bench --workspace --bench data_path -- models/all-MiniLM-L6-v2 data/glue cola
//! cargo bench --workspace --features tch --bench data_path -- models/all-MiniLM-L6-v2 data/glue cola tch:cuda:0
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark prints its figures")]

use std::{collections::BTreeMap, time::Instant};

use burn::tensor::DType;
use data::batch::EncodedSet;
use record::{CodeIdentity, Store};
use trainer::{
    batch::BatchSource,
    model_cache::ModelCache,
    stop::Stop,
    study::{context::StudyContext, plan::CohortPlan},
};
use variants::host::Placement;

/// Steps that are timed after those that warm up.
const STEPS: u64 = 12;
/// A GPU's first steps choose kernels and take memory.
const WARM: u64 = 5;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let name = given.get(3).map_or("flex", String::as_str);
    let device = assets::device::parse(name).unwrap_or_else(|error| panic!("{error}")).device;
    let (head, model, task) = match given.as_slice() {
        [model, folder, task, ..] => (format!("suite: glue\ndata: {folder}\n"), model.clone(), task.clone()),
        _ => ("suite: glue_mini\n".to_owned(), "mini_roberta".to_owned(), "mnli".to_owned()),
    };
    let yaml = format!(
        "{head}model: {model}\ntasks: [{task}]\nseeds: [0]\ntargets: [query, value]\nranks: [8]\n\
         train: {{steps: 1000000, batch: 32}}\nvariants: [lora]\n"
    );
    let experiment = experiment::read(&yaml, "bench", "bench", &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let cache = ModelCache::new(Placement::new(&device, DType::F32));
    let store = Store::open(std::path::Path::new("target/bench"), "bench").unwrap();
    let code = CodeIdentity { code_hash: String::new(), commit: String::new(), dirty: true };
    let context = StudyContext {
        cache: &cache,
        store: &store,
        code: &code,
        versions: &BTreeMap::new(),
        device: name,
        cohort: Some(1),
        workers: 1,
        among: 1,
        stays: true,
        lease: None,
        keeps_records: false,
        stop: Stop::NEVER,
    };
    let cell = &experiment.cells()[0];
    let plan = CohortPlan::new(std::slice::from_ref(cell), &context).unwrap();
    let base = cache.base(&model).unwrap();
    let loaded = experiment::tasks::load(&cell.recipe.suite, &task, cell.recipe.data.as_deref(), None).unwrap();
    let examples = &loaded.dataset.train;
    let clock = Instant::now();
    let set = EncodedSet::encode_all(&base.tokenizer, examples, 128).unwrap();
    let seconds = clock.elapsed().as_secs_f64();
    let tokens: usize = set.lengths().iter().sum();
    println!("{model}, {task}: {} examples, {tokens} tokens", examples.len());
    println!("tokenisation: {:.0} tokens per second, {:.2} s once per study", tokens as f64 / seconds, seconds);

    let source = plan.batches(&context).unwrap();
    let mut cohort = plan.build(&context).unwrap();
    let (mut batches, mut steps) = (Vec::new(), Vec::new());
    for step in 0..STEPS + WARM {
        // The sampler knows the order of its epoch after the first batch, as in training.
        let clock = Instant::now();
        std::hint::black_box(source.batch(&cohort.network, step));
        let batch = clock.elapsed().as_secs_f64();
        let clock = Instant::now();
        cohort.advance(&source);
        // A GPU works after the call returns; the step is over when it is.
        device.sync().unwrap();
        let whole = clock.elapsed().as_secs_f64();
        if step >= WARM {
            batches.push(batch);
            steps.push(whole);
        }
    }
    let (batch, whole) = (median(batches), median(steps));
    println!(
        "one batch of 32: {:.3} ms; one step with it: {:.1} ms; share {:.3}%",
        1e3 * batch,
        1e3 * whole,
        100.0 * batch / whole
    );
}
