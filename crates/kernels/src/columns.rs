//! The columns of a product out of a backend's own operations: what runs where there is no kernel.
//!
//! The equations are those of [`Kernels`](crate::kernel::Kernels).

use burn::{
    backend::{Backend, TensorMetadata, tensor::FloatTensor},
    tensor::Shape,
};

/// 1 where a norm is positive and 0 where it is 0, and the norm with 1 in place of 0.
fn guarded<B: Backend>(norm: FloatTensor<B>) -> [FloatTensor<B>; 2] {
    let there = B::float_sign(norm.clone());
    let empty = B::float_add_scalar(B::float_neg(there.clone()), 1.0.into());
    [there, B::float_add(norm, empty)]
}

/// `magnitude/norm`, 1 where the norm is 0.
fn factor<B: Backend>(magnitude: FloatTensor<B>, norm: FloatTensor<B>) -> FloatTensor<B> {
    let [there, safe] = guarded::<B>(norm);
    let empty = B::float_add_scalar(B::float_neg(there.clone()), 1.0.into());
    B::float_add(B::float_mul(B::float_div(magnitude, safe), there), empty)
}

pub(crate) fn norms<B: Backend>(
    base: FloatTensor<B>,
    squares: FloatTensor<B>,
    down: FloatTensor<B>,
    up: FloatTensor<B>,
) -> FloatTensor<B> {
    let [d, m] = [base.shape()[0], base.shape()[1]];
    let base = B::float_reshape(B::float_cast(base, down.dtype().into()), Shape::new([1, d, m]));
    let down_t = B::float_swap_dims(down.clone(), 1, 2); // [runs, k, d]
    let cross = B::float_matmul(down_t.clone(), base); // [runs, k, m]
    let square = B::float_matmul(B::float_matmul(down_t, down), up.clone()); // [runs, k, m]
    let both = B::float_add(B::float_mul_scalar(cross, 2.0.into()), square);
    let change = B::float_sum_dim(B::float_mul(both, up), 1);
    B::float_sqrt(B::float_clamp_min(B::float_add(change, squares), 0.0.into()))
}

pub(crate) fn scale<B: Backend>(
    x: FloatTensor<B>,
    magnitude: FloatTensor<B>,
    norm: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let (factor, dtype) = (factor::<B>(magnitude, norm), x.dtype());
    let y = B::float_mul(x, B::float_cast(factor, dtype.into()));
    match bias {
        Some(bias) => {
            let m = bias.shape()[0];
            B::float_add(y, B::float_reshape(B::float_cast(bias, dtype.into()), Shape::new([1, 1, m])))
        }
        None => y,
    }
}

pub(crate) fn scale_backward<B: Backend>(
    dy: FloatTensor<B>,
    x: FloatTensor<B>,
    magnitude: FloatTensor<B>,
    norm: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let wide = norm.dtype();
    let [there, safe] = guarded::<B>(norm.clone());
    let [dy_wide, x] = [dy.clone(), x].map(|tensor| B::float_cast(tensor, wide.into()));
    let sum = B::float_sum_dim(B::float_mul(dy_wide, x), 1); // [runs, 1, m]
    let (factor, dtype) = (factor::<B>(magnitude, norm), dy.dtype());
    let dx = B::float_mul(dy, B::float_cast(factor, dtype.into()));
    (dx, B::float_mul(B::float_div(sum, safe), there))
}
