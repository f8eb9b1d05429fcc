//! The gradient of an input that several operations share, accumulated in one place.
//!
//! Query, key and value read the same input. Autodiff would add their three input gradients pair by pair, and each addition reads and writes
//! the complete tensor. Here the backward pass of every consumer hands in its contribution, and whichever runs last sums all of them in one
//! fused product.

use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use burn::backend::{
    TensorMetadata,
    autodiff::{NodeId, grads::Gradients},
    tensor::FloatTensor,
};
use burn::tensor::Shape;

use crate::kernel::{Kernels, rows_of};

/// The gradient of one input `[rows, seq, d]` that several operations consume.
///
/// Invariant: either every registered consumer takes part in the loss or none does. If one is left out, the others wait for its contribution
/// and the input gets no gradient at all. An [`InputGradAudit`] finds that out.
#[derive(Clone, Default)]
pub struct SharedInputGrad {
    state: Arc<Mutex<State>>,
    /// Who checks that all contributions arrived, and the site that a report names.
    audit: Option<(InputGradAudit, Arc<str>)>,
}

#[derive(Default)]
struct State {
    /// Consumers that will contribute.
    members: usize,
    /// What arrived of them, each a [`Contribution`] of the backend.
    contributions: Vec<Box<dyn Any + Send>>,
}

/// Checks, after the backward passes of a forward pass, that no shared input lost its gradient.
///
/// Without it a consumer whose output is left out of the loss is silent: the gradient of everything below its input is simply missing. The
/// audit costs one entry in a list per shared input, all on the host: where a device replays a recorded step, nothing is left of it.
#[derive(Clone, Debug, Default)]
pub struct InputGradAudit(Arc<Mutex<Vec<Listed>>>);

/// A shared input, and the site where it is read.
type Listed = (Arc<str>, Arc<Mutex<State>>);

/// A shared input of whose consumers some took part in the loss and some did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostInputGrad {
    /// Where the input is read.
    pub site: String,
    /// Consumers that took part in the loss.
    pub arrived: usize,
    /// Consumers in all.
    pub registered: usize,
}

impl fmt::Display for LostInputGrad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { site, arrived, registered } = self;
        write!(
            f,
            "the gradient of the input of `{site}` is lost: {arrived} of its {registered} consumers took part in the loss, but all of them \
             must, or none"
        )
    }
}

impl std::error::Error for LostInputGrad {}

impl InputGradAudit {
    /// The gradient of an input that is read at `site`, under this audit.
    pub fn input_grad(&self, site: &str) -> SharedInputGrad {
        SharedInputGrad { audit: Some((self.clone(), site.into())), ..SharedInputGrad::default() }
    }

    /// Finds the first shared input that lost its gradient, and forgets all of them. Called once every backward pass is done.
    pub fn check(&self) -> Result<(), LostInputGrad> {
        for (site, state) in std::mem::take(&mut *lock(&self.0)) {
            let State { members, contributions } = &*lock(&state);
            if !contributions.is_empty() {
                return Err(LostInputGrad {
                    site: site.to_string(),
                    arrived: contributions.len(),
                    registered: *members,
                });
            }
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"))
}

/// One consumer's share of the gradient.
pub(crate) enum Contribution<B: Kernels> {
    /// `dy·weightᵀ` on rows from `start` on, `dy` `[len, seq, m]`, `weight` `[d, m]`.
    Shared { dy: FloatTensor<B>, weight: FloatTensor<B>, start: usize },
    /// `dy·weightᵀ` for every run on rows from `start` on, `dy` `[runs, n, m]`, `weight` `[runs, d, m]`.
    Stacked { dy: FloatTensor<B>, weight: FloatTensor<B>, start: usize },
    /// `dx` `[len, seq, d]` itself on rows from `start` on.
    Rows { dx: FloatTensor<B>, start: usize },
    /// `dx` `[rows, seq, m]` of the columns from `start` on. Where one consumer reads columns, all do, and together they read every
    /// column once.
    Columns { dx: FloatTensor<B>, start: usize },
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.contributions.len(), self.members)
    }
}

impl fmt::Debug for SharedInputGrad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedInputGrad({:?})", lock(&self.state))
    }
}

impl SharedInputGrad {
    /// Announces one more consumer whose contribution must be waited for.
    pub(crate) fn register(&self) {
        let members = {
            let mut state = lock(&self.state);
            state.members += 1;
            state.members
        };
        if let (1, Some((audit, site))) = (members, &self.audit) {
            lock(&audit.0).push((site.clone(), self.state.clone()));
        }
    }

    /// The gradient of an input derived from this one, under the same audit.
    #[must_use]
    pub fn derived(&self, what: &str) -> Self {
        match &self.audit {
            Some((audit, site)) => audit.input_grad(&format!("{site}, {what}")),
            None => Self::default(),
        }
    }

