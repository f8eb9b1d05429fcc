//! Combinations of weight updates, as plain f64 matrices.
//!
//! Everything happens in the space of `ΔW_i` `[d_in, d_out]`, never on the factors one by one: `(Σ A_i)·(Σ B_i)` would hold the cross
//! terms `A_i·B_j`, which no adapter has learnt. With weights `w_i` and `∘` element by element:
//!
//! | method | `ΔW` | source |
//! |---|---|---|
//! | linear | `Σ w_i·ΔW_i` | task arithmetic: Ilharco et al. 2022, arXiv:2212.04089; a negative weight forgets |
//! | concatenation | the same, as `[w_1·A_1 … w_n·A_n]·[B_1; …; B_n]` | – |
//! | magnitude pruning | `Σ w_i·t(ΔW_i)`; `t` keeps the `⌊p·d_in·d_out⌋` largest magnitudes | – |
//! | TIES | `γ = sgn Σ t(ΔW_i)`, then the mean of `w_i·t(ΔW_i)` over those `i` whose sign is `γ`, at each place | Yadav et al. 2023, arXiv:2306.01708 |
//! | DARE | `Σ w_i·(m_i ∘ ΔW_i)/p`, `m_i ~ Bernoulli(p)`, so that the expectation is the linear combination | Yu et al. 2023, arXiv:2311.03099 |
//!
//! `p` is the density, the share that stays (DARE's paper names the share that goes). A rank below that of the result is reached by the
//! best approximation in Frobenius norm (Eckart and Young 1936), whose error is `√Σ_{j>r} σ_j²`.
//!
//! Departures. TIES' paper trims the whole vector of an adapter and scales the merged one by λ; here, as in PEFT, every map is trimmed
//! by itself and λ is in the weights, which act after the election. Where signs balance exactly the elected one is `+`, as in PEFT.
//! Among equal magnitudes the first in row-major order stay. PEFT 0.18.1 divides a copy by DARE's `p`, and its kinds with SVD apply an
//! adapter's scale twice (`scripts/oracle/combine.py` shows both); here the one is done and the other is not.

use nalgebra::DMatrix;
use variants::stream::{self, Stream};

/// How the sign at a place is elected (TIES).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
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
    /// The weighted sum as factors side by side, at the sum of the ranks.
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
        election: Election,
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
    /// Trim and sum.
    MagnitudePrune {
        /// Largest rank.
        rank: usize,
        /// The share that stays.
        density: f64,
    },
}

/// A matrix, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// `[rows, cols]`, row-major.
    pub values: Vec<f64>,
}

impl Matrix {
    /// All zero.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self { rows, cols, values: vec![0.0; rows * cols] }
    }

    /// `‖M‖_F`
    pub fn norm(&self) -> f64 {
        self.values.iter().map(|v| v * v).sum::<f64>().sqrt()
    }

    /// Rows as columns.
    pub fn transposed(&self) -> Self {
        let (rows, cols) = (self.cols, self.rows);
        let values = (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))).map(|(i, j)| self.values[j * rows + i]);
        Self { rows, cols, values: values.collect() }
    }

    fn column_major(&self) -> DMatrix<f64> {
        DMatrix::from_row_slice(self.rows, self.cols, &self.values)
    }

    fn of(matrix: &DMatrix<f64>) -> Self {
        let (rows, cols) = matrix.shape();
        Self { rows, cols, values: matrix.transpose().as_slice().to_vec() }
    }
}

/// An update of one map.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// `ΔW = down·up`.
    Factors {
        /// `[d_in, k]`
        down: Matrix,
        /// `[k, d_out]`
        up: Matrix,
    },
    /// `ΔW` itself, `[d_in, d_out]`.
    Dense(Matrix),
}

impl Update {
    /// `[d_in, d_out]`
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Factors { down, up } => [down.rows, up.cols],
            Self::Dense(matrix) => [matrix.rows, matrix.cols],
        }
    }

    /// `ΔW`, `[d_in, d_out]`.
    pub fn dense(&self) -> Matrix {
        match self {
            Self::Factors { down, up } => Matrix::of(&(down.column_major() * up.column_major())),
            Self::Dense(matrix) => matrix.clone(),
        }
    }
}

/// A combination as factors, and what bringing it to their rank has cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Combined {
    /// `[d_in, r]`
    pub down: Matrix,
    /// `[r, d_out]`
    pub up: Matrix,
    /// `‖ΔW‖_F` of the combination.
    pub norm: f64,
    /// `‖ΔW − down·up‖_F`.
    pub lost: f64,
}

impl Combined {
    /// `r`
    pub fn rank(&self) -> usize {
        self.down.cols
    }
}

