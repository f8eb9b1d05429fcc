//! Searches against `transformers` (`fixtures/decode.json`, `scripts/oracle/decode.py`), against all texts there are, and their laws.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::convert::Infallible;

use data::causal::decode::{Decoding, NextToken, generate, generate_counted};
use proptest::prelude::*;
use serde::Deserialize;

/// Logits that depend on the last two tokens.
#[derive(Clone, Debug)]
struct Table {
    seed: u64,
    scale: f32,
    vocabulary: u32,
    /// The most prefixes of a call, and the longest prefix.
    seen: (usize, usize),
}

impl Table {
    fn new(seed: u64, scale: f32, vocabulary: u32) -> Self {
        Self { seed, scale, vocabulary, seen: (0, 0) }
    }

    fn row(&self, prefix: &[u32]) -> Vec<f32> {
        let back = |n: usize| prefix.len().checked_sub(n).map_or(self.vocabulary, |i| prefix[i]);
        (0..self.vocabulary).map(|token| draw(self.seed, [back(2), back(1), token]) * self.scale).collect()
    }

    /// Log-probabilities, `[vocabulary]`.
    fn log_probabilities(&self, prefix: &[u32]) -> Vec<f64> {
        let row = self.row(prefix);
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        row.iter().map(|&logit| f64::from(logit) - sum.ln()).collect()
    }
}

impl NextToken for Table {
    type Error = Infallible;

    fn logits(&mut self, prefixes: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Infallible> {
        let longest = prefixes.iter().map(Vec::len).max().unwrap();
        self.seen = (self.seen.0.max(prefixes.len()), self.seen.1.max(longest));
        Ok(prefixes.iter().map(|prefix| self.row(prefix)).collect())
    }
}

/// 24 bits of splitmix64 as a share, as in `decode.py`.
fn draw(seed: u64, ids: [u32; 3]) -> f32 {
    let bits = ids.into_iter().fold(seed, |z, id| {
        let z = z.wrapping_add(u64::from(id)).wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    });
    (bits >> 40) as f32 / (1u32 << 24) as f32
}

fn decoding(max_new_tokens: usize, beams: usize, length_penalty: f64, no_repeat_ngram: usize) -> Decoding {
    Decoding { max_new_tokens, beams, length_penalty, no_repeat_ngram }
}

fn texts(table: &Table, prompts: &[Vec<u32>], end: u32, decoding: &Decoding) -> Vec<Vec<u32>> {
    generate(&mut table.clone(), prompts, end, decoding, 1000).unwrap()
}

#[derive(Deserialize)]
struct Fixture {
    vocabulary: u32,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    seed: u64,
    scale: f32,
    end: u32,
    max_new_tokens: usize,
    num_beams: usize,
    length_penalty: f64,
    no_repeat_ngram_size: usize,
    prompts: Vec<Vec<u32>>,
    outputs: Vec<Vec<u32>>,
}

#[test]
fn texts_are_those_of_transformers() {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/decode.json")).unwrap();
    for case in &fixture.cases {
        let table = Table::new(case.seed, case.scale, fixture.vocabulary);
        let decoding = decoding(case.max_new_tokens, case.num_beams, case.length_penalty, case.no_repeat_ngram_size);
        let found = texts(&table, &case.prompts, case.end, &decoding);
        assert_eq!(found, case.outputs, "seed {}, {decoding:?}", case.seed);
    }
    let ended = |case: &Case| case.outputs.iter().filter(|text| text.len() < case.max_new_tokens).count();
    let (ended, all) = fixture.cases.iter().fold((0, 0), |(e, a), case| (e + ended(case), a + case.outputs.len()));
    assert!(ended > 100 && all - ended > 100, "{ended} of {all} texts end early; both kinds must be many");
}

/// Every text of at most `left` more tokens, without the end token, with its score.
fn all_texts(table: &Table, prefix: &[u32], end: u32, left: usize) -> Vec<(Vec<u32>, f64, usize)> {
    let mut all = Vec::new();
    for (token, log_probability) in (0u32..).zip(table.log_probabilities(prefix)) {
        if token == end {
            all.push((Vec::new(), log_probability, 1));
        } else if left == 1 {
            all.push((vec![token], log_probability, 1));
        } else {
            let rest = all_texts(table, &[prefix, &[token]].concat(), end, left - 1);
            all.extend(
                rest.into_iter().map(|(text, sum, n)| ([vec![token], text].concat(), log_probability + sum, n + 1)),
            );
        }
    }
    all
}

#[test]
fn enough_beams_find_the_best_of_all_texts() {
    for seed in 0..20 {
        let table = Table::new(seed, 4.0, 3);
        for length_penalty in [-1.0, 0.0, 0.7, 1.0, 3.0] {
            // 15 texts end, 16 do not.
            let all = all_texts(&table, &[1], 2, 4);
            assert_eq!(all.len(), 31);
            let score = |&(_, sum, n): &(Vec<u32>, f64, usize)| sum / (n as f64).powf(length_penalty);
            let best = all.iter().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap();
            let found = texts(&table, &[vec![1]], 2, &decoding(4, 31, length_penalty, 0));
            assert_eq!(found[0], best.0, "seed {seed}, length penalty {length_penalty}");
        }
    }
}

#[test]
fn a_length_penalty_favours_long_texts() {
    let length = |length_penalty| -> usize {
        let one = |seed| texts(&Table::new(seed, 4.0, 5), &[vec![1]], 2, &decoding(6, 8, length_penalty, 0))[0].len();
        (0..30).map(one).sum()
    };
    let lengths = [-2.0, 0.0, 1.0, 3.0].map(length);
    assert!(lengths.is_sorted() && lengths[0] < lengths[3], "{lengths:?}");
}

/// Logits that are the same after every prefix.
struct Constant(Vec<f32>);

impl NextToken for Constant {
    type Error = &'static str;

