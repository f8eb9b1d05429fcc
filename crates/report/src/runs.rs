//! Every run: the list of them, and what the page of each shows.
//!
//! The list is one line per run. What a run's page shows beyond it lies in chunks of [`CHUNK`] runs, which the browser reads when one of them
//! is opened. What runs share (configurations, environments, logged steps) is there once.

use std::collections::BTreeMap;

use analysis::{
    AnalysisError,
    summary::{Selection, SummaryTable, reported},
};
use record::{Evaluation, Goal, Measured, Routing, RunRecord, Status, seedless};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{
    curves::scale,
    measures::{Measures, RunTable},
    thin::{kept, limit, short},
};

/// Runs of which the browser reads the pages at once.
pub(crate) const CHUNK: usize = 100;

/// All runs of a study.
#[derive(Debug)]
pub(crate) struct Runs<'a> {
    /// The list and what runs share.
    pub(crate) list: RunList<'a>,
    /// What the pages show, in the order of the list.
    pub(crate) pages: Vec<RunView<'a>>,
}

/// The list, and what runs share.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RunList<'a> {
    /// One per run.
    rows: Vec<RunRow<'a>>,
    /// Configurations, each of all runs of one task, variant and rank.
    configurations: Vec<Configuration>,
    /// Where runs were made.
    environments: Vec<Environment<'a>>,
    /// Steps that were logged.
    steps: Vec<&'a [u64]>,
    /// Primary metric of every task, and whether it is shown in points.
    metrics: BTreeMap<&'a str, (&'a str, bool)>,
    /// Runs in a chunk.
    chunk: usize,
}

/// A line of the list.
#[derive(Debug)]
struct RunRow<'a> {
    slug: String,
    record: &'a RunRecord,
    value: Option<f64>,
}

/// As an array: ten thousand lines would repeat the names of their fields.
impl Serialize for RunRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cell = &self.record.cell;
        (
            &self.slug,
            u8::from(self.record.is_finished()),
            &cell.task,
            &cell.variant,
            cell.rank,
            // A seed beyond 2^53 is no number of a browser's.
            cell.seed.to_string(),
            self.value.map(short),
            short(self.record.measured.train_seconds),
        )
            .serialize(serializer)
    }
}

/// Every value that was in force in some runs, seeds apart.
#[derive(Debug, Serialize)]
struct Configuration {
    /// Path, value, and whether the experiment's defaults say otherwise.
    rows: Vec<(String, String, bool)>,
    /// What the tuning and the command line set, by its path in the experiment.
    set: Vec<(String, String)>,
}

/// Where and from what a run was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Environment<'a> {
    code_hash: &'a str,
    commit: &'a str,
    is_dirty: bool,
    versions: &'a BTreeMap<String, String>,
    model_hash: &'a str,
    data_hash: &'a str,
    reading_hash: Option<&'a str>,
    device: &'a str,
    precision: &'a str,
}

