//! One prediction from beginning to end: opens what predicts, finds the rows, predicts, scores.

use std::path::Path;

use data::{causal::score, glue, metric::Metric, task::TaskInfo};
use models::{network::Network, safetensors};
use variants::pass::Active;

use super::{
    Predicted, checkpoint,
    form::{self, Form},
    info, predict, split,
};
use crate::{
    opened::{self, Opened, Wanted},
    peft::import::Purpose,
};
use experiment::cell::Recipe;
use trainer::{
    error::TrainError,
    evaluate::{readout::Evaluator, score::predictions, undefined},
    model_cache::ModelCache,
    stop::Stop,
};

/// What predicts, and what it predicts.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The adapter or checkpoint.
    pub source: Source<'a>,
    /// The rows.
    pub rows: Rows<'a>,
    /// Tokens of a row at most; by default what the recipe says, or all that the base allows.
    pub max_length: Option<usize>,
    /// The split for which the benchmark's submission file is wanted, where one is.
    pub submission: Option<&'a str>,
    /// How the predictions are to be written, where they are.
    pub form: Option<Form>,
}

/// What predicts.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A trained adapter.
    Adapter {
        /// A run's folder or file, or a folder that PEFT wrote (or the weights inside one).
        path: &'a Path,
        /// The base, if not where it was in training.
        model: Option<&'a str>,
        /// The task of a folder that PEFT wrote and that does not know it.
        purpose: Option<&'a Purpose>,
    },
    /// A checkpoint with its own classification head.
    Checkpoint {
        /// Its folder or name.
        model: &'a str,
        /// Its task.
        purpose: &'a Purpose,
    },
}

/// Which rows are predicted.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// Those of a file in the layout of the task.
    File(&'a Path),
    /// A split of the run's own data.
    Split(&'a str),
    /// The dev split of a run on text; a classifier has no default.
    Default,
}

/// What was predicted.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// Remarks on the adapter, and on rows that were cut.
    pub notes: Vec<String>,
    /// Metrics of the task by name; none where a label is unknown.
    pub scores: Option<Vec<(String, f64)>>,
    task: TaskInfo,
    output: Output,
}

/// Logits of a classifier or texts of a causal model.
#[derive(Clone, Debug)]
enum Output {
    Logits(Predicted),
    Texts { texts: Vec<String>, references: Vec<Vec<String>> },
}

impl Prediction {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match &self.output {
            Output::Logits(found) => found.labels.len(),
            Output::Texts { texts, .. } => texts.len(),
        }
    }

    /// What a row has in a form: `logits`, `predictions` or `texts`.
    pub fn what(&self, form: Form) -> &'static str {
        match (&self.output, form) {
            (Output::Texts { .. }, _) => "texts",
            (Output::Logits(_), Form::Safetensors) => "logits",
            (Output::Logits(_), _) => "predictions",
        }
    }

    /// Whether a file begins like one of [`to_bytes`](Self::to_bytes): the predictions of any task in any form, or its texts.
    pub fn is_own(head: &[u8]) -> bool {
        let is_logits = safetensors::names(head).is_some_and(|names| names == ["labels", "logits"]);
        is_logits || form::is_own(head)
    }

    /// The predictions in a form; texts with their references are JSON lines.
    pub fn to_bytes(&self, form: Form) -> Result<Vec<u8>, TrainError> {
        match (&self.output, form) {
            (Output::Logits(found), Form::Safetensors) => found.to_safetensors(&self.task.name),
            (Output::Logits(found), _) => Ok(form::written(found, &self.task.objective, form)),
            (Output::Texts { texts, references }, _) => {
                let line = |(text, references): (&String, &Vec<String>)| {
                    format!("{}\n", serde_json::json!({"text": text, "references": references}))
                };
                Ok(texts.iter().zip(references).map(line).collect::<String>().into_bytes())
            }
        }
    }

    /// The benchmark's submission file for a split: its name and its content.
    pub fn submission(&self, split: &str) -> Result<(String, Vec<u8>), TrainError> {
        match &self.output {
            Output::Logits(found) => {
                Ok(glue::submission(&self.task.name, split, &predictions(&found.logits, &self.task.objective))?)
            }
            Output::Texts { .. } => Err(no_submission(&self.task.name)),
        }
    }
}

/// The task's metrics, none where a label is withheld; one that these rows leave undefined is NaN, and a note says why.
fn scores(found: &Predicted, task: &TaskInfo, notes: &mut Vec<String>) -> Option<Vec<(String, f64)>> {
    if found.labels.iter().any(|label| label.is_nan()) {
        return None;
    }
    let labels: Vec<f64> = found.labels.iter().map(|label| f64::from(*label)).collect();
    let predicted = predictions(&found.logits, &task.objective);
    let mut score = |metric: &Metric| {
        let value = match undefined::reason(*metric, &predicted, &labels, &task.objective) {
            Some(reason) => {
                notes.push(format!("{metric} is undefined: {reason}"));
                f64::NAN
            }
            None => metric.evaluate(&predicted, &labels),
        };
        (metric.to_string(), value)
    };
    Some(task.metrics.iter().map(&mut score).collect())
}

