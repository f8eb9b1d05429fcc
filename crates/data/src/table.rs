//! Bytes of a file to rows of cells, in four formats.
//!
//! | format | rules |
//! |---|---|
//! | `tsv` | tabs, a row per line, no quoting: a lone `"` is text; [`Quoting`] tells files that pandas has quoted |
//! | `csv` | RFC 4180: a field in `"` may hold delimiters, line ends and doubled quotes |
//! | `jsonl` | one JSON object per line; a key that a line lacks is null |
//! | `parquet` | flat columns of text, numbers and truth values |
//!
//! Of `jsonl` and `parquet`, the caller's columns alone are read, so that others may hold lists and objects.
//!
//! Text is UTF-8; a byte order mark is skipped, and lines may end in CRLF.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

mod csv;
mod jsonl;
mod parquet;
mod tsv;

/// How a table is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Tab-separated, without quoting.
    Tsv,
    /// Comma-separated, with quoting.
    Csv,
    /// One JSON object per line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Tsv, Self::Csv, Self::Jsonl, Self::Parquet];

    /// The format that a file's name ends in.
    pub fn of(file: &str) -> Option<Self> {
        let (_, extension) = file.rsplit_once('.')?;
        Self::ALL.into_iter().find(|format| format.to_string().eq_ignore_ascii_case(extension))
    }

    /// What is said of a file whose name ends in no format.
    pub(crate) fn unknown(file: &str) -> DataError {
        let [others @ .., last] = Self::ALL.map(|format| format!(".{format}"));
        DataError::Text {
            place: file.to_owned(),
            problem: "ends in no known format".to_owned(),
            way_out: format!("use {} or {last}", others.join(", ")),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tsv => "tsv",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        })
    }
}

/// Where the names of the columns stand. JSON and Parquet bring their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Header {
    /// In the first row.
    #[default]
    FirstRow,
    /// Not in the file, but here.
    Absent(Vec<String>),
}

/// What becomes of a row with fewer cells than the table has columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShortRows {
    /// An error.
    #[default]
    Refuse,
    /// It is left out and counted.
    Skip,
}

/// Whether quotes of a `tsv` are text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quoting {
    /// Always, as in the files of GLUE.
    #[default]
    Never,
    /// Always; a note says so where the file looks quoted.
    NeverButNoted,
    /// Unless every quote of the file follows the rules of `csv`, as pandas writes them.
    WhereConsistent,
}

/// All that has to be known to read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How it is written.
    pub format: Format,
    /// Where its columns are named.
    pub header: Header,
    /// Between fields of `csv`.
    pub delimiter: u8,
    /// Rows with too few cells of `tsv` and `csv`.
    pub short_rows: ShortRows,
    /// Quotes of `tsv`.
    pub quoting: Quoting,
    /// The columns that are wanted of `jsonl` and `parquet`; all without a list.
    pub wanted: Option<Vec<String>>,
}

impl Layout {
    /// A format with a header in the first row, commas in `csv`, and no tolerance.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            header: Header::FirstRow,
            delimiter: b',',
            short_rows: ShortRows::Refuse,
            quoting: Quoting::Never,
            wanted: None,
        }
    }

    /// Whether a column is read.
    fn wants(&self, name: &str) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|other| other == name))
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Text, or a truth value as `true` or `false`.
    Text(Cow<'a, str>),
    /// A number that the format marks as one.
    Number(f64),
    /// No value.
    Null,
}

/// A whole number; as text where a float would round it, so that two long labels stay two.
fn whole<'a>(value: impl Into<i128>) -> Cell<'a> {
    let value = value.into();
    let float = value as f64;
    if float as i128 == value { Cell::Number(float) } else { Cell::Text(Cow::Owned(value.to_string())) }
}

impl Cell<'_> {
    /// The value as text, a whole number without a point; none without a value.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Number(number) => Some(Cow::Owned(number.to_string())),
            Self::Null => None,
        }
    }

    /// The value as a number; none where it is not one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Text(text) => text.trim().parse().ok(),
            Self::Number(number) => Some(*number),
            Self::Null => None,
        }
    }
}

/// Rows of cells under named columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Table<'a> {
    /// What messages call the file.
    pub file: String,
    /// How it was written.
    pub format: Format,
    /// Names of the columns that were read.
    pub columns: Vec<String>,
    /// Names of some columns that nobody wanted, for messages.
    pub others: Vec<String>,
    /// Cells, `[rows][columns]`.
    pub rows: Vec<Vec<Cell<'a>>>,
    /// Line of each row's start, `[rows]`, from 1; its number where the format has no lines.
    pub lines: Vec<usize>,
    /// Lines that were left out because they were too short.
    pub skipped: Vec<usize>,
    /// What was decided while reading, for the user to see.
    pub notes: Vec<String>,
}

