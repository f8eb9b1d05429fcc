//! Rotations of blocks by the Cayley transform of skew-symmetric matrices.
//!
//! A skew-symmetric `Q = −Qᵀ` has no eigenvalue −1, so `I + Q` has an inverse, and `(I − Q)·(I + Q)⁻¹` is orthogonal with determinant 1. All
//! blocks of all runs are one batch, `[runs, blocks, b, b]`.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use kernels::ops;

use crate::host;

/// Where each entry of a block is found among the numbers of its strict upper triangle, row by row, and one 0 behind them; `[b·b]`.
///
/// The order is that of torch's `triu_indices(b, b, 1)`, in which PEFT keeps OFT's numbers.
pub(crate) fn upper_places(b: usize, device: &Device) -> Tensor<1, Int> {
    let numbers = b * (b - 1) / 2;
    // Rows before `row` hold (b − 1) + (b − 2) + .. numbers.
    let place = |row: usize, column: usize| {
        if row < column { row * (2 * b - row - 1) / 2 + column - row - 1 } else { numbers }
    };
    let places: Vec<i64> = (0..b * b).map(|at| place(at / b, at % b) as i64).collect();
    Tensor::from_data(TensorData::new(places, [b * b]), (device, DType::I64))
}

/// The skew-symmetric blocks `[runs, blocks, b, b]` of strict upper triangles `[runs, blocks, b(b−1)/2]`; `places` are of [`upper_places`].
pub(crate) fn skew(upper: &Tensor<3>, places: &Tensor<1, Int>) -> Tensor<4> {
    let [runs, blocks, _] = upper.dims();
    let b = places.dims()[0].isqrt();
    let zero = Tensor::<3>::zeros([runs, blocks, 1], (&upper.device().without_autodiff(), upper.dtype()));
    let upper = Tensor::cat(vec![upper.clone(), zero], 2).select(2, places.clone()); // [runs, blocks, b·b]
    let upper = upper.reshape([runs, blocks, b, b]);
    upper.clone() - upper.swap_dims(2, 3)
}

/// `I`, `[1, 1, b, b]`.
fn identity(like: &Tensor<4>) -> Tensor<4> {
    let [_, _, b, _] = like.dims();
    host::identity(b, like).unsqueeze::<4>()
}

/// The Neumann series of `(I + Q)·(I − Q)⁻¹` with PEFT's five terms, `I + 2Q + 2Q² + 2Q³ + Q⁴`: orthogonal up to the fourth order of `Q`.
///
/// It turns the other way than [`exact`], as it does in PEFT.
pub(crate) fn neumann(q: Tensor<4>) -> Tensor<4> {
    // Horner's rule: I + Q·(2I + Q·(2I + Q·(2I + Q))).
    let twice = identity(&q) * 2.0;
    let inside = |of: Tensor<4>| q.clone().matmul(of) + twice.clone();
    let third = inside(inside(q.clone() + twice.clone()));
    q.matmul(third) + identity(&twice)
}

/// `(I − Q)·(I + Q)⁻¹`, orthogonal to rounding.
pub(crate) fn exact(q: Tensor<4>) -> Tensor<4> {
    let shape @ [runs, blocks, b, _] = q.dims();
    ops::cayley(q.reshape([runs * blocks, b, b])).reshape(shape)
}

#[cfg(test)]
mod tests {
    use nalgebra::DMatrix;

    use super::*;
    use crate::{
        host::{Placement, values},
        stream::{self, Stream},
    };

    fn drawn(b: usize, std: f64) -> (Tensor<3>, Tensor<1, Int>) {
        let place = Placement::new(&Device::flex(), DType::F64);
        let shape @ [runs, blocks, numbers] = [2, 3, b * (b - 1) / 2];
        let rng = &mut stream::generator(6, Stream::Data, "upper");
        let upper = place.tensor(stream::normal(rng, runs * blocks * numbers, std), shape);
        (upper, upper_places(b, &place.device))
    }

    fn blocks(of: &Tensor<4>) -> Vec<DMatrix<f64>> {
        let [_, _, b, _] = of.dims();
        values(of).chunks(b * b).map(|block| DMatrix::from_row_slice(b, b, block)).collect()
    }

    #[test]
    fn a_skew_block_has_its_numbers_row_by_row_above_the_diagonal() {
        let (upper, places) = drawn(4, 1.0);
        let numbers = values(&upper);
        for (block, numbers) in blocks(&skew(&upper, &places)).iter().zip(numbers.chunks(6)) {
            let found: Vec<f64> =
                (0..4).flat_map(|row| (row + 1..4).map(move |column| (row, column))).map(|at| block[at]).collect();
            assert_eq!(found, numbers);
            assert_eq!(block.transpose(), -block);
        }
    }

    /// At every size that a trained rotation can have: from the start, where it is the identity bit by bit, to blocks turned by almost 180°.
    #[test]
    fn the_exact_transform_is_orthogonal_and_that_of_the_inverse() {
        for (b, std) in [(2, 0.0), (5, 0.0), (2, 0.3), (5, 0.3), (8, 3.0), (4, 40.0)] {
            let (upper, places) = drawn(b, std);
            let q = skew(&upper, &places);
            let one = DMatrix::<f64>::identity(b, b);
            for (q, found) in blocks(&q).iter().zip(blocks(&exact(q.clone()))) {
                let inverse = (&one + q).try_inverse().expect("1 + iθ is not 0");
                let wanted = (&one - q) * inverse;
                // Rounding times the condition of I + Q, at most 100.
                assert!((&found - wanted).abs().max() < 1e-12, "b = {b}, std = {std}");
                assert!((found.transpose() * &found - &one).abs().max() < 1e-12, "b = {b}, std = {std}");
                assert!(std != 0.0 || found == one);
            }
        }
    }

    #[test]
    fn the_series_has_pefts_five_terms() {
        for std in [0.0, 0.01, 0.5] {
            let (upper, places) = drawn(5, std);
            let q = skew(&upper, &places);
            let one = DMatrix::<f64>::identity(5, 5);
            for (q, found) in blocks(&q).iter().zip(blocks(&neumann(q.clone()))) {
                let wanted = &one + q * 2.0 + q.pow(2) * 2.0 + q.pow(3) * 2.0 + q.pow(4);
                assert!((&found - wanted).abs().max() < 1e-13 * (1.0 + found.norm()), "std = {std}");
                assert!(std != 0.0 || found == one);
                // What the series leaves out is of the order of Q⁴.
                let error = (found.transpose() * &found - &one).norm();
                assert!(error <= 3.0 * q.norm().powi(4), "{error} at ‖Q‖ = {}", q.norm());
            }
        }
    }
}
