//! The suite `unseen`: shapes, disjointness, what its bases cannot have read, and what a label cannot be read off.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::{BTreeMap, BTreeSet};

use data::corpus::{Corpus, Text};
use data::language::render::FUNCTION_WORDS;
use data::mask::{Masking, mask};
use data::suite::{self, is_held_out};
use data::task::{Dataset, Example, Objective};
use data::tokenize::{Tokenizer, build_tokenizer_json};
use data::unseen::{N_EVALUATION, UNSEEN};

#[path = "support/unigrams.rs"]
mod unigrams;

/// What each task promises: its training examples, the longest input in tokens, the share of the largest class in an evaluation split, and
/// the primary metric that a linear model of unigrams reaches at most.
struct Promise {
    task: &'static str,
    train: usize,
    longest: usize,
    majority: (f64, f64),
    unigrams: f64,
}

const PROMISES: [Promise; 6] = [
    Promise { task: "acceptability", train: 1500, longest: 20, majority: (0.48, 0.52), unigrams: 0.10 },
    Promise { task: "sentiment", train: 1000, longest: 20, majority: (0.48, 0.52), unigrams: 0.60 },
    Promise { task: "paraphrase", train: 10_000, longest: 32, majority: (0.48, 0.52), unigrams: 0.60 },
    Promise { task: "similarity", train: 10_000, longest: 36, majority: (0.0, 1.0), unigrams: 0.20 },
    Promise { task: "inference", train: 2000, longest: 32, majority: (0.32, 0.36), unigrams: 0.45 },
    Promise { task: "answer", train: 10_000, longest: 32, majority: (0.48, 0.52), unigrams: 0.60 },
];

/// Words that every task is made of and no story has: a text with one of them is not in any corpus of stories, however long.
const TASK_WORDS: [&str; 9] = ["that", "although", "what", "when", "while", "which", "according", "said", "?"];

fn load(task: &str) -> Dataset {
    suite::load(UNSEEN, task).unwrap()
}

fn splits(dataset: &Dataset) -> Vec<(&str, &[Example])> {
    let evaluation = dataset.evaluation.iter().map(|(name, examples)| (name.as_str(), examples.as_slice()));
    [("train", dataset.train.as_slice()), ("test", dataset.test.as_slice())].into_iter().chain(evaluation).collect()
}

fn texts(example: &Example) -> impl Iterator<Item = &str> {
    std::iter::once(example.first.as_str()).chain(example.second.as_deref())
}

fn words(example: &Example) -> impl Iterator<Item = &str> {
    texts(example).flat_map(|text| text.split(' '))
}

#[track_caller]
fn check(promise: &Promise) {
    let dataset = load(promise.task);
    let tokenizer = Tokenizer::from_bytes(build_tokenizer_json().as_bytes()).unwrap();
    for (name, examples) in splits(&dataset) {
        assert_eq!(examples.len(), if name == "train" { promise.train } else { N_EVALUATION });
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for example in examples {
            assert_eq!(example.second.is_some(), dataset.info.pair);
            let encoding = tokenizer.encode(&example.first, example.second.as_deref(), 512).unwrap();
            assert!(!encoding.ids.contains(&tokenizer.unknown_id().unwrap()), "an unknown word: {example:?}");
            assert!(encoding.ids.len() <= promise.longest, "{} tokens: {example:?}", encoding.ids.len());
            assert_eq!(words(example).any(is_held_out), name != "train", "{name}: {example:?}");
            *counts.entry(example.label as u32).or_default() += 1;
        }
        let most = counts.values().max().copied().unwrap() as f64 / examples.len() as f64;
        let (low, high) = promise.majority;
        // Wrong labels of a training set keep its classes balanced.
        let slack = if name == "train" { 0.01 } else { 0.0 };
        assert!((low - slack..=high + slack).contains(&most), "{} {name}: {most:.3}", promise.task);
    }
    let reached = unigrams::baseline(&dataset);
    assert!(reached <= promise.unigrams, "{}: unigrams reach {reached:.3}", promise.task);
    assert_eq!(dataset, load(promise.task));
}

