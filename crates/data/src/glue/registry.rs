//! What the nine tasks are, and what their files are called.

use crate::metric::Metric;
use crate::table::ShortRows;

/// Least and greatest score of `stsb`.
pub(super) const SCORES: (f64, f64) = (0.0, 5.0);

/// How a task is registered.
pub(super) struct Entry {
    pub(super) name: &'static str,
    /// The benchmark's folder.
    pub(super) folder: &'static str,
    pub(super) doc: &'static str,
    /// Class names in order of their ids; empty for a score.
    pub(super) labels: &'static [&'static str],
    pub(super) metrics: &'static [Metric],
    /// Columns in the benchmark's files.
    pub(super) benchmark: Columns,
    /// Columns in the hub's files.
    pub(super) hub: Columns,
    /// Columns of the benchmark's labelled files where these have no header.
    pub(super) headless: Option<&'static [&'static str]>,
    /// Broken lines in the benchmark's labelled files.
    pub(super) short_rows: ShortRows,
    /// Evaluation splits.
    pub(super) splits: &'static [Split],
    /// Test splits; the first is the dataset's.
    pub(super) tests: &'static [Test],
    /// What is handed in.
    pub(super) answer: Answer,
}

/// Where texts and labels are.
pub(super) struct Columns {
    pub(super) first: &'static str,
    pub(super) second: Option<&'static str>,
    pub(super) label: &'static str,
}

impl Columns {
    const fn single(first: &'static str) -> Self {
        Self { first, second: None, label: "label" }
    }

    const fn pair(first: &'static str, second: &'static str) -> Self {
        Self { first, second: Some(second), label: "label" }
    }
}

/// A split by the benchmark's name and the hub's.
pub(super) struct Split {
    pub(super) name: &'static str,
    pub(super) hub: &'static str,
}

impl Split {
    pub(super) const TRAIN: Self = Self { name: "train", hub: "train" };
}

/// A test split and the file its predictions go to.
pub(super) struct Test {
    pub(super) split: Split,
    pub(super) submission: &'static str,
}

const fn test(submission: &'static str) -> Test {
    Test { split: Split { name: "test", hub: "test" }, submission }
}

/// How a prediction is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Class id.
    Id,
    /// Class name.
    Name,
    /// Clipped to the scores' range, with three decimals.
    Score,
}

const SENTENCE_PAIR: Columns = Columns::pair("sentence1", "sentence2");

/// What most tasks have in common.
const SHARED: Entry = Entry {
    name: "",
    folder: "",
    doc: "",
    labels: &[],
    metrics: &[Metric::Accuracy],
    benchmark: SENTENCE_PAIR,
    hub: SENTENCE_PAIR,
    headless: None,
    short_rows: ShortRows::Refuse,
    splits: &[Split { name: "dev", hub: "validation" }],
    tests: &[],
    answer: Answer::Id,
};

pub(super) const TASKS: &[Entry] = &[
    Entry {
        name: "cola",
        folder: "CoLA",
        doc: "Is the sentence acceptable English?",
        labels: &["unacceptable", "acceptable"],
        metrics: &[Metric::Matthews],
        benchmark: Columns::single("sentence"),
        hub: Columns::single("sentence"),
        headless: Some(&["source", "label", "star", "sentence"]),
        tests: &[test("CoLA.tsv")],
        ..SHARED
    },
    Entry {
        name: "sst2",
        folder: "SST-2",
        doc: "Does the film review speak well or ill?",
        labels: &["negative", "positive"],
        benchmark: Columns::single("sentence"),
        hub: Columns::single("sentence"),
        tests: &[test("SST-2.tsv")],
        ..SHARED
    },
    Entry {
        name: "mrpc",
        folder: "MRPC",
        doc: "Do two sentences of news say the same?",
        labels: &["not_equivalent", "equivalent"],
        metrics: &[Metric::Accuracy, Metric::F1],
        benchmark: Columns { first: "#1 String", second: Some("#2 String"), label: "Quality" },
        tests: &[test("MRPC.tsv")],
        ..SHARED
    },
    Entry {
        name: "qqp",
        folder: "QQP",
        doc: "Do two questions from Quora ask the same?",
        labels: &["not_duplicate", "duplicate"],
        metrics: &[Metric::Accuracy, Metric::F1],
        benchmark: Columns { label: "is_duplicate", ..Columns::pair("question1", "question2") },
        hub: Columns::pair("question1", "question2"),
        short_rows: ShortRows::Skip,
        tests: &[test("QQP.tsv")],
        ..SHARED
    },
    Entry {
        name: "stsb",
        folder: "STS-B",
        doc: "How similar are two sentences, from 0 to 5?",
        metrics: &[Metric::Pearson, Metric::Spearman],
        benchmark: Columns { label: "score", ..SENTENCE_PAIR },
        tests: &[test("STS-B.tsv")],
        answer: Answer::Score,
        ..SHARED
    },
    Entry {
        name: "mnli",
        folder: "MNLI",
        doc: "Does the premise entail the hypothesis, contradict it, or neither?",
        labels: &["entailment", "neutral", "contradiction"],
        benchmark: Columns { label: "gold_label", ..SENTENCE_PAIR },
        hub: Columns::pair("premise", "hypothesis"),
        splits: &[
            Split { name: "dev_matched", hub: "validation_matched" },
            Split { name: "dev_mismatched", hub: "validation_mismatched" },
        ],
        tests: &[
            Test { split: Split { name: "test_matched", hub: "test_matched" }, submission: "MNLI-m.tsv" },
            Test { split: Split { name: "test_mismatched", hub: "test_mismatched" }, submission: "MNLI-mm.tsv" },
        ],
        answer: Answer::Name,
        ..SHARED
    },
    Entry {
        name: "qnli",
        folder: "QNLI",
        doc: "Does the sentence answer the question?",
        labels: &["entailment", "not_entailment"],
        benchmark: Columns::pair("question", "sentence"),
        hub: Columns::pair("question", "sentence"),
        tests: &[test("QNLI.tsv")],
        answer: Answer::Name,
        ..SHARED
    },
    Entry {
        name: "rte",
        folder: "RTE",
        doc: "Does the first text entail the second?",
        labels: &["entailment", "not_entailment"],
        tests: &[test("RTE.tsv")],
        answer: Answer::Name,
        ..SHARED
    },
    Entry {
        name: "wnli",
        folder: "WNLI",
        doc: "Does the pronoun stand for the noun that the second sentence puts in its place?",
        labels: &["not_entailment", "entailment"],
        tests: &[test("WNLI.tsv")],
        ..SHARED
    },
];
