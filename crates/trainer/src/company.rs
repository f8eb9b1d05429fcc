//! Evaluation of several runs of a stack in one pass.
//!
//! A run alone leaves a device mostly idle: its rows are few, and every one of them costs the same launches. Runs that share a task share
//! its batches as well, so that one network with all of a stack's runs answers for those that are asked. Rows never meet across runs, and a
//! batch's composition and width are those of a run alone: what a run is worth does not depend on its companions beyond the order in which
//! a product sums.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use burn::tensor::Tensor;
use models::network::{NamedParam, Network};
use record::{Evaluation, Readout};
use variants::host::inner;

use crate::{
    cell::View,
    cohort::Cohort,
    error::TrainError,
    evaluate::{Split, logits},
    readout::{Answer, entry, seen},
    run::Slot,
    state::BestState,
    study::Setting,
};

/// What is asked of one run of a stack.
#[derive(Debug)]
pub struct Request<'a> {
    /// The run.
    pub run: usize,
    /// The step that its evaluations are entered at.
    pub step: u64,
    /// Its tensors, where they are not those of the network.
    pub chosen: Option<&'a BestState>,
    /// Ways to read it out.
    pub readouts: Vec<(Readout, View)>,
    /// Splits of its task.
    pub splits: Vec<&'a Split>,
}

/// Whether the runs of a stack can be evaluated in one pass: they have one task, whose examples a head classifies.
fn is_alike(slots: &[Slot]) -> bool {
    slots.iter().all(|slot| Arc::ptr_eq(&slot.task, &slots[0].task)) && slots[0].cell.plan.text().is_none()
}

/// The network with one stack. A run that is asked has its tensors as they are, or as they were chosen; one that is not has those of the
/// first that is, since its own may be anything: after a failure a decomposition of them might not end.
fn assemble(cohort: &mut Cohort, stack: usize, requests: &[Request<'_>]) -> Network {
    let mut network = cohort.network.only(stack);
    let runs = cohort.stacks[stack].members.len();
    let asked = |run: usize| requests.iter().find(|request| request.run == run);
    if (0..runs).all(|run| asked(run).is_some_and(|request| request.chosen.is_none())) {
        return network;
    }
    for NamedParam { name, param, .. } in network.parameters(0) {
        let of_run = |run| {
            let request = asked(run).unwrap_or(&requests[0]);
            match request.chosen {
                Some(best) => inner(&best.tensors[&name]),
                None => param.tensor.clone().slice([request.run..request.run + 1]),
            }
        };
        let whole = Tensor::cat((0..runs).map(of_run).collect(), 0); // [runs, rows, cols]
        *param.tensor = whole;
    }
    network
}

/// Answers to all requests, in their order; none where the runs of this stack, or so few, are evaluated one by one.
pub fn answers(
    cohort: &mut Cohort,
    stack: usize,
    slots: &[Slot],
    requests: &[Request<'_>],
    setting: &Setting<'_>,
) -> Result<Option<Vec<Answer>>, TrainError> {
    if requests.len() < 2 || !is_alike(slots) {
        return Ok(None);
    }
    let clock = Instant::now();
    let network = assemble(cohort, stack, requests);
    let pad = setting.library.base_of(&slots[0].cell.plan)?.pad;
    let mut found: Vec<BTreeMap<(usize, usize), Evaluation>> = vec![BTreeMap::new(); requests.len()];
    let mut whole = vec![None; requests.len()];
    for view in distinct(requests.iter().flat_map(|r| r.readouts.iter().map(|(_, view)| view)), |a, b| a == b) {
        let (network, active) = seen(&network, view, slots.len());
        for split in distinct(requests.iter().flat_map(|r| r.splits.iter().copied()), |a, b| std::ptr::eq(a, b)) {
            // The places of the view and the split in what each run was asked.
            let wanted = requests.iter().enumerate().flat_map(|(index, request)| {
                let column = request.splits.iter().position(|other| std::ptr::eq(*other, split));
                let rows = request.readouts.iter().enumerate().filter(|(_, (_, other))| other == view);
                rows.filter_map(move |(row, (readout, _))| Some((index, request, (row, column?), readout)))
            });
            let wanted: Vec<_> = wanted.collect();
            if wanted.is_empty() {
                continue;
            }
            let logits = logits(&network, &vec![&split.set; slots.len()], &active, pad);
            for (index, request, at, readout) in wanted {
                let (slot, logits) = (&slots[request.run], &logits[request.run]);
                found[index].insert(at, entry(&slot.task, split, readout, request.step, logits));
                if at.1 == 0 && view.is_whole(slot.cell.plan.largest_rank()) {
                    whole[index] = Some(logits.clone());
                }
            }
        }
    }
    let seconds = clock.elapsed().as_secs_f64() / requests.len() as f64;
    let answer = |(found, whole): (BTreeMap<_, Evaluation>, _)| Answer {
        evaluations: found.into_values().collect(),
        whole,
        seconds,
    };
    Ok(Some(found.into_iter().zip(whole).map(answer).collect()))
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
