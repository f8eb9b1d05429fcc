//! A user's own task: files, columns and labels by name.
//!
//! ```yaml
//! name: reviews
//! train: reviews/train.csv
//! dev_share: 0.1
//! text: review
//! label: stars
//! ```
//!
//! | key | meaning | without it |
//! |---|---|---|
//! | `name` | lower-case letters, digits, `_`, `-` | needed |
//! | `train`, `dev`, `test` | files | `train` is needed; `dev` or `dev_share` is; no test split |
//! | `dev_share` | share of `train` held out, in (0, 1); rows of equal `text` stay together | – |
//! | `text`, `text_pair` | columns of the first and second text | `text` is needed; single texts |
//! | `label` | column of the class or score; may be absent or empty in `test` | needed |
//! | `labels` | classes in order of their ids | values of `train`, sorted; numbers as numbers |
//! | `kind` | `classification` or `regression` | `classification` |
//! | `metrics` | the first is primary | `accuracy`; `pearson`, `spearman` |
//! | `format` | `tsv`, `csv`, `jsonl`, `parquet` | by the files' extensions |
//! | `delimiter` | between fields of `csv` | `,` |
//! | `columns` | names of the columns of a `tsv` or `csv` without header | the first row |

use serde::{Deserialize, Deserializer, Serialize};

use crate::metric::Metric;
use crate::table::Format;

mod load;

pub use load::{examples, load};

/// What a user's task predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One of several classes.
    #[default]
    Classification,
    /// A score.
    Regression,
}

/// A task as written in YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnTask {
    /// The name used in files and tables.
    pub name: String,
    /// Training file.
    pub train: String,
    /// Evaluation file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// Test file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// Share of the training rows that become the evaluation split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev_share: Option<f64>,
    /// Column of the text, or of the first of a pair.
    pub text: String,
    /// Column of the second of a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<String>,
    /// Column of the class or score.
    pub label: String,
    /// Classes in order of their ids.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "scalars")]
    pub labels: Option<Vec<String>>,
    /// What is predicted.
    #[serde(default)]
    pub kind: Kind,
    /// Metrics to report; the first is primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Vec<Metric>>,
    /// How the files are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Between fields of `csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Names of the columns of files without a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
}

/// Takes `[0, 1]` for `["0", "1"]`, as labels are mostly written.
fn scalars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Bool(bool),
        Integer(i64),
        Number(f64),
        Text(String),
    }
    let scalars: Option<Vec<Scalar>> = Option::deserialize(deserializer)?;
    let text = |scalar| match scalar {
        Scalar::Bool(value) => value.to_string(),
        Scalar::Integer(value) => value.to_string(),
        Scalar::Number(value) => value.to_string(),
        Scalar::Text(value) => value,
    };
    Ok(scalars.map(|scalars| scalars.into_iter().map(text).collect()))
}

