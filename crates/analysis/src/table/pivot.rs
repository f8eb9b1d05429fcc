//! Pivots of a summary: variants against tasks, and variants against ranks.

use std::collections::{BTreeMap, BTreeSet};

use record::Goal;

use super::{Block, Entry, Estimate, Layout, Table};
use crate::AnalysisError;
use crate::compare::{ALL_TASKS, Best, Rules, best, over_tasks};
use crate::stats::Summary;
use crate::summary::{SummaryRow, SummaryTable};

/// Shares are shown in points. Metrics to be minimised (losses, perplexities) are no shares and stay as they are.
const POINTS: f64 = 100.0;

/// Tasks as columns, variants and ranks as rows, each task in its primary metric, and the average over tasks. What may be the best of
/// its column is marked.
pub fn pivot_table(summary: &SummaryTable, layout: &Layout, rules: &Rules) -> Result<Table, AnalysisError> {
    let grid = Grid::new(summary, layout)?;
    let best = best(summary, &layout.split, rules)?;
    let marked = |task: &str, variant: &str, rank: usize, entry: Entry| match entry {
        Entry::Estimate(estimate) => {
            let own = Best { task: task.to_owned(), variant: variant.to_owned(), rank };
            Entry::Estimate(Estimate { is_best: best.contains(&own), ..estimate })
        }
        other => other,
    };
    let mut header: Vec<String> = ["variant", "rank", "params"].map(str::to_owned).to_vec();
    header.extend(grid.tasks.iter().map(|task| grid.headed(task)));
    if grid.averages() {
        header.push(ALL_TASKS.to_owned());
    }
    let mut rows = Vec::new();
    for variant in &grid.variants {
        for rank in grid.ranks(Some(variant)) {
            let params = grid.of(variant, rank).map(|row| row.trainable_params).max().unwrap_or_default();
            let mut row =
                vec![Entry::Text((*variant).to_owned()), Entry::Text(rank_text(rank)), Entry::Text(count_text(params))];
            row.extend(grid.tasks.iter().map(|task| marked(task, variant, rank, grid.entry(task, variant, rank))));
            if grid.averages() {
                row.push(marked(ALL_TASKS, variant, rank, grid.average(variant, rank)));
            }
            rows.push(row);
        }
    }
    Ok(Table {
        caption: layout.caption.clone(),
        header,
        names: 1,
        blocks: vec![Block { title: None, rows }],
        notes: grid.notes(layout),
    })
}

/// Ranks as columns and variants as rows, one block per task and one for the average over tasks.
pub fn rank_curve_table(summary: &SummaryTable, layout: &Layout) -> Result<Table, AnalysisError> {
    let grid = Grid::new(summary, layout)?;
    let ranks = grid.ranks(None);
    let mut header = vec!["variant".to_owned()];
    header.extend(ranks.iter().map(|rank| if *rank == 0 { "no rank".to_owned() } else { format!("r={rank}") }));
    let block = |title: String, entry: &dyn Fn(&str, usize) -> Entry| {
        let row = |variant: &&str| {
            let entries = ranks.iter().map(|rank| entry(variant, *rank));
            std::iter::once(Entry::Text((*variant).to_owned())).chain(entries).collect::<Vec<_>>()
        };
        let rows =
            grid.variants.iter().map(row).filter(|row| row[1..].iter().any(|entry| *entry != Entry::Missing)).collect();
        Block { title: Some(title), rows }
    };
    let mut blocks: Vec<Block> = grid
        .tasks
        .iter()
        .map(|task| block(grid.headed(task), &|variant, rank| grid.entry(task, variant, rank)))
        .collect();
    if grid.averages() {
        blocks.push(block(ALL_TASKS.to_owned(), &|variant, rank| grid.average(variant, rank)));
    }
    Ok(Table { caption: layout.caption.clone(), header, names: 1, blocks, notes: grid.notes(layout) })
}

/// The primary rows of one split, by task, variant and rank.
struct Grid<'a> {
    rows: BTreeMap<(&'a str, &'a str, usize), &'a SummaryRow>,
    tasks: Vec<&'a str>,
    variants: Vec<&'a str>,
    /// The number of runs that most entries have; others carry a remark.
    usual_n: usize,
}

impl<'a> Grid<'a> {
    fn new(summary: &'a SummaryTable, layout: &Layout) -> Result<Self, AnalysisError> {
        let primary = summary.primary(&layout.split)?;
        let mut frequency: BTreeMap<usize, usize> = BTreeMap::new();
        for row in primary.iter().filter(|row| row.summary.n > 0) {
            *frequency.entry(row.summary.n).or_default() += 1;
        }
        let usual_n = frequency.into_iter().max_by_key(|(n, count)| (*count, *n)).map_or(0, |(n, _)| n);
        Ok(Self {
            tasks: Layout::order(primary.iter().map(|row| row.task.as_str()), &layout.tasks),
            variants: Layout::order(primary.iter().map(|row| row.variant.as_str()), &layout.variants),
            rows: primary.into_iter().map(|row| ((row.task.as_str(), row.variant.as_str(), row.rank), row)).collect(),
            usual_n,
        })
    }

