//! Sequences of tasks as tables: `R`, and what it says of every method.

use std::collections::BTreeMap;

use record::Goal;

use super::comparison::p_said;
use super::{Block, Entry, Layout, Table};
use crate::compare::POINTS;
use crate::sequence::Sequence;
use crate::stats::{self, Estimate, Summary};

/// One row per method, in a block for every sequence: the average after the last task, backward transfer, forgetting and transfer, and the
/// paired difference of the averages to the baseline's. None where nothing was trained in sequence.
pub fn sequence_table(sequences: &[Sequence], baseline: Option<&str>, layout: &Layout) -> Option<Table> {
    if sequences.is_empty() {
        return None;
    }
    let has_transfer = sequences.iter().any(|sequence| !sequence.transfer().is_empty());
    let baseline = baseline.filter(|label| sequences.iter().any(|sequence| sequence.variant == *label));
    let mut header = ["variant", "rank", "n", "average", "backward transfer", "forgetting"].map(str::to_owned).to_vec();
    header.extend(has_transfer.then(|| "transfer".to_owned()));
    header.extend(baseline.map(|label| format!("average − {label}")));
    let mut blocks = Vec::new();
    for group in groups(sequences, layout) {
        let against = baseline.map(|label| differences(&group, label));
        let rows = group.iter().enumerate().map(|(at, sequence)| {
            let mut row = vec![
                Entry::Text(sequence.variant.clone()),
                Entry::Text(if sequence.rank == 0 { "-".to_owned() } else { sequence.rank.to_string() }),
                Entry::Text(sequence.scores.len().to_string()),
                shown(&sequence.averages(), sequence, false),
                shown(&sequence.backward(), sequence, true),
                shown(&sequence.forgetting(), sequence, true),
            ];
            row.extend(has_transfer.then(|| shown(&sequence.transfer(), sequence, true)));
            row.extend(against.as_ref().map(|against| against[at].clone()));
            row
        });
        blocks.push(Block { title: Some(group[0].tasks.join(" → ")), rows: rows.collect() });
    }
    let mut notes = layout.notes.clone();
    notes.push(format!(
        "Split {}. R[i][j] is the score on task j after task i, T the number of tasks; means over seeds with 95% Student intervals, in points. \
         Average: of R[T][j] over tasks. Backward transfer: mean of R[T][j] − R[j][j] over earlier tasks. Forgetting: mean of what R[T][j] lies \
         below the best R[i][j] of before. An earlier task is read by the head that it was trained with.",
        layout.split
    ));
    if has_transfer {
        let mut alone: Vec<&str> =
            sequences.iter().filter_map(|sequence| Some(sequence.alone.as_ref()?.0.as_str())).collect();
        alone.sort_unstable();
        alone.dedup();
        notes.push(format!(
            "Transfer: mean of R[j][j] over tasks after the first, less the score of a run that starts from the base ({}).",
            alone.join(", ")
        ));
    }
    if let Some(label) = baseline {
        notes.push(format!(
            "Differences to {label}: paired over seeds, Student's t, p-values of a sequence adjusted by Holm for its rows."
        ));
    }
    Some(Table { caption: layout.caption.clone(), header, names: 1, blocks, notes })
}

/// `R`: a block for every method, a row for every task that was trained, a column for every task. None where nothing was trained in
/// sequence.
pub fn sequence_matrix_table(sequences: &[Sequence], layout: &Layout) -> Option<Table> {
    let tasks = Layout::order(sequences.iter().flat_map(|sequence| &sequence.tasks).map(String::as_str), &layout.tasks);
    let mut blocks = Vec::new();
    for sequence in groups(sequences, layout).into_iter().flatten() {
        let of_stage = |after: usize| {
            let cell = |task: &&str| {
                let column = sequence.tasks.iter().position(|other| other == task);
                let values = column.map(|column| sequence.of(after, column)).unwrap_or_default();
                estimate(&values, sequence, false)
            };
            let name = Entry::Text(format!("after {}", sequence.tasks[after]));
            std::iter::once(name).chain(tasks.iter().map(cell)).collect()
        };
        let rank = if sequence.rank == 0 { String::new() } else { format!(" r={}", sequence.rank) };
        blocks.push(Block {
            title: Some(format!("{}{rank}: {}", sequence.variant, sequence.tasks.join(" → "))),
            rows: (0..sequence.tasks.len()).map(of_stage).collect(),
        });
    }
    let mut notes = layout.notes.clone();
    notes.push(format!(
        "Split {}. R[i][j]: the score on task j (columns) after task i (rows), mean over seeds.",
        layout.split
    ));
    let header = std::iter::once(String::new()).chain(tasks.iter().map(|task| (*task).to_owned())).collect();
    (!blocks.is_empty()).then(|| Table { caption: layout.caption.clone(), header, names: 1, blocks, notes })
}

