//! Figures from records: quality over ranks, variants against each other, training curves, AdaLoRA's allocation.

use std::collections::{BTreeMap, BTreeSet};

use record::{Goal, RunRecord};

use super::{Named, measured, over_seeds, seeds};
use crate::{
    AnalysisError,
    figure::{
        AtCost, Caption, Curve, Limits, Matrix, TaskCurves, TaskMeans, comparison, critical_difference, front, pareto,
        rank_allocation, rank_curves, sequence_curves, training_curves,
    },
    measures::place,
    methods::{Method, methods, ranked},
    sequence::{Sequence, sequences},
    study::Study,
    summary::{Selection, SummaryRow, SummaryTable, summarise},
    tuning,
};

/// Series that can be told apart in one panel.
const MOST_SERIES: usize = 8;
/// Steps that one point of a training curve averages at least: a batch's loss is noise.
const WINDOW: u64 = 10;
/// Points of a training curve at most: more of several curves cover each other.
const MOST_POINTS: u64 = 50;
/// What training curves show.
const LOSS: &str = "training loss";
/// Named rows that fit a page.
const MOST_ROWS: usize = 30;
/// Fewest numbers of trained parameters that make a trade-off.
const LEAST_COSTS: usize = 3;

/// A metric as a figure shows it: percent of a count, hundredths of a coefficient.
fn unit(metric: &str) -> &'static str {
    if metric == "accuracy" { "%" } else { "×100" }
}

/// What a metric can be, as a figure shows it; a loss is the cross-entropy of classes or tokens.
fn limits(metric: &str) -> Limits {
    let (low, high) = match metric {
        "accuracy" | "f1" | "bleu" | "exact_match" => (Some(0.0), Some(100.0)),
        "matthews" | "pearson" | "spearman" => (Some(-100.0), Some(100.0)),
        LOSS => (Some(0.0), None),
        _ => (None, None),
    };
    Limits { low, high }
}

fn hundredfold(row: &SummaryRow) -> crate::figure::Measured {
    let plain = measured(&row.summary);
    crate::figure::Measured {
        value: 100.0 * plain.value,
        interval: plain.interval.map(|ends| ends.map(|end| 100.0 * end)),
    }
}

/// Every figure that a study's records allow. `planned` gives the components that a pruned run's budget plans to keep after every
/// step, `(step, components)`.
pub fn all(
    study: &Study,
    records: &[RunRecord],
    planned: &dyn Fn(&RunRecord) -> Vec<(u64, usize)>,
) -> Result<Vec<Named>, AnalysisError> {
    let summary = summarise(records, Selection::Reported)?;
    let mut figures = Vec::new();
    for split in summary.splits() {
        figures.extend(from_summary(study, &summary, split)?);
        figures.extend(ranks_over_tasks(study, &summary, split)?);
        figures.extend(quality_over_parameters(study, &summary, split)?);
        figures.extend(over_sequences(study, records, split, summary.splits().len() > 1)?);
    }
    figures.extend(training(study, records));
    figures.extend(allocation(study, records, planned));
    figures.extend(study.tuned.iter().flat_map(|tuned| tuning::figures(study, tuned)));
    Ok(figures)
}

/// Quality over ranks, or variants against each other, for one split.
pub(super) fn from_summary(study: &Study, summary: &SummaryTable, split: &str) -> Result<Vec<Named>, AnalysisError> {
    let rows: Vec<&SummaryRow> =
        summary.primary(split)?.into_iter().filter(|row| row.summary.mean.is_finite()).collect();
    let suffix = if summary.splits().len() > 1 { format!("-{split}") } else { String::new() };
    let mut ranks: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.rank > 0) {
        ranks.entry(&row.variant).or_default().insert(row.rank);
    }
    // Curves need company: one swept method among others is a dot like the others, at its largest rank.
    let many = ranks.values().filter(|ranks| ranks.len() > 1).count();
    let swept = many > 1 || (many == 1 && ranks.len() == 1);
    Ok(if rows.is_empty() {
        Vec::new()
    } else if swept {
        vec![Named::new(format!("rank_curves{suffix}"), curves(study, &rows, split))]
    } else if study.variants.len() * study.tasks.len().div_ceil(3) > MOST_ROWS {
        many_dots(study, &rows, split, &suffix)
    } else {
        vec![Named::new(format!("comparison{suffix}"), dots(study, &rows, split))]
    })
}

