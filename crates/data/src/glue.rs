//! The nine tasks of GLUE, read from the files that the benchmark or the Hugging Face hub ships.
//!
//! | layout | files of a task |
//! |---|---|
//! | benchmark | `SST-2/train.tsv`, `dev.tsv`, `test.tsv`; `MNLI/dev_matched.tsv`, ..; `MRPC/msr_paraphrase_train.txt`, .. |
//! | hub | `sst2/train-00000-of-00001.parquet`, `validation-*.parquet`, ..; or `sst2/train.jsonl`, .. |
//!
//! A folder may have either name of its task in any case. Class ids are the hub's in both layouts. Labels of test splits are
//! mostly withheld; they are NaN here.
//!
//! Where the files are not plain tables: lines of `QQP` that are broken into two are left out, as in the hub's copy and in the
//! transformers library; `MRPC`'s development set is taken out of Microsoft's training file by the benchmark's list of ids.
//!
//! Wang et al., *GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding*, ICLR 2019,
//! arXiv:1804.07461.

use crate::error::DataError;
use crate::source::{self, Files, MemoryFiles};
use crate::table::{Format, Header, Layout, ShortRows, Table};
use crate::task::{Dataset, Example, Loaded, Objective, TaskInfo};

mod folder;
mod mrpc;
mod registry;
mod submission;

use folder::{Folder, Part};
use registry::{Columns, Entry, Split, TASKS};
pub use submission::submission;

/// The name of the benchmark as a suite.
pub const GLUE: &str = "glue";

/// The tasks, in the benchmark's order.
pub fn tasks() -> Vec<TaskInfo> {
    TASKS.iter().map(info).collect()
}

/// A task with its examples. Training and development files have to be there; test files may be.
pub fn load(task: &str, files: &dyn Files) -> Result<Loaded, DataError> {
    let entry = entry(task)?;
    let paths = source::list(files)?;
    let place = files.place();
    let folder = Folder::find(entry, &place, &paths)?;
    let mut reader = Reader { entry, files, notes: Vec::new() };
    let (train, evaluation) = if let Some((train, dev)) = mrpc::from_msr(&folder, &mut reader)? {
        (train, vec![(entry.splits[0].name.to_owned(), dev)])
    } else {
        let mut labelled = |split: &Split| reader.split(&folder.required(split)?, Labels::Given);
        let train = labelled(&Split::TRAIN)?;
        let of = |split: &Split| Ok((split.name.to_owned(), labelled(split)?));
        (train, entry.splits.iter().map(of).collect::<Result<_, DataError>>()?)
    };
    let mut tests = Vec::new();
    for test in entry.tests {
        let parts = folder.parts(&test.split)?;
        tests.push((test.split.name.to_owned(), reader.split(&parts, Labels::MayBeWithheld)?));
    }
    let (_, test) = tests.remove(0);
    let dataset = Dataset { info: info(entry), train, evaluation, test };
    tests.retain(|(_, examples)| !examples.is_empty());
    Ok(Loaded { dataset, more_tests: tests, notes: reader.notes })
}

/// The rows of one file of a task, for predictions: the benchmark's columns or the hub's, labels where they are there.
///
/// `CoLA`'s labelled files have no header and its test file has one; which it is shows in the first line.
pub fn examples(task: &str, file: &str, bytes: Vec<u8>) -> Result<Vec<Example>, DataError> {
    let entry = entry(task)?;
    let format = Format::of(file).ok_or_else(|| Format::unknown(file))?;
    let first = String::from_utf8_lossy(bytes.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    let has =
        |columns: &Columns| first.trim_start_matches('\u{feff}').split(['\t', '\r']).any(|cell| cell == columns.first);
    let headless = format == Format::Tsv && entry.headless.is_some() && !has(&entry.benchmark);
    let benchmark = format == Format::Tsv && (headless || has(&entry.benchmark));
    let files = MemoryFiles::default().with(file, bytes);
    let part = Part { path: file.to_owned(), format, benchmark };
    let mut reader = Reader { entry, files: &files, notes: Vec::new() };
    reader.split(&[part], if headless { Labels::Given } else { Labels::MayBeWithheld })
}

fn entry(task: &str) -> Result<&'static Entry, DataError> {
    TASKS.iter().find(|entry| entry.name == task).ok_or_else(|| {
        let names: Vec<&str> = TASKS.iter().map(|entry| entry.name).collect();
        let (guess, all) = (suggest::question(task, names.iter().copied()), names.join(", "));
        DataError::UnknownTask { suite: GLUE.to_owned(), name: task.to_owned(), guess, all }
    })
}

