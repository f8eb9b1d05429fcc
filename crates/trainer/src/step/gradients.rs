//! Gradients of a step: the sums over its micro-batches, by parameter.

use burn::tensor::{Gradients, Tensor};
use variants::host::{cast, inner};

use super::{
    inputs::{DeviceInputs, Slice},
    layout::{MicroLayout, StepLayout},
};
use crate::{
    batch::forward,
    cohort::{Cohort, Stack},
};

/// What one stack's losses gave, summed over micro-batches.
#[derive(Clone, Debug, Default)]
pub struct StackGradients {
    /// One per tensor of [`Network::parameters`](models::network::Network::parameters), in its order, `[runs, rows, cols]`; none where nothing
    /// trains.
    pub by_parameter: Vec<Option<Tensor<3>>>,
    /// The task's loss of every run, `[runs]`.
    task: Option<Tensor<1>>,
    /// The penalty of every run, `[runs]`, where the composition has one.
    pub penalty: Option<Tensor<1>>,
}

impl StackGradients {
    /// The task's loss of every run, `[runs]`.
    pub fn task_loss(&self) -> Tensor<1> {
        self.task.clone().unwrap_or_else(|| unreachable!("every stack has a loss"))
    }
}

impl Cohort {
    /// Concatenates the trained tensors of every stack, before the first step. A tensor receives a gradient exactly where its role
    /// trains: a slot that the forward pass leaves out holds no tensors.
    pub(super) fn lay_out_parameters(&mut self) {
        let place = self.place().clone();
        for index in 0..self.stacks.len() {
            let stack = &mut self.stacks[index];
            if stack.optimizer.is_laid_out() {
                continue;
            }
            let nested = stack.is_nested(self.step);
            let roles = stack.variant().spec().train.clone();
            stack.optimizer.lay_out(self.network.parameters(index), &roles, nested, &place);
            self.bind_views(index);
        }
    }

    /// Puts the optimizer's tensors into the network, which computes with views of them.
    pub(super) fn bind_views(&mut self, index: usize) {
        let optimizer = &self.stacks[index].optimizer;
        let mut tensors = self.network.tensors(index);
        for slice in optimizer.slices() {
            tensors[slice.parameter].tensor.set(optimizer.value(slice));
        }
    }

    /// Gradients, task losses and penalties of every stack, summed over all micro-batches.
    pub(super) fn accumulate_gradients(&mut self, layout: &StepLayout, inputs: &DeviceInputs) -> Vec<StackGradients> {
        let mut sums = vec![StackGradients::default(); self.stacks.len()];
        self.network.track();
        for micro in 0..layout.micros.len() {
            let mut pass = self.pass(layout, micro, inputs);
            let batch = layout.micros[micro].batch.read(inputs);
            let checkpoints =
                if self.recomputes { self.checkpoint_inputs(&batch.tokens, &mut pass) } else { Vec::new() };
            let losses = forward::losses(&self.network, &batch, &pass);
            let shares = self.shares(&layout.micros[micro], inputs);
            let total = self.total_loss(losses, shares, layout, inputs, &mut sums);
            let mut gradients = total.backward();
            self.collect(&mut gradients, &mut sums);
            let last = pass.last_hidden.take().and_then(|last| last.grad_remove(&mut gradients));
            if let Some(gradient) = last {
                self.backward_checkpointed(checkpoints, gradient, &batch.tokens, &pass, &mut sums);
            }
            pass.audit.check().unwrap_or_else(|lost| unreachable!("{lost}"));
        }
        sums
    }

    /// What the loss of every run weighs in its step's, `[runs]` by stack; nothing where the step is one micro-batch.
    fn shares(&self, micro: &MicroLayout, inputs: &DeviceInputs) -> Vec<Tensor<1>> {
        let of_stack = |(slice, stack): (&Slice, &Stack)| inputs.floats(*slice, [stack.runs.len()]);
        micro.shares.iter().zip(&self.stacks).map(of_stack).collect()
    }

    /// The one number that is differentiated: the sum over runs and stacks of losses, each times its share of the step's, and penalties.
    /// Adds what it is made of to the sums.
    fn total_loss(
        &self,
        losses: Vec<Tensor<1>>,
        shares: Vec<Tensor<1>>,
        layout: &StepLayout,
        inputs: &DeviceInputs,
        sums: &mut [StackGradients],
    ) -> Tensor<1> {
        let dtype = self.place().dtype;
        let mut shares = shares.into_iter();
        let mut total: Option<Tensor<1>> = None;
        for (index, (loss, sums)) in losses.into_iter().zip(sums).enumerate() {
            let mut loss = cast(&loss, dtype);
            if let Some(share) = shares.next() {
                loss = loss * share;
            }
            add(&mut sums.task, &loss);
            let mut sum = loss.sum();
            for (penalty, weight) in self.stacks[index].variant().spec().penalties() {
                let Some(value) = self.network.penalty(index, penalty) else { continue };
                // The same in every micro-batch, and once in the step.
                let mut term = value * (weight / self.accumulate as f64);
                if let Some(changing) = layout.stacks[index].changing.filter(|_| penalty.ends_with_pruning()) {
                    term = term * inputs.floats(changing, [self.stacks[index].runs.len()]);
                }
                add(&mut sums.penalty, &term);
                sum = sum + term.sum();
            }
            total = Some(total.map_or(sum.clone(), |t| t + sum));
        }
        total.unwrap_or_else(|| unreachable!("a cohort has stacks"))
    }

    /// Adds this micro-batch's gradients to the sums of every stack.
    pub(super) fn collect(&mut self, gradients: &mut Gradients, sums: &mut [StackGradients]) {
        for (index, sums) in sums.iter_mut().enumerate() {
            let tensors = self.network.tensors(index);
            sums.by_parameter.resize(tensors.len(), None);
            for (param, sum) in tensors.into_iter().zip(&mut sums.by_parameter) {
                let Some(gradient) = param.tensor.grad_remove(gradients) else { continue };
                *sum = Some(match sum.take() {
                    Some(earlier) => earlier + gradient,
                    None => gradient,
                });
            }
        }
    }
}

/// Adds a tensor's values to a sum.
fn add(sum: &mut Option<Tensor<1>>, tensor: &Tensor<1>) {
    let term = inner(tensor);
    *sum = Some(match sum.take() {
        Some(sum) => sum + term,
        None => term,
    });
}
