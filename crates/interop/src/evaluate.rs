//! A trained adapter on its task's evaluation splits, at the ranks it can be read out at.

use std::path::Path;

use experiment::cell::View;
use record::{Evaluation, Readout};
use trainer::{
    adapter::{self, AdapterMetadata},
    error::TrainError,
    evaluate::readout::Evaluator,
    model_cache::ModelCache,
    stop::Stop,
};
use variants::rank::RankPolicy;

use crate::length;

/// What an evaluation found.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// The task's name.
    pub task: String,
    /// One per rank and split.
    pub evaluations: Vec<Evaluation>,
    /// Remarks on the task's files, and on rows that were cut.
    pub notes: Vec<String>,
}

/// Evaluates the adapter at `path` on every split of its task. No `ranks` stand for all that the adapter has.
pub fn evaluate(path: &Path, ranks: &[usize], cache: &ModelCache) -> Result<Evaluated, TrainError> {
    let (metadata, network) = adapter::load(&adapter::resolve(path)?, cache)?;
    let plan = &metadata.plan;
    let (task, base) = (cache.task(plan)?, cache.base(&plan.model)?);
    let evaluator = Evaluator { base: &base, plan, task: &task, generates: true, stop: Stop::NEVER };
    let splits: Vec<_> = task.evaluated().map(AsRef::as_ref).collect();
    let evaluations = evaluator.evaluate(&network, &splits, &views(path, ranks, &metadata)?, 0)?.evaluations;
    let mut notes = task.notes.clone();
    if plan.text().is_none() {
        for split in splits {
            let cut = length::cut(&split.set, plan.train.max_length);
            notes.extend(cut.map(|note| format!("{}: {note}", split.name)));
        }
    }
    Ok(Evaluated { task: plan.task.clone(), evaluations, notes })
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
