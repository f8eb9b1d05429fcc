//! Aggregates over runs and tasks with stratified bootstrap intervals: interquartile mean and probability of improvement.
//!
//! A bootstrap sample draws as many runs as there are, with replacement, within each task: tasks are fixed, runs are not. Intervals are
//! percentiles. With three runs per task they are too narrow; the guide has how often they hold.
//!
//! Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical Precipice*, NeurIPS 2021 (the library rliable).

use super::draws::{Draws, quantile};
use super::{CONFIDENCE, StatsError, finite};

/// A statistic with its bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampled {
    /// Of the runs themselves.
    pub value: f64,
    /// Lower end of the 95% interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Resampled {
    pub(super) fn of(value: f64, mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let tail = f64::midpoint(0.0, 1.0 - CONFIDENCE);
        Self { value, low: quantile(&samples, tail), high: quantile(&samples, 1.0 - tail) }
    }
}

/// The mean of the middle half of all runs' scores over all tasks: a quarter of them, rounded down, is left out at either end.
///
/// `tasks` has the scores of each task's runs.
pub fn interquartile_mean(tasks: &[Vec<f64>], draws: usize, seed: u64) -> Result<Resampled, StatsError> {
    check(tasks)?;
    let mut rng = Draws::new(seed);
    let sample = |rng: &mut Draws| trimmed(tasks.iter().flat_map(|runs| resampled(runs, rng)).collect());
    let samples = (0..draws).map(|_| sample(&mut rng)).collect();
    Ok(Resampled::of(trimmed(tasks.concat()), samples))
}

/// The chance that a run of the first method is better than one of the second on the same task, ties counted half, averaged over tasks:
/// Mann and Whitney's `U / (n m)`.
///
/// `first` and `second` have the scores of each task's runs, larger is better; the tasks are the same.
pub fn improvement(first: &[Vec<f64>], second: &[Vec<f64>], draws: usize, seed: u64) -> Result<Resampled, StatsError> {
    check(first)?;
    check(second)?;
    if first.len() != second.len() {
        return Err(StatsError::Unpaired { first: first.len(), second: second.len() });
    }
    let mut rng = Draws::new(seed);
    let sample = |rng: &mut Draws| {
        let tasks = first.iter().zip(second).map(|(one, other)| wins(&resampled(one, rng), &resampled(other, rng)));
        tasks.sum::<f64>() / first.len() as f64
    };
    let samples = (0..draws).map(|_| sample(&mut rng)).collect();
    let value = first.iter().zip(second).map(|(one, other)| wins(one, other)).sum::<f64>() / first.len() as f64;
    Ok(Resampled::of(value, samples))
}

fn check(tasks: &[Vec<f64>]) -> Result<(), StatsError> {
    if tasks.is_empty() || tasks.iter().any(Vec::is_empty) {
        return Err(StatsError::TooFew { found: 0, needed: 1 });
    }
    tasks.iter().try_for_each(|runs| finite(runs))
}

fn resampled(runs: &[f64], rng: &mut Draws) -> Vec<f64> {
    (0..runs.len()).map(|_| runs[rng.below(runs.len())]).collect()
}

fn trimmed(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let cut = values.len() / 4;
    let middle = &values[cut..values.len() - cut];
    middle.iter().sum::<f64>() / middle.len() as f64
}

fn wins(one: &[f64], other: &[f64]) -> f64 {
    let of = |a: &f64, b: &f64| match a.total_cmp(b) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    };
    let sum: f64 = one.iter().flat_map(|a| other.iter().map(move |b| of(a, b))).sum();
    sum / (one.len() * other.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_leave_the_interquartile_mean_alone() {
        let runs = |worst: f64| vec![vec![worst, 0.7, 0.8, 0.9], vec![0.75, 0.8, 0.85, 0.9]];
        let (calm, wild) =
            (interquartile_mean(&runs(0.6), 10, 1).unwrap(), interquartile_mean(&runs(-9.0), 10, 1).unwrap());
        assert!((calm.value - 0.8).abs() < 1e-12);
        assert_eq!(calm.value, wild.value);
    }

    #[test]
    fn a_method_that_always_wins_has_no_doubt_and_ties_are_half() {
        let (high, low) = (vec![vec![0.9, 0.95], vec![0.8, 0.85]], vec![vec![0.5, 0.6], vec![0.4, 0.5]]);
        assert_eq!(improvement(&high, &low, 100, 1).unwrap(), Resampled { value: 1.0, low: 1.0, high: 1.0 });
        let even = improvement(&high, &high, 400, 1).unwrap();
        assert!(even.value == 0.5 && even.low < 0.5 && even.high > 0.5, "{even:?}");
        let (there, back) = (improvement(&high, &low, 1, 1).unwrap(), improvement(&low, &high, 1, 1).unwrap());
        assert_eq!(there.value + back.value, 1.0);
    }

    #[test]
    fn a_task_without_runs_is_refused() {
        assert!(interquartile_mean(&[vec![]], 10, 1).is_err());
        assert!(improvement(&[vec![1.0]], &[], 10, 1).is_err());
        assert!(interquartile_mean(&[vec![f64::NAN]], 10, 1).is_err());
    }
}
