//! Activation checkpointing (`train.recompute`): the forward pass keeps only the input of each layer, and the backward pass computes one
//! layer at a time again, with autodiff on. Memory then holds the activations of one layer instead of all.

use burn::tensor::Tensor;
use models::tokens::Tokens;
use variants::{host::inner, pass::Pass};

use super::gradients::StackGradients;
use crate::cohort::Cohort;

impl Cohort {
    /// Runs all layers without autodiff and returns the input of each. The output of the last one goes into the pass as a leaf of the
    /// graph, from which the loss is then computed.
    pub(super) fn checkpoint_inputs(&self, tokens: &Tokens, pass: &mut Pass) -> Vec<Tensor<3>> {
        let backbone = self.network.frozen().backbone;
        let mut x = backbone.embed(tokens, pass);
        let mut inputs = Vec::new();
        for layer in 0..backbone.depth() {
            inputs.push(x.clone());
            x = backbone.layer(layer, x, tokens, pass);
        }
        pass.last_hidden = Some(inner(&x).autodiff().require_grad());
        inputs
    }

    /// Carries `gradient`, that of the last layer's output, down to the embeddings: computes each layer again from its input, from the last
    /// to the first, and collects the gradients of its parameters.
    pub(super) fn backward_checkpointed(
        &mut self,
        mut inputs: Vec<Tensor<3>>,
        mut gradient: Tensor<3>,
        tokens: &Tokens,
        pass: &Pass,
        sums: &mut [StackGradients],
    ) {
        // The gradient of Σ y∘g by y is g.
        let back = |y: Tensor<3>, gradient: Tensor<3>| (y * gradient.autodiff()).sum().backward();
        while let Some(input) = inputs.pop() {
            let x = inner(&input).autodiff().require_grad();
            let y = self.network.backbone.layer(inputs.len(), x.clone(), tokens, pass);
            let mut gradients = back(y, gradient);
            self.collect(&mut gradients, sums);
            gradient =
                x.grad_remove(&mut gradients).unwrap_or_else(|| unreachable!("a layer's output depends on its input"));
        }
        let x = self.network.backbone.embed(tokens, pass);
        // Where nothing trains below the layers, `x` is not tracked and has no backward pass; a tracked zero gives it an empty one.
        let zero = gradient.zeros_like().autodiff().require_grad();
        self.collect(&mut back(x + zero, gradient), sums);
    }
}
