//! An adapter on its task's evaluation splits, or on the rows of a file, at the ranks it can be read out at.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use data::{batch::EncodedSet, task::Example};
use experiment::cell::{Recipe, View};
use models::weights::Weights;
use record::{Evaluation, Readout};
use trainer::{
    adapter::{self, AdapterMetadata},
    error::TrainError,
    evaluate::{readout::Evaluator, score::Split},
    model_cache::{BaseModel, ModelCache, TokenizedTask},
    stop::Stop,
};
use variants::rank::RankPolicy;

use crate::{
    length,
    opened::{self, Opened, Wanted},
    peft::import::Purpose,
    predict,
};

/// What is evaluated, and on what.
#[derive(Clone, Copy, Debug)]
pub struct EvalRequest<'a> {
    /// A run's folder or file, or a folder that PEFT wrote (or the weights inside one).
    pub adapter: &'a Path,
    /// The base, if not where it was in training.
    pub model: Option<&'a str>,
    /// The task of a folder that PEFT wrote and that does not know it.
    pub purpose: Option<&'a Purpose>,
    /// Ranks; none stand for all that the adapter has.
    pub ranks: &'a [usize],
    /// A file of rows in the layout of the task, in the place of the task's own splits.
    pub data: Option<&'a Path>,
    /// Tokens of a row at most; by default what the recipe says, or all that the base allows.
    pub max_length: Option<usize>,
}

/// What an evaluation found.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// The task's name.
    pub task: String,
    /// One per rank and split.
    pub evaluations: Vec<Evaluation>,
    /// Remarks on the adapter, on the task's files, and on rows that were cut.
    pub notes: Vec<String>,
}

/// Evaluates an adapter on every split of its task, or on the rows of a file.
pub fn evaluate(request: &EvalRequest<'_>, cache: &ModelCache) -> Result<Evaluated, TrainError> {
    let EvalRequest { adapter: path, model, purpose, max_length, .. } = *request;
    let Opened { metadata, network, mut notes } = opened::open(Wanted { path, model, purpose, max_length }, cache)?;
    let plan = &metadata.plan;
    let views = views(path, request.ranks, &metadata)?;
    let base = cache.base(&plan.model)?;
    let task = match request.data {
        Some(file) => Arc::new(of_file(plan, file, &base, cache)?),
        None => cache.task(plan)?,
    };
    let evaluator = Evaluator { base: &base, plan, task: &task, generates: true, stop: Stop::NEVER };
    let splits: Vec<_> = task.evaluated().map(AsRef::as_ref).collect();
    let evaluations = evaluator.evaluate(&network, &splits, &views, 0)?.evaluations;
    notes.extend(task.notes.iter().cloned());
    if plan.text().is_none() {
        for split in splits {
            let cut = length::cut(&split.set, plan.train.max_length);
            notes.extend(cut.map(|note| format!("{}: {note}", split.name)));
        }
    }
    Ok(Evaluated { task: plan.task.clone(), evaluations, notes })
}

/// The rows of a file as the one split of a plan's task; it is named by the file.
fn of_file(plan: &Recipe, file: &Path, base: &BaseModel, cache: &ModelCache) -> Result<TokenizedTask, TrainError> {
    if plan.text().is_some() {
        let reason = "cannot be scored: a run on text is evaluated on its own splits; leave out `--data`".to_owned();
        return Err(TrainError::foreign(file, reason));
    }
    let info = predict::info(plan, cache)?;
    let rows = predict::rows(plan, &info.objective, file)?;
    check_labels(file, &rows)?;
    let set = EncodedSet::encode_all(&base.tokenizer, &rows, plan.train.max_length)?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(TokenizedTask {
        info,
        train: EncodedSet::whole(Vec::new()),
        splits: vec![Arc::new(Split::new(name, set))],
        test: None,
        hash: String::new(),
        reading: None,
        head: Weights::default(),
        truncated: BTreeMap::new(),
        notes: Vec::new(),
    })
}

/// Refuses rows that cannot be scored.
fn check_labels(file: &Path, rows: &[Example]) -> Result<(), TrainError> {
    let unknown = rows.iter().filter(|row| row.label.is_nan()).count();
    let reason = match (rows.len(), unknown) {
        (0, _) => "has no rows to evaluate on".to_owned(),
        (_, 0) => return Ok(()),
        (all, _) => {
            format!("has no label in {unknown} of {all} rows, so nothing can be scored; `lora-lab predict` needs none")
        }
    };
    Err(TrainError::foreign(file, reason))
}

/// The readouts at the ranks asked for, or all the adapter has.
fn views(path: &Path, ranks: &[usize], metadata: &AdapterMetadata) -> Result<Vec<(Readout, View)>, TrainError> {
    let nested = metadata.plan.variant.rank_policy.readouts(metadata.plan.variant.rank);
    let all = adapter::cell(metadata).readouts(&nested);
    if ranks.is_empty() {
        return Ok(all);
    }
    let mut wanted = Vec::new();
    for &rank in ranks {
        let before = wanted.len();
        wanted.extend(all.iter().filter(|(readout, _)| readout.rank == rank).cloned());
        if wanted.len() == before {
            let known: Vec<String> = all.iter().map(|(readout, _)| readout.rank.to_string()).collect();
            return Err(TrainError::foreign(
                path,
                format!("rank is `{rank}`, but `{}` can be read out at {}", metadata.cell.variant, known.join(", ")),
            ));
        }
    }
    Ok(wanted)
}
