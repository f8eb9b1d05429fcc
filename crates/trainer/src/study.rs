//! A whole experiment: finished cells are skipped, started cohorts go on, the rest is grouped and trained.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use record::{CellId, CodeIdentity, RunRecord, Store, sha256_hex, spec_hash, write_atomic};

use crate::{
    cell::Cell,
    error::TrainError,
    library::Library,
    run::{Plan, train},
    sink::{Event, Sink},
};

/// What a study needs beside its cells.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Models and tasks.
    pub library: &'a Library,
    /// Where records go.
    pub store: &'a Store,
    /// The code that runs.
    pub code: &'a CodeIdentity,
    /// Versions of the crates that matter.
    pub versions: &'a BTreeMap<String, String>,
    /// Name of the device.
    pub device: &'a str,
    /// Runs per cohort; `None` takes one on a CPU.
    pub cohort: Option<usize>,
    /// Cohorts trained at once.
    pub workers: usize,
    /// Set by whoever wants the study to stop at the next step.
    pub stop: &'a AtomicBool,
}

/// The resolved plan of a cell as recorded; its hash identifies the run.
pub fn spec_of(cell: &Cell) -> serde_json::Value {
    serde_json::to_value(&cell.plan).unwrap_or_else(|error| unreachable!("a plan is JSON: {error}"))
}

/// Trains every cell that has no record yet.
pub fn run(cells: &[Cell], setting: &Setting<'_>, sink: &dyn Sink) -> Result<(), TrainError> {
    setting.store.prepare()?;
    let started = started(setting.store)?;
    let in_progress: BTreeSet<&str> =
        started.iter().flat_map(|(_, members)| members.iter().map(String::as_str)).collect();
    let mut open = Vec::new();
    for cell in cells {
        if in_progress.contains(cell.id.slug().as_str()) || !is_done(cell, setting)? {
            open.push(cell.clone());
        }
    }
    let (plans, resumed) = group(&open, started, setting)?;
    let steps = plans.iter().map(|plan| plan.steps() * plan.cells().len() as u64).sum();
    sink.event(&Event::Planned { cells: cells.len(), finished: cells.len() - open.len(), steps });
    for stale in resumed {
        std::fs::remove_dir_all(&stale).map_err(|source| TrainError::Io { path: stale.clone(), source })?;
    }
    work(plans, setting, sink)
}

/// Whether a cell has a record of this very plan, on this very base and data.
fn is_done(cell: &Cell, setting: &Setting<'_>) -> Result<bool, TrainError> {
    let Some(record) = setting.store.finished(&cell.id, &spec_hash(&spec_of(cell)))? else { return Ok(false) };
    let plan = &cell.plan;
    let base = setting.library.base(&plan.model)?;
    let task = setting.library.task(&plan.suite, &plan.task, &plan.model, plan.train.max_length)?;
    Ok(record.model_hash == base.hash && record.data_hash == task.hash)
}

/// Cohorts with a checkpoint: folder and the slugs of their members.
fn started(store: &Store) -> Result<Vec<(PathBuf, Vec<String>)>, TrainError> {
    let root = partial_root(store);
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(&root) else { return Ok(found) };
    for entry in entries.flatten() {
        let file = entry.path().join("members.json");
        if let Ok(bytes) = std::fs::read(&file) {
            let members = serde_json::from_slice(&bytes)
                .map_err(|error| TrainError::Damaged { path: file.clone(), reason: error.to_string() })?;
            found.push((entry.path(), members));
        }
    }
    found.sort();
    Ok(found)
}

/// Where unfinished cohorts lie.
fn partial_root(store: &Store) -> PathBuf {
    store.directory().join(".partial")
}

