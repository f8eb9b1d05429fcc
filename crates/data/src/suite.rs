//! The suites in the build: `glue_mini`, nine tasks with the shapes and metrics of GLUE over the embedded language, and
//! [`unseen`], whose bases have read no task.
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
use crate::unseen;

pub mod acceptability;
pub mod answer;
pub mod inference;
pub mod paraphrase;
pub mod pronoun;
pub mod sentiment;
pub mod similarity;

/// The name of the suite whose tasks its base has read.
pub const GLUE_MINI: &str = "glue_mini";

/// Examples per evaluation and test split of [`GLUE_MINI`].
pub const N_EVALUATION: usize = 480;

/// A suite in the build.
#[derive(Clone, Copy)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) tasks: &'static [Entry],
    /// Fixes every split; changing it makes another suite.
    pub(crate) seed: u64,
    /// Examples per evaluation and test split.
    pub(crate) n_evaluation: usize,
}

const SUITES: &[Suite] =
    &[Suite { name: GLUE_MINI, tasks: TASKS, seed: 0x6c75_655f, n_evaluation: N_EVALUATION }, unseen::SUITE];

/// Makes one example, label included.
pub type Generator = fn(&mut Draw) -> Example;

/// How a task is registered.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    /// Class names in order of their ids; empty for a score in 0..=5.
    pub(crate) labels: &'static [&'static str],
    pub(crate) metrics: &'static [Metric],
    pub(crate) pair: bool,
    pub(crate) n_train: usize,
    /// Share of the training examples with a wrong label; evaluation and test labels are true.
    pub(crate) noise: f64,
    pub(crate) train: Generator,
    pub(crate) splits: &'static [(&'static str, Generator)],
}

const TASKS: &[Entry] = &[
    Entry {
        name: "cola",
        doc: "Is the sentence acceptable, or does it break agreement, word order or a verb's selection?",
        labels: &["unacceptable", "acceptable"],
        metrics: &[Metric::Matthews],
        pair: false,
        n_train: 2000,
        noise: 0.0,
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
        noise: 0.0,
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
        noise: 0.0,
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
        noise: 0.0,
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
        noise: 0.0,
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
        noise: 0.0,
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
        noise: 0.0,
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
        noise: 0.0,
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
        noise: 0.0,
        train: pronoun::example,
        splits: &[("dev", pronoun::example)],
    },
];

/// Names of the suites.
pub fn suites() -> Vec<&'static str> {
    SUITES.iter().map(|suite| suite.name).collect()
}

/// The tasks of a suite, in GLUE's order.
pub fn tasks(suite: &str) -> Result<Vec<TaskInfo>, DataError> {
    Ok(find(suite)?.tasks.iter().map(info).collect())
}

/// A task with all its examples.
pub fn load(suite: &str, task: &str) -> Result<Dataset, DataError> {
    load_sample(suite, task, None)
}

/// A task whose training examples are drawn anew by `sample`, or are the suite's own where that is `None`. Evaluation and test
/// examples are the same for every sample, and none of them can be in a training set: these have no held-out word.
pub fn load_sample(suite: &str, task: &str, sample: Option<u64>) -> Result<Dataset, DataError> {
    let suite = find(suite)?;
    let Some(index) = suite.tasks.iter().position(|entry| entry.name == task) else {
        let names: Vec<&str> = suite.tasks.iter().map(|entry| entry.name).collect();
        let (guess, all) = (suggest::question(task, names.iter().copied()), names.join(", "));
        return Err(DataError::UnknownTask { suite: suite.name.to_owned(), name: task.to_owned(), guess, all });
    };
    let entry = &suite.tasks[index];
    let stream = 8 * index as u64;
    let seed = sample.map_or(suite.seed, |sample| sample_seed(suite.seed, sample));
    let mut train = collect(Draw::new(seed, stream, Pool::Seen), entry.train, entry.n_train, |_| true);
    spoil_labels(&mut train, entry.noise, entry.labels.len(), Draw::new(seed, stream + 7, Pool::Seen));
    let n_splits = entry.splits.len() as u64;
    let n_buckets = suite.buckets();
    let held_out = |bucket: u64, split: u64, generate| {
        let accept = |e: &Example| has_held_out_word(e) && bucket_of(&e.first, n_buckets) == bucket;
        collect(Draw::new(suite.seed, stream + 1 + split, Pool::HeldOut), generate, suite.n_evaluation, accept)
    };
    let evaluation = (0..n_splits).zip(entry.splits);
    let evaluation = evaluation.map(|(i, &(name, generate))| (name.to_owned(), held_out(i, i, generate))).collect();
    let test = held_out(n_buckets - 1, n_splits, entry.splits[0].1);
    Ok(Dataset { info: info(entry), train, evaluation, test })
}

