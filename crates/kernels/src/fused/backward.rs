//! The backward pass of every fused operation: what the forward pass saved for it, and the gradients it registers.

use burn::backend::{
    Backend, TensorMetadata,
    autodiff::{
        NodeId,
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::FloatTensor,
};

use crate::{
    kernel::{Drop, Kernels},
    shared_input_grad::{Contribution, SharedInputGrad, by_run},
};

#[derive(Debug)]
pub(super) struct DropoutStep;

impl<B: Kernels> Backward<B, 1> for DropoutStep {
    type State = Drop<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, B::dropout(dy, ops.state));
        }
    }
}

/// What the backward pass of a norm needs.
#[derive(Clone, Debug)]
pub(super) struct NormState<B: Backend> {
    pub(super) z: FloatTensor<B>,
    pub(super) statistics: FloatTensor<B>,
    pub(super) gamma: FloatTensor<B>,
    pub(super) drop: Option<Drop<B>>,
    /// Of the residual, where there is a tracked one.
    pub(super) residual: Option<Consumer>,
}

/// A norm of `dropout(x)` and a residual, or of `x` alone.
#[derive(Debug)]
pub(super) struct NormStep;

impl<B: Kernels> NormState<B> {
    /// `∂/∂z`.
    fn input_gradient(&self, dy: FloatTensor<B>) -> FloatTensor<B> {
        B::norm_backward(dy, self.z.clone(), self.statistics.clone(), self.gamma.clone())
    }
}

impl<B: Kernels> Backward<B, 2> for NormStep {
    type State = NormState<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x, residual] = ops.parents;
        let dz = ops.state.input_gradient(grads.consume::<B>(&ops.node));
        if let (Some(node), Some(Consumer { input_grad, start, shape })) = (residual, ops.state.residual) {
            input_grad.accumulate::<B>(Contribution::Rows { dx: dz.clone(), start }, node.id, shape, grads);
        }
        if let Some(x) = x {
            let dx = match ops.state.drop {
                Some(drop) => B::dropout(dz, drop),
                None => dz,
            };
            grads.register::<B>(x.id, dx);
        }
    }
}

impl<B: Kernels> Backward<B, 1> for NormStep {
    type State = NormState<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x] = ops.parents;
        let dz = ops.state.input_gradient(grads.consume::<B>(&ops.node));
        if let Some(x) = x {
            let dx = match ops.state.drop {
                Some(drop) => B::dropout(dz, drop),
                None => dz,
            };
            grads.register::<B>(x.id, dx);
        }
    }
}

#[derive(Debug)]
pub(super) struct GeluStep;

impl<B: Kernels> Backward<B, 1> for GeluStep {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, B::exact_gelu_backward(ops.state, dy));
        }
    }
}

#[derive(Debug)]
pub(super) struct CayleyStep;

impl<B: Kernels> Backward<B, 1> for CayleyStep {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let dr = grads.consume::<B>(&ops.node);
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, B::cayley_backward(ops.state, dr));
        }
    }
}

#[derive(Debug)]
pub(super) struct AttentionStep;

