//! Overlap of one map's subspaces over seeds (LoRA figure 4).

use super::SubspaceError;
use super::basis::Basis;
use super::grassmann::{Phi, phi};

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
    pub fn values(&self, i: usize, j: usize) -> Vec<(usize, usize, f64)> {
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
