//! The suite `glue_mini`: nine tasks with the shapes and metrics of GLUE, over the embedded language.
//!
//! Train splits use only words of seen groups; every evaluation and test example has at least one word that no train split has.
//! The first text's hash assigns an example to one evaluation or test split. Splits are therefore disjoint by construction.
//! A new task is one function in a family file and one entry of the registry.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::language::draw::{Draw, Pool};
use crate::language::lexicon::lexicon;
use crate::metric::Metric;
use crate::task::{Dataset, Example, Objective, TaskInfo};

pub mod acceptability;
pub mod answer;
pub mod inference;
pub mod paraphrase;
pub mod pronoun;
pub mod sentiment;
pub mod similarity;

/// The name of the embedded suite.
pub const GLUE_MINI: &str = "glue_mini";

/// Examples per evaluation and test split.
pub const N_EVALUATION: usize = 480;

/// Fixes every split; changing it makes another suite.
const SUITE_SEED: u64 = 0x6c75_655f;

/// Makes one example, label included.
pub type Generator = fn(&mut Draw) -> Example;

/// How a task is registered.
struct Entry {
    name: &'static str,
    doc: &'static str,
    /// Class names in order of their ids; empty for a score in 0..=5.
    labels: &'static [&'static str],
    metrics: &'static [Metric],
    pair: bool,
    n_train: usize,
    train: Generator,
    splits: &'static [(&'static str, Generator)],
}

const TASKS: &[Entry] = &[
    Entry {
        name: "cola",
        doc: "Is the sentence acceptable, or does it break agreement, word order or a verb's selection?",
        labels: &["unacceptable", "acceptable"],
        metrics: &[Metric::Matthews],
        pair: false,
        n_train: 2000,
        train: acceptability::example,
        splits: &[("dev", acceptability::example)],
    },
    Entry {
        name: "sst2",
        doc: "Does the sentence speak well or ill of its subject, negation considered?",
        labels: &["negative", "positive"],
        metrics: &[Metric::Accuracy],
        pair: false,
        n_train: 1600,
        train: sentiment::example,
        splits: &[("dev", sentiment::example)],
    },
    Entry {
        name: "mrpc",
        doc: "Do two sentences say the same in other words?",
        labels: &["different", "paraphrase"],
        metrics: &[Metric::F1, Metric::Accuracy],
        pair: true,
        n_train: 2000,
        train: paraphrase::sentences,
        splits: &[("dev", paraphrase::sentences)],
    },
    Entry {
        name: "qqp",
        doc: "Do two questions ask the same in other words?",
        labels: &["different", "duplicate"],
        metrics: &[Metric::F1, Metric::Accuracy],
        pair: true,
        n_train: 2000,
        train: paraphrase::questions,
        splits: &[("dev", paraphrase::questions)],
    },
    Entry {
        name: "stsb",
        doc: "How many roles of two sentences agree, from 0 to 5?",
        labels: &[],
        metrics: &[Metric::Pearson, Metric::Spearman],
        pair: true,
        n_train: 2000,
        train: similarity::example,
        splits: &[("dev", similarity::example)],
    },
    Entry {
        name: "mnli",
        doc: "Does the premise entail the hypothesis, contradict it, or neither?",
        labels: &["entailment", "neutral", "contradiction"],
        metrics: &[Metric::Accuracy],
        pair: true,
        n_train: 2000,
        train: inference::matched,
        splits: &[("dev_matched", inference::matched), ("dev_mismatched", inference::mismatched)],
    },
    Entry {
        name: "qnli",
        doc: "Does the sentence answer the question?",
        labels: &["entailment", "not_entailment"],
        metrics: &[Metric::Accuracy],
        pair: true,
        n_train: 2000,
        train: answer::example,
        splits: &[("dev", answer::example)],
    },
    Entry {
        name: "rte",
        doc: "Does a sentence of two clauses entail the hypothesis?",
        labels: &["entailment", "not_entailment"],
        metrics: &[Metric::Accuracy],
        pair: true,
        n_train: 1200,
        train: inference::two_way,
        splits: &[("dev", inference::two_way)],
    },
    Entry {
        name: "wnli",
        doc: "Does the pronoun stand for the noun that the second sentence puts in its place?",
        labels: &["not_entailment", "entailment"],
        metrics: &[Metric::Accuracy],
        pair: true,
        n_train: 800,
        train: pronoun::example,
        splits: &[("dev", pronoun::example)],
    },
];