#[test]
fn every_task_keeps_its_promise() {
    for promise in &PROMISES {
        check(promise);
    }
}

#[test]
fn splits_share_no_text() {
    for promise in &PROMISES {
        let dataset = load(promise.task);
        let splits = splits(&dataset);
        let pairs = |k: usize| splits[k].1.iter().map(|e| (&e.first, &e.second)).collect::<BTreeSet<_>>();
        for (i, (name, examples)) in splits.iter().enumerate() {
            assert_eq!(pairs(i).len(), examples.len(), "{} {name} repeats an example", promise.task);
            assert!((0..i).all(|j| pairs(i).is_disjoint(&pairs(j))), "{} {name}", promise.task);
        }
    }
}

/// A changed hash means another suite: results of before do not belong to it.
#[test]
fn fingerprints() {
    let hashes = PROMISES.map(|p| load(p.task).hash()[..8].to_owned());
    assert_eq!(hashes, ["eca2a43b", "ef5fb200", "6861d283", "bb4450e4", "76b886c0", "fa847e5f"]);
}

#[test]
fn a_sample_is_another_training_set_and_the_same_evaluation() {
    for promise in &PROMISES {
        let own = load(promise.task);
        let of = |sample| suite::load_sample(UNSEEN, promise.task, Some(sample)).unwrap();
        let (first, second) = (of(0), of(1));
        assert_eq!(first, of(0));
        assert_eq!((&first.evaluation, &first.test), (&own.evaluation, &own.test));
        let set = |dataset: &Dataset| {
            dataset.train.iter().map(|e| (e.first.clone(), e.second.clone())).collect::<BTreeSet<_>>()
        };
        for (a, b) in [(&own, &first), (&first, &second)] {
            let common = set(a).intersection(&set(b)).count();
            assert!(common < promise.train / 10, "{}: {common} training texts are in both", promise.task);
        }
        assert_eq!(first.train.len(), own.train.len());
        let unseen_words = first.train.iter().flat_map(words).filter(|word| is_held_out(word)).count();
        assert_eq!(unseen_words, 0, "{}: a training set has a word of the evaluation", promise.task);
    }
}

/// No story has a word that every text of every task has, so that neither an evaluation text nor a template can be in a base's text.
#[test]
fn no_text_of_a_task_can_be_a_story() {
    for word in TASK_WORDS {
        assert!(!Text::Stories.has(word), "a story can have `{word}`");
    }
    for promise in &PROMISES {
        let dataset = load(promise.task);
        for (name, examples) in splits(&dataset) {
            for text in examples.iter().flat_map(texts) {
                assert!(text.split(' ').any(|word| TASK_WORDS.contains(&word)), "{} {name}: {text}", promise.task);
            }
        }
    }
}

