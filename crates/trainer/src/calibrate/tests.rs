//! When a study calibrates, what it shares, and what it refuses. What the statistics are is in `tests/parity.rs`.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use burn::tensor::DType;
use experiment::cell::Cell;
use variants::{
    host::values,
    stream::{self, Stream},
};

use super::*;
use crate::{
    sink::{Event, Silent, Sink},
    support::{self, run, store, tensors},
};

fn cells(variants: &str, seeds: &str, overrides: &[&str]) -> Vec<Cell> {
    let yaml = format!(
        "suite: glue_mini\nmodel: mini_roberta\ntasks: [rte]\nseeds: {seeds}\ntargets: [query, value]\nranks: [2]\n\
         train: {{steps: 5, batch: 4, max_length: 32, checkpoint_every: 2, learning_rate: 1e-3}}\nvariants: {variants}\n"
    );
    support::cells(&yaml, overrides)
}

fn train(cache: &ModelCache, cells: &[Cell], root: &Path, cohort: usize) {
    run(cache, cells, root, cohort, &AtomicBool::new(false), &Silent).unwrap();
}

fn taken(recipe: &Recipe, cell: &Cell, cache: &ModelCache) -> Result<Option<Arc<RunStatistics>>, TrainError> {
    let plan = adapter::stack_plan(recipe, &cell.id, cache).unwrap();
    statistics(recipe, &plan, cache, Stop::NEVER)
}

/// Stops a study at its first steps.
struct AtOnce<'a>(&'a AtomicBool, AtomicU64);

impl Sink for AtOnce<'_> {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Steps { .. }) && self.1.fetch_add(1, Ordering::Relaxed) == 1 {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Two variants that need the same statistic share it, and so do runs that differ in rank and α; other data orders have their own.
#[test]
fn a_statistic_is_taken_once_for_all_that_it_does_not_depend_on() {
    let cells =
        cells("[corda, eva, {preset: eva, label: wide, ranks: [3], with: {alpha: 3}}, lora_ga, lora]", "[0, 1]", &[]);
    let (cache, root) = (support::cache(DType::F32), tempfile::tempdir().unwrap());
    train(&cache, &cells, root.path(), 4);
    assert_eq!(cache.calibrations_taken(), 2 * 2, "two statistics, each of two orders of the data");
    let of = |at: usize| taken(&cells[at].recipe, &cells[at], &cache).unwrap();
    let by_label = |label: &str, seed| {
        let found = cells.iter().position(|cell| cell.id.variant == label && cell.id.seed == seed).unwrap();
        of(found)
    };
    assert!(by_label("lora", 0).is_none(), "LoRA starts from no data");
    let [corda, eva, other] =
        [("corda", 0), ("eva", 0), ("eva", 1)].map(|(label, seed)| by_label(label, seed).unwrap());
    for (map, statistic) in corda.iter() {
        assert!(statistic.is_copy_of(&eva[map]), "{map}: one copy");
        assert_ne!(statistic.values(), other[map].values(), "{map}: another order of the data");
    }
    assert_eq!(cache.calibrations_taken(), 4, "what is there is not taken again");
}

