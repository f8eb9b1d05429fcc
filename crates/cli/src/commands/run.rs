//! `run`: train what is missing, then write and print the tables.

mod introduction;
mod launcher;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use assets::device;
use experiment::{CohortSize, Experiment, cell::Cell, tune::Tune};
use record::{CodeIdentity, Store, Tuned};
use trainer::{
    error::TrainError,
    model_cache::ModelCache,
    stop::Stop,
    study::{self, Forget, context::StudyContext, tuning::Again},
};

use self::launcher::Launcher;
pub(crate) use self::launcher::slurm::Array;
use super::{
    cost, read, results, table,
    tune::{self, Settled},
};
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
  lora-lab run exp/compare_tuned.yaml --keep-records                      in a fresh clone: train what was added to the file

Stop it at any time and run it again: it continues where it stopped. Ctrl-C, SIGTERM and SIGUSR1 save first, and a second one ends
the program at once; a kill loses at most the steps since the last checkpoint.

Run it several times at once, on one machine or on several that share the folder: the processes share the work. No run is trained twice, and
what a process leaves that was killed, the others take over.")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
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
    /// Keep finished runs whose adapter is not here, as in a fresh clone, and train only those without a record.
    #[arg(long, conflicts_with = "force")]
    pub keep_records: bool,
    /// Start workers that share the study, and watch them: `local` starts one for each card of this machine, or for each core where it has
    /// none, and `local:N` starts N; Ctrl-C asks all of them to save and end. `slurm` submits a job array with the options of the experiment's
    /// block `launcher`, cut by what the runs cost (`--among N` asks for N tasks); Ctrl-C leaves it to go on.
    #[arg(long, value_name = "LAUNCHER", conflicts_with_all = ["force", "retry_failed", "no_wait"])]
    pub launcher: Option<Launcher>,
    /// Of several processes that share a study: end when nothing is left to begin, without the tables, and not when the runs of all have ended.
    #[arg(long, conflicts_with = "force")]
    pub no_wait: bool,
    /// How many processes are to share the study: on a card, none takes more than its part into one cohort.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub among: Option<u64>,
    /// Seconds after which a process that gives no sign of life is taken for dead, and its runs are taken over.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = patience)]
    pub patience: f64,
}

/// A time between a few renewals on a slow file system and a day.
fn patience(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    let fits = (1.0..=86_400.0).contains(&seconds);
    fits.then_some(seconds).ok_or_else(|| format!("`{text}` must be from 1 second to a day (86400)"))
}

/// Runs an experiment to its tables.
pub(super) fn run(args: &Run, root: &Path) -> Result<(), Failure> {
    let experiment = read(&args.experiment, &args.set)?;
    let here = device::parse(&args.device);
    let named = match (args.launcher, here) {
        // The device may be on the nodes alone, and the launcher trains nothing.
        (Some(Launcher::Slurm), Err(_)) if device::is_name(&args.device) => device::parse("cpu")?,
        (_, here) => here?,
    };
    let patience = Duration::from_secs_f64(args.patience);
    let store = Store::open(root, experiment.name())?.with_patience(patience);
    // A launcher trains nothing: the card is its workers', and to make it ready here takes seconds that they would wait.
    let own = if args.launcher.is_some() { device::parse("cpu")? } else { named.clone() };
    let session = Session::new(args, &own)?;
    store.check_place()?;
    if let Some(launcher) = args.launcher {
        // Whatever is wrong with the input is said here and not in a worker's log.
        session.open(experiment.cells())?;
        refuse_replaced_untuned(&experiment, &store)?;
        let tuned = tune::found(&experiment, &store)?;
        let is_tuned = tuned.is_some();
        let experiment = tuned.map_or_else(
            || Ok(experiment.clone()),
            |tuned| Settled::with(&experiment, tuned).map(|it| it.experiment),
        )?;
        // The stamps first: a record that comes meanwhile is a new one.
        let mut lacking = launcher::stamps(experiment.cells(), &store);
        if experiment.tune().is_some() && !is_tuned {
            // Nobody knows yet which recipes come of it.
            lacking.retain(|_, stamp| stamp.is_none());
        } else {
            let open = session.run(&experiment, &store, |context| study::lacking(experiment.cells(), context))?;
            lacking.retain(|slug, _| open.contains(slug));
        }
        match launcher {
            Launcher::Local(workers) => {
                launcher::local::launch(workers, &named, (experiment.cells(), lacking), &store, &session.signals)?;
            }
            Launcher::Slurm => {
                let slurm = experiment.launcher().cloned().unwrap_or_default();
                let costs = cost::on(&named, Some(&slurm), (&experiment, is_tuned, args.keep_records), &store, root)?;
                let array = Array::new(
                    &slurm,
                    costs.as_ref(),
                    args.among.map(|among| among as usize),
                    experiment.cells().len(),
                );
                launcher::slurm::launch((&experiment, lacking), (&slurm, array), &store, &session.signals)?;
            }
        }
        let experiment = read(&args.experiment, &args.set)?;
        return finish(&Settled::of(experiment, &store)?, &store);
    }
    let file = experiment.clone();
    let settled = match experiment.tune() {
        None => Settled::of(experiment, &store)?,
        Some(tune) => session.settle(&experiment, tune, &store, root)?,
    };
    let cells = settled.experiment.cells();
    session.begin(cells, &store)?;
    store.prepare()?;
    results::write(&file, &store)?;
    session.introduce(cells, &store)?;
    session.run(&settled.experiment, &store, |context| study::run(cells, context, &session.progress))?;
    if args.no_wait {
        return Ok(());
    }
    finish(&settled, &store)
}

