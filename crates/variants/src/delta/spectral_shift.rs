//! A trained shift of the base's singular values: `W' = U·diag(relu(σ + δ))·Vᵀ`, `ΔW = s·U·diag(relu(σ + δ) − σ)·Vᵀ`.
//!
//! `W0 = U·diag(σ)·Vᵀ` is the thin decomposition (`U: [d_in, k]`, `V: [d_out, k]`, `k = min(d_in, d_out)`), made once in f64 and shared by all
//! runs; trained is `δ: [runs, 1, k]`, which starts at 0, where `relu(σ) − σ` is 0 and the start is the base bit for bit. The signs of singular
//! vectors, which a decomposition leaves open, cancel in each product `u_i·v_iᵀ`, so `U` and `V` are derived from the base and not saved.
//! A base in another precision has another decomposition, where adjacent values mix: a run on a bf16 base is refused where the base is
//! held in f32, by a checksum of what was decomposed.
//!
//! There is no rank. `ΔW` is formed: `k·d_in·d_out` multiplications a step, and memory for `U` and `V` beside the base.
//!
//! Departure: the paper's spectral strength, by which a trained `δ` is multiplied in inference, is `s` here and multiplies the change of the
//! values behind `relu`.
//!
//! Han et al., *SVDiff: Compact Parameter Space for Diffusion Fine-Tuning*, ICCV 2023, arXiv:2303.11305, §3.2.

use burn::tensor::Tensor;
use faer::MatRef;
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site, block_rotation::WHOLE, shared_random::checksum};
use crate::{
    capability::{Capability, Requirement},
    form::Form,
    host::{Placement, values},
    role::{Param, Role},
};

/// No parameters of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

/// A shift per run, and the base's decomposition.
#[derive(Clone, Debug)]
pub struct SpectralShift {
    /// `δ`, `[runs, 1, k]`.
    pub shift: Tensor<3>,
    /// `U`, `[1, d_in, k]`.
    u: Tensor<3>,
    /// `σ`, `[1, 1, k]`.
    sigma: Tensor<3>,
    /// `Vᵀ`, `[1, k, d_out]`.
    v: Tensor<3>,
    /// Of the base as it was decomposed.
    checksum: String,
}

/// `U`, `σ` and `Vᵀ`.
fn decomposed(weight: &Tensor<2>, place: &Placement) -> [Tensor<3>; 3] {
    let [d_in, d_out] = weight.dims();
    let (k, numbers) = (d_in.min(d_out), values(weight));
    // A base with numbers that are not finite has no decomposition; a run's first step says so.
    let Ok(svd) = MatRef::from_row_major_slice(&numbers, d_in, d_out).thin_svd() else {
        return [[1, d_in, k], [1, 1, k], [1, k, d_out]].map(|shape| place.zeros(shape) + f64::NAN);
    };
    let u = (0..d_in).flat_map(|row| (0..k).map(move |i| (row, i))).map(|at| svd.U()[at]).collect();
    let sigma = (0..k).map(|i| svd.S().column_vector()[i].max(0.0)).collect();
    let v = (0..k).flat_map(|i| (0..d_out).map(move |column| (column, i))).map(|at| svd.V()[at]).collect();
    [place.tensor(u, [1, d_in, k]), place.tensor(sigma, [1, 1, k]), place.tensor(v, [1, k, d_out])]
}

impl DeltaRecipe for Spec {
    type Delta = SpectralShift;
    const RANK_BOUNDED: bool = false;
    const LOW_RANK: bool = false;
    const RANKED: bool = false;
    const PROVIDES: &'static [Capability] = &[];
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::OwnRanks, "which has no rank"), (Capability::DrawnFactors, "which starts at 0")];
    const REQUIRES: &'static [Requirement] = WHOLE;
    const ROLES: &'static [Role] = &[Role::Spectrum];

    fn components(&self, _rank: usize) -> usize {
        usize::MAX
    }

    fn init(&self, at: &mut Site<'_>) -> SpectralShift {
        let ([d_in, d_out], place) = (at.shape, at.place);
        let k = d_in.min(d_out);
        let shift = at.zeros(1, k);
        if at.is_shape() {
            // There is no base to decompose.
            let [u, v] = [[1, d_in, k], [1, k, d_out]].map(|shape| place.zeros(shape));
            return SpectralShift { shift, u, sigma: place.zeros([1, 1, k]), v, checksum: String::new() };
        }
        let [u, sigma, v] = decomposed(at.weight, place);
        SpectralShift { shift, u, sigma, v, checksum: checksum([at.weight]) }
    }
}

impl Delta for SpectralShift {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::new("shift", Role::Spectrum, &mut self.shift)]
    }

    fn checksum(&self) -> Option<String> {
        Some(self.checksum.clone())
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        // `relu(σ + δ) − σ` without its cancellation; at `σ = 0` a positive shift has a gradient as well.
        let moved = self.shift.clone().max_pair(-self.sigma.clone());
        let middle = moved * gate.clone().narrow(2, 0, 1); // [runs, 1, k]
        Form::Dense((self.u.clone() * middle).matmul(self.v.clone()))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};
    use nalgebra::DMatrix;

    use super::*;
    use crate::stream::{self, Stream};

    /// Wide and tall: the singular values of `W'` are the shifted ones, those shifted below 0 are 0, and the singular vectors stay.
    #[test]
    fn the_singular_values_are_shifted_and_none_below_zero() {
        let place = Placement::new(&Device::flex(), DType::F64);
        for [d_in, d_out] in [[4, 6], [6, 4]] {
            let numbers = stream::normal(&mut stream::generator(8, Stream::Data, "base"), d_in * d_out, 1.0);
            let base = place.tensor(numbers.clone(), [d_in, d_out]);
            let [u, sigma, v] = decomposed(&base, &place);
            let shift = [0.5, -0.25, 0.0, -50.0];
            let wanted: Vec<f64> =
                values(&sigma).iter().zip(shift).map(|(sigma, shift)| (sigma + shift).max(0.0)).collect();
            let shift = place.tensor(shift.to_vec(), [1, 1, 4]);
            let delta = SpectralShift { shift, u, sigma, v, checksum: String::new() };
            let change = values(&delta.form(&(place.zeros([1, 1, 1]) + 1.0), &base).dense(&base));
            let w0 = DMatrix::from_row_slice(d_in, d_out, &numbers);
            let sum = &w0 + DMatrix::from_row_slice(d_in, d_out, &change);
            let mut found: Vec<f64> = sum.singular_values().iter().copied().collect();
            let mut sorted = wanted.clone();
            found.sort_by(f64::total_cmp);
            sorted.sort_by(f64::total_cmp);
            for (found, wanted) in found.iter().zip(&sorted) {
                assert!((found - wanted).abs() < 1e-12, "{found} is not {wanted}"); // two decompositions in f64
            }
            // Of one shifted value the change is `u·v`ᵀ times the shift, which is of rank one and lies in the base's own directions.
            let svd = w0.svd(true, true);
            let (u, v_t) = (svd.u.expect("asked for"), svd.v_t.expect("asked for"));
            let diagonal = u.transpose() * sum * v_t.transpose();
            let off = &diagonal - DMatrix::from_diagonal(&diagonal.diagonal());
            assert!(off.abs().max() < 1e-12, "{diagonal}");
        }
    }
}