/// Mean ranks of the methods over tasks, where there are enough of both.
fn ranks_over_tasks(study: &Study, summary: &SummaryTable, split: &str) -> Result<Option<Named>, AnalysisError> {
    let methods = methods(summary, split, &study.variants)?;
    let Some(found) = ranked(&methods)? else { return Ok(None) };
    let suffix = if summary.splits().len() > 1 { format!("-{split}") } else { String::new() };
    let names: Vec<String> = methods.iter().map(|method| method.variant.clone()).collect();
    let p = if found.p < 0.0005 { "< 0.001".to_owned() } else { format!("= {:.3}", found.p) };
    let caption = Caption {
        title: format!("{}: ranks over tasks, {split} split", study.name),
        n: format!("n = {} tasks; bars: ± half of Nemenyi's critical difference at 5%", found.tasks),
        notes: vec![
            "Two methods differ where their bars do not meet. A method with several ranks stands at its largest."
                .to_owned(),
            format!("Friedman's test with Iman and Davenport's correction: F = {:.2}, p {p}.", found.f),
        ],
    };
    let figure = critical_difference(caption, &names, &found.mean_ranks, found.critical_difference);
    Ok(Some(Named::new(format!("critical_difference{suffix}"), figure)))
}

/// The mean over tasks against the trained parameters, where methods differ in both; metrics that are better when smaller make no such figure.
fn quality_over_parameters(study: &Study, summary: &SummaryTable, split: &str) -> Result<Option<Named>, AnalysisError> {
    let rows = summary.primary(split)?;
    let trained = |variant: &str| {
        let own = rows.iter().filter(|row| row.variant == variant);
        own.map(|row| row.trainable_params).max().unwrap_or_default()
    };
    let of = |method: &Method| {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let tasks: Vec<f64> = method.scores.iter().map(|scores| mean(scores)).collect();
        AtCost { name: method.variant.clone(), cost: trained(&method.variant) as f64, value: 100.0 * mean(&tasks) }
    };
    let methods = methods(summary, split, &study.variants)?;
    let (without, at): (Vec<AtCost>, Vec<AtCost>) =
        methods.iter().filter(|method| method.goal == Goal::Maximise).map(of).partition(|at| at.cost == 0.0);
    let costs: BTreeSet<u64> = at.iter().map(|at| at.cost as u64).collect();
    if costs.len() < LEAST_COSTS {
        return Ok(None);
    }
    let name = |at: &AtCost| format!("{} ({}, {:.1})", at.name, at.cost as u64, at.value);
    let mut notes = vec![format!("Front: {}.", front(&at).into_iter().map(name).collect::<Vec<_>>().join(", "))];
    notes.extend(
        without.iter().map(|at| format!("Beside it {}, which trains the head alone: {:.1}.", at.name, at.value)),
    );
    notes.push("A method with several ranks stands at its largest; the head is not counted.".to_owned());
    let suffix = if summary.splits().len() > 1 { format!("-{split}") } else { String::new() };
    let counted = seeds(rows.iter().map(|row| row.summary.n), "bars");
    let caption = Caption {
        title: format!("{}: quality over trained parameters, {split} split", study.name),
        n: counted.split(';').next().unwrap_or_default().to_owned(), // it has no bars
        notes,
    };
    let figure = pareto(caption, "trained parameters", "mean over tasks", &at);
    Ok(Some(Named::new(format!("pareto{suffix}"), figure)))
}

