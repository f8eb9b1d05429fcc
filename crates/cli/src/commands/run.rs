//! `run`: train what is missing, then write and print the tables.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use assets::device;
use experiment::{CohortSize, Experiment, cell::Cell};
use record::Store;
use trainer::{
    error::TrainError,
    model_cache::ModelCache,
    stop::Stop,
    study::{self, Forget},
};

use super::{read, table};
use crate::{
    args::Format,
    failure::Failure,
    identity,
    progress::Progress,
    signals::Signals,
    terminal::{note, print},
};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab run experiments/dylora_glue.yaml
  lora-lab run exp/quick.yaml --set train.steps=20 --set name=shorter     another recipe, kept under another name
  lora-lab run exp/quick.yaml --force                                     restart from step 0

Stop it at any time and run it again: it continues where it stopped. Ctrl-C, SIGTERM and SIGUSR1 save first, and a second one ends
the program at once; a kill loses at most the steps since the last checkpoint.")]
pub(crate) struct Run {
    /// The experiment: a YAML file, or its name under `experiments/` (`exp/NAME.yaml` means `experiments/NAME.yaml`).
    pub experiment: PathBuf,
    /// Override a field, e.g. `--set train.steps=50`; the records keep it.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Device: cpu, or a name that `lora-lab devices` lists.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Number of cohorts trained at once, at most 1024; by default one per core on a CPU, else one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub workers: Option<u64>,
    /// Delete this experiment's records and unfinished work, and train every run again.
    #[arg(long)]
    pub force: bool,
    /// Train the failed runs again.
    #[arg(long)]
    pub retry_failed: bool,
}

/// Runs an experiment to its tables.
pub(super) fn run(args: &Run, results: &Path) -> Result<(), Failure> {
    let experiment = read(&args.experiment, &args.set)?;
    let named = device::parse(&args.device)?;
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
    let cache = ModelCache::training_on(named);
    open(experiment, &cache)?;
    let signals = Signals::listen()?;
    let (code, versions) = (identity::code(), identity::versions());
    if code.dirty {
        note("note: this binary was built from uncommitted code; its records are marked dirty");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let context = study::context::StudyContext {
        cache: &cache,
        store,
        code: &code,
        versions: &versions,
        device: &named.name,
        cohort: match experiment.cohort() {
            CohortSize::Runs(runs) => Some(runs),
            CohortSize::Auto => None,
        },
        workers: args.workers.map_or(if named.name == "flex" { cores } else { 1 }, |workers| workers as usize),
        stop: Stop::on(signals.asked()),
    };
    let progress = Progress::new();
    let done = study::run(experiment.cells(), &context, &progress);
    progress.close();
    match (done, signals.status()) {
        (Err(TrainError::Interrupted), Some(status)) => Err(Failure::Interrupted { status }),
        (Err(error @ TrainError::WouldReplace { .. }), _) => Err(error.into()),
        // The input was checked before: whatever stops the study now is a failed run.
        (Err(error), _) => Err(Failure::Run(error.into())),
        (Ok(()), _) => Ok(()),
    }
}

/// Opens every model and task before anything is trained, and says what is odd about them: what of their files is not used, and what a
/// recipe does to its data.
fn open(experiment: &Experiment, cache: &ModelCache) -> Result<(), Failure> {
    let (mut models, mut said) = (BTreeSet::new(), BTreeSet::new());
    for Cell { recipe, .. } in experiment.cells() {
        let base = cache.base_of(recipe)?;
        if models.insert(&recipe.model) {
            base.said_of(&recipe.model).iter().for_each(|text| note(text));
        }
        let task = cache.task(recipe)?;
        for text in task.notes.iter().cloned().chain(study::remarks(recipe, &task)) {
            if said.insert(text.clone()) {
                note(&text);
            }
        }
    }
    Ok(())
}

/// Deletes what was asked to go, and refuses to replace finished runs of another recipe without being asked.
fn prepare(args: &Run, cells: &[Cell], store: &Store) -> Result<(), Failure> {
    store.check_place()?;
    if args.force {
        return Ok(study::forget(cells, store, Forget::All)?);
    }
    if args.retry_failed {
        study::forget(cells, store, Forget::Failed)?;
    }
    let replaced = study::replaced(cells, store)?;
    let Some(first) = replaced.first() else { return Ok(()) };
    Err(Failure::Input(format!(
        "{}: {} of {} cells have records of another recipe (first {first}), which this run would replace\n\nhint: \
         `--set name=NEW` keeps both, `--force` replaces them",
        store.runs_dir().display(),
        replaced.len(),
        cells.len()
    )))
}
