//! A whole experiment: finished cells are skipped, started cohorts go on, the rest is grouped and trained.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use kernels::memory;
use record::{CellId, CodeIdentity, RunRecord, Store, sha256_hex, spec_hash, write_atomic};

use crate::{
    cell::Cell,
    error::TrainError,
    library::Library,
    run::{Plan, train},
    sink::{Event, Sink},
    start::StartFrom,
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
    /// Runs per cohort; `None` fills a device whose memory can be read, and takes one run elsewhere.
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

/// Trains every cell that has no record yet; cells that start from another after that one.
///
/// Started cohorts go on where every member, its base, its data and the code are what they were; others begin again.
pub fn run(cells: &[Cell], setting: &Setting<'_>, sink: &dyn Sink) -> Result<(), TrainError> {
    setting.store.prepare()?;
    let _lock = setting.store.lock()?;
    let levels = levels(cells);
    let last = levels.iter().copied().max().unwrap_or(0);
    // A cell whose source is trained again is trained again.
    let mut open: BTreeSet<String> = BTreeSet::new();
    for level in 0..=last {
        for (cell, _) in cells.iter().zip(&levels).filter(|(_, of)| **of == level) {
            let renewed = matches!(&cell.plan.start_from, Some(StartFrom::Cell(id)) if open.contains(&id.slug()));
            if renewed || !is_done(cell, setting)? {
                open.insert(cell.id.slug());
            }
        }
    }
    let is_open = |cell: &&Cell| open.contains(&cell.id.slug());
    let mut steps = 0;
    for cell in cells.iter().filter(is_open) {
        steps += cell.plan.train.total_steps(setting.library.task(&cell.plan)?.train.rows.len());
    }
    let mut announced = false;
    for level in 0..=last {
        let (mut plans, stale) = going_on(cells, &levels, level, setting)?;
        let taken: BTreeSet<String> =
            plans.iter().flat_map(|plan: &Plan| plan.cells().into_iter().map(|cell| cell.id.slug())).collect();
        let here = cells.iter().zip(&levels).filter(|(cell, of)| **of == level && !taken.contains(&cell.id.slug()));
        let here: Vec<Cell> = here.map(|(cell, _)| cell).filter(is_open).cloned().collect();
        plans.extend(group(&here, setting)?);
        if !announced {
            let finished = cells.len() - open.union(&taken).count();
            sink.event(&Event::Planned { cells: cells.len(), finished, discarded: stale.len(), steps });
            announced = true;
        }
        for stale in stale {
            std::fs::remove_dir_all(&stale).map_err(|source| TrainError::Io { path: stale.clone(), source })?;
        }
        work(plans, setting, sink)?;
    }
    Ok(())
}

/// How many cells lie before each in a chain of warm starts. The chains were checked to end.
fn levels(cells: &[Cell]) -> Vec<usize> {
    let by_slug: BTreeMap<String, &Cell> = cells.iter().map(|cell| (cell.id.slug(), cell)).collect();
    let before = |cell: &Cell| match &cell.plan.start_from {
        Some(StartFrom::Cell(id)) => by_slug.get(&id.slug()).copied(),
        _ => None,
    };
    let depth = |cell: &Cell| std::iter::successors(before(cell), |cell| before(cell)).take(cells.len()).count();
    cells.iter().map(depth).collect()
}

/// Whether a cell has a record of this very plan, on this very base and data, and the adapter beside it.
fn is_done(cell: &Cell, setting: &Setting<'_>) -> Result<bool, TrainError> {
    let Some(record) = setting.store.finished(&cell.id, &spec_hash(&spec_of(cell)))? else { return Ok(false) };
    let adapter = setting.store.run_dir(&cell.id).join("adapter.safetensors");
    let [model, data, start] = material(cell, setting)?;
    let same_start = record.start.as_ref().map_or("", |start| start.hash.as_str()) == start;
    Ok(same_start
        && record.model_hash == model
        && record.data_hash == data
        && (adapter.is_file() || !record.is_finished()))
}

/// Hashes of a cell's base and data, and of the adapter it starts from where that is there.
fn material(cell: &Cell, setting: &Setting<'_>) -> Result<[String; 3], TrainError> {
    let plan = &cell.plan;
    let base = setting.library.base_of(plan)?;
    let task = setting.library.task(plan)?;
    let start = plan.start_from.as_ref().map(|from| from.identity(setting.store)).transpose()?.flatten();
    Ok([base.hash.clone(), task.hash.clone(), start.map(|start| start.hash).unwrap_or_default()])
}

/// Cells whose record was made by another recipe under the same name: training them would replace it.
pub fn replaced<'a>(cells: &'a [Cell], store: &Store) -> Result<Vec<&'a CellId>, TrainError> {
    let mut found = Vec::new();
    for cell in cells {
        if store.record(&cell.id)?.is_some_and(|record| record.spec_hash != spec_hash(&spec_of(cell))) {
            found.push(&cell.id);
        }
    }
    Ok(found)
}

