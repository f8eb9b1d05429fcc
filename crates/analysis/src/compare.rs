//! Paired comparisons on shared seeds: every row against a baseline, or the two rows of a contrast.
//!
//! Two runs that share a seed share data order and, where shapes agree, initial values; their difference therefore varies less than
//! either. All p-values of one call form one family for Holm's correction, so the question must be settled before looking.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use record::{Contrast, Goal, Readout};

use crate::AnalysisError;
use crate::stats::{self, LARGEST_EXACT, StatsError};
use crate::summary::{SummaryRow, SummaryTable};

/// The name under which differences averaged over tasks are reported.
pub const ALL_TASKS: &str = "average";

/// Adjusted p-values below this make a verdict.
const SIGNIFICANCE: f64 = 1.0 - stats::CONFIDENCE;

/// What the other rows are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// The row's label.
    pub variant: String,
    /// Its rank; `None` compares each row with the baseline at that row's own rank, or at the baseline's largest where it
    /// has no row of that rank.
    pub rank: Option<usize>,
}

/// One row minus the baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The task, or [`ALL_TASKS`].
    pub task: String,
    /// The row's label.
    pub variant: String,
    /// The row's rank.
    pub rank: usize,
    /// The baseline's label.
    pub baseline: String,
    /// The baseline's rank.
    pub baseline_rank: usize,
    /// The metric; `primary` for the average over tasks.
    pub metric: String,
    /// Which direction of the metric is better.
    pub goal: Goal,
    /// Number of seeds that both have.
    pub n: usize,
    /// Mean difference, row minus baseline; NaN where no seed is shared or a value is not finite.
    pub difference: f64,
    /// Lower end of the difference's 95% Student interval; none below two seeds.
    pub ci_low: Option<f64>,
    /// Upper end of that interval.
    pub ci_high: Option<f64>,
    /// Two-sided p-value of the paired t-test, where defined.
    pub t_p: Option<f64>,
    /// Two-sided p-value of the exact sign-flip test, up to 16 pairs.
    pub sign_flip_p: Option<f64>,
    /// `t_p` adjusted by Holm's method for all comparisons returned together.
    pub holm_p: Option<f64>,
    /// Whether the adjusted test decides.
    pub verdict: Verdict,
}

impl Comparison {
    /// The difference in the better direction.
    pub fn gain(&self) -> f64 {
        match self.goal {
            Goal::Maximise => self.difference,
            Goal::Minimise => -self.difference,
        }
    }
}

/// What a comparison says at the 5% level after correction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The row is better than the baseline.
    Better,
    /// The row is worse than the baseline.
    Worse,
    /// The data do not decide; this is no evidence of equality.
    Undecided,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Undecided => "undecided",
        })
    }
}

/// Compares every row on `split`, in its task's primary metric, with the baseline on the seeds that both have.
///
/// With several tasks, each row that has all of them is also compared on its average over tasks: the mean of the tasks' differences
/// per seed, over the seeds that every task has. There are no averages where some tasks maximise their metric and some minimise it.
pub fn compare(table: &SummaryTable, split: &str, baseline: &Baseline) -> Result<Vec<Comparison>, AnalysisError> {
    let rows = table.primary(split)?;
    let mut pairs = Vec::new();
    for row in &rows {
        if row.variant == baseline.variant && baseline.rank.is_none_or(|rank| rank == row.rank) {
            continue;
        }
        let baselines = || rows.iter().filter(|o| o.task == row.task && o.variant == baseline.variant);
        let wanted = baseline.rank.unwrap_or(row.rank);
        let other = baselines().find(|other| other.rank == wanted);
        let other = match baseline.rank {
            None => other.or_else(|| baselines().max_by_key(|other| other.rank)),
            Some(_) => other,
        };
        pairs.push(Pair::new(row, other.ok_or_else(|| no_baseline(&rows, row, baseline, wanted))?));
    }
    family(&rows, pairs)
}

/// Tests every contrast on every task that has both of its rows, and on the average over tasks, all as one family.
///
/// Averages are formed as in [`compare`]. A contrast whose rows no task has is an error.
pub fn contrast(table: &SummaryTable, split: &str, contrasts: &[Contrast]) -> Result<Vec<Comparison>, AnalysisError> {
    let rows = table.primary(split)?;
    let mut pairs = Vec::new();
    for contrast in contrasts {
        let is = |row: &SummaryRow, readout: &Readout| row.variant == readout.label && row.rank == readout.rank;
        let partner = |task: &str| rows.iter().find(|row| row.task == task && is(row, &contrast.against));
        let own = rows.iter().filter(|row| is(row, &contrast.row));
        let before = pairs.len();
        pairs.extend(own.filter_map(|row| Some(Pair::new(row, partner(&row.task)?))));
        if pairs.len() == before {
            let task = rows.first().map(|row| row.task.clone()).unwrap_or_default();
            return Err(AnalysisError::NoBaseline {
                task,
                variant: contrast.against.label.clone(),
                rank: contrast.against.rank,
                known: format!("no task has it beside `{}` at rank {}", contrast.row.label, contrast.row.rank),
            });
        }
    }
    family(&rows, pairs)
}

/// Tests pairs and their averages together.
fn family(rows: &[&SummaryRow], mut pairs: Vec<Pair>) -> Result<Vec<Comparison>, AnalysisError> {
    let averages = averages(rows, &pairs);
    pairs.extend(averages);
    let mut comparisons = pairs.iter().map(Pair::test).collect::<Result<Vec<_>, _>>()?;
    adjust(&mut comparisons, &pairs)?;
    Ok(comparisons)
}