/// Stacks that start from data, beside one that does not: each run is what it is alone. Then an interruption at the second step, and a new
/// session, which has the starts from the checkpoint.
#[test]
fn calibrated_runs_are_independent_and_resume_without_a_calibration() {
    let cells = cells("[corda, eva, lora_ga, lora]", "[0, 1]", &[]);
    let (together, alone, parts) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(&support::cache(DType::F32), &cells, together.path(), 8);
    train(&support::cache(DType::F32), &cells, alone.path(), 1);
    let stop = AtomicBool::new(false);
    let sink = AtOnce(&stop, AtomicU64::new(0));
    let stopped = run(&support::cache(DType::F32), &cells, parts.path(), 8, &stop, &sink);
    assert!(matches!(stopped, Err(TrainError::Interrupted)), "{stopped:?}");
    let cache = support::cache(DType::F32);
    train(&cache, &cells, parts.path(), 8);
    assert_eq!(cache.calibrations_taken(), 0, "a checkpoint has the starts");
    for cell in &cells {
        let of = |root: &tempfile::TempDir| tensors(cell, root.path());
        let (together, alone) = (of(&together), of(&alone));
        assert_eq!(of(&parts), together, "{}: resumed to the same bits", cell.id);
        for (name, values) in &together {
            let apart = values.iter().zip(&alone[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            // Products of another number of rows are summed in another order; Adam's first steps have no size of their own.
            assert!(apart < 1e-4, "{}: {name} is {apart} from alone", cell.id);
            let is_start = name.ends_with("start_a") || name.ends_with("start_b");
            assert!(!is_start || *values == alone[name], "{}: {name}", cell.id);
        }
    }
}

#[test]
fn a_run_that_starts_from_an_adapter_is_not_calibrated() {
    let yaml = "suite: glue_mini\nmodel: mini_roberta\ntasks: [{task: rte, start_from: mnli}, mnli]\nseeds: [0]\ntargets: [query]\n\
                ranks: [2]\ntrain: {steps: 2, batch: 4, max_length: 32, learning_rate: 1e-3}\nvariants: [corda]\n";
    let cells = support::cells(yaml, &[]);
    let (cache, root) = (support::cache(DType::F32), tempfile::tempdir().unwrap());
    train(&cache, &cells, root.path(), 2);
    assert_eq!(cache.calibrations_taken(), 1, "the source alone");
    let of = |task: &str| tensors(cells.iter().find(|cell| cell.id.task == task).unwrap(), root.path());
    let (source, started) = (of("mnli"), of("rte"));
    for name in source.keys().filter(|name| name.contains("start_")) {
        assert_eq!(started[name], source[name], "{name} is the source's");
    }
}

/// Directions cannot be taken from fewer inputs, of a map with a rank of its own neither. It is said before anything is trained.
#[test]
fn too_few_tokens_for_a_rank_are_refused_before_any_training() {
    let few = ["train.batch=1", "train.max_length=5", "variants.eva.with.delta.batches=2"];
    for (more, map) in [("variants.eva.ranks=[12]", "query"), ("variants.eva.rank_pattern={value: 12}", "value")] {
        let cells = cells("[lora, eva]", "[0]", &[&few[..], &[more]].concat());
        let (cache, root) = (support::cache(DType::F32), tempfile::tempdir().unwrap());
        let error = run(&cache, &cells, root.path(), 1, &AtomicBool::new(false), &Silent).unwrap_err().to_string();
        for part in [map, "10 inputs", "2 batches", "`delta.batches`", "no 12 directions", "a smaller rank"] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        assert!(store(root.path()).record(&cells[0].id).unwrap().is_none(), "nothing was trained");
    }
}

/// The head's seed enters a gradient and no second moment.
#[test]
fn a_statistic_depends_on_the_seeds_that_it_should() {
    let (cache, all) = (support::cache(DType::F32), cells("[eva, lora_ga]", "[0]", &[]));
    for (cell, differs) in all.iter().zip([false, true]) {
        let mut other = cell.recipe.clone();
        other.seeds.init = 77;
        let [one, other] = [&cell.recipe, &other].map(|recipe| taken(recipe, cell, &cache).unwrap().unwrap());
        for (map, statistic) in one.iter() {
            assert_eq!(statistic.values() != other[map].values(), differs, "{}: {map}", cell.id);
        }
    }
}

/// Squared gradients of a trained run's merged weights are squares of central differences of its loss, one example at a time.
#[test]
fn squared_gradients_are_those_of_single_examples() {
    let (cache, cell) = (support::cache(DType::F64), cells("[full]", "[0]", &[]).remove(0));
    let plan = adapter::stack_plan(&cell.recipe, &cell.id, &cache).unwrap();
    let task = cache.task(&cell.recipe).unwrap();
    let outputs = Outputs { count: task.info.objective.n_outputs(), stored: &task.head };
    let mut network = cache.network_of(&cell.recipe, &[(plan, vec![outputs])]).unwrap();
    let linears: Vec<String> = network.backbone.linears().iter().map(|map| map.name().to_owned()).collect();
    let map = linears.into_iter().find(|map| map.ends_with("value")).unwrap();
    let moved = |slot: &String| slot.is_empty() || *slot == map;
    for (at, NamedParam { mut param, .. }) in
        network.parameters(0).into_iter().filter(|named| moved(&named.slot)).enumerate()
    {
        let dims = param.tensor.dims();
        let noise =
            stream::normal(&mut stream::generator(at as u64, Stream::Init, "noise"), dims.iter().product(), 0.1);
        let noise = cache.place().tensor(noise, dims);
        param.tensor.set(param.tensor.clone() + noise);
    }
    let maps = BTreeSet::from([map.clone()]);
    let count = 3;
    let squares = trained_squared_gradients(&cell.recipe, &mut network, &maps, count, &cache).unwrap();
    let (found, [_, cols]) = (squares[&map].values(), squares[&map].shape());
    let sampler = Sampler::of_run(&cell.recipe, &task);
    let rows: Vec<_> = examples(&sampler, 0, &cell.recipe).rows.into_iter().flatten().take(count).collect();
    let pad = cache.base_of(&cell.recipe).unwrap().pad;
    for entry in [0, cols + 3, 7 * cols + 1] {
        let mut square = 0.0;
        for example in &rows {
            let loss = |step: f64| {
                let mut moved = network.clone();
                let is_weight = |named: &NamedParam<'_>| named.slot == map && named.param.role == Role::Weight;
                let mut weight = moved.parameters(0).into_iter().find(is_weight).unwrap().param.tensor;
                let mut numbers = values(&weight);
                numbers[entry] += step;
                weight.set(cache.place().tensor(numbers, weight.dims()));
                let alone = RunRows::new(vec![*example], 1, &task.info.objective);
                let batch = collate(&moved, &[vec![alone]], Padding { token: pad, bucket: 1, at_least: 1 });
                let loss = forward::losses(&moved, &batch.upload(cache.place()), &Pass::evaluation(1)).remove(0);
                values(&loss)[0]
            };
            square += ((loss(1e-5) - loss(-1e-5)) / 2e-5).powi(2) / count as f64;
        }
        // Central differences in f64 of a loss near 1.
        assert!((found[entry] - square).abs() <= 1e-6 * (square + 1e-6), "{entry}: {} is not {square}", found[entry]);
    }
}