/// What the page of a run shows.
#[derive(Debug, Serialize)]
pub(crate) struct RunView<'a> {
    slug: &'a str,
    configuration: usize,
    environment: usize,
    failed: Option<(u64, &'a str)>,
    seeds: BTreeMap<&'a str, String>,
    spec_hash: &'a str,
    adapter_hash: Option<&'a str>,
    start: Option<(&'a str, &'a str)>,
    cohort: CohortView<'a>,
    best: Option<(u64, &'a str, f64)>,
    started: u64,
    finished: u64,
    resumed_at: &'a [u64],
    notes: Vec<String>,
    evaluations: Vec<EvaluationView<'a>>,
    earlier: Vec<(&'a str, EvaluationView<'a>)>,
    costs: CostsView,
    forgetting: Option<(f64, f64, &'a str)>,
    /// Ranks of maps where they differ from what was written, else how many maps there are.
    final_ranks: FinalRanks<'a>,
    routers: BTreeMap<&'a str, RouterView<'a>>,
    curves: BTreeMap<&'static str, CurveView>,
    dev: Vec<(String, CurveView)>,
    measures: &'a [RunTable],
}

#[derive(Debug, Serialize)]
struct CohortView<'a> {
    id: &'a str,
    size: usize,
    changes: Vec<(u64, usize, &'a str)>,
    peak_bytes: Option<u64>,
}

/// An evaluation that tables report.
#[derive(Debug, Serialize)]
struct EvaluationView<'a> {
    step: u64,
    split: &'a str,
    readout: String,
    examples: usize,
    loss: f64,
    metrics: &'a BTreeMap<String, f64>,
    undefined: &'a BTreeMap<String, String>,
}

impl<'a> EvaluationView<'a> {
    fn of(evaluation: &'a Evaluation) -> Self {
        let Evaluation { step, split, readout, metrics, undefined, examples, loss, .. } = evaluation;
        Self {
            step: *step,
            split,
            readout: readout.to_string(),
            examples: *examples,
            loss: short(*loss),
            metrics,
            undefined,
        }
    }
}

/// Costs and checks of a run.
#[derive(Debug, Serialize)]
struct CostsView {
    trainable_params: u64,
    head_params: u64,
    adapter_bytes: u64,
    seconds_per_step: f64,
    tokens_per_second: f64,
    train_seconds: f64,
    eval_seconds: f64,
    merge_error: Option<f64>,
}

impl CostsView {
    fn of(measured: &Measured) -> Self {
        Self {
            trainable_params: measured.trainable_params,
            head_params: measured.head_params,
            adapter_bytes: measured.adapter_bytes,
            seconds_per_step: short(measured.seconds_per_step),
            tokens_per_second: short(measured.tokens_per_second),
            train_seconds: short(measured.train_seconds),
            eval_seconds: short(measured.eval_seconds),
            merge_error: measured.merge_error,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum FinalRanks<'a> {
    Same(usize),
    Differ(&'a BTreeMap<String, usize>),
}

impl<'a> FinalRanks<'a> {
    fn of(record: &'a RunRecord) -> Self {
        let ranks = &record.measured.final_ranks;
        let is_same = ranks.values().all(|rank| *rank == record.cell.rank);
        if is_same { Self::Same(ranks.len()) } else { Self::Differ(ranks) }
    }
}

/// How a router spreads tokens over its experts.
#[derive(Debug, Serialize)]
struct RouterView<'a> {
    weights: &'a [f64],
    load: &'a [f64],
    evenness: Option<f64>,
}

impl<'a> RouterView<'a> {
    fn of(routing: &'a Routing) -> Self {
        Self { weights: &routing.weights, load: &routing.load, evenness: routing.evenness() }
    }
}

/// A curve of one run.
#[derive(Debug, Serialize)]
struct CurveView {
    x: Steps,
    y: Vec<f64>,
}

/// Steps of a curve: one of the lists that runs share, or, where points were left out, its own.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Steps {
    Shared(usize),
    Own(Vec<u64>),
}

/// What runs share, by what makes it one.
#[derive(Debug, Default)]
struct Shared<'a> {
    configurations: BTreeMap<(&'a str, &'a str, usize, String), usize>,
    environments: BTreeMap<Environment<'a>, usize>,
    steps: BTreeMap<&'a [u64], usize>,
}

impl<'a> Runs<'a> {
    /// Of all records of a study. `slugs` are those of the records.
    pub(crate) fn of(
        records: &'a [RunRecord],
        slugs: &'a [String],
        summary: &SummaryTable,
        measures: &'a Measures,
    ) -> Result<Self, AnalysisError> {
        let values = values(summary);
        let most = limit(records.len());
        let mut list = RunList { chunk: CHUNK, ..RunList::default() };
        let (mut shared, mut pages) = (Shared::default(), Vec::with_capacity(records.len()));
        for (record, slug) in records.iter().zip(slugs) {
            let cell = &record.cell;
            let scale = scale(record.primary_metric.goal);
            let own = values.get(&(cell.task.as_str(), cell.variant.as_str(), cell.rank));
            let value = own.and_then(|values| values.get(&cell.seed)).map(|value| scale * value);
            list.rows.push(RunRow { slug: slug.clone(), record, value });
            let metric = (record.primary_metric.name.as_str(), record.primary_metric.goal == Goal::Maximise);
            list.metrics.insert(&cell.task, metric);
            pages.push(RunView { measures: measures.of_run(cell), ..shared.view(record, slug, most, &mut list)? });
        }
        Ok(Self { list, pages })
    }
}

/// Values of every row's primary metric on its task's first split, by seed.
fn values(summary: &SummaryTable) -> BTreeMap<(&str, &str, usize), &BTreeMap<u64, f64>> {
    let mut found = BTreeMap::new();
    for split in summary.splits() {
        for row in summary.rows.iter().filter(|row| row.primary && summary.section(row) == split) {
            found.entry((row.task.as_str(), row.variant.as_str(), row.rank)).or_insert(&row.values);
        }
    }
    found
}

impl<'a> Shared<'a> {
    fn view(
        &mut self,
        record: &'a RunRecord,
        slug: &'a str,
        most: usize,
        list: &mut RunList<'a>,
    ) -> Result<RunView<'a>, AnalysisError> {
        let measured = &record.measured;
        let of_earlier = measured.earlier.iter();
        Ok(RunView {
            slug,
            configuration: self.configuration(record, list),
            environment: self.environment(record, list),
            failed: match &record.status {
                Status::Finished => None,
                Status::Failed { step, reason } => Some((*step, reason)),
            },
            seeds: record.seeds.iter().map(|(stream, seed)| (stream.as_str(), seed.to_string())).collect(),
            spec_hash: &record.spec_hash,
            adapter_hash: record.adapter_hash.as_deref(),
            start: record.start.as_ref().map(|start| (start.name.as_str(), start.hash.as_str())),
            cohort: cohort(record),
            best: record.best.as_ref().map(|best| (best.step, best.metric.as_str(), best.value)),
            started: record.started,
            finished: record.finished,
            resumed_at: &record.resumed_at,
            notes: notes(record),
            evaluations: reported(record, Selection::Reported)?.into_iter().map(EvaluationView::of).collect(),
            earlier: of_earlier
                .flat_map(|earlier| {
                    earlier.evaluations.iter().map(|one| (earlier.task.as_str(), EvaluationView::of(one)))
                })
                .collect(),
            costs: CostsView::of(measured),
            forgetting: measured.forgetting.as_ref().map(|of| (of.before, of.after, of.text.as_str())),
            final_ranks: FinalRanks::of(record),
            routers: measured.routers.iter().map(|(map, of)| (map.as_str(), RouterView::of(of))).collect(),
            curves: self.curves(record, most, list),
            dev: dev(record, most),
            measures: &[],
        })
    }

    fn configuration(&mut self, record: &'a RunRecord, list: &mut RunList<'a>) -> usize {
        let cell = &record.cell;
        let key = (cell.task.as_str(), cell.variant.as_str(), cell.rank, record.group_hash());
        *self.configurations.entry(key).or_insert_with(|| {
            list.configurations.push(Configuration::of(record));
            list.configurations.len() - 1
        })
    }

    fn environment(&mut self, record: &'a RunRecord, list: &mut RunList<'a>) -> usize {
        let environment = Environment {
            code_hash: &record.code.code_hash,
            commit: &record.code.commit,
            is_dirty: record.code.dirty,
            versions: &record.versions,
            model_hash: &record.model_hash,
            data_hash: &record.data_hash,
            reading_hash: record.reading_hash.as_deref(),
            device: &record.device,
            precision: &record.precision,
        };
        *self.environments.entry(environment.clone()).or_insert_with(|| {
            list.environments.push(environment);
            list.environments.len() - 1
        })
    }

    /// The columns of the log that say something of this run alone.
    fn curves(
        &mut self,
        record: &'a RunRecord,
        most: usize,
        list: &mut RunList<'a>,
    ) -> BTreeMap<&'static str, CurveView> {
        let log = &record.steps;
        let components: Option<Vec<f64>> = log.components().map(|counts| counts.iter().map(|n| *n as f64).collect());
        let columns = [
            ("loss", Some(log.task_loss())),
            ("gradient norm", Some(log.gradient_norm())),
            ("penalty", log.penalty()),
            ("components", components.as_deref()),
        ];
        let mut curves = BTreeMap::new();
        for (name, values) in columns {
            if let Some(values) = values.filter(|values| !values.is_empty()) {
                curves.insert(name, self.curve(log.step(), values, most, list));
            }
        }
        curves
    }

    fn curve(&mut self, steps: &'a [u64], values: &[f64], most: usize, list: &mut RunList<'a>) -> CurveView {
        let kept = kept(values, most);
        let y = kept.iter().map(|at| short(values[*at])).collect();
        let x = if kept.len() == values.len() {
            Steps::Shared(*self.steps.entry(steps).or_insert_with(|| {
                list.steps.push(steps);
                list.steps.len() - 1
            }))
        } else {
            Steps::Own(kept.iter().map(|at| steps[*at]).collect())
        };
        CurveView { x, y }
    }
}

