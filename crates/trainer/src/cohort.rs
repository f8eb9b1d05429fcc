//! A cohort: runs that train at the same time over one frozen base. What one optimizer step of them is, is in [`step`](crate::step).

use burn::tensor::Tensor;
use models::network::Network;
use record::{CohortChange, MemoryUse};
use variants::{host::Placement, slot::StackPlan, spec::Variant};

use crate::{
    step::{
        importance::Importance,
        optimizer::{Adam, ParamSlice, StackOptimizer},
        pending::Pending,
        replay::Recordings,
    },
    study::run_state::{RunAt, RunState},
};

/// Runs that share a composition, and what trains them.
#[derive(Debug)]
pub struct Stack {
    /// Its runs, in the order of their rows.
    pub runs: Vec<RunState>,
    /// Composition, seeds and targets.
    pub plan: StackPlan,
    /// Trained tensors and moments.
    pub optimizer: StackOptimizer,
    /// Importance averages, where the rank policy keeps them.
    pub importance: Importance,
    /// 1 where a diagonal's number is pruned, `[runs, n]`, once anything is.
    pub pruned: Option<Tensor<2>>,
}

/// A cohort in training.
#[derive(Debug)]
pub struct Cohort {
    /// Backbone, adapters, heads.
    pub network: Network,
    /// Its stacks.
    pub stacks: Vec<Stack>,
    /// Steps done.
    pub step: u64,
    /// Micro-batches per step.
    pub accumulate: usize,
    /// Adam's constants.
    pub adam: Adam,
    /// Steps whose results the host has not read.
    pub(crate) pending: Vec<Pending>,
    /// Recorded steps.
    pub recordings: Recordings,
    /// What it took of its device's memory, once that is known.
    pub memory: Option<MemoryUse>,
    /// How its make-up changed before its first step.
    pub changes: Vec<CohortChange>,
    /// Activation checkpointing: whether the backward pass computes each layer again instead of keeping its activations.
    pub recomputes: bool,
}

impl Stack {
    /// A stack at its start.
    pub fn new(runs: Vec<RunState>, plan: StackPlan) -> Self {
        let (optimizer, importance) = (StackOptimizer::default(), Importance::default());
        Self { runs, plan, optimizer, importance, pruned: None }
    }

    /// Its composition.
    pub(crate) fn variant(&self) -> &Variant {
        &self.plan.variant
    }
}

impl Cohort {
    /// A cohort at its start.
    pub fn new(network: Network, stacks: Vec<Stack>, accumulate: usize, adam: Adam) -> Self {
        Self {
            network,
            stacks,
            step: 0,
            accumulate,
            adam,
            pending: Vec::new(),
            recordings: Recordings::default(),
            memory: None,
            changes: Vec::new(),
            recomputes: false,
        }
    }

    /// Every run, stack by stack.
    pub fn runs(&self) -> impl Iterator<Item = &RunState> {
        self.stacks.iter().flat_map(|stack| &stack.runs)
    }

    /// Every run, stack by stack, to change it.
    pub fn runs_mut(&mut self) -> impl Iterator<Item = &mut RunState> {
        self.stacks.iter_mut().flat_map(|stack| &mut stack.runs)
    }

    /// Where every run is, in the same order.
    pub fn addresses(&self) -> Vec<RunAt> {
        let of_stack = |(stack, of): (usize, &Stack)| (0..of.runs.len()).map(move |run| RunAt { stack, run });
        self.stacks.iter().enumerate().flat_map(of_stack).collect()
    }

    /// The run at an address.
    pub fn at(&self, at: RunAt) -> &RunState {
        &self.stacks[at.stack].runs[at.run]
    }

    /// The run at an address, to change it.
    pub fn at_mut(&mut self, at: RunAt) -> &mut RunState {
        &mut self.stacks[at.stack].runs[at.run]
    }

    /// Bytes of the gradients of everything that trains.
    pub fn gradient_bytes(&self) -> u64 {
        let of_stack =
            |stack: &Stack| stack.optimizer.slices().iter().map(ParamSlice::len).sum::<usize>() * stack.runs.len();
        (self.stacks.iter().map(of_stack).sum::<usize>() * self.place().dtype.size()) as u64
    }

    /// Device and precision of its tensors.
    pub(crate) fn place(&self) -> &Placement {
        self.network.backbone.place()
    }

    /// Whether any run still trains.
    pub fn is_active(&self) -> bool {
        self.runs().any(|run| run.trains_at(self.step))
    }

    /// The longest run's length.
    pub fn total_steps(&self) -> u64 {
        self.runs().map(|run| run.steps).max().unwrap_or(0)
    }
}
