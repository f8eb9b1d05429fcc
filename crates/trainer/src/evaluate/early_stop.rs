//! Evaluation during training: it keeps a run's best state, and stops a run that no longer improves.

use std::collections::BTreeMap;

use record::Readout;
use variants::{pass::Active, rank::RankPolicy};

use super::{
    batched::{self, EvalRequest},
    readout::EvalResult,
    single,
};
use crate::{
    adapter,
    cohort::Cohort,
    error::TrainError,
    sink::{Event, Sink},
    study::{
        context::StudyContext,
        run_state::{BestState, RunAt, RunState},
    },
};
use experiment::{cell::View, hyper::Select};

/// Evaluates runs whose turn it is, keeps the best state and stops runs that are at their end or no longer improve.
pub fn evaluate_due(cohort: &mut Cohort, context: &StudyContext<'_>, sink: &dyn Sink) -> Result<(), TrainError> {
    let mut all = Vec::new();
    for stack in 0..cohort.stacks.len() {
        all.extend(evaluate_stack(cohort, stack, context)?);
    }
    // From here on nothing is interrupted: all runs have their results, or none has.
    for (at, result) in all {
        early_stop(cohort, at, &result);
        let run = cohort.at_mut(at);
        for mut evaluation in result.evaluations {
            // Tables report what is evaluated at the end; a bit per example of every evaluation before would fill the record.
            evaluation.correct = None;
            sink.event(&Event::Evaluated { cell: &run.cell.id, evaluation: &evaluation });
            run.log.evaluation(evaluation)?;
        }
    }
    let step = cohort.step;
    cohort.runs_mut().for_each(|run| run.active &= step < run.steps);
    Ok(())
}

/// What the runs of a stack that are to be evaluated after this step are worth.
fn evaluate_stack(
    cohort: &Cohort,
    stack: usize,
    context: &StudyContext<'_>,
) -> Result<Vec<(RunAt, EvalResult)>, TrainError> {
    let step = cohort.step;
    let due = cohort.stacks[stack].runs.iter().enumerate().filter(|(_, run)| run.evaluates_at(step));
    let request = |(index, run)| -> EvalRequest<'_> {
        let run: &RunState = run;
        let splits = vec![run.task().splits[0].as_ref()];
        EvalRequest { run: index, step, chosen: None, readouts: vec![full_readout(run)], splits }
    };
    let requests: Vec<EvalRequest<'_>> = due.map(request).collect();
    let addresses = requests.iter().map(|request| RunAt { stack, run: request.run });
    let results = if let Some(results) = batched::evaluate(cohort, stack, &requests, context)? {
        results
    } else {
        let alone = |(at, request)| single::evaluate(cohort, at, request, context);
        addresses.clone().zip(&requests).map(alone).collect::<Result<_, _>>()?
    };
    Ok(addresses.zip(results).collect())
}

/// The readout that selects checkpoints: every component in use.
fn full_readout(run: &RunState) -> (Readout, View) {
    let id = &run.cell.id;
    (Readout { label: id.variant.clone(), rank: id.rank }, View::Active(Active::All))
}

/// Keeps a run's state where an evaluation is its best so far, and stops a run that no longer improves.
fn early_stop(cohort: &mut Cohort, at: RunAt, result: &EvalResult) {
    let step = cohort.step;
    let run = &mut cohort.stacks[at.stack].runs[at.run];
    let (train, primary) = (&run.cell.recipe.train, run.task().info.primary());
    let (selects, patience) = (train.select == Select::Best, train.patience);
    let (name, minimised) = (primary.to_string(), primary.is_minimised());
    let value = result.evaluations[0].metrics[&name];
    run.eval_seconds += result.seconds;
    if step < run.cell.recipe.variant.rank_policy.settled(run.steps) {
        // Logged, but neither selected nor counted: its ranks are not the ones asked for.
    } else if run.best.as_ref().is_none_or(|best| is_better(value, best.value, minimised)) {
        let tensors = if selects { adapter::tensors(&mut cohort.network, at.stack, at.run) } else { BTreeMap::new() };
        run.best = Some(BestState { step, value, tensors });
        run.stale = 0;
    } else {
        run.stale += 1;
        run.active &= patience.is_none_or(|patience| run.stale < patience);
    }
}

/// Whether a metric is better; anything beats a value that is undefined, and that beats nothing.
fn is_better(value: f64, than: f64, minimised: bool) -> bool {
    (if minimised { value < than } else { value > than }) || (than.is_nan() && !value.is_nan())
}
