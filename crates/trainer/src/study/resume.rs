//! Unfinished cohorts on disk: which of them resume, and which are thrown away.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use record::{CohortChange, Store, create_directory, write_atomic};
use serde::{Deserialize, Serialize};

use super::{context::StudyContext, plan::CohortPlan};
use crate::error::TrainError;
use experiment::cell::Cell;

/// Where the cohort of this name lies while it is unfinished.
pub(super) fn folder_of(id: &str, store: &Store) -> PathBuf {
    partial_root(store).join(id)
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
        if entry.file_type().map_err(|source| TrainError::io(entry.path(), source))?.is_dir() {
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

/// Unfinished cohorts whose runs are all still wanted, unchanged, on the same base, data and code; and the folders of the others.
///
/// `cells` come with their levels in chains of warm starts. Cohorts of levels above `level` are left for later, since the adapters that
/// they start from may not be there yet.
pub(super) fn resumable(
    cells: &[(&Cell, usize)],
    level: usize,
    context: &StudyContext<'_>,
) -> Result<(Vec<CohortPlan>, Vec<PathBuf>), TrainError> {
    let wanted: BTreeMap<String, (&Cell, usize)> = cells.iter().map(|of| (of.0.id.slug(), *of)).collect();
    let (mut plans, mut stale) = (Vec::new(), Vec::new());
    for (folder, Members { slugs, changes }) in unfinished(context.store)? {
        let first = slugs.first().and_then(|slug| wanted.get(slug));
        if first.is_some_and(|(_, of)| *of > level) {
            continue;
        }
        let cells: Option<Vec<Cell>> = slugs.iter().map(|slug| Some(wanted.get(slug)?.0.clone())).collect();
        let cells = cells.filter(|cells| !cells.is_empty());
        let plan = cells.map(|cells| CohortPlan::new(&cells, context)).transpose()?;
        match plan.filter(|plan| folder.ends_with(plan.id())) {
            Some(plan) => plans.push(plan.changed(changes)),
            None => stale.push(folder),
        }
    }
    Ok((plans, stale))
}
