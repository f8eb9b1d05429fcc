//! Steps whose results the host has not read.

use burn::tensor::Tensor;

use super::optimizer::RunStep;

/// Numbers that the device returns of every run's step.
pub const RESULTS: usize = 4;

/// A step that is done or under way on the device.
#[derive(Debug)]
pub struct Pending {
    pub(super) step: u64,
    /// [`RESULTS`] numbers of every run, as the device's half of the step returns them.
    pub(super) results: Tensor<1>,
    /// By stack and run.
    pub(super) facts: Vec<Vec<RunFacts>>,
}

/// What the host knows of a run's part in a step.
#[derive(Clone, Copy, Debug)]
pub struct RunFacts {
    pub(super) rate: f64,
    pub(super) tokens: u64,
    pub(super) active: bool,
    /// Components that it has left, where a policy prunes.
    pub(super) components: Option<u64>,
}

impl RunFacts {
    pub(super) fn new(run: &RunStep, tokens: u64) -> Self {
        Self { rate: run.rate, tokens, active: run.active, components: None }
    }
}
