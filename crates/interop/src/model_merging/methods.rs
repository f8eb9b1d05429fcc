//! The methods of model merging, on the updates of one map.
//!
//! Everything but LoRAHub happens in the space of `ΔW_i` `[d_in, d_out]`, never on the factors one by one: `(Σ A_i)·(Σ B_i)` would hold the
//! cross terms `A_i·B_j`, which no adapter has learnt. With weights `w_i` and `∘` element by element:
//!
//! | method | `ΔW` | source |
//! |---|---|---|
//! | linear | `Σ w_i·ΔW_i` | task arithmetic: Ilharco et al. 2022, arXiv:2212.04089; a negative weight forgets |
//! | concatenation | the same, as `[w_1·A_1 … w_n·A_n]·[B_1; …; B_n]` | – |
//! | magnitude pruning | `Σ w_i·t(ΔW_i)`; `t` keeps the `⌊p·d_in·d_out⌋` largest magnitudes | – |
//! | TIES | `γ = sgn Σ t(ΔW_i)`, then the mean of `w_i·t(ΔW_i)` over those `i` whose sign is `γ`, at each place | Yadav et al. 2023, arXiv:2306.01708 |
//! | ComPEFT | `Σ w_i·σ_i·sgn t(ΔW_i)`, `σ_i` the standard deviation of `ΔW_i`'s numbers; the paper's `α` is in the weights | Yadav et al. 2023, arXiv:2311.13171 |
//! | Fisher | the mean of `ΔW_i` weighted by `F_i`, entry by entry, [`fisher`](super::fisher) | Matena and Raffel 2022, arXiv:2111.09832 |
//! | RegMean | what fits every adapter's outputs on its own inputs, [`regmean`](super::regmean) | Jin et al. 2023, arXiv:2212.09849 |
//! | LoRAHub | at weights that a search finds on a few examples of another task, [`lorahub`](super::lorahub) | Huang et al. 2023, arXiv:2307.13269 |
//! | DARE | `Σ w_i·(m_i ∘ ΔW_i)/p`, `m_i ~ Bernoulli(p)`, so that the expectation is the linear combination | Yu et al. 2023, arXiv:2311.03099 |
//!
//! `p` is the density, the share that stays (DARE's paper names the share that goes). A rank below that of the result is reached by the
//! best approximation in Frobenius norm (Eckart and Young 1936), whose error is `√Σ_{j>r} σ_j²`.
//!
//! Departures. TIES' paper trims the whole vector of an adapter and scales the merged one by λ; here, as in PEFT, every map is trimmed
//! by itself and λ is in the weights, which act after the election. Where signs balance exactly the elected one is `+`, as in PEFT.
//! Among equal magnitudes the first in row-major order stay. PEFT 0.18.1 divides a copy by DARE's `p`, and its kinds with SVD apply an
//! adapter's scale twice (`scripts/oracle/combine.py` shows both); here the one is done and the other is not.

use lowrank::{Truncated, Update};
use nalgebra::DMatrix;
use variants::stream::{self, Stream};

use super::lorahub::Mix;

/// How the sign at a place is elected (TIES).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignElection {
    /// By the sum of the values: the sign with more mass.
    Total,
    /// By the sum of the signs: the sign that more adapters have.
    Frequency,
}

/// What is combined to what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The weighted sum at its own rank.
    Linear,
    /// The weighted sum with the factors concatenated, at the sum of the ranks.
    Cat,
    /// The weighted sum at a given rank.
    Svd {
        /// Largest rank.
        rank: usize,
    },
    /// Trim, elect, mean.
    Ties {
        /// Largest rank.
        rank: usize,
        /// The share that stays.
        density: f64,
        /// How signs are elected.
        election: SignElection,
    },
    /// Drop at random and rescale.
    Dare {
        /// Largest rank.
        rank: usize,
        /// The share that stays.
        density: f64,
        /// Seed of the masks.
        seed: u64,
    },
    /// Trim to signs of one size and sum.
    Compeft {
        /// Largest rank.
        rank: usize,
        /// The share that stays.
        density: f64,
    },
    /// The mean weighted by how much every entry matters to its run ([`weighted_mean`](super::fisher::weighted_mean)).
    Fisher {
        /// Largest rank.
        rank: usize,
        /// Examples of every run's training over which gradients are taken.
        examples: usize,
    },
    /// Fit every adapter's outputs on its own inputs ([`regression_mean`](super::regmean::regression_mean)).
    RegMean {
        /// Largest rank.
        rank: usize,
        /// Micro-batches of every run's training over which inputs are taken.
        batches: usize,
        /// `γ`, what Gram matrices are multiplied by off the diagonal.
        off_diagonal: f64,
    },
    /// The weights that a search finds ([`lorahub`](super::lorahub)).
    LoraHub {
        /// How adapters become one.
        mix: Mix,
        /// Training examples of the target.
        examples: usize,
        /// How often the loss is computed.
        evaluations: usize,
        /// Of the search.
        seed: u64,
    },
    /// Trim and sum.
    MagnitudePrune {
        /// Largest rank.
        rank: usize,
        /// The share that stays.
        density: f64,
    },
}

