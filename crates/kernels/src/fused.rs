//! From Burn's tensors to a backend's kernels, and the backward pass of each operation.
//!
//! Burn calls [`Fused`] through its dispatch. On a concrete backend that runs the kernel; under autodiff it also saves what the backward
//! pass needs for the parents that are tracked, and nothing for the others.

#[cfg(feature = "tch")]
use burn::backend::LibTorch;
use burn::backend::{
    Autodiff, Backend, ExtensionType, Flex, TensorMetadata,
    autodiff::{
        NodeId,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    tensor::{FloatTensor, IntTensor},
};

use crate::{
    kernel::{Adam, Drop, Kernels, columns_of, rows_of},
    shared_input_grad::{Contribution, SharedInputGrad, by_run},
};

/// Where dropout acts, if anywhere.
#[derive(ExtensionType)]
pub(crate) enum MaybeDropout<B: Backend> {
    Absent,
    Present { keys: IntTensor<B>, site: u64, p: f64 },
}

/// A tensor that an operation may do without.
#[derive(ExtensionType)]
pub(crate) enum Maybe<B: Backend> {
    Absent,
    Present(FloatTensor<B>),
}

/// The operations as Burn's dispatch sees them.
#[backend_extension(Flex, LibTorch: cfg(feature = "tch"), Autodiff)]
pub(crate) trait Fused: Backend {
    fn fused_dropout(x: FloatTensor<Self>, keys: IntTensor<Self>, site: u64, p: f64) -> FloatTensor<Self>;

    fn fused_norm(
        x: FloatTensor<Self>,
        #[extension_type] residual: Maybe<Self>,
        input_grad: SharedInputGrad,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        #[extension_type] drop: MaybeDropout<Self>,
    ) -> FloatTensor<Self>;

    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        heads: usize,
        scale: f64,
        #[extension_type] drop: MaybeDropout<Self>,
    ) -> FloatTensor<Self>;

    fn fused_varlen_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        starts: IntTensor<Self>,
        longest: usize,
        heads: usize,
        scale: f64,
    ) -> FloatTensor<Self>;

    fn fused_add_product(c: FloatTensor<Self>, x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self>;

    fn fused_affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        start: usize,
        len: usize,
        input_grad: SharedInputGrad,
    ) -> FloatTensor<Self>;

    fn fused_low_rank_down(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        start: usize,
        len: usize,
        input_grad: SharedInputGrad,
    ) -> FloatTensor<Self>;

    fn fused_rows(x: FloatTensor<Self>, start: usize, len: usize, input_grad: SharedInputGrad) -> FloatTensor<Self>;

    fn fused_columns(x: FloatTensor<Self>, start: usize, len: usize, input_grad: SharedInputGrad) -> FloatTensor<Self>;

    fn fused_add_low_rank(
        c: FloatTensor<Self>,
        start: usize,
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn fused_column_norms(
        base: FloatTensor<Self>,
        squares: FloatTensor<Self>,
        down: FloatTensor<Self>,
        up: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn fused_scale_columns(
        x: FloatTensor<Self>,
        magnitude: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
    ) -> FloatTensor<Self>;

    fn fused_assign(target: FloatTensor<Self>, source: FloatTensor<Self>) -> FloatTensor<Self>;

    fn fused_assign_ints(target: IntTensor<Self>, source: IntTensor<Self>) -> IntTensor<Self>;

    fn fused_snapshot(x: FloatTensor<Self>) -> FloatTensor<Self>;

    #[allow(clippy::too_many_arguments, reason = "see `Kernels::adamw`; the macro's copies do not meet an expectation")]
    fn fused_adamw(
        value: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        segment: IntTensor<Self>,
        coefficients: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl<B: Backend> MaybeDropout<B> {
    fn present(self) -> Option<Drop<B>> {
        match self {
            Self::Absent => None,
            Self::Present { keys, site, p } => Some(Drop { keys, site, p }),
        }
    }
}

impl<B: Backend> Maybe<B> {
    fn present(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Present(tensor) => Some(tensor),
        }
    }
}

/// A concrete backend's side: its kernels, nothing kept.
macro_rules! direct {
    ($Backend:ty) => {
        impl Fused for $Backend {
            fn fused_dropout(x: FloatTensor<Self>, keys: IntTensor<Self>, site: u64, p: f64) -> FloatTensor<Self> {
                <Self as Kernels>::dropout(x, Drop { keys, site, p })
            }
            fn fused_norm(
                x: FloatTensor<Self>,
                residual: Maybe<Self>,
                _input_grad: SharedInputGrad,
                gamma: FloatTensor<Self>,
                beta: FloatTensor<Self>,
                epsilon: f64,
                drop: MaybeDropout<Self>,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::norm(x, residual.present(), gamma, beta, epsilon, drop.present()).y
            }
            fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
                <Self as Kernels>::exact_gelu(x)
            }
            fn fused_attention(
                q: FloatTensor<Self>,
                k: FloatTensor<Self>,
                v: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                heads: usize,
                scale: f64,
                drop: MaybeDropout<Self>,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::attend(q, k, v, bias, heads, scale, drop.present(), false).0
            }
            fn fused_varlen_attention(
                q: FloatTensor<Self>,
                k: FloatTensor<Self>,
                v: FloatTensor<Self>,
                starts: IntTensor<Self>,
                longest: usize,
                heads: usize,
                scale: f64,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::attend_varlen(q, k, v, starts, longest, heads, scale, false).0
            }
            fn fused_add_product(
                c: FloatTensor<Self>,
                x: FloatTensor<Self>,
                y: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::add_product(c, x, y)
            }
            fn fused_affine(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: Maybe<Self>,
                start: usize,
                len: usize,
                _input_grad: SharedInputGrad,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::affine(rows_of::<Self>(x, start, len), weight, bias.present())
            }
            fn fused_low_rank_down(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                start: usize,
                len: usize,
                _input_grad: SharedInputGrad,
            ) -> FloatTensor<Self> {
                let runs = weight.shape()[0];
                <Self as Kernels>::product(by_run::<Self>(x, start, len, runs), weight)
            }
            fn fused_rows(
                x: FloatTensor<Self>,
                start: usize,
                len: usize,
                _input_grad: SharedInputGrad,
            ) -> FloatTensor<Self> {
                rows_of::<Self>(x, start, len)
            }
            fn fused_columns(
                x: FloatTensor<Self>,
                start: usize,
                len: usize,
                _input_grad: SharedInputGrad,
            ) -> FloatTensor<Self> {
                columns_of::<Self>(x, start, len)
            }
            fn fused_add_low_rank(
                c: FloatTensor<Self>,
                start: usize,
                x: FloatTensor<Self>,
                y: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::add_product_to_rows(c, start, x, y)
            }
            fn fused_column_norms(
                base: FloatTensor<Self>,
                squares: FloatTensor<Self>,
                down: FloatTensor<Self>,
                up: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::column_norms(base, squares, down, up)
            }
            fn fused_scale_columns(
                x: FloatTensor<Self>,
                magnitude: FloatTensor<Self>,
                norm: FloatTensor<Self>,
                bias: Maybe<Self>,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::scale_columns(x, magnitude, norm, bias.present())
            }
            fn fused_assign(target: FloatTensor<Self>, source: FloatTensor<Self>) -> FloatTensor<Self> {
                <Self as Kernels>::assign(target, source)
            }
            fn fused_assign_ints(target: IntTensor<Self>, source: IntTensor<Self>) -> IntTensor<Self> {
                <Self as Kernels>::assign_ints(target, source)
            }
            fn fused_snapshot(x: FloatTensor<Self>) -> FloatTensor<Self> {
                <Self as Kernels>::snapshot(x)
            }
            fn fused_adamw(
                value: FloatTensor<Self>,
                first: FloatTensor<Self>,
                second: FloatTensor<Self>,
                gradient: FloatTensor<Self>,
                segment: IntTensor<Self>,
                coefficients: FloatTensor<Self>,
                clip: FloatTensor<Self>,
                beta1: f64,
                beta2: f64,
                epsilon: f64,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                let adam = Adam { beta1, beta2, epsilon };
                <Self as Kernels>::adamw(value, first, second, gradient, segment, coefficients, clip, adam)
            }
        }
    };
}

direct!(Flex);
#[cfg(feature = "tch")]
direct!(LibTorch);

#[derive(Debug)]
struct DropoutStep;

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
struct NormState<B: Backend> {
    z: FloatTensor<B>,
    statistics: FloatTensor<B>,
    gamma: FloatTensor<B>,
    drop: Option<Drop<B>>,
    /// Of the residual, where there is a tracked one.
    residual: Option<Consumer>,
}

/// A norm of `dropout(x)` and a residual, or of `x` alone.
#[derive(Debug)]
struct NormStep;

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
struct GeluStep;

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
struct AttentionStep;

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
struct Consumer {
    input_grad: SharedInputGrad,
    start: usize,
    /// The shared input's.
    shape: [usize; 3],
}

impl Consumer {
    fn of<B: Kernels>(x: &FloatTensor<B>, start: usize, input_grad: SharedInputGrad) -> Self {
        let shape = x.shape();
        Self { input_grad, start, shape: [shape[0], shape[1], shape[2]] }
    }
}

/// `x·weight + bias` on some rows; the weight is frozen.
#[derive(Debug)]
struct AffineStep;

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
struct LowRankDownStep;

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
struct RowsStep;

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
struct ColumnsStep;

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
struct AddLowRankStep;

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
struct AddProductStep;

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
struct ScaleColumnsStep;

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

/// What is frozen, without autodiff.
fn inner_tensor<B: Kernels, C: CheckpointStrategy>(tensor: Maybe<Autodiff<B, C>>) -> Option<FloatTensor<B>> {
    match tensor {
        Maybe::Absent => None,
        Maybe::Present(tensor) => Some(tensor.into_primitive()),
    }
}

/// Keys are integers, the same with and without autodiff.
fn inner_dropout<B: Kernels, C: CheckpointStrategy>(dropout: MaybeDropout<Autodiff<B, C>>) -> Option<Drop<B>> {
    match dropout {
        MaybeDropout::Absent => None,
        MaybeDropout::Present { keys, site, p } => Some(Drop { keys, site, p }),
    }
}

impl<B: Kernels, C: CheckpointStrategy> Fused for Autodiff<B, C> {
    fn fused_dropout(x: FloatTensor<Self>, keys: IntTensor<Self>, site: u64, p: f64) -> FloatTensor<Self> {
        let drop = Drop::<B> { keys, site, p };
        match DropoutStep.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(drop.clone(), B::dropout(x.into_primitive(), drop)),
            OpsKind::UnTracked(prep) => prep.finish(B::dropout(x.into_primitive(), drop)),
        }
    }

    fn fused_norm(
        x: FloatTensor<Self>,
        residual: Maybe<Self>,
        input_grad: SharedInputGrad,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        drop: MaybeDropout<Self>,
    ) -> FloatTensor<Self> {
        let (gamma, beta) = (gamma.into_primitive(), beta.into_primitive());
        let drop: Option<Drop<B>> = inner_dropout(drop);
        let state =
            |z, statistics, residual| NormState { z, statistics, gamma: gamma.clone(), drop: drop.clone(), residual };
        let run = |x, residual| B::norm(x, residual, gamma.clone(), beta.clone(), epsilon, drop.clone());
        match residual {
            Maybe::Absent => match NormStep.prepare::<C>([x.node()]).compute_bound().stateful() {
                OpsKind::Tracked(prep) => {
                    let normed = run(x.into_primitive(), None);
                    prep.finish(state(normed.z, normed.statistics, None), normed.y)
                }
                OpsKind::UnTracked(prep) => prep.finish(run(x.into_primitive(), None).y),
            },
            Maybe::Present(residual) => {
                let tracked = residual.is_tracked();
                match NormStep.prepare::<C>([x.node(), residual.node()]).compute_bound().stateful() {
                    OpsKind::Tracked(prep) => {
                        let residual = residual.into_primitive();
                        let at = tracked.then(|| {
                            input_grad.register();
                            Consumer::of::<B>(&residual, 0, input_grad)
                        });
                        let normed = run(x.into_primitive(), Some(residual));
                        prep.finish(state(normed.z, normed.statistics, at), normed.y)
                    }
                    OpsKind::UnTracked(prep) => prep.finish(run(x.into_primitive(), Some(residual.into_primitive())).y),
                }
            }
        }
    }

    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match GeluStep.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let x = x.into_primitive();
                prep.finish(x.clone(), B::exact_gelu(x))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::exact_gelu(x.into_primitive())),
        }
    }

    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        heads: usize,
        scale: f64,
        drop: MaybeDropout<Self>,
    ) -> FloatTensor<Self> {
        let (bias, drop) = (bias.into_primitive(), inner_dropout::<B, C>(drop));
        let prepared = AttentionStep.prepare::<C>([q.node(), k.node(), v.node()]).compute_bound().stateful();
        let (q, k, v) = (q.into_primitive(), k.into_primitive(), v.into_primitive());
        match prepared {
            OpsKind::Tracked(prep) => {
                let (y, kept) = B::attend(q, k, v, bias, heads, scale, drop, true);
                prep.finish(kept.unwrap_or_else(|| unreachable!("attention was asked to keep its state")), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::attend(q, k, v, bias, heads, scale, drop, false).0),
        }
    }

    fn fused_varlen_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        starts: IntTensor<Self>,
        longest: usize,
        heads: usize,
        scale: f64,
    ) -> FloatTensor<Self> {
        let prepared = AttentionStep.prepare::<C>([q.node(), k.node(), v.node()]).compute_bound().stateful();
        let (q, k, v) = (q.into_primitive(), k.into_primitive(), v.into_primitive());
        match prepared {
            OpsKind::Tracked(prep) => {
                let (y, kept) = B::attend_varlen(q, k, v, starts, longest, heads, scale, true);
                prep.finish(kept.unwrap_or_else(|| unreachable!("attention was asked to keep its state")), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::attend_varlen(q, k, v, starts, longest, heads, scale, false).0),
        }
    }

    fn fused_add_product(c: FloatTensor<Self>, x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x_tracked, y_tracked) = (x.is_tracked(), y.is_tracked());
        let prepared = AddProductStep.prepare::<C>([c.node(), x.node(), y.node()]).compute_bound().stateful();
        let (c, x, y) = (c.into_primitive(), x.into_primitive(), y.into_primitive());
        match prepared {
            OpsKind::Tracked(prep) => {
                let state = (y_tracked.then(|| x.clone()), x_tracked.then(|| y.clone()));
                prep.finish(state, B::add_product(c, x, y))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::add_product(c, x, y)),
        }
    }

    fn fused_affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Maybe<Self>,
        start: usize,
        len: usize,
        input_grad: SharedInputGrad,
    ) -> FloatTensor<Self> {
        let (weight, bias) = (weight.into_primitive(), inner_tensor(bias));
        let prepared = AffineStep.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = x.into_primitive();
        match prepared {
            OpsKind::Tracked(prep) => {
                input_grad.register();
                let state = (weight.clone(), Consumer::of::<B>(&x, start, input_grad));
                prep.finish(state, B::affine(rows_of::<B>(x, start, len), weight, bias))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::affine(rows_of::<B>(x, start, len), weight, bias)),
        }
    }

    fn fused_low_rank_down(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        start: usize,
        len: usize,
        input_grad: SharedInputGrad,
    ) -> FloatTensor<Self> {
        let (x_tracked, weight_tracked) = (x.is_tracked(), weight.is_tracked());
        let prepared = LowRankDownStep.prepare::<C>([x.node(), weight.node()]).compute_bound().stateful();
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let at = Consumer::of::<B>(&x, start, input_grad);
        let own = by_run::<B>(x, start, len, weight.shape()[0]);
        match prepared {
            OpsKind::Tracked(prep) => {
                if x_tracked {
                    at.input_grad.register();
                }
                let state = (weight_tracked.then(|| own.clone()), x_tracked.then(|| weight.clone()), at);
                prep.finish(state, B::product(own, weight))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::product(own, weight)),
        }
    }

    fn fused_rows(x: FloatTensor<Self>, start: usize, len: usize, input_grad: SharedInputGrad) -> FloatTensor<Self> {
        let prepared = RowsStep.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = x.into_primitive();
        match prepared {
            OpsKind::Tracked(prep) => {
                input_grad.register();
                prep.finish(Consumer::of::<B>(&x, start, input_grad), rows_of::<B>(x, start, len))
            }
            OpsKind::UnTracked(prep) => prep.finish(rows_of::<B>(x, start, len)),
        }
    }

    fn fused_columns(x: FloatTensor<Self>, start: usize, len: usize, input_grad: SharedInputGrad) -> FloatTensor<Self> {
        let prepared = ColumnsStep.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = x.into_primitive();
        match prepared {
            OpsKind::Tracked(prep) => {
                input_grad.register();
                prep.finish(Consumer::of::<B>(&x, start, input_grad), columns_of::<B>(x, start, len))
            }
            OpsKind::UnTracked(prep) => prep.finish(columns_of::<B>(x, start, len)),
        }
    }

    fn fused_add_low_rank(
        c: FloatTensor<Self>,
        start: usize,
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x_tracked, y_tracked) = (x.is_tracked(), y.is_tracked());
        let prepared = AddLowRankStep.prepare::<C>([c.node(), x.node(), y.node()]).compute_bound().stateful();
        let (c, x, y) = (c.into_primitive(), x.into_primitive(), y.into_primitive());
        match prepared {
            OpsKind::Tracked(prep) => {
                let (runs, n) = (x.shape()[0], x.shape()[1]);
                let len = runs * n / c.shape()[1];
                let state = (y_tracked.then(|| x.clone()), x_tracked.then(|| y.clone()), start, [runs, len]);
                prep.finish(state, B::add_product_to_rows(c, start, x, y))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::add_product_to_rows(c, start, x, y)),
        }
    }

    fn fused_column_norms(
        base: FloatTensor<Self>,
        squares: FloatTensor<Self>,
        down: FloatTensor<Self>,
        up: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let _ = (base, squares, down, up);
        unreachable!("column norms are constants, which is what their callers ask for")
    }

    fn fused_scale_columns(
        x: FloatTensor<Self>,
        magnitude: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        bias: Maybe<Self>,
    ) -> FloatTensor<Self> {
        let (norm, bias) = (norm.into_primitive(), inner_tensor(bias));
        let prepared = ScaleColumnsStep.prepare::<C>([x.node(), magnitude.node()]).compute_bound().stateful();
        let (x, magnitude) = (x.into_primitive(), magnitude.into_primitive());
        match prepared {
            OpsKind::Tracked(prep) => {
                let state = (x.clone(), magnitude.clone(), norm.clone());
                prep.finish(state, B::scale_columns(x, magnitude, norm, bias))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::scale_columns(x, magnitude, norm, bias)),
        }
    }

    fn fused_assign(target: FloatTensor<Self>, source: FloatTensor<Self>) -> FloatTensor<Self> {
        let _ = (target, source);
        unreachable!("a write in place is not differentiated")
    }

    fn fused_assign_ints(target: IntTensor<Self>, source: IntTensor<Self>) -> IntTensor<Self> {
        B::assign_ints(target, source)
    }

    fn fused_snapshot(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let _ = x;
        unreachable!("a snapshot is not differentiated")
    }

    fn fused_adamw(
        value: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        segment: IntTensor<Self>,
        coefficients: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let _ = (value, first, second, gradient, segment, coefficients, clip, beta1, beta2, epsilon);
        unreachable!("an update of the optimizer is not differentiated")
    }
}
