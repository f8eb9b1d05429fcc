//! A user's own text task: files, their form, what is measured.
//!
//! ```yaml
//! name: e2e
//! form: pairs
//! train: e2e/train.txt
//! dev: e2e/valid.txt
//! test: e2e/test.txt
//! metrics: [bleu, perplexity]
//! decoding: { beams: 10, length_penalty: 0.8, no_repeat_ngram: 4 }
//! ```
//!
//! | key | meaning | without it |
//! |---|---|---|
//! | `name` | lower-case letters, digits, `_`, `-` | needed |
//! | `form` | `pairs`, `blocks`, `instructions`: see [`pair`](super::pair), [`block`](super::block), [`instruction`](super::instruction) | needed |
//! | `train`, `dev`, `test` | files | the first two are needed; no test split |
//! | `block` | tokens of a block, `blocks` alone | the length limit |
//! | `metrics` | the first is primary: `perplexity`; `bleu` of pairs; `exact_match` of pairs or instructions | `perplexity` |
//! | `answer` | expression with one group, `exact_match` alone: see [`answer`](super::answer) | the whole text is the answer |
//! | `decoding` | how texts are generated: see [`Decoding`] | greedy, at most 64 tokens |
//! | `limit` | items of `dev`, and of `test`, that are generated, from the first | all |

use serde::{Deserialize, Serialize};

use crate::batch::EncodedSet;
use crate::causal::answer::AnswerPattern;
use crate::causal::decode::Decoding;
use crate::error::DataError;
use crate::metric::Metric;
use crate::own::name_problem;
use crate::task::TaskInfo;

mod load;

pub use load::{Reading, load, load_cut};

/// How the files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Lines `context||completion`.
    Pairs,
    /// Plain text, cut into blocks.
    Blocks,
    /// JSON lines of prompts with completions, or of conversations.
    Instructions,
}

/// A text task as written in YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextTask {
    /// The name used in files and tables.
    pub name: String,
    /// How the files are written.
    pub form: Form,
    /// Training file.
    pub train: String,
    /// Evaluation file.
    pub dev: String,
    /// Test file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// Tokens of a block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
    /// Metrics to report; the first is primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Vec<Metric>>,
    /// Where the answer of a text stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// How texts are generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoding: Option<Decoding>,
    /// Items of an evaluation or test file that are generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A file of texts to evaluate on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextSplit {
    /// Every line or block with its targets.
    pub set: EncodedSet,
    /// What generations start from, `[items][length]`; no items where no metric generates.
    pub prompts: Vec<Vec<u32>>,
    /// Texts to compare each generation with, `[items][references]`.
    pub references: Vec<Vec<String>>,
}

/// A text task with its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedText {
    /// The task.
    pub info: TaskInfo,
    /// Training rows.
    pub train: EncodedSet,
    /// Evaluation splits by name.
    pub evaluation: Vec<(String, TextSplit)>,
    /// The test split.
    pub test: Option<TextSplit>,
    /// SHA-256 over the task's name, its form and its files by split, in lower-case hexadecimal.
    pub hash: String,
    /// SHA-256 over what `tokenizer_config.json` and `chat_template.jinja` say of how the texts become tokens: the tokens that begin and end
    /// them, the side that is cut, and the template where there are conversations.
    pub reading: String,
    /// What was decided while reading, for the user to see.
    pub notes: Vec<String>,
}

impl TextTask {
    /// Every problem that shows without the files.
    pub fn check(&self) -> Vec<String> {
        let mut problems: Vec<String> = name_problem(&self.name).into_iter().collect();
        let paths: Vec<_> = self.paths().collect();
        for (i, &(key, path)) in paths.iter().enumerate() {
            if let Some((other, _)) = paths[..i].iter().find(|&&(_, other)| other == path) {
                problems.push(format!("{key}: is `{path}`, the file of `{other}`; splits must not share texts"));
            }
        }
        match self.block {
            Some(_) if self.form != Form::Blocks => {
                problems.push("block: only the form `blocks` has them; leave it out".to_owned());
            }
            Some(block) if block < 2 => problems
                .push(format!("block: is `{block}`, but a token is predicted from one before it; use at least 2")),
            _ => {}
        }
        self.check_metrics(&mut problems);
        self.check_generation(&mut problems);
        problems
    }

    /// The metrics, or the one that every form has.
    pub fn metrics(&self) -> Vec<Metric> {
        self.metrics.clone().unwrap_or_else(|| vec![Metric::Perplexity])
    }

    /// Whether a metric compares generated texts.
    pub fn generates(&self) -> bool {
        self.metrics().iter().any(|metric| metric.generates())
    }

    /// The files with the keys that name them.
    fn paths(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let test = self.test.as_deref().map(|path| ("test", path));
        [("train", self.train.as_str()), ("dev", self.dev.as_str())].into_iter().chain(test)
    }

    fn check_metrics(&self, problems: &mut Vec<String>) {
        let metrics = self.metrics();
        if metrics.is_empty() {
            problems.push("metrics: is empty; leave it out, or name one".to_owned());
        }
        for (i, metric) in metrics.iter().enumerate() {
            if !metric.is_of_text() {
                let rule = "does not judge texts; use `perplexity`, `bleu`, `exact_match`";
                problems.push(format!("metrics: `{metric}` {rule}"));
            }
            let forms = match metric {
                Metric::Bleu if self.form != Form::Pairs => "`pairs`",
                Metric::ExactMatch if self.form == Form::Blocks => "`pairs` or `instructions`",
                _ => "",
            };
            if !forms.is_empty() {
                let rule = "compares with references, which this form lacks";
                problems.push(format!("metrics: `{metric}` {rule}; use the form {forms}, or leave it out"));
            }
            if metrics[..i].contains(metric) {
                problems.push(format!("metrics: `{metric}` is there twice; name it once"));
            }
        }
    }

    fn check_generation(&self, problems: &mut Vec<String>) {
        if !self.generates() {
            let given = [("decoding", self.decoding.is_some()), ("limit", self.limit.is_some())];
            for (key, _) in given.into_iter().filter(|&(_, given)| given) {
                problems
                    .push(format!("{key}: no metric generates texts; name `bleu` or `exact_match`, or leave it out"));
            }
        }
        if let Some(answer) = &self.answer {
            if !self.metrics().contains(&Metric::ExactMatch) {
                problems.push("answer: only `exact_match` looks for it; name that metric, or leave it out".to_owned());
            }
            match AnswerPattern::new(answer) {
                Err(DataError::Text { problem, way_out, .. }) => {
                    problems.push(format!("answer: {problem}; {way_out}"));
                }
                Err(other) => problems.push(format!("answer: {other}")),
                Ok(_) => {}
            }
        }
        let of_decoding = self.decoding.iter().flat_map(Decoding::check);
        problems.extend(of_decoding.map(|problem| format!("decoding.{problem}")));
        if self.limit == Some(0) {
            problems.push("limit: is `0`, which leaves nothing to judge; use at least 1, or leave it out".to_owned());
        }
    }
}
