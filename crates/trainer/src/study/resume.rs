//! Unfinished cohorts on disk: which of them resume, and which are thrown away.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use record::{CohortChange, Store, create_directory, process_mark, write_atomic};
use serde::{Deserialize, Serialize};

use super::{context::StudyContext, plan::CohortPlan};
use crate::error::TrainError;
use experiment::cell::Cell;

/// How the folders of cohorts begin, and the names of the leases on them.
const COHORT: &str = "cohort-";

/// Where the cohort of this name lies while it is unfinished: in a folder of its name, or of its name and a mark, where it was taken over.
pub(super) fn folder_of(id: &str, store: &Store) -> PathBuf {
    let mut all = folders(store).unwrap_or_default().into_iter();
    all.rfind(|folder| id_of(folder) == id).unwrap_or_else(|| partial_root(store).join(id))
}

/// The name of the cohort in a folder.
pub(super) fn id_of(folder: &Path) -> &str {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split_once('.').map_or(name, |(id, _)| id)
}

/// Moves the folders of these cells' unfinished cohorts away from an owner that may not know yet that it has lost them: what it writes by
/// their paths fails, and journals that it has open are no longer those that are read.
pub(super) fn take_over(slugs: &BTreeSet<String>, store: &Store) -> Result<(), TrainError> {
    for (folder, Members { slugs: own, .. }) in unfinished(store)? {
        if own.is_empty() || !own.iter().all(|slug| slugs.contains(slug)) {
            continue;
        }
        let moved = partial_root(store).join(format!("{}.{}", id_of(&folder), process_mark()));
        let io = |source| TrainError::io(folder.clone(), source);
        std::fs::rename(&folder, &moved).map_err(io)?;
        for entry in std::fs::read_dir(&moved).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                write_atomic(&path, &std::fs::read(&path).map_err(io)?)?;
            }
        }
    }
    Ok(())
}

fn partial_root(store: &Store) -> PathBuf {
    store.partial_dir()
}

/// Which runs an unfinished cohort has.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Members {
    /// Their slugs.
    pub slugs: Vec<String>,
    /// How the cohort came to be smaller than was planned.
    pub changes: Vec<CohortChange>,
}

/// Makes a cohort's folder and writes there which runs it has.
pub(super) fn open_folder(folder: &Path, plan: &CohortPlan) -> Result<(), TrainError> {
    create_directory(folder)?;
    let slugs = plan.cells().iter().map(|cell| cell.id.slug()).collect();
    let json = serde_json::to_vec(&Members { slugs, changes: plan.changes.clone() });
    let json = json.unwrap_or_else(|error| unreachable!("strings are JSON: {error}"));
    Ok(write_atomic(&folder.join("members.json"), &json)?)
}

/// Folders of unfinished cohorts.
pub(super) fn folders(store: &Store) -> Result<Vec<PathBuf>, TrainError> {
    let root = partial_root(store);
    let entries = match std::fs::read_dir(&root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| TrainError::io(root.clone(), source))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| TrainError::io(root.clone(), source))?;
        let is_cohort = entry.file_name().to_string_lossy().starts_with(COHORT);
        if is_cohort && entry.file_type().map_err(|source| TrainError::io(entry.path(), source))?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Folders of unfinished cohorts, with their runs.
pub(super) fn unfinished(store: &Store) -> Result<Vec<(PathBuf, Members)>, TrainError> {
    let with_members = |folder: PathBuf| members(&folder).map(|members| (folder, members));
    folders(store)?.into_iter().map(with_members).collect()
}

/// The list of runs in a cohort's folder. Where it is missing or torn it names nobody, so that it fits no experiment and its runs begin
/// again. One that cannot be read is an error: the checkpoint beside it may be whole.
fn members(folder: &Path) -> Result<Members, TrainError> {
    let path = folder.join("members.json");
    match assets::file::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Members::default()),
        Err(source) => Err(TrainError::io(path, source)),
    }
}

/// What lies in the folders of unfinished cohorts.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// Those that go on.
    pub(super) plans: Vec<CohortPlan>,
    /// Folders of which nothing is left to do.
    pub(super) ended: Vec<PathBuf>,
    /// Folders of what is not wanted any more, or means something else now.
    pub(super) stale: Vec<PathBuf>,
}

/// Unfinished cohorts whose runs are all still wanted, unchanged, on the same base, data and code; and the folders of the others.
///
/// `cells` come with their levels in chains of warm starts. Cohorts of levels above `level` are left for later, since the adapters that
/// they start from may not be there yet. Those with one of the cells `taken` are somebody else's. Those of which no cell is `open` were
/// killed when all their records were written, and nothing is left of them to do.
pub(super) fn resumable(
    cells: &[(&Cell, usize)],
    level: usize,
    [taken, open]: [&BTreeSet<String>; 2],
    context: &StudyContext<'_>,
) -> Result<Unfinished, TrainError> {
    let wanted: BTreeMap<String, (&Cell, usize)> = cells.iter().map(|of| (of.0.id.slug(), *of)).collect();
    let mut found = Unfinished::default();
    for (folder, Members { slugs, changes }) in unfinished(context.store)? {
        let first = slugs.first().and_then(|slug| wanted.get(slug));
        if first.is_some_and(|(_, of)| *of > level) || slugs.iter().any(|slug| taken.contains(slug)) {
            continue;
        }
        let cells: Option<Vec<Cell>> = slugs.iter().map(|slug| Some(wanted.get(slug)?.0.clone())).collect();
        let cells = cells.filter(|cells| !cells.is_empty());
        let plan = cells.map(|cells| CohortPlan::new(&cells, context)).transpose()?;
        match plan.filter(|plan| id_of(&folder) == plan.id()) {
            Some(_) if !slugs.iter().any(|slug| open.contains(slug)) => found.ended.push(folder),
            Some(plan) => found.plans.push(plan.changed(changes)),
            None => found.stale.push(folder),
        }
    }
    Ok(found)
}
