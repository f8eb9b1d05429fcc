//! The leading singular triplets of a dense map, with a bound on their error.
//!
//! Block Golub-Kahan bidiagonalisation from a Gaussian block, with full reorthogonalisation (Golub, Luk and Overton 1981; as a
//! randomised method Musco and Musco, *Randomized Block Krylov Methods for Stronger and Faster Approximate Singular Value
//! Decomposition*, NeurIPS 2015, arXiv:1504.05477). It keeps orthonormal `P: [d_in, n]`, `Q: [d_out, n]` with `W Q = P B`, and takes the
//! triplets of `B`.
//!
//! **Bound.** It stops when every wanted triplet has `‖Wᵀu - σv‖ ≤ tolerance·σ_1`; the residual reported is computed afterwards from
//! `W` itself, on both sides. Then a singular value of `W` lies within `residual·σ_1` of each `σ` (Weyl), and the leading `k` directions
//! are off by at most `residual·√k·σ_1/gap` in the sine, `gap` being the distance from `σ_k` to the next singular value (Wedin 1972).
//!
//! **Leading ones.** A residual does not say that nothing larger was missed, and a Krylov space holds at most [`BLOCK`] copies of a
//! repeated singular value. So a second, small space from a Gaussian block orthogonal to the directions found looks for what is left;
//! if it sees a singular value above the smallest one found, the full SVD is taken. It is also taken where the directions wanted, or
//! the dimension that convergence needs, are a large share of all: there it is cheaper.

use lowrank::linalg::{Backend, ThinSvd, product, transposed_product};
use nalgebra::DMatrix;

use super::factored::{Svd, threshold};
use super::frame::Frame;
use super::random::Gaussian;
use super::{Side, SubspaceError, check};

/// Columns of a block: wide enough for products at the speed of matrices, small enough for a high degree (`bench/subspace.md`).
pub const BLOCK: usize = 8;

/// Largest share of all directions, as a divisor, that the iteration may span before the full SVD is cheaper (`bench/subspace.md`).
const LARGEST_SHARE: usize = 2;

/// Blocks of the space that looks for missed directions.
const SECOND_LOOK: usize = 4;

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

impl TopOptions {
    /// For singular values alone: a residual of 1e-6 leaves them an error of the order of 1e-12, and takes a fifth less time.
    pub fn values() -> Self {
        Self { tolerance: 1e-6, ..Self::default() }
    }
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

/// `P`, `Q` and `B` with `W Q = P B`, grown block by block.
struct Space<'w> {
    w: &'w DMatrix<f64>,
    left: Frame,
    right: Frame,
    /// `B = Pᵀ W Q`, upper block triangular, in the leading `[n, n]`.
    core: DMatrix<f64>,
    /// `T: [BLOCK, BLOCK]` of `Wᵀ P = Q Bᵀ + Q' [0 .. T]`, `Q'` the block to come.
    tail: DMatrix<f64>,
    rounding: f64,
    gaussian: Gaussian,
}

impl<'w> Space<'w> {
    /// Room for `limit` dimensions; starts from a Gaussian block orthogonal to `found: [d_out, k]`.
    fn new(w: &'w DMatrix<f64>, found: Option<&DMatrix<f64>>, limit: usize, rounding: f64, seed: u64) -> Self {
        let (d_in, d_out) = w.shape();
        let mut gaussian = Gaussian::new(seed);
        let mut start = gaussian.matrix(d_out, BLOCK);
        if let Some(found) = found {
            start -= product(found, &transposed_product(found, &start));
        }
        let mut right = Frame::new(d_out, limit + BLOCK);
        right.append(&start, rounding, &mut gaussian);
        let core = DMatrix::zeros(limit, limit);
        Self { w, left: Frame::new(d_in, limit), right, core, tail: DMatrix::zeros(BLOCK, BLOCK), rounding, gaussian }
    }

