//! A whole experiment: finished cells are skipped, unfinished cohorts resume, the rest is grouped into cohorts and trained.

mod capacity;
pub mod context;
pub mod costs;
mod group;
pub mod identity;
mod outline;
pub mod plan;
mod resume;
pub mod run_state;
mod share;
pub mod tuning;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use data::metric::Metric;
use record::{Asked, BadFile, CellId, RecordError, RunRecord, Store, WORKER, process_mark, spec_hash};

pub use self::capacity::is_out_of_memory;
use self::{
    context::StudyContext,
    identity::{Standing, spec_of, standing},
    outline::Outlines,
    share::{Board, Outstanding},
};
use crate::{
    calibrate,
    error::TrainError,
    model_cache::TokenizedTask,
    sink::{Event, Sink, Work},
};
use experiment::{
    cell::{Cell, Recipe},
    start::StartFrom,
};
use variants::rank::RankPolicy as _;

/// Trains every cell that has no record yet; cells that start from another after that one.
///
/// Unfinished cohorts resume where every run, its base, its data and the code are what they were; others begin again. Other processes may
/// do the same at the same time: each cohort is trained by one of them, and this one ends when all have ended.
pub fn run(cells: &[Cell], context: &StudyContext<'_>, sink: &dyn Sink) -> Result<(), TrainError> {
    context.store.prepare()?;
    let _lock = context.store.join()?;
    let leases = context.store.leases()?;
    let present = leases.take(&format!("{WORKER}{}", process_mark()))?;
    let sink = &Telling { sink, present: &present };
    let cells: Vec<(&Cell, usize)> = cells.iter().zip(levels(cells)).collect();
    let last = cells.iter().map(|(_, level)| *level).max().unwrap_or(0);
    // Before the records are read: one that another process writes meanwhile is a new one.
    let before = Outstanding::before(cells.iter().map(|(cell, _)| *cell), context.store);
    let open = open_cells(&cells, context)?.said(sink, context)?;
    check(&cells, &open, context)?;
    let (outstanding, mut ended) = (before.of(&open), BTreeSet::new());
    for level in 0..=last {
        let of_level = cells.iter().filter(|(cell, of)| *of == level && open.contains(&cell.id.slug()));
        let of_level: Vec<Cell> = of_level.map(|(cell, _)| (*cell).clone()).collect();
        let mut outlines = Outlines::ahead(&of_level, context)?;
        let agreed = loop {
            let planning = leases.wait("plan", || context.stop.is_asked())?.ok_or(TrainError::Interrupted)?;
            if let Some(agreed) =
                share::agree(&cells, level, &outstanding, &mut outlines, (&leases, &planning), context)?
            {
                break agreed;
            }
        };
        if level == 0 {
            let finished = cells.len() - open.union(&agreed.unfinished).count();
            let work = work(&cells, &open, context)?;
            let (cells, cohorts) = (cells.len(), agreed.cohorts.len());
            sink.event(&Event::Planned { cells, finished, discarded: agreed.discarded, cohorts, work });
        }
        // A level is begun when all that it starts from is there.
        let context = &StudyContext { stays: context.stays || level < last, ..*context };
        let board = Board::new(agreed.cohorts, &outstanding);
        workers::work(&board, &leases, context, sink)?;
        match board.ended_names() {
            Some(names) => ended.extend(names),
            None => return Ok(()),
        }
    }
    share::conclude(&ended, &leases, context)
}

/// Refuses what is known before any training to fail in it.
fn check(cells: &[(&Cell, usize)], open: &BTreeSet<String>, context: &StudyContext<'_>) -> Result<(), TrainError> {
    for (cell, _) in cells.iter().filter(|(cell, _)| open.contains(&cell.id.slug())) {
        let task = context.cache.task(&cell.recipe)?;
        calibrate::check(cell, &task, context.cache)?;
        context.cache.measurement(&cell.recipe, context.stop)?; // a base that it cannot be measured of is refused before any training
    }
    Ok(())
}

