//! Where the numbers of a step lie in the upload buffer.

use variants::pass::GateKey;

use super::inputs::Slice;
use crate::batch::BatchLayout;

/// Where the numbers of a step lie in the upload buffer. Steps with equal layouts are the same computation on other numbers, so that one
/// recording serves them all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StepLayout {
    /// One per micro-batch.
    pub micros: Vec<MicroLayout>,
    /// One per stack.
    pub stacks: Vec<StackLayout>,
}

/// Where a micro-batch lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MicroLayout {
    /// Its tokens and what its losses read.
    pub batch: BatchLayout,
    /// The dropout key of every run of every stack.
    pub keys: Slice,
    /// By stack, what the loss of every run weighs in its step's, `[runs]`; empty where the step is this micro-batch alone.
    pub shares: Vec<Slice>,
}

/// Where a stack's optimizer settings lie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StackLayout {
    /// Gates of the forward pass, where the rank policy draws ranks.
    pub gates: Vec<(GateKey, Slice)>,
    /// Learning rates, bias corrections and decay, `[runs, segments, 4]`.
    pub coefficients: Slice,
    /// What decay toward a tensor's target takes of the way, `[runs, segments]`; none where no tensor has one.
    pub pulls: Option<Slice>,
    /// 1 for segments whose gradient counts, `[runs, segments]`; none where every one's does.
    pub visible: Option<Slice>,
    /// The clipping threshold of every run.
    pub limits: Slice,
    /// 1 for runs that still train.
    pub running: Slice,
    /// 1 for runs whose importance averages take this step in; none where no run's do.
    pub observing: Option<Slice>,
    /// What every run's diagonals are shrunk by, `[runs]`; none where the policy has no threshold.
    pub thresholds: Option<Slice>,
    /// 1 for runs whose ranks still change, `[runs]`; none where no penalty asks.
    pub changing: Option<Slice>,
}
