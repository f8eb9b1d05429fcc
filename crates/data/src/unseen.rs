//! The suite `unseen`: six tasks with GLUE's kinds and metrics, for bases that have read [stories](crate::corpus::Text::Stories) alone.
//!
//! No story has a construction of a task, nor what a task asks for: a verb's agreement over a clause, another lexicon of praise, the same
//! event with another part in front, the weights of an event's parts, what a denial rules out, the answer to a question. The words are
//! the stories' words, so that a base can know what they mean.

use crate::metric::Metric;
use crate::suite::{Entry, Suite};

mod acceptability;
mod answer;
mod inference;
mod paraphrase;
mod reword;
mod sentiment;
mod similarity;

/// The name of the suite.
pub const UNSEEN: &str = "unseen";

/// Examples per evaluation and test split: the standard error of an accuracy of 80% is 0.6 points.
pub const N_EVALUATION: usize = 5000;

/// Training examples of a task, unless it is learnt from fewer: then it has no more than leave an adapter of rank 8 headroom.
const N_TRAIN: usize = 10_000;

/// Share of the training examples with a wrong label.
const NOISE: f64 = 0.05;

pub(crate) const SUITE: Suite = Suite { name: UNSEEN, tasks: TASKS, seed: 0x756e_7365, n_evaluation: N_EVALUATION };

const TASKS: &[Entry] = &[
    Entry {
        name: "acceptability",
        doc: "Does every verb agree with its subject, over a clause in between?",
        labels: &["unacceptable", "acceptable"],
        metrics: &[Metric::Matthews],
        pair: false,
        n_train: 1500,
        noise: NOISE,
        train: acceptability::example,
        splits: &[("dev", acceptability::example)],
    },
    Entry {
        name: "sentiment",
        doc: "Does the main clause praise a thing, where praise of some kinds is blame?",
        labels: &["negative", "positive"],
        metrics: &[Metric::Accuracy],
        pair: false,
        n_train: 1000,
        noise: 0.15,
        train: sentiment::example,
        splits: &[("dev", sentiment::example)],
    },
    Entry {
        name: "paraphrase",
        doc: "Do two sentences tell the same event?",
        labels: &["different", "paraphrase"],
        // Not F1 as of MRPC: the constant answer has 67 there, above most that learns.
        metrics: &[Metric::Accuracy, Metric::F1],
        pair: true,
        n_train: N_TRAIN,
        noise: NOISE,
        train: paraphrase::example,
        splits: &[("dev", paraphrase::example)],
    },
    Entry {
        name: "similarity",
        doc: "How much of one event is in the other, from 0 to 5?",
        labels: &[],
        metrics: &[Metric::Pearson, Metric::Spearman],
        pair: true,
        n_train: N_TRAIN,
        noise: NOISE,
        train: similarity::example,
        splits: &[("dev", similarity::example)],
    },
    Entry {
        name: "inference",
        doc: "Does the hypothesis follow, is it ruled out, or is it open?",
        labels: &["entailment", "neutral", "contradiction"],
        metrics: &[Metric::Accuracy],
        pair: true,
        n_train: 2000,
        noise: NOISE,
        train: inference::example,
        splits: &[("dev", inference::example)],
    },
    Entry {
        name: "answer",
        doc: "Does the sentence answer the question?",
        labels: &["entailment", "not_entailment"],
        metrics: &[Metric::Accuracy],
        pair: true,
        n_train: N_TRAIN,
        noise: NOISE,
        train: answer::example,
        splits: &[("dev", answer::example)],
    },
];