    /// Takes one consumer's contribution; the last one registers the sum as the gradient of `node`. `shape` is the input's.
    pub(crate) fn accumulate<B: Kernels>(
        &self,
        contribution: Contribution<B>,
        node: NodeId,
        shape: [usize; 3],
        grads: &mut Gradients,
    ) {
        let contributions = {
            let mut state = lock(&self.state);
            state.contributions.push(Box::new(contribution));
            if state.contributions.len() < state.members {
                return;
            }
            state.members = 0;
            std::mem::take(&mut state.contributions)
        };
        let own = |contribution: Box<dyn Any + Send>| {
            *contribution
                .downcast::<Contribution<B>>()
                .unwrap_or_else(|_| unreachable!("all consumers of a tensor are on one backend"))
        };
        let mut contributions: Vec<Contribution<B>> = contributions.into_iter().map(own).collect();
        // Contributions to every row come first: the others are added to their sum while they are computed.
        contributions.sort_by_key(|contribution| order(contribution, shape[0]));
        let gradient = match columns(&contributions) {
            Some(columns) => B::float_cat(columns, 2),
            None => sum(concatenated(contributions), shape),
        };
        grads.register::<B>(node, gradient);
    }
}

fn order<B: Kernels>(contribution: &Contribution<B>, rows: usize) -> (usize, usize) {
    match contribution {
        Contribution::Rows { dx, .. } if dx.shape()[0] == rows => (0, 0),
        Contribution::Shared { dy, .. } if dy.shape()[0] == rows => (1, 0),
        Contribution::Shared { start, .. } => (2, *start),
        Contribution::Rows { start, .. } => (3, *start),
        Contribution::Stacked { start, .. } => (4, *start),
        Contribution::Columns { start, .. } => (5, *start),
    }
}

/// The gradients of the columns, where every consumer reads columns.
fn columns<B: Kernels>(contributions: &[Contribution<B>]) -> Option<Vec<FloatTensor<B>>> {
    let of = |contribution: &Contribution<B>| match contribution {
        Contribution::Columns { dx, .. } => Some(dx.clone()),
        Contribution::Shared { .. } | Contribution::Stacked { .. } | Contribution::Rows { .. } => None,
    };
    contributions.iter().map(of).collect()
}

/// Low-rank products on the same rows as one, by concatenating their factors: `[a | b]·[u | v]ᵀ = a·uᵀ + b·vᵀ`.
fn concatenated<B: Kernels>(contributions: Vec<Contribution<B>>) -> Vec<Contribution<B>> {
    let mut out: Vec<Contribution<B>> = Vec::new();
    for contribution in contributions {
        if let Contribution::Stacked { dy, weight, start } = &contribution
            && let Some(Contribution::Stacked { dy: left, weight: up, start: at }) = out.last_mut()
            && at == start
            && left.shape()[..2] == dy.shape()[..2]
        {
            *left = B::float_cat(vec![left.clone(), dy.clone()], 2);
            *up = B::float_cat(vec![up.clone(), weight.clone()], 2);
        } else {
            out.push(contribution);
        }
    }
    out
}

fn transposed<B: Kernels>(weight: FloatTensor<B>) -> FloatTensor<B> {
    // A view; a change of shape after it would be a copy.
    let axes = weight.shape().num_dims();
    B::float_swap_dims(weight, axes - 2, axes - 1)
}

fn sum<B: Kernels>(contributions: Vec<Contribution<B>>, [rows, seq, d]: [usize; 3]) -> FloatTensor<B> {
    let mut all: Option<FloatTensor<B>> = None;
    for contribution in contributions {
        let so_far = |like: &FloatTensor<B>, all: Option<FloatTensor<B>>| {
            all.unwrap_or_else(|| B::float_zeros(Shape::new([rows, seq, d]), &like.device(), like.dtype().into()))
        };
        all = Some(match contribution {
            Contribution::Shared { dy, weight, start } => match all {
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
            Contribution::Stacked { dy, weight, start } => {
                let all = so_far(&dy, all);
                B::add_product_to_rows(all, start, dy, transposed::<B>(weight))
            }
            Contribution::Columns { .. } => unreachable!("an input whose columns are read is read in no other way"),
            Contribution::Rows { dx, start } => match all {
                None if dx.shape()[0] == rows => dx,
                other => B::add_to_rows(so_far(&dx, other), start, dx),
            },
        });
    }
    all.unwrap_or_else(|| unreachable!("a contribution was just handed in"))
}

/// Rows of `x` as one matrix per run, `[runs, len·seq/runs, d]`.
pub(crate) fn by_run<B: Kernels>(x: FloatTensor<B>, start: usize, len: usize, runs: usize) -> FloatTensor<B> {
    let shape = x.shape();
    let own = rows_of::<B>(x, start, len);
    B::float_reshape(own, Shape::new([runs, len * shape[1] / runs, shape[2]]))
}
