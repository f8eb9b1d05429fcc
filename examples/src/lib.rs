//! What the examples share: a study without the command line, from cells to records.
//!
//! `lora-lab run` does the same with a progress bar, signals, a launcher and the identity of its own build.

use std::{collections::BTreeMap, path::Path};

use experiment::cell::Cell;
use record::{CodeIdentity, RunRecord, Store};
use trainer::{
    error::TrainError,
    model_cache::ModelCache,
    sink::Silent,
    stop::Stop,
    study::{self, context::StudyContext},
};

/// Trains the cells that have no record below `results` yet, one after the other on the CPU, and returns the records of all.
///
/// Records and adapters lie in `results/example/runs/<cell>`, where [`store`] finds them.
pub fn train(cells: &[Cell], cache: &ModelCache, results: &Path) -> Result<Vec<RunRecord>, TrainError> {
    let store = store(results)?;
    let context = StudyContext {
        cache,
        store: &store,
        // A record says which code made it. Here no commit stands for it, so its numbers are marked as dirty in tables.
        code: &CodeIdentity { code_hash: "example".to_owned(), commit: "example".to_owned(), dirty: true },
        versions: &BTreeMap::new(),
        device: "flex",
        cohort: Some(1),
        workers: 1,
        among: 1,
        stays: true,
        lease: None,
        keeps_records: false,
        stop: Stop::NEVER,
    };
    study::run(cells, &context, &Silent)?;
    study::records(cells, &store)
}

/// The store that [`train`] writes to.
pub fn store(results: &Path) -> Result<Store, TrainError> {
    Ok(Store::open(results, "example")?)
}
