//! Two rows on the seeds that both have, on one task or averaged over tasks.

use std::collections::{BTreeMap, BTreeSet};

use record::{Contrast, Goal};

use super::{ALL_TASKS, Averages, POINTS};
use crate::AnalysisError;
use crate::stats::{self, Estimate, LARGEST_EXACT, SMALLEST_EXACT, StatsError};
use crate::summary::SummaryRow;

/// A row's values and the baseline's, by shared seed.
pub(super) struct Pair {
    pub(super) task: String,
    pub(super) variant: String,
    pub(super) rank: usize,
    pub(super) baseline: String,
    pub(super) baseline_rank: usize,
    pub(super) metric: String,
    pub(super) goal: Goal,
    /// The contrast's own margins, in points.
    pub(super) margin: Option<f64>,
    pub(super) equivalence: Option<f64>,
    values: BTreeMap<u64, (f64, f64)>,
    /// Step in which the metric can move, 0 where there is none.
    resolution: f64,
    /// Of an average, the tasks' estimates, where their variances are added.
    strata: Option<Vec<Option<Estimate>>>,
}

impl Pair {
    pub(super) fn new(row: &SummaryRow, baseline: &SummaryRow) -> Self {
        let shared = row.values.iter().filter_map(|(seed, value)| Some((*seed, (*value, *baseline.values.get(seed)?))));
        Self {
            task: row.task.clone(),
            variant: row.variant.clone(),
            rank: row.rank,
            baseline: baseline.variant.clone(),
            baseline_rank: baseline.rank,
            metric: row.metric.clone(),
            goal: row.goal,
            margin: None,
            equivalence: None,
            values: shared.collect(),
            resolution: row.resolution(),
            strata: None,
        }
    }

    /// With the margins of a contrast.
    pub(super) fn asking(self, contrast: &Contrast) -> Self {
        Self { margin: contrast.margin, equivalence: contrast.equivalence, ..self }
    }

    /// The estimate of the difference; none where no seed is shared or a value is not finite.
    pub(super) fn estimate(&self) -> Result<Option<Estimate>, AnalysisError> {
        if let Some(strata) = &self.strata {
            let strata: Option<Vec<Estimate>> = strata.iter().copied().collect();
            return Ok(strata.and_then(|strata| Estimate::stratified(&strata)));
        }
        let (first, second) = self.samples();
        if first.is_empty() || !first.iter().chain(&second).all(|value| value.is_finite()) {
            return Ok(None);
        }
        Estimate::paired(&first, &second, self.resolution).map(Some).map_err(|source| self.error(source))
    }

    /// The sign-flip test, where it can reach the 5% level and is not too long.
    pub(super) fn sign_flip(&self) -> Result<Option<f64>, AnalysisError> {
        let (first, second) = self.samples();
        if !(SMALLEST_EXACT..=LARGEST_EXACT).contains(&first.len())
            || !first.iter().chain(&second).all(|value| value.is_finite())
        {
            return Ok(None);
        }
        stats::sign_flip_test(&first, &second).map(Some).map_err(|source| self.error(source))
    }

    /// Points as a difference of this metric: upwards where larger is better.
    pub(super) fn towards_better(&self, points: f64) -> f64 {
        match self.goal {
            Goal::Maximise => points / POINTS,
            Goal::Minimise => -points / POINTS,
        }
    }

    fn samples(&self) -> (Vec<f64>, Vec<f64>) {
        self.values.values().copied().unzip()
    }

    fn error(&self, source: StatsError) -> AnalysisError {
        AnalysisError::Stats { place: format!("{}/{} rank {}", self.task, self.variant, self.rank), source }
    }
}

/// The averages of the rows that have every task, and how they are tested.
pub(super) fn averages(rows: &[&SummaryRow], pairs: &[Pair]) -> Result<(Vec<Pair>, Averages), AnalysisError> {
    averages_by(rows, pairs, |_| true)
}

/// The same, where the pairs that `tells` takes say alone whether tasks' differences go together.
pub(super) fn averages_by(
    rows: &[&SummaryRow],
    pairs: &[Pair],
    tells: impl Fn(&Pair) -> bool,
) -> Result<(Vec<Pair>, Averages), AnalysisError> {
    let tasks: BTreeSet<&str> = rows.iter().map(|row| row.task.as_str()).collect();
    let goals: BTreeSet<Goal> = rows.iter().map(|row| row.goal).collect();
    if tasks.len() < 2 || goals.len() > 1 {
        return Ok((Vec::new(), Averages::None));
    }
    let mut by_row: BTreeMap<(&str, usize, &str, usize), Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        by_row.entry((&pair.variant, pair.rank, &pair.baseline, pair.baseline_rank)).or_default().push(pair);
    }
    let complete: Vec<Vec<&Pair>> = by_row.into_values().filter(|pairs| pairs.len() == tasks.len()).collect();
    if complete.is_empty() {
        return Ok((Vec::new(), Averages::None));
    }
    let telling = complete.iter().filter(|pairs| tells(pairs[0])).map(|pairs| differences(pairs));
    let together = stats::together(&telling.collect::<Vec<_>>());
    let how = match together {
        Some(together) if together.is_dependent() => Averages::BySeed(together),
        other => Averages::Stratified(other),
    };
    let averages = complete.iter().map(|pairs| average(pairs, how)).collect::<Result<_, _>>()?;
    Ok((averages, how))
}

/// `[task][seed]`, on the seeds that all tasks have.
fn differences(pairs: &[&Pair]) -> Vec<Vec<f64>> {
    let shared = |seed: &&u64| pairs.iter().all(|pair| pair.values.contains_key(*seed));
    let seeds: Vec<&u64> = pairs[0].values.keys().filter(shared).collect();
    let of = |pair: &&Pair| seeds.iter().map(|seed| pair.values[*seed].0 - pair.values[*seed].1).collect();
    let all: Vec<Vec<f64>> = pairs.iter().map(of).collect();
    if all.iter().flatten().all(|value| value.is_finite()) { all } else { Vec::new() }
}

fn average(pairs: &[&Pair], how: Averages) -> Result<Pair, AnalysisError> {
    let (first, count) = (pairs[0], pairs.len() as f64);
    let mut values = BTreeMap::new();
    for seed in first.values.keys() {
        let of_seed: Vec<(f64, f64)> = pairs.iter().filter_map(|pair| pair.values.get(seed).copied()).collect();
        if of_seed.len() == pairs.len() {
            let mean = |get: fn(&(f64, f64)) -> f64| of_seed.iter().map(get).sum::<f64>() / count;
            values.insert(*seed, (mean(|pair| pair.0), mean(|pair| pair.1)));
        }
    }
    let strata = match how {
        Averages::BySeed(_) => None,
        _ => Some(pairs.iter().map(|pair| pair.estimate()).collect::<Result<_, _>>()?),
    };
    Ok(Pair {
        task: ALL_TASKS.to_owned(),
        variant: first.variant.clone(),
        rank: first.rank,
        baseline: first.baseline.clone(),
        baseline_rank: first.baseline_rank,
        metric: "primary".to_owned(),
        goal: first.goal,
        margin: first.margin,
        equivalence: first.equivalence,
        values,
        // One step of one task moves the average by the share of that task.
        resolution: pairs.iter().map(|pair| pair.resolution).sum::<f64>() / count.powi(2),
        strata,
    })
}
