//! What a backend implements: forward and backward of every fused operation, on raw tensors.
//!
//! An operation is declared in ten places, since Burn's backend extension, automatic differentiation and LibTorch each need a declaration
//! of their own. A macro over all of them would hide more than it saves. In the order in which one writes them:
//!
//! | place | what it says of the operation |
//! |---|---|
//! | [`ops`](crate::ops) | the function that other crates call, and when the composed form is used |
//! | `ops/composed.rs` | the form out of Burn's differentiable operations, which tests compare with |
//! | [`Kernels`], here | forward and backward on raw tensors; a default where a backend's own operations do |
//! | `fused.rs`, trait `Fused` | its signature for Burn's dispatch |
//! | `fused.rs`, macro `direct!` | on a concrete backend: the forward kernel, nothing saved |
//! | `fused/autodiff.rs`, `fused/backward.rs` | what is saved for the backward pass, and the gradients that it registers |
//! | `flex.rs` and a file of `flex/` | the kernel for the CPU |
//! | `libtorch.rs`, `libtorch/aten.rs` | LibTorch's side, and the form out of its own operations where there is no CUDA kernel |
//! | `libtorch/cuda.rs`, `libtorch/kernels.cu` | the CUDA kernel and its launch |
//! | `libtorch/ffi.rs`, `libtorch/shim.cpp` | a function of LibTorch that its bindings lack |
//!
//! Inputs may have any layout (views, transposed, broadcast); results are newly allocated and contiguous. An operation computes in the
//! precision of its first tensor but accumulates sums in f32 or wider. A gradient arrives in the precision of the output it belongs to.

use std::fmt::Debug;

