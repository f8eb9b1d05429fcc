//! From a user's files to a dataset.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::{Kind, OwnTask};
use crate::error::DataError;
use crate::metric::Metric;
use crate::source::{self, Files};
use crate::table::{Format, Header, Layout, Quoting, Table};
use crate::task::{Dataset, Example, Loaded, Objective, TaskInfo};

/// The task with its examples.
pub fn load(task: &OwnTask, files: &dyn Files) -> Result<Loaded, DataError> {
    let problems = task.check();
    if !problems.is_empty() {
        return Err(DataError::OwnTask { task: task.name.clone(), problems });
    }
    let bytes = source::needed(&task.name, files, &task.train)?;
    let table = table(task, &task.train, &bytes)?;
    let objective = objective(task, &table)?;
    let mut reader = Reader { task, files, objective: &objective, notes: Vec::new() };
    let all = reader.examples(&table, Split::Labelled)?;
    reader.note_absent_labels(&all);
    reader.note_similar_labels();
    let n_rows = all.len();
    let (train, dev) = match (&task.dev, task.dev_share) {
        (Some(path), _) => (all, reader.file(path, Split::Labelled)?),
        (None, share) => {
            let share = share.unwrap_or_default();
            let (dev, train): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|example| is_held_out(&example.first, share));
            for (split, examples) in [("train", &train), ("dev", &dev)] {
                if examples.is_empty() {
                    return Err(DataError::EmptySplit { task: task.name.clone(), share, rows: n_rows, split });
                }
            }
            reader.notes.push(format!("{}: held out as dev: {} of {n_rows} rows", task.train, dev.len()));
            (train, dev)
        }
    };
    let test = task.test.as_ref().map(|path| reader.file(path, Split::Test)).transpose()?.unwrap_or_default();
    let notes = reader.notes;
    let info = info(task, objective);
    let evaluation = vec![("dev".to_owned(), dev)];
    Ok(Loaded { dataset: Dataset { info, train, evaluation, test }, more_tests: Vec::new(), notes })
}

/// The rows of one file of a task, for predictions; labels where they are there. Classes are those of `labels`.
pub fn examples(
    task: &OwnTask,
    objective: &Objective,
    files: &dyn Files,
    path: &str,
) -> Result<Vec<Example>, DataError> {
    Reader { task, files, objective, notes: Vec::new() }.file(path, Split::Test)
}

/// Whether a row belongs to the evaluation split. Equal texts fall on the same side.
fn is_held_out(text: &str, share: f64) -> bool {
    let digest = Sha256::digest(text.as_bytes());
    // 53 bits are an exact float.
    let bits = digest[..8].iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte)) >> 11;
    (bits as f64) < share * (1u64 << 53) as f64
}

fn table<'a>(task: &OwnTask, path: &str, bytes: &'a [u8]) -> Result<Table<'a>, DataError> {
    let format = task.format_of(path).ok_or_else(|| Format::unknown(path))?;
    let mut layout = Layout::new(format);
    if let Some(columns) = &task.columns {
        layout.header = Header::Absent(columns.clone());
    }
    let wanted = [Some(&task.text), task.text_pair.as_ref(), Some(&task.label)].into_iter().flatten();
    layout.wanted = Some(wanted.cloned().collect());
    layout.quoting = if task.format.is_some() { Quoting::NeverButNoted } else { Quoting::WhereConsistent };
    // `check` asks for ASCII.
    layout.delimiter = task.delimiter.map_or(layout.delimiter, |delimiter| delimiter as u8);
    Table::read(path, bytes, &layout)
}

/// What there is to predict, by the training file where the task does not say.
fn objective(task: &OwnTask, train: &Table<'_>) -> Result<Objective, DataError> {
    let column = train.column(&task.label)?;
    if task.kind == Kind::Regression {
        let scores = (0..train.rows.len()).map(|row| score(train, row, column));
        let scores = scores.collect::<Result<Vec<f64>, _>>()?;
        let low = scores.iter().copied().fold(f64::INFINITY, f64::min);
        let high = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        return Ok(Objective::Regression { low, high });
    }
    let labels = match &task.labels {
        Some(labels) => labels.clone(),
        None => distinct(train, column)?,
    };
    let (found, all) = (labels.len(), labels.join("`, `"));
    if found < 2 {
        return Err(DataError::FewLabels { file: train.file.clone(), column: task.label.clone(), all });
    }
    if found != 2 && task.metrics().contains(&Metric::F1) {
        return Err(DataError::F1Labels { task: task.name.clone(), found, all });
    }
    Ok(Objective::Classification { labels })
}

/// The values of a column, numbers by their size if all are numbers.
fn distinct(table: &Table<'_>, column: usize) -> Result<Vec<String>, DataError> {
    let mut values = BTreeSet::new();
    for row in 0..table.rows.len() {
        values.insert(label_text(table, row, column)?);
    }
    let numbers: Option<Vec<f64>> = values.iter().map(|value| value.parse().ok()).collect();
    let mut values: Vec<String> = values.into_iter().collect();
    if let Some(numbers) = numbers {
        let mut pairs: Vec<(f64, String)> = numbers.into_iter().zip(values).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        values = pairs.into_iter().map(|(_, value)| value).collect();
    }
    Ok(values)
}

