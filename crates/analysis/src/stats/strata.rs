//! Whether the differences of several tasks go together at one seed.
//!
//! A stratified test adds the tasks' variances, which is right where their differences are independent. Runs of different tasks share a
//! seed's number, and with it the first values of A; if that made a method lucky on all tasks at once, the sum would be too small.

use std::collections::BTreeMap;

use super::draws::Draws;

/// Permutations of the test.
const PERMUTATIONS: usize = 999;

/// Below this, the permutation test says that tasks' differences at one seed go together.
const DEPENDENT: f64 = 0.05;

/// The mean correlation of differences of two tasks over seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Together {
    /// The mean over pairs of tasks and comparisons.
    pub correlation: f64,
    /// The share of permutations of the seeds within each task whose mean correlation is as large or larger: the exact test of
    /// independence, against correlations above 0.
    pub p: f64,
}

impl Together {
    /// Whether the test says that tasks' differences at one seed go together, so that their variances may not be added.
    pub fn is_dependent(&self) -> bool {
        self.p < DEPENDENT
    }
}

/// Tests `[comparison][task][seed]`. Comparisons with fewer than two tasks or three seeds are left out; none where no other is there.
///
/// A permutation moves the seeds of a task alike in all comparisons, since comparisons that share a baseline are not independent.
pub fn together(comparisons: &[Vec<Vec<f64>>]) -> Option<Together> {
    let usable = |tasks: &&Vec<Vec<f64>>| {
        let seeds = tasks.first().map_or(0, Vec::len);
        seeds > 2 && tasks.iter().all(|values| values.len() == seeds)
    };
    let standardised: Vec<Vec<Vec<f64>>> = comparisons
        .iter()
        .filter(usable)
        .map(|tasks| tasks.iter().filter_map(|values| standardised(values)).collect())
        .filter(|tasks: &Vec<Vec<f64>>| tasks.len() > 1)
        .collect();
    let pairs: usize = standardised.iter().map(|tasks| tasks.len() * (tasks.len() - 1)).sum();
    if pairs == 0 {
        return None;
    }
    let observed = crossed(&standardised, &BTreeMap::new());
    let mut rng = Draws::new(0);
    let sizes: Vec<(usize, usize)> =
        standardised.iter().flat_map(|tasks| (0..tasks.len()).map(|task| (tasks[task].len(), task))).collect();
    let reached = (0..PERMUTATIONS).filter(|_| {
        let mut orders = BTreeMap::new();
        for &(seeds, task) in &sizes {
            orders.entry((seeds, task)).or_insert_with(|| rng.order(seeds));
        }
        crossed(&standardised, &orders) >= observed - 1e-9
    });
    let p = (1 + reached.count()) as f64 / (1 + PERMUTATIONS) as f64;
    Some(Together { correlation: observed / pairs as f64, p })
}

/// Deviations over the root of their sum of squares: two such rows have their correlation as product. None without spread.
fn standardised(values: &[f64]) -> Option<Vec<f64>> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let norm = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>().sqrt();
    (norm > 1e-12).then(|| values.iter().map(|value| (value - mean) / norm).collect())
}

/// The sum of correlations over ordered pairs of tasks: `Σ_s (Σ_t z_ts)² - T`.
fn crossed(comparisons: &[Vec<Vec<f64>>], orders: &BTreeMap<(usize, usize), Vec<usize>>) -> f64 {
    let of = |tasks: &Vec<Vec<f64>>| {
        let seeds = tasks[0].len();
        let at = |task: usize, seed: usize| {
            let place = orders.get(&(seeds, task)).map_or(seed, |order| order[seed]);
            tasks[task][place]
        };
        let square = |seed: usize| (0..tasks.len()).map(|task| at(task, seed)).sum::<f64>().powi(2);
        (0..seeds).map(square).sum::<f64>() - tasks.len() as f64
    };
    comparisons.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(rng: &mut Draws) -> f64 {
        // The sum of twelve uniform numbers less six has mean 0 and variance 1.
        (0..12).map(|_| rng.below(1 << 30) as f64 / f64::from(1 << 30)).sum::<f64>() - 6.0
    }

    #[test]
    fn differences_that_share_their_luck_are_found_and_others_are_not() {
        let mut rng = Draws::new(3);
        let mut study = |shared: f64| -> Vec<Vec<Vec<f64>>> {
            let comparison = |rng: &mut Draws| {
                let luck: Vec<f64> = (0..5).map(|_| shared * noise(rng)).collect();
                (0..4).map(|_| luck.iter().map(|luck| luck + noise(rng)).collect()).collect()
            };
            (0..6).map(|_| comparison(&mut rng)).collect()
        };
        let (apart, tied) = (together(&study(0.0)).unwrap(), together(&study(1.5)).unwrap());
        assert!(apart.p > 0.05 && apart.correlation.abs() < 0.25, "{apart:?}");
        assert!(tied.p < 0.01 && tied.correlation > 0.4, "{tied:?}");
    }

    #[test]
    fn a_perfect_correlation_is_one_and_too_little_is_none() {
        let rows = vec![vec![0.1, 0.2, 0.4, 0.3, 0.9], vec![1.0, 2.0, 4.0, 3.0, 9.0]];
        let found = together(std::slice::from_ref(&rows)).unwrap();
        assert!((found.correlation - 1.0).abs() < 1e-12, "{found:?}");
        assert_eq!(together(&[rows[..1].to_vec()]), None);
        assert_eq!(together(&[vec![vec![0.1, 0.2], vec![0.3, 0.1]]]), None);
        assert_eq!(together(&[vec![vec![0.1; 4], vec![0.2; 4]]]), None);
    }
}
