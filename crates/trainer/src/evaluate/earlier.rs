//! A sequence of tasks: how the model of a task does on the tasks before it.
//!
//! A run that starts from another run of its experiment continues a sequence. At its end it is judged on every task that led to it, each
//! read by the head that its own run ended with: heads are a task's own, and which task a text belongs to is known (the task-incremental
//! setting). With `R[i][j]` the score on task `j` after task `i`, this is row `i` of `R` left of its diagonal.

use experiment::{
    cell::{Cell, StartFrom, View},
    hyper::Select,
};
use models::network::Network;
use record::{EarlierTask, Evaluation, PrimaryMetric, Readout};
use variants::pass::Active;

use super::{readout::Evaluator, score::Split};
use crate::{adapter, error::TrainError, records::goal, study::context::StudyContext, warm_start};

/// Every task that led to a cell's run, from the first; `network` has the run alone, and `step` is the step that it ended at.
pub fn of(
    network: &Network,
    cell: &Cell,
    step: u64,
    context: &StudyContext<'_>,
) -> Result<Vec<EarlierTask>, TrainError> {
    let readout = Readout { label: cell.id.variant.clone(), rank: cell.id.rank };
    let readouts = [(readout, View::Active(Active::All))];
    let (mut found, mut from) = (Vec::new(), cell.recipe.start_from.clone());
    // An adapter on disk is of another experiment, whose data need not be here.
    while let Some(start @ StartFrom::Cell(_)) = from {
        let (metadata, source) = adapter::load(&warm_start::path(&start, context.store), context.cache)?;
        let identity = warm_start::identity(&start, context.store)?;
        let (plan, base) = (&metadata.plan, context.cache.base_of(&metadata.plan)?);
        let task = context.cache.task(plan)?;
        let mut splits: Vec<&Split> = task.splits.iter().map(AsRef::as_ref).collect();
        if plan.train.select == Select::Best {
            splits.extend(task.test.as_deref());
        }
        let evaluator = Evaluator { base: &base, plan, task: &task, generates: true, stop: context.stop };
        let result = evaluator.evaluate(&network.with_head_of(&source), &splits, &readouts, step)?;
        let primary = task.info.primary();
        found.push(EarlierTask {
            task: plan.task.clone(),
            adapter_hash: identity.map(|start| start.hash).unwrap_or_default(),
            primary_metric: PrimaryMetric { name: primary.to_string(), goal: goal(primary) },
            evaluations: result.evaluations.into_iter().map(|found| Evaluation { correct: None, ..found }).collect(),
        });
        from = metadata.plan.start_from;
    }
    found.reverse();
    Ok(found)
}