/// A label that is there: an empty cell of `csv` or `tsv` is a missing one.
fn label_text(table: &Table<'_>, row: usize, column: usize) -> Result<String, DataError> {
    let text = table.text(row, column)?;
    if text.is_empty() {
        return Err(DataError::NoValue { at: table.at(row), column: table.columns[column].clone() });
    }
    Ok(text.into_owned())
}

fn score(table: &Table<'_>, row: usize, column: usize) -> Result<f64, DataError> {
    let value = label_text(table, row, column)?;
    let finite = |score: &f64| (*score as f32).is_finite();
    table.rows[row][column].number().filter(finite).ok_or_else(|| {
        let (at, column, rule) = (table.at(row), table.columns[column].clone(), "that is finite".to_owned());
        DataError::Score { at, column, value, rule }
    })
}

fn info(task: &OwnTask, objective: Objective) -> TaskInfo {
    let predicts = match task.kind {
        Kind::Classification => "a class",
        Kind::Regression => "a score",
    };
    TaskInfo {
        name: task.name.clone(),
        doc: format!("Predicts {predicts}, the column `{}` of {}.", task.label, task.train),
        objective,
        metrics: task.metrics(),
        splits: vec!["dev".to_owned()],
        pair: task.text_pair.is_some(),
    }
}

/// Whether every row has a label.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Split {
    Labelled,
    /// Labels may be withheld.
    Test,
}

struct Reader<'a> {
    task: &'a OwnTask,
    files: &'a dyn Files,
    objective: &'a Objective,
    notes: Vec<String>,
}

impl Reader<'_> {
    fn file(&mut self, path: &str, split: Split) -> Result<Vec<Example>, DataError> {
        let bytes = source::needed(&self.task.name, self.files, path)?;
        self.examples(&table(self.task, path, &bytes)?, split)
    }

    fn examples(&mut self, table: &Table<'_>, split: Split) -> Result<Vec<Example>, DataError> {
        self.notes.extend(table.notes.iter().cloned());
        let first = table.column(&self.task.text)?;
        let second = self.task.text_pair.as_deref().map(|name| table.column(name)).transpose()?;
        let label = match split {
            Split::Test if !table.columns.contains(&self.task.label) => None,
            _ => Some(table.column(&self.task.label)?),
        };
        let mut examples = Vec::with_capacity(table.rows.len());
        for row in 0..table.rows.len() {
            let text = |column| table.text(row, column).map(std::borrow::Cow::into_owned);
            let label = label.map_or(Ok(f32::NAN), |column| self.label(table, row, column, split))?;
            examples.push(Example { first: text(first)?, second: second.map(text).transpose()?, label });
        }
        let blank = |text: &str| text.trim().is_empty();
        let n_blank = examples.iter().filter(|e| blank(&e.first) || e.second.as_deref().is_some_and(blank)).count();
        if n_blank > 0 {
            self.notes.push(format!("{}: rows with an empty text: {n_blank}", table.file));
        }
        Ok(examples)
    }

    fn label(&self, table: &Table<'_>, row: usize, column: usize, split: Split) -> Result<f32, DataError> {
        let value = table.rows[row][column].text().unwrap_or_default();
        if split == Split::Test && value.is_empty() {
            return Ok(f32::NAN);
        }
        let Objective::Classification { labels } = self.objective else {
            return Ok(score(table, row, column)? as f32);
        };
        let value = label_text(table, row, column)?;
        if let Some(id) = labels.iter().position(|label| *label == value) {
            return Ok(id as f32);
        }
        // The hub's mark of a withheld label.
        if split == Split::Test && value == "-1" {
            return Ok(f32::NAN);
        }
        let (at, column, all) = (table.at(row), table.columns[column].clone(), labels.join("`, `"));
        let hint = if self.task.labels.is_some() {
            "; add it to `labels`, or mend the row"
        } else {
            "; they are those of the training file, so name all in `labels`, or mend the row"
        };
        Err(DataError::UnknownLabel { at, column, value, all, hint })
    }

    /// Labels that differ in white space or case alone are mostly one class, written in two ways.
    fn note_similar_labels(&mut self) {
        let Objective::Classification { labels } = self.objective else { return };
        let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for label in labels {
            let plain = label.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
            alike.entry(plain).or_default().push(label);
        }
        for group in alike.values().filter(|group| group.len() > 1) {
            let (file, names) = (&self.task.train, group.join("`, `"));
            self.notes.push(format!(
                "{file}: labels that differ in white space or case alone are classes of their own: `{names}`; make them one in the file"
            ));
        }
    }

    /// A class that is never trained cannot be predicted; the user may have meant another name.
    fn note_absent_labels(&mut self, train: &[Example]) {
        let Objective::Classification { labels } = self.objective else { return };
        let absent = (0..labels.len()).filter(|&id| train.iter().all(|example| example.label != id as f32));
        for id in absent {
            self.notes.push(format!("{}: no row has the label `{}`", self.task.train, labels[id]));
        }
    }
}