/// What becomes of every task but the last of a sequence as others are trained after it; a figure for every sequence.
fn over_sequences(
    study: &Study,
    records: &[RunRecord],
    split: &str,
    has_splits: bool,
) -> Result<Vec<Named>, AnalysisError> {
    let all = sequences(records, split)?;
    let orders: BTreeSet<&[String]> = all.iter().map(|sequence| sequence.tasks.as_slice()).collect();
    let (suffix, many) = (if has_splits { format!("-{split}") } else { String::new() }, orders.len() > 1);
    let of_order = |(at, order): (usize, &[String])| {
        let mut own: Vec<&Sequence> = all.iter().filter(|sequence| sequence.tasks == order).collect();
        own.sort_by_key(|sequence| study.variants.iter().position(|variant| *variant == sequence.variant));
        let of_task = |(column, task): (usize, &String)| {
            let metric = records.iter().find(|record| record.cell.task == *task)?.primary_metric.name.clone();
            let of_variant = |sequence: &&Sequence| {
                let point = |after: usize| {
                    let scores: Vec<f64> = sequence.of(after, column).iter().map(|score| 100.0 * score).collect();
                    Some(((after + 1) as f64, over_seeds(&scores)?))
                };
                let rank = if sequence.rank == 0 { String::new() } else { format!(" r={}", sequence.rank) };
                let name = format!("{}{rank}", sequence.variant);
                Curve { name, points: (column..order.len()).filter_map(point).collect() }
            };
            let curves = own.iter().take(MOST_SERIES).map(of_variant).collect();
            Some(TaskCurves { task: task.clone(), unit: unit(&metric).to_owned(), metric, curves })
        };
        let tasks: Vec<TaskCurves> =
            order.iter().enumerate().take(order.len().saturating_sub(1)).filter_map(of_task).collect();
        let caption = Caption {
            title: format!("{}: tasks while others are trained after them, {split} split", study.name),
            n: seeds(own.iter().map(|sequence| sequence.scores.len()), "bars"),
            notes: vec![format!(
                "In order: {}. A task is read by the head that it was trained with.",
                order.join(", ")
            )],
        };
        let part = if many { format!("-{}", at + 1) } else { String::new() };
        Named::new(format!("sequence{part}{suffix}"), sequence_curves(caption, &tasks).within(limits))
    };
    Ok(orders.into_iter().enumerate().map(of_order).collect())
}

fn curves(study: &Study, rows: &[&SummaryRow], split: &str) -> crate::figure::Figure {
    let of_task = |task: &String| {
        let of_variant = |variant: &String| {
            let points: Vec<_> = rows
                .iter()
                .filter(|row| row.task == *task && row.variant == *variant && row.rank > 0)
                .map(|row| (row.rank as f64, hundredfold(row)))
                .collect();
            (!points.is_empty()).then(|| Curve { name: variant.clone(), points })
        };
        let metric = rows.iter().find(|row| row.task == *task).map(|row| row.metric.clone())?;
        Some(TaskCurves {
            task: task.clone(),
            unit: unit(&metric).to_owned(),
            metric,
            curves: study.variants.iter().filter_map(of_variant).collect(),
        })
    };
    let tasks: Vec<TaskCurves> = study.tasks.iter().filter_map(of_task).collect();
    let caption = Caption {
        title: format!("{}: quality over ranks, {split} split", study.name),
        n: seeds(rows.iter().map(|row| row.summary.n), "bars"),
        notes: Vec::new(),
    };
    rank_curves(caption, &tasks).within(limits)
}

/// More variants than fit a page beside each other: task by task, the best first, and as many in a figure as it has rows for.
fn many_dots(study: &Study, rows: &[&SummaryRow], split: &str, suffix: &str) -> Vec<Named> {
    let of_task = |task: &String| {
        let mean = |variant: &String| {
            let own = rows.iter().filter(|row| row.task == *task && row.variant == *variant);
            own.max_by_key(|row| row.rank).map(|row| (row.goal, row.summary.mean))
        };
        let mut variants: Vec<(String, f64)> = study
            .variants
            .iter()
            .filter_map(|variant| {
                let (goal, mean) = mean(variant)?;
                Some((variant.clone(), if goal == Goal::Minimise { -mean } else { mean }))
            })
            .collect();
        variants.sort_by(|a, b| b.1.total_cmp(&a.1));
        let parts = variants.chunks(MOST_ROWS).enumerate().map(|(at, part)| {
            let part = Study {
                variants: part.iter().map(|(variant, _)| variant.clone()).collect(),
                tasks: vec![task.clone()],
                ..study.clone()
            };
            Named::new(format!("comparison-{task}-{}{suffix}", at + 1), dots(&part, rows, split))
        });
        parts.collect::<Vec<_>>()
    };
    study.tasks.iter().flat_map(of_task).collect()
}

fn dots(study: &Study, rows: &[&SummaryRow], split: &str) -> crate::figure::Figure {
    let variants: Vec<String> =
        study.variants.iter().filter(|variant| rows.iter().any(|row| row.variant == **variant)).cloned().collect();
    let means = |task: &String| {
        let metric = rows.iter().find(|row| row.task == *task).map(|row| row.metric.clone())?;
        let mean = |variant: &String| {
            let of = rows.iter().filter(|row| row.task == *task && row.variant == *variant);
            of.max_by_key(|row| row.rank).map(|row| hundredfold(row))
        };
        Some(TaskMeans {
            task: task.clone(),
            unit: unit(&metric).to_owned(),
            metric,
            means: variants.iter().map(mean).collect(),
        })
    };
    let tasks: Vec<TaskMeans> = study.tasks.iter().filter_map(means).collect();
    let ranks = |variant: &String| {
        rows.iter().filter(|row| row.variant == *variant).map(|row| row.rank).collect::<BTreeSet<_>>()
    };
    let swept = variants.iter().any(|variant| ranks(variant).len() > 1);
    let caption = Caption {
        title: format!("{}: variants on the {split} split", study.name),
        n: seeds(rows.iter().map(|row| row.summary.n), "bars"),
        notes: if swept { vec!["A method with several ranks stands at its largest.".to_owned()] } else { Vec::new() },
    };
    let baseline = study.baseline.as_ref().and_then(|label| variants.iter().position(|variant| variant == label));
    comparison(caption, &variants, &tasks, baseline).within(limits)
}