fn cohort(record: &RunRecord) -> CohortView<'_> {
    let cohort = &record.cohort;
    let changes = cohort.changes.iter().map(|change| (change.step, change.members.len(), change.reason.as_str()));
    CohortView {
        id: &cohort.id,
        size: cohort.members.len(),
        changes: changes.collect(),
        peak_bytes: record.measured.peak_memory_bytes,
    }
}

/// What a reader should know before the numbers.
fn notes(record: &RunRecord) -> Vec<String> {
    let cut = |(split, cut): (&String, &record::Truncated)| {
        format!("{} of {} texts of {split} were cut at the length limit.", cut.texts, cut.of)
    };
    let generated = record.evaluations.iter().filter_map(|evaluation| evaluation.generated?.note());
    let unmoved = record.note_unmoved().map(|note| format!("{note}."));
    let dirty = record.code.dirty.then(|| "The code differed from its commit.".to_owned());
    let mut notes: Vec<String> =
        record.truncated.iter().map(cut).chain(generated).chain(unmoved).chain(dirty).collect();
    notes.dedup();
    notes
}

/// The primary metric over steps, for every split and readout that was evaluated more than once.
fn dev(record: &RunRecord, most: usize) -> Vec<(String, CurveView)> {
    let (metric, scale) = (&record.primary_metric.name, scale(record.primary_metric.goal));
    let mut curves: BTreeMap<(&str, &record::Readout), BTreeMap<u64, f64>> = BTreeMap::new();
    for evaluation in &record.evaluations {
        if let Some(value) = evaluation.metrics.get(metric) {
            curves.entry((&evaluation.split, &evaluation.readout)).or_default().insert(evaluation.step, scale * value);
        }
    }
    let view = |((split, readout), points): ((&str, &record::Readout), BTreeMap<u64, f64>)| {
        let (steps, values): (Vec<u64>, Vec<f64>) = points.into_iter().unzip();
        let kept = kept(&values, most);
        let (x, y) = kept.iter().map(|at| (steps[*at], short(values[*at]))).unzip();
        (format!("{split}, {readout}"), CurveView { x: Steps::Own(x), y })
    };
    curves.into_iter().filter(|(_, points)| points.len() > 1).map(view).collect()
}

