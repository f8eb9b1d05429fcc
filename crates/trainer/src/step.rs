//! One optimizer step of every run of a cohort. [`Cohort::enqueue`] is the whole of it, in the order in which it happens.
//!
//! A step has two halves. The host plans: it draws batches, ranks, learning rates and dropout keys ([`plan`]) and uploads them in one
//! buffer ([`inputs`]). The device computes (`Cohort::compute`): from that buffer and the cohort's state alone it forms gradients
//! ([`gradients`]), clips and updates ([`optimizer`]), and leaves losses and norms for the host to read when it needs them ([`report`]).
//! Because the device's half reads nothing else, a device that records kernels runs it once and then replays it ([`replay`]).

pub mod base_update;
pub mod checkpointing;
pub mod gates;
pub mod gradients;
pub mod importance;
pub mod inputs;
pub mod layout;
pub mod optimizer;
pub mod pending;
pub mod plan;
pub mod pruning;
pub mod replay;
pub mod report;

use burn::tensor::Tensor;

use self::{
    gradients::StackGradients,
    inputs::DeviceInputs,
    layout::{StackLayout, StepLayout},
    optimizer::squared_norm,
    pending::Pending,
    report::StepReport,
};
use crate::{
    batch::{BatchSource, HostBatch},
    cohort::Cohort,
};

impl Cohort {
    /// One optimizer step of every active run, and what it did.
    pub fn advance(&mut self, source: &dyn BatchSource) -> StepReport {
        self.enqueue(source);
        self.flush().pop().unwrap_or_else(|| unreachable!("a step was just enqueued"))
    }

    /// One optimizer step of every active run. The device may still be computing on return; [`flush`](Self::flush) waits for its results.
    pub fn enqueue(&mut self, source: &dyn BatchSource) {
        let first = self.step * self.accumulate as u64;
        let batches: Vec<HostBatch> =
            (0..self.accumulate as u64).map(|micro| source.batch(&self.network, first + micro)).collect();
        self.lay_out_parameters();
        let (layout, buffer, mut facts) = self.plan(batches);
        let inputs = buffer.upload(self.place());
        let results = self.run_or_replay(layout, inputs);
        self.prune();
        self.set_gates(source);
        self.update_bases();
        self.count_components(&mut facts);
        self.pending.push(Pending { step: self.step, results, facts });
        self.step += 1;
    }

    /// Runs the device's half of the step, by replaying a recording of it where the device has one.
    fn run_or_replay(&mut self, layout: StepLayout, inputs: DeviceInputs) -> Tensor<1> {
        let device = self.place().device.clone();
        let mut recordings = std::mem::take(&mut self.recordings);
        let results = recordings.run(&device, layout, inputs, &mut |layout, inputs| self.compute(layout, inputs));
        self.recordings = recordings;
        results
    }

    /// The device's half of a step: a function of the cohort's state and `inputs` alone. Returns, stack by stack, the task losses, penalties,
    /// squared gradient norms and counts of what a threshold left of all runs, `[RESULTS · runs]` per stack in one tensor.
    fn compute(&mut self, layout: &StepLayout, inputs: &DeviceInputs) -> Tensor<1> {
        let gradients = self.accumulate_gradients(layout, inputs);
        let mut results = Vec::new();
        for (index, of_stack) in gradients.into_iter().enumerate() {
            let (task, penalty) = (of_stack.task_loss(), of_stack.penalty.clone());
            let square = self.clip_and_update(index, &of_stack, &layout.stacks[index], inputs);
            let penalty = penalty.unwrap_or_else(|| square.zeros_like());
            let left = self.stacks[index].components_left().unwrap_or_else(|| square.zeros_like());
            results.extend([task, penalty, square, left]);
        }
        Tensor::cat(results, 0)
    }

    /// Clips the gradients of one stack, updates its tensors and its importance averages; returns the squared gradient norms, `[runs]`.
    fn clip_and_update(
        &mut self,
        index: usize,
        gradients: &StackGradients,
        layout: &StackLayout,
        inputs: &DeviceInputs,
    ) -> Tensor<1> {
        let preconditioners = self.network.preconditioners(index);
        let stack = &mut self.stacks[index];
        let runs = stack.runs.len();
        let segments = layout.coefficients.len() / (4 * runs);
        let coefficients = inputs.floats(layout.coefficients, [runs, segments, 4]);
        let mut gradient = stack.optimizer.gather(&gradients.by_parameter);
        if let Some(visible) = layout.visible {
            gradient = stack.optimizer.visible(gradient, inputs.floats(visible, [runs, segments]));
        }
        let (raw, square) = (gradient.clone(), squared_norm(gradient.clone()));
        let [limits, running] = [layout.limits, layout.running].map(|slice| inputs.floats(slice, [runs]));
        let clip = stack.optimizer.clip(&square, &gradients.task_loss(), limits, running);
        if !preconditioners.is_empty() {
            gradient = stack.optimizer.gather_preconditioned(&gradients.by_parameter, &preconditioners);
        }
        if let Some(pulls) = layout.pulls {
            stack.optimizer.decay_toward_targets(inputs.floats(pulls, [runs, segments]), &clip);
        }
        stack.optimizer.update(gradient, coefficients, clip.clone(), self.adam);
        if let Some(thresholds) = layout.thresholds {
            stack.optimizer.shrink_diagonals(inputs.floats(thresholds, [runs, 1]));
        }
        self.bind_views(index);
        if let Some(observing) = layout.observing {
            let network = &self.network;
            let observing = inputs.floats(observing, [runs, 1]);
            self.stacks[index].observe(raw, &clip, observing, || network.contributions(index));
        }
        square
    }
}

#[cfg(test)]
mod tests;
