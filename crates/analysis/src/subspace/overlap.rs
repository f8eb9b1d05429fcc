//! Overlap of one map's subspaces over seeds (LoRA figure 4).

use super::SubspaceError;
use super::basis::Basis;
use super::grassmann::{Phi, phi};
use crate::stats::Summary;

/// A value of one pair of seeds: the first's place, the second's, the value.
pub type PairValue = (usize, usize, f64);

/// `φ` between two seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct PairOverlap {
    /// Position of the first subspace in the list.
    pub first: usize,
    /// Position of the second one, larger.
    pub second: usize,
    /// `φ(i, j)`, `i` directions of the first and `j` of the second.
    pub phi: Phi,
}

/// `φ` between all pairs of a list of subspaces.
///
/// Pairs share seeds, so they are not independent: an interval over them must resample seeds, not pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct SeedOverlap {
    /// Every pair, the second index fastest.
    pub pairs: Vec<PairOverlap>,
    /// The smallest rank in the list: up to there every pair has its `φ`.
    pub rank: usize,
}

/// The overlaps of all `n (n - 1) / 2` pairs. At least two subspaces of one space.
pub fn overlap(subspaces: &[Basis]) -> Result<SeedOverlap, SubspaceError> {
    if subspaces.len() < 2 {
        return Err(SubspaceError::TooFew { what: "subspaces", found: subspaces.len(), needed: 2 });
    }
    let mut pairs = Vec::new();
    for (first, one) in subspaces.iter().enumerate() {
        for (second, other) in subspaces.iter().enumerate().skip(first + 1) {
            pairs.push(PairOverlap { first, second, phi: phi(one, other)? });
        }
    }
    let rank = subspaces.iter().map(Basis::rank).min().unwrap_or(0);
    Ok(SeedOverlap { pairs, rank })
}

impl SeedOverlap {
    /// `φ(i, j)` of every pair whose cuts are determined, as `(first, second, φ)`; `i` and `j` count from 1.
    pub fn values(&self, i: usize, j: usize) -> Vec<PairValue> {
        let defined = |pair: &&PairOverlap| {
            let (rows, cols) = pair.phi.values().shape();
            i <= rows && j <= cols && !pair.phi.is_ambiguous(i, j)
        };
        self.pairs.iter().filter(defined).map(|pair| (pair.first, pair.second, pair.phi.at(i, j))).collect()
    }

    /// The mean of [`SeedOverlap::values`]; none where no pair's cuts are determined.
    pub fn mean(&self, i: usize, j: usize) -> Option<f64> {
        let values = self.values(i, j);
        let sum: f64 = values.iter().map(|(_, _, phi)| phi).sum();
        (!values.is_empty()).then(|| sum / values.len() as f64)
    }
}

/// Mean and 95% interval of a mean over pairs of `n` seeds, `(first, second, value)`, by the delete-one-seed jackknife.
///
/// Pairs that share a seed are not independent. With `θ` the mean over pairs and `θ₍₋ₛ₎` that over the pairs without seed `s`, the
/// pseudo-values `n θ − (n − 1) θ₍₋ₛ₎` have mean `θ` and stand for independent seeds (Tukey 1958; Arvesen 1969 for statistics of
/// pairs). None where a seed's absence leaves no pairs, as with fewer than three seeds.
pub fn jackknife(values: &[PairValue], n: usize) -> Option<Summary> {
    let mean = |kept: Vec<f64>| (!kept.is_empty()).then(|| kept.iter().sum::<f64>() / kept.len() as f64);
    let whole = mean(values.iter().map(|value| value.2).collect())?;
    let pseudo: Option<Vec<f64>> = (0..n)
        .map(|seed| {
            let without = values.iter().filter(|value| value.0 != seed && value.1 != seed).map(|value| value.2);
            Some(n as f64 * whole - (n as f64 - 1.0) * mean(without.collect())?)
        })
        .collect();
    Summary::of(&pseudo?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subspace::random::Gaussian;

    /// All pairs of `n` seeds with the value that `of` gives.
    fn pairs(n: usize, of: impl Fn(usize, usize) -> f64) -> Vec<PairValue> {
        (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).map(|(a, b)| (a, b, of(a, b))).collect()
    }

    #[test]
    fn the_jackknife_of_additive_pairs_is_the_interval_of_the_seeds() {
        // With φ = x_a + x_b the mean over pairs is twice the mean over seeds, and so is its interval.
        let x = [0.1, 0.4, 0.2, 0.9, 0.5];
        let found = jackknife(&pairs(5, |a, b| x[a] + x[b]), 5).unwrap();
        let seeds = Summary::of(&x.map(|value| 2.0 * value)).unwrap();
        assert!((found.mean - seeds.mean).abs() < 1e-12);
        assert!((found.ci_low.unwrap() - seeds.ci_low.unwrap()).abs() < 1e-12);
        assert!(jackknife(&pairs(2, |_, _| 1.0), 2).is_none());
    }

    #[test]
    fn intervals_over_pairs_cover_the_mean_as_often_as_they_say() {
        // φ = (x_a + x_b)/2 + noise of the pair; the true mean is 0. A naive interval over pairs covers far less.
        let mut gaussian = Gaussian::new(11);
        let (draws, n) = (1000, 6);
        let mut covered = 0;
        for _ in 0..draws {
            let x: Vec<f64> = (0..n).map(|_| gaussian.next()).collect();
            let noise: Vec<f64> = (0..n * n).map(|_| 0.5 * gaussian.next()).collect();
            let found = jackknife(&pairs(n, |a, b| f64::midpoint(x[a], x[b]) + noise[a * n + b]), n).unwrap();
            covered += usize::from(found.ci_low.unwrap() <= 0.0 && found.ci_high.unwrap() >= 0.0);
        }
        let share = covered as f64 / f64::from(draws);
        // Four standard errors of a share of 0.95, and the jackknife of pairs errs on the wide side.
        assert!((0.92..=0.99).contains(&share), "{share}");
    }
}
