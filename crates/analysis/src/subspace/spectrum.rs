//! Spectra of updates: stable rank, effective rank, energy per direction, intruder dimensions.
//!
//! With singular values `σ: [k]`, descending:
//!
//! | measure | definition | range |
//! |---|---|---|
//! | stable rank | `Σ σ_i² / σ_1²` | `[1, k]` |
//! | effective rank | `exp(-Σ p_i ln p_i)`, `p_i = σ_i / Σ σ` | `[1, k]` |
//! | energy | `σ_i² / Σ σ²` | sums to 1 |
//!
//! Stable rank: Rudelson and Vershynin 2007, arXiv:math/0503442. Effective rank: Roy and Vetterli, *The effective rank: a measure of
//! effective dimensionality*, EUSIPCO 2007. Intruder dimensions: Shuttleworth et al., *LoRA vs Full Fine-tuning: An Illusion of
//! Equivalence*, NeurIPS 2025, arXiv:2410.21228, algorithm 1.

use lowrank::linalg::transposed_product;

use super::factored::Svd;
use super::{Side, SubspaceError, same_shape};

/// What the singular values of one update say.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    /// Numerical rank `k`.
    pub rank: usize,
    /// `(Σ σ_i²)^½`, the Frobenius norm.
    pub norm: f64,
    /// `Σ σ_i² / σ_1²`.
    pub stable_rank: f64,
    /// `exp` of the entropy of `σ / Σ σ`.
    pub effective_rank: f64,
    /// Share of `‖ΔW‖_F²` in each direction, `[k]`.
    pub energy: Vec<f64>,
}

/// A leading direction of a tuned map and its likeness to those of the base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likeness {
    /// Position among the tuned map's directions, from 1.
    pub index: usize,
    /// Its singular value.
    pub value: f64,
    /// `max_i |cos(y, x_i)|` over the base's directions `x_i`.
    pub cosine: f64,
    /// Whether it is an intruder: the cosine is below the threshold.
    pub is_intruder: bool,
    /// Whether its singular value lies in a cluster, so that the direction itself is not determined.
    pub is_ambiguous: bool,
}

/// The measures of a decomposition that is complete: all triplets up to the numerical rank.
pub fn spectrum(svd: &Svd) -> Spectrum {
    let values = svd.values();
    let squares: f64 = values.iter().map(|value| value * value).sum();
    let sum: f64 = values.iter().sum();
    let entropy: f64 = values.iter().map(|value| value / sum).map(|share| -share * share.ln()).sum();
    Spectrum {
        rank: values.len(),
        norm: squares.sqrt(),
        stable_rank: squares / (values[0] * values[0]),
        effective_rank: entropy.exp(),
        energy: values.iter().map(|value| value * value / squares).collect(),
    }
}

/// The leading `count` directions of a tuned map `W0 + ΔW` against all those of its base `W0`: intruders have no base direction with
/// `|cos| >= epsilon`, `epsilon` in `(0, 1]`.
///
/// `base` must be complete (all triplets of `W0`), `tuned` reach at least `count`. The paper compares left singular vectors of `W: [d_out,
/// d_in]`, which is [`Side::Output`]. A sign of a singular vector is arbitrary, so the cosine is taken without it.
pub fn intruders(
    base: &Svd,
    tuned: &Svd,
    side: Side,
    count: usize,
    epsilon: f64,
) -> Result<Vec<Likeness>, SubspaceError> {
    if !(epsilon > 0.0 && epsilon <= 1.0) {
        return Err(SubspaceError::Setting { name: "epsilon", value: epsilon, range: "(0, 1]" });
    }
    same_shape(
        ("W0 + ΔW", (tuned.directions(Side::Input).nrows(), tuned.directions(Side::Output).nrows())),
        ("W0", (base.directions(Side::Input).nrows(), base.directions(Side::Output).nrows())),
    )?;
    let tuned = tuned.first(count)?;
    let basis = tuned.basis(side);
    let cosines = transposed_product(base.directions(side), tuned.directions(side)); // [k, count]
    let likeness = |index: usize| {
        let cosine = cosines.column(index).amax().min(1.0);
        Likeness {
            index: index + 1,
            value: tuned.values()[index],
            cosine,
            is_intruder: cosine < epsilon,
            is_ambiguous: basis.is_ambiguous(index + 1) || (index > 0 && basis.is_ambiguous(index)),
        }
    };
    Ok((0..count).map(likeness).collect())
}
