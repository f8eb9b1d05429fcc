//! One split of a study: its main table with costs and verdicts, and the numbers behind it that charts draw.

use std::collections::BTreeMap;

use analysis::{
    AnalysisError,
    compare::{ALL_TASKS, Baseline, Comparison, POINTS, compare},
    cost::{Cost, costs},
    render,
    summary::SummaryTable,
    table::{Entry, Table},
    tables::StudyTables,
};
use record::{Goal, Readout, RunRecord};
use serde::Serialize;

use crate::{Source, charts::RanksView, table::Cell};

/// The heads that name a row in the main table and in the table of costs.
const NAMES: usize = 3;

/// One split.
#[derive(Debug, Serialize)]
pub(crate) struct SplitView {
    /// Its name.
    pub(crate) name: String,
    /// The columns after variant and rank.
    pub(crate) columns: Vec<ColumnView>,
    /// How many of them are parameters and metrics; costs follow.
    pub(crate) metrics: usize,
    /// One row per variant and rank.
    pub(crate) rows: Vec<RowView>,
    /// Sentences below the table.
    pub(crate) notes: Vec<String>,
    /// Label of the baseline, where the rows were compared with one.
    pub(crate) baseline: Option<String>,
    /// Every comparison with the baseline.
    pub(crate) comparisons: Vec<ComparisonView>,
    /// Mean ranks over tasks, where there are enough tasks and methods.
    pub(crate) ranks: Option<RanksView>,
}

/// A column of numbers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ColumnView {
    /// Its head.
    pub(crate) name: String,
    /// The task whose metric it is, or [`ALL_TASKS`]; none of costs.
    pub(crate) task: Option<String>,
    /// Whether more is better.
    pub(crate) more_is_better: bool,
    /// What it means, where its head does not say it all.
    pub(crate) about: &'static str,
}

/// A row.
#[derive(Debug, Serialize)]
pub(crate) struct RowView {
    /// Label of the variant.
    pub(crate) variant: String,
    /// Rank at which it is read out; 0 for methods without.
    pub(crate) rank: usize,
    /// One per column.
    pub(crate) cells: Vec<Measure>,
    /// Over all tasks, or on the only one.
    pub(crate) verdict: Option<ComparisonView>,
    /// Whether this is what other rows are compared with.
    pub(crate) is_baseline: bool,
}

/// A number of a row.
#[derive(Debug, Serialize)]
pub(crate) struct Measure {
    /// Its text, as in the study's tables.
    pub(crate) text: String,
    /// The number, in the unit of the text.
    pub(crate) value: Option<f64>,
    /// Half the width of its 95% interval.
    pub(crate) half: Option<f64>,
    /// What the comparison on this task says.
    pub(crate) verdict: Option<String>,
    /// That comparison in words.
    pub(crate) said: Option<String>,
}

/// A comparison with the baseline, in points.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ComparisonView {
    pub(crate) task: String,
    pub(crate) variant: String,
    pub(crate) rank: usize,
    pub(crate) against: String,
    pub(crate) n: usize,
    /// None where no seed has a value of both.
    pub(crate) difference: Option<f64>,
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
    pub(crate) p: Option<f64>,
    pub(crate) family: String,
    pub(crate) verdict: String,
    /// Whether more of the metric is better.
    pub(crate) more_is_better: bool,
    /// All of this in words.
    pub(crate) said: String,
}

impl ComparisonView {
    fn of(comparison: &Comparison) -> Self {
        let points = |value: f64| value * POINTS;
        let Comparison { variant, rank, baseline, baseline_rank, .. } = comparison;
        let against = Readout { label: baseline.clone(), rank: *baseline_rank }.to_string();
        let half = comparison.ci_low.zip(comparison.ci_high).map(|(low, high)| points(high - low) / 2.0);
        let floor = if comparison.is_raised { " [floor]" } else { "" };
        let interval = half.map(|half| format!(" ± {half:.2}{floor}")).unwrap_or_default();
        let p = comparison.holm_p.map(|p| format!(", p Holm {}", p_text(p))).unwrap_or_default();
        Self {
            task: comparison.task.clone(),
            variant: variant.clone(),
            rank: *rank,
            n: comparison.n,
            difference: Some(points(comparison.difference)).filter(|points| points.is_finite()),
            low: comparison.ci_low.map(points),
            high: comparison.ci_high.map(points),
            p: comparison.holm_p,
            family: comparison.family.to_string(),
            verdict: comparison.verdict.to_string(),
            more_is_better: comparison.goal == Goal::Maximise,
            said: if comparison.difference.is_finite() {
                format!(
                    "{}: {:+.2}{interval} points against {against} over {} shared seeds{p}, {} family",
                    comparison.verdict,
                    points(comparison.difference),
                    comparison.n,
                    comparison.family
                )
            } else {
                format!("{}: no seed has a value of this row and of {against}", comparison.verdict)
            },
            against,
        }
    }
}