/// Refuses to replace finished runs of another recipe, where the recipes are known: those of a tuned experiment are when it is tuned.
fn refuse_replaced_untuned(experiment: &Experiment, store: &Store) -> Result<(), Failure> {
    if experiment.tune().is_some() { Ok(()) } else { refuse_replaced(experiment.cells(), store) }
}

/// Writes and prints the tables.
fn finish(settled: &Settled, store: &Store) -> Result<(), Failure> {
    let records = study::records(settled.experiment.cells(), store)?;
    let failed = records.iter().filter(|record| !record.is_finished()).count();
    print(&table::write(settled, store, &records, Format::Text)?)?;
    note(&format!("tables: {}", store.tables_dir().display()));
    if failed > 0 {
        return Err(Failure::Run(anyhow::anyhow!(
            "{failed} of {} runs failed; their records say why, and `--retry-failed` trains them again",
            records.len()
        )));
    }
    Ok(())
}

/// What the trainings of one command share.
struct Session<'a> {
    args: &'a Run,
    named: &'a device::Named,
    cache: ModelCache,
    signals: Signals,
    code: CodeIdentity,
    versions: BTreeMap<String, String>,
    progress: Progress,
    /// Notes that were printed: a tuning begins twice.
    said: RefCell<BTreeSet<String>>,
}

impl<'a> Session<'a> {
    fn new(args: &'a Run, named: &'a device::Named) -> Result<Self, Failure> {
        Ok(Self {
            args,
            named,
            cache: ModelCache::training_on(named),
            signals: Signals::listen()?,
            code: identity::code(),
            versions: identity::versions(),
            progress: Progress::new(),
            said: RefCell::default(),
        })
    }

    /// What comes before any training: nothing finished is replaced unasked, and everything can be opened.
    fn begin(&self, cells: &[Cell], store: &Store) -> Result<(), Failure> {
        prepare(self.args, cells, store)?;
        self.open(cells)
    }

    /// Says what is about to be trained, once.
    fn introduce(&self, cells: &[Cell], store: &Store) -> Result<(), Failure> {
        let lines = introduction::lines(cells, &self.cache, &self.named.name)?;
        let expected = cost::expected(cells, &self.cache, store, &self.named.name)?;
        let expected =
            expected.map(|seconds| format!("by records of these rows, all runs take about {}", cost::span(seconds)));
        let mut said = self.said.borrow_mut();
        for line in lines.into_iter().chain(expected) {
            if said.insert(line.clone()) {
                note(&line);
            }
        }
        Ok(())
    }

    /// The experiment with the settings of its tuning, which is made where it is not there or is to be made again.
    fn settle(&self, experiment: &Experiment, tune: &Tune, store: &Store, root: &Path) -> Result<Settled, Failure> {
        let trials = tune::trials(root, experiment)?.with_patience(Duration::from_secs_f64(self.args.patience));
        let found = if self.args.force { None } else { tune::found(experiment, store)? };
        if let Some(found) = found {
            self.must_be_of_now(experiment, &found, store)?;
            if !(self.args.retry_failed && study::tuning::has_failed(experiment, &found, &trials)?) {
                return Settled::with(experiment, found);
            }
        }
        // Every split is cut before the first trial, so that a task too small for one is found now and not hours later.
        self.open(experiment.cells())?;
        self.open(&experiment.first_trials())?;
        if self.args.force {
            // First what the trials chose: without it, an interruption leaves a tuning that goes on.
            store.prepare()?;
            let lock = store.lock()?;
            store.forget_tuned()?;
            drop(lock);
            study::forget(experiment.cells(), store, Forget::All)?;
        }
        let found = self.tune(experiment, tune, &trials)?;
        let settled = Settled::with(experiment, found.clone())?;
        // Before the file is written: until then, the old one and the records that were made by it fit together.
        refuse_replaced(settled.experiment.cells(), store)?;
        store.prepare()?;
        store.write_tuned(&found)?;
        note(&format!("tuned: {}", store.tuned_path().display()));
        Ok(settled)
    }