/// Which records are thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// Those of every cell, and started work.
    All,
    /// Those of runs that failed.
    Failed,
}

/// Removes records of `cells`, so that their runs are made again. The folder is known to be writable before anything goes.
pub fn forget(cells: &[Cell], store: &Store, which: Forget) -> Result<(), TrainError> {
    store.prepare()?;
    let _lock = store.lock()?;
    let remove = |path: PathBuf| match std::fs::remove_dir_all(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(TrainError::Io { path, source }),
        _ => Ok(()),
    };
    for cell in cells {
        let failed = || Ok::<_, TrainError>(store.record(&cell.id)?.is_some_and(|record| !record.is_finished()));
        if which == Forget::All || failed()? {
            remove(store.run_dir(&cell.id))?;
        }
    }
    if which == Forget::All {
        for (folder, _) in started(store)? {
            remove(folder)?;
        }
    }
    Ok(())
}

/// Cohorts with a checkpoint: folder and the slugs of their members.
fn started(store: &Store) -> Result<Vec<(PathBuf, Vec<String>)>, TrainError> {
    let root = partial_root(store);
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(&root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(|source| TrainError::Io { path: root.clone(), source })?,
    };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        // A folder whose list of members is missing or torn names nobody, so it fits no experiment and begins again.
        let members = std::fs::read(path.join("members.json")).ok();
        found.push((path, members.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()));
    }
    found.sort();
    Ok(found)
}

/// Where unfinished cohorts lie.
fn partial_root(store: &Store) -> PathBuf {
    store.directory().join(".partial")
}

/// Started cohorts whose members are all still wanted, unchanged, on the same base, data and code; and the folders of the
/// others.
///
/// Of several levels of warm starts one is looked at: the sources of later ones may not be there yet.
fn going_on(
    cells: &[Cell],
    levels: &[usize],
    level: usize,
    setting: &Setting<'_>,
) -> Result<(Vec<Plan>, Vec<PathBuf>), TrainError> {
    let wanted: BTreeMap<String, &Cell> = cells.iter().map(|cell| (cell.id.slug(), cell)).collect();
    let level_of: BTreeMap<String, usize> =
        cells.iter().map(|cell| cell.id.slug()).zip(levels.iter().copied()).collect();
    let (mut plans, mut stale) = (Vec::new(), Vec::new());
    for (folder, slugs) in started(setting.store)? {
        if slugs.first().and_then(|slug| level_of.get(slug)).is_some_and(|of| *of > level) {
            continue;
        }
        let members: Option<Vec<Cell>> = if slugs.is_empty() {
            None
        } else {
            slugs.iter().map(|slug| wanted.get(slug).map(|cell| (*cell).clone())).collect()
        };
        let plan = members.map(|members| Plan::new(&members, setting)).transpose()?;
        match plan.filter(|plan| folder.ends_with(plan.id())) {
            Some(plan) => plans.push(plan),
            None => stale.push(folder),
        }
    }
    Ok((plans, stale))
}

/// New cohorts, in the order of their cells.
fn group(open: &[Cell], setting: &Setting<'_>) -> Result<Vec<Plan>, TrainError> {
    let size = match setting.cohort {
        Some(size) => size,
        None if memory::usage(&setting.library.place().device).is_some() => return fill(open, setting),
        None => 1,
    };
    let mut groups: Vec<(String, Vec<Cell>)> = Vec::new();
    for cell in open {
        let key = cohort_key(cell);
        match groups.iter_mut().find(|(k, members)| *k == key && members.len() < size) {
            Some((_, members)) => members.push(cell.clone()),
            None => groups.push((key, vec![cell.clone()])),
        }
    }
    groups.iter().map(|(_, members)| Plan::new(members, setting)).collect()
}

/// New cohorts as large as the device's memory takes, as even as can be, each of one task: rows of other lengths would be padding.
fn fill(open: &[Cell], setting: &Setting<'_>) -> Result<Vec<Plan>, TrainError> {
    let mut groups: Vec<(String, Vec<Cell>)> = Vec::new();
    for cell in open {
        let key = format!("{} {} {:?}", cohort_key(cell), cell.plan.task, cell.plan.data);
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, members)) => members.push(cell.clone()),
            None => groups.push((key, vec![cell.clone()])),
        }
    }
    let mut plans = Vec::new();
    for (_, members) in groups {
        let cohorts = members.len().div_ceil(capacity(&members, setting)?);
        // Runs of one stack stay together, and the rest is spread evenly.
        for part in members.chunks(members.len().div_ceil(cohorts)) {
            plans.push(Plan::new(part, setting)?);
        }
    }
    Ok(plans)
}

