//! Logits of a trained run, or of a fine-tuned checkpoint, on given rows. [`run`] makes one prediction from beginning to end.

pub mod form;
pub mod run;

use std::path::Path;

use assets::source::Folder;
use data::{
    batch::EncodedSet,
    glue, own,
    task::{Example, Loaded, Objective, TaskInfo},
};
use experiment::tasks::{load_for, tasks};
use experiment::{
    cell::{Recipe, TaskSource},
    hyper::Hyper,
};
use models::{
    error::ModelError,
    head::Outputs,
    network::Network,
    safetensors::{self, Stored},
};
use trainer::{
    error::TrainError,
    evaluate::score::logits,
    model_cache::{BaseModel, ModelCache},
};
use variants::pass::Active;

use crate::{length, peft::import::Purpose};

/// What was predicted.
#[derive(Clone, Debug)]
pub struct Predicted {
    /// `[rows][outputs]`
    pub logits: Vec<Vec<f64>>,
    /// `[rows]`; NaN where unknown.
    pub labels: Vec<f32>,
    /// The texts, `[rows]`.
    pub texts: Vec<(String, Option<String>)>,
    /// A note where rows were cut.
    pub cut: Option<String>,
}

impl Predicted {
    /// `logits` `[rows, outputs]` and `labels` `[rows]`, f32, with the task's name.
    pub fn to_safetensors(&self, task: &str) -> Result<Vec<u8>, TrainError> {
        let outputs = self.logits.first().map_or(0, Vec::len);
        let logits = self.logits.iter().flatten().map(|logit| *logit as f32);
        let tensors = [
            Stored::of("labels", vec![self.labels.len()], self.labels.iter().copied()),
            Stored::of("logits", vec![self.logits.len(), outputs], logits),
        ];
        Ok(safetensors::write(&tensors, Some(("task", task))).map_err(ModelError::from)?)
    }
}

/// The rows of a file in the form of a plan's task.
pub fn rows(plan: &Recipe, objective: &Objective, file: &Path) -> Result<Vec<Example>, TrainError> {
    let failed = |source| TrainError::io(file.to_owned(), source);
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(match &plan.given {
        Some(TaskSource::Custom(task)) => {
            let folder = Folder(file.parent().map(Path::to_owned).unwrap_or_default());
            own::examples(task, objective, &folder, &name)?
        }
        Some(TaskSource::Text(_)) => {
            let reason =
                "is asked about, but a run on text continues the prompts of its own splits; use `--split`".to_owned();
            return Err(TrainError::foreign(file.to_owned(), reason));
        }
        None => glue::examples(&plan.task, &file.display().to_string(), assets::file::read(file).map_err(failed)?)?,
    })
}

/// The rows of a split of a plan's own data: of the training set that its seed draws, and of what a tuning cuts off it.
pub fn split(plan: &Recipe, wanted: &str) -> Result<Vec<Example>, TrainError> {
    let Loaded { mut dataset, more_tests, .. } = load_for(plan)?;
    if let Some(holdout) = plan.holdout {
        dataset = holdout.cut(dataset)?;
    }
    let mut all = vec![("train".to_owned(), dataset.train)];
    all.extend(dataset.evaluation);
    all.push(("test".to_owned(), dataset.test));
    all.extend(more_tests);
    all.retain(|(_, rows)| !rows.is_empty());
    let names: Vec<String> = all.iter().map(|(name, _)| format!("`{name}`")).collect();
    // The first test split has the benchmark's longer name as well.
    let found = all
        .into_iter()
        .find(|(name, _)| name == wanted || (name == "test" && wanted == "test_matched" && plan.task == "mnli"));
    found.map(|(_, rows)| rows).ok_or_else(|| {
        TrainError::foreign(
            plan.task.clone(),
            format!("has no split `{wanted}` with rows; it has {}", names.join(", ")),
        )
    })
}

/// Logits of every row; `network` has one run.
pub fn predict(
    network: &Network,
    base: &BaseModel,
    rows: &[Example],
    max_length: usize,
) -> Result<Predicted, TrainError> {
    let set = EncodedSet::encode_all(&base.tokenizer, rows, max_length)?;
    let cut = length::cut(&set, max_length);
    let logits = logits(network, &[&set], &Active::All, base.pad).swap_remove(0);
    let texts = rows.iter().map(|row| (row.first.clone(), row.second.clone())).collect();
    Ok(Predicted { logits, labels: rows.iter().map(|row| row.label).collect(), texts, cut })
}

