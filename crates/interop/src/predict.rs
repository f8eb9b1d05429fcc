//! Logits of a trained run, or of a fine-tuned checkpoint, on given rows. [`run`] makes one prediction from beginning to end.

pub mod run;

use std::path::Path;

use assets::source::Folder;
use data::{
    batch::EncodedSet,
    glue, own,
    task::{Example, Objective},
};
use experiment::tasks::load;
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

use crate::length;

/// What was predicted.
#[derive(Clone, Debug)]
pub struct Predicted {
    /// `[rows][outputs]`
    pub logits: Vec<Vec<f64>>,
    /// `[rows]`; NaN where unknown.
    pub labels: Vec<f32>,
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

/// The rows of a split of a plan's own data.
pub fn split(plan: &Recipe, wanted: &str) -> Result<Vec<Example>, TrainError> {
    let loaded = load(&plan.suite, &plan.task, plan.data.as_deref(), plan.given.as_ref())?;
    let mut all = vec![("train".to_owned(), loaded.dataset.train)];
    all.extend(loaded.dataset.evaluation);
    all.push(("test".to_owned(), loaded.dataset.test));
    all.extend(loaded.more_tests);
    all.retain(|(_, rows)| !rows.is_empty());
    let names: Vec<String> = all.iter().map(|(name, _)| format!("`{name}`")).collect();
    // The first test split has the benchmark's longer name as well.
    let found = all.into_iter().find(|(name, _)| name == wanted || (name == "test" && wanted == "test_matched"));
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
    Ok(Predicted { logits, labels: rows.iter().map(|row| row.label).collect(), cut })
}

/// A checkpoint with its own classification head, for a task of GLUE, and what there is to say of the head; its rows are as long as it
/// allows, or at most `max_length`.
pub fn checkpoint(
    model: &str,
    task: &str,
    max_length: Option<usize>,
    cache: &ModelCache,
) -> Result<(Recipe, Network, Vec<String>), TrainError> {
    let base = cache.base(model)?;
    let objective = objective(model, task, &base)?;
    let outputs = objective.n_outputs();
    let (stored, said) = base.head.for_task(outputs, objective.labels());
    let longest = base.backbone.config().longest();
    let max_length = length::limit(max_length, None, longest).map_err(|reason| TrainError::foreign(model, reason))?;
    let plan = Recipe {
        suite: glue::GLUE.to_owned(),
        data: None,
        task: task.to_owned(),
        given: None,
        model: model.to_owned(),
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
    };
    let id = record::CellId { task: task.to_owned(), variant: "head_only".to_owned(), rank: 0, seed: 0 };
    let stack = trainer::adapter::stack_plan(&plan, &id, cache)?;
    let network = cache.network_of(&plan, &[(stack, vec![Outputs { count: outputs, stored: &stored }])])?;
    Ok((plan, network, said.into_iter().collect()))
}

/// Why a checkpoint cannot classify by itself.
fn without_head(base: &BaseModel) -> String {
    const SHOWN: usize = 4;
    let way_out = "give the adapter of a run with `--adapter`";
    if let Some(broken) = base.head.broken() {
        return format!("the checkpoint's classification head is not whole: {broken}; {way_out}");
    }
    let names = base.backbone.config().head_names().join("`, `");
    let mut others: Vec<&str> = base.unused.iter().take(SHOWN).map(String::as_str).collect();
    others.extend((base.unused.len() > SHOWN).then_some(".."));
    let others = if others.is_empty() { String::new() } else { format!(" (nothing here uses {})", others.join(", ")) };
    format!("the checkpoint has no classification head under the names `{names}`{others}; {way_out}")
}

/// What a task of GLUE predicts, for which the checkpoint's head has as many outputs as it takes.
fn objective(model: &str, task: &str, base: &BaseModel) -> Result<Objective, TrainError> {
    let info = glue::tasks().into_iter().find(|info| info.name == task);
    let Some(info) = info else {
        let names: Vec<String> = glue::tasks().into_iter().map(|info| info.name).collect();
        return Err(TrainError::foreign(model, format!("task is `{task}`, but must be one of {}", names.join(", "))));
    };
    let outputs = info.objective.n_outputs();
    match base.head.outputs() {
        Some((_, found)) if found == outputs => Ok(info.objective),
        Some((name, found)) => {
            let reason = format!(
                "`{name}` has {found} outputs, but `{task}` has {outputs}; give the adapter of a run with `--adapter`"
            );
            Err(TrainError::foreign(model, reason))
        }
        None => Err(TrainError::foreign(model, without_head(base))),
    }
}
