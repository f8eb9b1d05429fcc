//! Changes of magnitude and direction over training (DoRA section 3.2, equations 3 and 4).
//!
//! A map is split per column into magnitude and direction, `W = m·V/‖V‖_c`. Against the pretrained map `W0`, with `k` columns:
//!
//! ```text
//! ΔM = (1/k) Σ_n |m_n - m0_n|              m_n = ‖w_n‖
//! ΔD = (1/k) Σ_n (1 - cos(w_n, w0_n))
//! ```
//! The published code takes norms over the input dimension, one magnitude per output; in `[d_in, d_out]` these are the columns, `k =
//! d_out`, as in this workspace's weight-decomposed update.
//!
//! Both come from `g = w0·δ` and `q = ‖δ‖²` of the change `δ = w - w0`: `m - m0 = (2g + q)/(m + m0)` and `1 - cos = (q - (m -
//! m0)²)/(2 m m0)`. That is exact, does not cancel for small changes, and needs no dense `ΔW` where it is a product.
//!
//! Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation*, ICML 2024, arXiv:2402.09353.

use lowrank::Update;
use lowrank::linalg::{product, transposed_product};
use nalgebra::DMatrix;

use super::factored::threshold;
use super::{SubspaceError, check, same_shape};

/// The change of one map against its base.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// `|m_n - m0_n|` per column, `[d_out]`.
    pub magnitude: Vec<f64>,
    /// `1 - cos(w_n, w0_n)` per column, `[d_out]`, in `[0, 2]`.
    pub direction: Vec<f64>,
}

/// `ΔM` and `ΔD` of a sequence of checkpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Dynamics {
    /// `ΔM` per checkpoint, `[n]`.
    pub magnitude: Vec<f64>,
    /// `ΔD` per checkpoint, `[n]`.
    pub direction: Vec<f64>,
}

/// The change per column of `W0 + ΔW` against `base = W0`, both `[d_in, d_out]`.
pub fn change(base: &DMatrix<f64>, update: &Update) -> Result<Change, SubspaceError> {
    check("W0", base)?;
    same_shape(("ΔW", update.shape()), ("W0", base.shape()))?;
    let (d_in, d_out) = base.shape();
    // g: w0_n·δ_n, q: ‖δ_n‖², each [d_out].
    let (g, q): (Vec<f64>, Vec<f64>) = match update {
        Update::Dense(delta) => {
            check("ΔW", delta)?;
            let columns = base.column_iter().zip(delta.column_iter());
            columns.map(|(column, delta)| (column.dot(&delta), delta.norm_squared())).unzip()
        }
        Update::LowRank(low) => {
            let crossed = transposed_product(base, low.down()); // [d_out, r]
            let gram = product(&transposed_product(low.down(), low.down()), low.up()); // [r, d_out]
            let column = |n: usize| {
                let b = low.up().column(n); // [r]
                (crossed.row(n).transpose().dot(&b), gram.column(n).dot(&b).max(0.0))
            };
            (0..d_out).map(column).unzip()
        }
    };
    let mut change = Change { magnitude: Vec::with_capacity(d_out), direction: Vec::with_capacity(d_out) };
    for n in 0..d_out {
        let before = base.column(n).norm();
        let after = (before * before + 2.0 * g[n] + q[n]).max(0.0).sqrt();
        if before == 0.0 {
            return Err(SubspaceError::ZeroColumn { name: "W0", column: n });
        }
        if after <= threshold(d_in, 1, before) {
            return Err(SubspaceError::ZeroColumn { name: "W0 + ΔW", column: n });
        }
        let grown = (2.0 * g[n] + q[n]) / (after + before);
        change.magnitude.push(grown.abs());
        change.direction.push(((q[n] - grown * grown) / (2.0 * after * before)).clamp(0.0, 2.0));
    }
    Ok(change)
}

/// `ΔM` and `ΔD` of checkpoints of one map, in their order.
pub fn dynamics(base: &DMatrix<f64>, checkpoints: &[Update]) -> Result<Dynamics, SubspaceError> {
    let mut dynamics = Dynamics { magnitude: Vec::new(), direction: Vec::new() };
    for update in checkpoints {
        let change = change(base, update)?;
        dynamics.magnitude.push(mean(&change.magnitude));
        dynamics.direction.push(mean(&change.direction));
    }
    Ok(dynamics)
}

impl Dynamics {
    /// Pearson's correlation of `ΔM` and `ΔD` over these checkpoints; see [`pearson`].
    pub fn correlation(&self) -> Result<Option<f64>, SubspaceError> {
        pearson(&self.magnitude, &self.direction)
    }
}

/// Pearson's correlation of paired points, both `[n]`, `n >= 2`. None where one of them does not vary.
///
/// The paper's figure 2 pools the points of all layers and checkpoints: concatenate their [`Dynamics`].
pub fn pearson(first: &[f64], second: &[f64]) -> Result<Option<f64>, SubspaceError> {
    same_shape(("the first sample", (first.len(), 1)), ("the second sample", (second.len(), 1)))?;
    if first.len() < 2 {
        return Err(SubspaceError::TooFew { what: "points", found: first.len(), needed: 2 });
    }
    check("the first sample", &DMatrix::from_column_slice(first.len(), 1, first))?;
    check("the second sample", &DMatrix::from_column_slice(second.len(), 1, second))?;
    let (first_mean, second_mean) = (mean(first), mean(second));
    let (mut crossed, mut own, mut other) = (0.0, 0.0, 0.0);
    for (one, two) in first.iter().zip(second) {
        let (one, two) = (one - first_mean, two - second_mean);
        crossed += one * two;
        own += one * one;
        other += two * two;
    }
    // Deviations of the size of the mean's rounding error are no variation.
    let flat = |squares: f64, mean: f64| squares.sqrt() <= threshold(first.len(), 1, mean.abs());
    if flat(own, first_mean) || flat(other, second_mean) {
        return Ok(None);
    }
    Ok(Some((crossed / (own.sqrt() * other.sqrt())).clamp(-1.0, 1.0)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