/// A row's values and the baseline's, by shared seed.
struct Pair {
    task: String,
    variant: String,
    rank: usize,
    baseline: String,
    baseline_rank: usize,
    metric: String,
    goal: Goal,
    values: BTreeMap<u64, (f64, f64)>,
}

impl Pair {
    fn new(row: &SummaryRow, baseline: &SummaryRow) -> Self {
        let shared = row.values.iter().filter_map(|(seed, value)| Some((*seed, (*value, *baseline.values.get(seed)?))));
        Self {
            task: row.task.clone(),
            variant: row.variant.clone(),
            rank: row.rank,
            baseline: baseline.variant.clone(),
            baseline_rank: baseline.rank,
            metric: row.metric.clone(),
            goal: row.goal,
            values: shared.collect(),
        }
    }

    fn test(&self) -> Result<Comparison, AnalysisError> {
        let mut comparison = Comparison {
            task: self.task.clone(),
            variant: self.variant.clone(),
            rank: self.rank,
            baseline: self.baseline.clone(),
            baseline_rank: self.baseline_rank,
            metric: self.metric.clone(),
            goal: self.goal,
            n: self.values.len(),
            difference: f64::NAN,
            ci_low: None,
            ci_high: None,
            t_p: None,
            sign_flip_p: None,
            holm_p: None,
            verdict: Verdict::Undecided,
        };
        let (first, second): (Vec<f64>, Vec<f64>) = self.values.values().copied().unzip();
        if first.is_empty() || !first.iter().chain(&second).all(|value| value.is_finite()) {
            return Ok(comparison);
        }
        let place = |source| self.error(source);
        let test = stats::paired_t_test(&first, &second).map_err(place)?;
        comparison.difference = test.difference;
        (comparison.ci_low, comparison.ci_high, comparison.t_p) = (test.ci_low, test.ci_high, test.p);
        if first.len() <= LARGEST_EXACT {
            comparison.sign_flip_p = Some(stats::sign_flip_test(&first, &second).map_err(place)?);
        }
        Ok(comparison)
    }

    fn error(&self, source: StatsError) -> AnalysisError {
        AnalysisError::Stats { place: format!("{}/{} rank {}", self.task, self.variant, self.rank), source }
    }
}

/// Fills in what depends on all comparisons together.
fn adjust(comparisons: &mut [Comparison], pairs: &[Pair]) -> Result<(), AnalysisError> {
    let tested: Vec<f64> = comparisons.iter().filter_map(|comparison| comparison.t_p).collect();
    let adjusted =
        stats::holm(&tested).map_err(|source| AnalysisError::Stats { place: "comparisons".to_owned(), source })?;
    let mut adjusted = adjusted.into_iter();
    for (comparison, pair) in comparisons.iter_mut().zip(pairs) {
        comparison.holm_p = comparison.t_p.and_then(|_| adjusted.next());
        let higher = comparison.difference > 0.0;
        comparison.verdict = match comparison.holm_p {
            Some(p) if p < SIGNIFICANCE && higher == (pair.goal == Goal::Maximise) => Verdict::Better,
            Some(p) if p < SIGNIFICANCE => Verdict::Worse,
            _ => Verdict::Undecided,
        };
    }
    Ok(())
}

fn averages(rows: &[&SummaryRow], pairs: &[Pair]) -> Vec<Pair> {
    let tasks: BTreeSet<&str> = rows.iter().map(|row| row.task.as_str()).collect();
    let goals: BTreeSet<Goal> = rows.iter().map(|row| row.goal).collect();
    if tasks.len() < 2 || goals.len() > 1 {
        return Vec::new();
    }
    let mut by_row: BTreeMap<(&str, usize, &str, usize), Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        by_row.entry((&pair.variant, pair.rank, &pair.baseline, pair.baseline_rank)).or_default().push(pair);
    }
    by_row.into_values().filter(|pairs| pairs.len() == tasks.len()).map(|pairs| average(&pairs)).collect()
}

fn average(pairs: &[&Pair]) -> Pair {
    let first = pairs[0];
    let mut values = BTreeMap::new();
    for seed in first.values.keys() {
        let of_seed: Vec<(f64, f64)> = pairs.iter().filter_map(|pair| pair.values.get(seed).copied()).collect();
        if of_seed.len() == pairs.len() {
            let count = of_seed.len() as f64;
            let mean = |get: fn(&(f64, f64)) -> f64| of_seed.iter().map(get).sum::<f64>() / count;
            values.insert(*seed, (mean(|pair| pair.0), mean(|pair| pair.1)));
        }
    }
    Pair {
        task: ALL_TASKS.to_owned(),
        variant: first.variant.clone(),
        rank: first.rank,
        baseline: first.baseline.clone(),
        baseline_rank: first.baseline_rank,
        metric: "primary".to_owned(),
        goal: first.goal,
        values,
    }
}

fn no_baseline(rows: &[&SummaryRow], row: &SummaryRow, baseline: &Baseline, rank: usize) -> AnalysisError {
    let known: Vec<String> = rows
        .iter()
        .filter(|other| other.task == row.task)
        .map(|other| format!("`{}` at rank {}", other.variant, other.rank))
        .collect();
    AnalysisError::NoBaseline {
        task: row.task.clone(),
        variant: baseline.variant.clone(),
        rank,
        known: known.join(", "),
    }
}

#[cfg(test)]
mod tests;