/// Training losses with bands over seeds, at most eight series in a figure.
pub(super) fn training(study: &Study, records: &[RunRecord]) -> Vec<Named> {
    let finished: Vec<&RunRecord> = records.iter().filter(|record| record.is_finished()).collect();
    let mut groups: BTreeMap<(&str, &str, usize), Vec<&RunRecord>> = BTreeMap::new();
    for record in &finished {
        let cell = &record.cell;
        groups.entry((&cell.task, &cell.variant, cell.rank)).or_default().push(record);
    }
    let ranks = |variant: &str| groups.keys().filter(|key| key.1 == variant).map(|key| key.2).collect::<BTreeSet<_>>();
    let mut names: Vec<(&str, usize)> = Vec::new();
    for variant in &study.variants {
        names.extend(ranks(variant).into_iter().map(|rank| (variant.as_str(), rank)));
    }
    let series = |(variant, rank): (&str, usize), task: &str| {
        let runs = groups.get(&(task, variant, rank))?;
        let name = if ranks(variant).len() > 1 { format!("{variant}, r = {rank}") } else { variant.to_owned() };
        let windows: Vec<Vec<(u64, f64)>> = runs.iter().map(|record| averaged(record)).collect();
        let shortest = windows.iter().map(Vec::len).min().unwrap_or(0);
        let points: Vec<_> = (0..shortest)
            .filter_map(|at| {
                let losses: Vec<f64> = windows.iter().map(|window| window[at].1).collect();
                Some((windows[0][at].0 as f64, over_seeds(&losses)?))
            })
            .collect();
        (!points.is_empty()).then_some(Curve { name, points })
    };
    let parts: Vec<&[(&str, usize)]> = names.chunks(MOST_SERIES).collect();
    let windows: BTreeSet<u64> = finished.iter().map(|record| window(record)).collect();
    let averaged_over = windows.iter().map(u64::to_string).collect::<Vec<_>>().join(" or ");
    let figure = |(index, part): (usize, &&[(&str, usize)])| {
        let of_task = |task: &String| {
            let curves: Vec<Curve> = part.iter().filter_map(|name| series(*name, task)).collect();
            let metric = LOSS.to_owned();
            (!curves.is_empty()).then(|| TaskCurves { task: task.clone(), metric, unit: "nats".to_owned(), curves })
        };
        let tasks: Vec<TaskCurves> = study.tasks.iter().filter_map(of_task).collect();
        let of = if parts.len() > 1 { format!(", part {} of {}", index + 1, parts.len()) } else { String::new() };
        let caption = Caption {
            title: format!("{}: training loss{of}", study.name),
            n: seeds(groups.values().map(Vec::len), "bands"),
            notes: vec![format!("Each point is the mean over {averaged_over} steps.")],
        };
        let suffix = if parts.len() > 1 { format!("-{}", index + 1) } else { String::new() };
        (!tasks.is_empty())
            .then(|| Named::new(format!("training{suffix}"), training_curves(caption, &tasks).within(limits)))
    };
    parts.iter().enumerate().filter_map(figure).collect()
}

/// Last step and mean loss of every window.
fn averaged(record: &RunRecord) -> Vec<(u64, f64)> {
    let (steps, losses) = (record.steps.step(), record.steps.task_loss());
    let entries = (window(record) / record.steps.spacing()) as usize;
    steps
        .chunks(entries)
        .zip(losses.chunks(entries))
        .filter(|(steps, _)| steps.len() == entries)
        .map(|(steps, losses)| (steps[entries - 1], losses.iter().sum::<f64>() / entries as f64))
        .collect()
}

/// Steps that one point averages: [`WINDOW`] or twice, four times, .. as many, so that a curve has at most [`MOST_POINTS`], and whole entries
/// of the log.
fn window(record: &RunRecord) -> u64 {
    let mut window = WINDOW;
    while record.steps.last() > MOST_POINTS * window {
        window *= 2;
    }
    window.next_multiple_of(record.steps.spacing())
}

