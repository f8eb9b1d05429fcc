//! From Burn's tensors to a backend's kernels, and the backward pass of each operation.
//!
//! Burn calls [`Fused`] through its dispatch. On a concrete backend that runs the kernel; under autodiff it also saves what the backward
//! pass needs for the parents that are tracked, and nothing for the others.

mod autodiff;
mod backward;

#[cfg(feature = "tch")]
use burn::backend::LibTorch;
use burn::backend::{
    Backend, ExtensionType, Flex, TensorMetadata, backend_extension,
    tensor::{FloatTensor, IntTensor},
};

use crate::{
    kernel::{Adam, Drop, Kernels, columns_of, rows_of},
    shared_input_grad::{SharedInputGrad, by_run},
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

    fn fused_cayley(q: FloatTensor<Self>) -> FloatTensor<Self>;

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
            fn fused_cayley(q: FloatTensor<Self>) -> FloatTensor<Self> {
                <Self as Kernels>::cayley(q)
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
