//! The rows on which a merged model is held against the unmerged one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use data::{
    batch::{Encoded, EncodedSet},
    task::Objective,
};
use experiment::{cell::Recipe, tasks};
use trainer::{
    error::TrainError,
    evaluate::score::Split,
    model_cache::{BaseModel, ModelCache},
};
use variants::stream::{self, Stream};

use crate::predict;

/// On which rows the merged model is held against the unmerged one.
#[derive(Clone, Debug, Default)]
pub enum Rows {
    /// The run's first evaluation split, or tokens drawn at random where its data is not at hand.
    #[default]
    Any,
    /// A split of the run's own data.
    Split(String),
    /// A file in the layout of the run's task.
    File(PathBuf),
}

/// Rows that are compared, and where they are from.
pub(super) struct Sample {
    pub(super) set: EncodedSet,
    pub(super) origin: String,
}

/// Rows of a text, whose logits are as many as there are words.
const FEW: usize = 16;

/// The rows that are asked for; tokens drawn at random where any will do and the run's data is not at hand.
pub(super) fn sample(
    rows: &Rows,
    most: usize,
    plan: &Recipe,
    base: &BaseModel,
    cache: &ModelCache,
) -> Result<Sample, TrainError> {
    let found = match rows {
        Rows::Any => of_split(None, plan, base, cache),
        Rows::Split(name) => Ok(of_split(Some(name), plan, base, cache)?),
        Rows::File(file) => Ok(of_file(file, plan, base, cache)?),
    };
    let few = if plan.text().is_some() { most.min(FEW) } else { most };
    match found {
        Ok(mut sample) => {
            sample.set.rows.truncate(few);
            Ok(sample)
        }
        Err(error) => {
            let set = drawn_rows(few, plan, base);
            Ok(Sample { set, origin: format!("tokens drawn at random, since the run's data is not at hand ({error})") })
        }
    }
}

fn of_split(name: Option<&str>, plan: &Recipe, base: &BaseModel, cache: &ModelCache) -> Result<Sample, TrainError> {
    if plan.text().is_some() {
        let task = cache.task(plan)?;
        let wanted = |split: &&Arc<Split>| name.is_none_or(|name| split.name == name);
        let Some(split) = task.evaluated().find(wanted) else {
            let known: Vec<String> = task.evaluated().map(|s| format!("`{}`", s.name)).collect();
            return Err(TrainError::foreign(
                plan.task.clone(),
                format!("has no split `{}`; it has {}", name.unwrap_or_default(), known.join(", ")),
            ));
        };
        return Ok(Sample { set: split.set.clone(), origin: format!("{} of `{}`", split.name, plan.task) });
    }
    let (name, rows) = if let Some(name) = name {
        (name.to_owned(), predict::split(plan, name)?)
    } else {
        let loaded = tasks::load(&plan.suite, &plan.task, plan.data.as_deref(), plan.given.as_ref())?;
        let first = loaded.dataset.evaluation.into_iter().next();
        first.ok_or_else(|| TrainError::foreign(plan.task.clone(), "has no evaluation split".to_owned()))?
    };
    let set = EncodedSet::encode_all(&base.tokenizer, &rows, plan.train.max_length)?;
    Ok(Sample { set, origin: format!("{name} of `{}`", plan.task) })
}

fn of_file(file: &Path, plan: &Recipe, base: &BaseModel, cache: &ModelCache) -> Result<Sample, TrainError> {
    let Some(objective) = objective(plan, cache) else {
        let reason = "the classes of its task are named by the run's data, which is not at hand; leave `--data` out";
        return Err(TrainError::foreign(file.to_owned(), reason.to_owned()));
    };
    let rows = predict::rows(plan, &objective, file)?;
    let set = EncodedSet::encode_all(&base.tokenizer, &rows, plan.train.max_length)?;
    Ok(Sample { set, origin: file.display().to_string() })
}

/// Tokens of the whole vocabulary, in rows of unlike lengths.
fn drawn_rows(rows: usize, plan: &Recipe, base: &BaseModel) -> EncodedSet {
    let config = base.backbone.config();
    let longest = config.longest().min(plan.train.max_length).min(48);
    let rng = &mut stream::generator(0, Stream::Data, "merge");
    let row = |at: usize| {
        let length = (2 + at * 7 % 47).min(longest).max(1);
        let ids: Vec<u32> = (0..length).map(|_| (stream::unit(rng) * config.vocab_size() as f64) as u32).collect();
        let targets = vec![true; if plan.text().is_some() { length } else { 0 }];
        Encoded { types: vec![0; length], ids, targets, label: 0.0 }
    };
    EncodedSet::whole((0..rows).map(row).collect())
}

/// What the task predicts; none where only its data says so and that is not at hand.
pub(super) fn objective(plan: &Recipe, cache: &ModelCache) -> Option<Objective> {
    if plan.text().is_some() {
        return Some(Objective::Text);
    }
    let listed = tasks::tasks(&plan.suite).into_iter().find(|info| info.name == plan.task);
    listed.map(|info| info.objective).or_else(|| Some(cache.task(plan).ok()?.info.objective.clone()))
}