impl Suite {
    /// Evaluation and test splits that a first text is shared out to: as many as the task with most has.
    fn buckets(self) -> u64 {
        self.tasks.iter().map(|entry| entry.splits.len() as u64 + 1).max().unwrap_or(1)
    }
}

/// The seed of another training set.
fn sample_seed(suite: u64, sample: u64) -> u64 {
    let digest = Sha256::digest([suite.to_le_bytes(), sample.to_le_bytes()].concat());
    digest.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Makes a share of the labels wrong: another class, each as likely, or the score of another of the chosen examples.
fn spoil_labels(examples: &mut [Example], share: f64, n_classes: usize, mut draw: Draw) {
    if share == 0.0 {
        return;
    }
    let mut chosen: Vec<usize> = (0..examples.len()).filter(|_| draw.chance(share)).collect();
    if n_classes > 1 {
        for index in chosen {
            let wrong = 1 + draw.below(n_classes - 1);
            examples[index].label = ((examples[index].label as usize + wrong) % n_classes) as f32;
        }
        return;
    }
    let scores: Vec<f32> = chosen.iter().map(|&index| examples[index].label).collect();
    if !chosen.is_empty() {
        chosen.rotate_left(1);
    }
    for (index, score) in chosen.into_iter().zip(scores) {
        examples[index].label = score;
    }
}

/// Generators of the pair tasks and of `sst2`, for the pretraining corpus.
pub(crate) fn generator(task: &str) -> Generator {
    match TASKS.iter().find(|entry| entry.name == task) {
        Some(entry) => entry.train,
        None => unreachable!("the corpus names a task `{task}` that is not registered"),
    }
}

/// The split a first text belongs to.
fn bucket_of(first: &str, n_buckets: u64) -> u64 {
    u64::from(Sha256::digest(first.as_bytes())[0]) % n_buckets
}

fn collect(mut draw: Draw, generate: Generator, n: usize, accept: impl Fn(&Example) -> bool) -> Vec<Example> {
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

fn find(suite: &str) -> Result<Suite, DataError> {
    let names = suites();
    SUITES.iter().find(|known| known.name == suite).copied().ok_or_else(|| {
        let guess = suggest::question(suite, names.iter().copied());
        DataError::UnknownSuite { name: suite.to_owned(), guess, all: names.join(", ") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(labels: impl Iterator<Item = usize>) -> Vec<Example> {
        labels.map(|label| Example { first: String::new(), second: None, label: label as f32 }).collect()
    }

    /// 20,000 coins of 0.05 have a standard deviation of 31 around 1,000.
    #[test]
    fn the_stated_share_of_labels_is_wrong_and_classes_stay_balanced() {
        let right = labelled((0..20_000).map(|i| i % 3));
        let mut spoiled = right.clone();
        spoil_labels(&mut spoiled, 0.05, 3, Draw::new(1, 7, Pool::Seen));
        let wrong = right.iter().zip(&spoiled).filter(|(a, b)| a.label != b.label).count();
        assert!((880..=1120).contains(&wrong), "{wrong} of 20000 labels are wrong");
        for class in 0..3 {
            let count = spoiled.iter().filter(|example| example.label as usize == class).count();
            assert!((6500..=6830).contains(&count), "class {class} has {count}");
        }
        let mut none = right.clone();
        spoil_labels(&mut none, 0.0, 3, Draw::new(1, 7, Pool::Seen));
        assert_eq!(none, right);
    }

    #[test]
    fn spoiled_scores_are_other_examples_scores() {
        let right = labelled(0..1000);
        let mut spoiled = right.clone();
        spoil_labels(&mut spoiled, 0.1, 0, Draw::new(1, 7, Pool::Seen));
        let wrong = right.iter().zip(&spoiled).filter(|(a, b)| a.label != b.label).count();
        assert!((60..=140).contains(&wrong), "{wrong} of 1000 scores are others'");
        let mut scores: Vec<usize> = spoiled.iter().map(|example| example.label as usize).collect();
        scores.sort_unstable();
        assert_eq!(scores, (0..1000).collect::<Vec<_>>(), "no score is lost");
    }
}
