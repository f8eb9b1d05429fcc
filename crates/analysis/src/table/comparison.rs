//! Comparisons as a table.

use super::{Block, Entry, Estimate, Layout, Table};
use crate::compare::{Baseline, Comparison};

/// One row per comparison: difference with its interval, p-values and the verdict. `layout.split` must be the one compared on.
///
/// Differences are shown in the metric's own unit times 100 unless `as_points` is false.
pub fn comparison_table(comparisons: &[Comparison], baseline: &Baseline, as_points: bool, layout: &Layout) -> Table {
    let scale = if as_points { 100.0 } else { 1.0 };
    let tasks = Layout::order(comparisons.iter().map(|comparison| comparison.task.as_str()), &layout.tasks);
    let variants = Layout::order(comparisons.iter().map(|comparison| comparison.variant.as_str()), &layout.variants);
    let place = |names: &[&str], name: &str| names.iter().position(|other| *other == name);
    let mut ordered: Vec<&Comparison> = comparisons.iter().collect();
    ordered.sort_by_key(|comparison| {
        (place(&tasks, &comparison.task), place(&variants, &comparison.variant), comparison.rank)
    });
    let rows = ordered.into_iter().map(|comparison| row(comparison, scale)).collect();
    let against = baseline.rank.map_or_else(|| "the same rank".to_owned(), |rank| format!("rank {rank}"));
    let mut notes = layout.notes.clone();
    notes.push(format!(
        "Split {}; difference to {} at {against} on shared seeds, ± half-width of its 95% Student interval; p of the paired t-test, of the exact sign-flip test, and of the t-test after Holm's correction over this table. Undecided is no evidence of equality.",
        layout.split, baseline.variant
    ));
    let header = ["task", "variant", "rank", "n", "difference", "p t-test", "p sign-flip", "p Holm", "verdict"];
    Table {
        caption: layout.caption.clone(),
        header: header.map(str::to_owned).to_vec(),
        names: 2,
        blocks: vec![Block { title: None, rows }],
        notes,
    }
}

fn row(comparison: &Comparison, scale: f64) -> Vec<Entry> {
    let half_width = comparison.ci_low.zip(comparison.ci_high).map(|(low, high)| (high - low) / 2.0 * scale);
    let estimate = Estimate { mean: comparison.difference * scale, half_width, remarks: Vec::new(), dirty: false };
    let p = |value: Option<f64>| value.map_or(Entry::Missing, |p| Entry::Text(p_text(p)));
    vec![
        Entry::Text(comparison.task.clone()),
        Entry::Text(comparison.variant.clone()),
        Entry::Text(comparison.rank.to_string()),
        Entry::Text(comparison.n.to_string()),
        Entry::Estimate(estimate),
        p(comparison.t_p),
        p(comparison.sign_flip_p),
        p(comparison.holm_p),
        Entry::Text(comparison.verdict.to_string()),
    ]
}

/// Three decimals; smaller values are only said to be smaller.
fn p_text(p: f64) -> String {
    if p < 0.0005 { "<0.001".to_owned() } else { format!("{p:.3}") }
}
