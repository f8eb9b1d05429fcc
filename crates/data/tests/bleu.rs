//! BLEU against values worked by hand and against `sacrebleu` 2.6.0: `fixtures/bleu*.json`, `scripts/oracle/bleu_edge.py`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::path::{Path, PathBuf};

use data::bleu::{Tokenization, corpus_bleu};
use serde::Deserialize;

/// `bleu.json`, from `scripts/oracle/bleu.py`.
#[derive(Deserialize)]
struct Corpora {
    corpora: Vec<Corpus>,
}

#[derive(Deserialize)]
struct Corpus {
    segments: Vec<Segment>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Segment {
    hypothesis: String,
    references: Vec<Option<String>>,
}

impl Corpus {
    /// The same with references stream by stream.
    fn case(self) -> Case {
        let streams = self.segments.iter().map(|segment| segment.references.len()).max().unwrap_or(0);
        let stream =
            |at: usize| self.segments.iter().map(|s| s.references.get(at).cloned().flatten()).collect::<Vec<_>>();
        let mut value = serde_json::Value::Object(self.rest.clone());
        value["hypotheses"] = self.segments.iter().map(|segment| segment.hypothesis.clone()).collect();
        value["references"] = serde_json::json!((0..streams).map(stream).collect::<Vec<_>>());
        serde_json::from_value(value).unwrap()
    }
}

#[derive(Deserialize)]
struct Case {
    name: String,
    tokenize: String,
    hypotheses: Vec<String>,
    /// One list per stream; a segment may lack a stream.
    references: Vec<Vec<Option<String>>>,
    score: f64,
    counts: [u64; 4],
    totals: [u64; 4],
    bp: f64,
    sys_len: u64,
    ref_len: u64,
}

#[track_caller]
fn check(case: &Case) {
    let tokenization = match case.tokenize.as_str() {
        "13a" => Tokenization::V13a,
        "none" => Tokenization::None,
        other => panic!("unknown tokenization `{other}`"),
    };
    let of_segment = |i: usize| case.references.iter().filter_map(|stream| stream[i].clone()).collect();
    let references: Vec<Vec<String>> = (0..case.hypotheses.len()).map(of_segment).collect();
    let bleu = corpus_bleu(&case.hypotheses, &references, tokenization).unwrap();
    let name = &case.name;
    assert_eq!((bleu.counts, bleu.totals), (case.counts, case.totals), "{name}");
    assert_eq!((bleu.sys_len, bleu.ref_len), (case.sys_len, case.ref_len), "{name}");
    // Sums of four logarithms in a fixed order differ by rounding alone.
    assert!((bleu.bp - case.bp).abs() < 1e-9, "{name}: {} against {}", bleu.bp, case.bp);
    assert!((bleu.score - case.score).abs() < 1e-9, "{name}: {} against {}", bleu.score, case.score);
}

#[test]
fn scores_are_sacrebleu_s() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_bleu = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem.to_string_lossy().starts_with("bleu"));
    let files: Vec<PathBuf> =
        all.filter(is_bleu).filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    assert!(!files.is_empty(), "there is at least one fixture");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let cases: Vec<Case> = match serde_json::from_slice::<Corpora>(&bytes) {
            Ok(corpora) => corpora.corpora.into_iter().map(Corpus::case).collect(),
            Err(_) => serde_json::from_slice(&bytes).unwrap(),
        };
        assert!(!cases.is_empty(), "{} has cases", file.display());
        cases.iter().for_each(check);
    }
}

#[test]
fn values_by_hand() {
    let score = |hypotheses: &[&str], references: &[Vec<&str>]| {
        corpus_bleu(hypotheses, references, Tokenization::None).unwrap().score
    };
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} against {b}");
    close(score(&["a b c d e"], &[vec!["a b c d e"]]), 100.0);
    // 5/5, 3/4, 2/3, 1/2 of the n-grams, no penalty
    close(score(&["a b c d e"], &[vec!["e a b c d"]]), 100.0 * (0.75f64 * 2.0 / 3.0 * 0.5).powf(0.25));
    // 3/4, then no match of 3, 2, 1: 1/6, 1/8, 1/8
    close(score(&["a b c d"], &[vec!["a c x b"]]), 100.0 * (0.75f64 / 6.0 / 8.0 / 8.0).powf(0.25));
    // 4 tokens against 6: exp(1 - 6/4)
    close(score(&["a b c d"], &[vec!["a b c d e f"]]), 100.0 * (-0.5f64).exp());
    // Repetition counts as often as a reference has it: 2/7 of Papineni's example; 1/12, 1/20, 1/32 by smoothing
    close(
        score(&["the the the the the the the"], &[vec!["the cat is on the mat", "there is a cat on the mat"]]),
        100.0 * (2.0f64 / 7.0 / 12.0 / 20.0 / 32.0).powf(0.25),
    );
    assert_eq!(score(&["a b c"], &[vec!["a b c"]]), 0.0, "no 4-grams");
    assert_eq!(score(&[""], &[vec!["a b c"]]), 0.0);
}

#[test]
fn a_segment_needs_a_reference() {
    let error = corpus_bleu(&["a", "b"], &[vec!["a"], vec![]], Tokenization::None).unwrap_err().to_string();
    assert_eq!(error, "bleu: segment 2 has no reference; give every segment at least one");
}