fn info(entry: &Entry) -> TaskInfo {
    let objective = if entry.labels.is_empty() {
        let (low, high) = registry::SCORES;
        Objective::Regression { low, high }
    } else {
        Objective::Classification { labels: entry.labels.iter().map(|&l| l.to_owned()).collect() }
    };
    TaskInfo {
        name: entry.name.to_owned(),
        doc: entry.doc.to_owned(),
        objective,
        metrics: entry.metrics.to_vec(),
        splits: entry.splits.iter().map(|split| split.name.to_owned()).collect(),
        pair: entry.benchmark.second.is_some(),
    }
}

/// Whether every row of a split has a label.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Labels {
    Given,
    MayBeWithheld,
}

/// Turns files of one task into examples.
struct Reader<'a> {
    entry: &'static Entry,
    files: &'a dyn Files,
    notes: Vec<String>,
}

impl Reader<'_> {
    /// The rows of all parts, in order.
    fn split(&mut self, parts: &[Part], labels: Labels) -> Result<Vec<Example>, DataError> {
        let mut examples = Vec::new();
        for part in parts {
            let bytes = self.bytes(&part.path)?;
            let table = self.table(part, &bytes, labels)?;
            for row in 0..table.rows.len() {
                examples.push(self.example(part, &table, row, labels)?);
            }
        }
        Ok(examples)
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>, DataError> {
        source::read(self.files, path)?.ok_or_else(|| DataError::Io {
            at: format!("{}/{path}", self.files.place()),
            source: std::io::Error::new(std::io::ErrorKind::NotFound, "was listed, but is gone"),
        })
    }

    fn table<'b>(&mut self, part: &Part, bytes: &'b [u8], labels: Labels) -> Result<Table<'b>, DataError> {
        let mut layout = Layout::new(part.format);
        if !part.benchmark {
            let Columns { first, second, label } = self.entry.hub;
            let wanted = [Some(first), second, Some(label)].into_iter().flatten();
            layout.wanted = Some(wanted.map(str::to_owned).collect());
        }
        if part.benchmark && labels == Labels::Given {
            if let Some(columns) = self.entry.headless {
                layout.header = Header::Absent(columns.iter().map(|&name| name.to_owned()).collect());
            }
            // A row left out of a test split would shift the predictions that are handed in.
            layout.short_rows = self.entry.short_rows;
        }
        let table = Table::read(&part.path, bytes, &layout)?;
        if let (ShortRows::Skip, [first, ..]) = (layout.short_rows, table.skipped.as_slice()) {
            let (n, path) = (table.skipped.len(), &part.path);
            self.notes.push(format!("{path}: broken lines left out: {n}, the first is line {first}"));
        }
        Ok(table)
    }

    fn example(&self, part: &Part, table: &Table<'_>, row: usize, labels: Labels) -> Result<Example, DataError> {
        let columns = if part.benchmark { &self.entry.benchmark } else { &self.entry.hub };
        let text = |name: &str| Ok::<_, DataError>(table.text(row, table.column(name)?)?.into_owned());
        let absent = !table.columns.iter().any(|column| column == columns.label);
        let label = if absent && labels == Labels::MayBeWithheld {
            f32::NAN
        } else {
            self.label(table, row, table.column(columns.label)?, labels)?
        };
        Ok(Example { first: text(columns.first)?, second: columns.second.map(text).transpose()?, label })
    }

    fn label(&self, table: &Table<'_>, row: usize, column: usize, labels: Labels) -> Result<f32, DataError> {
        let cell = &table.rows[row][column];
        let (number, names) = (cell.number(), self.entry.labels);
        let withheld = cell.text().is_none() || number == Some(-1.0);
        if withheld && labels == Labels::MayBeWithheld {
            return Ok(f32::NAN);
        }
        let value = table.text(row, column)?;
        let (at, column) = (table.at(row), table.columns[column].clone());
        if names.is_empty() {
            let (low, high) = registry::SCORES;
            let score = number.filter(|score| (low..=high).contains(score)).map(|score| score as f32);
            let rule = format!("from {low} to {high}");
            return score.ok_or_else(|| DataError::Score { at, column, value: value.into_owned(), rule });
        }
        let id = number.and_then(|number| (0..names.len()).find(|&id| id as f64 == number));
        let id = id.or_else(|| names.iter().position(|&name| name == value));
        id.map(|id| id as f32).ok_or_else(|| {
            let hint = if withheld { "; -1 marks labels of a test split" } else { ", or their ids from 0" };
            DataError::UnknownLabel { at, column, value: value.into_owned(), all: names.join("`, `"), hint }
        })
    }
}
