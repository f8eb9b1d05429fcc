//! What is left of an experiment costs, as `check` says it and `run --launcher slurm` cuts it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use assets::device;
use experiment::{CohortSize, Experiment, cell::Cell, launcher::Slurm};
use indicatif::HumanDuration;
use record::{RunRecord, Store};
use schedule::{Basis, CostModel};
use trainer::{
    error::TrainError,
    model_cache::ModelCache,
    stop::Stop,
    study::{self, context::StudyContext, costs, identity::spec_of, tuning::FOLDER},
};

use crate::{failure::Failure, identity};

/// What is left to do, by what it costs.
#[derive(Debug)]
pub(crate) struct Costs {
    /// Estimated seconds of every cohort that is to be trained, one list for each level: rungs of a tuning that is not made yet, then cells, those that
    /// start from others after them.
    pub(crate) levels: Vec<Vec<f64>>,
    /// Their runs.
    runs: usize,
    /// How many of them are trials.
    trials: usize,
    /// Seconds of the longest run.
    longest: f64,
    /// How many of them are estimated by records of the same recipe, by steps that were timed now, and by runs that are only like them.
    recorded: usize,
    timed: usize,
    alike: usize,
    /// How much slower this machine is than where the records were made, where a step was timed for that.
    factor: Option<f64>,
    /// The most memory of a past run's device.
    device_bytes: Option<u64>,
    /// The most memory that this process held when it timed a step.
    pub(crate) process_bytes: Option<u64>,
    /// Seconds that it took to open models and data.
    pub(crate) start: f64,
    /// The kind of device that all this is of.
    device: String,
}

/// Where costs come from.
#[derive(Clone, Copy, Debug)]
struct Sources<'a> {
    /// The folder of all results.
    results: &'a Path,
    store: &'a Store,
    /// The kind of device that trains, as a record names it.
    device: &'a str,
    /// Whether steps may be timed on the context's device.
    measures: bool,
    /// Runs of a cohort; 1 where memory says.
    cohort: usize,
    /// Rungs of a tuning that is not made yet.
    rungs: usize,
}

impl Costs {
    /// Costs of what is to be trained; none where nothing tells.
    fn of(
        experiment: &Experiment,
        sources: Sources<'_>,
        context: &StudyContext<'_>,
    ) -> Result<Option<Self>, TrainError> {
        let Sources { store, device, .. } = sources;
        let opened = Instant::now();
        let mut waiting = trials(experiment, sources)?;
        let trials = waiting.iter().map(Vec::len).sum();
        let lacking = study::lacking(experiment.cells(), context)?;
        for (cell, level) in experiment.cells().iter().zip(study::levels(experiment.cells())) {
            let at = sources.rungs + level;
            waiting.resize_with(waiting.len().max(at + 1), Vec::new);
            waiting[at].extend(lacking.contains(&cell.id.slug()).then(|| cell.clone()));
        }
        let cells: Vec<Cell> = waiting.concat();
        for cell in &cells {
            context.cache.task(&cell.recipe)?;
        }
        let start = opened.elapsed().as_secs_f64().max(1.0);
        let mut model = CostModel::new();
        costs::learn(&mut model, &of_each_row(&store.runs_dir()), device);
        if cells.iter().any(|cell| !model.knows(&spec_of(cell))) {
            for folder in others(sources.results, store) {
                costs::learn(&mut model, &of_each_row(&folder), device);
            }
        }
        let is_recorded = |model: &CostModel, cell: &Cell| model.knows(&spec_of(cell));
        let recorded: Vec<bool> = cells.iter().map(|cell| is_recorded(&model, cell)).collect();
        let (mut factor, mut process_bytes) = (None, None);
        if sources.measures {
            // One step tells how this machine compares with where the records come from. On a card a run's step is its share of a cohort's, and a
            // run alone tells nothing of that.
            let mut known = cells.iter().zip(&recorded).filter(|(_, is_recorded)| **is_recorded);
            let one = known.find(|(cell, _)| cell.recipe.start_from.is_none());
            if let Some((cell, _)) = one.filter(|_| !costs::tells_memory(context)) {
                let here = costs::time_steps(std::slice::from_ref(cell), context)?;
                let there = model.step_seconds(&spec_of(cell)).unwrap_or(here.step_seconds);
                let ratio = here.step_seconds / there;
                model.scale(ratio);
                factor = Some(ratio);
                process_bytes = here.peak_bytes;
            }
            let found = costs::measure(&mut model, &cells, context)?;
            process_bytes = process_bytes.max(found.peak_bytes);
        }
        let mut own = Self {
            levels: Vec::new(),
            runs: cells.len(),
            trials,
            longest: 0.0,
            recorded: 0,
            timed: 0,
            alike: 0,
            factor,
            device_bytes: None,
            // Of a process with one run.
            process_bytes: process_bytes.filter(|_| sources.cohort == 1),
            start,
            device: device.to_owned(),
        };
        let mut recorded = recorded.into_iter();
        for level in waiting {
            let mut seconds = Vec::new();
            for cell in &level {
                let steps = cell.recipe.train.total_steps(context.cache.task(&cell.recipe)?.train.rows.len());
                let is_recorded = recorded.next().unwrap_or_default();
                let Some(found) = model.estimate(&spec_of(cell), steps) else { return Ok(None) };
                seconds.push(found.seconds);
                own.longest = own.longest.max(found.seconds);
                own.device_bytes = own.device_bytes.max(found.peak_bytes.filter(|_| device != "flex"));
                match found.basis {
                    Basis::Recipe if is_recorded => own.recorded += 1,
                    Basis::Recipe => own.timed += 1,
                    _ => own.alike += 1,
                }
            }
            own.levels.push(seconds.chunks(sources.cohort).map(|cohort| cohort.iter().sum()).collect());
        }
        Ok(Some(own))
    }

