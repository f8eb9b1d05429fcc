//! The context of one forward pass: which components are active, and the keys of its dropout masks.

use std::collections::BTreeMap;

use burn::tensor::{Int, Tensor};
use kernels::{
    bits,
    ops::{self, InputGradAudit, SharedInputGrad},
};

use crate::{calibration::InputProbe, host::Placement, routing::RouterProbe};

/// The point in their training at which runs draw the dropout masks of a pass.
#[derive(Clone, Debug)]
pub struct DropoutClock {
    /// One seed per run of the pass, stack by stack.
    pub seeds: Vec<u64>,
    /// Optimizer step.
    pub step: u64,
    /// Micro-batch within the step.
    pub micro: u64,
}

impl DropoutClock {
    /// The runs' keys in this pass.
    pub fn keys(&self) -> Vec<u64> {
        self.seeds.iter().map(|seed| bits::run_key(*seed, self.step, self.micro)).collect()
    }
}

/// How an adapter's rank-one components enter a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Active {
    /// All of them, at the scale of the full rank.
    All,
    /// The first `b` of each run, at the scale of rank `b` (DyLoRA).
    Prefix(Vec<usize>),
    /// The first `b`, or all where a map has fewer, at the scale of the full rank: truncation.
    Truncated(usize),
}

/// What a gate depends on within one stack and pass: the rank of a map, and the bits of every run's `α` there.
pub type GateKey = (usize, Vec<u64>);

/// One stack's part of a pass.
#[derive(Clone, Debug)]
pub struct StackPass {
    /// Runs in the stack.
    pub runs: usize,
    /// Active components.
    pub active: Active,
    /// One dropout key per run, `[runs]`: present in training, absent in evaluation.
    pub keys: Option<Tensor<1, Int>>,
    /// Gates that were uploaded before the pass, `[runs, 1, rank]` each; others are uploaded where they are needed.
    pub gates: BTreeMap<GateKey, Tensor<3>>,
}

impl StackPass {
    /// Evaluation with every component.
    pub fn evaluation(runs: usize) -> Self {
        Self::with(runs, Active::All)
    }

    /// Evaluation with `active` components.
    pub fn with(runs: usize, active: Active) -> Self {
        Self { runs, active, keys: None, gates: BTreeMap::new() }
    }
}

/// One pass of a cohort: its stacks in the order of their rows.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The stacks.
    pub stacks: Vec<StackPass>,
    /// The dropout keys of all runs, stack by stack, `[runs]`: present in training.
    pub keys: Option<Tensor<1, Int>>,
    /// The last layer's output, `[rows, seq, d]`, where the layers were computed before: activation checkpointing.
    pub last_hidden: Option<Tensor<3>>,
    /// Where maps show their inputs, in a pass that calibrates.
    pub inputs: Option<InputProbe>,
    /// Where routers show what they do, in a pass of one run that looks at them.
    pub routers: Option<RouterProbe>,
    /// Finds inputs that lost their gradients in this pass; to be checked after its backward passes.
    pub audit: InputGradAudit,
}

impl Pass {
    /// Evaluation of stacks.
    pub fn of(stacks: Vec<StackPass>) -> Self {
        Self { stacks, keys: None, last_hidden: None, inputs: None, routers: None, audit: InputGradAudit::default() }
    }

    /// Evaluation of one stack with every component.
    pub fn evaluation(runs: usize) -> Self {
        Self::of(vec![StackPass::evaluation(runs)])
    }

    /// The same pass in training, at a clock.
    #[must_use]
    pub fn dropping(self, clock: &DropoutClock, place: &Placement) -> Self {
        self.keyed(ops::keys(&clock.keys(), &place.device))
    }

    /// The same pass in training, with the runs' keys, `[runs]`.
    #[must_use]
    pub fn keyed(mut self, keys: Tensor<1, Int>) -> Self {
        let mut start = 0;
        for stack in &mut self.stacks {
            stack.keys = Some(keys.clone().slice([start..start + stack.runs]));
            start += stack.runs;
        }
        self.keys = Some(keys);
        self
    }

    /// The gradient of an input of this pass that is read at `site`.
    pub fn input_grad(&self, site: &str) -> SharedInputGrad {
        self.audit.input_grad(site)
    }

    /// Runs in all stacks.
    pub fn runs(&self) -> usize {
        self.stacks.iter().map(|stack| stack.runs).sum()
    }
}

/// `rows` of `x` split by stack: `[rows, seq, d]` to one `[runs, rows/runs · seq, d]` per stack.
pub fn split(x: &Tensor<3>, pass: &Pass) -> Vec<Tensor<3>> {
    let [rows, seq, width] = x.dims();
    let per_run = rows / pass.runs();
    if let [stack] = pass.stacks.as_slice() {
        return vec![x.clone().reshape([stack.runs, per_run * seq, width])];
    }
    let mut start = 0;
    pass.stacks
        .iter()
        .map(|stack| {
            let here = start..start + stack.runs * per_run;
            start = here.end;
            x.clone().slice([here]).reshape([stack.runs, per_run * seq, width])
        })
        .collect()
}

/// The inverse of [`split`]: `[runs, n, d]` per stack to `[rows, seq, d]`.
pub fn join(mut parts: Vec<Tensor<3>>, rows: usize, seq: usize) -> Tensor<3> {
    let width = parts[0].dims()[2];
    if parts.len() == 1 {
        return parts.remove(0).reshape([rows, seq, width]);
    }
    let parts = parts
        .into_iter()
        .map(|part| {
            let [runs, n, _] = part.dims();
            part.reshape([runs * n / seq, seq, width])
        })
        .collect();
    Tensor::cat(parts, 0) // [rows, seq, d]
}

/// The gate of a pass, `[runs, rank]` row-major: scale where active, zero elsewhere. `scales` maps a run and a rank to `s`.
pub fn gate_values(active: &Active, rank: usize, scales: &dyn Fn(usize, usize) -> f64, runs: usize) -> Vec<f64> {
    let mut values = vec![0.0; runs * rank];
    for (run, line) in values.chunks_mut(rank).enumerate() {
        let (width, scale) = match active {
            Active::All => (rank, scales(run, rank)),
            Active::Prefix(ranks) => (ranks[run], scales(run, ranks[run])),
            Active::Truncated(width) => ((*width).min(rank), scales(run, rank)),
        };
        line[..width].fill(scale);
    }
    values
}

/// The gate of a pass on the device, `[runs, 1, rank]`.
pub fn gate(
    active: &Active,
    rank: usize,
    scales: &dyn Fn(usize, usize) -> f64,
    runs: usize,
    place: &Placement,
) -> Tensor<3> {
    place.tensor(gate_values(active, rank, scales, runs), [runs, 1, rank])
}
