//! How predictions are written: a row per example for people and their scripts, or the logits as tensors.
//!
//! | ending | form |
//! |---|---|
//! | `.csv`, `.tsv` | `index, prediction, p_<class>.., label, text, text_pair`, RFC 4180 with a comma or a tab |
//! | `.jsonl` | the same as objects, the probabilities in one of their own |
//! | `.safetensors` | `logits` `[rows, outputs]` and `labels` `[rows]` |
//!
//! `index` counts from 0, as the benchmarks' submission files do. Classes have their names. A score is predicted without probabilities. A
//! label that is unknown is empty, and so is a prediction from logits that are not finite.

use std::{collections::BTreeMap, fmt, path::Path};

use data::task::Objective;
use serde::Serialize;
use trainer::{error::TrainError, evaluate::score::predictions};

use super::Predicted;

/// How predictions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Comma-separated values.
    Csv,
    /// Tab-separated values.
    Tsv,
    /// An object a line.
    JsonLines,
    /// Tensors.
    Safetensors,
}

impl Form {
    const ALL: [(Self, &str); 4] =
        [(Self::Csv, "csv"), (Self::Tsv, "tsv"), (Self::JsonLines, "jsonl"), (Self::Safetensors, "safetensors")];

    /// The form that a file's name asks for by its ending.
    pub fn of(path: &Path) -> Result<Self, TrainError> {
        let ending = path.extension().map(|end| end.to_string_lossy().to_lowercase()).unwrap_or_default();
        let found = Self::ALL.into_iter().find(|(_, known)| *known == ending);
        found.map(|(form, _)| form).ok_or_else(|| {
            let known: Vec<String> = Self::ALL.iter().map(|(_, known)| format!("`.{known}`")).collect();
            let reason = format!(
                "ends in no form that predictions are written in; give a name that ends in one of {}",
                known.join(", ")
            );
            TrainError::foreign(path, reason)
        })
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Csv => "CSV",
            Self::Tsv => "TSV",
            Self::JsonLines => "JSON lines",
            Self::Safetensors => "safetensors",
        })
    }
}

/// One example with what is predicted of it.
#[derive(Serialize)]
struct Row<'a> {
    index: usize,
    prediction: Value<'a>,
    /// By class; none of a score.
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<BTreeMap<&'a str, Option<f64>>>,
    label: Value<'a>,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text_pair: Option<&'a str>,
}

/// A class by its name, a score, or nothing.
#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Class(&'a str),
    Score(f64),
    Unknown,
}

impl<'a> Value<'a> {
    /// What a class id or a score stands for.
    fn of(value: f64, objective: &'a Objective) -> Self {
        match objective {
            _ if !value.is_finite() => Self::Unknown,
            Objective::Classification { labels } => {
                labels.get(value as usize).map_or(Self::Unknown, |name| Self::Class(name))
            }
            _ => Self::Score(value),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Class(name) => (*name).to_owned(),
            Self::Score(score) => number(*score),
            Self::Unknown => String::new(),
        }
    }
}

/// Rows in a form that has one for every example.
pub(super) fn written(found: &Predicted, objective: &Objective, form: Form) -> Vec<u8> {
    let predicted = predictions(&found.logits, objective);
    let row = |index: usize| {
        let (text, text_pair) = &found.texts[index];
        Row {
            index,
            prediction: Value::of(predicted[index], objective),
            probabilities: probabilities(&found.logits[index], objective),
            label: Value::of(widened(found.labels[index]), objective),
            text,
            text_pair: text_pair.as_deref(),
        }
    };
    let rows = (0..predicted.len()).map(row);
    match form {
        Form::JsonLines => rows.map(|row| line(&row)).collect::<String>().into_bytes(),
        Form::Tsv => table(rows, objective.labels(), b'\t'),
        Form::Csv | Form::Safetensors => table(rows, objective.labels(), b','),
    }
}

/// The number that a label was written as: 3.8 is another number once it is widened.
fn widened(label: f32) -> f64 {
    label.to_string().parse().unwrap_or(f64::NAN)
}

fn line(row: &Row<'_>) -> String {
    let text = serde_json::to_string(row).unwrap_or_else(|error| unreachable!("plain data: {error}"));
    text + "\n"
}

fn table<'a>(rows: impl Iterator<Item = Row<'a>>, labels: &[String], delimiter: u8) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
    let mut write = |fields: Vec<String>| {
        writer.write_record(fields).unwrap_or_else(|error| unreachable!("rows of one length, in memory: {error}"));
    };
    let mut rows = rows.peekable();
    let has_pair = rows.peek().is_some_and(|row| row.text_pair.is_some());
    let mut head = vec!["index".to_owned(), "prediction".to_owned()];
    head.extend(labels.iter().map(|label| format!("p_{label}")));
    head.extend(["label", "text"].map(str::to_owned));
    head.extend(has_pair.then(|| "text_pair".to_owned()));
    write(head);
    for row in rows {
        let mut fields = vec![row.index.to_string(), row.prediction.text()];
        let of_class = |label: &String| row.probabilities.as_ref().and_then(|all| all[label.as_str()]);
        fields.extend(labels.iter().map(|label| of_class(label).map(number).unwrap_or_default()));
        fields.extend([row.label.text(), row.text.to_owned()]);
        fields.extend(has_pair.then(|| row.text_pair.unwrap_or_default().to_owned()));
        write(fields);
    }
    writer.into_inner().unwrap_or_else(|error| unreachable!("written to memory: {error}"))
}

