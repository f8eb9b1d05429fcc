//! A folder that PEFT wrote as a run's adapter of this program.
//!
//! `LORA` (rsLoRA, DoRA, starts by PiSSA and OLoRA included), `ADALORA` and `VERA` become the presets of the same names, their patterns,
//! layers and saved modules the plan's. A start that was taken off the base is decomposed from the base anew, as PEFT does when it
//! opens such a folder. What the format does not say is the task: it is given beside the folder, or lies in `lora_lab.json` where
//! [`export`](super::export) wrote it.
//!
//! Every tensor of the file has its place or is an error, and so is every one that is missing; the fields of PEFT 0.18 that change the
//! function and have no counterpart here are refused by their names. Where PEFT passes over a name that matches nothing, so does this,
//! with a note.

use std::{collections::BTreeMap, path::Path};

use models::network::Network;
use record::ADAPTER;
use serde::Deserialize;
use serde_json::Value;
use variants::role::Role;

use self::{
    fill::{Stored, fill, pair},
    recipe::{Refused, Said},
};
use super::{CONFIG, WEIGHTS};
use crate::output_dir::{ORIGIN, OutputDir};
use experiment::cell::TaskSource;
use trainer::{
    adapter::{self, AdapterMetadata},
    error::TrainError,
    model_cache::ModelCache,
};

mod fill;
mod recipe;

/// The command's name in what it writes.
const COMMAND: &str = "lora-lab import";

/// Fields that decide what the tensors mean and that their shapes do not show.
pub(super) const DECISIVE: [&str; 8] =
    ["peft_type", "r", "init_r", "lora_alpha", "alpha_pattern", "use_rslora", "use_dora", "init_lora_weights"];

/// What an adapter is for.
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

/// Which components an AdaLoRA map has kept, by PEFT's name of its diagonal.
#[derive(Debug, Deserialize)]
struct KeptPatterns {
    #[serde(default)]
    rank_pattern: Option<BTreeMap<String, Vec<bool>>>,
}

/// Reads a folder onto its base.
pub fn import(request: &ImportRequest<'_>, cache: &ModelCache) -> Result<Imported, TrainError> {
    let path = request.folder.join(CONFIG);
    let foreign = |reason: String| TrainError::foreign(path.clone(), reason);
    let text = super::bytes(&path)?;
    let whole: Value = serde_json::from_slice(&text).map_err(|error| foreign(format!("not JSON: {error}")))?;
    let said: Said =
        serde_json::from_slice(&text).map_err(|error| foreign(format!("not a configuration of PEFT: {error}")))?;
    let mut stored = Stored::read(&request.folder.join(WEIGHTS))?;
    let mut notes = Vec::new();
    let mut metadata = match own_metadata(request.folder) {
        Some((metadata, written)) if request.purpose.is_none() => {
            if let Some(field) = DECISIVE.iter().find(|field| is_other(&written[**field], &whole[**field])) {
                return Err(foreign(format!(
                    "`{field}` is `{}`, but `{}` wrote `{}` and left the recipe of that in {ORIGIN}; give `--task`, and the folder is read \
                     without it",
                    whole[*field],
                    super::export::COMMAND,
                    written[*field]
                )));
            }
            metadata
        }
        _ => {
            let metadata = recipe::metadata(&said, &text, request, cache, &stored, &mut notes);
            metadata.map_err(|error| match error {
                Refused::Rule(reason) => foreign(reason),
                Refused::Other(error) => error,
            })?
        }
    };
    let trained_on = metadata.plan.model.clone();
    if let Some(model) = request.model {
        model.clone_into(&mut metadata.plan.model);
    }
    let base = cache.base(&metadata.plan.model)?;
    if base.hash != metadata.model_hash {
        return Err(foreign(format!(
            "it was trained on `{trained_on}` with hash {}, but `{}` has {}; give the right base with `--model`",
            metadata.model_hash, metadata.plan.model, base.hash
        )));
    }
    let of_file = |reason: String| TrainError::foreign(request.folder.join(WEIGHTS), reason);
    let pair = pair(&said, &mut stored).map_err(of_file)?;
    if let (Some([a, b]), Some(rank)) = (&pair, said.r)
        && (a.shape[0] != rank || b.shape[1] != rank)
    {
        return Err(of_file(format!(
            "`{}` is {:?} and `{}` {:?}, but r is `{rank}`; save the adapter again",
            super::export::PAIR[0],
            a.shape,
            super::export::PAIR[1],
            b.shape
        )));
    }
    let plan = adapter::stack_plan(&metadata.plan, &metadata.cell, cache).map_err(|error| match error {
        TrainError::Variant { problems, .. } => foreign(problems),
        other => other,
    })?;
    let mut network = cache.network(&metadata.plan, &[(plan, vec![metadata.outputs])])?;
    let word = network.backbone.word().name().to_owned();
    let kept: KeptPatterns = if said.peft_type == "ADALORA" {
        serde_json::from_slice(&text).map_err(|error| foreign(format!("rank_pattern: {error}")))?
    } else {
        KeptPatterns { rank_pattern: None }
    };
    if metadata.plan.text().is_some()
        && network.backbone.config().is_tied()
        && network.parameters(0).iter().any(|named| named.param.role == Role::Weight && named.slot == word)
    {
        return Err(foreign(format!(
            "modules_to_save has `{word}`, which is also the output projection here, while PEFT trained a copy of it on the way in alone; \
             merge it with PEFT's own `merge_and_unload`"
        )));
    }
    fill(&mut network, &metadata, &base, &mut stored, kept.rank_pattern.as_ref(), pair.as_ref(), &mut notes)
        .map_err(of_file)?;
    metadata.drawn = adapter::drawn(&network);
    Ok(Imported { metadata, network, notes })
}

/// Writes a run's adapter; returns its size in bytes.
pub fn write(mut imported: Imported, from: &Path, out: &Path) -> Result<u64, TrainError> {
    let mut staged = OutputDir::check(out, COMMAND)?.begin()?;
    let bytes = adapter::encode(&imported.metadata, &adapter::tensors(&mut imported.network, 0, 0))?;
    staged.write(ADAPTER, &bytes)?;
    staged.finish(serde_json::json!({ "folder": from }))?;
    Ok(bytes.len() as u64)
}

/// The recipe that this program's export left beside the adapter, and the configuration that it wrote.
fn own_metadata(folder: &Path) -> Option<(AdapterMetadata, Value)> {
    let origin: Value = serde_json::from_slice(&std::fs::read(folder.join(ORIGIN)).ok()?).ok()?;
    if origin["written_by"] != super::export::COMMAND {
        return None;
    }
    let metadata = serde_json::from_value(origin["from"]["card"].clone()).ok()?;
    Some((metadata, origin["from"]["configuration"].clone()))
}

/// Whether a field was changed since; PEFT writes out more fields than this program does, and numbers in another form.
fn is_other(written: &Value, found: &Value) -> bool {
    match (written.as_f64(), found.as_f64()) {
        (Some(written), Some(found)) => written != found,
        _ => !written.is_null() && written != found,
    }
}
