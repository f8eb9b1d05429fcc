//! What the tests of whole studies share.
#![allow(dead_code, reason = "each test uses a part")]

use std::{collections::BTreeMap, path::Path, sync::atomic::AtomicBool};

use burn::tensor::{DType, Device};
use experiment::cell::Cell;
use record::{CodeIdentity, RunRecord, Store};
use trainer::{
    adapter,
    error::TrainError,
    model_cache::ModelCache,
    sink::{Silent, Sink},
    stop::Stop,
    study::{self, context::StudyContext},
};
use variants::host::{Placement, values};

pub(crate) fn cache(dtype: DType) -> ModelCache {
    ModelCache::new(Placement::new(&Device::flex(), dtype))
}

/// The cells of an experiment under overrides.
pub(crate) fn cells(yaml: &str, overrides: &[&str]) -> Vec<Cell> {
    let overrides: Vec<String> = overrides.iter().map(|set| (*set).to_owned()).collect();
    let experiment = experiment::read(yaml, "test.yaml", "test", &overrides);
    experiment.unwrap_or_else(|errors| panic!("{errors}")).cells().to_vec()
}

pub(crate) fn store(root: &Path) -> Store {
    Store::open(root, "test").unwrap()
}

/// Trains cells into `root`, `cohort` runs at once.
pub(crate) fn run(
    cache: &ModelCache,
    cells: &[Cell],
    root: &Path,
    cohort: usize,
    stop: &AtomicBool,
    sink: &dyn Sink,
) -> Result<Vec<RunRecord>, TrainError> {
    let store = store(root);
    let code = CodeIdentity { code_hash: "test".into(), commit: "test".into(), dirty: true };
    let context = StudyContext {
        cache,
        store: &store,
        code: &code,
        versions: &BTreeMap::new(),
        device: "flex",
        cohort: Some(cohort),
        workers: 1,
        stop: Stop::on(stop),
    };
    study::run(cells, &context, sink)?;
    study::records(cells, &store)
}

pub(crate) fn finish(cells: &[Cell], root: &Path, cohort: usize) -> Vec<RunRecord> {
    run(&cache(DType::F32), cells, root, cohort, &AtomicBool::new(false), &Silent).unwrap()
}

/// Every tensor of a cell's saved adapter.
pub(crate) fn tensors(cell: &Cell, root: &Path) -> BTreeMap<String, Vec<f64>> {
    let (_, mut network) = adapter::load(&store(root).adapter_path(&cell.id), &cache(DType::F32)).unwrap();
    network.parameters(0).into_iter().map(|named| (named.name, values(named.param.tensor))).collect()
}