    /// One block more on both sides; `deflate` removes known directions from what comes back, `[d_out, BLOCK]`.
    fn grow(&mut self, deflate: impl Fn(&mut DMatrix<f64>)) {
        let from = self.left.len();
        let mut images = product(self.w, &self.right.last(BLOCK)); // [d_in, BLOCK]
        let above = self.left.project_out(&mut images); // [from, BLOCK]
        let diagonal = self.left.append(&images, self.rounding, &mut self.gaussian);
        self.core.view_mut((0, from), (from, BLOCK)).copy_from(&above);
        self.core.view_mut((from, from), (BLOCK, BLOCK)).copy_from(&diagonal);
        let mut back = transposed_product(self.w, &self.left.last(BLOCK)); // [d_out, BLOCK]
        deflate(&mut back);
        self.right.project_out(&mut back);
        self.tail = self.right.append(&back, self.rounding, &mut self.gaussian);
    }

    /// The SVD of `B`, and the largest `‖Wᵀu - σv‖` of its leading `wanted` triplets.
    fn triplets(&self, wanted: usize) -> Result<(ThinSvd, f64), SubspaceError> {
        let len = self.left.len();
        let inner = Backend::default().svd(&self.core.view((0, 0), (len, len)).into_owned())?;
        let ends = inner.left.view((len - BLOCK, 0), (BLOCK, wanted)).into_owned();
        let off = product(&self.tail, &ends); // [BLOCK, wanted]
        let largest = off.column_iter().map(|column| column.norm()).fold(0.0, f64::max);
        Ok((inner, largest))
    }
}

/// One triplet more than `count`, so that the gap after the last is known; none where the full SVD is to be taken.
fn krylov(w: &DMatrix<f64>, count: usize, options: TopOptions) -> Result<Option<(Svd, usize)>, SubspaceError> {
    let (d_in, d_out) = w.shape();
    let limit = d_in.min(d_out) / LARGEST_SHARE / BLOCK * BLOCK;
    let wanted = count + 1;
    let mut check_at = (2 * count + BLOCK).next_multiple_of(BLOCK);
    let rounding = threshold(d_in, d_out, w.norm());
    let mut space = Space::new(w, None, limit, rounding, options.seed);
    let mut before: Option<(usize, f64)> = None;
    while check_at <= limit {
        while space.left.len() < check_at {
            space.grow(|_| ());
        }
        let (inner, residual) = space.triplets(wanted)?;
        let target = options.tolerance * inner.values[0];
        if residual <= target {
            let rank = inner.values[..wanted].iter().take_while(|value| **value > rounding).count();
            if rank == 0 {
                return Err(SubspaceError::RankZero { name: "W" });
            }
            let input = space.left.combine(&inner.left.columns(0, rank).into_owned());
            let output = space.right.combine(&inner.right.columns(0, rank).into_owned());
            let svd = Svd::from_parts(input, inner.values[..rank].to_vec(), output, 0.0);
            return Ok((!is_something_missed(w, &svd, rounding, options)?).then_some((svd, check_at)));
        }
        let needed = predict(before.replace((check_at, residual)), (check_at, residual), target);
        check_at = (check_at + needed).next_multiple_of(BLOCK);
    }
    Ok(None)
}

/// How many dimensions more the residual needs to fall to `target`, if its logarithm goes on falling as between two checks; at most a
/// fifth, since it falls ever faster.
fn predict(before: Option<(usize, f64)>, (dimension, residual): (usize, f64), target: f64) -> usize {
    let most = dimension / 5;
    match before {
        Some((earlier, larger)) if larger > residual => {
            let slope = (larger / residual).ln() / (dimension - earlier) as f64;
            most.min(((residual / target).ln() / slope) as usize).max(1)
        }
        _ => most.max(1),
    }
}

/// Whether `W` has a singular value above the smallest of `svd` in the complement of its directions.
fn is_something_missed(w: &DMatrix<f64>, svd: &Svd, rounding: f64, options: TopOptions) -> Result<bool, SubspaceError> {
    let found = svd.directions(Side::Output); // [d_out, k]
    let room = SECOND_LOOK * BLOCK;
    if found.ncols() + room + BLOCK > w.nrows().min(w.ncols()) {
        return Ok(true);
    }
    let mut space = Space::new(w, Some(found), room, rounding, options.seed.wrapping_add(1));
    for _ in 0..SECOND_LOOK {
        space.grow(|back| *back -= product(found, &transposed_product(found, back)));
    }
    let largest = space.triplets(1)?.0.values[0];
    let smallest = svd.values()[svd.rank() - 1];
    // What was found is itself known to the tolerance.
    Ok(largest > smallest + 2.0 * options.tolerance * svd.values()[0] + rounding)
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

#[cfg(test)]
mod tests;
