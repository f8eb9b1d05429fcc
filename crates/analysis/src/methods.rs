//! Methods over all tasks: interquartile mean, probability of improvement, ranks.
//!
//! A method stands at its largest rank, and only if it has every task: an aggregate over other tasks is another number.

use std::collections::{BTreeMap, BTreeSet};

use record::Goal;

use crate::AnalysisError;
use crate::stats::{self, Friedman, Resampled};
use crate::summary::{SummaryRow, SummaryTable};

/// Draws of every bootstrap: the ends of a 95% interval are then known to about a fortieth of its width.
pub const DRAWS: usize = 2000;

/// Fewest tasks and fewest methods that are ranked against each other.
const LEAST_RANKED: usize = 3;

/// A method on all tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// The row's label.
    pub variant: String,
    /// Its largest rank; 0 for methods without.
    pub rank: usize,
    /// Which direction of the tasks' metrics is better.
    pub goal: Goal,
    /// The scores of each task's runs, larger is better: metrics that are to be minimised have their sign turned.
    pub scores: Vec<Vec<f64>>,
}

/// The methods that have every task of a split, in the order of `variants`; empty with fewer than two tasks, or where some metrics are
/// better when larger and others when smaller.
pub fn methods(summary: &SummaryTable, split: &str, variants: &[String]) -> Result<Vec<Method>, AnalysisError> {
    let rows = summary.primary(split)?;
    let tasks: BTreeSet<&str> = rows.iter().map(|row| row.task.as_str()).collect();
    let goals: BTreeSet<Goal> = rows.iter().map(|row| row.goal).collect();
    if tasks.len() < 2 || goals.len() > 1 {
        return Ok(Vec::new());
    }
    let mut largest: BTreeMap<(&str, &str), &SummaryRow> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.summary.mean.is_finite()) {
        let known = largest.entry((&row.variant, &row.task)).or_insert(row);
        if row.rank > known.rank {
            *known = row;
        }
    }
    let goal = goals.first().copied().unwrap_or(Goal::Maximise);
    let sign = if goal == Goal::Minimise { -1.0 } else { 1.0 };
    let of = |variant: &String| {
        let rows: Vec<&&SummaryRow> =
            tasks.iter().map(|task| largest.get(&(variant.as_str(), *task))).collect::<Option<_>>()?;
        let scores = rows.iter().map(|row| row.values.values().map(|value| sign * value).collect());
        Some(Method { variant: variant.clone(), rank: rows[0].rank, goal, scores: scores.collect() })
    };
    Ok(variants.iter().filter_map(of).collect())
}

impl Method {
    /// The interquartile mean over all runs and tasks, in the metrics' own direction.
    pub fn interquartile_mean(&self) -> Result<Resampled, AnalysisError> {
        let found = stats::interquartile_mean(&self.scores, DRAWS, 0).map_err(|source| self.error(source))?;
        Ok(match self.goal {
            Goal::Maximise => found,
            Goal::Minimise => Resampled { value: -found.value, low: -found.high, high: -found.low },
        })
    }

    /// The chance that one of its runs is better than one of `other` on the same task, averaged over tasks.
    pub fn improvement(&self, other: &Self) -> Result<Resampled, AnalysisError> {
        stats::improvement(&self.scores, &other.scores, DRAWS, 0).map_err(|source| self.error(source))
    }

    fn error(&self, source: stats::StatsError) -> AnalysisError {
        AnalysisError::Stats { place: format!("{} rank {}", self.variant, self.rank), source }
    }
}

/// The methods' mean scores ranked over tasks; none with fewer than three tasks or methods.
pub fn ranked(methods: &[Method]) -> Result<Option<Friedman>, AnalysisError> {
    let tasks = methods.first().map_or(0, |method| method.scores.len());
    if tasks < LEAST_RANKED || methods.len() < LEAST_RANKED {
        return Ok(None);
    }
    let mean = |runs: &Vec<f64>| runs.iter().sum::<f64>() / runs.len() as f64;
    let of_task = |task: usize| methods.iter().map(|method| mean(&method.scores[task])).collect();
    let scores: Vec<Vec<f64>> = (0..tasks).map(of_task).collect();
    let place = |source| AnalysisError::Stats { place: "ranks over tasks".to_owned(), source };
    Friedman::of(&scores).map(Some).map_err(place)
}

#[cfg(test)]
mod tests {
    use record::RunRecord;

    use super::*;
    use crate::summary::tests::run;
    use crate::summary::{Selection, summarise};

    fn runs(variant: &str, ranks: &[usize], tasks: &[&str], score: f64) -> Vec<RunRecord> {
        let mut records = Vec::new();
        for (seed, (task, rank)) in (1..=3).flat_map(|seed| {
            tasks.iter().flat_map(move |task| ranks.iter().map(move |rank| (seed, (*task, *rank)))).collect::<Vec<_>>()
        }) {
            records.push(run(task, variant, rank, seed, score + 0.001 * seed as f64 + 0.01 * rank as f64));
        }
        records
    }

    #[test]
    fn a_method_stands_at_its_largest_rank_and_needs_every_task() {
        let tasks = ["cola", "mrpc", "rte"];
        let records = [
            runs("lora", &[1, 8], &tasks, 0.5),
            runs("dora", &[8], &tasks, 0.6),
            runs("full", &[0], &tasks, 0.3),
            runs("vera", &[8], &tasks[..2], 0.9),
        ];
        let summary = summarise(&records.concat(), Selection::Last).unwrap();
        let names = ["lora", "dora", "full", "vera"].map(str::to_owned);
        let found = methods(&summary, "validation", &names).unwrap();
        let rows: Vec<_> = found.iter().map(|method| (method.variant.as_str(), method.rank)).collect();
        assert_eq!(rows, [("lora", 8), ("dora", 8), ("full", 0)]);
        assert!((found[0].interquartile_mean().unwrap().value - 0.582).abs() < 1e-3);
        assert_eq!(found[1].improvement(&found[0]).unwrap().value, 1.0);
        let ranks = ranked(&found).unwrap().unwrap();
        assert_eq!((ranks.mean_ranks.as_slice(), ranks.tasks), (&[2.0, 1.0, 3.0][..], 3));
        assert_eq!(ranked(&found[..2]).unwrap(), None);
    }

    #[test]
    fn less_is_better_where_the_tasks_say_so_and_mixed_goals_have_no_aggregate() {
        let mut records = [runs("lora", &[8], &["a", "b"], 0.5), runs("dora", &[8], &["a", "b"], 0.6)].concat();
        let names = ["lora", "dora"].map(str::to_owned);
        for record in &mut records {
            record.primary_metric.goal = Goal::Minimise;
        }
        let found = methods(&summarise(&records, Selection::Last).unwrap(), "validation", &names).unwrap();
        assert_eq!(found[1].improvement(&found[0]).unwrap().value, 0.0);
        let mean = found[0].interquartile_mean().unwrap();
        assert!((mean.value - 0.582).abs() < 1e-3 && mean.low <= mean.value && mean.value <= mean.high, "{mean:?}");
        for record in records.iter_mut().filter(|record| record.cell.task == "a") {
            record.primary_metric.goal = Goal::Maximise;
        }
        assert!(methods(&summarise(&records, Selection::Last).unwrap(), "validation", &names).unwrap().is_empty());
    }
}
