//! What identifies a run and a cohort: hashes of recipe, base, data, start and code.

use record::{RunRecord, Start, sha256_hex, spec_hash};

use super::{context::StudyContext, run_state::RunState};
use crate::{adapter, error::TrainError, warm_start};
use experiment::{cell::Cell, start::StartFrom};

/// The resolved plan of a cell as recorded; its hash identifies the run.
pub fn spec_of(cell: &Cell) -> serde_json::Value {
    let spec = serde_json::to_value(&cell.recipe);
    let mut spec = spec.unwrap_or_else(|error| unreachable!("a plan is JSON: {error}"));
    for (axis, fields) in cell.recipe.variant.unrecorded() {
        if let Some(written) = spec["variant"][axis].as_object_mut() {
            for field in fields {
                written.remove(*field);
            }
        }
    }
    for axis in cell.recipe.variant.unrecorded_axes() {
        if let Some(written) = spec["variant"].as_object_mut() {
            written.remove(axis);
        }
    }
    spec
}

/// How a cell stands before a study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has a record of this very plan, on this very base, data and start, and the adapter that its run saved.
    Done,
    /// It has no record of this plan.
    Open,
    /// It has, but no adapter, as in a fresh clone, where adapters are not committed.
    NoAdapter,
    /// It has, but has to be trained again: a file is not what was written, or the cell that it starts from has another adapter now. It says
    /// which and why.
    Renewed(String),
    /// It has, but the plan means something else now, which it names; to train it would replace a record that cannot be made again.
    Changed(String),
}

/// How a cell stands before a study.
pub fn standing(cell: &Cell, context: &StudyContext<'_>) -> Result<Standing, TrainError> {
    let record = match context.store.record(&cell.id) {
        Err(error) if error.is_torn() => {
            return Ok(Standing::Renewed(format!("{} ends too early", context.store.record_path(&cell.id).display())));
        }
        found => found?,
    };
    let is_of_plan = |record: &RunRecord| record.spec_hash == spec_hash(&spec_of(cell));
    let Some(record) = record.filter(is_of_plan) else { return Ok(Standing::Open) };
    if let Some(what) = changed(cell, &record, context)? {
        return Ok(Standing::Changed(what));
    }
    // A cell of this very experiment, which was trained again since, or has no adapter itself.
    if let (Some(StartFrom::Cell(source)), true) = (&cell.recipe.start_from, starts_elsewhere(cell, &record, context)?)
    {
        return Ok(Standing::Renewed(format!("it starts from {source}, whose adapter is another now")));
    }
    if !record.is_finished() {
        return Ok(Standing::Done);
    }
    let path = context.store.adapter_path(&cell.id);
    let bytes = match assets::file::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Standing::NoAdapter),
        bytes => bytes.map_err(|source| TrainError::io(path.clone(), source))?,
    };
    Ok(match adapter::differs(&bytes, &record) {
        Some(how) => Standing::Renewed(format!("{} {how}", path.display())),
        None => Standing::Done,
    })
}

/// What of a plan means something else than when the record was made, though it is written the same.
fn changed(cell: &Cell, record: &RunRecord, context: &StudyContext<'_>) -> Result<Option<String>, TrainError> {
    let other = |what: &str, name: &str| Ok(Some(format!("its {what}, `{name}`, is another now")));
    if record.model_hash != context.cache.base_of(&cell.recipe)?.hash {
        return other("base", &cell.recipe.model);
    }
    if record.data_hash != context.cache.task(&cell.recipe)?.hash {
        return other("data", &cell.recipe.task);
    }
    // Records of earlier builds have no hash of how texts are read; those of texts that a decoder continues have one since.
    let is_older = record.reading_hash.is_none() && cell.recipe.text().is_some();
    if !is_older && record.reading_hash != context.cache.task(&cell.recipe)?.reading {
        let base = &cell.recipe.model;
        return Ok(Some(format!(
            "its texts are read otherwise now, by tokenizer_config.json or chat_template.jinja of `{base}`"
        )));
    }
    let measured = record.measured.forgetting.as_ref().filter(|_| record.is_finished());
    if let (Some(measured), Some(now)) = (measured, context.cache.measurement(&cell.recipe, context.stop)?)
        && measured.text_hash != now.hash()
    {
        return other("held-out text", &measured.text);
    }
    match &cell.recipe.start_from {
        Some(StartFrom::Adapter(written)) if starts_elsewhere(cell, record, context)? => other("start", written),
        _ => Ok(None),
    }
}

/// Whether a cell starts from another adapter now than the run of its record.
fn starts_elsewhere(cell: &Cell, record: &RunRecord, context: &StudyContext<'_>) -> Result<bool, TrainError> {
    let hash_of = |start: &Option<Start>| start.as_ref().map(|start| start.hash.clone());
    Ok(hash_of(&record.start) != hash_of(&start_of(cell, context)?))
}

/// The adapter that a cell starts from, where it starts from one that is there.
pub fn start_of(cell: &Cell, context: &StudyContext<'_>) -> Result<Option<Start>, TrainError> {
    Ok(cell.recipe.start_from.as_ref().map(|from| warm_start::identity(from, context.store)).transpose()?.flatten())
}

/// A name for a cohort: a hash of its runs' plans, bases, data and starts, in order, and of the code.
pub fn cohort_id<'a>(
    runs: impl Iterator<Item = &'a RunState>,
    context: &StudyContext<'_>,
) -> Result<String, TrainError> {
    let mut parts = vec![context.code.code_hash.clone(), context.device.to_owned()];
    for run in runs {
        let (cell, task) = (&run.cell, run.task());
        let data = &task.hash;
        let reading = task.reading.as_ref().map(|reading| format!(" {reading}")).unwrap_or_default();
        let model = &context.cache.base_of(&cell.recipe)?.hash;
        let start = run.start.as_ref().map(|start| format!(" {}", start.hash)).unwrap_or_default();
        parts.push(format!("{} {} {model} {data}{reading}{start}", cell.id.slug(), spec_hash(&spec_of(cell))));
    }
    Ok(format!("cohort-{}", &sha256_hex(parts.join("\n").as_bytes())[..12]))
}
