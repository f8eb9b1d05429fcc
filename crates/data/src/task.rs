//! What a task is: its objective, its metrics, its examples.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::metric::Metric;

/// What a head predicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Objective {
    /// One of these labels; a label's index is its class id.
    Classification {
        /// Names of the classes.
        labels: Vec<String>,
    },
    /// A score in an interval.
    Regression {
        /// Least score.
        low: f64,
        /// Greatest score.
        high: f64,
    },
    /// The next token of a text; there is no head beside the model's own.
    Text,
}

impl Objective {
    /// Width of the head: one output per class, one score, or none for texts.
    pub fn n_outputs(&self) -> usize {
        match self {
            Self::Classification { labels } => labels.len(),
            Self::Regression { .. } => 1,
            Self::Text => 0,
        }
    }

    /// Names of the classes; none of a score or of texts.
    pub fn labels(&self) -> &[String] {
        match self {
            Self::Classification { labels } => labels,
            Self::Regression { .. } | Self::Text => &[],
        }
    }
}

/// A task without its examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// The name used in files and on the command line.
    pub name: String,
    /// One sentence.
    pub doc: String,
    /// What the head predicts.
    pub objective: Objective,
    /// Metrics to report; the first is primary.
    pub metrics: Vec<Metric>,
    /// Names of the evaluation splits.
    pub splits: Vec<String>,
    /// Whether an example has a second text.
    pub pair: bool,
}

impl TaskInfo {
    /// The metric that ranks methods.
    pub fn primary(&self) -> Metric {
        self.metrics[0]
    }
}

/// One text or pair of texts with its label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The text, or the first of a pair.
    pub first: String,
    /// The second of a pair.
    pub second: Option<String>,
    /// Class index or score.
    pub label: f32,
}

/// A task with its examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The task.
    pub info: TaskInfo,
    /// Training examples.
    pub train: Vec<Example>,
    /// Evaluation splits by name, in the order of [`TaskInfo::splits`].
    pub evaluation: Vec<(String, Vec<Example>)>,
    /// Test examples.
    pub test: Vec<Example>,
}

impl Dataset {
    /// SHA-256 over the task's name and every example, in lower-case hexadecimal.
    pub fn hash(&self) -> String {
        let mut hasher = FieldHasher::default();
        let mut field = |text: &str| hasher.field(text.as_bytes());
        field(&self.info.name);
        let splits = [("train", &self.train)]
            .into_iter()
            .chain(self.evaluation.iter().map(|(name, examples)| (name.as_str(), examples)))
            .chain([("test", &self.test)]);
        for (name, examples) in splits {
            field(name);
            field(&examples.len().to_string());
            for example in examples {
                field(&example.first);
                field(example.second.as_deref().unwrap_or("\0"));
                field(&example.label.to_bits().to_string());
            }
        }
        hasher.finish()
    }
}

/// A dataset that came from files.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The task with its examples; a test example whose label is withheld has the label NaN and is for prediction only.
    pub dataset: Dataset,
    /// Test splits beside [`Dataset::test`], by name.
    pub more_tests: Vec<(String, Vec<Example>)>,
    /// What was left out or decided while reading, for the user to see.
    pub notes: Vec<String>,
}

/// SHA-256 over a sequence of fields.
#[derive(Default)]
pub(crate) struct FieldHasher(Sha256);

impl FieldHasher {
    pub(crate) fn field(&mut self, bytes: &[u8]) {
        // Lengths make the concatenation unambiguous.
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// The hash in lower-case hexadecimal.
    pub(crate) fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