/// Predicts the rows, and scores them where every label is known.
pub fn run(request: &Request<'_>, cache: &ModelCache) -> Result<Prediction, TrainError> {
    check_drawn(request)?;
    let (plan, network, mut notes) = open(request, cache)?;
    request.submission.map_or(Ok(()), |split| check_submission(&plan, split))?;
    if let Some(form) = request.form.filter(|form| plan.text().is_some() && *form != Form::JsonLines) {
        let reason = format!("generates texts, which are JSON lines and not {form}; give a name that ends in `.jsonl`");
        return Err(TrainError::foreign(&plan.task, reason));
    }
    let found = if plan.text().is_some() {
        texts(&plan, &network, request.rows, cache)?
    } else {
        classify(&plan, &network, request.rows, cache)?
    };
    notes.extend(found.notes);
    Ok(Prediction { notes, scores: found.scores, task: found.task, output: found.output })
}

/// Refuses a training set that a seed draws, of a source that knows no seed.
fn check_drawn(request: &Request<'_>) -> Result<(), TrainError> {
    let purpose = match request.source {
        Source::Adapter { purpose, .. } => purpose,
        Source::Checkpoint { purpose, .. } => Some(purpose),
    };
    match (purpose, request.rows) {
        (Some(purpose), Rows::Split("train")) if purpose.draws_train => {
            let reason = "has no split `train` without a seed: its experiment draws a training set for every seed (`vary: [sample]`); give the \
                          run itself with `--adapter`, or another split";
            Err(TrainError::foreign(&purpose.task, reason.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Refuses a submission file that cannot be written, before anything is predicted for it.
fn check_submission(plan: &Recipe, split: &str) -> Result<(), TrainError> {
    if plan.text().is_some() {
        return Err(no_submission(&plan.task));
    }
    if plan.suite != glue::GLUE {
        let reason = "has no submission file: tasks of GLUE have one alone; write the predictions with `--out`";
        return Err(TrainError::foreign(&plan.task, reason.to_owned()));
    }
    Ok(glue::submission(&plan.task, split, &[]).map(drop)?)
}

fn no_submission(task: &str) -> TrainError {
    let reason = "has no submission file: it is a task on text; write the texts with `--out`";
    TrainError::foreign(task, reason.to_owned())
}

/// What was predicted for the rows.
struct Found {
    task: TaskInfo,
    output: Output,
    scores: Option<Vec<(String, f64)>>,
    notes: Vec<String>,
}

/// The recipe and the network of what predicts, with remarks.
fn open(request: &Request<'_>, cache: &ModelCache) -> Result<(Recipe, Network, Vec<String>), TrainError> {
    let max_length = request.max_length;
    match request.source {
        Source::Checkpoint { model, purpose } => {
            let (plan, network, said) = checkpoint(model, purpose.clone(), max_length, cache)?;
            Ok((plan, network, [cache.base(model)?.said_of(model), said].concat()))
        }
        Source::Adapter { path, model, purpose } => {
            let Opened { metadata, network, notes } = opened::open(Wanted { path, model, purpose, max_length }, cache)?;
            Ok((metadata.plan, network, notes))
        }
    }
}

/// Logits of a classifier.
fn classify(plan: &Recipe, network: &Network, rows: Rows<'_>, cache: &ModelCache) -> Result<Found, TrainError> {
    let task = info(plan, cache)?;
    let rows = match rows {
        Rows::File(file) => super::rows(plan, &task.objective, file)?,
        Rows::Split(name) => split(plan, name)?,
        Rows::Default => {
            let reason = "needs rows: give `--data FILE`, or `--split NAME` of the run's own data".to_owned();
            return Err(TrainError::foreign(&plan.task, reason));
        }
    };
    let base = cache.base(&plan.model)?;
    let found = predict(network, &base, &rows, plan.train.max_length)?;
    let mut notes: Vec<String> = found.cut.iter().cloned().collect();
    let scores = scores(&found, &task, &mut notes);
    Ok(Found { task, output: Output::Logits(found), scores, notes })
}

/// Texts for the prompts of a split, and what they are worth.
fn texts(plan: &Recipe, network: &Network, rows: Rows<'_>, cache: &ModelCache) -> Result<Found, TrainError> {
    let wanted = match rows {
        Rows::Split(name) => name,
        Rows::Default => "dev",
        Rows::File(file) => {
            let reason = "cannot be continued: a run on text continues the prompts of its own splits; use `--split`";
            return Err(TrainError::foreign(file, reason.to_owned()));
        }
    };
    let (task, base) = (cache.task(plan)?, cache.base(&plan.model)?);
    let Some(split) = task.evaluated().find(|split| split.name == wanted) else {
        return Err(TrainError::foreign(&plan.task, format!("has no split `{wanted}`")));
    };
    if split.prompts.is_empty() {
        let metrics: Vec<String> = task.info.metrics.iter().map(ToString::to_string).collect();
        let reason =
            format!("generates nothing: its metrics are {}; give it `bleu` or `exact_match`", metrics.join(", "));
        return Err(TrainError::foreign(&plan.task, reason));
    }
    let evaluator = Evaluator { base: &base, plan, task: &task, generates: true, stop: Stop::NEVER };
    let (texts, generated) = evaluator.generate(network, split, &Active::All)?;
    let answer = plan.text().and_then(|task| task.answer.as_deref());
    let scores = score::of_texts(&task.info.metrics, answer, &texts, &split.references)?;
    let output = Output::Texts { texts, references: split.references.clone() };
    let scores = Some(scores.into_iter().collect());
    let notes = task.notes.iter().cloned().chain(generated.note()).collect();
    Ok(Found { task: task.info.clone(), output, scores, notes })
}
