//! Evaluation of several runs of a stack in one pass.
//!
//! A run alone leaves a device mostly idle: its batches are small, and every one of them costs the same launches. Runs with the same
//! evaluation splits share their batches, so one network with all of a stack's runs answers for those that are asked. Rows never meet
//! across runs, and a batch's composition and length are those of a run alone: a run's numbers do not depend on the others beyond the
//! order in which a product sums.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use burn::tensor::Tensor;
use models::network::{NamedParam, Network};
use record::{Evaluation, Forgetting, Readout};
use variants::host::inner;

use super::{
    readout::{EvalResult, apply_view, evaluation},
    score::{Split, logits_until},
};
use crate::{
    cohort::Cohort,
    error::TrainError,
    study::{
        context::StudyContext,
        run_state::{BestState, RunState},
    },
};
use experiment::cell::View;

/// What is asked of one run of a stack.
#[derive(Debug)]
pub struct EvalRequest<'a> {
    /// The run.
    pub run: usize,
    /// The step that its evaluations are logged at.
    pub step: u64,
    /// Its tensors, where they are not those of the network.
    pub chosen: Option<&'a BestState>,
    /// Ways to read it out.
    pub readouts: Vec<(Readout, View)>,
    /// Splits of its task.
    pub splits: Vec<&'a Split>,
}

/// Which readout and which split of its run an evaluation is of.
type Position = (usize, usize);

/// Whether the runs of a stack can be evaluated in one pass: they have the same splits, whose examples a head classifies. Their training
/// examples may differ.
fn share_batches(runs: &[RunState]) -> bool {
    let splits = |run: &RunState| run.task().evaluated().map(Arc::as_ptr).collect::<Vec<_>>();
    let first = splits(&runs[0]);
    runs[0].cell.recipe.text().is_none() && runs.iter().all(|run| splits(run) == first)
}

/// The network with one stack. A run that is asked has its tensors as they are, or as they were chosen; one that is not has those of the
/// first that is, since its own may be anything: after a failure a decomposition of them might not end.
fn assemble(cohort: &Cohort, stack: usize, requests: &[EvalRequest<'_>]) -> Network {
    let mut network = cohort.network.only(stack);
    let runs = cohort.stacks[stack].runs.len();
    let asked = |run: usize| requests.iter().find(|request| request.run == run);
    if (0..runs).all(|run| asked(run).is_some_and(|request| request.chosen.is_none())) {
        return network;
    }
    for NamedParam { name, mut param, .. } in network.parameters(0) {
        let of_run = |run| {
            let request = asked(run).unwrap_or(&requests[0]);
            match request.chosen {
                Some(best) => inner(&best.tensors[&name]),
                None => param.tensor.clone().slice([request.run..request.run + 1]),
            }
        };
        let all = Tensor::cat((0..runs).map(of_run).collect(), 0); // [runs, rows, cols]
        param.tensor.set(all);
    }
    network
}

/// What the runs that are asked have forgotten, in their order; nothing where the experiment does not measure it. The runs of a stack have
/// one base, so all of them read the held-out text in one pass, whatever their tasks.
pub fn forgetting(
    cohort: &Cohort,
    stack: usize,
    requests: &[EvalRequest<'_>],
    context: &StudyContext<'_>,
) -> Result<Vec<(usize, Forgetting)>, TrainError> {
    let runs = &cohort.stacks[stack].runs;
    let Some(first) = requests.first() else { return Ok(Vec::new()) };
    let recipe = &runs[first.run].cell.recipe;
    let Some(measurement) = context.cache.measurement(recipe, context.stop)? else { return Ok(Vec::new()) };
    let base = context.cache.base_of(recipe)?;
    let found = measurement.of_runs(&assemble(cohort, stack, requests), runs.len(), &base, context.stop)?;
    let asked = |run: &usize| requests.iter().any(|request| request.run == *run);
    Ok(found.into_iter().enumerate().filter(|(run, _)| asked(run)).collect())
}

/// Results of all requests, in their order; none where the runs of this stack, or so few, are evaluated one by one.
pub fn evaluate(
    cohort: &Cohort,
    stack: usize,
    requests: &[EvalRequest<'_>],
    context: &StudyContext<'_>,
) -> Result<Option<Vec<EvalResult>>, TrainError> {
    let runs = &cohort.stacks[stack].runs;
    if requests.len() < 2 || !share_batches(runs) {
        return Ok(None);
    }
    let clock = Instant::now();
    let network = assemble(cohort, stack, requests);
    let pad = context.cache.base_of(&runs[0].cell.recipe)?.pad;
    let mut found = vec![Found::default(); requests.len()];
    for view in distinct(requests.iter().flat_map(|r| r.readouts.iter().map(|(_, view)| view)), |a, b| a == b) {
        let (network, active) = apply_view(&network, view, runs.len());
        for split in distinct(requests.iter().flat_map(|r| r.splits.iter().copied()), |a, b| std::ptr::eq(a, b)) {
            if requests.iter().all(|request| asked_at(request, view, split).is_empty()) {
                continue;
            }
            let logits = logits_until(&network, &vec![&split.set; runs.len()], &active, pad, context.stop)?;
            for (request, found) in requests.iter().zip(&mut found) {
                found.enter(request, &runs[request.run], (view, split), &logits[request.run]);
            }
        }
    }
    let seconds = clock.elapsed().as_secs_f64() / requests.len() as f64;
    Ok(Some(found.into_iter().map(|found| found.result(seconds)).collect()))
}

/// The positions of a view and a split in what a run was asked, and the readouts that the view serves.
fn asked_at<'a>(request: &'a EvalRequest<'_>, view: &View, split: &Split) -> Vec<(Position, &'a Readout)> {
    let Some(column) = request.splits.iter().position(|other| std::ptr::eq(*other, split)) else { return Vec::new() };
    let rows = request.readouts.iter().enumerate().filter(|(_, (_, other))| other == view);
    rows.map(|(row, (readout, _))| ((row, column), readout)).collect()
}

/// What one run's readouts gave so far.
#[derive(Clone, Default)]
struct Found {
    evaluations: BTreeMap<Position, Evaluation>,
    /// Logits on the first split with the full update.
    full_logits: Option<Vec<Vec<f64>>>,
}

impl Found {
    /// Scores the logits of a view on a split, `[example][output]`, for every readout that asked for both.
    fn enter(
        &mut self,
        request: &EvalRequest<'_>,
        run: &RunState,
        (view, split): (&View, &Split),
        logits: &[Vec<f64>],
    ) {
        for (at @ (_, column), readout) in asked_at(request, view, split) {
            self.evaluations.insert(at, evaluation(run.task(), split, readout, request.step, logits));
            if column == 0 && view.is_whole(run.cell.recipe.largest_rank()) {
                self.full_logits = Some(logits.to_vec());
            }
        }
    }

    fn result(self, seconds: f64) -> EvalResult {
        EvalResult { evaluations: self.evaluations.into_values().collect(), full_logits: self.full_logits, seconds }
    }
}

/// Every item once, at its first place.
fn distinct<'a, T: ?Sized>(items: impl Iterator<Item = &'a T>, same: impl Fn(&T, &T) -> bool) -> Vec<&'a T> {
    let mut found: Vec<&T> = Vec::new();
    for item in items {
        if !found.iter().any(|other| same(other, item)) {
            found.push(item);
        }
    }
    found
}
