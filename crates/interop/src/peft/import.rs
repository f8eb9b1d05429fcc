//! A folder that PEFT wrote as a run's adapter of this program.
//!
//! `LORA` (rsLoRA, DoRA, starts by PiSSA and OLoRA included), `ADALORA` and `VERA` become the presets of the same names, their patterns,
//! layers and saved modules the plan's; so does every tuner that a delta declares ([`variants::peft::Tuner`]). A start that was taken off
//! the base is decomposed from the base anew, as PEFT does when it opens such a folder. What the format does not say is the task and the
//! longest row: they are given beside the folder, or lie in `lora_lab.json` where [`export`](super::export) wrote it; without a length,
//! rows are as long as the base allows.
//!
//! Every tensor of the file has its place or is an error, and so is every one that is missing; every field of the configuration has
//! passed the gate of `peft::fields`. Where PEFT passes over a name that matches nothing, so does this, with a note.

use std::path::Path;

use models::{head::Outputs, network::Network, weights::Weights};
use record::ADAPTER;
use variants::{role::Role, slot::FirstValues};

use self::{
    fill::{Source, fill},
    stored::Stored,
};
use super::{WEIGHTS, said::Opened, weights::WeightsFile};
use crate::{
    length,
    output::{Guard, OutputDir},
    predict::info,
};
use experiment::cell::TaskSource;
use trainer::{
    adapter::{self, AdapterMetadata},
    error::TrainError,
    model_cache::{BaseModel, ModelCache},
};

mod fill;
mod found;
mod own;
mod recipe;
mod selection;
mod stored;
mod variant;

/// The command's name in what it writes.
const COMMAND: &str = "lora-lab import";

/// What an adapter or a checkpoint is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Purpose {
    /// Data suite.
    pub suite: String,
    /// Where its files are.
    pub data: Option<String>,
    /// Task of the suite.
    pub task: String,
    /// The task itself, where an experiment describes it.
    pub given: Option<TaskSource>,
    /// Tokens of a row at most, where an experiment says so.
    pub max_length: Option<usize>,
    /// Whether every seed of its experiment draws a training set of its own (`vary: [sample]`), so that without a seed there is none.
    pub draws_train: bool,
}

