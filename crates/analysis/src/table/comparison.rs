//! Comparisons as a table.

use record::{Contrast, Readout};

use super::{Block, Entry, Estimate, Layout, Table};
use crate::compare::{Baseline, Comparison};

/// Points per unit of a metric: a point is a hundredth.
const POINTS: f64 = 100.0;

/// One row per comparison: difference with its interval, p-values and the verdict. `layout.split` must be the one compared on.
///
/// Differences are shown in the metric's own unit times 100 unless `as_points` is false.
pub fn comparison_table(comparisons: &[Comparison], baseline: &Baseline, as_points: bool, layout: &Layout) -> Table {
    let scale = if as_points { POINTS } else { 1.0 };
    let tasks = Layout::order(comparisons.iter().map(|comparison| comparison.task.as_str()), &layout.tasks);
    let variants = Layout::order(comparisons.iter().map(|comparison| comparison.variant.as_str()), &layout.variants);
    let place = |names: &[&str], name: &str| names.iter().position(|other| *other == name);
    let mut ordered: Vec<&Comparison> = comparisons.iter().collect();
    ordered.sort_by_key(|comparison| {
        (place(&tasks, &comparison.task), place(&variants, &comparison.variant), comparison.rank)
    });
    let rows = ordered.into_iter().map(|comparison| row(comparison, scale)).collect();
    let mut notes = layout.notes.clone();
    notes.push(format!(
        "Split {}; difference to {} at the rank under `against` on shared seeds, ± half-width of its 95% Student interval; p of the paired t-test, of the exact sign-flip test, and of the t-test after Holm's correction over this table. Undecided is no evidence of equality.",
        layout.split, baseline.variant
    ));
    let header =
        ["task", "variant", "rank", "against", "n", "difference", "p t-test", "p sign-flip", "p Holm", "verdict"];
    Table {
        caption: layout.caption.clone(),
        header: header.map(str::to_owned).to_vec(),
        names: 2,
        blocks: vec![Block { title: None, rows }],
        notes,
    }
}

/// One block per contrast: its difference on every task, the tests, and whether the margin it asks for is reached.
///
/// A margin is reached where the mean difference is at least as large, in the better direction; the interval says how
/// sure that is. Differences are shown times 100, as margins are written.
pub fn contrast_table(comparisons: &[Comparison], contrasts: &[Contrast], layout: &Layout) -> Table {
    let margins = contrasts.iter().any(|contrast| contrast.margin.is_some());
    let tasks = Layout::order(comparisons.iter().map(|comparison| comparison.task.as_str()), &layout.tasks);
    let block = |contrast: &Contrast| {
        let of = |c: &&Comparison| {
            (&c.variant, c.rank, &c.baseline, c.baseline_rank)
                == (&contrast.row.label, contrast.row.rank, &contrast.against.label, contrast.against.rank)
        };
        let mut own: Vec<&Comparison> = comparisons.iter().filter(of).collect();
        own.sort_by_key(|comparison| tasks.iter().position(|task| *task == comparison.task));
        contrast_block(contrast, &own, margins)
    };
    let mut header =
        ["task", "n", "difference", "p t-test", "p sign-flip", "p Holm", "verdict"].map(str::to_owned).to_vec();
    if margins {
        header.push("margin reached".to_owned());
    }
    let mut notes = layout.notes.clone();
    notes.push(format!(
        "Split {}; differences on shared seeds, ± half-width of the 95% Student interval; p of the paired t-test, of the exact sign-flip test, and of the t-test after Holm's correction over this table, whose questions stand in the experiment's file. Undecided is no evidence of equality.",
        layout.split
    ));
    Table { caption: layout.caption.clone(), header, names: 1, blocks: contrasts.iter().map(block).collect(), notes }
}

/// One contrast: a row per comparison, with a last column where some contrast of the table asks for a margin.
fn contrast_block(contrast: &Contrast, comparisons: &[&Comparison], margins: bool) -> Block {
    let name = |Readout { label, rank }: &Readout| if *rank == 0 { label.clone() } else { format!("{label} r={rank}") };
    // In the metric's unit, as the differences are.
    let margin = contrast.margin.map(|points| points / POINTS);
    let mut reached = (0, 0);
    let mut rows = Vec::new();
    for comparison in comparisons {
        let mut row = vec![Entry::Text(comparison.task.clone()), Entry::Text(comparison.n.to_string())];
        row.extend(tested(comparison, POINTS));
        if margins {
            row.push(margin.map_or(Entry::Missing, |margin| {
                let yes = comparison.gain() >= margin;
                if comparison.task != crate::compare::ALL_TASKS {
                    reached = (reached.0 + usize::from(yes), reached.1 + 1);
                }
                Entry::Text(if yes { "yes" } else { "no" }.to_owned())
            }));
        }
        rows.push(row);
    }
    let pair = [name(&contrast.row), name(&contrast.against)];
    let title = match margin {
        Some(margin) => format!(
            "{} minus {}, at least {:+}: {} of {} tasks",
            pair[0],
            pair[1],
            (margin * POINTS * 1e6).round() / 1e6,
            reached.0,
            reached.1
        ),
        None => pair.join(" minus "),
    };
    Block { title: Some(title), rows }
}

fn row(comparison: &Comparison, scale: f64) -> Vec<Entry> {
    let mut row = vec![
        Entry::Text(comparison.task.clone()),
        Entry::Text(comparison.variant.clone()),
        Entry::Text(comparison.rank.to_string()),
        Entry::Text(if comparison.baseline_rank == 0 {
            "-".to_owned()
        } else {
            format!("r={}", comparison.baseline_rank)
        }),
        Entry::Text(comparison.n.to_string()),
    ];
    row.extend(tested(comparison, scale));
    row
}

/// Difference, p-values and verdict.
fn tested(comparison: &Comparison, scale: f64) -> Vec<Entry> {
    let half_width = comparison.ci_low.zip(comparison.ci_high).map(|(low, high)| (high - low) / 2.0 * scale);
    let estimate = Estimate { mean: comparison.difference * scale, half_width, remarks: Vec::new(), dirty: false };
    let p = |value: Option<f64>| value.map_or(Entry::Missing, |p| Entry::Text(p_text(p)));
    vec![
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