/// Combines the updates of one map, each with its weight; `None` stands for a map that an adapter leaves alone. `key` names the map, so
/// that every map has masks of its own. At least one update is there, and all have one shape.
pub fn combine(updates: &[(f64, Option<&Update>)], method: Method, key: &str) -> Result<Combined, String> {
    match method {
        Method::Linear => best(&sum(updates), None),
        Method::Cat => concatenated(updates).map(|(down, up)| {
            let norm = Update::Factors { down: down.clone(), up: up.clone() }.dense().norm();
            Combined { down, up, norm, lost: 0.0 }
        }),
        Method::Svd { rank } => best(&sum(updates), Some(rank)),
        Method::Ties { rank, density, election } => {
            let (weights, trimmed): (Vec<f64>, Vec<Matrix>) =
                dense(updates).into_iter().map(|(weight, matrix)| (weight, trim(matrix, density))).unzip();
            best(&Update::Dense(elect_and_mean(&weights, &trimmed, election)), Some(rank))
        }
        Method::Dare { rank, density, seed } => {
            let dropped = dense(updates).into_iter().enumerate();
            let dropped = dropped.map(|(at, (weight, matrix))| (weight, drop(matrix, density, seed, at, key)));
            best(&Update::Dense(weighted_sum(dropped)), Some(rank))
        }
        Method::MagnitudePrune { rank, density } => {
            let trimmed = dense(updates).into_iter().map(|(weight, matrix)| (weight, trim(matrix, density)));
            best(&Update::Dense(weighted_sum(trimmed)), Some(rank))
        }
    }
}

/// Every `ΔW_i`, `[d_in, d_out]`; zero where an adapter leaves the map alone, so that its place in the order stays.
fn dense(updates: &[(f64, Option<&Update>)]) -> Vec<(f64, Matrix)> {
    let [rows, cols] = updates.iter().find_map(|(_, update)| update.map(Update::shape)).unwrap_or_default();
    let one = |(weight, update): &(f64, Option<&Update>)| {
        (*weight, update.map_or_else(|| Matrix::zeros(rows, cols), Update::dense))
    };
    updates.iter().map(one).collect()
}

/// `Σ w_i·M_i`
fn weighted_sum(terms: impl Iterator<Item = (f64, Matrix)>) -> Matrix {
    let scaled = |weight: f64, mut matrix: Matrix| {
        matrix.values.iter_mut().for_each(|value| *value *= weight);
        matrix
    };
    let added = |mut a: Matrix, b: Matrix| {
        a.values.iter_mut().zip(b.values).for_each(|(a, b)| *a += b);
        a
    };
    terms.map(|(weight, matrix)| scaled(weight, matrix)).reduce(added).unwrap_or_else(|| Matrix::zeros(0, 0))
}

/// `Σ w_i·ΔW_i`, in factors where all have them.
pub fn sum(updates: &[(f64, Option<&Update>)]) -> Update {
    match concatenated(updates) {
        Ok((down, up)) => Update::Factors { down, up },
        Err(_) => Update::Dense(weighted_sum(dense(updates).into_iter())),
    }
}

/// `[w_1·A_1 … w_n·A_n]` `[d_in, Σ k_i]` and `[B_1; …; B_n]` `[Σ k_i, d_out]`.
fn concatenated(updates: &[(f64, Option<&Update>)]) -> Result<(Matrix, Matrix), String> {
    let mut parts = Vec::new();
    for (weight, update) in updates {
        match update {
            Some(Update::Factors { down, up }) => parts.push((*weight, down, up)),
            Some(Update::Dense(_)) => return Err("an update without factors cannot be put beside others".to_owned()),
            None => {}
        }
    }
    let (d_in, d_out) = parts.first().map(|(_, down, up)| (down.rows, up.cols)).unwrap_or_default();
    let cols = parts.iter().map(|(_, down, _)| down.cols).sum();
    let mut wide = Matrix { rows: d_in, cols, values: Vec::with_capacity(d_in * cols) };
    for row in 0..d_in {
        for (weight, down, _) in &parts {
            wide.values.extend(down.values[row * down.cols..][..down.cols].iter().map(|value| weight * value));
        }
    }
    let tall = parts.iter().flat_map(|(_, _, up)| up.values.iter().copied()).collect();
    Ok((wide, Matrix { rows: cols, cols: d_out, values: tall }))
}

