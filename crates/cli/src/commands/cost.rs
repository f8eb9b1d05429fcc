//! What is left of an experiment costs, as `check` says it and `run --launcher slurm` cuts it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use assets::device;
use experiment::{CohortSize, Experiment, cell::Cell};
use indicatif::HumanDuration;
use record::{RunRecord, Store};
use schedule::{Basis, CostModel};
use trainer::{
    error::TrainError,
    model_cache::ModelCache,
    stop::Stop,
    study::{context::StudyContext, costs, identity::spec_of},
};

use crate::{failure::Failure, identity};

/// What is left to do, by what it costs.
#[derive(Debug)]
pub(crate) struct Costs {
    /// Estimated seconds of every cell without a record, trials of a tuning that is not made yet among them.
    pub(crate) seconds: Vec<f64>,
    /// How many of them are trials.
    trials: usize,
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
}

impl Costs {
    /// Costs of what has no record yet; none where nothing tells.
    fn of(
        experiment: &Experiment,
        sources: Sources<'_>,
        context: &StudyContext<'_>,
    ) -> Result<Option<Self>, TrainError> {
        let Sources { store, device, .. } = sources;
        let opened = Instant::now();
        let mut cells: Vec<Cell> = Vec::new();
        if experiment.tune().is_some() && !store.tuned_path().is_file() {
            cells.extend(experiment.first_trials());
        }
        let trials = cells.len();
        cells.extend(experiment.cells().iter().filter(|cell| store.record_stamp(&cell.id).is_none()).cloned());
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
        let is_recorded: Vec<bool> = cells.iter().map(|cell| model.knows(&spec_of(cell))).collect();
        let (mut factor, mut process_bytes) = (None, None);
        if sources.measures {
            // One step tells how this machine compares with where the records come from.
            if let Some(cell) =
                cells.iter().find(|cell| model.knows(&spec_of(cell)) && cell.recipe.start_from.is_none())
            {
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
        let (mut seconds, mut recorded, mut timed, mut alike, mut device_bytes) = (Vec::new(), 0, 0, 0, None);
        for (cell, is_recorded) in cells.iter().zip(is_recorded) {
            let steps = cell.recipe.train.total_steps(context.cache.task(&cell.recipe)?.train.rows.len());
            let Some(found) = model.estimate(&spec_of(cell), steps) else { return Ok(None) };
            seconds.push(found.seconds);
            device_bytes = device_bytes.max(found.peak_bytes.filter(|_| device != "flex"));
            match found.basis {
                Basis::Recipe if is_recorded => recorded += 1,
                Basis::Recipe => timed += 1,
                _ => alike += 1,
            }
        }
        let device = device.to_owned();
        Ok(Some(Self { seconds, trials, recorded, timed, alike, factor, device_bytes, process_bytes, start, device }))
    }

    /// Lines that say it.
    pub(crate) fn said(&self) -> String {
        let total: f64 = self.seconds.iter().sum();
        if self.seconds.is_empty() {
            return "  cost: every cell has a record\n".to_owned();
        }
        let trials = if self.trials > 0 { format!(", {} of them trials", self.trials) } else { String::new() };
        let longest = self.seconds.iter().copied().fold(0.0, f64::max);
        let mut said = format!(
            "  cost: {} {}{trials}, about {} for one worker on {}; the longest takes {}\n",
            self.seconds.len(),
            if self.seconds.len() == 1 { "run" } else { "runs" },
            span(total),
            self.device,
            span(longest),
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

/// Folders of runs of other studies, and of this one's trials.
fn others(results: &Path, store: &Store) -> Vec<PathBuf> {
    let own = store.runs_dir();
    let studies = std::fs::read_dir(results).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = studies.flat_map(|study| [study.join("runs"), study.join("tune/runs")]).collect();
    found.retain(|folder| folder.is_dir() && *folder != own);
    found.sort();
    found
}

/// Said where nothing tells what an experiment costs.
pub(crate) const UNKNOWN: &str = "  cost: no record of such runs on such a device, and none here to time a step on\n";

/// Costs of an experiment on this machine's device `named`; on `cards` that it may not have, by records alone.
pub(crate) fn on(
    named: &device::Named,
    cards: bool,
    experiment: &Experiment,
    store: &Store,
    results: &Path,
) -> Result<Option<Costs>, Failure> {
    let is_card = named.name.contains("cuda");
    let measures = !cards || is_card;
    let device = if measures { &named.name } else { "tch:cuda:0" };
    let (cache, code, versions) = (ModelCache::training_on(named), identity::code(), identity::versions());
    let never = AtomicBool::new(false);
    let context = StudyContext {
        cache: &cache,
        store,
        code: &code,
        versions: &versions,
        device: &named.name,
        cohort: match experiment.cohort() {
            CohortSize::Runs(runs) => Some(runs),
            CohortSize::Auto => None,
        },
        workers: 1,
        among: 1,
        stays: false,
        lease: None,
        keeps_records: false,
        stop: Stop::on(&never),
    };
    Ok(Costs::of(experiment, Sources { results, store, device, measures }, &context)?)
}