impl OwnTask {
    /// Every problem that shows without the files.
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(name_problem(&self.name));
        self.check_splits(&mut problems);
        self.check_columns(&mut problems);
        self.check_labels(&mut problems);
        self.check_metrics(&mut problems);
        problems
    }

    /// The files with the keys that name them.
    fn paths(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let optional = [("dev", &self.dev), ("test", &self.test)];
        let optional = optional.into_iter().filter_map(|(key, path)| Some((key, path.as_deref()?)));
        [("train", self.train.as_str())].into_iter().chain(optional)
    }

    fn format_of(&self, path: &str) -> Option<Format> {
        self.format.or_else(|| Format::of(path))
    }

    fn check_splits(&self, problems: &mut Vec<String>) {
        match (&self.dev, self.dev_share) {
            (Some(_), Some(_)) => {
                problems.push("dev_share: `dev` names a file already; keep one of the two".to_owned());
            }
            (None, None) => {
                problems.push("dev: there is no evaluation split; name a file, or say `dev_share: 0.1`".to_owned());
            }
            (None, Some(share)) if !(share > 0.0 && share < 1.0) => {
                problems.push(format!("dev_share: is `{share}`; use a share between 0 and 1, such as 0.1"));
            }
            _ => {}
        }
        let paths: Vec<_> = self.paths().collect();
        for (i, &(key, path)) in paths.iter().enumerate() {
            if let Some((other, _)) = paths[..i].iter().find(|&&(_, other)| other == path) {
                problems.push(format!("{key}: is `{path}`, the file of `{other}`; splits must not share rows"));
            }
            match self.format_of(path) {
                None => problems.push(format!(
                    "{key}: `{path}` ends in no known format; say `format: ` with one of {}",
                    Format::ALL.map(|format| format!("`{format}`")).join(", ")
                )),
                Some(format) => self.check_format(key, path, format, problems),
            }
        }
    }

    fn check_format(&self, key: &str, path: &str, format: Format, problems: &mut Vec<String>) {
        if let Some(delimiter) = self.delimiter {
            if format != Format::Csv {
                problems
                    .push(format!("delimiter: `{path}` of `{key}` is {format}; only `csv` has one, so leave it out"));
            } else if !delimiter.is_ascii() || "\"\r\n".contains(delimiter) {
                problems.push(format!("delimiter: is `{}`; use one ASCII character", delimiter.escape_default()));
            }
        }
        if self.columns.is_some() && !matches!(format, Format::Tsv | Format::Csv) {
            problems.push(format!("columns: `{path}` of `{key}` is {format}, which names its columns; leave it out"));
        }
    }

    fn check_columns(&self, problems: &mut Vec<String>) {
        let named = [("text", Some(&self.text)), ("text_pair", self.text_pair.as_ref()), ("label", Some(&self.label))];
        let named: Vec<_> = named.into_iter().filter_map(|(key, column)| Some((key, column?))).collect();
        for (i, (key, column)) in named.iter().enumerate() {
            if let Some((other, _)) = named[..i].iter().find(|(_, other)| other == column) {
                problems.push(format!("{key}: is `{column}`, the column of `{other}`; name another column"));
            }
            if let Some(columns) = &self.columns
                && !columns.contains(column)
            {
                let all = columns.join("`, `");
                problems.push(format!("{key}: `{column}` is none of `columns`; use one of `{all}`"));
            }
        }
        for name in repeated(self.columns.as_deref().unwrap_or_default()) {
            problems.push(format!("columns: `{name}` is there twice; give every column its own name"));
        }
    }

    fn check_labels(&self, problems: &mut Vec<String>) {
        let Some(labels) = &self.labels else { return };
        if self.kind == Kind::Regression {
            problems.push("labels: a regression has scores; leave it out, or say `kind: classification`".to_owned());
        } else if labels.len() < 2 {
            problems.push(format!("labels: has {} entries; a classification needs two or more", labels.len()));
        }
        for name in repeated(labels) {
            problems.push(format!("labels: `{name}` is there twice; give every class its own name"));
        }
        if labels.iter().any(String::is_empty) {
            problems
                .push("labels: one is empty; an empty cell is a missing label, so give the class a name".to_owned());
        }
    }

    fn check_metrics(&self, problems: &mut Vec<String>) {
        let metrics = self.metrics();
        if metrics.is_empty() {
            problems.push("metrics: is empty; leave it out, or name one".to_owned());
        }
        let (kind, fitting) = match self.kind {
            Kind::Classification => ("classification", [Metric::Accuracy, Metric::F1, Metric::Matthews].as_slice()),
            Kind::Regression => ("regression", [Metric::Pearson, Metric::Spearman].as_slice()),
        };
        for (i, metric) in metrics.iter().enumerate() {
            if !fitting.contains(metric) {
                let all = fitting.iter().map(|metric| format!("`{metric}`")).collect::<Vec<_>>().join(", ");
                problems.push(format!("metrics: `{metric}` does not judge a {kind}; use {all}"));
            }
            if metrics[..i].contains(metric) {
                problems.push(format!("metrics: `{metric}` is there twice; name it once"));
            }
        }
    }

    /// The metrics, or those that the kind has by default.
    fn metrics(&self) -> Vec<Metric> {
        self.metrics.clone().unwrap_or_else(|| match self.kind {
            Kind::Classification => vec![Metric::Accuracy],
            Kind::Regression => vec![Metric::Pearson, Metric::Spearman],
        })
    }
}

/// What is wrong with a task's name.
pub(crate) fn name_problem(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let rule = "it names folders, so use lower-case letters, digits, `_` and `-`";
    (name.is_empty() || !name.chars().all(allowed)).then(|| format!("name: is `{name}`; {rule}"))
}

/// Names that a list has had before.
fn repeated(names: &[String]) -> impl Iterator<Item = &String> {
    names.iter().enumerate().filter(|&(i, name)| names[..i].contains(name)).map(|(_, name)| name)
}