/// Stories have the words that they are said to have, no label and no verdict among them, and the noise of the masking has no other.
#[test]
fn stories_have_their_words_and_no_label() {
    let tokenizer = Tokenizer::from_bytes(build_tokenizer_json().as_bytes()).unwrap();
    let corpus = Corpus::of(Text::Stories, 0);
    for label in ["yes", "no", "maybe", "partly"].into_iter().chain(TASK_WORDS) {
        assert!(FUNCTION_WORDS.split_whitespace().any(|word| word == label), "`{label}` is a word of the language");
        assert!(!Text::Stories.has(label), "a story can have `{label}`");
    }
    let mut longest = 0;
    for index in 0..50_000 {
        let (first, second) = corpus.document(index);
        let text = [Some(first.as_str()), second.as_deref()].into_iter().flatten();
        for word in text.flat_map(|text| text.split(' ')) {
            assert!(Text::Stories.has(word), "`{word}` in {first} {second:?}");
        }
        longest = longest.max(tokenizer.encode(&first, second.as_deref(), 512).unwrap().ids.len());
    }
    assert!(longest <= 64, "a story has {longest} tokens");
    let rows = (0..2000).map(|index| {
        let (first, second) = corpus.document(index);
        data::batch::Encoded::labelled(tokenizer.encode(&first, second.as_deref(), 64).unwrap(), 0.0)
    });
    let set = data::batch::EncodedSet::whole(rows.collect());
    let all: Vec<usize> = (0..set.rows.len()).collect();
    let batch = data::batch::Batch::gather(&set, &all, all.len(), tokenizer.pad_id().unwrap());
    let masking = Masking::new(Text::Stories, &tokenizer).unwrap();
    let masked = mask(batch, &masking, 0, 0);
    let n_words = masked.batch.ids.iter().filter(|id| !tokenizer.special_ids().contains(id)).count() as f64;
    let share = masked.targets.len() as f64 / n_words;
    assert!((0.14..0.30).contains(&share), "{share:.3} of the words are targets");
    for &id in &masked.batch.ids {
        let word = tokenizer.token(id).unwrap();
        assert!(
            tokenizer.special_ids().contains(&id) || Text::Stories.has(&word),
            "the masking puts `{word}` into a story"
        );
    }
}

/// A changed story means other bases.
#[test]
fn stories_are_pure_in_seed_and_index() {
    let corpus = Corpus::of(Text::Stories, 3);
    assert_eq!(corpus.document(7), Corpus::of(Text::Stories, 3).document(7));
    assert_ne!(corpus.document(7), Corpus::of(Text::Stories, 4).document(7));
    assert_eq!(corpus.text(), Text::Stories);
}

/// Features that one looks at first: the number of words, and every word in every text, anywhere and at its place from either end.
fn features(example: &Example) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (which, text) in texts(example).enumerate() {
        let words: Vec<&str> = text.split(' ').collect();
        found.insert(format!("{which} length {}", words.len()));
        for (place, word) in words.iter().enumerate() {
            found.insert(format!("{which} {word}"));
            found.insert(format!("{which} {word} at {place}"));
            found.insert(format!("{which} {word} from end {}", words.len() - place));
        }
    }
    found
}

/// No single feature says much of the label: among the examples that have it, the mean of every class (or of the score, in units of its
/// standard deviation) is within five standard errors plus 0.12 of the whole's.
#[test]
fn no_label_is_readable_off_a_length_a_word_or_a_place() {
    for promise in &PROMISES {
        let dataset = load(promise.task);
        let (_, examples) = &dataset.evaluation[0];
        let classes = dataset.info.objective.labels().len();
        let targets: Vec<Vec<f64>> = match &dataset.info.objective {
            Objective::Classification { .. } => (0..classes)
                .map(|class| examples.iter().map(|e| f64::from(u8::from(e.label as usize == class))).collect())
                .collect(),
            _ => vec![examples.iter().map(|e| f64::from(e.label)).collect()],
        };
        let mut holders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, example) in examples.iter().enumerate() {
            for feature in features(example) {
                holders.entry(feature).or_default().push(index);
            }
        }
        for target in &targets {
            let n = target.len() as f64;
            let mean = target.iter().sum::<f64>() / n;
            let sd = (target.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            let unit = if classes == 0 { sd } else { 1.0 };
            for (feature, holders) in holders.iter().filter(|(_, holders)| holders.len() >= 50) {
                let within = holders.iter().map(|&i| target[i]).sum::<f64>() / holders.len() as f64;
                let allowed = 0.12 * unit + 5.0 * sd / (holders.len() as f64).sqrt();
                assert!(
                    (within - mean).abs() <= allowed,
                    "{}: `{feature}` has {within:.2}, all {mean:.2}",
                    promise.task
                );
            }
        }
    }
}
