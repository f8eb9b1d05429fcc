//! The noise of every row: what a second run of the same configuration would differ by.

use record::Goal;

use super::{Block, Entry, Layout, Table};
use crate::AnalysisError;
use crate::compare::POINTS;
use crate::summary::{SummaryRow, SummaryTable};

/// One block per task: standard deviation over seeds, noise floor, and the standard error that the split's number of examples alone gives.
pub fn noise_table(summary: &SummaryTable, layout: &Layout) -> Result<Table, AnalysisError> {
    let rows = summary.primary(&layout.split)?;
    let tasks = Layout::order(rows.iter().map(|row| row.task.as_str()), &layout.tasks);
    let variants = Layout::order(rows.iter().map(|row| row.variant.as_str()), &layout.variants);
    let block = |task: &&str| {
        let mut own: Vec<&&SummaryRow> = rows.iter().filter(|row| row.task == *task && row.summary.n > 0).collect();
        own.sort_by_key(|row| (variants.iter().position(|variant| *variant == row.variant), row.rank));
        let title = own.first().map(|row| format!("{task} {}", row.metric));
        Block { title, rows: own.into_iter().map(|row| entries(row)).collect() }
    };
    let mut notes = layout.notes.clone();
    notes.push(format!(
        "Split {}. std: standard deviation over seeds. Noise floor: 95% of the differences between two single runs that only their seed separates are smaller, t(0.975, n-1) · √2 · std. Examples: the standard error of one run's accuracy from the number of examples alone, √(p(1-p)/N), which all runs on a split share.",
        layout.split
    ));
    Ok(Table {
        caption: layout.caption.clone(),
        header: ["variant", "rank", "n", "mean", "std", "noise floor", "examples"].map(str::to_owned).to_vec(),
        names: 1,
        blocks: tasks.iter().map(block).filter(|block| !block.rows.is_empty()).collect(),
        notes,
    })
}

fn entries(row: &SummaryRow) -> Vec<Entry> {
    // As in the main table: shares in points, metrics to be minimised as they are.
    let scale = if row.goal == Goal::Minimise { 1.0 } else { POINTS };
    let number = |value: Option<f64>| {
        let shown = value.filter(|value| value.is_finite());
        shown.map_or(Entry::Missing, |value| Entry::Text(format!("{:.2}", value * scale)))
    };
    let summary = &row.summary;
    let share = summary.mean;
    let examples = (row.metric == "accuracy" && row.examples > 0)
        .then(|| (share * (1.0 - share) / row.examples as f64).max(0.0).sqrt());
    vec![
        Entry::Text(row.variant.clone()),
        Entry::Text(if row.rank == 0 { "-".to_owned() } else { row.rank.to_string() }),
        Entry::Text(summary.n.to_string()),
        number(Some(summary.mean)),
        number(summary.std),
        number(summary.noise_floor()),
        number(examples),
    ]
}
