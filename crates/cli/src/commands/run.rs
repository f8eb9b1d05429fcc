//! `run`: train what is missing, then write and print the tables.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use assets::device;
use burn::tensor::DType;
use experiment::{CohortSize, Experiment, cell::Cell};
use record::Store;
use trainer::{
    error::TrainError,
    library::Library,
    study::{self, Forget},
};
use variants::host::Placement;

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
    prepare(args, cells, &store)?;
    train(args, &experiment, &store, &named)?;
    let records = study::records(cells, &store)?;
    let failed = records.iter().filter(|record| !record.is_finished()).count();
    print(&table::write(&experiment, &store, &records, Format::Text)?)?;
    note(&format!("tables: {}", store.tables_dir().display()));
    if failed > 0 {
        return Err(Failure::Run(anyhow::anyhow!(
            "{failed} of {} runs failed; their records say why, and `--retry-failed` trains them again",
            records.len()
        )));
    }
    Ok(())
}

fn train(args: &Run, experiment: &Experiment, store: &Store, named: &device::Named) -> Result<(), Failure> {
    let library = Library::training(Placement::new(&named.device, DType::F32));
    open(experiment, &library)?;
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
    let context = study::context::StudyContext {
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
    let done = study::run(experiment.cells(), &context, &progress);
    progress.close();
    match done {
        Err(TrainError::Interrupted) if stop.load(Ordering::Relaxed) => Err(Failure::Interrupted),
        other => Ok(other?),
    }
}

/// Opens every model and task before anything is trained, and says what of their files is left out.
fn open(experiment: &Experiment, library: &Library) -> Result<(), Failure> {
    let input = |error: TrainError| Failure::Input(error.to_string());
    let (mut models, mut tasks) = (BTreeSet::new(), BTreeSet::new());
    for Cell { plan, .. } in experiment.cells() {
        let base = library.base_of(plan).map_err(input)?;
        if models.insert(&plan.model) && !base.unused.is_empty() {
            let shown: Vec<&str> = base.unused.iter().take(SHOWN).map(String::as_str).collect();
            let more = if base.unused.len() > SHOWN { ", .." } else { "" };
            note(&format!("{}: {} tensors are not used: {}{more}", plan.model, base.unused.len(), shown.join(", ")));
        }
        let task = library.task(plan).map_err(input)?;
        if tasks.insert(&plan.task) {
            task.notes.iter().for_each(|text| note(text));
        }
    }
    Ok(())
}

/// Tensors that are named one by one.
const SHOWN: usize = 8;

/// Throws away what was asked to go, and refuses to replace finished runs of another recipe without being asked.
fn prepare(args: &Run, cells: &[Cell], store: &Store) -> Result<(), Failure> {
    let input = |error: TrainError| Failure::Input(error.to_string());
    if args.force {
        return study::forget(cells, store, Forget::All).map_err(input);
    }
    if args.retry_failed {
        study::forget(cells, store, Forget::Failed).map_err(input)?;
    }
    let replaced = study::replaced(cells, store).map_err(input)?;
    let Some(first) = replaced.first() else { return Ok(()) };
    Err(Failure::Input(format!(
        "{}: {} of {} cells have records of another recipe (first {first}), which this run would replace\n\nhint: \
         `--set name=NEW` keeps both, `--force` replaces them",
        store.runs_dir().display(),
        replaced.len(),
        cells.len()
    )))
}
