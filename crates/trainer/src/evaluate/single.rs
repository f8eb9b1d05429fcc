//! One run by itself: its network, and its evaluation during training.

use std::time::Instant;

use models::network::{NamedParam, Network};
use variants::host::inner;

use super::batched::EvalRequest;
use crate::{
    adapter,
    cohort::Cohort,
    error::TrainError,
    readout::{Answer, Reader},
    study::{
        context::StudyContext,
        run_state::{BestState, RunAt},
    },
};

/// The network with one run alone, its tensors as they are now or as `chosen`.
pub fn network(
    cohort: &Cohort,
    at: RunAt,
    chosen: Option<&BestState>,
    context: &StudyContext<'_>,
) -> Result<Network, TrainError> {
    let run = cohort.at(at);
    let tensors = match chosen {
        Some(best) => best.tensors.clone(),
        None => adapter::tensors(&mut cohort.network.only(at.stack), 0, at.run),
    };
    let plan = adapter::stack_plan(&run.cell.plan, &run.cell.id, context.library)?;
    let outputs = run.task().info.objective.n_outputs();
    let mut network = context.library.network(&run.cell.plan, &[(plan, vec![outputs])])?;
    for NamedParam { name, param, .. } in network.parameters(0) {
        let [_, rows, cols] = param.tensor.dims();
        // A narrow head in a stack of wider ones has spare columns; they stay behind.
        *param.tensor = inner(&tensors[&name]).slice([0..1, 0..rows, 0..cols]);
    }
    Ok(network)
}

/// Evaluates one run in training.
pub(super) fn evaluate(
    cohort: &Cohort,
    at: RunAt,
    request: &EvalRequest<'_>,
    context: &StudyContext<'_>,
) -> Result<Answer, TrainError> {
    let clock = Instant::now();
    let run = cohort.at(at);
    let network = network(cohort, at, None, context)?;
    let base = context.library.base_of(&run.cell.plan)?;
    // Generation takes as long as many steps; in training it is done only where it decides.
    let generates = run.task().info.primary().generates();
    let reader = Reader { base: &base, plan: &run.cell.plan, task: run.task(), generates };
    let answer = reader.answer(&network, &request.splits, &request.readouts, request.step)?;
    Ok(Answer { seconds: clock.elapsed().as_secs_f64(), ..answer })
}
