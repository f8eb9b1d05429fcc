//! What one forward pass is told: which components are active and which dropout bits fall.

use burn::tensor::Tensor;

use crate::host::Place;

/// Where in a run the dropout masks of a pass are taken from.
#[derive(Clone, Debug)]
pub struct DropoutClock {
    /// One key per run of the stack.
    pub seeds: Vec<u64>,
    /// Optimizer step.
    pub step: u64,
    /// Micro-batch within the step.
    pub micro: u64,
}

/// How an adapter's rank-one components enter a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Active {
    /// All of them, at the scale of the full rank.
    All,
    /// The first `b` of each run, at the scale of rank `b` (DyLoRA).
    Prefix(Vec<usize>),
    /// The first `b`, or all where a map has fewer, at the scale of the full rank (plain truncation).
    Truncated(usize),
}

/// One stack's part of a pass.
#[derive(Clone, Debug)]
pub struct StackPass {
    /// Runs in the stack.
    pub runs: usize,
    /// Active components.
    pub active: Active,
    /// Present in training, absent in evaluation.
    pub dropout: Option<DropoutClock>,
}

impl StackPass {
    /// Evaluation with every component.
    pub fn plain(runs: usize) -> Self {
        Self { runs, active: Active::All, dropout: None }
    }
}

/// One pass of a cohort: its stacks in the order of their rows.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The stacks.
    pub stacks: Vec<StackPass>,
}

impl Pass {
    /// Evaluation of one stack with every component.
    pub fn plain(runs: usize) -> Self {
        Self { stacks: vec![StackPass::plain(runs)] }
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

/// The gate of a pass, `[runs, 1, rank]`: scale where active, zero elsewhere. `scales` maps a rank to `s`
/// for each run.
pub fn gate(
    active: &Active,
    rank: usize,
    scales: &dyn Fn(usize, usize) -> f64,
    runs: usize,
    place: &Place,
) -> Tensor<3> {
    let mut values = vec![0.0; runs * rank];
    for (run, line) in values.chunks_mut(rank).enumerate() {
        let (width, scale) = match active {
            Active::All => (rank, scales(run, rank)),
            Active::Prefix(ranks) => (ranks[run], scales(run, ranks[run])),
            Active::Truncated(width) => ((*width).min(rank), scales(run, rank)),
        };
        line[..width].fill(scale);
    }
    place.tensor(values, [runs, 1, rank])
}
