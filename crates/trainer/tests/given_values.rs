//! An initialisation runs once for a cohort: evaluations, snapshots, resuming and loading take the tensors that are there.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use burn::tensor::{DType, Device};
use experiment::cell::Cell;
use record::{CodeIdentity, Store};
use trainer::{
    adapter,
    error::TrainError,
    model_cache::ModelCache,
    sink::{Event, Silent, Sink},
    stop::Stop,
    study::{self, context::StudyContext, plan::CohortPlan},
};
use variants::{
    host::{Placement, values},
    role::Role,
    slot::INITIALISED,
};

/// A head of two outputs beside one of three, and every start that costs a decomposition or a product with the base.
const YAML: &str = "suite: glue_mini\nmodel: mini_roberta\ntasks: [sst2, mnli]\nseeds: [0]\ntargets: [query, value]\n\
ranks: [2]\n\
train: {steps: 6, batch: 4, max_length: 32, learning_rate: 1e-3, evaluate_every: 2, snapshot_every: 3, checkpoint_every: 2, \
select: best}\n\
variants: [pissa, milora, olora, corda, lora_ga, eva, dora, lora]\n";

/// Stops a study at the second evaluation of a run.
struct StopAfter<'a>(&'a AtomicBool);

impl Sink for StopAfter<'_> {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Evaluated { evaluation, .. } if evaluation.step == 4) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn with<T>(root: &Path, stop: &AtomicBool, act: impl FnOnce(&StudyContext<'_>) -> T) -> T {
    let cache = ModelCache::new(Placement::new(&Device::flex(), DType::F32));
    let store = Store::open(root, "test").unwrap();
    let code = CodeIdentity { code_hash: "test".into(), commit: "test".into(), dirty: true };
    act(&StudyContext {
        cache: &cache,
        store: &store,
        code: &code,
        versions: &BTreeMap::new(),
        device: "flex",
        cohort: Some(100),
        workers: 1,
        among: 1,
        stays: true,
        lease: None,
        keeps_records: false,
        stop: Stop::on(stop),
    })
}

/// How many adapters were initialised while `act` ran, and what it gave.
fn counted<T>(act: impl FnOnce() -> T) -> (usize, T) {
    let before = INITIALISED.load(Ordering::Relaxed);
    let given = act();
    (INITIALISED.load(Ordering::Relaxed) - before, given)
}

#[test]
fn an_initialisation_runs_when_a_cohort_is_made_and_never_again() {
    let experiment = experiment::read(YAML, "test.yaml", "test", &[]).unwrap_or_else(|error| panic!("{error}"));
    let cells: &[Cell] = experiment.cells();
    let root = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let (once, ()) = counted(|| {
        with(root.path(), &stop, |context| drop(CohortPlan::new(cells, context).unwrap().build(context).unwrap()));
    });
    assert!(once > 0, "a cohort's adapters are initialised");

    let run = |sink: &dyn Sink| with(root.path(), &stop, |context| study::run(cells, context, sink));
    let (trained, ended) = counted(|| run(&StopAfter(&stop)));
    assert!(matches!(ended, Err(TrainError::Interrupted)));
    assert_eq!(trained, once, "evaluations, snapshots and best states take the tensors that are there");

    stop.store(false, Ordering::Relaxed);
    let (resumed, ended) = counted(|| run(&Silent));
    ended.unwrap();
    assert_eq!(resumed, 0, "a checkpoint has every tensor, and a record's evaluations take them");

    let (loaded, ()) = counted(|| {
        with(root.path(), &stop, |context| {
            for cell in cells {
                let folder = context.store.run_dir(&cell.id);
                for file in ["adapter.safetensors", "snapshots/00000003.safetensors"] {
                    adapter::load(&folder.join(file), context.cache).unwrap();
                }
            }
        });
    });
    assert_eq!(loaded, 0, "an adapter's file has every tensor that training may change, and the frozen start");

    // Of other classes than their sources, so that the heads are drawn.
    let started = YAML
        .replace("[sst2, mnli]", "[{task: rte, start_from: mnli}, mnli]")
        .replace("snapshot_every: 3, ", "")
        .replace("steps: 6", "steps: 2");
    let started = experiment::read(&started, "test.yaml", "test", &[]).unwrap_or_else(|error| panic!("{error}"));
    let dependent: Vec<Cell> = started.cells().iter().filter(|cell| cell.id.task == "rte").cloned().collect();
    let (drawn, ()) = counted(|| {
        with(root.path(), &stop, |context| {
            let mut cohort = CohortPlan::new(&dependent, context).unwrap().build(context).unwrap();
            let heads = cohort.network.parameters(0).into_iter().filter(|named| named.param.role == Role::Head);
            let largest = heads.flat_map(|named| values(&named.param.tensor)).fold(0.0, f64::max);
            assert!(largest > 0.0, "a head is drawn");
        });
    });
    assert_eq!(drawn, 0, "the adapter that a run starts from has every tensor");
}
