//! The language as a whole: words, corpus, tokenizer, and a fingerprint that notices any change.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::{BTreeMap, BTreeSet};

use data::corpus::{Corpus, salient_words};
use data::language::lexicon::{Class, lexicon};
use data::language::render::FUNCTION_WORDS;
use data::tokenize::{Tokenizer, build_tokenizer_json, vocabulary};
use sha2::{Digest, Sha256};

/// Documents after which every word has occurred often.
const DOCUMENTS: u64 = 100_000;
const LEAST_OCCURRENCES: usize = 5;

const VOCABULARY: usize = 1561;

/// Longest document in tokens, specials included.
const LONGEST_DOCUMENT: usize = 40;

#[track_caller]
fn check(name: &str, text: &str, expected: u32) {
    let digest = Sha256::digest(text.as_bytes());
    let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    assert_eq!(
        hash, expected,
        "the {name} changed to {hash:#010x}: pretrained weights and results no longer belong to it"
    );
}

#[test]
fn fingerprints() {
    check("tokenizer", &build_tokenizer_json(), 0x6a34_2178);
    let corpus = Corpus::new(0);
    let text = format!("{:?}", (0..2000).map(|i| corpus.document(i)).collect::<Vec<_>>());
    check("corpus", &text, 0x79f9_5b25);
}

#[test]
fn documents_are_pure_in_seed_and_index() {
    let corpus = Corpus::new(3);
    let later = corpus.document(1_000_000);
    let _ = corpus.document(5);
    assert_eq!(later, Corpus::new(3).document(1_000_000));
    assert_ne!(later, Corpus::new(4).document(1_000_000));
}

#[test]
fn every_word_is_known_frequent_and_within_the_length_bound() {
    let tokenizer = Tokenizer::from_bytes(build_tokenizer_json().as_bytes()).unwrap();
    let corpus = Corpus::new(0);
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for index in 0..DOCUMENTS {
        let (first, second) = corpus.document(index);
        let ids = tokenizer.encode(&first, second.as_deref(), 512).unwrap().ids;
        assert!(ids.len() <= LONGEST_DOCUMENT, "{} tokens: {first} {second:?}", ids.len());
        assert!(!ids.contains(&tokenizer.unknown_id().unwrap()), "unknown word in: {first} {second:?}");
        for id in ids {
            *counts.entry(id).or_default() += 1;
        }
    }
    let rare: Vec<String> = (0..tokenizer.vocab_size() as u32)
        .filter(|id| !tokenizer.special_ids().contains(id) && counts.get(id).copied().unwrap_or(0) < LEAST_OCCURRENCES)
        .map(|id| format!("{} {}", tokenizer.token(id).unwrap(), counts.get(&id).copied().unwrap_or(0)))
        .collect();
    assert!(rare.is_empty(), "{} rare words: {rare:?}", rare.len());
}

#[test]
fn a_form_belongs_to_one_word() {
    let mut owners: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for word in FUNCTION_WORDS.split_whitespace() {
        owners.entry(word).or_default().insert("function word".to_owned());
    }
    for &class in Class::ALL {
        for lemma in lexicon().groups(class).iter().flat_map(|g| g.sides.iter().flatten()) {
            for form in [&lemma.base, &lemma.marked, &lemma.past] {
                owners.entry(form).or_default().insert(format!("{}: {}", class.section(), lemma.base));
            }
        }
    }
    let shared: Vec<_> = owners.iter().filter(|(_, words)| words.len() > 1).collect();
    assert!(shared.is_empty(), "{shared:?}");
}

#[test]
fn vocabulary_size_and_order() {
    let vocabulary = vocabulary();
    assert_eq!(vocabulary.len(), VOCABULARY);
    assert_eq!(vocabulary[..4], ["<s>", "<pad>", "</s>", "<unk>"]);
    assert_eq!(vocabulary.last().unwrap(), "<mask>");
    assert!(salient_words().iter().all(|word| vocabulary.iter().any(|v| v == word)), "salient words are words");
}

#[test]
fn the_hold_out_takes_its_share_of_every_open_class() {
    for &class in Class::ALL {
        let groups = lexicon().groups(class);
        let seen = groups.iter().filter(|g| g.seen).count() as f64 / groups.len() as f64;
        let closed = [Class::Weekday, Class::Month, Class::Kind, Class::General, Class::Judgement].contains(&class);
        let expected = if closed { 1.0..=1.0 } else { 0.35..=0.55 };
        assert!(expected.contains(&seen), "{}: {seen} of the groups are seen", class.section());
    }
}
