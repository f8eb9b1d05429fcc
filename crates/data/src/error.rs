//! What can go wrong with data: an unknown name, a file that is absent or not what it should be, a tokenizer that does not fit.

use crate::table::Format;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No suite of that name.
    #[error("suite: unknown suite `{name}`; {guess}the suites are {all}")]
    UnknownSuite {
        /// The name asked for.
        name: String,
        /// What may have been meant, as a question; empty where no valid name is near.
        guess: String,
        /// All valid names.
        all: String,
    },
    /// No task of that name in the suite.
    #[error("task: suite `{suite}` has no task `{name}`; {guess}its tasks are {all}")]
    UnknownTask {
        /// The suite.
        suite: String,
        /// The name asked for.
        name: String,
        /// What may have been meant, as a question; empty where no valid name is near.
        guess: String,
        /// All valid names.
        all: String,
    },
    /// The bytes are no tokenizer file.
    #[error("tokenizer: not a tokenizer.json: {reason}; use the file saved beside the model's weights")]
    Tokenizer {
        /// What the parser said.
        reason: String,
    },
    /// A token that something needs is missing.
    #[error(
        "tokenizer: the vocabulary has no token {tried} to {purpose}; add one to `added_tokens` of tokenizer.json, or name a token \
         of the vocabulary as `{key}` in tokenizer_config.json"
    )]
    MissingToken {
        /// Names that were looked for.
        tried: String,
        /// What the token is for.
        purpose: &'static str,
        /// The key that names it.
        key: &'static str,
    },
    /// The length limit leaves no room for text.
    #[error("max_length: is `{max_len}`, but the special tokens alone take {special}; use at least {least}", least = special + 1)]
    TooShort {
        /// The limit asked for.
        max_len: usize,
        /// Tokens that frame the text.
        special: usize,
    },
    /// An empty text for which a tokenizer has no token at all.
    #[error(
        "{}: the text is empty, and this tokenizer has neither a frame nor an end token to stand for it; leave the row out, or name \
         an `eos_token` in tokenizer_config.json",
        .row.map_or_else(|| "text".to_owned(), |row| format!("row {row}"))
    )]
    NothingToRead {
        /// The row among those encoded, from 1, where it is known.
        row: Option<usize>,
    },
    /// A file or folder that cannot be read at all.
    #[error("{at}: cannot be read: {source}")]
    Io {
        /// File or folder.
        at: String,
        /// Why.
        source: std::io::Error,
    },
    /// A task lacks a file.
    #[error("task `{task}`: {place} has no {wanted}; it has {found}; {remedy}")]
    NoFile {
        /// The task.
        task: String,
        /// The folder.
        place: String,
        /// What was looked for.
        wanted: String,
        /// What is there instead.
        found: String,
        /// The way out.
        remedy: String,
    },
    /// One split is in several files that exclude each other.
    #[error("task `{task}`: {place} has the split `{split}` more than once: {files}; keep one of them")]
    Ambiguous {
        /// The task.
        task: String,
        /// The folder.
        place: String,
        /// The split.
        split: String,
        /// The files.
        files: String,
    },
    /// A split in several files lacks some.
    #[error(
        "task `{task}`: {place} has {found} of the {expected} files of split `{split}`; copy the others beside {file}"
    )]
    Shards {
        /// The task.
        task: String,
        /// The folder.
        place: String,
        /// The split.
        split: String,
        /// Files that are there.
        found: usize,
        /// Files that their names promise.
        expected: usize,
        /// One that is there.
        file: String,
    },
    /// A file without rows.
    #[error("{file}: has no rows; a split needs at least one, so copy the file again")]
    EmptyFile {
        /// The file.
        file: String,
    },
    /// Bytes that are no text.
    #[error("{at}, byte {column}: is `{byte:#04x}`, which is not UTF-8; convert the file with `iconv -t UTF-8`")]
    NotUtf8 {
        /// File and line.
        at: String,
        /// The byte.
        byte: u8,
        /// Where it is in the line, from 1.
        column: usize,
    },
    /// A row that is longer or shorter than the header.
    #[error("{at}: has {found} {}, but the table has {expected} columns (`{all}`); {}", if *.found == 1 { "cell" } else { "cells" }, remedy_of_columns(*.format))]
    Columns {
        /// File and line.
        at: String,
        /// How the file is written.
        format: Format,
        /// Cells of the row.
        found: usize,
        /// Columns of the table.
        expected: usize,
        /// Names of the columns.
        all: String,
    },
    /// Two columns of one name.
    #[error("{file}: has two columns `{name}`; rename one of them")]
    ColumnTwice {
        /// The file.
        file: String,
        /// The name.
        name: String,
    },
    /// No column of that name.
    #[error("{file}: has no column `{name}`; {guess}the columns are `{all}`")]
    MissingColumn {
        /// The file.
        file: String,
        /// The name asked for.
        name: String,
        /// What may have been meant, as a question; empty where no column is near.
        guess: String,
        /// All columns.
        all: String,
    },
    /// The format's parser refused.
    #[error("{at}: {reason}; {remedy}")]
    Malformed {
        /// File and line.
        at: String,
        /// What the parser said.
        reason: String,
        /// The way out.
        remedy: &'static str,
    },
    /// A cell without a value.
    #[error("{at}: column `{column}` has no value; fill it, or leave the row out")]
    NoValue {
        /// File and line.
        at: String,
        /// The column.
        column: String,
    },
    /// A label that is none of the task's.
    #[error("{at}: label `{value}` of column `{column}` is unknown; the labels are `{all}`{hint}")]
    UnknownLabel {
        /// File and line.
        at: String,
        /// The column.
        column: String,
        /// What was found.
        value: String,
        /// All labels.
        all: String,
        /// The way out, where there is a likely one.
        hint: &'static str,
    },
    /// A score that is no number, or outside its range.
    #[error("{at}: score `{value}` of column `{column}` is not a number {rule}; mend it, or leave the row out")]
    Score {
        /// File and line.
        at: String,
        /// The column.
        column: String,
        /// What was found.
        value: String,
        /// What a score has to be.
        rule: String,
    },
    /// Too few classes to tell apart.
    #[error(
        "{file}: column `{column}` has only the label `{all}`; a classification needs two or more, so check `label`"
    )]
    FewLabels {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// The one label.
        all: String,
    },
    /// F1 counts class 1 against the rest.
    #[error(
        "task `{task}`: metric `f1` needs two labels, but there are {found} (`{all}`); use `accuracy` or `matthews`"
    )]
    F1Labels {
        /// The task.
        task: String,
        /// Number of labels.
        found: usize,
        /// The labels.
        all: String,
    },
    /// Holding out left nothing on one side.
    #[error(
        "task `{task}`: dev_share `{share}` of {rows} rows leaves {split} empty; change the share, or name a `dev` file"
    )]
    EmptySplit {
        /// The task.
        task: String,
        /// The share held out.
        share: f64,
        /// Rows of the training file.
        rows: usize,
        /// The side without rows.
        split: &'static str,
    },
    /// A user's task that contradicts itself.
    #[error("task `{task}`: {} {}\n  {}", problems.len(), if problems.len() == 1 { "problem" } else { "problems" }, problems.join("\n  "))]
    OwnTask {
        /// The task.
        task: String,
        /// Every problem found.
        problems: Vec<String>,
    },
    /// A prediction that cannot be handed in.
    #[error("task `{task}`: prediction {index} is `{value}`; it has to be {rule}, so evaluate the run that made it")]
    Prediction {
        /// The task.
        task: String,
        /// Row, from 0.
        index: usize,
        /// The prediction.
        value: f64,
        /// What a prediction has to be.
        rule: String,
    },
    /// A split that the benchmark does not ask for.
    #[error("task `{task}`: no predictions are handed in for split `{split}`; use {all}")]
    NotSubmitted {
        /// The task.
        task: String,
        /// The split asked for.
        split: String,
        /// The splits that are.
        all: String,
    },
    /// A training set of which no part can be cut off.
    #[error(
        "task `{task}`: {examples} training examples are too few to cut a split from: each side needs one, a class with one example stays in \
         training, and texts of one context stay together; give more examples, or a learning rate in place of `tune`"
    )]
    NoHoldout {
        /// The task.
        task: String,
        /// How many it has.
        examples: usize,
    },
    /// A split cut from the training examples that leaves too few on a side.
    #[error(
        "task `{task}`: a holdout of {share:?} cuts {held} of {} training examples off and leaves {kept}, but either side needs {least} (8, and 2 \
         for every class); give another `holdout` in `tune`, more examples, or a learning rate in place of `tune`", held + kept
    )]
    SmallHoldout {
        /// The task.
        task: String,
        /// The share that was asked for.
        share: f64,
        /// Examples that are cut off.
        held: usize,
        /// Examples that stay in training.
        kept: usize,
        /// Examples that either side needs.
        least: usize,
    },
    /// A text that the caller gave is not what it should be.
    #[error("{place}: {problem}; {way_out}")]
    Text {
        /// File, file and line, or name of a setting.
        place: String,
        /// What was found, against which rule.
        problem: String,
        /// What to do.
        way_out: String,
    },
}

fn remedy_of_columns(format: Format) -> &'static str {
    match format {
        Format::Tsv => "text must hold no tabs and no line ends; a quoted table is `csv`",
        _ => "put a field that holds a delimiter or a line end in quotes; a table without quoting is `tsv`",
    }
}
