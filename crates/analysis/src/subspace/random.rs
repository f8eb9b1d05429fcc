//! Random subspaces: closed forms, simulated bands, Gaussian samples.
//!
//! Singular vectors of a Gaussian matrix are uniformly distributed over orthonormal frames, left and right ones independently. For a
//! uniform `U: [d, i]` and any fixed `V: [d, j]`, `E ‖UᵀV‖_F² = i·j/d`, hence `E φ(i, j) = max(i, j)/d`.

use lowrank::linalg::Backend;
use nalgebra::DMatrix;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::SubspaceError;
use super::basis::Basis;
use super::cumulative::normalised_sums;

/// Fewest draws of a band: 2.5% of them is one.
pub const FEWEST_DRAWS: usize = 40;

/// A portable Gaussian generator: the same numbers on every platform.
pub struct Gaussian {
    rng: ChaCha20Rng,
    spare: Option<f64>,
}

/// Pointwise quantiles of `φ` over random subspaces, each `[k_a, k_b]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// 2.5% quantile.
    pub low: DMatrix<f64>,
    /// 97.5% quantile.
    pub high: DMatrix<f64>,
    /// Mean of the draws.
    pub mean: DMatrix<f64>,
    /// Number of draws.
    pub draws: usize,
}

/// `E φ(i, j) = max(i, j)/d` over random subspaces of `R^d`.
pub fn mean_phi(dimension: usize, i: usize, j: usize) -> f64 {
    i.max(j) as f64 / dimension as f64
}

/// `E ‖PΔW‖_F²/‖ΔW‖_F² = k/d` for a random `k`-dimensional subspace of `R^d`.
pub fn mean_captured_energy(dimension: usize, k: usize) -> f64 {
    k as f64 / dimension as f64
}

/// `(E ‖UᵀWV‖_F²)^½ = r·‖W‖_F/(d_in d_out)^½` for independent uniform `U: [d_in, r]` and `V: [d_out, r]`.
///
/// The mean square is exact; by Jensen's inequality the mean norm is smaller.
pub fn root_mean_square_projection(norm: f64, (d_in, d_out): (usize, usize), r: usize) -> f64 {
    r as f64 * norm / ((d_in * d_out) as f64).sqrt()
}

/// The simulated 95% band of `φ` between two random subspaces of `R^d`, of `k_a` and `k_b` dimensions, from `draws` draws.
///
/// Only the relative position matters, so the second subspace is the first `k_b` axes. Of a uniform frame `Q = G R⁻¹`, `G: [d, k_a]`
/// Gaussian, only the first `k_b` rows are needed; the Gram matrix of the others is a Wishart matrix, drawn by its triangular factor
/// (Bartlett 1933). A draw costs `O((k_a + k_b) k_a²)`, whatever `d`.
pub fn band(dimension: usize, (first, second): (usize, usize), draws: usize, seed: u64) -> Result<Band, SubspaceError> {
    if draws < FEWEST_DRAWS {
        return Err(SubspaceError::Draws { found: draws, needed: FEWEST_DRAWS });
    }
    let largest = first.max(second);
    if first.min(second) == 0 || largest > dimension {
        return Err(SubspaceError::TooManyDirections { asked: largest, available: dimension });
    }
    let mut gaussian = Gaussian::new(seed);
    let samples: Vec<DMatrix<f64>> =
        (0..draws).map(|_| normalised_sums(&cosines(dimension, first, second, &mut gaussian))).collect();
    let quantiles = |i: usize, j: usize| {
        let mut values: Vec<f64> = samples.iter().map(|sample| sample[(i, j)]).collect();
        values.sort_by(f64::total_cmp);
        (quantile(&values, 0.025), quantile(&values, 0.975), values.iter().sum::<f64>() / draws as f64)
    };
    let mut band = Band {
        low: DMatrix::zeros(first, second),
        high: DMatrix::zeros(first, second),
        mean: DMatrix::zeros(first, second),
        draws,
    };
    for i in 0..first {
        for j in 0..second {
            (band.low[(i, j)], band.high[(i, j)], band.mean[(i, j)]) = quantiles(i, j);
        }
    }
    Ok(band)
}

/// `UᵀV`, `[k_a, k_b]`, for a uniform `U: [d, k_a]` and the first `k_b` axes `V`, up to the signs of the columns of `U`.
fn cosines(dimension: usize, first: usize, second: usize, gaussian: &mut Gaussian) -> DMatrix<f64> {
    let seen = gaussian.matrix(second, first); // [k_b, k_a]
    let rest = dimension - second;
    // The triangular factor of Gᵀ G for the unseen rows of G; with fewer rows than columns, the rows themselves.
    let unseen = if rest >= first {
        DMatrix::from_fn(first, first, |row, col| match row.cmp(&col) {
            std::cmp::Ordering::Less => gaussian.next(),
            std::cmp::Ordering::Equal => gaussian.chi_squared(rest - row).sqrt(),
            std::cmp::Ordering::Greater => 0.0,
        })
    } else {
        gaussian.matrix(rest, first)
    };
    let mut stacked = DMatrix::zeros(second + unseen.nrows(), first);
    stacked.rows_mut(0, second).copy_from(&seen);
    stacked.rows_mut(second, unseen.nrows()).copy_from(&unseen);
    Backend::default().qr(&stacked).0.rows(0, second).transpose()
}

/// Linear interpolation between order statistics (Hyndman and Fan's type 7, numpy's default). `sorted` is not empty.
pub(crate) fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let position = probability * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

impl Gaussian {
    /// A generator with its own stream per seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: ChaCha20Rng::seed_from_u64(seed), spare: None }
    }

    /// A standard normal number (Box and Muller 1958).
    #[expect(clippy::should_implement_trait, reason = "an endless stream has no `None` to return")]
    pub fn next(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * libm::log(self.uniform())).sqrt();
        let angle = std::f64::consts::TAU * self.uniform();
        self.spare = Some(radius * libm::sin(angle));
        radius * libm::cos(angle)
    }

    /// A matrix of standard normal numbers, `[rows, cols]`, column by column.
    pub fn matrix(&mut self, rows: usize, cols: usize) -> DMatrix<f64> {
        let entries: Vec<f64> = (0..rows * cols).map(|_| self.next()).collect();
        DMatrix::from_vec(rows, cols, entries)
    }

    /// A uniformly distributed `k`-frame of `R^d`, `[d, k]`: what the singular vectors of a Gaussian matrix are.
    pub fn basis(&mut self, dimension: usize, k: usize) -> Result<Basis, SubspaceError> {
        if k == 0 || k > dimension {
            return Err(SubspaceError::TooManyDirections { asked: k, available: dimension });
        }
        let (q, r) = Backend::default().qr(&self.matrix(dimension, k));
        let signed =
            DMatrix::from_fn(dimension, k, |row, col| if r[(col, col)] < 0.0 { -q[(row, col)] } else { q[(row, col)] });
        Basis::orthonormal(signed)
    }

    /// A chi-squared number with `freedom >= 1` degrees, as twice a gamma number (Marsaglia and Tsang 2000).
    fn chi_squared(&mut self, freedom: usize) -> f64 {
        if freedom == 1 {
            return self.next().powi(2);
        }
        let d = freedom as f64 / 2.0 - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.next();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && libm::log(self.uniform()) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return 2.0 * d * v;
            }
        }
    }

    /// Uniform in `(0, 1]`, on multiples of `2^-53`.
    fn uniform(&mut self) -> f64 {
        ((self.rng.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;
