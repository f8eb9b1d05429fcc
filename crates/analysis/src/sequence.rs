//! Sequences of tasks: what a method keeps of the tasks before, and what these give to the next.
//!
//! `R[i][j]` is the score on task `j` after task `i` of a sequence of `T` tasks, in the task's primary metric. Of every seed that has all
//! of `R`, with `a[j]` the score on task `j` of the run that starts from the base instead,
//!
//! | measure | definition |
//! |---|---|
//! | average | `Σ_j R[T][j] / T` |
//! | backward transfer | `Σ_{j<T} (R[T][j] − R[j][j]) / (T − 1)` |
//! | forgetting | `Σ_{j<T} (max_{j≤i<T} R[i][j] − R[T][j]) / (T − 1)` |
//! | transfer | `Σ_{j>1} (R[j][j] − a[j]) / (T − 1)` |
//!
//! Differences are signed so that more is better, forgetting apart, also where less of a metric is better.
//!
//! Lopez-Paz and Ranzato, *Gradient Episodic Memory for Continual Learning*, NeurIPS 2017 (average, backward transfer); Chaudhry et al.,
//! *Riemannian Walk for Incremental Learning*, ECCV 2018 (forgetting). Transfer against a run alone is ours: heads are drawn anew for every
//! task, so a score on a task before it is trained would be that of a random head.

use std::collections::{BTreeMap, BTreeSet};

use record::{Evaluation, Goal, RunRecord};

use crate::{
    AnalysisError,
    summary::{Selection, reported},
};

/// Label of a variant that trains every task from the base, and its scores on the tasks of a sequence, by seed.
pub type Alone = (String, BTreeMap<u64, Vec<f64>>);

/// A method on a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    /// Its tasks, in the order in which they were trained.
    pub tasks: Vec<String>,
    /// Label of the variant.
    pub variant: String,
    /// Rank at which it trains; 0 for methods without.
    pub rank: usize,
    /// Which direction of the tasks' metrics is better.
    pub goal: Goal,
    /// `R` of every seed that has all of it, row by row up to the diagonal.
    pub scores: BTreeMap<u64, Vec<Vec<f64>>>,
    /// Label of the variant that stands for runs alone, and its scores on the tasks, by seed.
    pub alone: Option<Alone>,
}

impl Sequence {
    /// 1 where more is better, else -1.
    fn sign(&self) -> f64 {
        if self.goal == Goal::Minimise { -1.0 } else { 1.0 }
    }

    /// The mean of `R[i][j]` over seeds asks for these: the scores on a task after a task, seed by seed.
    pub fn of(&self, after: usize, task: usize) -> Vec<f64> {
        self.scores.values().filter_map(|rows| rows.get(after)?.get(task).copied()).collect()
    }

    /// The average after the last task, by seed.
    pub fn averages(&self) -> BTreeMap<u64, f64> {
        self.each(|rows| rows.last().map(|last| mean(last.iter().copied())))
    }

    /// Backward transfer, by seed.
    pub fn backward(&self) -> BTreeMap<u64, f64> {
        let kept = |rows: &[Vec<f64>], last: &[f64], j: usize| self.sign() * (last[j] - rows[j][j]);
        self.each(|rows| of_earlier(rows, &kept))
    }

    /// Forgetting, by seed.
    pub fn forgetting(&self) -> BTreeMap<u64, f64> {
        let lost = |rows: &[Vec<f64>], last: &[f64], j: usize| {
            let best = rows[j..rows.len() - 1].iter().map(|row| self.sign() * row[j]).fold(f64::NEG_INFINITY, f64::max);
            best - self.sign() * last[j]
        };
        self.each(|rows| of_earlier(rows, &lost))
    }

    /// Transfer to the tasks after the first, by seed; empty where no run stands alone.
    pub fn transfer(&self) -> BTreeMap<u64, f64> {
        let Some((_, alone)) = &self.alone else { return BTreeMap::new() };
        let of_seed = |(seed, rows): (&u64, &Vec<Vec<f64>>)| {
            let alone = alone.get(seed)?;
            let gained = (1..rows.len()).map(|j| self.sign() * (rows[j][j] - alone[j]));
            Some((*seed, mean(gained)))
        };
        self.scores.iter().filter_map(of_seed).collect()
    }

    fn each(&self, measure: impl Fn(&[Vec<f64>]) -> Option<f64>) -> BTreeMap<u64, f64> {
        self.scores.iter().filter_map(|(seed, rows)| Some((*seed, measure(rows)?))).collect()
    }
}

/// A function of `R`, its last row and a task.
type OfTask<'a> = dyn Fn(&[Vec<f64>], &[f64], usize) -> f64 + 'a;

/// The mean of a function over the tasks before the last.
fn of_earlier(rows: &[Vec<f64>], measure: &OfTask<'_>) -> Option<f64> {
    let (last, before) = rows.split_last()?;
    (!before.is_empty()).then(|| mean((0..before.len()).map(|j| measure(rows, last, j))))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

/// A row of the tables: label and rank.
type Key<'a> = (&'a str, usize);

