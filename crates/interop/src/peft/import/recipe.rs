//! The recipe of an adapter that PEFT trained, from its configuration.

use assets::source::{self, hub::SCHEME};
use experiment::{
    cell::{Recipe, TaskSource},
    hyper::Hyper,
};
use models::config::Config;
use trainer::{
    adapter::AdapterMetadata,
    error::TrainError,
    model_cache::{BaseModel, ModelCache},
};
use variants::stream::Seeds;

use super::{
    super::{
        WRAPPED,
        config::task_type,
        said::{Opened, Said},
    },
    ImportRequest, Purpose,
    selection::{Place, selection},
    stored::Stored,
    variant::variant,
};
use crate::length;

/// A recipe for an adapter that PEFT trained.
pub(super) fn metadata(
    opened: &Opened,
    request: &ImportRequest<'_>,
    cache: &ModelCache,
    stored: &Stored,
    notes: &mut Vec<String>,
) -> Result<AdapterMetadata, TrainError> {
    let rule = |reason: String| opened.refused(reason);
    let said = &opened.said;
    let Some(purpose) = request.purpose.clone() else {
        return Err(rule(
            "the folder does not say which task the adapter is for; give `--task NAME` of GLUE, or import it with `lora-lab import --experiment FILE --task NAME`"
                .to_owned(),
        ));
    };
    let model = model(said, request.model).map_err(rule)?;
    let base = cache.base(&model)?;
    let config = base.backbone.config();
    let (preset, variant) = variant(opened).map_err(rule)?;
    let place = Place { config: &config, stored };
    let (targets, modules) = selection(said, opened.patterns()?, &place, notes).map_err(rule)?;
    let is_text = matches!(purpose.given, Some(TaskSource::Text(_)));
    let expected = task_type(is_text);
    if let Some(found) = said.task_type.as_deref().filter(|found| *found != expected) {
        notes.push(format!("task_type is `{found}`, but the task `{}` is one of {expected}", purpose.task));
    }
    let max_length = length::limit(request.max_length, purpose.max_length, config.longest()).map_err(rule)?;
    let outputs = if is_text { 0 } else { outputs(&config, stored, &base, &purpose).map_err(rule)? };
    let cell = record::CellId { task: purpose.task.clone(), variant: preset.to_owned(), rank: variant.rank, seed: 0 };
    let plan = Recipe {
        suite: purpose.suite,
        data: purpose.data.map(Into::into),
        task: purpose.task,
        given: purpose.given,
        model: model.into(),
        start_from: None,
        targets,
        modules,
        preset: preset.to_owned(),
        variant,
        train: Hyper { max_length, ..Hyper::default() },
        readouts: Vec::new(),
        seeds: Seeds::all(0),
        holdout: None,
        forgetting: None,
    };
    Ok(AdapterMetadata { cell, plan, outputs, model_hash: base.hash.clone(), drawn: None, step: None })
}

/// The base: what is asked for, or what the configuration names, where that can be opened as it stands.
pub(super) fn model(said: &Said, asked: Option<&str>) -> Result<String, String> {
    if let Some(asked) = asked {
        return Ok(asked.to_owned());
    }
    let Some(name) = said.base_model_name_or_path.clone() else {
        return Err("base_model_name_or_path is missing; give the base with `--model DIR`".to_owned());
    };
    if source::model(&name).is_ok() && source::absent(&name, None).is_none() {
        return Ok(name);
    }
    // Names of the hub are the usual case; nothing is downloaded unasked.
    let revision = said.revision.as_ref().map(|revision| format!("@{revision}")).unwrap_or_default();
    let hub = format!("{SCHEME}{name}{revision}");
    let way_out = match source::model(&hub) {
        Ok(_) => format!("`--model DIR`, or `--model {hub}` for the hub's"),
        Err(_) => "`--model DIR`".to_owned(),
    };
    Err(format!("base_model_name_or_path is `{name}`, which is no folder here; give the base with {way_out}"))
}

/// Outputs of the head: of the file, else of the checkpoint; those of the task, if they are known.
fn outputs(config: &Config, stored: &Stored, base: &BaseModel, purpose: &Purpose) -> Result<usize, String> {
    let weights = config.head_names().iter().rev().find(|name| name.ends_with("weight"));
    let of_file = weights
        .and_then(|name| stored.tensors.get(&format!("{WRAPPED}{name}")))
        .and_then(|(shape, _)| shape.first().copied());
    let of_base = || weights.and_then(|name| base.head.find(name)).and_then(|(shape, _)| shape.first().copied());
    let tasks = experiment::tasks::tasks(&purpose.suite);
    let known = match tasks.iter().find(|info| info.name == purpose.task) {
        _ if purpose.given.is_some() => None,
        Some(info) => Some(info.objective.n_outputs()),
        None => {
            let names: Vec<&str> = tasks.iter().map(|info| info.name.as_str()).collect();
            return Err(format!(
                "task is `{}`, but must be one of {}, or be described by an experiment",
                purpose.task,
                names.join(", ")
            ));
        }
    };
    match (of_file.or_else(of_base), known) {
        (Some(found), Some(known)) if found != known => Err(format!(
            "its head has {found} outputs, but `{}` has {known}; give the task that it was trained for",
            purpose.task
        )),
        (Some(found), _) => Ok(found),
        (None, _) => Err(format!(
            "neither the folder nor its base has a head for `{}`; save the adapter with its head, as PEFT does for task_type SEQ_CLS",
            purpose.task
        )),
    }
}