impl Configuration {
    fn of(record: &RunRecord) -> Self {
        let changed = changed(&record.diff);
        let is_changed = |path: &str| {
            changed.iter().any(|other| {
                path.strip_prefix(other.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        let mut values = Vec::new();
        flatten("", &seedless(&record.spec), &mut values);
        let mut set = Vec::new();
        for (path, value) in record.diff["set"].as_object().into_iter().flatten() {
            set.push((path.clone(), plain(value)));
        }
        let row = |(path, value): (String, String)| {
            let is_changed = is_changed(&path);
            (path, value, is_changed)
        };
        Self { rows: values.into_iter().map(row).collect(), set }
    }
}

/// Paths of a spec that a record's `diff` names: `with` is about the variant, the fields of `modules` stand at the top.
fn changed(diff: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    for (part, prefix) in [("train", "train"), ("with", "variant"), ("modules", "")] {
        let mut values = Vec::new();
        flatten(prefix, &diff[part], &mut values);
        if diff[part].is_object() {
            paths.extend(values.into_iter().map(|(path, _)| path));
        }
    }
    paths.extend(["model", "targets"].into_iter().filter(|name| !diff[*name].is_null()).map(str::to_owned));
    paths
}

/// Every value below a path; an object without fields is a value.
fn flatten(path: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, into);
            }
        }
        other => into.push((path.to_owned(), plain(other))),
    }
}

/// A value without JSON's quotes around a text.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_departs_from_the_defaults_is_found_in_the_spec() {
        let diff = json!({
            "train": {"learning_rate": 0.01},
            "with": {"rank_policy": {"target_rank": 8}, "delta": {"kind": "gated"}},
            "modules": {"exclude_modules": ["x"]},
            "targets": ["query"],
            "set": {"variants[1].train.learning_rate": 0.01},
        });
        let mut found = changed(&diff);
        found.sort();
        let want = [
            "exclude_modules",
            "targets",
            "train.learning_rate",
            "variant.delta.kind",
            "variant.rank_policy.target_rank",
        ];
        assert_eq!(found, want);
        assert!(changed(&json!({})).is_empty());
    }

    #[test]
    fn values_are_flat_and_readable() {
        let mut values = Vec::new();
        flatten("", &json!({"a": {"b": [1, "x"], "c": {}}, "d": null}), &mut values);
        let shown: Vec<String> = values.into_iter().map(|(path, value)| format!("{path}={value}")).collect();
        assert_eq!(shown, ["a.b=1, x", "a.c={}", "d=null"]);
    }
}