use burn::{
    backend::{
        Backend, TensorMetadata,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{Shape, Slice},
};

use crate::columns;

/// Where dropout acts in one operation.
#[derive(Clone, Debug)]
pub struct Drop<B: Backend> {
    /// One key per run, `[runs]`, 64-bit: [`run_key`](crate::bits::run_key). Rows are the runs' in their order, the same number for each.
    pub keys: IntTensor<B>,
    /// [`site`](crate::bits::site).
    pub site: u64,
    /// Probability, in `(0, 1)`. A kept value is multiplied by `1/(1 − p)`.
    pub p: f64,
}

/// Adam's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

/// The widest matrix that [`Kernels::cayley`] takes: one that a block of threads holds in f64.
pub(crate) const LARGEST_CAYLEY: usize = 64;

/// What [`Kernels::norm`] gives.
#[derive(Clone, Debug)]
pub struct Normed<B: Backend> {
    /// `γ·(z − mean)·rstd + β`, `[rows, seq, d]`, in the precision of `x`.
    pub y: FloatTensor<B>,
    /// `residual + dropout(x)`, or `x` itself where there is neither, `[rows, seq, d]`.
    pub z: FloatTensor<B>,
    /// Mean and reciprocal deviation of every line, `[rows·seq, 2]`, f32 at least.
    pub statistics: FloatTensor<B>,
}

/// Rows `start..start + len` of `x` `[rows, seq, d]`, a view where the backend has views.
pub(crate) fn rows_of<B: Backend>(x: FloatTensor<B>, start: usize, len: usize) -> FloatTensor<B> {
    if len == x.shape()[0] {
        return x;
    }
    let shape = x.shape();
    B::float_slice(x, &[Slice::from(start..start + len), Slice::from(0..shape[1]), Slice::from(0..shape[2])])
}

/// Columns `start..start + len` of `x` `[rows, seq, d]`, a view where the backend has views.
pub(crate) fn columns_of<B: Backend>(x: FloatTensor<B>, start: usize, len: usize) -> FloatTensor<B> {
    let shape = x.shape();
    B::float_slice(x, &[Slice::from(0..shape[0]), Slice::from(0..shape[1]), Slice::from(start..start + len)])
}

fn put_rows<B: Backend>(x: FloatTensor<B>, start: usize, rows: FloatTensor<B>) -> FloatTensor<B> {
    let (shape, len) = (x.shape(), rows.shape()[0]);
    let at = [Slice::from(start..start + len), Slice::from(0..shape[1]), Slice::from(0..shape[2])];
    B::float_slice_assign(x, &at, rows)
}

/// The fused operations of a backend.
pub trait Kernels: Backend {
    /// What attention saves for its backward pass.
    type Attended: Clone + Debug + Send + 'static;

    /// `x` with dropped values at 0 and kept ones multiplied by `1/(1 − p)`; `x` `[rows, positions, features]`. Its own adjoint.
    fn dropout(x: FloatTensor<Self>, drop: Drop<Self>) -> FloatTensor<Self>;

    /// Layer norm of `residual + dropout(x)` over the last axis: `mean = Σz/d`, `rstd = 1/√(Σ(z − mean)²/d + ε)`. `x` and `residual`
    /// `[rows, seq, d]`, `gamma` and `beta` `[d]`.
    fn norm(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        drop: Option<Drop<Self>>,
    ) -> Normed<Self>;

    /// `∂/∂z` of [`norm`](Self::norm): `rstd·(g − mean(g) − ẑ·mean(g·ẑ))` with `g = γ·dy`, `ẑ = (z − mean)·rstd`.
    fn norm_backward(
        dy: FloatTensor<Self>,
        z: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// `x·Φ(x)`, exact.
    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `dy·(Φ(x) + x·φ(x))`.
    fn exact_gelu_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The Cayley transforms `(I − Q)·(I + Q)⁻¹`; `q` `[n, b, b]`, `Qᵀ = −Q`, `b` at most [`LARGEST_CAYLEY`].
    fn cayley(q: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `∂/∂Q` of [`cayley`](Self::cayley) from its value `R`. With `(I + Q)⁻¹ = (R + I)/2` it is `−½·(R + I)ᵀ·dR·(R + I)ᵀ`, here as
    /// `−½·(P + P·Rᵀ)` of `P = dR + Rᵀ·dR`.
    fn cayley_backward(r: FloatTensor<Self>, dr: FloatTensor<Self>) -> FloatTensor<Self> {
        let turned = Self::float_swap_dims(r, 1, 2);
        let half = Self::add_product(dr.clone(), turned.clone(), dr);
        Self::float_mul_scalar(Self::add_product(half.clone(), half, turned), (-0.5).into())
    }

    /// `dropout(softmax(scale·q·kᵀ + bias))·v` for every head. `q`, `k`, `v` `[rows, seq, heads·d_head]`, `bias` `[rows, 1, 1 or seq, seq]`
    /// with 0 where a key may be seen and a large negative number where not. Dropout's position is `query·heads + head`, its feature the
    /// key. Gives `[rows, seq, heads·d_head]`.
    #[expect(clippy::too_many_arguments, reason = "three operands, the mask and three settings")]
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        heads: usize,
        scale: f64,
        drop: Option<Drop<Self>>,
        keeps: bool,
    ) -> (FloatTensor<Self>, Option<Self::Attended>);

    /// Gradients of `q`, `k`, `v`, each `[rows, seq, heads·d_head]`.
    fn attend_backward(
        dy: FloatTensor<Self>,
        kept: Self::Attended,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// [`attend`](Self::attend) within each of several packed sequences, without mask and dropout. `q`, `k`, `v`
    /// `[lines, n, heads·d_head]`; `starts` `[sequences + 1]` has the flat index of every sequence's first token, and the number
    /// of tokens; no sequence is longer than `longest`. Its gradients are [`attend_backward`](Self::attend_backward)'s.
    ///
    /// Called where [`supports_varlen`](crate::ops::supports_varlen) says that there is a kernel, and there only.
    #[expect(clippy::too_many_arguments, reason = "three operands, their offsets and three settings")]
    fn attend_varlen(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        starts: IntTensor<Self>,
        longest: usize,
        heads: usize,
        scale: f64,
        keeps: bool,
    ) -> (FloatTensor<Self>, Option<Self::Attended>) {
        let _ = (q, k, v, starts, longest, heads, scale, keeps);
        unreachable!("asked for a kernel that is not here")
    }

    /// `c` with `x·y` added to its rows from `start` on, run by run; `c` `[rows, seq, m]`, `x` `[runs, n, k]`, `y` `[runs, k, m]`. In place
    /// where nothing else holds `c`.
    fn add_product_to_rows(
        c: FloatTensor<Self>,
        start: usize,
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ([rows, seq, m], [runs, n]) = ([c.shape()[0], c.shape()[1], c.shape()[2]], [x.shape()[0], x.shape()[1]]);
        let len = runs * n / seq;
        if len == rows {
            let sum = Self::add_product(Self::float_reshape(c, Shape::new([runs, n, m])), x, y);
            return Self::float_reshape(sum, Shape::new([rows, seq, m]));
        }
        let own = rows_of::<Self>(c.clone(), start, len);
        let sum = Self::add_product(Self::float_reshape(own, Shape::new([runs, n, m])), x, y);
        put_rows::<Self>(c, start, Self::float_reshape(sum, Shape::new([len, seq, m])))
    }

    /// `c` with `x` added to its rows from `start` on; `c` `[rows, seq, m]`, `x` `[len, seq, m]`. In place where nothing else holds `c`.
    fn add_to_rows(c: FloatTensor<Self>, start: usize, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let len = x.shape()[0];
        if len == c.shape()[0] {
            return Self::float_add(c, x);
        }
        let sum = Self::float_add(rows_of::<Self>(c.clone(), start, len), x);
        put_rows::<Self>(c, start, sum)
    }

    /// `c + x·y` for every run; `c` `[runs, n, m]`, `x` `[runs, n, k]`, `y` `[runs, k, m]`.
    fn add_product(c: FloatTensor<Self>, x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_add(c, Self::product(x, y))
    }

    /// `x·y` for every run; `x` `[runs, n, k]`, `y` `[runs, k, m]`.
    fn product(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(x, y)
    }

    /// `x·weight + bias` over the last axis; `x` `[.., d_in]`, `weight` `[d_in, d_out]`, `bias` `[d_out]`.
    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: Option<FloatTensor<Self>>) -> FloatTensor<Self> {
        Self::linear(x, weight, bias)
    }

    /// Norms of the columns of `base + down·up` for every run, `[runs, 1, m]`, f32 at least; `base` `[d, m]`, `squares` `[1, 1, m]` the
    /// squared norms of its columns, `down` `[runs, d, k]` and `up` `[runs, k, m]` f32 at least.
    ///
    /// Without a kernel no dense product is formed: `n² = squares + 2⟨baseᵀ·down, upᵀ⟩ + diag(upᵀ·downᵀ·down·up)`, clamped at 0.
    fn column_norms(
        base: FloatTensor<Self>,
        squares: FloatTensor<Self>,
        down: FloatTensor<Self>,
        up: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        columns::norms::<Self>(base, squares, down, up)
    }

    /// `(magnitude/norm)∘x + bias` for every run; `x` `[runs, n, m]`, `magnitude` and `norm` `[runs, 1, m]` f32 at least, `bias` `[m]`.
    /// Where a norm is 0 the factor is 1.
    fn scale_columns(
        x: FloatTensor<Self>,
        magnitude: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        columns::scale::<Self>(x, magnitude, norm, bias)
    }

    /// Gradients of [`scale_columns`](Self::scale_columns): `(magnitude/norm)∘dy`, and `Σ dy∘x / norm` over the rows of every run in the
    /// precision of `norm`, 0 where the norm is.
    fn scale_columns_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        magnitude: FloatTensor<Self>,
        norm: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        columns::scale_backward::<Self>(dy, x, magnitude, norm)
    }

    /// `source` in `target`'s place. A backend that writes in place writes `target`'s storage, through every view, and gives it; another
    /// gives `source`.
    fn assign(target: FloatTensor<Self>, source: FloatTensor<Self>) -> FloatTensor<Self> {
        let _ = target;
        source
    }

    /// [`assign`](Self::assign) of whole numbers.
    fn assign_ints(target: IntTensor<Self>, source: IntTensor<Self>) -> IntTensor<Self> {
        let _ = target;
        source
    }

    /// A tensor that no later write in place reaches.
    fn snapshot(x: FloatTensor<Self>) -> FloatTensor<Self> {
        x
    }

    /// One AdamW update of flat stacked tensors, torch's order of operations.
    ///
    /// `value`, `first`, `second` and `gradient` `[runs, n]`, f32 or f64. `segment` `[n]` (64-bit) names each column's row of
    /// `coefficients` `[runs, segments, 4]`: `η/(1−β₁ᵗ)`, `1/√(1−β₂ᵗ)`, `1 − η·λ`, and 1 where the segment is updated, 0 where not.
    /// `clip` `[runs]` multiplies the gradient; where it is negative or not finite the run is not updated.
    ///
    /// ```text
    /// g ← clip·g      m ← β₁m + (1−β₁)g      v ← β₂v + (1−β₂)g²
    /// p ← keep·p − step·m/(root·√v + ε)
    /// ```
    ///
    /// What is not updated keeps value and moments, whatever the gradient holds. A backend may write in place, through every view.
    /// Gives `value`, `first`, `second`.
    #[expect(clippy::too_many_arguments, reason = "a tensor, its moments, and what the step says of them")]
    fn adamw(
        value: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        segment: IntTensor<Self>,
        coefficients: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        adam: Adam,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}
