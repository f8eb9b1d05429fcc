//! The event files of an experiment and of its runs.
//!
//! | file | what it has |
//! |---|---|
//! | of the experiment | its YAML as text, the columns of the table of hyperparameters |
//! | of a run | `train/..` and `<split>/<metric>` over steps, `reported/<split>/<metric>`, its settings, how it ended |
//!
//! A record has a run's beginning and end, and no time of every step: steps lie evenly between the two. A readout that is not the run's own
//! has its label and rank behind the metric, such as `dev/matthews/dylora-r2`. Runs that differ in their seeds alone are one group, of
//! which TensorBoard shows means.

use std::collections::{BTreeMap, BTreeSet};

use record::{Evaluation, RunRecord};
use serde_json::Value as Json;

use crate::event::{Event, Value};
use crate::file::encode;
use crate::hparams::{Data, Experiment, HParam, Kind, Metric, MetricName, SessionEnd, SessionStart, Setting};

/// What a reader looks for in the name of an event file.
const PREFIX: &str = "events.out.tfevents";
/// How this program's files end.
const SUFFIX: &str = "lora-lab";

/// An event file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFile {
    /// The run's folder; empty for the experiment's own file.
    pub folder: String,
    /// The file's name.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Whether this program gives a file such a name.
pub fn is_own(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// An experiment as its event files name it.
#[derive(Clone, Copy, Debug)]
pub struct Study<'a> {
    /// Its name.
    pub name: &'a str,
    /// One line on what it is about; may be empty.
    pub title: &'a str,
    /// Its file.
    pub yaml: &'a str,
}

/// The file of the experiment, and one for every record.
pub fn files(study: &Study<'_>, records: &[RunRecord]) -> Vec<EventFile> {
    let runs = records.iter().map(|record| {
        let events = events(record);
        EventFile { folder: record.cell.slug(), name: name(record.started), bytes: encode(&events) }
    });
    std::iter::once(of_study(study, records)).chain(runs).collect()
}

fn name(started: u64) -> String {
    format!("{PREFIX}.{started:010}.{SUFFIX}")
}

fn of_study(study: &Study<'_>, records: &[RunRecord]) -> EventFile {
    let started = records.iter().map(|record| record.started).min().unwrap_or_default();
    let mut kinds: BTreeMap<String, i32> = BTreeMap::new();
    for record in records {
        for (name, kind) in settings(record) {
            // A setting that is a number here and a word there is a word.
            let number = kinds.entry(name).or_insert(kind.number());
            *number = (*number).min(kind.number());
        }
    }
    let reported: BTreeSet<(String, bool)> = records
        .iter()
        .flat_map(|record| own_reported(record).map(move |evaluation| (record, evaluation)))
        .flat_map(|(record, evaluation)| {
            let is_other = move |metric: &String| *metric != record.primary_metric.name;
            evaluation.metrics.keys().map(move |metric| (reported(evaluation, metric), is_other(metric)))
        })
        .collect();
    // The metrics by which tasks are judged come first.
    let mut metrics: Vec<(bool, String)> = reported.into_iter().map(|(tag, is_other)| (is_other, tag)).collect();
    metrics.sort();
    metrics.dedup_by(|later, first| later.1 == first.1);
    let metric = |(_, tag): (bool, String)| Metric {
        display_name: tag.trim_start_matches("reported/").to_owned(),
        name: Some(MetricName { group: String::new(), tag }),
        dataset: 2,
    };
    let experiment = Experiment {
        name: study.name.to_owned(),
        description: study.title.to_owned(),
        time_created: started as f64,
        hparams: kinds.into_iter().map(|(name, kind)| HParam { name, kind }).collect(),
        metrics: metrics.into_iter().map(metric).collect(),
    };
    let yaml = Value::text("experiment", &fenced(study.yaml));
    let values = vec![Data::Experiment(experiment).value(), yaml];
    EventFile { folder: String::new(), name: name(started), bytes: encode(&[Event::of(started as f64, 0, values)]) }
}

