//! Methods over all tasks as a table.

use record::Goal;

use super::comparison::p_said;
use super::{Block, Entry, Layout, Table};
use crate::AnalysisError;
use crate::compare::POINTS;
use crate::methods::{DRAWS, Method, ranked};
use crate::stats::Resampled;

/// Fewest runs per task at which a percentile interval is near what it says; the guide has the simulated figures.
const FEW: usize = 6;

/// One row per method: interquartile mean, the chance to improve on the baseline, and the mean rank over tasks.
pub fn methods_table(methods: &[Method], baseline: Option<&str>, layout: &Layout) -> Result<Table, AnalysisError> {
    let baseline = baseline.and_then(|label| methods.iter().find(|method| method.variant == label));
    let ranks = ranked(methods)?;
    let mut header = vec!["variant".to_owned(), "rank".to_owned(), "IQM".to_owned()];
    header.extend(baseline.map(|baseline| format!("P(better than {})", baseline.variant)));
    header.extend(ranks.as_ref().map(|_| "mean rank".to_owned()));
    let mut rows = Vec::new();
    for (at, method) in methods.iter().enumerate() {
        let rank = if method.rank == 0 { "-".to_owned() } else { method.rank.to_string() };
        let mean = method.interquartile_mean()?;
        // As in the main table: shares in points, metrics to be minimised as they are.
        let scale = if method.goal == Goal::Minimise { 1.0 } else { POINTS };
        let mut row = vec![method.variant.clone(), rank, shown(mean, scale)];
        if let Some(baseline) = baseline {
            let is_baseline = baseline.variant == method.variant;
            row.push(if is_baseline { "-".to_owned() } else { shown(method.improvement(baseline)?, 1.0) });
        }
        row.extend(ranks.as_ref().map(|ranks| format!("{:.2}", ranks.mean_ranks[at])));
        rows.push(row.into_iter().map(Entry::Text).collect());
    }
    let mut notes = layout.notes.clone();
    notes.push(format!(
        "Split {}; methods that have every task, each at its largest rank. IQM: interquartile mean over all runs and tasks, in points. P: the chance that a run of the method is better than a run of the other on the same task, averaged over tasks, ties half. [95% interval] of a bootstrap of the runs within each task, {DRAWS} draws.",
        layout.split
    ));
    let fewest = methods.iter().flat_map(|method| &method.scores).map(Vec::len).min().unwrap_or_default();
    if fewest < FEW {
        notes.push(format!(
            "With {fewest} runs per task these bootstrap intervals are too narrow (docs/src/statistics.md has their simulated coverage): verdicts are those of the comparison."
        ));
    }
    notes.extend(ranks.map(|ranks| {
        format!(
            "Mean rank over {} tasks, 1 is best. Friedman's test with Iman and Davenport's correction: F = {:.2}, {}. Nemenyi: mean ranks further apart than {:.2} differ at 5%.",
            ranks.tasks,
            ranks.f,
            p_said(ranks.p),
            ranks.critical_difference
        )
    }));
    Ok(Table { caption: layout.caption.clone(), header, names: 1, blocks: vec![Block { title: None, rows }], notes })
}

/// `0.83 [0.67, 0.94]`
pub(super) fn shown(resampled: Resampled, scale: f64) -> String {
    let Resampled { value, low, high } = resampled;
    format!("{:.2} [{:.2}, {:.2}]", value * scale, low * scale, high * scale)
}
