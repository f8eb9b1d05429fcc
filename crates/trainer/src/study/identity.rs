//! What identifies a run and a cohort: hashes of recipe, base, data, start and code.

use record::{sha256_hex, spec_hash};

use super::{context::StudyContext, run_state::RunState};
use crate::{error::TrainError, warm_start};
use experiment::cell::Cell;

/// The resolved plan of a cell as recorded; its hash identifies the run.
pub fn spec_of(cell: &Cell) -> serde_json::Value {
    serde_json::to_value(&cell.plan).unwrap_or_else(|error| unreachable!("a plan is JSON: {error}"))
}

/// Whether a cell has a record of this very plan, on this very base and data, and the adapter beside it.
pub fn is_done(cell: &Cell, context: &StudyContext<'_>) -> Result<bool, TrainError> {
    let Some(record) = context.store.finished(&cell.id, &spec_hash(&spec_of(cell)))? else { return Ok(false) };
    let adapter = context.store.adapter_path(&cell.id);
    let hash_of = |start: &Option<record::Start>| start.as_ref().map(|start| start.hash.clone()).unwrap_or_default();
    Ok(hash_of(&record.start) == hash_of(&start_of(cell, context)?)
        && record.model_hash == context.cache.base_of(&cell.plan)?.hash
        && record.data_hash == context.cache.task(&cell.plan)?.hash
        && (adapter.is_file() || !record.is_finished()))
}

/// The adapter that a cell starts from, where it starts from one that is there.
pub fn start_of(cell: &Cell, context: &StudyContext<'_>) -> Result<Option<record::Start>, TrainError> {
    Ok(cell.plan.start_from.as_ref().map(|from| warm_start::identity(from, context.store)).transpose()?.flatten())
}

/// A name for a cohort: a hash of its runs' plans, bases, data and starts, in order, and of the code.
pub fn cohort_id<'a>(
    runs: impl Iterator<Item = &'a RunState>,
    context: &StudyContext<'_>,
) -> Result<String, TrainError> {
    let mut parts = vec![context.code.code_hash.clone(), context.device.to_owned()];
    for run in runs {
        let (cell, data) = (&run.cell, &run.task().hash);
        let model = &context.cache.base_of(&cell.plan)?.hash;
        let start = run.start.as_ref().map(|start| format!(" {}", start.hash)).unwrap_or_default();
        parts.push(format!("{} {} {model} {data}{start}", cell.id.slug(), spec_hash(&spec_of(cell))));
    }
    Ok(format!("cohort-{}", &sha256_hex(parts.join("\n").as_bytes())[..12]))
}
