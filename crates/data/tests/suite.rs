//! The suite: shapes, disjointness, the lexical hold-out, and how far unigrams get without meaning.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::{BTreeMap, BTreeSet};

use data::metric::Metric;
use data::suite::{self, GLUE_MINI, N_EVALUATION, is_held_out};
use data::task::{Dataset, Example, Objective};
use data::tokenize::{Tokenizer, build_tokenizer_json};

#[path = "support/unigrams.rs"]
mod unigrams;

/// What each task promises: training examples, longest input in tokens, share of the majority class, and the primary metric that
/// unigrams reach at most.
struct Promise {
    task: &'static str,
    n_train: usize,
    longest: usize,
    majority: (f64, f64),
    unigrams: f64,
}

const PROMISES: [Promise; 9] = [
    Promise { task: "cola", n_train: 2000, longest: 20, majority: (0.63, 0.73), unigrams: 0.30 },
    Promise { task: "sst2", n_train: 1600, longest: 14, majority: (0.5, 0.57), unigrams: 0.66 },
    Promise { task: "mrpc", n_train: 2000, longest: 32, majority: (0.57, 0.68), unigrams: 0.78 },
    Promise { task: "qqp", n_train: 2000, longest: 32, majority: (0.57, 0.68), unigrams: 0.78 },
    Promise { task: "stsb", n_train: 2000, longest: 32, majority: (0.0, 1.0), unigrams: 0.30 },
    Promise { task: "mnli", n_train: 2000, longest: 36, majority: (0.33, 0.40), unigrams: 0.50 },
    Promise { task: "qnli", n_train: 2000, longest: 32, majority: (0.5, 0.57), unigrams: 0.60 },
    Promise { task: "rte", n_train: 1200, longest: 32, majority: (0.5, 0.58), unigrams: 0.62 },
    Promise { task: "wnli", n_train: 800, longest: 28, majority: (0.5, 0.57), unigrams: 0.60 },
];

/// The share of content words in evaluation examples that no training example has.
const LEAST_NEW_WORDS: f64 = 0.6;

fn load(task: &str) -> Dataset {
    suite::load(GLUE_MINI, task).expect("the task is registered")
}

fn splits(dataset: &Dataset) -> Vec<(&str, &[Example])> {
    let evaluation = dataset.evaluation.iter().map(|(name, examples)| (name.as_str(), examples.as_slice()));
    [("train", dataset.train.as_slice()), ("test", dataset.test.as_slice())].into_iter().chain(evaluation).collect()
}

fn words(example: &Example) -> impl Iterator<Item = &str> {
    example.first.split(' ').chain(example.second.as_deref().unwrap_or_default().split(' ')).filter(|w| !w.is_empty())
}

#[track_caller]
fn check(promise: &Promise) {
    let dataset = load(promise.task);
    assert_eq!(dataset.train.len(), promise.n_train);
    check_labels(&dataset, promise);
    check_disjoint(&dataset);
    check_words(&dataset, promise.longest);
    let reached = unigrams::baseline(&dataset);
    assert!(
        reached <= promise.unigrams,
        "{}: unigrams reach {reached:.3}, promised {}",
        promise.task,
        promise.unigrams
    );
    assert_eq!(dataset, load(promise.task));
}

#[track_caller]
fn check_labels(dataset: &Dataset, promise: &Promise) {
    for (name, examples) in splits(dataset) {
        assert!(name == "train" || examples.len() == N_EVALUATION);
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for example in examples {
            assert_eq!(example.second.is_some(), dataset.info.pair);
            match &dataset.info.objective {
                Objective::Classification { labels } => assert!(labels.len() > example.label as usize),
                Objective::Regression { low, high } => assert!((*low..=*high).contains(&f64::from(example.label))),
                Objective::Text => panic!("no task of the suite is of texts"),
            }
            *counts.entry(example.label as u32).or_default() += 1;
        }
        let most = counts.values().max().copied().unwrap_or(0) as f64 / examples.len() as f64;
        let (low, high) = promise.majority;
        assert!((low..=high).contains(&most), "{} {name}: the majority class has {most:.3}", promise.task);
    }
}

#[track_caller]
fn check_disjoint(dataset: &Dataset) {
    let splits = splits(dataset);
    let firsts: Vec<BTreeSet<&str>> =
        splits.iter().map(|(_, e)| e.iter().map(|e| e.first.as_str()).collect()).collect();
    for i in 0..splits.len() {
        let distinct: BTreeSet<(&str, Option<&str>)> =
            splits[i].1.iter().map(|e| (e.first.as_str(), e.second.as_deref())).collect();
        assert_eq!(distinct.len(), splits[i].1.len(), "{}: {} repeats an example", dataset.info.name, splits[i].0);
        for j in 0..i {
            let examples = |k: usize| splits[k].1.iter().map(|e| (&e.first, &e.second)).collect::<BTreeSet<_>>();
            assert!(
                examples(i).is_disjoint(&examples(j)),
                "{}: {} meets {}",
                dataset.info.name,
                splits[i].0,
                splits[j].0
            );
            if splits[j].0 != "train" {
                assert!(
                    firsts[i].is_disjoint(&firsts[j]),
                    "{}: {} shares a first text with {}",
                    dataset.info.name,
                    splits[i].0,
                    splits[j].0
                );
            }
        }
    }
}

