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

use super::factored::{Svd, threshold};
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

/// Whether one of the leading `count` directions of `W0 + ΔW` may be an intruder, by what the SVDs of both say; `false` is certain. The
/// decompositions must be complete.
///
/// With `e = ‖ΔW‖_2` and `α_j`, `β_j` the norms of the parts of `W0`'s `j`-th directions, input and output, that lie in those of `ΔW`:
///
/// - Let `σ'`, `y` be a value and direction of `W0 + ΔW`. Its cosine with `W0`'s `j`-th direction is at most `e (α_j² + β_j²)^½ / |σ' - σ_j|`
///   (the two equations of a singular triplet, solved for it); where `W0` vanishes, `σ_j = 0`.
/// - `σ'_i` lies within `e a b + e max(a, b)` of `σ_i`, where `a² = Σ_{j ≤ k} α_j²` and `b² = Σ_{j ≤ k} β_j²` for a `k` with
///   `σ_{k+1} + e <= σ_i - e a b`: Weyl's inequality for the two diagonal blocks of `ΔW` in the directions of `W0`, then for the others.
///   `ΔW` has few directions, so this is a fraction of `e`.
///
/// What all directions but the `m` nearest hold of `y`, less than some `h`, leaves one of these with a squared cosine of `(1 - h) / m`.
pub fn may_intrude(base: &Svd, update: &Svd, count: usize, epsilon: f64) -> Result<bool, SubspaceError> {
    /// Above the rounding errors of cosines.
    const MARGIN: f64 = 1e-3;
    let aligned = Aligned::new(base, update)?;
    let wanted = (epsilon + MARGIN).powi(2);
    let most = wanted.recip() as usize; // more directions cannot each have less than their share
    let is_held = |at: usize| (1..=most).any(|near| (1.0 - aligned.far(at, near)) / near as f64 >= wanted);
    Ok(base.rank() < count || !(0..count).all(is_held))
}

/// How the directions of an update lie to those of its base.
struct Aligned<'a> {
    values: &'a [f64],
    /// `‖ΔW‖_2`.
    change: f64,
    /// What rounding may add to it, in any direction.
    rounding: f64,
    /// `(α_j², β_j²)`, `[k]`.
    parts: Vec<(f64, f64)>,
    /// `(a², b²)` of the first directions, `[k + 1]`.
    sums: Vec<(f64, f64)>,
    /// What the output directions of the update have in none of the base's.
    outside: f64,
}

impl<'a> Aligned<'a> {
    fn new(base: &'a Svd, update: &Svd) -> Result<Self, SubspaceError> {
        let shape = |svd: &Svd| (svd.directions(Side::Input).nrows(), svd.directions(Side::Output).nrows());
        same_shape(("ΔW", shape(update)), ("W0", shape(base)))?;
        let squares = |side: Side| -> Vec<f64> {
            let cosines = transposed_product(update.directions(side), base.directions(side)); // [r, k]
            cosines.column_iter().map(|column| column.norm_squared()).collect()
        };
        let parts: Vec<(f64, f64)> = squares(Side::Input).into_iter().zip(squares(Side::Output)).collect();
        let mut sums = vec![(0.0, 0.0)];
        sums.extend(parts.iter().scan((0.0, 0.0), |sum, part| {
            *sum = (sum.0 + part.0, sum.1 + part.1);
            Some(*sum)
        }));
        let (change, (d_in, d_out)) = (update.values()[0], shape(base));
        let outside = (update.rank() as f64 - sums[parts.len()].1).max(0.0);
        let rounding = threshold(d_in, d_out, base.values()[0] + change);
        Ok(Self { values: base.values(), change, rounding, parts, sums, outside })
    }

    /// How far `σ'_i` may lie from `σ_i`, `i` from 0.
    fn shift(&self, at: usize) -> f64 {
        let within = |k: usize| {
            let (a, b) = (self.sums[k].0.min(1.0).sqrt(), self.sums[k].1.min(1.0).sqrt());
            let next = self.values.get(k).copied().unwrap_or(0.0) + self.change;
            (next <= self.values[at] - self.change * a * b).then(|| self.change * (a * b + a.max(b)))
        };
        // Larger blocks have larger sums.
        let found = (at + 1..=self.values.len()).find_map(within);
        found.unwrap_or(self.change).min(self.change) + self.rounding
    }

    /// The most that the directions beyond the `near` ones nearest to the `at`-th hold of the changed direction, squared.
    fn far(&self, at: usize, near: usize) -> f64 {
        let shift = self.shift(at);
        let held = |distance: f64, part: f64| {
            let gap = distance - shift;
            if gap > 0.0 { ((self.change * part.sqrt() + 2.0 * self.rounding) / gap).powi(2) } else { f64::INFINITY }
        };
        let mut others: Vec<(f64, f64)> = self
            .values
            .iter()
            .zip(&self.parts)
            .map(|(value, part)| ((value - self.values[at]).abs(), part.0 + part.1))
            .collect();
        others.sort_by(|one, other| one.0.total_cmp(&other.0)); // its own, at distance 0, comes first
        others.iter().skip(near).map(|(distance, part)| held(*distance, *part)).sum::<f64>()
            + held(self.values[at], self.outside)
    }
}

#[cfg(test)]
mod tests;
