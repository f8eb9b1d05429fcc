//! The leading singular triplets of a dense map, with a bound on their error.
//!
//! Block Golub-Kahan bidiagonalisation from a Gaussian block, with full reorthogonalisation (Golub, Luk and Overton 1981; as a
//! randomised method Musco and Musco, *Randomized Block Krylov Methods for Stronger and Faster Approximate Singular Value
//! Decomposition*, NeurIPS 2015, arXiv:1504.05477). It keeps orthonormal `P: [d_in, n]`, `Q: [d_out, n]` with `W Q = P B`, and takes the
//! triplets of `B`. The block is wider than the number of directions, so that no repeated singular value is missed.
//!
//! **Bound.** It stops when every wanted triplet has `‖Wᵀu - σv‖ ≤ tolerance·σ_1`; the residual reported is computed afterwards from
//! `W` itself, on both sides. Then a singular value of `W` lies within `residual·σ_1` of each `σ` (Weyl), and the leading `k` directions
//! are off by at most `residual·√k·σ_1/gap` in the sine, `gap` being the distance from `σ_k` to the next singular value (Wedin 1972).
//! That these are the *leading* triplets holds with probability 1 over the start. Where the directions wanted are a large share of all,
//! the full SVD is cheaper and is taken.

use nalgebra::DMatrix;

use super::factored::{Svd, threshold};
use super::frame::Frame;
use super::kernel::{Backend, product, transposed_product};
use super::random::Gaussian;
use super::{Side, SubspaceError, check};

/// Columns of a block beyond the triplets wanted (Halko, Martinsson and Tropp 2011 use 5 to 10).
const OVERSAMPLING: usize = 8;

/// Largest share of all directions, as a divisor, that the iteration may span before the full SVD is cheaper (`bench/subspace.md`).
const LARGEST_SHARE: usize = 2;

/// Smallest reachable tolerance: rounding errors of long products.
const SMALLEST_TOLERANCE: f64 = 1e-13;

/// When to stop, and where to start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopOptions {
    /// Largest residual relative to `σ_1`, in `[1e-13, 1e-2]`. The error of a singular value is of the order of its square over the gap.
    pub tolerance: f64,
    /// Seed of the Gaussian start.
    pub seed: u64,
}

/// Leading triplets with the residual they have.
#[derive(Clone, Debug, PartialEq)]
pub struct Top {
    /// The triplets, at most as many as were asked for: directions beyond the numerical rank do not exist.
    pub svd: Svd,
    /// `max_i max(‖W v_i - σ_i u_i‖, ‖Wᵀ u_i - σ_i v_i‖) / σ_1`.
    pub residual: f64,
    /// What computed them.
    pub method: Method,
}

/// How leading triplets were computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By the full SVD.
    Full,
    /// From a Krylov space.
    Krylov {
        /// Its dimension.
        dimension: usize,
    },
}

impl Default for TopOptions {
    /// A residual of 1e-10 puts directions with a relative gap of 1e-2 within 1e-8.
    fn default() -> Self {
        Self { tolerance: 1e-10, seed: 0 }
    }
}

/// The leading `count` singular triplets of `w: [d_in, d_out]`, `count` in `1..=min(d_in, d_out)`.
pub fn top(w: &DMatrix<f64>, count: usize, options: TopOptions) -> Result<Top, SubspaceError> {
    check("W", w)?;
    let size = w.nrows().min(w.ncols());
    if count == 0 || count > size {
        return Err(SubspaceError::TooManyDirections { asked: count, available: size });
    }
    if !(SMALLEST_TOLERANCE..=1e-2).contains(&options.tolerance) {
        return Err(SubspaceError::Setting { name: "tolerance", value: options.tolerance, range: "1e-13..=1e-2" });
    }
    let (svd, method) = match krylov(w, count, options)? {
        Some((svd, dimension)) => (svd, Method::Krylov { dimension }),
        None => (Svd::full(w)?, Method::Full),
    };
    let svd = svd.first(count.min(svd.rank()))?;
    Ok(Top { residual: residual(w, &svd), svd, method })
}

/// One triplet more than `count`, so that the gap after the last is known; none where the full SVD is cheaper.
fn krylov(w: &DMatrix<f64>, count: usize, options: TopOptions) -> Result<Option<(Svd, usize)>, SubspaceError> {
    let (d_in, d_out) = w.shape();
    let size = d_in.min(d_out);
    let block = count + OVERSAMPLING;
    let limit = size / LARGEST_SHARE;
    if 3 * block > limit {
        return Ok(None);
    }
    let rounding = threshold(d_in, d_out, w.norm());
    let mut gaussian = Gaussian::new(options.seed);
    let mut left = Frame::new(d_in, limit);
    let mut right = Frame::new(d_out, limit + block);
    let mut core = DMatrix::zeros(limit, limit); // B = Pᵀ W Q, upper block triangular
    right.append(gaussian.matrix(d_out, block), rounding, &mut gaussian);
    for from in (0..=limit - block).step_by(block) {
        let to = from + block;
        let mut images = product(w, &right.last(block)); // [d_in, block]
        let above = left.project_out(&mut images); // [from, block]
        let diagonal = left.append(images, rounding, &mut gaussian); // [block, block]
        core.view_mut((0, from), (from, block)).copy_from(&above);
        core.view_mut((from, from), (block, block)).copy_from(&diagonal);
        let mut back = transposed_product(w, &left.last(block)); // [d_out, block]
        right.project_out(&mut back);
        let tail = right.append(back, rounding, &mut gaussian); // [block, block]
        let inner = Backend::default().svd(&core.view((0, 0), (to, to)).into_owned())?;
        let wanted = (count + 1).min(to);
        // Wᵀu - σv = Q'·tail·x with x the last rows of the core's left vectors.
        let off = product(&tail, &inner.left.view((from, 0), (block, wanted)).into_owned()); // [block, wanted]
        let largest = off.column_iter().map(|column| column.norm()).fold(0.0, f64::max);
        if largest <= options.tolerance * inner.values[0] {
            let rank = inner.values[..wanted].iter().take_while(|value| **value > rounding).count();
            if rank == 0 {
                return Err(SubspaceError::RankZero { name: "W" });
            }
            let input = left.combine(&inner.left.columns(0, rank).into_owned());
            let output = right.combine(&inner.right.columns(0, rank).into_owned());
            return Ok(Some((Svd::from_parts(input, inner.values[..rank].to_vec(), output, 0.0), to)));
        }
    }
    Ok(None)
}

/// The largest residual of the triplets of `svd` in `w`, relative to `σ_1`.
fn residual(w: &DMatrix<f64>, svd: &Svd) -> f64 {
    let (u, v) = (svd.directions(Side::Input), svd.directions(Side::Output));
    let forward = product(w, v); // [d_in, k]
    let backward = transposed_product(w, u); // [d_out, k]
    let off = |i: usize| {
        let value = svd.values()[i];
        (forward.column(i) - u.column(i) * value).norm().max((backward.column(i) - v.column(i) * value).norm())
    };
    (0..svd.rank()).map(off).fold(0.0, f64::max) / svd.values()[0]
}