/// Combines the updates of one map, each with its weight; `None` stands for a map that an adapter leaves alone. `key` names the map, so
/// that every map has masks of its own. At least one update is there, and all have one shape.
pub fn combine(updates: &[(f64, Option<&Update>)], method: Method, key: &str) -> Result<Truncated, String> {
    let at_rank = |update: Update, rank| update.truncated(rank).map_err(|error| error.to_string());
    match method {
        Method::Linear => at_rank(sum(updates), None),
        Method::Cat => concatenated(updates),
        Method::Svd { rank } => at_rank(sum(updates), Some(rank)),
        Method::Ties { rank, density, election } => {
            let (weights, trimmed): (Vec<f64>, Vec<DMatrix<f64>>) =
                dense(updates).into_iter().map(|(weight, matrix)| (weight, trim(matrix, density))).unzip();
            at_rank(Update::Dense(elect_and_mean(&weights, &trimmed, election)), Some(rank))
        }
        Method::Dare { rank, density, seed } => {
            let dropped = dense(updates).into_iter().enumerate();
            let dropped = dropped.map(|(at, (weight, matrix))| (weight, drop(matrix, density, seed, at, key)));
            at_rank(Update::Dense(weighted_sum(dropped)), Some(rank))
        }
        Method::Compeft { rank, density } => {
            let ternary = dense(updates).into_iter().map(|(weight, matrix)| (weight, ternary(matrix, density)));
            at_rank(Update::Dense(weighted_sum(ternary)), Some(rank))
        }
        Method::Fisher { .. } | Method::RegMean { .. } | Method::LoraHub { .. } => {
            Err("it needs what was measured of every run".to_owned())
        }
        Method::MagnitudePrune { rank, density } => {
            let trimmed = dense(updates).into_iter().map(|(weight, matrix)| (weight, trim(matrix, density)));
            at_rank(Update::Dense(weighted_sum(trimmed)), Some(rank))
        }
    }
}

/// Every `ΔW_i`, `[d_in, d_out]`; zero where an adapter leaves the map alone, so that its place in the order stays.
fn dense(updates: &[(f64, Option<&Update>)]) -> Vec<(f64, DMatrix<f64>)> {
    let (d_in, d_out) = updates.iter().find_map(|(_, update)| update.map(Update::shape)).unwrap_or_default();
    let one = |(weight, update): &(f64, Option<&Update>)| {
        (*weight, update.map_or_else(|| DMatrix::zeros(d_in, d_out), Update::dense))
    };
    updates.iter().map(one).collect()
}

/// `Σ w_i·M_i`
fn weighted_sum(terms: impl Iterator<Item = (f64, DMatrix<f64>)>) -> DMatrix<f64> {
    let scaled = terms.map(|(weight, matrix)| matrix * weight);
    scaled.reduce(|sum, term| sum + term).unwrap_or_else(|| DMatrix::zeros(0, 0))
}

/// `Σ w_i·ΔW_i`, in factors where all have them.
fn sum(updates: &[(f64, Option<&Update>)]) -> Update {
    let given: Vec<(f64, &Update)> =
        updates.iter().filter_map(|(weight, update)| Some((*weight, (*update)?))).collect();
    Update::weighted_sum(&given)
}

/// The weighted sum with the factors concatenated, at the sum of the ranks.
fn concatenated(updates: &[(f64, Option<&Update>)]) -> Result<Truncated, String> {
    match sum(updates) {
        Update::LowRank(update) => Ok(Truncated { norm: update.dense().norm(), update, lost: 0.0 }),
        Update::Dense(_) => Err("an update without factors cannot be put beside others".to_owned()),
    }
}

/// The `⌊density·n⌋` values of largest magnitude, zero elsewhere.
pub fn trim(mut matrix: DMatrix<f64>, density: f64) -> DMatrix<f64> {
    let (cols, size) = (matrix.ncols(), matrix.len());
    let kept = (density * size as f64) as usize;
    if kept >= size {
        return matrix;
    }
    // Row-major position breaks ties, so that the result is one and the same everywhere.
    let place = |at: usize| (at / cols, at % cols);
    let mut order: Vec<usize> = (0..size).collect();
    let magnitude = |at: usize| matrix[place(at)].abs();
    order.select_nth_unstable_by(kept, |a, b| magnitude(*b).total_cmp(&magnitude(*a)).then(a.cmp(b)));
    for at in order.split_off(kept) {
        matrix[place(at)] = 0.0;
    }
    matrix
}

/// `σ·sgn(t(M))`: the signs of the largest magnitudes, all of the size of the standard deviation of `M`'s numbers.
pub fn ternary(matrix: DMatrix<f64>, density: f64) -> DMatrix<f64> {
    let size = matrix.variance().sqrt();
    trim(matrix, density).map(|value| if value == 0.0 { 0.0 } else { size * value.signum() })
}

/// `(m ∘ M)/density` with the mask of an adapter's place in the order, which is drawn row by row.
pub fn drop(mut matrix: DMatrix<f64>, density: f64, seed: u64, at: usize, key: &str) -> DMatrix<f64> {
    let rng = &mut stream::generator(seed, Stream::Dropout, &format!("combine.{at}.{key}"));
    for mut row in matrix.row_iter_mut() {
        for value in &mut row {
            *value = if stream::unit(rng) < density { *value / density } else { 0.0 };
        }
    }
    matrix
}

/// TIES' second and third step, on matrices that are trimmed.
pub fn elect_and_mean(weights: &[f64], trimmed: &[DMatrix<f64>], election: SignElection) -> DMatrix<f64> {
    let Some(first) = trimmed.first() else { return DMatrix::zeros(0, 0) };
    let sign = |value: f64| if value == 0.0 { 0.0 } else { value.signum() };
    DMatrix::from_fn(first.nrows(), first.ncols(), |row, col| {
        let values = || trimmed.iter().map(move |matrix| matrix[(row, col)]);
        let balance: f64 = match election {
            SignElection::Total => values().sum(),
            SignElection::Frequency => values().map(sign).sum(),
        };
        let elected = if balance >= 0.0 { 1.0 } else { -1.0 };
        let agreeing = || values().zip(weights).filter(|(value, _)| sign(*value) == elected);
        let count = agreeing().count().max(1) as f64;
        agreeing().map(|(value, weight)| weight * value).sum::<f64>() / count
    })
}

#[cfg(test)]
mod tests;
