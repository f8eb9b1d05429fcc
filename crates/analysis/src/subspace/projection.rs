//! Projection of a map onto the directions of its update, and the amplification factor (LoRA table 7, appendix H.4).
//!
//! ```text
//! p_r = ‖UᵀWV‖_F,   U: [d_in, r], V: [d_out, r] the leading singular directions of ΔW, of W, or of a Gaussian matrix
//! amplification = ‖ΔW‖_F / p_r                                    with U, V of ΔW
//! ```
//! In the paper's layout the two sides exchange their names, which leaves the norm as it is. `‖ΔW‖_F` is the norm of the whole update,
//! also where `r` is below its rank. With `W`'s own directions, `p_r = (Σ_{i ≤ r} σ_i²)^½`. With those of independent Gaussian matrices
//! `E p_r² = r²‖W‖_F²/(d_in d_out)` exactly; see [`super::random::root_mean_square_projection`].

use lowrank::linalg::{product, transposed_product};
use nalgebra::DMatrix;

use super::cumulative::cumulative_squares;
use super::factored::{Svd, threshold};
use super::random::{Gaussian, root_mean_square_projection};
use super::{Side, SubspaceError, check, same_shape};

/// One row of table 7: a map, a rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Projection {
    /// Number `r` of directions.
    pub rank: usize,
    /// `‖W‖_F`.
    pub base_norm: f64,
    /// `‖ΔW‖_F`.
    pub update_norm: f64,
    /// `‖UᵀWV‖_F` with the directions of `ΔW`.
    pub onto_update: f64,
    /// `‖UᵀWV‖_F` with the directions of `W`.
    pub onto_base: f64,
    /// `(E ‖UᵀWV‖_F²)^½` with random directions.
    pub onto_random: f64,
    /// `‖ΔW‖_F / ‖UᵀWV‖_F`; none where `W` vanishes on the directions of `ΔW` to rounding.
    pub amplification: Option<f64>,
}

/// `‖U_rᵀ W V_r‖_F` for `r` in `1..=k`, `[k]`, with `U: [d_in, k]`, `V: [d_out, k]` and `W: [d_in, d_out]`.
///
/// One product of three matrices and one cumulative sum for all `r`.
pub fn projections(w: &DMatrix<f64>, u: &DMatrix<f64>, v: &DMatrix<f64>) -> Result<Vec<f64>, SubspaceError> {
    check("W", w)?;
    check("U", u)?;
    check("V", v)?;
    let rank = u.ncols().min(v.ncols());
    same_shape(("W", w.shape()), ("U Vᵀ", (u.nrows(), v.nrows())))?;
    let sums = cumulative_squares(&transposed_product(u, &product(w, v))); // [k, k]
    Ok((0..rank).map(|r| sums[(r, r)].sqrt()).collect())
}

/// The rows of table 7 for one map and update at the given ranks.
///
/// `w: [d_in, d_out]`; `update` is the SVD of `ΔW`, `base` the leading triplets of `W` ([`super::top::top`]), both at least as far as
/// the largest rank.
pub fn table(w: &DMatrix<f64>, update: &Svd, base: &Svd, ranks: &[usize]) -> Result<Vec<Projection>, SubspaceError> {
    let (u, v) = (update.directions(Side::Input), update.directions(Side::Output));
    let onto_update = projections(w, u, v)?;
    let (base_in, base_out) = (base.directions(Side::Input).nrows(), base.directions(Side::Output).nrows());
    same_shape(("the SVD of W", (base_in, base_out)), ("W", w.shape()))?;
    let (base_norm, update_norm) = (w.norm(), update.norm());
    let rounding = threshold(w.nrows(), w.ncols(), base_norm);
    let row = |rank: &usize| {
        let available = onto_update.len().min(base.rank());
        if *rank == 0 || *rank > available {
            return Err(SubspaceError::TooManyDirections { asked: *rank, available });
        }
        let onto_update = onto_update[rank - 1];
        Ok(Projection {
            rank: *rank,
            base_norm,
            update_norm,
            onto_update,
            onto_base: base.values()[..*rank].iter().map(|value| value * value).sum::<f64>().sqrt(),
            onto_random: root_mean_square_projection(base_norm, w.shape(), *rank),
            amplification: (onto_update > rounding).then(|| update_norm / onto_update),
        })
    };
    ranks.iter().map(row).collect()
}

/// `‖UᵀWV‖_F` for `draws` independent pairs of random `U: [d_in, r]` and `V: [d_out, r]`, `[draws]`.
pub fn random_projections(w: &DMatrix<f64>, r: usize, draws: usize, seed: u64) -> Result<Vec<f64>, SubspaceError> {
    check("W", w)?;
    let mut gaussian = Gaussian::new(seed);
    let mut draw = || {
        let u = gaussian.basis(w.nrows(), r)?;
        let v = gaussian.basis(w.ncols(), r)?;
        let core = transposed_product(u.directions(), &product(w, v.directions())); // [r, r]
        Ok(core.norm())
    };
    (0..draws).map(|_| draw()).collect()
}