impl Purpose {
    /// A task that a suite names.
    pub fn of_suite(suite: &str, task: &str) -> Self {
        Self {
            suite: suite.to_owned(),
            data: None,
            task: task.to_owned(),
            given: None,
            max_length: None,
            draws_train: false,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct ImportRequest<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// The base, if not where the configuration says.
    pub model: Option<&'a str>,
    /// The task, if the folder does not come from this program.
    pub purpose: Option<Purpose>,
    /// Tokens of a row at most, whatever recipe or experiment say.
    pub max_length: Option<usize>,
}

/// An adapter that was read.
#[derive(Debug)]
pub struct Imported {
    /// Its recipe.
    pub metadata: AdapterMetadata,
    /// Base, adapter and head.
    pub network: Network,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// Reads a folder onto its base.
pub fn import(request: &ImportRequest<'_>, cache: &ModelCache) -> Result<Imported, TrainError> {
    let mut opened = Opened::read(request.folder)?;
    let mut notes = std::mem::take(&mut opened.notes);
    let mut stored = Stored::read(&WeightsFile::read(request.folder)?, &mut notes)?;
    let known = if request.purpose.is_none() { own::metadata(&opened, request)? } else { None };
    let mut metadata = match known {
        Some(metadata) => metadata,
        None => recipe::metadata(&opened, request, cache, &stored, &mut notes)?,
    };
    let base = base(&opened, request, &mut metadata, cache)?;
    notes.extend(base.said_of(&metadata.plan.model));
    let of_file = |reason: String| TrainError::foreign(request.folder.join(WEIGHTS), reason);
    let pair = stored.pair(&opened.said).map_err(of_file)?;
    let plan = adapter::stack_plan(&metadata.plan, &metadata.cell, cache).map_err(|error| match error {
        TrainError::Variant { problems, .. } => opened.refused(problems),
        other => other,
    })?;
    let (head, said) = stored_head(&metadata, &base, &stored, cache)?;
    notes.extend(said.map(|said| format!("{}: {said}", metadata.plan.model)));
    let outputs = Outputs { count: metadata.outputs, stored: &head };
    // A start that is taken from training batches is in the folder, and no batches are at hand.
    let is_calibrated = metadata.plan.variant.delta.as_ref().is_some_and(|delta| delta.calibration().is_some());
    let plan = if is_calibrated { plan.with_given_values() } else { plan };
    let mut network = cache.network_with(&metadata.plan, &[(plan, vec![outputs])], Some(FirstValues::Init))?;
    check_tied(&mut network, &metadata, &opened)?;
    let source = Source { metadata: &metadata, base: &base, kept: opened.kept()?, pair };
    fill(&mut network, &source, &mut stored, &mut notes).map_err(of_file)?;
    metadata.drawn = adapter::drawn(&network);
    Ok(Imported { metadata, network, notes })
}

/// The base's own head, which counts where the folder has none, with the outputs in the order of the task's labels, and what there is to
/// say of it. The labels of a task that an experiment describes may be those of its data.
fn stored_head(
    metadata: &AdapterMetadata,
    base: &BaseModel,
    stored: &Stored,
    cache: &ModelCache,
) -> Result<(Weights, Option<String>), TrainError> {
    let plan = &metadata.plan;
    if plan.text().is_some() || stored.has_head(&base.backbone.config()) {
        return Ok((base.head.in_file_order().clone(), None));
    }
    Ok(base.head.for_task(metadata.outputs, info(plan, cache)?.objective.labels()))
}

/// The base, under the name that is asked for, if it is the one of the recipe.
fn base(
    opened: &Opened,
    request: &ImportRequest<'_>,
    metadata: &mut AdapterMetadata,
    cache: &ModelCache,
) -> Result<std::sync::Arc<BaseModel>, TrainError> {
    let trained_on = metadata.plan.model.clone();
    if let Some(model) = request.model {
        metadata.plan.model = model.into();
    }
    let base = cache.base(&metadata.plan.model)?;
    if base.hash != metadata.model_hash {
        return Err(opened.refused(format!(
            "it was trained on `{trained_on}` with hash {}, but `{}` has {}; give the right base with `--model`",
            metadata.model_hash, metadata.plan.model, base.hash
        )));
    }
    let longest = base.backbone.config().longest();
    metadata.plan.train.max_length = length::limit(request.max_length, Some(metadata.plan.train.max_length), longest)
        .map_err(|reason| opened.refused(reason))?;
    Ok(base)
}

/// Refuses a table that PEFT trained on the way in alone, or on both ways as two, where it is also the output projection.
fn check_tied(network: &mut Network, metadata: &AdapterMetadata, opened: &Opened) -> Result<(), TrainError> {
    let word = network.backbone.word().name().to_owned();
    if metadata.plan.text().is_none() || !network.backbone.config().is_tied() {
        return Ok(());
    }
    let roles: Vec<Role> =
        network.parameters(0).iter().filter(|named| named.slot == word).map(|named| named.param.role).collect();
    if roles.contains(&Role::Weight) {
        return Err(opened.refused(format!(
            "modules_to_save has `{word}`, which is also the output projection here, while PEFT trained a copy of it on the way in alone; \
             merge it with PEFT's own `merge_and_unload`"
        )));
    }
    if opened.said.ensure_weight_tying && !roles.is_empty() {
        return Err(opened.refused(format!(
            "ensure_weight_tying is `true` and `{word}` is adapted, so PEFT adapts the output projection with it; an adapter of a table acts \
             on the way in alone here; merge it with PEFT's own `merge_and_unload`"
        )));
    }
    Ok(())
}

/// Checks before any work that an adapter may be written to `out`.
pub fn output(request: &ImportRequest<'_>, out: &Path, force: bool) -> Result<OutputDir, TrainError> {
    let inputs = [Some(request.folder), request.model.map(Path::new)];
    OutputDir::check(out, COMMAND, &Guard::new(inputs.into_iter().flatten(), force))
}

/// Writes a run's adapter; returns its size in bytes.
pub fn write(mut imported: Imported, from: &Path, output: OutputDir) -> Result<u64, TrainError> {
    let mut staged = output.begin()?;
    let bytes = adapter::encode(&imported.metadata, &adapter::tensors(&mut imported.network, 0, 0))?;
    staged.write(ADAPTER, &bytes)?;
    staged.finish(serde_json::json!({ "folder": from }))?;
    Ok(bytes.len() as u64)
}
