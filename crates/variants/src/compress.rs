//! The best approximation of a low-rank update at a smaller rank.

use nalgebra::DMatrix;

use crate::{
    delta::low_rank::LowRank,
    form::Factors,
    host::{Placement, values},
};

/// The best rank-`rank` approximation of `down·up` in Frobenius norm ([`lowrank`]), per run, in f64 on the host. `A` takes the singular
/// values; components that the update does not have are zero.
pub fn best_approximation(factors: &Factors, rank: usize, place: &Placement) -> LowRank {
    let [runs, d_in, k] = factors.down.dims();
    let [_, _, d_out] = factors.up.dims();
    let (downs, ups) = (values(&factors.down), values(&factors.up));
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for (down, up) in downs.chunks(d_in * k).zip(ups.chunks(k * d_out)) {
        let down = DMatrix::from_row_slice(d_in, k, down);
        let up = DMatrix::from_row_slice(k, d_out, up);
        let decomposed = lowrank::LowRank::new(down, up).and_then(|update| update.decompose());
        // A run whose numbers are not finite has no approximation; its factors say so, and the runs beside it keep theirs.
        let (down, up) = decomposed.map_or_else(
            |_| (DMatrix::repeat(d_in, rank, f64::NAN), DMatrix::repeat(rank, d_out, f64::NAN)),
            |found| {
                let found = found.factors(rank);
                (found.down().clone().resize_horizontally(rank, 0.0), found.up().clone().resize_vertically(rank, 0.0))
            },
        );
        a.extend(down.transpose().iter()); // row-major
        b.extend(up.transpose().iter());
    }
    LowRank { a: place.tensor(a, [runs, d_in, rank]), b: place.tensor(b, [runs, rank, d_out]) }
}
