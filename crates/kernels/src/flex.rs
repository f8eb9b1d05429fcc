//! Kernels for the CPU.

use burn::backend::{
    Backend, Flex,
    ops::{ActivationOps, FloatTensorOps},
    tensor::{FloatTensor, IntTensor},
};

use crate::kernel::{Adam, Drop, Kernels, Normed};

impl Kernels for Flex {
    type Attended = ();

    fn dropout(x: FloatTensor<Self>, drop: Drop<Self>) -> FloatTensor<Self> {
        todo!()
    }
    fn norm(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        drop: Option<Drop<Self>>,
    ) -> Normed<Self> {
        todo!()
    }
    fn norm_backward(
        dy: FloatTensor<Self>,
        z: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        todo!()
    }
    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        todo!()
    }
    fn exact_gelu_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        todo!()
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
    ) -> (FloatTensor<Self>, Option<()>) {
        todo!()
    }
    fn attend_backward(dy: FloatTensor<Self>, kept: ()) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        todo!()
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
        todo!()
    }
}