/// Names of the suites.
pub fn suites() -> Vec<&'static str> {
    vec![GLUE_MINI]
}

/// The tasks of a suite, in GLUE's order.
pub fn tasks(suite: &str) -> Result<Vec<TaskInfo>, DataError> {
    check_suite(suite)?;
    Ok(TASKS.iter().map(info).collect())
}

/// A task with all its examples.
pub fn load(suite: &str, task: &str) -> Result<Dataset, DataError> {
    check_suite(suite)?;
    let Some(index) = TASKS.iter().position(|entry| entry.name == task) else {
        let names: Vec<&str> = TASKS.iter().map(|entry| entry.name).collect();
        let (guess, all) = (suggest::question(task, names.iter().copied()), names.join(", "));
        return Err(DataError::UnknownTask { suite: suite.to_owned(), name: task.to_owned(), guess, all });
    };
    let entry = &TASKS[index];
    let stream = 8 * index as u64;
    let train = collect(entry.train, stream, entry.n_train, Pool::Seen, |_| true);
    let held_out = |bucket: u64, split: u64, generate| {
        let accept = |e: &Example| has_held_out_word(e) && bucket_of(&e.first) == bucket;
        collect(generate, stream + 1 + split, N_EVALUATION, Pool::HeldOut, accept)
    };
    let n_splits = entry.splits.len() as u64;
    let evaluation = (0..n_splits).zip(entry.splits);
    let evaluation = evaluation.map(|(i, &(name, generate))| (name.to_owned(), held_out(i, i, generate))).collect();
    let test = held_out(BUCKETS - 1, n_splits, entry.splits[0].1);
    Ok(Dataset { info: info(entry), train, evaluation, test })
}

/// Generators of the pair tasks and of `sst2`, for the pretraining corpus.
pub(crate) fn generator(task: &str) -> Generator {
    match TASKS.iter().find(|entry| entry.name == task) {
        Some(entry) => entry.train,
        None => unreachable!("the corpus names a task `{task}` that is not registered"),
    }
}

const BUCKETS: u64 = 3;

/// The split a first text belongs to.
fn bucket_of(first: &str) -> u64 {
    u64::from(Sha256::digest(first.as_bytes())[0]) % BUCKETS
}

fn collect(generate: Generator, stream: u64, n: usize, pool: Pool, accept: impl Fn(&Example) -> bool) -> Vec<Example> {
    let mut draw = Draw::new(SUITE_SEED, stream, pool);
    let mut seen = BTreeSet::new();
    let mut examples = Vec::with_capacity(n);
    while examples.len() < n {
        let example = generate(&mut draw);
        if accept(&example) && seen.insert((example.first.clone(), example.second.clone())) {
            examples.push(example);
        }
    }
    examples
}

static HELD_OUT: LazyLock<BTreeSet<&'static str>> =
    LazyLock::new(|| lexicon().forms().into_iter().filter(|&(_, seen)| !seen).map(|(form, _)| form).collect());

/// Whether a word belongs to the part of the lexicon that no train split uses.
pub fn is_held_out(word: &str) -> bool {
    HELD_OUT.contains(word)
}

fn has_held_out_word(example: &Example) -> bool {
    let second = example.second.as_deref().unwrap_or_default();
    example.first.split(' ').chain(second.split(' ')).any(is_held_out)
}

fn info(entry: &Entry) -> TaskInfo {
    let objective = if entry.labels.is_empty() {
        Objective::Regression { low: 0.0, high: 5.0 }
    } else {
        Objective::Classification { labels: entry.labels.iter().map(|&l| l.to_owned()).collect() }
    };
    TaskInfo {
        name: entry.name.to_owned(),
        doc: entry.doc.to_owned(),
        objective,
        metrics: entry.metrics.to_vec(),
        splits: entry.splits.iter().map(|&(name, _)| name.to_owned()).collect(),
        pair: entry.pair,
    }
}

fn check_suite(suite: &str) -> Result<(), DataError> {
    let names = suites();
    if names.contains(&suite) {
        return Ok(());
    }
    let guess = suggest::question(suite, names.iter().copied());
    Err(DataError::UnknownSuite { name: suite.to_owned(), guess, all: names.join(", ") })
}