    fn logits(&mut self, prefixes: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, &'static str> {
        if self.0.is_empty() { Err("no logits") } else { Ok(vec![self.0.clone(); prefixes.len()]) }
    }
}

#[test]
fn bans_look_at_prompt_and_text() {
    let text = |prompt: &[u32], beams, n| {
        let mut model = Constant(vec![0.0, 3.0, 2.0, 1.0]);
        generate(&mut model, &[prompt.to_vec()], 0, &decoding(6, beams, 1.0, n), 99).unwrap().remove(0)
    };
    for beams in [1, 4] {
        assert_eq!(text(&[1], beams, 0), [1; 6], "{beams} beams");
    }
    assert_eq!(text(&[1], 1, 1), [2, 3], "1 stands in the prompt, and the end follows");
    // 1 1 has come once the first token is taken; then 1 2, 2 1 and so on.
    assert_eq!(text(&[1], 1, 2), [1, 2, 1, 3, 1]);
    assert_eq!(text(&[3, 1, 1], 1, 3), [1, 2, 1, 1, 3, 1]);
    assert_eq!(text(&[], 1, 3), [1, 1, 1, 2, 1, 1], "a prompt without tokens");
    // Everything is forbidden: 0 stands in the prompt.
    assert_eq!(text(&[0, 1, 2, 3], 1, 1), [] as [u32; 0]);
    assert_eq!(text(&[0, 1, 2, 3], 2, 1), [] as [u32; 0]);
}

#[test]
fn what_a_model_may_do() {
    let run = |logits: &[f32], beams| {
        let mut model = Constant(logits.to_vec());
        generate(&mut model, &[vec![1], vec![1, 1]], 0, &decoding(2, beams, 1.0, 0), 9)
    };
    assert_eq!(run(&[], 1), Err("no logits"));
    assert_eq!(run(&[1.0, 1.0], 1), Ok(vec![vec![]; 2]), "the first of equal logits");
    for beams in [1, 3] {
        assert_eq!(run(&[f32::NAN, 1.0, f32::NEG_INFINITY], beams), Ok(vec![vec![1, 1]; 2]));
        assert_eq!(run(&[f32::NAN, f32::NAN], beams), Ok(vec![vec![]; 2]));
    }
    assert_eq!(generate(&mut Constant(vec![]), &[], 0, &Decoding::default(), 9), Ok(vec![]));
}

#[test]
fn no_prefix_is_longer_than_the_model() {
    for beams in [1, 3] {
        let mut table = Table::new(7, 1.0, 30);
        let prompts: Vec<Vec<u32>> = (1..=8).map(|n| vec![1; n]).collect();
        // No text ends by itself: the end token is none of the vocabulary.
        let found = generate(&mut table, &prompts, 30, &decoding(3, beams, 1.0, 0), 6).unwrap();
        let lengths: Vec<usize> = found.iter().map(Vec::len).collect();
        assert_eq!((lengths, table.seen.1), (vec![3, 3, 3, 3, 2, 1, 0, 0], 6), "{beams} beams");
    }
}

#[test]
fn texts_that_the_limit_cuts_are_counted() {
    let ends = Constant(vec![3.0, 1.0, 0.0]);
    let goes_on = Constant(vec![0.0, 3.0, 1.0]);
    let cut = |model: &Constant, prompts: &[Vec<u32>], beams, longest| {
        let mut model = Constant(model.0.clone());
        generate_counted(&mut model, prompts, 0, &decoding(3, beams, 1.0, 0), longest).unwrap().cut
    };
    for beams in [1, 2] {
        assert_eq!(cut(&ends, &[vec![1], vec![2]], beams, 9), 0);
        assert_eq!(cut(&goes_on, &[vec![1], vec![2]], beams, 9), 2);
        // The second prompt leaves no room, and the positions cut the third after one token.
        assert_eq!(cut(&goes_on, &[vec![], vec![1; 10], vec![1; 9]], beams, 9), 3);
        assert_eq!(cut(&ends, &[vec![], vec![1; 10], vec![1; 9]], beams, 9), 1);
    }
}

#[test]
fn prefixes_per_call_are_bounded() {
    for (beams, most) in [(1, 32), (5, 30), (40, 40)] {
        let mut table = Table::new(7, 1.0, 90);
        generate(&mut table, &vec![vec![1, 2]; 50], 90, &decoding(3, beams, 1.0, 0), 99).unwrap();
        assert_eq!(table.seen.0, most, "{beams} beams");
    }
}

#[test]
fn settings_that_are_refused() {
    assert_eq!(Decoding::default().check(), [] as [&str; 0]);
    let problems = decoding(0, 0, f64::NAN, 0).check();
    assert_eq!(
        problems,
        [
            "max_new_tokens: is `0`, which gives no text; use at least 1",
            "beams: is `0`, which gives no text; use at least 1",
            "length_penalty: is `NaN`; use a finite number, such as 1.0",
        ]
    );
    let read: Decoding = serde_yaml::from_str("{ beams: 10, no_repeat_ngram: 4 }").unwrap();
    assert_eq!(read, decoding(64, 10, 1.0, 4));
    assert!(serde_yaml::from_str::<Decoding>("{ num_beams: 10 }").is_err());
}

fn has_repeated(tokens: &[u32], n: usize) -> bool {
    let ngrams: Vec<&[u32]> = tokens.windows(n).collect();
    ngrams.iter().enumerate().any(|(i, ngram)| ngrams[..i].contains(ngram))
}

proptest! {
    #[test]
    fn one_beam_takes_the_greatest_logit(seed: u64, prompt in prop::collection::vec(0u32..9, 1..5)) {
        let table = Table::new(seed, 4.0, 9);
        let mut prefix = prompt.clone();
        while prefix.len() < prompt.len() + 10 {
            let row = table.row(&prefix);
            let best = (0..9).max_by(|&a, &b| row[a as usize].total_cmp(&row[b as usize])).unwrap();
            if best == 8 {
                break;
            }
            prefix.push(best);
        }
        let found = texts(&table, std::slice::from_ref(&prompt), 8, &decoding(10, 1, 2.0, 0));
        prop_assert_eq!(&found[0], &prefix[prompt.len()..]);
    }

    #[test]
    fn a_text_does_not_depend_on_other_prompts(
        seed: u64,
        beams in 1usize..5,
        prompts in prop::collection::vec(prop::collection::vec(0u32..9, 1..5), 1..40),
    ) {
        let (table, decoding) = (Table::new(seed, 3.0, 9), decoding(7, beams, 0.8, 3));
        let alone: Vec<Vec<u32>> =
            prompts.iter().flat_map(|prompt| texts(&table, std::slice::from_ref(prompt), 8, &decoding)).collect();
        prop_assert_eq!(texts(&table, &prompts, 8, &decoding), alone);
    }

    #[test]
    fn no_ngram_comes_twice(seed: u64, beams in 1usize..5, n in 2usize..4) {
        // A prompt without the end token, and more tokens than the text needs.
        let found = texts(&Table::new(seed, 6.0, 12), &[vec![1, 2]], 11, &decoding(9, beams, 1.0, n));
        prop_assert!(!has_repeated(&[vec![1, 2], found[0].clone()].concat(), n), "{:?}", found[0]);
    }
}