    /// Whether nothing is left to train.
    pub(crate) fn is_nothing(&self) -> bool {
        self.runs == 0
    }

    /// Lines that say it.
    pub(crate) fn said(&self) -> String {
        let total: f64 = self.levels.iter().flatten().sum();
        if self.is_nothing() {
            return "  cost: nothing is left to train\n".to_owned();
        }
        let trials = if self.trials > 0 { format!(", {} of them trials", self.trials) } else { String::new() };
        let mut said = format!(
            "  cost: {} {}{trials}, about {} for one worker on {}; the longest takes {}\n",
            self.runs,
            if self.runs == 1 { "run" } else { "runs" },
            span(total),
            self.device,
            span(self.longest),
        );
        let basis = [
            (self.recorded, "by records of the same recipe"),
            (self.timed, "by steps that were timed now"),
            (self.alike, "by runs that are like them"),
        ];
        let basis = basis.iter().filter(|(runs, _)| *runs > 0).map(|(runs, what)| format!("{runs} {what}"));
        let basis = basis.collect::<Vec<_>>().join(", ");
        let here = self.factor.map(|factor| format!("; a step takes {factor:.2} times as long here as in its record"));
        said += &format!("  cost: estimated {basis}{}\n", here.unwrap_or_default());
        let memory = self.process_bytes.map(|held| format!("one run holds {} of a process", bytes(held)));
        let device = self.device_bytes.map(|held| format!("past cohorts held at most {} of a device", bytes(held)));
        let memory: Vec<String> = memory.into_iter().chain(device).collect();
        if !memory.is_empty() {
            said += &format!("  cost: {}\n", memory.join("; "));
        }
        said
    }
}

/// Seconds as a person says them.
pub(crate) fn span(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.1} s") } else { HumanDuration(Duration::from_secs_f64(seconds)).to_string() }
}

/// Bytes as a person says them.
pub(crate) fn bytes(count: u64) -> String {
    let gibibytes = count as f64 / f64::from(1 << 30);
    if gibibytes < 1.0 { format!("{:.0} MiB", gibibytes * 1024.0) } else { format!("{gibibytes:.1} GiB") }
}

/// The first whole record of every row in a folder of runs: runs that differ in their seed alone take equally long.
fn of_each_row(runs: &Path) -> Vec<RunRecord> {
    let mut rows = BTreeSet::new();
    let mut found = Vec::new();
    let mut folders: Vec<_> =
        std::fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let row = name.rsplit_once("-s").map_or(name.as_str(), |(row, _)| row).to_owned();
        if rows.contains(&row) {
            continue;
        }
        // What cannot be read tells nothing; `table` says what is wrong with it.
        let record = std::fs::read(folder.join("record.json")).ok().and_then(|bytes| RunRecord::from_json(&bytes).ok());
        if let Some(record) = record.filter(RunRecord::is_finished) {
            rows.insert(row);
            found.push(record);
        }
    }
    found
}