/// Every method on every sequence of a study, by sequence; those of one task, and those that another continues, are left out. A sequence
/// whose tasks disagree on which direction is better has no average and is left out as well.
pub fn sequences(records: &[RunRecord], split: &str) -> Result<Vec<Sequence>, AnalysisError> {
    let finished: Vec<&RunRecord> = records.iter().filter(|record| record.is_finished()).collect();
    let mut paths: BTreeSet<Vec<&str>> = finished.iter().map(|record| path(record)).collect();
    paths.retain(|path| path.len() > 1);
    let is_continued = |path: &Vec<&str>| paths.iter().any(|other| other.len() > path.len() && other.starts_with(path));
    let mut found = Vec::new();
    for path in paths.iter().filter(|path| !is_continued(path)) {
        let mut rows: BTreeMap<Key<'_>, BTreeMap<u64, BTreeMap<usize, &RunRecord>>> = BTreeMap::new();
        for record in finished.iter().filter(|record| path.starts_with(&self::path(record))) {
            let key = (record.cell.variant.as_str(), record.cell.rank);
            let stage = record.measured.earlier.len();
            rows.entry(key).or_default().entry(record.cell.seed).or_default().insert(stage, record);
        }
        for ((variant, rank), seeds) in &rows {
            let mut sequence = Sequence {
                tasks: path.iter().map(|task| (*task).to_owned()).collect(),
                variant: (*variant).to_owned(),
                rank: *rank,
                goal: Goal::Maximise,
                scores: BTreeMap::new(),
                alone: alone(&finished, path, (variant, *rank), split)?,
            };
            let mut goals = BTreeSet::new();
            for (seed, stages) in seeds.iter().filter(|(_, stages)| stages.len() == path.len()) {
                goals.extend(stages.values().map(|record| record.primary_metric.goal));
                let rows: Option<Vec<Vec<f64>>> =
                    stages.values().map(|record| row(record, split)).collect::<Result<_, _>>()?;
                sequence.scores.extend(rows.map(|rows| (*seed, rows)));
            }
            if let ([goal], false) = (goals.iter().copied().collect::<Vec<_>>().as_slice(), sequence.scores.is_empty())
            {
                found.push(Sequence { goal: *goal, ..sequence });
            }
        }
    }
    Ok(found)
}

/// The tasks that led to a run, its own last.
fn path(record: &RunRecord) -> Vec<&str> {
    let earlier = record.measured.earlier.iter().map(|earlier| earlier.task.as_str());
    earlier.chain([record.cell.task.as_str()]).collect()
}

/// A row of `R`: the scores on the tasks that led to a run, and on its own. None where one of them has no such split.
fn row(record: &RunRecord, split: &str) -> Result<Option<Vec<f64>>, AnalysisError> {
    let of_earlier = |earlier: &record::EarlierTask| {
        let found = of_split(earlier.evaluations.iter(), split)?;
        found.metrics.get(&earlier.primary_metric.name).copied()
    };
    let Some(own) = own(record, split)? else { return Ok(None) };
    let scores = record.measured.earlier.iter().map(of_earlier).chain([Some(own)]);
    Ok(scores.collect::<Option<Vec<f64>>>().filter(|scores| scores.iter().all(|score| score.is_finite())))
}

/// A run's score on its own task, by the readout that its variant trains with.
fn own(record: &RunRecord, split: &str) -> Result<Option<f64>, AnalysisError> {
    let evaluations = reported(record, Selection::Reported)?.into_iter();
    let plain = evaluations.filter(|evaluation| {
        evaluation.readout.label == record.cell.variant && evaluation.readout.rank == record.cell.rank
    });
    let found = of_split(plain, split).and_then(|found| found.metrics.get(&record.primary_metric.name));
    Ok(found.copied().filter(|score| score.is_finite()))
}

/// The evaluation on a split, or on the first where a task has none of that name.
fn of_split<'a>(evaluations: impl Iterator<Item = &'a Evaluation>, split: &str) -> Option<&'a Evaluation> {
    let all: Vec<&Evaluation> = evaluations.collect();
    all.iter().find(|evaluation| evaluation.split == split).or(all.first()).copied()
}

/// The variant that trains every task of a sequence from the base, and its scores: that of the row's own preset, else the only one.
fn alone(
    finished: &[&RunRecord],
    path: &[&str],
    (variant, rank): Key<'_>,
    split: &str,
) -> Result<Option<Alone>, AnalysisError> {
    let preset_of = |label: &str| {
        let found = finished.iter().find(|record| record.cell.variant == label)?;
        found.spec.get("preset").and_then(|preset| preset.as_str()).map(str::to_owned)
    };
    let at_base = |label: &str, of: usize| {
        let is_own = |record: &&&RunRecord| record.cell.variant == label && record.cell.rank == of;
        path.iter().all(|task| {
            let mut runs = finished.iter().filter(is_own).filter(|record| record.cell.task == *task).peekable();
            runs.peek().is_some() && runs.all(|record| record.start.is_none())
        })
    };
    let rows: BTreeSet<Key<'_>> =
        finished.iter().map(|record| (record.cell.variant.as_str(), record.cell.rank)).collect();
    let alone: Vec<Key<'_>> = rows.into_iter().filter(|(label, of)| at_base(label, *of)).collect();
    let preset = preset_of(variant);
    let same = alone.iter().copied().find(|(label, of)| *of == rank && preset_of(label) == preset);
    let Some((label, of)) = same.or_else(|| alone.first().copied().filter(|_| alone.len() == 1)) else {
        return Ok(None);
    };
    let mut by_seed: BTreeMap<u64, BTreeMap<usize, f64>> = BTreeMap::new();
    for record in finished.iter().filter(|record| record.cell.variant == label && record.cell.rank == of) {
        let at = path.iter().position(|task| *task == record.cell.task);
        if let (Some(at), Some(score)) = (at, own(record, split)?) {
            by_seed.entry(record.cell.seed).or_default().insert(at, score);
        }
    }
    let whole = by_seed.into_iter().filter(|(_, scores)| scores.len() == path.len());
    Ok(Some((label.to_owned(), whole.map(|(seed, scores)| (seed, scores.into_values().collect())).collect())))
}

#[cfg(test)]
mod tests;