/// What all open cells take.
fn work(cells: &[(&Cell, usize)], open: &BTreeSet<String>, context: &StudyContext<'_>) -> Result<Work, TrainError> {
    let is_open = |(cell, _): &&(&Cell, usize)| open.contains(&cell.id.slug());
    let of = |(cell, _): &(&Cell, usize)| {
        let (task, train) = (context.cache.task(&cell.recipe)?, &cell.recipe.train);
        let steps = train.total_steps(task.train.rows.len());
        let during = train.evaluate_every.map_or(0, |every| steps / every.steps(train, task.train.rows.len()).max(1));
        let variant = &cell.recipe.variant;
        let readouts = cell.readouts(&variant.rank_policy.readouts(variant.rank)).len() as u64;
        let first = task.splits.first().map_or(0, |split| split.set.rows.len() as u64);
        let all: u64 = task.evaluated().map(|split| split.set.rows.len() as u64).sum();
        let rows = steps * (train.batch * train.accumulate) as u64;
        Ok(Work { steps, rows, evaluated: during * first + readouts * all })
    };
    cells.iter().filter(is_open).map(of).sum()
}

/// Cells that are to be trained, by their slugs: without a record of their recipe, or with one whose adapter is not there.
pub fn lacking(cells: &[Cell], context: &StudyContext<'_>) -> Result<BTreeSet<String>, TrainError> {
    let cells: Vec<(&Cell, usize)> = cells.iter().zip(levels(cells)).collect();
    Ok(open_cells(&cells, context)?.slugs)
}

/// Hands events on, and lets other processes know of the steps.
struct Telling<'a> {
    sink: &'a dyn Sink,
    present: &'a Asked,
}

impl Sink for Telling<'_> {
    fn event(&self, event: &Event<'_>) {
        if let (Asked::Taken(lease), Event::Steps { cell, steps, entry, .. }) = (self.present, event) {
            lease.say(&format!("{cell}: step {} of {steps}", entry.step));
        }
        self.sink.event(event);
    }
}

/// How many cells lie before each in a chain of warm starts. The chains were checked to end.
pub fn levels(cells: &[Cell]) -> Vec<usize> {
    let by_slug: BTreeMap<String, &Cell> = cells.iter().map(|cell| (cell.id.slug(), cell)).collect();
    let before = |cell: &Cell| match &cell.recipe.start_from {
        Some(StartFrom::Cell(id)) => by_slug.get(&id.slug()).copied(),
        _ => None,
    };
    let depth = |cell: &Cell| std::iter::successors(before(cell), |cell| before(cell)).take(cells.len()).count();
    cells.iter().map(depth).collect()
}

/// Cells that are to be trained.
#[derive(Debug, Default)]
struct Open<'a> {
    /// The slugs of all of them.
    slugs: BTreeSet<String>,
    /// Those with a record that they replace, and why.
    renewed: Vec<(&'a CellId, String)>,
    /// Those with a record but no adapter.
    without_adapter: Vec<&'a CellId>,
    /// Those with a record that they must not replace unasked, and why.
    changed: Vec<(&'a CellId, String)>,
}

/// Cells that have no valid record, or start from one that has none.
fn open_cells<'a>(cells: &[(&'a Cell, usize)], context: &StudyContext<'_>) -> Result<Open<'a>, TrainError> {
    let mut in_order = cells.to_vec();
    in_order.sort_by_key(|(_, level)| *level);
    let mut open = Open::default();
    let is_start = |id: &CellId| {
        cells.iter().any(|(cell, _)| matches!(&cell.recipe.start_from, Some(StartFrom::Cell(of)) if of == id))
    };
    for (cell, _) in in_order {
        // Its start will be another adapter in any case.
        let follows = matches!(&cell.recipe.start_from, Some(StartFrom::Cell(id)) if open.slugs.contains(&id.slug()));
        let standing = match standing(cell, context)? {
            Standing::NoAdapter if context.keeps_records && !is_start(&cell.id) => Standing::Done,
            standing => standing,
        };
        if follows || standing != Standing::Done {
            open.slugs.insert(cell.id.slug());
        }
        match standing {
            Standing::Changed(what) => open.changed.push((&cell.id, what)),
            Standing::Renewed(reason) if !follows => open.renewed.push((&cell.id, reason)),
            Standing::NoAdapter => open.without_adapter.push(&cell.id),
            Standing::Done | Standing::Open | Standing::Renewed(_) => {}
        }
    }
    Ok(open)
}

