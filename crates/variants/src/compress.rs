//! The best approximation of a low-rank update at a smaller rank.

use burn::tensor::Tensor;
use nalgebra::DMatrix;

use crate::{
    delta::{Factors, low_rank::LowRank},
    host::{Placement, values},
};

/// The best rank-`rank` approximation of `down·up` in Frobenius norm (Eckart–Young), per run.
///
/// QR of both factors, then the SVD of a `k × k` core: `O((d_in + d_out)·k²)`, never forming `ΔW`. In f64 on
/// the host. `A` takes the singular values.
pub fn best_approximation(factors: &Factors, rank: usize, place: &Placement) -> LowRank {
    let [runs, d_in, k] = factors.down.dims();
    let [_, _, d_out] = factors.up.dims();
    let (downs, ups) = (values(&factors.down), values(&factors.up));
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for (down, up) in downs.chunks(d_in * k).zip(ups.chunks(k * d_out)) {
        let left = DMatrix::from_row_slice(d_in, k, down).qr();
        let right = DMatrix::from_row_slice(k, d_out, up).transpose().qr();
        let svd = (left.r() * right.r().transpose()).svd(true, true);
        let (Some(u), Some(v_t)) = (svd.u, svd.v_t) else { unreachable!("both sides were asked for") };
        let kept = rank.min(svd.singular_values.len());
        let mut scaled = left.q() * u.columns(0, kept); // [d_in, kept]
        for (mut column, value) in scaled.column_iter_mut().zip(svd.singular_values.iter()) {
            column *= *value;
        }
        let rows = v_t.rows(0, kept) * right.q().transpose(); // [kept, d_out]
        a.extend(
            (0..d_in)
                .flat_map(|i| (0..rank).map(move |j| (i, j)))
                .map(|(i, j)| if j < kept { scaled[(i, j)] } else { 0.0 }),
        );
        b.extend(
            (0..rank)
                .flat_map(|i| (0..d_out).map(move |j| (i, j)))
                .map(|(i, j)| if i < kept { rows[(i, j)] } else { 0.0 }),
        );
    }
    LowRank { a: place.tensor(a, [runs, d_in, rank]), b: place.tensor(b, [runs, rank, d_out]) }
}

/// `‖x‖_F` of each run.
pub fn frobenius(x: &Tensor<3>) -> Vec<f64> {
    let [runs, ..] = x.dims();
    let flat = values(x);
    flat.chunks(flat.len() / runs).map(|run| run.iter().map(|v| v * v).sum::<f64>().sqrt()).collect()
}
