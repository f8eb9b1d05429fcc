//! The operations under autodiff: the forward kernel, and what of its operands the backward pass needs.

use burn::backend::{
    Autodiff, TensorMetadata,
    autodiff::{
        checkpoint::strategy::CheckpointStrategy,
        ops::{Backward, OpsKind},
    },
    tensor::{FloatTensor, IntTensor},
};

use super::{
    Fused, Maybe, MaybeDropout,
    backward::{
        AddLowRankStep, AddProductStep, AffineStep, AttentionStep, CayleyStep, ColumnsStep, Consumer, DropoutStep,
        GeluStep, LowRankDownStep, NormState, NormStep, RowsStep, ScaleColumnsStep,
    },
};
use crate::{
    kernel::{Drop, Kernels, columns_of, rows_of},
    shared_input_grad::{SharedInputGrad, by_run},
};

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

    fn fused_cayley(q: FloatTensor<Self>) -> FloatTensor<Self> {
        match CayleyStep.prepare::<C>([q.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let r = B::cayley(q.into_primitive());
                prep.finish(r.clone(), r)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::cayley(q.into_primitive())),
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