/// Three decimals; smaller values are only said to be smaller.
pub(crate) fn p_text(p: f64) -> String {
    if p < 0.0005 { "< 0.001".to_owned() } else { format!("= {p:.3}") }
}

impl SplitView {
    /// Of one split, which must be one of the summary's.
    pub(crate) fn of(source: &Source<'_>, tables: &StudyTables, split: &str) -> Result<Self, AnalysisError> {
        let (study, summary) = (source.study, &tables.summary);
        let has_many = summary.splits().len() > 1;
        let main = if has_many { format!("main-{split}") } else { "main".to_owned() };
        let Some(main) = named(tables, &main) else {
            unreachable!("every split has a main table, but `{split}` has none")
        };
        let comparisons = comparisons(source, summary, split)?;
        let grid = Grid { source, tables, split, main, comparisons: &comparisons };
        let (costs, trained_by) = (costs(source.records), trained_by(source.records));
        let metrics = grid.metrics()?;
        let priced = grid.priced();
        let rows = grid.rows(&metrics, &priced, &costs, &trained_by);
        let count = metrics.len();
        let columns = metrics.into_iter().chain(priced.iter().map(Price::column)).collect();
        Ok(Self {
            name: split.to_owned(),
            columns,
            metrics: count,
            rows,
            notes: main.notes.clone(),
            baseline: study.baseline.clone().filter(|_| !comparisons.is_empty()),
            ranks: RanksView::of(study, summary, split)?,
            comparisons: comparisons.iter().map(ComparisonView::of).collect(),
        })
    }
}

fn named<'a>(tables: &'a StudyTables, name: &str) -> Option<&'a Table> {
    tables.tables.iter().find(|named| named.name == name).map(|named| &named.table)
}

