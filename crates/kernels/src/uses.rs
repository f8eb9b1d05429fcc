//! Several uses of one tensor, whose gradients are summed in one place.
//!
//! Autodiff adds the gradients of a tensor's uses pair by pair, and each addition reads and writes the whole tensor. Products can be summed
//! while they are computed: the backward pass of a use leaves its part here, and the last one sums all of them.

use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex},
};

use burn::backend::{
    TensorMetadata,
    autodiff::{NodeId, grads::Gradients},
    tensor::FloatTensor,
};
use burn::tensor::Shape;

use crate::kernel::{Kernels, rows_of};

/// The uses of one tensor `[rows, seq, d]`. Every use that is told of them must reach the loss, or none.
#[derive(Clone, Default)]
pub struct Uses(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Uses that expect a gradient.
    members: usize,
    /// Their parts, each a [`Part`] of the backend.
    parts: Vec<Box<dyn Any + Send>>,
}

/// A use's share of the gradient.
pub(crate) enum Part<B: Kernels> {
    /// `dy·weightᵀ` on rows from `start` on, `dy` `[len, seq, m]`, `weight` `[d, m]`.
    Shared { dy: FloatTensor<B>, weight: FloatTensor<B>, start: usize },
    /// `dy·weightᵀ` for every run on rows from `start` on, `dy` `[runs, n, m]`, `weight` `[runs, d, m]`.
    Stacked { dy: FloatTensor<B>, weight: FloatTensor<B>, start: usize },
    /// `dx` `[len, seq, d]` itself on rows from `start` on.
    Rows { dx: FloatTensor<B>, start: usize },
    /// `dx` `[rows, seq, m]` of the columns from `start` on. Where a tensor is used so, all its uses are, and have every column once.
    Columns { dx: FloatTensor<B>, start: usize },
}

impl fmt::Debug for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        write!(f, "Uses({} of {})", state.parts.len(), state.members)
    }
}

impl Uses {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"))
    }

    /// One more use that expects a gradient.
    pub(crate) fn join(&self) {
        self.state().members += 1;
    }

    /// A use's part; the last one registers the sum for `node`. `shape` is the tensor's.
    pub(crate) fn leave<B: Kernels>(&self, part: Part<B>, node: NodeId, shape: [usize; 3], grads: &mut Gradients) {
        let parts = {
            let mut state = self.state();
            state.parts.push(Box::new(part));
            if state.parts.len() < state.members {
                return;
            }
            state.members = 0;
            std::mem::take(&mut state.parts)
        };
        let own = |part: Box<dyn Any + Send>| {
            *part.downcast::<Part<B>>().unwrap_or_else(|_| unreachable!("a tensor's uses are on one backend"))
        };
        let mut parts: Vec<Part<B>> = parts.into_iter().map(own).collect();
        // What covers every row first: it is the sum that the others are added to, while they are computed.
        parts.sort_by_key(|part| order(part, shape[0]));
        let whole = match columns(&parts) {
            Some(columns) => B::float_cat(columns, 2),
            None => sum(together(parts), shape),
        };
        grads.register::<B>(node, whole);
    }
}

fn order<B: Kernels>(part: &Part<B>, rows: usize) -> (usize, usize) {
    match part {
        Part::Rows { dx, .. } if dx.shape()[0] == rows => (0, 0),
        Part::Shared { dy, .. } if dy.shape()[0] == rows => (1, 0),
        Part::Shared { start, .. } => (2, *start),
        Part::Rows { start, .. } => (3, *start),
        Part::Stacked { start, .. } => (4, *start),
        Part::Columns { start, .. } => (5, *start),
    }
}

/// The gradients of a tensor's columns, where its uses are of columns.
fn columns<B: Kernels>(parts: &[Part<B>]) -> Option<Vec<FloatTensor<B>>> {
    let of = |part: &Part<B>| match part {
        Part::Columns { dx, .. } => Some(dx.clone()),
        Part::Shared { .. } | Part::Stacked { .. } | Part::Rows { .. } => None,
    };
    parts.iter().map(of).collect()
}

/// Thin products on the same rows as one: their factors side by side, `[a | b]·[u | v]ᵀ = a·uᵀ + b·vᵀ`.
fn together<B: Kernels>(parts: Vec<Part<B>>) -> Vec<Part<B>> {
    let mut out: Vec<Part<B>> = Vec::new();
    for part in parts {
        if let Part::Stacked { dy, weight, start } = &part
            && let Some(Part::Stacked { dy: left, weight: up, start: at }) = out.last_mut()
            && at == start
            && left.shape()[..2] == dy.shape()[..2]
        {
            *left = B::float_cat(vec![left.clone(), dy.clone()], 2);
            *up = B::float_cat(vec![up.clone(), weight.clone()], 2);
        } else {
            out.push(part);
        }
    }
    out
}

fn transposed<B: Kernels>(weight: FloatTensor<B>) -> FloatTensor<B> {
    // A view; a change of shape after it would be a copy.
    let axes = weight.shape().num_dims();
    B::float_swap_dims(weight, axes - 2, axes - 1)
}

fn sum<B: Kernels>(parts: Vec<Part<B>>, [rows, seq, d]: [usize; 3]) -> FloatTensor<B> {
    let mut all: Option<FloatTensor<B>> = None;
    for part in parts {
        let so_far = |like: &FloatTensor<B>, all: Option<FloatTensor<B>>| {
            all.unwrap_or_else(|| B::float_zeros(Shape::new([rows, seq, d]), &like.device(), like.dtype().into()))
        };
        all = Some(match part {
            Part::Shared { dy, weight, start } => match all {
                None if dy.shape()[0] == rows => B::affine(dy, transposed::<B>(weight), None),
                other => {
                    let len = dy.shape()[0];
                    let all = so_far(&dy, other);
                    let m = dy.shape()[2];
                    let dy = B::float_reshape(dy, Shape::new([1, len * seq, m]));
                    let weight = B::float_reshape(weight, Shape::new([1, d, m]));
                    B::add_product_to_rows(all, start, dy, transposed::<B>(weight))
                }
            },
            Part::Stacked { dy, weight, start } => {
                let all = so_far(&dy, all);
                B::add_product_to_rows(all, start, dy, transposed::<B>(weight))
            }
            Part::Columns { .. } => unreachable!("a tensor whose columns are used is used in no other way"),
            Part::Rows { dx, start } => match all {
                None if dx.shape()[0] == rows => dx,
                other => B::add_to_rows(so_far(&dx, other), start, dx),
            },
        });
    }
    all.unwrap_or_else(|| unreachable!("a part was just left"))
}

/// Rows of `x` as one matrix per run, `[runs, len·seq/runs, d]`.
pub(crate) fn by_run<B: Kernels>(x: FloatTensor<B>, start: usize, len: usize, runs: usize) -> FloatTensor<B> {
    let shape = x.shape();
    let own = rows_of::<B>(x, start, len);
    B::float_reshape(own, Shape::new([runs, len * shape[1] / runs, shape[2]]))
}
