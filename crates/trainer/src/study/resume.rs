//! Unfinished cohorts on disk: which of them resume, and which are thrown away.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use record::{CohortChange, Store, write_atomic};
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
    std::fs::create_dir_all(folder).map_err(|source| TrainError::io(folder.to_owned(), source))?;
    let slugs = plan.cells().iter().map(|cell| cell.id.slug()).collect();
    let json = serde_json::to_vec(&Members { slugs, changes: plan.changes.clone() });
    let json = json.unwrap_or_else(|error| unreachable!("strings are JSON: {error}"));
    Ok(write_atomic(&folder.join("members.json"), &json)?)
}

/// Folders of unfinished cohorts, with their runs.
pub(super) fn unfinished(store: &Store) -> Result<Vec<(PathBuf, Members)>, TrainError> {
    let root = partial_root(store);
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(&root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(|source| TrainError::io(root.clone(), source))?,
    };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        // A folder whose list of runs is missing or torn names nobody, so it fits no experiment and begins again.
        let members = std::fs::read(path.join("members.json")).ok();
        found.push((path, members.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()));
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
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
