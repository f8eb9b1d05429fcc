//! A cohort before it trains: which runs share a stack, and what the cohort is called.

use std::path::Path;

use kernels::ops;
use models::head::Outputs;
use record::CohortChange;
use variants::slot::{FirstValues, StackPlan};

use super::{
    context::StudyContext,
    identity,
    run_state::{RunAt, RunState},
};
use crate::{
    adapter,
    batch::{Padding, Sampler, SupervisedBatches},
    calibrate,
    checkpoint::{self, Progress},
    cohort::{Cohort, Stack},
    error::TrainError,
    step::optimizer::Adam,
    warm_start,
};
use experiment::cell::Cell;

/// On a device the length of a batch is a multiple of this, so that few shapes are recorded.
const BUCKET: usize = 8;

/// A cohort before it trains: its runs at their start, grouped into stacks.
#[derive(Debug)]
pub struct CohortPlan {
    id: String,
    stacks: Vec<Stack>,
    /// How it came to be smaller than was planned.
    pub(super) changes: Vec<CohortChange>,
}

impl CohortPlan {
    /// Cells of one cohort. Those that may share a stack do, in their order, and stacks whose updates are computed in one batch come one
    /// after another.
    pub fn new(cells: &[Cell], context: &StudyContext<'_>) -> Result<Self, TrainError> {
        let mut stacks: Vec<Stack> = Vec::new();
        for cell in cells {
            let one = adapter::stack_plan(&cell.recipe, &cell.id, context.cache)?;
            let run = run_at_start(cell, context)?;
            match stacks.iter_mut().find(|stack| stack.plan.is_like(&one)) {
                Some(stack) => {
                    stack.plan.runs.extend(&one.runs);
                    stack.runs.push(run);
                }
                None => stacks.push(Stack::new(vec![run], one)),
            }
        }
        stacks.sort_by_key(|stack| stack.plan.variant.spec().batch_key());
        let id = identity::cohort_id(stacks.iter().flat_map(|stack| &stack.runs), context)?;
        Ok(Self { id, stacks, changes: Vec::new() })
    }

    /// The same cohort, which came to be so by these changes.
    pub(super) fn changed(self, changes: Vec<CohortChange>) -> Self {
        Self { changes, ..self }
    }

    /// Its name, which follows from its runs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Optimizer steps of its runs, in the order of its cells.
    pub(super) fn steps(&self) -> Vec<u64> {
        self.runs().map(|run| run.steps).collect()
    }

    /// Its cells, stack by stack.
    pub fn cells(&self) -> Vec<&Cell> {
        self.runs().map(|run| &run.cell).collect()
    }

    fn runs(&self) -> impl Iterator<Item = &RunState> {
        self.stacks.iter().flat_map(|stack| &stack.runs)
    }

    /// The run whose settings stand for what all of them share.
    fn first(&self) -> &RunState {
        &self.stacks[0].runs[0]
    }

    /// The cohort at its first step.
    pub fn build(self, context: &StudyContext<'_>) -> Result<Cohort, TrainError> {
        let mut cohort = self.assemble(FirstValues::Init, context)?;
        for at in cohort.addresses() {
            warm_start(&mut cohort, at, context)?;
        }
        Ok(cohort)
    }

    /// The cohort at the step of a checkpoint, and how far it was.
    pub fn resume(self, checkpoint: &Path, context: &StudyContext<'_>) -> Result<(Cohort, Progress), TrainError> {
        let mut cohort = self.assemble(FirstValues::Given, context)?;
        let progress = checkpoint::load(&mut cohort, checkpoint)?;
        Ok((cohort, progress))
    }

    fn assemble(self, first_values: FirstValues, context: &StudyContext<'_>) -> Result<Cohort, TrainError> {
        let shared = self.first().cell.recipe.clone();
        let plan = |stack: &Stack| {
            // Where every run starts from an adapter, that has all values but the head's, which may be of other classes.
            let starts = stack.runs.iter().all(|run| run.cell.recipe.start_from.is_some());
            let adapters = if starts { FirstValues::Given } else { first_values };
            StackPlan { first_values: adapters, ..stack.plan.clone() }
        };
        let mut parts: Vec<(StackPlan, Vec<Outputs<'_>>)> = Vec::new();
        for stack in &self.stacks {
            let mut plan = plan(stack);
            if first_values == FirstValues::Init {
                plan.calibrations = calibrate::of_stack(stack, context)?;
            }
            parts.push((plan, stack.runs.iter().map(outputs_of).collect()));
        }
        let network = context.cache.network_with(&shared, &parts, Some(first_values))?;
        let train = &shared.train;
        let adam = Adam { beta1: train.beta1, beta2: train.beta2, epsilon: train.epsilon };
        let mut cohort = Cohort::new(network, self.stacks, train.accumulate, adam);
        cohort.recomputes = train.recompute;
        cohort.changes = self.changes;
        Ok(cohort)
    }

    /// Batches of all its runs.
    pub fn batches(&self, context: &StudyContext<'_>) -> Result<SupervisedBatches, TrainError> {
        let shared = &self.first().cell.recipe;
        let sampler = |run: &RunState| Sampler::of_run(&run.cell.recipe, run.task());
        Ok(SupervisedBatches {
            samplers: self.stacks.iter().map(|stack| stack.runs.iter().map(sampler).collect()).collect(),
            rows: shared.train.batch,
            padding: Padding {
                token: context.cache.base_of(shared)?.pad,
                bucket: if ops::writes_in_place(&context.cache.place().device) { BUCKET } else { 1 },
                at_least: 0,
            },
        })
    }
}

/// The outputs of a run's head.
fn outputs_of(run: &RunState) -> Outputs<'_> {
    Outputs { count: run.task().info.objective.n_outputs(), stored: &run.task().head }
}

/// A cell's run before its first step.
fn run_at_start(cell: &Cell, context: &StudyContext<'_>) -> Result<RunState, TrainError> {
    let task = context.cache.task(&cell.recipe)?;
    let steps = cell.recipe.train.total_steps(task.train.rows.len());
    let start = identity::start_of(cell, context)?;
    Ok(RunState { task: Some(task), start, ..RunState::new(cell.clone(), steps) })
}

/// Puts the adapter on a run that starts from one.
fn warm_start(cohort: &mut Cohort, at: RunAt, context: &StudyContext<'_>) -> Result<(), TrainError> {
    let stack = &cohort.stacks[at.stack];
    let cell = &stack.runs[at.run].cell;
    match &cell.recipe.start_from {
        Some(from) => warm_start::apply(&mut cohort.network, (at, &stack.plan), cell, from, context),
        None => Ok(()),
    }
}