/// Final ranks of the variants that were pruned, one figure per variant and task.
pub(super) fn allocation(
    study: &Study,
    records: &[RunRecord],
    planned: &dyn Fn(&RunRecord) -> Vec<(u64, usize)>,
) -> Vec<Named> {
    let pruned = |record: &&RunRecord| record.measured.final_ranks.values().any(|rank| *rank != record.cell.rank);
    let mut groups: BTreeMap<(&str, &str, usize), Vec<&RunRecord>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_finished()) {
        groups.entry((&record.cell.task, &record.cell.variant, record.cell.rank)).or_default().push(record);
    }
    groups.retain(|_, runs| runs.iter().any(pruned));
    let many = groups.len() > 1;
    let ranks: BTreeSet<usize> = groups.keys().map(|key| key.2).collect();
    groups
        .into_iter()
        .map(|((task, variant, rank), runs)| {
            let name = if ranks.len() > 1 {
                format!("ranks-{task}-{variant}-r{rank}")
            } else if many {
                format!("ranks-{task}-{variant}")
            } else {
                "ranks".to_owned()
            };
            let schedule: Vec<(f64, f64)> =
                planned(runs[0]).into_iter().map(|(step, kept)| (step as f64, kept as f64)).collect();
            Named::new(name, allocated(study, task, variant, &runs, &schedule))
        })
        .collect()
}

fn allocated(
    study: &Study,
    task: &str,
    variant: &str,
    runs: &[&RunRecord],
    schedule: &[(f64, f64)],
) -> crate::figure::Figure {
    let maps: BTreeSet<&String> = runs.iter().flat_map(|record| record.measured.final_ranks.keys()).collect();
    let layers: BTreeSet<usize> = maps.iter().filter_map(|map| place(map).0).collect();
    let mut kinds: Vec<String> = Vec::new();
    for map in &maps {
        let kind = place(map).1;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let mut mean = Matrix { rows: kinds.len(), columns: layers.len(), values: Vec::new(), flags: Vec::new() };
    let mut spread = mean.clone();
    for kind in &kinds {
        for layer in &layers {
            let found: Vec<f64> = runs
                .iter()
                .flat_map(|record| &record.measured.final_ranks)
                .filter(|(map, _)| place(map) == (Some(*layer), kind.clone()))
                .map(|(_, rank)| *rank as f64)
                .collect();
            let summary = crate::stats::Summary::of(&found).ok();
            mean.values.push(summary.map(|summary| summary.mean));
            spread.values.push(summary.and_then(|summary| summary.std));
        }
    }
    let totals: Vec<usize> = runs.iter().map(|record| record.measured.final_ranks.values().sum()).collect();
    let same = totals.windows(2).all(|pair| pair[0] == pair[1]);
    let caption = Caption {
        title: format!("{}: final ranks of {variant} on {task}", study.name),
        n: seeds(std::iter::once(runs.len()), "").split(';').next().unwrap_or_default().to_owned(),
        notes: vec![if same {
            format!("Every run ended with {} components over {} maps.", totals[0], maps.len())
        } else {
            format!("The runs ended with different numbers of components: {totals:?}.")
        }],
    };
    let layers: Vec<String> = layers.iter().map(ToString::to_string).collect();
    rank_allocation(caption, [&kinds, &layers], &mean, (runs.len() > 1).then_some(&spread), schedule, &kept(runs))
}

/// Components left after every step, one line for all runs where they agree, and one per seed where not.
fn kept(runs: &[&RunRecord]) -> Vec<(String, Vec<(f64, f64)>)> {
    let line = |record: &&RunRecord| -> Option<(u64, Vec<(f64, f64)>)> {
        let counts = record.steps.components()?;
        // A schedule counts steps from 0, a log the steps that were taken.
        let points = record.steps.step().iter().zip(counts).map(|(step, count)| (*step as f64 - 1.0, *count as f64));
        Some((record.cell.seed, points.collect()))
    };
    let lines: Vec<_> = runs.iter().filter_map(line).collect();
    match lines.split_first() {
        Some(((_, first), others)) if others.iter().all(|(_, points)| points == first) => {
            vec![("kept".to_owned(), first.clone())]
        }
        _ => lines.into_iter().map(|(seed, points)| (format!("kept, seed {seed}"), points)).collect(),
    }
}