impl Open<'_> {
    /// Says which records are replaced and why; an error, before anything is trained, where one must not be.
    fn said(self, sink: &dyn Sink, context: &StudyContext<'_>) -> Result<BTreeSet<String>, TrainError> {
        if let Some((first, what)) = self.changed.first() {
            let (path, cells) = (context.store.runs_dir(), self.changed.len());
            return Err(TrainError::WouldReplace { path, cells, first: first.to_string(), what: what.clone() });
        }
        self.renewed.iter().for_each(|(cell, reason)| sink.event(&Event::Renewed { cell, reason }));
        // A run in training has removed what an earlier one left.
        let unfinished = resume::unfinished(context.store)?;
        let in_training: BTreeSet<&String> = unfinished.iter().flat_map(|(_, members)| &members.slugs).collect();
        let mut without = self.without_adapter.iter().filter(|cell| !in_training.contains(&cell.slug()));
        if let Some(first) = without.next() {
            sink.event(&Event::WithoutAdapter { cells: 1 + without.count(), first });
        }
        Ok(self.slugs)
    }
}

/// Removes a folder, if it is there.
fn remove(path: &Path) -> Result<(), TrainError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(path.to_owned(), source)),
        _ => Ok(()),
    }
}

/// Cells whose record was made by another recipe under the same name: training them would replace it.
pub fn replaced<'a>(cells: &'a [Cell], store: &Store) -> Result<Vec<&'a CellId>, TrainError> {
    let mut found = Vec::new();
    for cell in cells {
        if whole_record(cell, store)?.is_some_and(|record| record.spec_hash != spec_hash(&spec_of(cell))) {
            found.push(&cell.id);
        }
    }
    Ok(found)
}

/// A cell's record, if it has one that does not end too early: that would be nobody's result.
fn whole_record(cell: &Cell, store: &Store) -> Result<Option<RunRecord>, TrainError> {
    match store.record(&cell.id) {
        Err(error) if error.is_torn() => Ok(None),
        found => Ok(found?),
    }
}

/// What a recipe does to its data that a reader of its results should know.
pub fn remarks(recipe: &Recipe, task: &TokenizedTask) -> Vec<String> {
    let rows = task.train.rows.len();
    let batch = recipe.train.batch;
    let larger = (batch > rows).then(|| {
        format!("{}: train.batch is {batch}, but there are {rows} training examples: every batch has all of them and no more", recipe.task)
    });
    let steps = recipe.train.total_steps(rows);
    let idle = (0..steps).all(|step| recipe.train.rate(step, steps) == 0.0);
    let idle = idle.then(|| {
        format!(
            "{}: the learning rate is 0 at every step (train.steps: {steps}, train.warmup: {}): nothing is trained; give more steps, or \
             `warmup: 0`",
            recipe.task, recipe.train.warmup
        )
    });
    larger.into_iter().chain(idle).collect()
}

/// Which records are thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// Those of every cell, and unfinished work.
    All,
    /// Those of runs that failed.
    Failed,
}

/// Removes records of `cells`, so that their runs are made again. The folder is known to be writable before anything goes.
pub fn forget(cells: &[Cell], store: &Store, which: Forget) -> Result<(), TrainError> {
    store.prepare()?;
    let _lock = store.lock()?;
    for cell in cells {
        let failed = || Ok::<_, TrainError>(whole_record(cell, store)?.is_some_and(|record| !record.is_finished()));
        if which == Forget::All || failed()? {
            remove(&store.run_dir(&cell.id))?;
        }
    }
    if which == Forget::All {
        resume::folders(store)?.iter().try_for_each(|folder| remove(folder))?;
        share::forget(store);
    }
    Ok(())
}

