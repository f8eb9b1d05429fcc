//! `run`: train what is missing, then write and print the tables.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use burn::tensor::DType;
use record::Store;
use trainer::{
    cell::Cell,
    device,
    error::TrainError,
    experiment::{CohortSize, Experiment},
    library::Library,
    study,
};
use variants::host::Place;

use super::{read, table};
use crate::{
    args::{Format, Run},
    identity,
    terminal::{Failure, Progress, note, print},
};

/// Runs an experiment to its tables.
pub(super) fn run(args: &Run, results: &Path) -> Result<(), Failure> {
    let experiment = read(&args.experiment, &args.set)?;
    let named = device::parse(&args.device).map_err(|error| Failure::Input(error.to_string()))?;
    let store = Store::open(results, experiment.name())?;
    let cells = experiment.cells();
    if args.force {
        forget(&store, cells)?;
    }
    train(args, &experiment, &store, &named)?;
    let records = study::records(cells, &store)?;
    let failed = records.iter().filter(|record| !record.is_finished()).count();
    print(&table::write(&experiment, &store, &records, Format::Text)?);
    note(&format!("tables: {}", store.tables_dir().display()));
    if failed > 0 {
        return Err(Failure::Run(anyhow::anyhow!(
            "{failed} of {} runs failed; their records say why, and `--force` trains again",
            records.len()
        )));
    }
    Ok(())
}

fn train(args: &Run, experiment: &Experiment, store: &Store, named: &device::Named) -> Result<(), Failure> {
    let library = Library::new(Place::new(&named.device, DType::F32));
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second signal ends the process at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let (code, versions) = (identity::code(), identity::versions());
    if code.dirty {
        note("note: this binary was built from uncommitted code; its records are marked dirty");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let on_cpu = named.name == "flex";
    let setting = study::Setting {
        library: &library,
        store,
        code: &code,
        versions: &versions,
        device: &named.name,
        cohort: match experiment.cohort() {
            CohortSize::Runs(runs) => Some(runs),
            CohortSize::Auto => None,
        },
        workers: args.workers.unwrap_or(if on_cpu { cores } else { 1 }),
        stop: &stop,
    };
    let progress = Progress::new();
    let done = study::run(experiment.cells(), &setting, &progress);
    progress.close();
    match done {
        Err(TrainError::Interrupted) if stop.load(Ordering::Relaxed) => Err(Failure::Interrupted),
        other => Ok(other?),
    }
}

/// Removes the records of an experiment's cells.
fn forget(store: &Store, cells: &[Cell]) -> Result<(), Failure> {
    for cell in cells {
        let folder = store.run_dir(&cell.id);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}