/// The methods of every sequence, in the layout's order.
fn groups<'a>(sequences: &'a [Sequence], layout: &Layout) -> Vec<Vec<&'a Sequence>> {
    let mut by_tasks: BTreeMap<&[String], Vec<&Sequence>> = BTreeMap::new();
    for sequence in sequences {
        by_tasks.entry(&sequence.tasks).or_default().push(sequence);
    }
    let place = |label: &str| layout.variants.iter().position(|other| other == label).unwrap_or(usize::MAX);
    let mut groups: Vec<Vec<&Sequence>> = by_tasks.into_values().collect();
    for group in &mut groups {
        group.sort_by_key(|one| (place(&one.variant), one.variant.clone(), one.rank));
    }
    groups
}

fn shown(by_seed: &BTreeMap<u64, f64>, sequence: &Sequence, is_signed: bool) -> Entry {
    estimate(&by_seed.values().copied().collect::<Vec<_>>(), sequence, is_signed)
}

/// As in the main table: shares in points, metrics to be minimised as they are.
fn scale(sequence: &Sequence) -> f64 {
    if sequence.goal == Goal::Minimise { 1.0 } else { POINTS }
}

fn estimate(values: &[f64], sequence: &Sequence, is_signed: bool) -> Entry {
    let Ok(summary) = Summary::of(values) else { return Entry::Missing };
    let scale = scale(sequence);
    let mean = summary.mean * scale;
    let mean = if is_signed { format!("{mean:+.2}") } else { format!("{mean:.2}") };
    let half = summary.half_width().map(|half| format!(" ± {:.2}", half * scale)).unwrap_or_default();
    Entry::Text(format!("{mean}{half}"))
}

/// The difference of every method's average to that of the baseline at its own rank, or at its only one, over the seeds that both have.
fn differences(group: &[&Sequence], label: &str) -> Vec<Entry> {
    let baseline = |of: &Sequence| {
        let mut ranks = group.iter().filter(|other| other.variant == label);
        let same = ranks.clone().find(|other| other.rank == of.rank);
        same.or_else(|| ranks.next().filter(|_| ranks.next().is_none()))
    };
    let mut estimates = Vec::new();
    for sequence in group {
        let Some(other) = baseline(sequence).filter(|other| other.variant != sequence.variant) else {
            estimates.push(None);
            continue;
        };
        let (own, theirs) = (sequence.averages(), other.averages());
        let (first, second): (Vec<f64>, Vec<f64>) =
            own.iter().filter_map(|(seed, value)| Some((*value, *theirs.get(seed)?))).unzip();
        estimates.push(Estimate::paired(&first, &second, 0.0).ok()); // none without a pair
    }
    let tested: Vec<f64> = estimates.iter().flatten().filter_map(|estimate| estimate.p_of(0.0)).collect();
    let adjusted = stats::holm(&tested).unwrap_or_else(|error| unreachable!("they are probabilities: {error}"));
    let mut adjusted = adjusted.into_iter();
    let mut entry = |(estimate, sequence): (&Option<Estimate>, &&Sequence)| {
        let Some(estimate) = estimate else { return Entry::Missing };
        let scale = scale(sequence);
        let half = estimate.interval().map(|[low, high]| format!(" ± {:.2}", (high - low) / 2.0 * scale));
        let p = estimate.p_of(0.0).and_then(|_| adjusted.next()).map(|p| format!(" ({})", p_said(p)));
        Entry::Text(format!("{:+.2}{}{}", estimate.difference * scale, half.unwrap_or_default(), p.unwrap_or_default()))
    };
    estimates.iter().zip(group).map(&mut entry).collect()
}