/// Seconds that all cells take one after the other, by the study's own records; none where these do not tell.
pub(crate) fn expected(
    cells: &[Cell],
    cache: &ModelCache,
    store: &Store,
    device: &str,
) -> Result<Option<f64>, TrainError> {
    let mut model = CostModel::new();
    costs::learn(&mut model, &of_each_row(&store.runs_dir()), device);
    let mut all = 0.0;
    for cell in cells {
        let steps = cell.recipe.train.total_steps(cache.task(&cell.recipe)?.train.rows.len());
        let Some(found) = model.estimate(&spec_of(cell), steps) else { return Ok(None) };
        all += found.seconds;
    }
    Ok(Some(all))
}

/// Folders of runs of other studies, and of this one's trials.
fn others(results: &Path, store: &Store) -> Vec<PathBuf> {
    let own = store.runs_dir();
    let studies = std::fs::read_dir(results).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = studies.flat_map(|study| [study.join("runs"), study.join("tune/runs")]).collect();
    found.retain(|folder| folder.is_dir() && *folder != own);
    found.sort();
    found
}

/// Trials of a tuning that is not made yet, rung by rung; those that are there are left out. Which settings go on is not known, but how many.
fn trials(experiment: &Experiment, sources: Sources<'_>) -> Result<Vec<Vec<Cell>>, TrainError> {
    let Some(tune) = experiment.tune().filter(|_| sources.rungs > 0) else { return Ok(Vec::new()) };
    let made = Store::open(sources.results, &format!("{}/{FOLDER}", experiment.name()))?;
    let divisors = tune.halving.map_or_else(|| vec![1], |halving| halving.divisors());
    let mut rungs = Vec::new();
    for (rung, divisor) in divisors.into_iter().enumerate() {
        let mut tried = Vec::new();
        for group in experiment.groups() {
            let settings = tune.settings(&group.variant);
            let reach = tune.halving.map_or(settings.len(), |halving| halving.counts(settings.len())[rung]);
            for setting in &settings[..reach] {
                tried.push((group.clone(), experiment.shortened(&group, setting, divisor)));
            }
        }
        let cells =
            experiment.trials(&tried).map_err(|error| TrainError::foreign(experiment.name(), error.to_string()))?;
        rungs.push(cells.concat().into_iter().filter(|cell| made.record_stamp(&cell.id).is_none()).collect());
    }
    Ok(rungs)
}

/// Said where nothing tells what an experiment costs.
pub(crate) const UNKNOWN: &str = "  cost: no record of such runs on such a device, and none here to time a step on\n";

/// Costs of an experiment as it is settled, or of its tuning before it, on a device like `named`; of tasks of a job array on what they ask for,
/// by records alone where this machine has no such device. With `keeps_records`, a run whose adapter is gone is not trained again.
pub(crate) fn on(
    named: &device::Named,
    slurm: Option<&Slurm>,
    (experiment, is_tuned, keeps_records): (&Experiment, bool, bool),
    store: &Store,
    results: &Path,
) -> Result<Option<Costs>, Failure> {
    let is_card = named.name.contains("cuda");
    let cards = slurm.map_or(is_card, Slurm::asks_for_cards);
    let cpu = device::parse("cpu")?;
    let named = if is_card && !cards { &cpu } else { named };
    let measures = cards == named.name.contains("cuda");
    let device = if measures { &named.name } else { "tch:cuda:0" };
    let (cache, code, versions) = (ModelCache::training_on(named), identity::code(), identity::versions());
    let never = AtomicBool::new(false);
    let cohort = match experiment.cohort() {
        CohortSize::Runs(runs) => Some(runs),
        CohortSize::Auto => None,
    };
    let context = StudyContext {
        cache: &cache,
        store,
        code: &code,
        versions: &versions,
        device: &named.name,
        cohort,
        workers: 1,
        among: 1,
        stays: false,
        lease: None,
        keeps_records,
        stop: Stop::on(&never),
    };
    let rungs =
        experiment.tune().filter(|_| !is_tuned).map_or(0, |tune| tune.halving.map_or(1, |halving| halving.rungs));
    let sources = Sources { results, store, device, measures, cohort: cohort.unwrap_or(1), rungs };
    Ok(Costs::of(experiment, sources, &context)?)
}