/// Every row against the baseline; none where the study has none, or where it has no record yet.
fn comparisons(source: &Source<'_>, summary: &SummaryTable, split: &str) -> Result<Vec<Comparison>, AnalysisError> {
    let Some(variant) = source.study.baseline.clone() else { return Ok(Vec::new()) };
    match compare(summary, split, &Baseline { variant, rank: None }, &source.study.rules) {
        Ok(compared) => Ok(compared.comparisons),
        Err(AnalysisError::NoBaseline { .. }) if source.records.len() < source.planned => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The cell, as label and rank, that trains what a row reads out.
fn trained_by(records: &[RunRecord]) -> BTreeMap<(&str, usize), (&str, usize)> {
    let mut found = BTreeMap::new();
    for record in records {
        for evaluation in &record.evaluations {
            let Readout { label, rank } = &evaluation.readout;
            found.insert((label.as_str(), *rank), (record.cell.variant.as_str(), record.cell.rank));
        }
    }
    found
}

/// A cost that a row may have.
struct Price {
    /// Its head in the table of costs.
    head: &'static str,
    /// What it means.
    about: &'static str,
    /// The number, in the unit of the head.
    of: fn(&Cost) -> Option<f64>,
}

impl Price {
    fn column(&self) -> ColumnView {
        ColumnView { name: self.head.to_owned(), task: None, more_is_better: false, about: self.about }
    }
}

const PRICES: [Price; 4] = [
    Price {
        head: "ms/step",
        about: "Mean milliseconds of a training step. In a cohort, the cohort's time divided by its runs.",
        of: |cost| cost.seconds_per_step.map(|seconds| 1e3 * seconds),
    },
    Price {
        head: "MiB/run",
        about: "A run's share of moments, gradients and activations on the device, where its cohorts have runs of this row alone.",
        of: |cost| cost.memory.map(|memory| memory.per_run / f64::from(1 << 20)),
    },
    Price {
        head: "adapter bytes",
        about: "The adapter's file, head included.",
        of: |cost| cost.adapter_bytes.map(|bytes| bytes as f64),
    },
    Price {
        head: FORGETTING,
        about: "Rise of the base's own loss on held-out text, in nats a token.",
        of: |cost| cost.forgetting.as_ref().map(|summary| summary.mean),
    },
];

const FORGETTING: &str = "forgetting";

/// The main table with what belongs beside it.
struct Grid<'a> {
    source: &'a Source<'a>,
    tables: &'a StudyTables,
    split: &'a str,
    main: &'a Table,
    comparisons: &'a [Comparison],
}

impl Grid<'_> {
    /// The columns of the main table after variant and rank: trained parameters, metrics of tasks, their average.
    fn metrics(&self) -> Result<Vec<ColumnView>, AnalysisError> {
        let rows = self.tables.summary.primary(self.split)?;
        let column = |head: &String| {
            let own = rows.iter().find(|row| format!("{} {}", row.task, row.metric) == *head);
            let goal = own.or(rows.first()).map_or(Goal::Maximise, |row| row.goal);
            let task = own.map(|row| row.task.clone()).or_else(|| (head == ALL_TASKS).then(|| ALL_TASKS.to_owned()));
            let is_metric = task.is_some();
            ColumnView {
                name: head.clone(),
                task,
                more_is_better: is_metric && goal == Goal::Maximise,
                about: if is_metric { "" } else { "Trained parameters without the head's." },
            }
        };
        Ok(self.main.header[NAMES - 1..].iter().map(column).collect())
    }

    /// The costs that some row has.
    fn priced(&self) -> Vec<Price> {
        let known = named(self.tables, "cost").map(|table| table.header.clone()).unwrap_or_default();
        PRICES.into_iter().filter(|price| known.iter().any(|name| name == price.head)).collect()
    }

    fn rows(
        &self,
        metrics: &[ColumnView],
        priced: &[Price],
        costs: &[Cost],
        trained_by: &BTreeMap<(&str, usize), (&str, usize)>,
    ) -> Vec<RowView> {
        let is_average = metrics.iter().any(|column| column.task.as_deref() == Some(ALL_TASKS));
        let tasks: Vec<&String> = metrics.iter().filter_map(|column| column.task.as_ref()).collect();
        let over_all =
            if is_average { Some(ALL_TASKS) } else { tasks.first().filter(|_| tasks.len() == 1).map(|t| t.as_str()) };
        let row = |entries: &Vec<Entry>| {
            let (variant, rank) = (render::cell(&entries[0]), render::cell(&entries[1]).parse().unwrap_or(0));
            let trained = trained_by.get(&(variant.as_str(), rank)).copied().unwrap_or((&variant, rank));
            let cost = costs.iter().find(|cost| (cost.variant.as_str(), cost.rank) == trained);
            let mut cells: Vec<Measure> = metrics
                .iter()
                .zip(&entries[NAMES - 1..])
                .map(|(column, entry)| self.measure(column, entry, (&variant, rank)))
                .collect();
            cells.extend(priced.iter().map(|priced| self.price(priced, cost)));
            let verdict = over_all.and_then(|task| self.compared(task, (&variant, rank)));
            let is_baseline = self.source.study.baseline.as_deref() == Some(&variant);
            RowView { verdict: verdict.map(ComparisonView::of), is_baseline, cells, variant, rank }
        };
        self.main.blocks.iter().flat_map(|block| &block.rows).map(row).collect()
    }

    fn compared(&self, task: &str, (variant, rank): (&str, usize)) -> Option<&Comparison> {
        self.comparisons.iter().find(|one| (one.task.as_str(), one.variant.as_str(), one.rank) == (task, variant, rank))
    }

    /// A metric with what its comparison says, or the exact number of parameters.
    fn measure(&self, column: &ColumnView, entry: &Entry, row: (&str, usize)) -> Measure {
        let Cell { text, value } = Cell::of(entry);
        let half = match entry {
            Entry::Estimate(estimate) => estimate.half_width,
            _ => None,
        };
        let exact = column.task.is_none().then(|| self.parameters(row)).flatten();
        let compared = column.task.as_ref().and_then(|task| self.compared(task, row)).map(ComparisonView::of);
        let (verdict, said) = compared.map(|one| (one.verdict, one.said)).unzip();
        Measure { text, value: exact.or(value), half, verdict, said }
    }

    fn parameters(&self, (variant, rank): (&str, usize)) -> Option<f64> {
        let own = self.tables.summary.rows.iter().filter(|row| row.variant == variant && row.rank == rank);
        own.map(|row| row.trainable_params).max().map(|count| count as f64)
    }

    /// The cell of the table of costs, with the number behind it.
    fn price(&self, priced: &Price, cost: Option<&Cost>) -> Measure {
        let text = cost.and_then(|cost| {
            let table = named(self.tables, "cost")?;
            let at = table.header.iter().position(|head| head == priced.head)?;
            let is_own = |row: &&Vec<Entry>| {
                let rank: usize = render::cell(&row[1]).parse().unwrap_or(0);
                render::cell(&row[0]) == cost.variant && rank == cost.rank
            };
            let row = table.blocks.iter().flat_map(|block| &block.rows).find(is_own)?;
            Some(render::cell(&row[at]))
        });
        let half = cost.filter(|_| priced.head == FORGETTING).and_then(|cost| cost.forgetting.as_ref()?.half_width());
        Measure {
            text: text.unwrap_or_else(|| render::cell(&Entry::Missing)),
            value: cost.and_then(priced.of),
            half,
            verdict: None,
            said: None,
        }
    }
}