impl<B: Kernels> Backward<B, 3> for AttentionStep {
    type State = B::Attended;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let parents = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (dq, dk, dv) = B::attend_backward(dy, ops.state);
        for (parent, gradient) in parents.into_iter().zip([dq, dk, dv]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// The gradients of a product's factors; one is kept where the other is tracked.
fn factors<B: Kernels>(
    [x, y]: [Option<NodeId>; 2],
    (kept_x, kept_y): (Option<FloatTensor<B>>, Option<FloatTensor<B>>),
    dy: &FloatTensor<B>,
    grads: &mut Gradients,
) {
    if let (Some(x), Some(y)) = (x, kept_y) {
        grads.register::<B>(x, B::product(dy.clone(), B::float_swap_dims(y, 1, 2)));
    }
    if let (Some(y), Some(x)) = (y, kept_x) {
        grads.register::<B>(y, B::product(B::float_swap_dims(x, 1, 2), dy.clone()));
    }
}

/// An operation that reads a shared input: where its contribution to the input's gradient goes.
#[derive(Clone, Debug)]
pub(super) struct Consumer {
    pub(super) input_grad: SharedInputGrad,
    pub(super) start: usize,
    /// The shared input's.
    pub(super) shape: [usize; 3],
}

impl Consumer {
    pub(super) fn of<B: Kernels>(x: &FloatTensor<B>, start: usize, input_grad: SharedInputGrad) -> Self {
        let shape = x.shape();
        Self { input_grad, start, shape: [shape[0], shape[1], shape[2]] }
    }
}

/// `x·weight + bias` on some rows; the weight is frozen.
#[derive(Debug)]
pub(super) struct AffineStep;

impl<B: Kernels> Backward<B, 1> for AffineStep {
    type State = (FloatTensor<B>, Consumer);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (weight, Consumer { input_grad, start, shape }) = ops.state;
        if let Some(x) = x {
            input_grad.accumulate::<B>(Contribution::Shared { dy, weight, start }, x.id, shape, grads);
        }
    }
}

/// `x·weight` for every run on some rows. `x` is kept where the weight is tracked, and the weight where `x` is.
#[derive(Debug)]
pub(super) struct LowRankDownStep;

impl<B: Kernels> Backward<B, 2> for LowRankDownStep {
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>, Consumer);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, weight_node] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (x, weight, Consumer { input_grad, start, shape }) = ops.state;
        if let (Some(node), Some(x)) = (weight_node, x) {
            grads.register::<B>(node.id, B::product(B::float_swap_dims(x, 1, 2), dy.clone()));
        }
        if let (Some(node), Some(weight)) = (x_node, weight) {
            input_grad.accumulate::<B>(Contribution::Stacked { dy, weight, start }, node.id, shape, grads);
        }
    }
}

/// Some rows.
#[derive(Debug)]
pub(super) struct RowsStep;

impl<B: Kernels> Backward<B, 1> for RowsStep {
    type State = Consumer;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x] = ops.parents;
        let dx = grads.consume::<B>(&ops.node);
        let Consumer { input_grad, start, shape } = ops.state;
        if let Some(x) = x {
            input_grad.accumulate::<B>(Contribution::Rows { dx, start }, x.id, shape, grads);
        }
    }
}

/// Some columns.
#[derive(Debug)]
pub(super) struct ColumnsStep;

impl<B: Kernels> Backward<B, 1> for ColumnsStep {
    type State = Consumer;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x] = ops.parents;
        let dx = grads.consume::<B>(&ops.node);
        let Consumer { input_grad, start, shape } = ops.state;
        if let Some(x) = x {
            input_grad.accumulate::<B>(Contribution::Columns { dx, start }, x.id, shape, grads);
        }
    }
}

/// `c` with `x·y` added to some rows; a factor is kept where the other one is tracked.
#[derive(Debug)]
pub(super) struct AddLowRankStep;

impl<B: Kernels> Backward<B, 3> for AddLowRankStep {
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>, usize, [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [c, x, y] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (kept_x, kept_y, start, [runs, len]) = ops.state;
        let own = by_run::<B>(dy.clone(), start, len, runs);
        if let (Some(x), Some(y)) = (x, kept_y) {
            grads.register::<B>(x.id, B::product(own.clone(), B::float_swap_dims(y, 1, 2)));
        }
        if let (Some(y), Some(x)) = (y, kept_x) {
            grads.register::<B>(y.id, B::product(B::float_swap_dims(x, 1, 2), own));
        }
        if let Some(c) = c {
            grads.register::<B>(c.id, dy);
        }
    }
}

/// `c + x·y`; a factor is kept where the other one is tracked.
#[derive(Debug)]
pub(super) struct AddProductStep;

impl<B: Kernels> Backward<B, 3> for AddProductStep {
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [c, x, y] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (kept_x, kept_y) = ops.state;
        factors::<B>([x, y].map(|parent| parent.map(|parent| parent.id)), (kept_x, kept_y), &dy, grads);
        if let Some(c) = c {
            grads.register::<B>(c.id, dy);
        }
    }
}

/// `(magnitude/norm)∘x + bias`; the norm is a constant.
#[derive(Debug)]
pub(super) struct ScaleColumnsStep;

impl<B: Kernels> Backward<B, 2> for ScaleColumnsStep {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, magnitude_node] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (x, magnitude, norm) = ops.state;
        let (dx, dm) = B::scale_columns_backward(dy, x, magnitude, norm);
        for (node, gradient) in [(x_node, dx), (magnitude_node, dm)] {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