/// The `⌊density·n⌋` values of largest magnitude, zero elsewhere.
pub fn trim(mut matrix: Matrix, density: f64) -> Matrix {
    let kept = (density * matrix.values.len() as f64) as usize;
    if kept >= matrix.values.len() {
        return matrix;
    }
    let mut order: Vec<usize> = (0..matrix.values.len()).collect();
    let values = &matrix.values;
    // Row-major position breaks ties, so that the result is one and the same everywhere.
    order.select_nth_unstable_by(kept, |a, b| values[*b].abs().total_cmp(&values[*a].abs()).then(a.cmp(b)));
    for index in order.split_off(kept) {
        matrix.values[index] = 0.0;
    }
    matrix
}

/// `(m ∘ M)/density` with the mask of an adapter's place in the order.
pub fn drop(mut matrix: Matrix, density: f64, seed: u64, at: usize, key: &str) -> Matrix {
    let rng = &mut stream::generator(seed, Stream::Dropout, &format!("combine.{at}.{key}"));
    for value in &mut matrix.values {
        *value = if stream::unit(rng) < density { *value / density } else { 0.0 };
    }
    matrix
}

/// TIES' second and third step, on matrices that are trimmed.
pub fn elect_and_mean(weights: &[f64], trimmed: &[Matrix], election: Election) -> Matrix {
    let Some(first) = trimmed.first() else { return Matrix::zeros(0, 0) };
    let sign = |value: f64| if value == 0.0 { 0.0 } else { value.signum() };
    let at = |place: usize| {
        let values = || trimmed.iter().map(move |matrix| matrix.values[place]);
        let balance: f64 = match election {
            Election::Total => values().sum(),
            Election::Frequency => values().map(sign).sum(),
        };
        let elected = if balance >= 0.0 { 1.0 } else { -1.0 };
        let agreeing = || values().zip(weights).filter(|(value, _)| sign(*value) == elected);
        let count = agreeing().count().max(1) as f64;
        agreeing().map(|(value, weight)| weight * value).sum::<f64>() / count
    };
    Matrix { rows: first.rows, cols: first.cols, values: (0..first.values.len()).map(at).collect() }
}

/// Most sweeps of a singular value decomposition; those of weights need a few per value.
const SWEEPS: usize = 1_000_000;

/// The best approximation at `rank`, or the whole at its own rank; singular values that f64 cannot tell from zero are left out, and one
/// component stays in any case. Both factors take the square roots of the singular values.
///
/// Of factors: QR of both, then the SVD of a core as wide as they are, so that `ΔW` is never formed.
pub fn best(update: &Update, rank: Option<usize>) -> Result<Combined, String> {
    let (left, core, right) = match update {
        // The decomposition of a square core costs less than that of a long matrix.
        Update::Dense(matrix) if matrix.rows > matrix.cols => {
            let left = matrix.column_major().qr();
            (Some(left.q()), left.r(), None)
        }
        Update::Dense(matrix) => {
            let right = matrix.column_major().transpose().qr();
            (None, right.r().transpose(), Some(right.q()))
        }
        Update::Factors { down, up } => {
            let left = down.column_major().qr();
            let right = up.column_major().transpose().qr();
            let core = left.r() * right.r().transpose();
            (Some(left.q()), core, Some(right.q()))
        }
    };
    if !core.iter().all(|value| value.is_finite()) {
        return Err("it holds numbers that are not finite".to_owned());
    }
    let [d_in, d_out] = update.shape();
    let svd = core
        .try_svd(true, true, f64::EPSILON, SWEEPS)
        .ok_or_else(|| "its singular value decomposition does not converge".to_owned())?;
    let (Some(u), Some(v_t)) = (svd.u, svd.v_t) else { unreachable!("both sides were asked for") };
    let sigma = svd.singular_values.as_slice();
    let noise = sigma.first().copied().unwrap_or(0.0) * d_in.max(d_out) as f64 * f64::EPSILON;
    let own = sigma.iter().filter(|value| **value > noise).count();
    let kept = rank.unwrap_or(own).min(own).max(1).min(sigma.len());
    let root = |j: usize| sigma[j].sqrt();
    let mut down = u.columns(0, kept).clone_owned(); // [.., r]
    let mut up = v_t.rows(0, kept).clone_owned(); // [r, ..]
    for j in 0..kept {
        down.column_mut(j).scale_mut(root(j));
        up.row_mut(j).scale_mut(root(j));
    }
    if let Some(q) = left {
        down = q * down;
    }
    if let Some(q) = right {
        up *= q.transpose();
    }
    // Not `sum`, whose nothing is −0.
    let norm = |values: &[f64]| values.iter().fold(0.0, |sum, value| sum + value * value).sqrt();
    Ok(Combined { down: Matrix::of(&down), up: Matrix::of(&up), norm: norm(sigma), lost: norm(&sigma[kept..]) })
}

#[cfg(test)]
mod tests;