#[track_caller]
fn check_words(dataset: &Dataset, longest: usize) {
    let tokenizer = Tokenizer::from_bytes(build_tokenizer_json().as_bytes()).expect("the file is valid");
    for (name, examples) in splits(dataset) {
        for example in examples {
            let ids =
                tokenizer.encode(&example.first, example.second.as_deref(), 512).expect("512 tokens have room").ids;
            assert!(!ids.contains(&tokenizer.unknown_id().unwrap()), "{name} has an unknown word: {example:?}");
            assert!(ids.len() <= longest, "{}: {name} has {} tokens: {example:?}", dataset.info.name, ids.len());
            assert_eq!(words(example).any(is_held_out), name != "train", "{name}: {example:?}");
        }
    }
    let trained: BTreeSet<&str> = dataset.train.iter().flat_map(words).collect();
    for (name, examples) in splits(dataset).into_iter().filter(|s| s.0 != "train") {
        // Content words: those that are new, and those of the training examples that are neither frequent nor grammatical.
        let grammatical = grammatical_words();
        let content: Vec<&str> = examples.iter().flat_map(words).filter(|w| !grammatical.contains(w)).collect();
        let new = content.iter().filter(|w| !trained.contains(*w)).count() as f64 / content.len() as f64;
        assert!(new >= LEAST_NEW_WORDS, "{} {name}: {new:.3} of the content words are new", dataset.info.name);
    }
}

/// Function words and the words of closed classes, which every split may use.
fn grammatical_words() -> BTreeSet<&'static str> {
    use data::language::lexicon::{Class, lexicon};
    let closed = [Class::Weekday, Class::Month, Class::Kind, Class::General, Class::Judgement];
    let lemmas = closed.iter().flat_map(|&c| lexicon().groups(c)).flat_map(|g| g.sides.iter().flatten());
    let forms = lemmas.flat_map(|l| [l.base.as_str(), l.marked.as_str(), l.past.as_str()]);
    data::language::render::FUNCTION_WORDS.split_whitespace().chain(forms).collect()
}

#[test]
fn every_task_keeps_its_promise() {
    for promise in &PROMISES {
        check(promise);
    }
}

/// A changed hash means another suite: results and fine-tuned weights of before do not belong to it.
#[test]
fn fingerprints() {
    let hashes = PROMISES.map(|p| load(p.task).hash()[..8].to_owned());
    assert_eq!(
        hashes,
        ["736281ad", "65a6c3e1", "d9e69044", "4da09120", "cc1fe7a1", "0f09e141", "bf557eb0", "7589e41f", "9d1c4e9b"]
    );
}

#[test]
fn registry() {
    assert_eq!(suite::suites(), [GLUE_MINI, data::unseen::UNSEEN]);
    let tasks = suite::tasks(GLUE_MINI).unwrap();
    let names: Vec<&str> = tasks.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, PROMISES.map(|p| p.task));
    for info in &tasks {
        let dataset = load(&info.name);
        assert_eq!(&dataset.info, info);
        let splits: Vec<&String> = dataset.evaluation.iter().map(|(name, _)| name).collect();
        assert_eq!(splits, info.splits.iter().collect::<Vec<_>>());
        assert!(info.doc.ends_with('?') && !info.metrics.is_empty());
    }
    let mnli = tasks.iter().find(|t| t.name == "mnli").unwrap();
    assert_eq!((mnli.objective.n_outputs(), mnli.primary()), (3, Metric::Accuracy));
    assert_eq!(mnli.splits, ["dev_matched", "dev_mismatched"]);
}

#[test]
fn unknown_names_point_to_the_nearest() {
    let error = suite::load("glue_min", "cola").unwrap_err().to_string();
    assert_eq!(error, "suite: unknown suite `glue_min`; did you mean `glue_mini`? the suites are glue_mini, unseen");
    let error = suite::load(GLUE_MINI, "sst-2").unwrap_err().to_string();
    assert!(
        error.starts_with("task: suite `glue_mini` has no task `sst-2`; did you mean `sst2`? its tasks are cola, "),
        "{error}"
    );
}

/// The corpus is drawn independently of the splits; with so many scenes, a pair of an evaluation split does not turn up in it.
#[test]
fn evaluation_pairs_are_not_pretrained_on() {
    let corpus = data::corpus::Corpus::new(0);
    let strip = |second: &str| second.split_once(" , ").map_or(second, |(_, rest)| rest).to_owned();
    let pretrained: BTreeSet<(String, String)> = (0..100_000)
        .map(|i| corpus.document(i))
        .filter_map(|(first, second)| second.map(|second| (first, strip(&second))))
        .collect();
    for info in suite::tasks(GLUE_MINI).unwrap().iter().filter(|info| info.pair) {
        let dataset = load(&info.name);
        let (_, examples) = &dataset.evaluation[0];
        let met = examples
            .iter()
            .filter(|e| pretrained.contains(&(e.first.clone(), e.second.clone().unwrap_or_default())))
            .count();
        assert!(met * 100 <= examples.len(), "{}: {met} evaluation pairs occur in the corpus", info.name);
    }
}
