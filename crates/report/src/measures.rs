//! What was measured at a study's adapters: rows for the page of each run, and means over seeds as charts.

use std::collections::BTreeMap;

use analysis::claims::Rows;
use serde::Serialize;

use crate::{
    ReportError, Source,
    charts::{ChartView, Place, Point, SeriesView, seeds},
};

/// Files of a study's folder of measures that a report shows. Overlaps of pairs of runs have figures of their own.
pub const FILES: [&str; 5] = ["projection.csv", "shape.csv", "correlation.csv", "span.csv", "table7.txt"];

/// Most rows of one file that are shown run by run; of more there are the means alone.
const MOST_ROWS: usize = 50_000;
/// Columns that say whose row it is.
const NAMES: [&str; 4] = ["task", "variant", "rank", "seed"];

/// The measures of a study.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    /// By task, variant, rank and seed as they are written.
    runs: BTreeMap<[String; 4], Vec<RunTable>>,
    /// Means over seeds, one chart per measure and task.
    pub(crate) charts: Vec<ChartView>,
    /// A table that is laid out already, as its file has it.
    pub(crate) texts: Vec<String>,
    /// What is left out.
    pub(crate) notes: Vec<String>,
}

/// The rows of one run in one file.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RunTable {
    /// The file without its ending.
    name: String,
    /// Heads of the columns.
    header: Vec<String>,
    /// Cells as they are written, numbers shortened.
    rows: Vec<Vec<String>>,
}

impl Measures {
    /// Of the files that a source has.
    pub(crate) fn of(source: &Source<'_>) -> Result<Self, ReportError> {
        let mut measures = Self::default();
        for (file, text) in source.measures {
            let Some(name) = file.strip_suffix(".csv") else {
                measures.texts.push(text.clone());
                continue;
            };
            let wrong = |error| ReportError::Measures {
                study: source.study.name.clone(),
                file: file.clone(),
                source: Box::new(error),
            };
            let rows = Rows::read(text).map_err(wrong)?;
            measures.charts.extend(charts(name, &rows, source));
            if rows.len() <= MOST_ROWS {
                measures.add(name, &rows);
            } else {
                measures
                    .notes
                    .push(format!("{file} has {} rows: its means are shown, and no row of a single run.", rows.len()));
            }
        }
        Ok(measures)
    }

    fn add(&mut self, name: &str, rows: &Rows) {
        let shown: Vec<String> = rows.columns().filter(|name| !NAMES.contains(name)).map(str::to_owned).collect();
        for at in 0..rows.len() {
            let key = NAMES.map(|name| rows.text(at, name).unwrap_or_default().to_owned());
            let of_run = self.runs.entry(key).or_default();
            if of_run.last().is_none_or(|table| table.name != name) {
                of_run.push(RunTable { name: name.to_owned(), header: shown.clone(), rows: Vec::new() });
            }
            let cells = shown.iter().map(|column| shortened(rows.text(at, column).unwrap_or_default())).collect();
            if let Some(table) = of_run.last_mut() {
                table.rows.push(cells);
            }
        }
    }

    /// What was measured at a run.
    pub(crate) fn of_run(&self, cell: &record::CellId) -> &[RunTable] {
        let key = [cell.task.clone(), cell.variant.clone(), cell.rank.to_string(), cell.seed.to_string()];
        self.runs.get(&key).map_or(&[], Vec::as_slice)
    }
}

/// Four significant digits of a number; anything else as it is.
fn shortened(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && text.len() > 6 => {
            let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
            rounded.to_string()
        }
        _ => text.to_owned(),
    }
}

/// Every number of a file that has a row per run and map: its mean over seeds for each map.
fn charts(file: &str, rows: &Rows, source: &Source<'_>) -> Vec<ChartView> {
    let columns: Vec<String> = rows.columns().map(str::to_owned).collect();
    if !NAMES.iter().chain(&["map"]).all(|name| columns.iter().any(|column| column == name)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for column in columns.iter().filter(|column| !NAMES.contains(&column.as_str()) && *column != "map") {
        for task in &source.study.tasks {
            let series = of_column(rows, column, task, source);
            if !series.is_empty() {
                found.push(ChartView {
                    name: format!("{file}: {}, {task}", column.replace('_', " ")),
                    x: String::new(),
                    y: column.replace('_', " "),
                    is_log: false,
                    n: seeds(&series),
                    series,
                });
            }
        }
    }
    found
}

/// Variants and ranks over maps.
fn of_column(rows: &Rows, column: &str, task: &str, source: &Source<'_>) -> Vec<SeriesView> {
    let mut maps: Vec<String> = Vec::new();
    let mut groups: BTreeMap<(usize, usize), BTreeMap<usize, Vec<f64>>> = BTreeMap::new();
    for at in (0..rows.len()).filter(|at| rows.is(*at, "task", task)) {
        let Some((variant, map)) = rows.text(at, "variant").zip(rows.text(at, "map")) else { continue };
        let (Some(value), Some(rank)) = (rows.number(at, column), rows.number(at, "rank")) else { continue };
        let Some(variant) = source.study.variants.iter().position(|name| name == variant) else { continue };
        let place = maps.iter().position(|name| name == map).unwrap_or_else(|| {
            maps.push(map.to_owned());
            maps.len() - 1
        });
        groups.entry((variant, rank as usize)).or_default().entry(place).or_default().push(value);
    }
    let series = |((variant, rank), by_map): ((usize, usize), BTreeMap<usize, Vec<f64>>)| {
        let n = by_map.values().map(Vec::len).max().unwrap_or(0);
        let point = |(place, values): (usize, Vec<f64>)| {
            Some((Place::Name(short_map(&maps[place])), Point::over_seeds(&values, 1.0)?))
        };
        SeriesView::of(&source.study.variants[variant], rank, n, by_map.into_iter().filter_map(point).collect())
    };
    groups.into_iter().map(series).collect()
}

/// `0 query` for `encoder.layer.0.attention.self.query`.
fn short_map(map: &str) -> String {
    match analysis::measures::place(map) {
        (Some(layer), kind) => format!("{layer} {kind}"),
        (None, kind) => kind,
    }
}