impl<'a> Table<'a> {
    /// Reads the bytes of `file`; the name is for messages.
    pub fn read(file: &str, bytes: &'a [u8], layout: &Layout) -> Result<Self, DataError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(DataError::EmptyFile { file: file.to_owned() });
        }
        let table = match layout.format {
            Format::Tsv => tsv::read(file, bytes, layout)?,
            Format::Csv => csv::read(file, bytes, layout)?,
            Format::Jsonl => jsonl::read(file, bytes, layout)?,
            Format::Parquet => parquet::read(file, bytes, layout)?,
        };
        if table.rows.is_empty() {
            return Err(DataError::EmptyFile { file: file.to_owned() });
        }
        table.check_columns()
    }

    fn empty(file: &str, format: Format) -> Self {
        let [columns, others, notes] = <[Vec<String>; 3]>::default();
        let (file, rows, lines, skipped) = (file.to_owned(), Vec::new(), Vec::new(), Vec::new());
        Self { file, format, columns, others, rows, lines, skipped, notes }
    }

    fn check_columns(self) -> Result<Self, DataError> {
        let mut seen = HashSet::new();
        match self.columns.iter().find(|name| !seen.insert(name.as_str())) {
            Some(name) => Err(DataError::ColumnTwice { file: self.file, name: name.clone() }),
            None => Ok(self),
        }
    }

    /// Takes the rows of a format that may lack a header.
    fn take(&mut self, line: usize, cells: Vec<Cow<'a, str>>, layout: &Layout) -> Result<(), DataError> {
        if self.columns.is_empty() {
            match &layout.header {
                Header::FirstRow => {
                    self.columns = cells.into_iter().map(Cow::into_owned).collect();
                    return Ok(());
                }
                Header::Absent(names) => self.columns.clone_from(names),
            }
        }
        let (found, expected) = (cells.len(), self.columns.len());
        if found < expected && layout.short_rows == ShortRows::Skip {
            self.skipped.push(line);
            return Ok(());
        }
        if found != expected {
            let (at, format) = (at(&self.file, self.format, line), self.format);
            return Err(DataError::Columns { at, format, found, expected, all: listed(&self.columns, ", ") });
        }
        self.rows.push(cells.into_iter().map(Cell::Text).collect());
        self.lines.push(line);
        Ok(())
    }

    /// Where a row stands, for messages.
    pub fn at(&self, row: usize) -> String {
        at(&self.file, self.format, self.lines[row])
    }

    /// The index of a column.
    pub fn column(&self, name: &str) -> Result<usize, DataError> {
        self.columns.iter().position(|column| column == name).ok_or_else(|| {
            let names: Vec<String> = self.columns.iter().chain(&self.others).cloned().collect();
            let (guess, all) = (suggest::question(name, names.iter().map(String::as_str)), listed(&names, "`, `"));
            DataError::MissingColumn { file: self.file.clone(), name: name.to_owned(), guess, all }
        })
    }

    /// The text of a cell.
    pub fn text(&self, row: usize, column: usize) -> Result<Cow<'_, str>, DataError> {
        self.rows[row][column]
            .text()
            .ok_or_else(|| DataError::NoValue { at: self.at(row), column: self.columns[column].clone() })
    }
}

/// Names that a message shows; a table may have a million columns.
const SHOWN: usize = 24;

fn listed(names: &[String], between: &str) -> String {
    let shown = names[..names.len().min(SHOWN)].join(between);
    if names.len() > SHOWN { format!("{shown}{between}.. ({} columns)", names.len()) } else { shown }
}

/// `file, line 3`.
fn at(file: &str, format: Format, line: usize) -> String {
    let unit = if format == Format::Parquet { "row" } else { "line" };
    format!("{file}, {unit} {line}")
}

/// The text of bytes, or where they stop being text.
fn utf8<'a>(file: &str, format: Format, line: usize, bytes: &'a [u8]) -> Result<&'a str, DataError> {
    std::str::from_utf8(bytes).map_err(|e| {
        let byte = bytes.get(e.valid_up_to()).copied().unwrap_or_default();
        DataError::NotUtf8 { at: at(file, format, line), byte, column: e.valid_up_to() + 1 }
    })
}