/// A text as a block of code in Markdown: each of its lines is indented, so that no line of it can end the block.
fn fenced(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// Everything that a record says over time.
fn events(record: &RunRecord) -> Vec<Event> {
    let clock = Clock::of(record);
    let settings = settings(record).into_iter().map(|(name, kind)| (name, Setting { kind: Some(kind) })).collect();
    let start = SessionStart { hparams: settings, group: group(record), started: record.started as f64 };
    let end = SessionEnd { status: if record.is_finished() { 1 } else { 2 }, ended: record.finished as f64 };
    let mut events = vec![Event::of(clock.at(0), 0, vec![Data::Start(start).value()])];
    events.extend(record.steps.iter().map(|entry| {
        let mut values = vec![
            Value::scalar("train/loss", entry.task_loss),
            Value::scalar("train/learning_rate", entry.learning_rate),
            Value::scalar("train/gradient_norm", entry.gradient_norm),
        ];
        values.extend(entry.penalty.map(|penalty| Value::scalar("train/penalty", penalty)));
        values.extend(entry.components.map(|count| Value::scalar("train/components", count as f64)));
        Event::of(clock.at(entry.step), entry.step, values)
    }));
    events.extend(record.evaluations.iter().map(|evaluation| {
        let tag = |what: &str| tag(record, evaluation, what);
        let mut values = vec![Value::scalar(tag("loss"), evaluation.loss)];
        values.extend(evaluation.metrics.iter().map(|(metric, value)| Value::scalar(tag(metric), *value)));
        Event::of(clock.at(evaluation.step), evaluation.step, values)
    }));
    events.sort_by_key(|event| event.step);
    let last = record.steps.last();
    events.extend(own_reported(record).map(|evaluation| {
        let known = evaluation.metrics.iter().filter(|(_, value)| value.is_finite());
        let values = known.map(|(metric, value)| Value::scalar(reported(evaluation, metric), *value)).collect();
        Event::of(clock.at(last), evaluation.step, values)
    }));
    events.push(Event::of(record.finished as f64, last, vec![Data::End(end).value()]));
    events
}

/// Wall times of steps.
struct Clock {
    started: f64,
    finished: f64,
    /// Seconds of a step.
    pace: f64,
}

impl Clock {
    fn of(record: &RunRecord) -> Self {
        let (started, finished) = (record.started as f64, record.finished.max(record.started) as f64);
        Self { started, finished, pace: (finished - started) / record.steps.last().max(1) as f64 }
    }

    fn at(&self, step: u64) -> f64 {
        (self.started + self.pace * step as f64).min(self.finished)
    }
}

/// The evaluations of a run's own readout that tables report: at the best checkpoint where one was selected, else the last ones.
fn own_reported(record: &RunRecord) -> impl Iterator<Item = &Evaluation> {
    let step = match &record.best {
        Some(best) => Some(best.step),
        None => record.evaluations.iter().map(|evaluation| evaluation.step).max(),
    };
    let is_own = move |evaluation: &&Evaluation| Some(evaluation.step) == step && is_of_run(record, evaluation);
    record.evaluations.iter().filter(is_own)
}

fn is_of_run(record: &RunRecord, evaluation: &Evaluation) -> bool {
    evaluation.readout.label == record.cell.variant && evaluation.readout.rank == record.cell.rank
}

fn tag(record: &RunRecord, evaluation: &Evaluation, what: &str) -> String {
    let split = &evaluation.split;
    if is_of_run(record, evaluation) {
        return format!("{split}/{what}");
    }
    format!("{split}/{what}/{}-r{}", evaluation.readout.label, evaluation.readout.rank)
}

fn reported(evaluation: &Evaluation, metric: &str) -> String {
    format!("reported/{}/{metric}", evaluation.split)
}

/// The name of a run without its seed.
fn group(record: &RunRecord) -> String {
    let cell = &record.cell;
    format!("{}-{}-r{}", cell.task, cell.variant, cell.rank)
}

/// Every setting of a run but its seeds, flat: `train.learning_rate`. The label is the experiment's name of the row.
fn settings(record: &RunRecord) -> BTreeMap<String, Kind> {
    let mut found = BTreeMap::new();
    flatten(&record.spec, "", &mut found);
    found.retain(|name, _| name != "seed" && !name.starts_with("seeds."));
    found.insert("label".to_owned(), Kind::Text(record.cell.variant.clone()));
    found.insert("device".to_owned(), Kind::Text(record.device.clone()));
    found.insert("trainable_params".to_owned(), Kind::Number(record.measured.trainable_params as f64));
    found
}

fn flatten(value: &Json, name: &str, found: &mut BTreeMap<String, Kind>) {
    let kind = match value {
        Json::Null => return,
        Json::Object(fields) => {
            let dot = if name.is_empty() { "" } else { "." };
            return fields.iter().for_each(|(key, field)| flatten(field, &format!("{name}{dot}{key}"), found));
        }
        Json::Bool(switch) => Kind::Switch(*switch),
        Json::Number(number) => Kind::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::Text(text.clone()),
        Json::Array(items) => {
            let text = |item: &Json| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
            Kind::Text(items.iter().map(text).collect::<Vec<_>>().join(", "))
        }
    };
    found.insert(name.to_owned(), kind);
}