/// What a plan's task predicts. A user's own task says in its files which classes there are.
pub(crate) fn info(plan: &Recipe, cache: &ModelCache) -> Result<TaskInfo, TrainError> {
    let known = tasks(&plan.suite).into_iter().find(|info| plan.given.is_none() && info.name == plan.task);
    known.map_or_else(|| Ok(cache.task(plan)?.info.clone()), Ok)
}

/// A checkpoint with its own classification head, for a task, and what there is to say of the head; its rows are as long as it allows, or
/// at most as long as the task's experiment says, or `max_length`.
pub fn checkpoint(
    model: &str,
    purpose: Purpose,
    max_length: Option<usize>,
    cache: &ModelCache,
) -> Result<(Recipe, Network, Vec<String>), TrainError> {
    let base = cache.base(model)?;
    let longest = base.backbone.config().longest();
    let max_length =
        length::limit(max_length, purpose.max_length, longest).map_err(|reason| TrainError::foreign(model, reason))?;
    let plan = recipe(model, purpose, max_length);
    let objective = objective(&plan, &base, cache)?;
    let outputs = objective.n_outputs();
    let (stored, said) = base.head.for_task(outputs, objective.labels());
    let id = record::CellId { task: plan.task.clone(), variant: plan.preset.clone(), rank: 0, seed: 0 };
    let stack = trainer::adapter::stack_plan(&plan, &id, cache)?;
    let network = cache.network_of(&plan, &[(stack, vec![Outputs { count: outputs, stored: &stored }])])?;
    Ok((plan, network, said.into_iter().collect()))
}

/// The recipe of a checkpoint that predicts as it is.
fn recipe(model: &str, purpose: Purpose, max_length: usize) -> Recipe {
    Recipe {
        suite: purpose.suite,
        data: purpose.data.map(Into::into),
        task: purpose.task,
        given: purpose.given,
        model: model.into(),
        start_from: None,
        targets: models::target::Target::Endings(Vec::new()),
        modules: models::modules::Modules::default(),
        preset: "head_only".to_owned(),
        variant: variants::presets::head_only::spec(0),
        train: Hyper { max_length, ..Hyper::default() },
        readouts: Vec::new(),
        seeds: variants::stream::Seeds::all(0),
        holdout: None,
        forgetting: None,
    }
}

/// Why a checkpoint cannot classify by itself.
fn without_head(base: &BaseModel) -> String {
    const SHOWN: usize = 4;
    let way_out = "give the adapter of a run with `--adapter`";
    if let Some(broken) = base.head.broken() {
        return format!("the checkpoint's classification head cannot be used: {broken}; {way_out}");
    }
    let names = base.backbone.config().head_names().join("`, `");
    let mut others: Vec<&str> = base.unused.iter().take(SHOWN).map(String::as_str).collect();
    others.extend((base.unused.len() > SHOWN).then_some(".."));
    let others = if others.is_empty() { String::new() } else { format!(" (nothing here uses {})", others.join(", ")) };
    format!("the checkpoint has no classification head under the names `{names}`{others}; {way_out}")
}

/// What a plan's task predicts, for which the checkpoint's head has as many outputs as it takes.
fn objective(plan: &Recipe, base: &BaseModel, cache: &ModelCache) -> Result<Objective, TrainError> {
    let (model, task) = (&plan.model, &plan.task);
    if plan.text().is_some() {
        let reason =
            format!("`{task}` is a task on text, which no classification head predicts; give a run with `--adapter`");
        return Err(TrainError::foreign(model, reason));
    }
    let names: Vec<String> = tasks(&plan.suite).into_iter().map(|info| info.name).collect();
    if plan.given.is_none() && !names.contains(task) {
        let reason =
            format!("task is `{task}`, but must be one of {}, or be described by an experiment", names.join(", "));
        return Err(TrainError::foreign(model, reason));
    }
    let Some((name, found)) = base.head.outputs() else { return Err(TrainError::foreign(model, without_head(base))) };
    let objective = info(plan, cache)?.objective;
    let outputs = objective.n_outputs();
    if found == outputs {
        return Ok(objective);
    }
    let reason =
        format!("`{name}` has {found} outputs, but `{task}` has {outputs}; give the adapter of a run with `--adapter`");
    Err(TrainError::foreign(model, reason))
}
