//! Series that charts draw: numbers over numbers with intervals, and ranks over tasks.

use analysis::{
    AnalysisError,
    methods::{methods, ranked},
    stats::Summary,
    study::Study,
    summary::SummaryTable,
};
use serde::Serialize;

use crate::{main_table::p_text, thin::short};

/// A chart of one kind: series over an axis that they share.
#[derive(Debug, Serialize)]
pub(crate) struct ChartView {
    /// What a reader chooses it by, such as a task.
    pub(crate) name: String,
    /// Label of the horizontal axis.
    pub(crate) x: String,
    /// Label of the vertical axis.
    pub(crate) y: String,
    /// Whether the horizontal axis is logarithmic.
    pub(crate) is_log: bool,
    /// What was repeated, and what the bands are.
    pub(crate) n: String,
    /// One per variant and rank.
    pub(crate) series: Vec<SeriesView>,
}

/// One line with its band.
#[derive(Debug, Serialize)]
pub(crate) struct SeriesView {
    /// Label of the variant.
    pub(crate) variant: String,
    /// Its rank; 0 for methods without, and where there is one rank for all.
    pub(crate) rank: usize,
    /// Runs behind every point.
    pub(crate) n: usize,
    /// Places on the axis.
    pub(crate) x: Vec<Place>,
    /// Means.
    pub(crate) y: Vec<f64>,
    /// Lower ends of the bands.
    pub(crate) low: Vec<Option<f64>>,
    /// Upper ends of the bands.
    pub(crate) high: Vec<Option<f64>>,
}

/// A place on an axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Place {
    /// A number.
    Number(f64),
    /// A name.
    Name(String),
}

/// What stands at one place of a series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) mean: f64,
    pub(crate) interval: Option<[f64; 2]>,
}

impl Point {
    /// Mean and 95% Student interval over seeds, times `scale`; none where a value is missing or not finite.
    pub(crate) fn over_seeds(values: &[f64], scale: f64) -> Option<Self> {
        let summary = Summary::of(values).ok()?;
        let interval = summary.ci_low.zip(summary.ci_high).map(|(low, high)| [scale * low, scale * high]);
        Some(Self { mean: scale * summary.mean, interval })
    }
}

impl SeriesView {
    /// Of its points, in the order of the axis.
    pub(crate) fn of(variant: &str, rank: usize, n: usize, points: Vec<(Place, Point)>) -> Self {
        let mut series = Self {
            variant: variant.to_owned(),
            rank,
            n,
            x: Vec::new(),
            y: Vec::new(),
            low: Vec::new(),
            high: Vec::new(),
        };
        for (x, point) in points {
            series.x.push(x);
            series.y.push(short(point.mean));
            series.low.push(point.interval.map(|ends| short(ends[0])));
            series.high.push(point.interval.map(|ends| short(ends[1])));
        }
        series
    }
}

/// `n = 3 seeds`, or `n = 2–3 seeds`, and what the bands are.
pub(crate) fn seeds(series: &[SeriesView]) -> String {
    let counts = || series.iter().map(|series| series.n);
    let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    let n = if least == most { format!("n = {most}") } else { format!("n = {least}–{most}") };
    match most {
        0 | 1 => format!("{n} seed, so there are no bands"),
        _ => format!("{n} seeds; bands: 95% Student intervals of the mean"),
    }
}

/// Methods ranked over tasks.
#[derive(Debug, Serialize)]
pub(crate) struct RanksView {
    /// Labels, the best first.
    pub(crate) names: Vec<String>,
    /// Mean ranks, 1 the best.
    pub(crate) mean_ranks: Vec<f64>,
    /// Nemenyi's critical difference at 5%.
    pub(crate) critical_difference: f64,
    /// What was tested, and what it says.
    pub(crate) said: String,
}

impl RanksView {
    /// Of a split; none with fewer than three tasks or methods.
    pub(crate) fn of(study: &Study, summary: &SummaryTable, split: &str) -> Result<Option<Self>, AnalysisError> {
        let methods = methods(summary, split, &study.variants)?;
        let Some(found) = ranked(&methods)? else { return Ok(None) };
        let mut order: Vec<usize> = (0..methods.len()).collect();
        order.sort_by(|a, b| found.mean_ranks[*a].total_cmp(&found.mean_ranks[*b]));
        Ok(Some(Self {
            names: order.iter().map(|at| methods[*at].variant.clone()).collect(),
            mean_ranks: order.iter().map(|at| found.mean_ranks[*at]).collect(),
            critical_difference: found.critical_difference,
            said: format!(
                "n = {} tasks, {} methods. Friedman's test with Iman and Davenport's correction: F = {:.2}, p {}. Nemenyi's critical difference \
                 at 5%: {:.2}; bars are half of it to each side, so that two methods differ where their bars do not meet. A method with several \
                 ranks stands at its largest.",
                found.tasks,
                methods.len(),
                found.f,
                p_text(found.p),
                found.critical_difference
            ),
        }))
    }
}