    /// The task's name with its metric.
    fn headed(&self, task: &str) -> String {
        let metric = self.rows.values().find(|row| row.task == task).map_or("", |row| row.metric.as_str());
        format!("{task} {metric}")
    }

    /// The ranks of one variant, or of all.
    fn ranks(&self, variant: Option<&str>) -> Vec<usize> {
        let of_variant = self.rows.keys().filter(|(_, name, _)| variant.is_none_or(|variant| variant == *name));
        of_variant.map(|(_, _, rank)| *rank).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn of(&self, variant: &str, rank: usize) -> impl Iterator<Item = &'a SummaryRow> {
        self.rows
            .iter()
            .filter(move |((_, name, of_rank), _)| *name == variant && *of_rank == rank)
            .map(|(_, row)| *row)
    }

    fn entry(&self, task: &str, variant: &str, rank: usize) -> Entry {
        let Some(row) = self.rows.get(&(task, variant, rank)) else {
            return Entry::Missing;
        };
        self.estimate(&row.summary, row.goal, row.failed, row.dirty > 0)
    }

    /// Whether an average over tasks means anything: several tasks, all judged in the same direction.
    fn averages(&self) -> bool {
        let goals: BTreeSet<Goal> = self.rows.values().map(|row| row.goal).collect();
        self.tasks.len() > 1 && goals.len() == 1
    }

    /// The mean over tasks, per seed, of a row that has every task; over the seeds that every task has.
    fn average(&self, variant: &str, rank: usize) -> Entry {
        let rows: Vec<&SummaryRow> = self.of(variant, rank).collect();
        if rows.len() < self.tasks.len() {
            return Entry::Missing;
        }
        let means = over_tasks(&rows);
        let failed = rows.iter().map(|row| row.failed).sum();
        match Summary::of(&means) {
            Ok(summary) => self.estimate(&summary, rows[0].goal, failed, rows.iter().any(|row| row.dirty > 0)),
            Err(_) => Entry::Missing,
        }
    }

    fn estimate(&self, summary: &Summary, goal: Goal, failed: usize, dirty: bool) -> Entry {
        let scale = if goal == Goal::Maximise { POINTS } else { 1.0 };
        let mut remarks = Vec::new();
        if summary.n != self.usual_n {
            remarks.push(format!("n={}", summary.n));
        }
        if failed > 0 {
            remarks.push(format!("{failed} failed"));
        }
        if summary.n > 0 && summary.mean.is_nan() {
            remarks.push("undefined".to_owned());
        }
        let half_width = summary.half_width().map(|half| half * scale);
        Entry::Estimate(Estimate { mean: summary.mean * scale, half_width, remarks, dirty, is_best: false })
    }

    fn notes(&self, layout: &Layout) -> Vec<String> {
        let mut notes = layout.notes.clone();
        let n = self.usual_n;
        notes.push(match n {
            0 => "No run has finished.".to_owned(),
            1 => format!("Split {}; n = 1 seed, so there are no intervals.", layout.split),
            _ => format!("Split {}; mean ± half-width of the 95% Student interval over n = {n} seeds.", layout.split),
        });
        if self.rows.values().any(|row| row.dirty > 0) {
            notes.push("* some runs were made by code that differs from their commit.".to_owned());
        }
        notes
    }
}

pub(super) fn rank_text(rank: usize) -> String {
    if rank == 0 { "-".to_owned() } else { rank.to_string() }
}

/// Three significant digits: 768, 36.9k, 295k, 1.77M.
pub(super) fn count_text(count: u64) -> String {
    let (value, unit) = match count {
        0..1_000 => return count.to_string(),
        1_000..999_500 => (count as f64 / 1e3, "k"),
        999_500..999_500_000 => (count as f64 / 1e6, "M"),
        _ => (count as f64 / 1e9, "G"),
    };
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::count_text;

    #[test]
    fn counts_have_three_significant_digits() {
        let cases = [
            (768, "768"),
            (1_000, "1.00k"),
            (36_864, "36.9k"),
            (294_912, "295k"),
            (999_999, "1.00M"),
            (1_774_000, "1.77M"),
        ];
        for (count, text) in cases {
            assert_eq!(count_text(count), text);
        }
        assert_eq!(count_text(125_000_000), "125M");
        assert_eq!(count_text(8_030_000_000), "8.03G");
    }
}
