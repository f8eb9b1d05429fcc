//! Which rows of a column may be its best: what a paper prints in bold.
//!
//! The row with the best mean is picked after looking, so that tests of the others against it alone would find too much: of rows that do
//! not differ, the luckiest is picked. All pairs of rows of a column are therefore one family, which holds whichever row is picked. The
//! rows that are not decided to be worse than the best mean then contain the truly best row in 95% of columns.

use std::collections::BTreeSet;

use record::Goal;

use super::pair::{Pair, averages_by};
use super::{ALL_TASKS, Averages, Comparison, Rules, Verdict, decide};
use crate::AnalysisError;
use crate::summary::{SummaryRow, SummaryTable};

/// What [`best`] picks, for a reader.
pub const RULE: &str = "Bold: the best mean of a column, and every row that the paired t-tests do not decide to be worse (Holm's correction over all pairs of rows of the column, 5%). A column in which they decide nothing has none.";

/// A row that may be the best of its column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Best {
    /// The task, or [`ALL_TASKS`].
    pub task: String,
    /// The row's label.
    pub variant: String,
    /// Its rank.
    pub rank: usize,
}

/// The rows of every task, and of the average over tasks, that may be its best: the row with the best mean, and those that have a test
/// against it which does not decide that they are worse. A column whose tests decide nothing about its best row has none.
pub fn best(table: &SummaryTable, split: &str, rules: &Rules) -> Result<BTreeSet<Best>, AnalysisError> {
    let rows: Vec<&SummaryRow> = table.primary(split)?.into_iter().filter(|row| row.summary.mean.is_finite()).collect();
    let tasks: BTreeSet<&str> = rows.iter().map(|row| row.task.as_str()).collect();
    let (mut found, mut pairs) = (BTreeSet::new(), Vec::new());
    for task in &tasks {
        let own: Vec<&SummaryRow> = rows.iter().filter(|row| row.task == *task).copied().collect();
        let all = all_pairs(&own);
        let means = own.iter().map(|row| (name(row), row.summary.mean));
        found.extend(of_column(task, own.first().map(|row| row.goal), means, &decide::verdicts(&all, rules)?));
        pairs.extend(all);
    }
    // Differences between two rows are those of their differences to a third, so that one row's pairs say what the tasks' seeds share.
    let tells = pairs.first().map(|pair: &Pair| (pair.baseline.clone(), pair.baseline_rank));
    let tells =
        |pair: &Pair| tells.as_ref().is_some_and(|(name, rank)| (&pair.baseline, pair.baseline_rank) == (name, *rank));
    let (averages, how) = averages_by(&rows, &pairs, tells)?;
    if how != Averages::None {
        let complete: BTreeSet<(&str, usize)> = rows.iter().map(|row| name(row)).collect();
        let means = complete.into_iter().filter_map(|name_of| {
            let own: Vec<&SummaryRow> = rows.iter().filter(|row| name(row) == name_of).copied().collect();
            let means = over_tasks(&own);
            let mean = means.iter().sum::<f64>() / means.len() as f64;
            (own.len() == tasks.len() && mean.is_finite()).then_some((name_of, mean))
        });
        let goal = rows.first().map(|row| row.goal);
        found.extend(of_column(ALL_TASKS, goal, means, &decide::verdicts(&averages, rules)?));
    }
    Ok(found)
}

/// The mean over tasks of a row's values, for every seed that all tasks have.
pub(crate) fn over_tasks(rows: &[&SummaryRow]) -> Vec<f64> {
    let of_seed = |seed: &u64| {
        let values: Option<Vec<f64>> = rows.iter().map(|row| row.values.get(seed).copied()).collect();
        values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
    };
    rows.first().map(|row| row.values.keys().filter_map(of_seed).collect()).unwrap_or_default()
}

fn name(row: &SummaryRow) -> (&str, usize) {
    (&row.variant, row.rank)
}

/// Every row with every row before it, so that the first row is the baseline of all its pairs.
fn all_pairs(rows: &[&SummaryRow]) -> Vec<Pair> {
    let pairs_of = |at: usize| rows[at + 1..].iter().map(move |row| Pair::new(row, rows[at]));
    (0..rows.len()).flat_map(pairs_of).collect()
}

