//! One run by itself: its network, and its evaluation during training.

use std::time::Instant;

use models::network::{NamedParam, Network};
use variants::host::inner;

use super::{
    batched::EvalRequest,
    readout::{EvalResult, Evaluator},
};
use crate::{
    cohort::Cohort,
    error::TrainError,
    study::{
        context::StudyContext,
        run_state::{BestState, RunAt},
    },
};

/// The network with one run alone, its tensors as they are now or as `chosen`. Nothing is initialised on the way.
pub fn network(cohort: &Cohort, at: RunAt, chosen: Option<&BestState>) -> Network {
    let outputs = cohort.at(at).task().info.objective.n_outputs();
    let mut network = cohort.network.single_run(at.stack, at.run, outputs);
    let Some(best) = chosen else { return network };
    for NamedParam { name, mut param, .. } in network.parameters(0) {
        let [_, rows, cols] = param.tensor.dims();
        // A narrow head in a stack of wider ones has spare columns; they stay behind.
        param.tensor.set(inner(&best.tensors[&name]).slice([0..1, 0..rows, 0..cols]));
    }
    network
}

/// Evaluates one run in training.
pub(super) fn evaluate(
    cohort: &Cohort,
    at: RunAt,
    request: &EvalRequest<'_>,
    context: &StudyContext<'_>,
) -> Result<EvalResult, TrainError> {
    let clock = Instant::now();
    let run = cohort.at(at);
    let network = network(cohort, at, None);
    let base = context.cache.base_of(&run.cell.recipe)?;
    // Generation takes as long as many steps; in training it is done only where it decides.
    let generates = run.task().info.primary().generates();
    let evaluator = Evaluator { base: &base, plan: &run.cell.recipe, task: run.task(), generates, stop: context.stop };
    let result = evaluator.evaluate(&network, &request.splits, &request.readouts, request.step)?;
    Ok(EvalResult { seconds: clock.elapsed().as_secs_f64(), ..result })
}