    /// Refuses settings that were chosen on other data, or with another base or start.
    fn must_be_of_now(&self, experiment: &Experiment, found: &Tuned, store: &Store) -> Result<(), Failure> {
        let now = study::tuning::sources(experiment, &self.cache, store)?;
        let Some((task, what)) = found.outlived(&now) else { return Ok(()) };
        Err(Failure::Input(format!(
            "{}: its settings were chosen on something else than is there now: of task `{task}`, {what}\n\nhint: `--set name=NEW` keeps \
             both, `--force` chooses again and trains every run again; trials that are still right are kept",
            store.tuned_path().display()
        )))
    }

    /// Trains the trials.
    fn tune(&self, experiment: &Experiment, tune: &Tune, trials: &Store) -> Result<Tuned, Failure> {
        let groups = experiment.groups();
        let settings: usize = groups.iter().map(|group| tune.settings(&group.variant).len()).sum();
        note(&format!(
            "tuning first: {settings} settings for {} rows, {} seed{} each; their records are under {}",
            groups.len(),
            tune.seeds.len(),
            if tune.seeds.len() == 1 { "" } else { "s" },
            trials.runs_dir().display()
        ));
        let again = Again { changed: self.args.force, failed: self.args.retry_failed };
        self.run(experiment, trials, |context| {
            // What comes next follows from the scores of all trials.
            let context = &StudyContext { stays: true, ..*context };
            study::tuning::tune(experiment, tune, again, context, &self.progress)
        })
    }

    /// Does the work of a study, and says how it ended.
    fn run<R>(
        &self,
        experiment: &Experiment,
        store: &Store,
        work: impl FnOnce(&StudyContext<'_>) -> Result<R, TrainError>,
    ) -> Result<R, Failure> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let context = StudyContext {
            cache: &self.cache,
            store,
            code: &self.code,
            versions: &self.versions,
            device: &self.named.name,
            cohort: match experiment.cohort() {
                CohortSize::Runs(runs) => Some(runs),
                CohortSize::Auto => None,
            },
            workers: self
                .args
                .workers
                .map_or(if self.named.name == "flex" { cores } else { 1 }, |workers| workers as usize),
            among: self.args.among.map_or(1, |among| among as usize),
            stays: !self.args.no_wait,
            lease: None,
            keeps_records: self.args.keep_records,
            stop: Stop::on(self.signals.asked()),
        };
        let done = work(&context);
        self.progress.close();
        match (done, self.signals.status()) {
            (Err(TrainError::Interrupted), Some(status)) => Err(Failure::Interrupted { status }),
            (Err(error @ TrainError::WouldReplace { .. }), _) => Err(error.into()),
            // The input was checked before: whatever stops the study now is a failed run.
            (Err(error), _) => Err(Failure::Run(error.into())),
            (Ok(done), _) => Ok(done),
        }
    }

    /// Opens every model and task before anything is trained, and says what is odd about them: what of their files is not used, and what
    /// a recipe does to its data.
    fn open(&self, cells: &[Cell]) -> Result<(), Failure> {
        let mut models = BTreeSet::new();
        let mut said = self.said.borrow_mut();
        for Cell { recipe, .. } in cells {
            let base = self.cache.base_of(recipe)?;
            let of_model =
                if models.insert(recipe.model.to_string()) { base.said_of(&recipe.model) } else { Vec::new() };
            let task = self.cache.task(recipe)?;
            for text in of_model.into_iter().chain(task.notes.iter().cloned()).chain(study::remarks(recipe, &task)) {
                if said.insert(text.clone()) {
                    note(&text);
                }
            }
        }
        let dirty = "note: this binary was built from uncommitted code; its records are marked dirty";
        if self.code.dirty && said.insert(dirty.to_owned()) {
            note(dirty);
        }
        Ok(())
    }
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
    refuse_replaced(cells, store)
}

/// Refuses to replace finished runs of another recipe.
fn refuse_replaced(cells: &[Cell], store: &Store) -> Result<(), Failure> {
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