fn of_column<'a>(
    task: &str,
    goal: Option<Goal>,
    means: impl Iterator<Item = ((&'a str, usize), f64)>,
    comparisons: &[Comparison],
) -> Vec<Best> {
    let better =
        |one: f64, other: f64| if goal == Some(Goal::Minimise) { other.total_cmp(&one) } else { one.total_cmp(&other) };
    let Some((top, _)) = means.max_by(|(_, one), (_, other)| better(*one, *other)) else { return Vec::new() };
    let against_top = comparisons.iter().filter_map(|comparison| {
        let (row, baseline) =
            ((comparison.variant.as_str(), comparison.rank), (comparison.baseline.as_str(), comparison.baseline_rank));
        match (row == top, baseline == top) {
            (true, _) => Some((baseline, comparison.verdict == Verdict::Better, comparison.t_p)),
            (_, true) => Some((row, comparison.verdict == Verdict::Worse, comparison.t_p)),
            _ => None,
        }
    });
    let (worse, others): (Vec<_>, Vec<_>) = against_top.partition(|(_, is_worse, _)| *is_worse);
    if worse.is_empty() {
        return Vec::new();
    }
    let tested = others.into_iter().filter(|(_, _, p)| p.is_some()).map(|(row, ..)| row);
    let best = |(variant, rank): (&str, usize)| Best { task: task.to_owned(), variant: variant.to_owned(), rank };
    std::iter::once(top).chain(tested).map(best).collect()
}

#[cfg(test)]
mod tests {
    use record::RunRecord;

    use super::*;
    use crate::summary::tests::run;
    use crate::summary::{Selection, summarise};

    fn runs(task: &str, variant: &str, values: &[f64]) -> Vec<RunRecord> {
        values.iter().zip(1..).map(|(value, seed)| run(task, variant, 8, seed, *value)).collect()
    }

    fn found(records: &[RunRecord]) -> Vec<String> {
        let summary = summarise(records, Selection::Last).unwrap();
        let best = best(&summary, "validation", &Rules::default()).unwrap();
        best.into_iter().map(|best| format!("{} {}", best.task, best.variant)).collect()
    }

    #[test]
    fn the_best_mean_and_what_is_not_decided_to_be_worse() {
        let mut records = runs("cola", "lora", &[0.70, 0.72, 0.71, 0.73, 0.69, 0.71]);
        records.extend(runs("cola", "dora", &[0.71, 0.71, 0.72, 0.72, 0.70, 0.72]));
        records.extend(runs("cola", "vera", &[0.50, 0.53, 0.50, 0.54, 0.49, 0.52]));
        assert_eq!(found(&records), ["cola dora", "cola lora"]);
        // Without the row that is worse nothing is decided.
        let undecided: Vec<RunRecord> =
            records.iter().filter(|record| record.cell.variant != "vera").cloned().collect();
        assert_eq!(found(&undecided), [""; 0]);
    }

    #[test]
    fn a_row_without_a_test_is_not_among_the_best() {
        let mut records = runs("cola", "lora", &[0.70, 0.72, 0.71, 0.73, 0.69, 0.71]);
        records.extend(runs("cola", "vera", &[0.50, 0.53, 0.50, 0.54, 0.49, 0.52]));
        records.extend(runs("cola", "dora", &[0.70]));
        assert_eq!(found(&records), ["cola lora"]);
    }

    #[test]
    fn averages_over_tasks_have_their_own_best() {
        let mut records = Vec::new();
        for (task, shift) in [("cola", 0.0), ("rte", 0.1)] {
            let moved = |values: [f64; 6]| values.map(|value| value + shift);
            records.extend(runs(task, "lora", &moved([0.70, 0.72, 0.71, 0.73, 0.69, 0.71])));
            records.extend(runs(task, "vera", &moved([0.50, 0.53, 0.50, 0.54, 0.49, 0.52])));
        }
        assert_eq!(found(&records), ["average lora", "cola lora", "rte lora"]);
    }

    /// A difference that the test alone would find is not found among all pairs of many rows.
    #[test]
    fn the_family_is_all_pairs() {
        let mut records = runs("cola", "top", &[0.70, 0.72, 0.71, 0.73, 0.69, 0.71]);
        records.extend(runs("cola", "near", &[0.66, 0.71, 0.70, 0.70, 0.68, 0.66]));
        assert_eq!(found(&records), ["cola top"]);
        for other in 0..12 {
            records.extend(runs("cola", &format!("far{other:02}"), &[0.2, 0.5, 0.1, 0.6, 0.3, 0.4]));
        }
        records.extend(runs("cola", "low", &[0.01, 0.03, 0.02, 0.04, 0.0, 0.02]));
        assert!(found(&records).contains(&"cola near".to_owned()), "{:?}", found(&records));
    }
}
