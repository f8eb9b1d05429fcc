//! Kernels for the CPU: loops over slices, compiled for the widest vectors of the machine and shared among its cores.
//!
//! f32 and f64 compute in their own precision, halves in f32. Where a tensor has no other owner, an operation writes over it.

use burn::{
    backend::{
        Flex,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::DType,
};

use crate::kernel::{Adam, Drop, Kernels, Normed};

mod adamw;
mod attention;
mod cayley;
mod dropout;
mod gelu;
mod norm;
mod product;
mod real;
mod storage;
mod tasks;

use storage::{cast, compute_dtype};

/// An expression with `T` the number that an operation on tensors of a precision computes with.
macro_rules! with_real {
    ($dtype:expr, $T:ident => $body:expr) => {
        if compute_dtype($dtype) == DType::F64 {
            type $T = f64;
            $body
        } else {
            type $T = f32;
            $body
        }
    };
}

impl Kernels for Flex {
    type Attended = attention::Attended;

    fn dropout(x: FloatTensor<Self>, drop: Drop<Self>) -> FloatTensor<Self> {
        let dtype = x.dtype();
        cast(with_real!(dtype, T => dropout::dropout::<T>(x, &drop)), dtype)
    }

    fn norm(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        drop: Option<Drop<Self>>,
    ) -> Normed<Self> {
        let dtype = x.dtype();
        let normed = with_real!(dtype, T => norm::norm::<T>(x, residual, gamma, beta, epsilon, drop));
        Normed { y: cast(normed.y, dtype), z: cast(normed.z, dtype), ..normed }
    }

    fn norm_backward(
        dy: FloatTensor<Self>,
        z: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let dtype = dy.dtype();
        cast(with_real!(dtype, T => norm::norm_backward::<T>(dy, z, statistics, gamma)), dtype)
    }

    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = x.dtype();
        cast(with_real!(dtype, T => gelu::gelu::<T>(x)), dtype)
    }

    fn exact_gelu_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = dy.dtype();
        cast(with_real!(dtype, T => gelu::gelu_backward::<T>(x, dy)), dtype)
    }

    fn cayley(q: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = q.dtype();
        cast(with_real!(dtype, T => cayley::cayley::<T>(q)), dtype)
    }

    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        heads: usize,
        scale: f64,
        drop: Option<Drop<Self>>,
        keeps: bool,
    ) -> (FloatTensor<Self>, Option<attention::Attended>) {
        let dtype = q.dtype();
        let (y, kept) = with_real!(dtype, T => attention::attend::<T>(q, k, v, bias, heads, scale, drop, keeps));
        (cast(y, dtype), kept)
    }

    fn attend_varlen(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        starts: IntTensor<Self>,
        _longest: usize,
        heads: usize,
        scale: f64,
        keeps: bool,
    ) -> (FloatTensor<Self>, Option<attention::Attended>) {
        let dtype = q.dtype();
        let (y, kept) = with_real!(dtype, T => attention::attend_varlen::<T>(q, k, v, starts, heads, scale, keeps));
        (cast(y, dtype), kept)
    }

    fn attend_backward(
        dy: FloatTensor<Self>,
        kept: attention::Attended,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let dtype = dy.dtype();
        let (dq, dk, dv) = with_real!(dtype, T => attention::attend_backward::<T>(dy, kept));
        (cast(dq, dtype), cast(dk, dtype), cast(dv, dtype))
    }

    fn add_product(c: FloatTensor<Self>, x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = c.dtype();
        cast(with_real!(dtype, T => product::add_product::<T>(Some(c), x, y)), dtype)
    }

    fn product(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = x.dtype();
        cast(with_real!(dtype, T => product::add_product::<T>(None, x, y)), dtype)
    }

    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: Option<FloatTensor<Self>>) -> FloatTensor<Self> {
        let dtype = x.dtype();
        cast(with_real!(dtype, T => product::affine::<T>(x, weight, bias)), dtype)
    }

    fn adamw(
        value: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        segment: IntTensor<Self>,
        coefficients: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        adam: Adam,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        with_real!(value.dtype(), T => {
            adamw::adamw::<T>(value, first, second, gradient, &segment, coefficients, clip, adam)
        })
    }
}