/// Records of the experiment's own cells, as they are planned now, in their order.
pub fn records(cells: &[Cell], store: &Store) -> Result<Vec<RunRecord>, TrainError> {
    let of = |cell: &Cell| store.finished(&cell.id, &spec_hash(&spec_of(cell))).map_err(TrainError::from);
    let found: Vec<RunRecord> = cells.iter().filter_map(|cell| of(cell).transpose()).collect::<Result<_, _>>()?;
    let bad = found.iter().filter_map(|record| {
        let reason = out_of_range(record)?;
        Some(BadFile { path: store.record_path(&record.cell), reason, is_torn: false })
    });
    let files: Vec<BadFile> = bad.collect();
    if files.is_empty() { Ok(found) } else { Err(RecordError::Unreadable { files }.into()) }
}

/// What a reader of an experiment's records should know of their files.
pub fn notes(cells: &[Cell], records: &[RunRecord], store: &Store) -> Vec<String> {
    let have: BTreeSet<String> = records.iter().map(|record| record.cell.slug()).collect();
    let lacking = || cells.iter().filter(|cell| !have.contains(&cell.id.slug()));
    let of_another = lacking().filter(|cell| matches!(store.record(&cell.id), Ok(Some(_)))).count();
    let (absent, all) = (lacking().count() - of_another, cells.len());
    let mut notes = Vec::new();
    if absent > 0 {
        notes.push(format!("{absent} of {all} cells have no record yet"));
    }
    if of_another > 0 {
        notes.push(format!(
            "{of_another} of {all} cells have a record of another recipe, which is left out; `lora-lab run --force` replaces it"
        ));
    }
    let unsealed = records.iter().filter(|record| store.is_unsealed(&record.cell)).count();
    if unsealed > 0 {
        notes.push(format!(
            "{unsealed} records have no checksum, as those of earlier builds, so that nothing tells whether they were edited"
        ));
    }
    let altered = altered(records, store).into_iter();
    notes.extend(
        altered.map(|path| format!("{} is not what its run saved; `lora-lab run` trains it again", path.display())),
    );
    notes
}

/// Adapters of finished runs that are there and have another length than their runs saved; `run` hashes them as well.
pub fn altered(records: &[RunRecord], store: &Store) -> Vec<PathBuf> {
    let is_altered = |record: &&RunRecord| {
        let length = std::fs::metadata(store.adapter_path(&record.cell)).ok().map(|data| data.len());
        record.is_finished() && length.is_some_and(|length| length != record.measured.adapter_bytes)
    };
    records.iter().filter(is_altered).map(|record| store.adapter_path(&record.cell)).collect()
}

/// A value of a record that its metric cannot take. NaN stands for one that is undefined.
fn out_of_range(record: &RunRecord) -> Option<String> {
    record.evaluations.iter().find_map(|evaluation| {
        let is_beyond = |(name, value): &(&String, &f64)| {
            let metric = serde_json::from_value::<Metric>(serde_json::Value::from(name.as_str())).ok();
            metric.is_some_and(|metric| !value.is_nan() && !metric.range().contains(*value))
        };
        let (name, value) = evaluation.metrics.iter().find(is_beyond)?;
        Some(format!("`{name}` on `{}` is {value}, which it cannot be", evaluation.split))
    })
}

/// Cells that have no record.
pub fn missing<'a>(cells: &'a [Cell], records: &[RunRecord]) -> Vec<&'a CellId> {
    let have: BTreeSet<String> = records.iter().map(|record| record.cell.slug()).collect();
    cells.iter().map(|cell| &cell.id).filter(|id| !have.contains(&id.slug())).collect()
}
