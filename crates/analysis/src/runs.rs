//! For other programs: every run, and every logged step of every run, in long form.
//!
//! `runs.csv` has one line per run, readout, split and metric, where `summary.csv` has means over seeds. `steps.csv` has one line per run and
//! step that was logged or evaluated. Its columns of one run are what trackio's `import_csv` reads: `step`, and numbers.

use std::collections::{BTreeMap, BTreeSet};

use record::{RunRecord, Status};

use crate::{
    AnalysisError,
    summary::{Selection, reported},
};

/// A column of equal length as its neighbours; an absent value is none.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Texts.
    Text(Vec<Option<String>>),
    /// Whole numbers.
    Count(Vec<Option<u64>>),
    /// Numbers in raw units.
    Number(Vec<Option<f64>>),
}

impl Column {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::Count(values) => values.len(),
            Self::Number(values) => values.len(),
        }
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Named columns of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns(pub Vec<(String, Column)>);

impl Columns {
    /// Number of rows.
    pub fn height(&self) -> usize {
        self.0.first().map_or(0, |(_, column)| column.len())
    }
}

/// One row of the runs: a metric of a run, or a run without one.
struct Row<'a> {
    record: &'a RunRecord,
    /// Label and rank of the readout, split, step, examples, metric and value.
    score: Option<(&'a record::Evaluation, &'a str, f64)>,
}