/// The softmax of the classes' logits.
fn probabilities<'a>(logits: &[f64], objective: &'a Objective) -> Option<BTreeMap<&'a str, Option<f64>>> {
    let Objective::Classification { labels } = objective else { return None };
    let logits = &logits[..labels.len()];
    let is_finite = logits.iter().all(|logit| logit.is_finite());
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - top).exp()).sum();
    let share = |logit: &f64| is_finite.then(|| (logit - top).exp() / sum);
    Some(labels.iter().map(String::as_str).zip(logits.iter().map(share)).collect())
}

/// The shortest text that reads back as the same number, as in JSON.
fn number(value: f64) -> String {
    serde_json::json!(value).to_string()
}

/// Whether a file begins as one with rows, or as generated texts.
pub(super) fn is_own(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // A benchmark's submission has these two columns and no more.
    if [b"index,prediction,", b"index\tprediction\t"].iter().any(|start| line.starts_with(*start)) {
        return true;
    }
    let first: Option<serde_json::Value> = serde_json::from_slice(line).ok();
    first.is_some_and(|first| {
        let is_text = first["text"].is_string() && first["references"].is_array();
        is_text || (first["index"].is_u64() && first.get("prediction").is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> (Predicted, Objective) {
        let found = Predicted {
            logits: vec![vec![0.0, 0.0, 9.0], vec![f64::NAN, 1.0, 9.0], vec![-1.0, 1.0, 9.0]],
            labels: vec![0.0, 1.0, f32::NAN],
            texts: vec![
                ("a, b".into(), Some("c\td".into())),
                ("e".into(), Some("f".into())),
                ("\"g\"".into(), Some("h\ni".into())),
            ],
            cut: None,
        };
        // The head has an output that is nobody's.
        (found, Objective::Classification { labels: vec!["no".into(), "yes".into()] })
    }

    fn text(form: Form) -> String {
        let (found, objective) = found();
        String::from_utf8(written(&found, &objective, form)).unwrap()
    }

    #[test]
    fn a_form_is_known_by_its_ending() {
        assert_eq!(Form::of(Path::new("a/b.CSV")).unwrap(), Form::Csv);
        assert_eq!(Form::of(Path::new("b.safetensors")).unwrap(), Form::Safetensors);
        let message = Form::of(Path::new("b.txt")).unwrap_err().to_string();
        assert!(message.contains("`.csv`, `.tsv`, `.jsonl`, `.safetensors`"), "{message}");
    }

    #[test]
    fn rows_have_names_probabilities_and_what_is_unknown_is_empty() {
        assert_eq!(
            text(Form::Csv),
            "index,prediction,p_no,p_yes,label,text,text_pair\n\
             0,yes,0.5,0.5,no,\"a, b\",c\td\n\
             1,,,,yes,e,f\n\
             2,yes,0.11920292202211755,0.8807970779778823,,\"\"\"g\"\"\",\"h\ni\"\n"
        );
        assert_eq!(text(Form::Tsv).lines().nth(1), Some("0\tyes\t0.5\t0.5\tno\ta, b\t\"c\td\""));
        let lines: Vec<serde_json::Value> =
            text(Form::JsonLines).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["probabilities"]["yes"], 0.5);
        assert_eq!(
            (lines[1]["prediction"].clone(), lines[1]["label"].clone()),
            (serde_json::Value::Null, "yes".into())
        );
        assert_eq!((lines[2]["index"].clone(), lines[2]["text_pair"].clone()), (2.into(), "h\ni".into()));
    }

    #[test]
    fn a_score_is_a_number_without_probabilities() {
        let found =
            Predicted { logits: vec![vec![2.5]], labels: vec![3.8], texts: vec![("a".into(), None)], cut: None };
        let objective = Objective::Regression { low: 0.0, high: 5.0 };
        let written = |form| String::from_utf8(written(&found, &objective, form)).unwrap();
        assert_eq!(written(Form::Csv), "index,prediction,label,text\n0,2.5,3.8,a\n");
        assert_eq!(written(Form::JsonLines), "{\"index\":0,\"prediction\":2.5,\"label\":3.8,\"text\":\"a\"}\n");
    }

    #[test]
    fn what_was_written_is_known_and_a_submission_is_not() {
        for form in [Form::Csv, Form::Tsv, Form::JsonLines] {
            assert!(is_own(text(form).as_bytes()), "{form}");
        }
        assert!(is_own(b"{\"text\":\"a\",\"references\":[]}\n"));
        for other in ["index\tprediction\n0\t1\n", "a,b\n", "{}\n", ""] {
            assert!(!is_own(other.as_bytes()), "{other}");
        }
    }
}
