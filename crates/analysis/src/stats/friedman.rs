//! Methods ranked over tasks: Friedman's test and Nemenyi's critical difference.
//!
//! Demšar, *Statistical Comparisons of Classifiers over Multiple Data Sets*, JMLR 7, 2006.

use statrs::distribution::{ChiSquared, ContinuousCDF, FisherSnedecor};

use super::power::normal;
use super::{CONFIDENCE, StatsError, finite};

/// Ranks of `k` methods over `N` tasks, rank 1 the best, ties at their average.
#[derive(Clone, Debug, PartialEq)]
pub struct Friedman {
    /// Mean rank of each method.
    pub mean_ranks: Vec<f64>,
    /// Number of tasks.
    pub tasks: usize,
    /// Friedman's statistic, corrected for ties.
    pub chi_squared: f64,
    /// Its p-value by the chi-squared distribution with `k - 1` degrees of freedom.
    pub p_chi_squared: f64,
    /// Iman and Davenport's statistic `(N - 1) χ² / (N (k - 1) - χ²)`; infinite where all tasks agree.
    pub f: f64,
    /// Its p-value by the F distribution with `k - 1` and `(k - 1)(N - 1)` degrees of freedom: the one to use, since Friedman's own is
    /// too conservative.
    pub p: f64,
    /// Nemenyi's critical difference at 5%: mean ranks further apart than `q √(k (k + 1) / (6 N))` differ, where `q` is the quantile of the
    /// studentized range over √2.
    pub critical_difference: f64,
}

impl Friedman {
    /// `scores[task][method]`, larger is better. At least two tasks and two methods.
    pub fn of(scores: &[Vec<f64>]) -> Result<Self, StatsError> {
        let (tasks, methods) = (scores.len(), scores.first().map_or(0, Vec::len));
        if tasks < 2 || methods < 2 {
            return Err(StatsError::TooFew { found: tasks.min(methods), needed: 2 });
        }
        if let Some(other) = scores.iter().find(|row| row.len() != methods) {
            return Err(StatsError::Unpaired { first: methods, second: other.len() });
        }
        scores.iter().try_for_each(|row| finite(row))?;
        let ranks: Vec<Vec<f64>> = scores.iter().map(|row| average_ranks(row)).collect();
        let (n, k) = (tasks as f64, methods as f64);
        let mean_ranks: Vec<f64> =
            (0..methods).map(|method| ranks.iter().map(|row| row[method]).sum::<f64>() / n).collect();
        let squares: f64 = mean_ranks.iter().map(|rank| rank * rank).sum();
        let ties: f64 = scores.iter().map(|row| tied(row)).sum();
        let spread = 1.0 - ties / (n * k * (k * k - 1.0));
        let plain = 12.0 * n / (k * (k + 1.0)) * (squares - k * (k + 1.0).powi(2) / 4.0);
        // Methods that tie everywhere do not differ.
        let chi_squared = if spread > 0.0 { (plain / spread).max(0.0) } else { 0.0 };
        let rest = n * (k - 1.0) - chi_squared;
        let f = if rest > 1e-9 { (n - 1.0) * chi_squared / rest } else { f64::INFINITY };
        let critical_difference = studentized_range_quantile(methods, CONFIDENCE) / std::f64::consts::SQRT_2
            * (k * (k + 1.0) / (6.0 * n)).sqrt();
        let p = p_of_f(f, k - 1.0, (k - 1.0) * (n - 1.0));
        Ok(Self {
            mean_ranks,
            tasks,
            chi_squared,
            p_chi_squared: p_of_chi(chi_squared, k - 1.0),
            f,
            p,
            critical_difference,
        })
    }
}

fn p_of_chi(statistic: f64, freedom: f64) -> f64 {
    match ChiSquared::new(freedom) {
        Ok(distribution) => distribution.sf(statistic),
        Err(error) => unreachable!("degrees of freedom are positive, but {freedom} gave: {error}"),
    }
}

fn p_of_f(statistic: f64, first: f64, second: f64) -> f64 {
    match FisherSnedecor::new(first, second) {
        Ok(distribution) => distribution.sf(statistic),
        Err(error) => unreachable!("degrees of freedom are positive, but {first} and {second} gave: {error}"),
    }
}

/// Rank of each score, the largest first, ties at their average rank.
pub fn average_ranks(scores: &[f64]) -> Vec<f64> {
    let rank = |score: &f64| {
        let above = scores.iter().filter(|other| *other > score).count();
        let equal = scores.iter().filter(|other| *other == score).count();
        above as f64 + f64::midpoint(1.0, equal as f64)
    };
    scores.iter().map(rank).collect()
}

/// `Σ (t³ - t)` over groups of `t` equal scores.
fn tied(scores: &[f64]) -> f64 {
    // Each member of a group of t adds t² - 1.
    let of = |score: &f64| (scores.iter().filter(|other| *other == score).count() as f64).powi(2) - 1.0;
    scores.iter().map(of).sum()
}

/// The quantile of the range of `count` independent standard normal variables, which is the studentized range with infinitely many
/// degrees of freedom.
pub fn studentized_range_quantile(count: usize, share: f64) -> f64 {
    let (mut low, mut high) = (0.0, 20.0);
    while high - low > 1e-9 {
        let middle = f64::midpoint(low, high);
        if range(count, middle) < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// `P(R < q) = k ∫ φ(z) [Φ(z) - Φ(z - q)]^(k-1) dz`, by Simpson's rule.
fn range(count: usize, q: f64) -> f64 {
    const INTERVALS: usize = 800;
    let (low, step) = (-9.0, 18.0 / INTERVALS as f64);
    let density = |z: f64| (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let value = |i: usize| {
        let z = low + step * i as f64;
        density(z) * (normal(z) - normal(z - q)).powi(count as i32 - 1)
    };
    let weight = |i: usize| match i {
        0 | INTERVALS => 1.0,
        i if i % 2 == 1 => 4.0,
        _ => 2.0,
    };
    count as f64 * (0..=INTERVALS).map(|i| weight(i) * value(i)).sum::<f64>() * step / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_ranks() {
        assert_eq!(average_ranks(&[0.9, 0.7, 0.9, 0.1]), [1.5, 3.0, 1.5, 4.0]);
    }

    #[test]
    fn demsars_table_of_nemenyi() {
        // Demšar 2006, Table 5(a), q at 0.05 for 2, 5 and 10 methods.
        for (methods, want) in [(2, 1.960), (5, 2.728), (10, 3.164)] {
            let got = studentized_range_quantile(methods, 0.95) / std::f64::consts::SQRT_2;
            assert!((got - want).abs() < 6e-4, "{methods}: {got}");
        }
    }

    #[test]
    fn tasks_that_all_agree_leave_no_doubt_and_methods_that_tie_do_not_differ() {
        let agree = Friedman::of(&[vec![0.9, 0.8, 0.7], vec![0.6, 0.5, 0.4], vec![0.3, 0.2, 0.1]]).unwrap();
        assert_eq!((agree.mean_ranks.as_slice(), agree.f, agree.p), (&[1.0, 2.0, 3.0][..], f64::INFINITY, 0.0));
        let tie = Friedman::of(&[vec![0.5, 0.5], vec![0.4, 0.4]]).unwrap();
        assert_eq!((tie.chi_squared, tie.p), (0.0, 1.0));
        assert!(Friedman::of(&[vec![0.5, 0.5]]).is_err() && Friedman::of(&[vec![0.5], vec![0.4]]).is_err());
    }
}