/// Share of a device's memory that cohorts may fill: the allocator needs room between its blocks.
const FILLED: f64 = 0.8;

/// Runs that fit on the device at once: a step of one run of every stack, at the width of the longest example, is measured.
fn capacity(members: &[Cell], setting: &Setting<'_>) -> Result<usize, TrainError> {
    if members.len() == 1 {
        return Ok(1);
    }
    let device = &setting.library.place().device;
    let mut trial: Vec<Cell> = Vec::new();
    for cell in members {
        let with: Vec<Cell> = trial.iter().chain([cell]).cloned().collect();
        if Plan::new(&with, setting)?.stacks() > trial.len() {
            trial = with;
        }
    }
    let plan = Plan::new(&trial, setting)?;
    let (Some(total), Some(before)) = (memory::total(device), memory::usage(device)) else { return Ok(1) };
    memory::reset_peak(device);
    let step = || -> Result<(), TrainError> {
        plan.build(setting)?.advance(&plan.lesson(setting)?.widest());
        Ok(())
    };
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(step));
    let peak = memory::usage(device).map_or(before.now, |memory| memory.peak);
    memory::release(device);
    match done {
        Ok(done) => done?,
        // One run of every stack is too much at once; a run alone fits, or says in training that it does not.
        Err(panic) if is_out_of_memory(panic.as_ref()) => return Ok(1),
        Err(panic) => std::panic::resume_unwind(panic),
    }
    // Twice: a recorded step keeps its memory beside that of a step of another width. And half as much again: blocks of many widths
    // leave gaps between them.
    let run = 3.0 * (peak.saturating_sub(before.now)).max(1) as f64 / trial.len() as f64;
    let room = FILLED * total as f64 - before.now as f64;
    Ok(((room / run) as usize).max(1))
}

/// Cells with equal keys may share a cohort: one base, one micro-batch, one Adam, one rhythm.
fn cohort_key(cell: &Cell) -> String {
    let (plan, train) = (&cell.plan, &cell.plan.train);
    format!(
        "{} {} {:?} {} {:?} {:?} {} {} {} {} {} {} {}",
        plan.model,
        plan.text().is_some(),
        train.precision,
        train.recompute,
        train.backbone_dropout,
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

/// A name for a make-up: a hash of its members' plans, bases and data, in order, and of the code.
pub(crate) fn cohort_id(members: &[&Cell], setting: &Setting<'_>) -> Result<String, TrainError> {
    let mut parts = vec![setting.code.code_hash.clone(), setting.device.to_owned()];
    for cell in members {
        let [model, data, start] = material(cell, setting)?;
        let start = if start.is_empty() { start } else { format!(" {start}") };
        parts.push(format!("{} {} {model} {data}{start}", cell.id.slug(), spec_hash(&spec_of(cell))));
    }
    Ok(format!("cohort-{}", &sha256_hex(parts.join("\n").as_bytes())[..12]))
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
                    let attempt =
                        || open_folder(&folder, &plan).and_then(|()| train(&plan, &folder, setting, &failed, sink));
                    if let Err(error) = or_out_of_memory(attempt, &plan, setting) {
                        // The error first: a worker that is told to stop reports an interruption.
                        first_error
                            .lock()
                            .unwrap_or_else(|_| unreachable!("no holder of this lock panics"))
                            .get_or_insert(error);
                        failed.store(true, Ordering::Relaxed);
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

/// Whether a panic is a device's that has no memory left.
fn is_out_of_memory(panic: &(dyn Any + Send)) -> bool {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.is_some_and(|text| text.contains("out of memory"))
}

/// What `attempt` gave; a device whose memory is full says so by a panic, which becomes an error with the way out.
fn or_out_of_memory(
    attempt: impl FnOnce() -> Result<(), TrainError>,
    plan: &Plan,
    setting: &Setting<'_>,
) -> Result<(), TrainError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt)).unwrap_or_else(|panic| {
        if !is_out_of_memory(panic.as_ref()) {
            std::panic::resume_unwind(panic);
        }
        let runs = plan.cells().len();
        Err(TrainError::Device {
            name: setting.device.to_owned(),
            reason: format!(
                "its memory does not take a cohort of {runs} runs; give a smaller `cohort: N`, or free the device. What was \
                 saved is kept"
            ),
        })
    })
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