/// One row per run, readout, split and metric, at the step that is reported, with what the run cost; a failed run has one row without a
/// metric.
///
/// Columns: `run, task, variant, rank, seed, status, split, metric, value, loss, primary, examples, step, started, finished,
/// trainable_params, head_params, adapter_bytes, seconds_per_step, train_seconds, eval_seconds, peak_memory_bytes, device, spec_hash,
/// code_hash`. `value` is in raw units (an accuracy from 0 to 1), `primary` is 1 where the task is judged by the metric, and times are
/// seconds since 1970.
pub fn runs(records: &[RunRecord]) -> Result<Columns, AnalysisError> {
    let mut rows = Vec::new();
    for record in records {
        let before = rows.len();
        let reported = if record.is_finished() { reported(record, Selection::Reported)? } else { Vec::new() };
        for evaluation in reported {
            let scores = evaluation.metrics.iter();
            rows.extend(scores.map(|(metric, value)| Row { record, score: Some((evaluation, metric, *value)) }));
        }
        if rows.len() == before {
            rows.push(Row { record, score: None });
        }
    }
    let text = |get: fn(&Row<'_>) -> Option<String>| Column::Text(rows.iter().map(get).collect());
    let count = |get: fn(&Row<'_>) -> Option<u64>| Column::Count(rows.iter().map(get).collect());
    let number = |get: fn(&Row<'_>) -> Option<f64>| Column::Number(rows.iter().map(get).collect());
    let columns: Vec<(&str, Column)> = vec![
        ("run", text(|row| Some(row.record.cell.slug()))),
        ("task", text(|row| Some(row.record.cell.task.clone()))),
        (
            "variant",
            text(|row| Some(row.score.map_or(&row.record.cell.variant, |score| &score.0.readout.label).clone())),
        ),
        ("rank", count(|row| Some(row.score.map_or(row.record.cell.rank, |score| score.0.readout.rank) as u64))),
        ("seed", count(|row| Some(row.record.cell.seed))),
        ("status", text(|row| Some(status(row.record)))),
        ("split", text(|row| row.score.map(|score| score.0.split.clone()))),
        ("metric", text(|row| row.score.map(|score| score.1.to_owned()))),
        ("value", number(|row| row.score.map(|score| score.2))),
        ("loss", number(|row| row.score.map(|score| score.0.loss))),
        ("primary", count(|row| row.score.map(|score| u64::from(score.1 == row.record.primary_metric.name)))),
        ("examples", count(|row| row.score.map(|score| score.0.examples as u64))),
        ("step", count(|row| row.score.map(|score| score.0.step))),
        ("started", count(|row| Some(row.record.started))),
        ("finished", count(|row| Some(row.record.finished))),
        ("trainable_params", count(|row| Some(row.record.measured.trainable_params))),
        ("head_params", count(|row| Some(row.record.measured.head_params))),
        ("adapter_bytes", count(|row| Some(row.record.measured.adapter_bytes))),
        ("seconds_per_step", number(|row| Some(row.record.measured.seconds_per_step))),
        ("train_seconds", number(|row| Some(row.record.measured.train_seconds))),
        ("eval_seconds", number(|row| Some(row.record.measured.eval_seconds))),
        ("peak_memory_bytes", count(|row| row.record.measured.peak_memory_bytes)),
        ("device", text(|row| Some(row.record.device.clone()))),
        ("spec_hash", text(|row| Some(row.record.spec_hash.clone()))),
        ("code_hash", text(|row| Some(row.record.code.code_hash.clone()))),
    ];
    Ok(Columns(columns.into_iter().map(|(name, column)| (name.to_owned(), column)).collect()))
}

fn status(record: &RunRecord) -> String {
    match &record.status {
        Status::Finished => "finished".to_owned(),
        Status::Failed { step, reason } => format!("failed at step {step}: {reason}"),
    }
}

/// Number of rows that [`steps`] has at most.
pub fn most_steps(records: &[RunRecord]) -> usize {
    records.iter().map(|record| record.steps.len() + record.evaluations.len()).sum()
}

/// One row per run and step that was logged or evaluated.
///
/// Columns: `run, task, variant, rank, seed, step, train/loss, train/penalty, train/learning_rate, train/gradient_norm,
/// train/components`, and one for every split and metric, such as `dev/accuracy`, of the run's own readout (a DyLoRA run's at its largest
/// rank). What was not logged or evaluated at a step is absent.
pub fn steps(records: &[RunRecord]) -> Columns {
    let own = |record: &RunRecord| -> BTreeMap<u64, BTreeMap<String, f64>> {
        let mut found: BTreeMap<u64, BTreeMap<String, f64>> = BTreeMap::new();
        let is_own = |evaluation: &&record::Evaluation| {
            evaluation.readout.label == record.cell.variant && evaluation.readout.rank == record.cell.rank
        };
        for evaluation in record.evaluations.iter().filter(is_own) {
            let scores =
                evaluation.metrics.iter().map(|(metric, value)| (format!("{}/{metric}", evaluation.split), *value));
            let loss = std::iter::once((format!("{}/loss", evaluation.split), evaluation.loss));
            found.entry(evaluation.step).or_default().extend(scores.chain(loss));
        }
        found
    };
    let evaluated: Vec<_> = records.iter().map(own).collect();
    let names: BTreeSet<&String> = evaluated.iter().flat_map(BTreeMap::values).flat_map(BTreeMap::keys).collect();
    let mut rows: Vec<(usize, u64, Option<record::StepEntry>)> = Vec::with_capacity(most_steps(records));
    for (index, record) in records.iter().enumerate() {
        let mut of_run: BTreeMap<u64, Option<record::StepEntry>> =
            record.steps.iter().map(|entry| (entry.step, Some(entry))).collect();
        for step in evaluated[index].keys() {
            of_run.entry(*step).or_insert(None);
        }
        rows.extend(of_run.into_iter().map(|(step, entry)| (index, step, entry)));
    }
    let cell = |index: usize| &records[index].cell;
    let text = |get: &dyn Fn(usize) -> String| Column::Text(rows.iter().map(|row| Some(get(row.0))).collect());
    let number = |get: fn(&record::StepEntry) -> Option<f64>| {
        Column::Number(rows.iter().map(|row| row.2.as_ref().and_then(get)).collect())
    };
    let mut columns = vec![
        ("run".to_owned(), text(&|index| cell(index).slug())),
        ("task".to_owned(), text(&|index| cell(index).task.clone())),
        ("variant".to_owned(), text(&|index| cell(index).variant.clone())),
        ("rank".to_owned(), Column::Count(rows.iter().map(|row| Some(cell(row.0).rank as u64)).collect())),
        ("seed".to_owned(), Column::Count(rows.iter().map(|row| Some(cell(row.0).seed)).collect())),
        ("step".to_owned(), Column::Count(rows.iter().map(|row| Some(row.1)).collect())),
        ("train/loss".to_owned(), number(|entry| Some(entry.task_loss))),
        ("train/penalty".to_owned(), number(|entry| entry.penalty)),
        ("train/learning_rate".to_owned(), number(|entry| Some(entry.learning_rate))),
        ("train/gradient_norm".to_owned(), number(|entry| Some(entry.gradient_norm))),
        (
            "train/components".to_owned(),
            Column::Count(rows.iter().map(|row| row.2.as_ref().and_then(|entry| entry.components)).collect()),
        ),
    ];
    for name in names {
        let values = rows.iter().map(|(index, step, _)| evaluated[*index].get(step)?.get(name).copied()).collect();
        columns.push((name.clone(), Column::Number(values)));
    }
    Columns(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::run;

    #[test]
    fn every_run_has_a_row_for_every_metric_and_a_failed_one_says_so() {
        let mut failed = run("cola", "lora", 8, 1, 0.5);
        failed.status = Status::Failed { step: 3, reason: "loss is NaN".into() };
        failed.evaluations.clear();
        let records = [run("cola", "lora", 8, 0, 0.75), failed];
        let found = runs(&records).unwrap();
        let column = |name: &str| found.0.iter().find(|(known, _)| known == name).unwrap().1.clone();
        let shown = reported(&records[0], Selection::Reported).unwrap();
        let scored: usize = shown.iter().map(|evaluation| evaluation.metrics.len()).sum();
        assert_eq!(found.height(), scored + 1);
        let Column::Text(status) = column("status") else { panic!("a text") };
        assert_eq!(status.last().unwrap().as_deref(), Some("failed at step 3: loss is NaN"));
        let (Column::Number(value), Column::Text(metric)) = (column("value"), column("metric")) else {
            panic!("numbers")
        };
        assert_eq!(value[0], Some(shown[0].metrics[metric[0].as_ref().unwrap()]));
        assert_eq!(value.last(), Some(&None));
    }

    #[test]
    fn steps_are_those_that_were_logged_or_evaluated() {
        let mut one = run("cola", "lora", 8, 0, 0.75);
        let entry = |step| record::StepEntry {
            step,
            task_loss: 0.5,
            penalty: None,
            learning_rate: 1e-3,
            gradient_norm: 2.0,
            components: None,
        };
        one.steps = [entry(1), entry(2)].into_iter().collect();
        let evaluation = record::Evaluation {
            step: 5,
            readout: record::Readout { label: "lora".into(), rank: 8 },
            ..one.evaluations[0].clone()
        };
        one.evaluations = vec![evaluation];
        let found = steps(std::slice::from_ref(&one));
        let column = |name: &str| found.0.iter().find(|(known, _)| known == name).unwrap().1.clone();
        assert_eq!(column("step"), Column::Count(vec![Some(1), Some(2), Some(5)]));
        assert_eq!(column("train/loss"), Column::Number(vec![Some(0.5), Some(0.5), None]));
        let loss = format!("{}/loss", one.evaluations[0].split);
        assert_eq!(column(&loss), Column::Number(vec![None, None, Some(one.evaluations[0].loss)]));
        assert!(found.height() <= most_steps(std::slice::from_ref(&one)));
    }
}
