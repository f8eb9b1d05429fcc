//! Curves over training steps: the loss and the dev metric, mean over seeds with a band.

use std::collections::{BTreeMap, BTreeSet};

use analysis::{compare::POINTS, study::Study};
use record::{Goal, RunRecord};

use crate::charts::{ChartView, Place, Point, SeriesView, seeds};

/// Fewest steps that one point of a loss curve averages: a batch's loss is noise.
const WINDOW: u64 = 10;
/// Most points of a loss curve.
const MOST_POINTS: usize = 120;

/// Task, label and rank.
type Key<'a> = (&'a str, &'a str, usize);
/// Task, split, label and rank.
type SplitKey<'a> = (&'a str, &'a str, &'a str, usize);
/// Values by step, and by the place of the run.
type BySteps = BTreeMap<u64, BTreeMap<usize, f64>>;

/// The training loss of every task.
pub(crate) fn training(study: &Study, records: &[RunRecord]) -> Vec<ChartView> {
    let mut groups: BTreeMap<Key<'_>, Vec<&RunRecord>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_finished()) {
        groups.entry((&record.cell.task, &record.cell.variant, record.cell.rank)).or_default().push(record);
    }
    let mut windows: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let mut charts: BTreeMap<&str, Vec<SeriesView>> = BTreeMap::new();
    for ((task, variant, rank), runs) in groups {
        let entries = entries(runs[0]);
        let points = windowed(&runs, entries);
        if !points.is_empty() {
            windows.entry(task).or_default().insert(entries as u64 * runs[0].steps.spacing());
            charts.entry(task).or_default().push(SeriesView::of(variant, rank, runs.len(), points));
        }
    }
    let chart = |(task, series): (&str, Vec<SeriesView>)| {
        let steps: Vec<String> = windows.get(task).into_iter().flatten().map(u64::to_string).collect();
        let n = format!("{}; each point is the mean over {} steps", seeds(&series), steps.join(" or "));
        view(task.to_owned(), "training loss in nats".to_owned(), n, series)
    };
    in_order(study, charts.into_iter().map(chart).collect())
}

/// Entries of the log that one point averages.
fn entries(record: &RunRecord) -> usize {
    let least = WINDOW.div_ceil(record.steps.spacing());
    (least as usize).max(record.steps.len().div_ceil(MOST_POINTS))
}

/// Last step of every window, and the loss in it over the runs, as far as all of them logged the same steps.
fn windowed(runs: &[&RunRecord], entries: usize) -> Vec<(Place, Point)> {
    let first = runs[0].steps.step();
    let shared = |run: &&RunRecord| run.steps.step().iter().zip(first).take_while(|(own, first)| own == first).count();
    let length = runs.iter().map(shared).min().unwrap_or(0);
    let point = |at: usize| {
        let mean = |run: &&RunRecord| run.steps.task_loss()[at..at + entries].iter().sum::<f64>() / entries as f64;
        let losses: Vec<f64> = runs.iter().map(mean).collect();
        Some((Place::Number(first[at + entries - 1] as f64), Point::over_seeds(&losses, 1.0)?))
    };
    // A last window that is not full is no point: its mean would be noisier than the others.
    (0..length / entries).filter_map(|window| point(window * entries)).collect()
}

/// The primary metric of every task and split over the steps at which it was evaluated; only where that was more than once.
pub(crate) fn dev(study: &Study, records: &[RunRecord]) -> Vec<ChartView> {
    // The last of a repeated evaluation counts.
    let mut groups: BTreeMap<SplitKey<'_>, BySteps> = BTreeMap::new();
    let mut metrics: BTreeMap<&str, (&str, Goal)> = BTreeMap::new();
    for (run, record) in records.iter().enumerate().filter(|(_, record)| record.is_finished()) {
        let (task, metric) = (record.cell.task.as_str(), &record.primary_metric);
        metrics.insert(task, (&metric.name, metric.goal));
        for evaluation in &record.evaluations {
            let Some(value) = evaluation.metrics.get(&metric.name) else { continue };
            let key = (task, evaluation.split.as_str(), evaluation.readout.label.as_str(), evaluation.readout.rank);
            groups.entry(key).or_default().entry(evaluation.step).or_default().insert(run, *value);
        }
    }
    let mut charts: BTreeMap<(&str, &str), Vec<SeriesView>> = BTreeMap::new();
    for ((task, split, label, rank), steps) in groups {
        let scale = scale(metrics.get(task).map_or(Goal::Maximise, |metric| metric.1));
        let n = steps.values().map(BTreeMap::len).max().unwrap_or(0);
        // A step that only some runs have would be a mean over other seeds.
        let whole = steps.into_iter().filter(|(_, runs)| runs.len() == n);
        let point = |(step, runs): (u64, BTreeMap<usize, f64>)| {
            let values: Vec<f64> = runs.into_values().collect();
            Some((Place::Number(step as f64), Point::over_seeds(&values, scale)?))
        };
        let points: Vec<(Place, Point)> = whole.filter_map(point).collect();
        if points.len() > 1 {
            charts.entry((task, split)).or_default().push(SeriesView::of(label, rank, n, points));
        }
    }
    let chart = |((task, split), series): ((&str, &str), Vec<SeriesView>)| {
        let (metric, goal) = metrics.get(task).copied().unwrap_or(("metric", Goal::Maximise));
        let unit = if goal == Goal::Maximise { " ×100" } else { "" };
        view(format!("{task}, {split}"), format!("{metric}{unit}"), seeds(&series), series)
    };
    in_order(study, charts.into_iter().map(chart).collect())
}

/// As tables have it: shares in points, metrics to be minimised as they are.
pub(crate) fn scale(goal: Goal) -> f64 {
    if goal == Goal::Maximise { POINTS } else { 1.0 }
}

fn view(name: String, y: String, n: String, series: Vec<SeriesView>) -> ChartView {
    ChartView { name, x: "step".to_owned(), y, is_log: false, n, series }
}

/// Charts in the order of the study's tasks, their series in that of its variants.
fn in_order(study: &Study, mut charts: Vec<ChartView>) -> Vec<ChartView> {
    let place = |names: &[String], name: &str| names.iter().position(|other| other == name).unwrap_or(names.len());
    charts.sort_by_key(|chart| place(&study.tasks, chart.name.split(", ").next().unwrap_or_default()));
    for chart in &mut charts {
        chart.series.sort_by_key(|series| (place(&study.variants, &series.variant), series.rank));
    }
    charts
}