/// Started cohorts whose members are all still wanted, unchanged; then new ones. Also the folders of cohorts
/// that no longer fit the experiment.
fn group(
    open: &[Cell],
    started: Vec<(PathBuf, Vec<String>)>,
    setting: &Setting<'_>,
) -> Result<(Vec<Plan>, Vec<PathBuf>), TrainError> {
    let mut left: BTreeMap<String, &Cell> = open.iter().map(|cell| (cell.id.slug(), cell)).collect();
    let (mut plans, mut stale) = (Vec::new(), Vec::new());
    for (folder, slugs) in started {
        let members: Option<Vec<Cell>> = slugs.iter().map(|slug| left.get(slug).map(|cell| (*cell).clone())).collect();
        match members.map(|members| (cohort_id(&members), members)) {
            Some((id, members)) if folder.ends_with(&id) => {
                for slug in &slugs {
                    left.remove(slug);
                }
                plans.push(Plan::new(id, &members, setting)?);
            }
            _ => stale.push(folder),
        }
    }
    let size = setting.cohort.unwrap_or(1);
    let mut groups: Vec<(String, Vec<Cell>)> = Vec::new();
    for cell in open.iter().filter(|cell| left.contains_key(&cell.id.slug())) {
        let key = cohort_key(cell);
        match groups.iter_mut().find(|(k, members)| *k == key && members.len() < size) {
            Some((_, members)) => members.push(cell.clone()),
            None => groups.push((key, vec![cell.clone()])),
        }
    }
    for (_, members) in groups {
        plans.push(Plan::new(cohort_id(&members), &members, setting)?);
    }
    Ok((plans, stale))
}

/// Cells with equal keys may share a cohort: one base, one micro-batch, one Adam, one rhythm.
fn cohort_key(cell: &Cell) -> String {
    let (plan, train) = (&cell.plan, &cell.plan.train);
    format!(
        "{} {:?} {} {} {} {} {} {} {}",
        plan.model,
        plan.variant.base,
        train.batch,
        train.accumulate,
        train.max_length,
        train.beta1,
        train.beta2,
        train.epsilon,
        train.checkpoint_every,
    )
}

/// A name for a make-up: a hash of its members' plans, in order.
fn cohort_id(members: &[Cell]) -> String {
    let hashes: Vec<String> =
        members.iter().map(|cell| format!("{} {}", cell.id.slug(), spec_hash(&spec_of(cell)))).collect();
    format!("cohort-{}", &sha256_hex(hashes.join("\n").as_bytes())[..12])
}

/// Trains the cohorts, `workers` at a time. The first error stops the others at their next step.
fn work(plans: Vec<Plan>, setting: &Setting<'_>, sink: &dyn Sink) -> Result<(), TrainError> {
    let queue = Mutex::new(VecDeque::from(plans));
    let first_error = Mutex::new(None);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..setting.workers.max(1) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let next =
                        queue.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics")).pop_front();
                    let Some(plan) = next else { break };
                    let folder = partial_root(setting.store).join(plan.id());
                    if let Err(error) =
                        open_folder(&folder, &plan).and_then(|()| train(&plan, &folder, setting, &failed, sink))
                    {
                        failed.store(true, Ordering::Relaxed);
                        first_error
                            .lock()
                            .unwrap_or_else(|_| unreachable!("no holder of this lock panics"))
                            .get_or_insert(error);
                    }
                }
            });
        }
    });
    match first_error.into_inner().unwrap_or_else(|_| unreachable!("no holder of this lock panics")) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Makes a cohort's folder and writes its make-up there.
fn open_folder(folder: &Path, plan: &Plan) -> Result<(), TrainError> {
    std::fs::create_dir_all(folder).map_err(|source| TrainError::Io { path: folder.to_owned(), source })?;
    let slugs: Vec<String> = plan.cells().iter().map(|cell| cell.id.slug()).collect();
    let json = serde_json::to_vec(&slugs).unwrap_or_else(|error| unreachable!("strings are JSON: {error}"));
    Ok(write_atomic(&folder.join("members.json"), &json)?)
}

/// Records of the experiment's own cells, as they are planned now, in their order.
pub fn records(cells: &[Cell], store: &Store) -> Result<Vec<RunRecord>, TrainError> {
    let of = |cell: &Cell| store.finished(&cell.id, &spec_hash(&spec_of(cell))).map_err(TrainError::from);
    cells.iter().filter_map(|cell| of(cell).transpose()).collect()
}

/// Cells that have no record.
pub fn missing<'a>(cells: &'a [Cell], records: &[RunRecord]) -> Vec<&'a CellId> {
    let have: BTreeSet<String> = records.iter().map(|record| record.cell.slug()).collect();
    cells.iter().map(|cell| &cell.id).filter(|id| !have.contains(&id.slug())).collect()
}
