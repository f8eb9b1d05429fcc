//! A whole experiment: finished cells are skipped, unfinished cohorts resume, the rest is grouped into cohorts and trained.

mod capacity;
pub mod context;
mod group;
pub mod identity;
pub mod plan;
mod resume;
pub mod run_state;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use record::{CellId, RunRecord, Store, spec_hash};

use self::{
    context::StudyContext,
    identity::{is_done, spec_of},
    plan::CohortPlan,
};
use crate::{
    error::TrainError,
    sink::{Event, Sink},
};
use experiment::{cell::Cell, start::StartFrom};

/// Trains every cell that has no record yet; cells that start from another after that one.
///
/// Unfinished cohorts resume where every run, its base, its data and the code are what they were; others begin again.
pub fn run(cells: &[Cell], context: &StudyContext<'_>, sink: &dyn Sink) -> Result<(), TrainError> {
    context.store.prepare()?;
    let _lock = context.store.lock()?;
    let cells: Vec<(&Cell, usize)> = cells.iter().zip(levels(cells)).collect();
    let last = cells.iter().map(|(_, level)| *level).max().unwrap_or(0);
    let open = open_cells(&cells, context)?;
    let is_open = |cell: &Cell| open.contains(&cell.id.slug());
    let mut steps = 0;
    for (cell, _) in cells.iter().filter(|(cell, _)| is_open(cell)) {
        steps += cell.plan.train.total_steps(context.cache.task(&cell.plan)?.train.rows.len());
    }
    for level in 0..=last {
        let (mut plans, stale) = resume::resumable(&cells, level, context)?;
        let resumed: BTreeSet<String> = plans.iter().flat_map(CohortPlan::cells).map(|cell| cell.id.slug()).collect();
        let is_new = |cell: &Cell| is_open(cell) && !resumed.contains(&cell.id.slug());
        let new = cells.iter().filter(|(cell, of)| *of == level && is_new(cell));
        let new: Vec<Cell> = new.map(|(cell, _)| (*cell).clone()).collect();
        plans.extend(group::group(&new, context)?);
        if level == 0 {
            let finished = cells.len() - open.union(&resumed).count();
            sink.event(&Event::Planned { cells: cells.len(), finished, discarded: stale.len(), steps });
        }
        stale.iter().try_for_each(|folder| remove(folder))?;
        workers::work(plans, context, sink)?;
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

/// The slugs of cells that have no valid record, or start from one that has none.
fn open_cells(cells: &[(&Cell, usize)], context: &StudyContext<'_>) -> Result<BTreeSet<String>, TrainError> {
    let mut in_order = cells.to_vec();
    in_order.sort_by_key(|(_, level)| *level);
    let mut open = BTreeSet::new();
    for (cell, _) in in_order {
        let renewed = matches!(&cell.plan.start_from, Some(StartFrom::Cell(id)) if open.contains(&id.slug()));
        if renewed || !is_done(cell, context)? {
            open.insert(cell.id.slug());
        }
    }
    Ok(open)
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
        if store.record(&cell.id)?.is_some_and(|record| record.spec_hash != spec_hash(&spec_of(cell))) {
            found.push(&cell.id);
        }
    }
    Ok(found)
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
        let failed = || Ok::<_, TrainError>(store.record(&cell.id)?.is_some_and(|record| !record.is_finished()));
        if which == Forget::All || failed()? {
            remove(&store.run_dir(&cell.id))?;
        }
    }
    if which == Forget::All {
        resume::unfinished(store)?.iter().try_for_each(|(folder, _)| remove(folder))?;
    }
    Ok(())
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
