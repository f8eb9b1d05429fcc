//! What identifies a run and a cohort: hashes of recipe, base, data, start and code.

use record::{sha256_hex, spec_hash};

use super::{context::StudyContext, run_state::RunState};
use crate::{adapter, error::TrainError, warm_start};
use experiment::cell::Cell;

/// The resolved plan of a cell as recorded; its hash identifies the run.
pub fn spec_of(cell: &Cell) -> serde_json::Value {
    serde_json::to_value(&cell.recipe).unwrap_or_else(|error| unreachable!("a plan is JSON: {error}"))
}

/// How a cell stands before a study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has a record of this very plan, on this very base and data, and the adapter that its run saved.
    Done,
    /// It has not.
    Open,
    /// It has, but a file is not what was written; it says which and why.
    Damaged(String),
}

/// How a cell stands before a study.
pub fn standing(cell: &Cell, context: &StudyContext<'_>) -> Result<Standing, TrainError> {
    let record = match context.store.finished(&cell.id, &spec_hash(&spec_of(cell))) {
        Err(error) if error.is_torn() => {
            return Ok(Standing::Damaged(format!("{} ends too early", context.store.record_path(&cell.id).display())));
        }
        found => found?,
    };
    let Some(record) = record else { return Ok(Standing::Open) };
    let hash_of = |start: &Option<record::Start>| start.as_ref().map(|start| start.hash.clone()).unwrap_or_default();
    let is_same = hash_of(&record.start) == hash_of(&start_of(cell, context)?)
        && record.model_hash == context.cache.base_of(&cell.recipe)?.hash
        && record.data_hash == context.cache.task(&cell.recipe)?.hash;
    if !is_same {
        return Ok(Standing::Open);
    }
    if !record.is_finished() {
        return Ok(Standing::Done);
    }
    let path = context.store.adapter_path(&cell.id);
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Standing::Open),
        bytes => bytes.map_err(|source| TrainError::io(path.clone(), source))?,
    };
    Ok(match adapter::differs(&bytes, &record) {
        Some(how) => Standing::Damaged(format!("{} {how}", path.display())),
        None => Standing::Done,
    })
}

/// The adapter that a cell starts from, where it starts from one that is there.
pub fn start_of(cell: &Cell, context: &StudyContext<'_>) -> Result<Option<record::Start>, TrainError> {
    Ok(cell.recipe.start_from.as_ref().map(|from| warm_start::identity(from, context.store)).transpose()?.flatten())
}

/// A name for a cohort: a hash of its runs' plans, bases, data and starts, in order, and of the code.
pub fn cohort_id<'a>(
    runs: impl Iterator<Item = &'a RunState>,
    context: &StudyContext<'_>,
) -> Result<String, TrainError> {
    let mut parts = vec![context.code.code_hash.clone(), context.device.to_owned()];
    for run in runs {
        let (cell, data) = (&run.cell, &run.task().hash);
        let model = &context.cache.base_of(&cell.recipe)?.hash;
        let start = run.start.as_ref().map(|start| format!(" {}", start.hash)).unwrap_or_default();
        parts.push(format!("{} {} {model} {data}{start}", cell.id.slug(), spec_hash(&spec_of(cell))));
    }
    Ok(format!("cohort-{}", &sha256_hex(parts.join("\n").as_bytes())[..12]))
}
