//! Greedy and beam search as `generate` of `transformers` 4.57 does them without sampling.
//!
//! Greedy takes the token of the greatest logit, the first of equal ones. Beam search keeps the `beams` best unfinished texts by
//! their sum of log-probabilities. Of the `2 · beams` best continuations, those that end among the first `beams` are finished and
//! scored `sum / length^length_penalty`, where `length` counts the tokens after the prompt and the end token with them; the `beams`
//! best finished texts are kept. The search ends when `beams` texts are finished and the best unfinished one, scored at its length,
//! beats none of them (`early_stopping=False`), or at the greatest length, where the best `beams` continuations count as finished.
//! The best finished text is the result.
//!
//! Log-probabilities are worked out in `f64` and rounded; their sums and scores are `f32`, as there. Equal scores are taken in the
//! order of beams, then of tokens; there, `topk` leaves it open.
//!
//! `no_repeat_ngram: n` forbids a token that would complete an n-gram which the prompt and the text so far have already. Where that
//! forbids every token, greedy takes token 0, as there, and a beam search ends.

use serde::{Deserialize, Serialize};

use crate::causal::search::Search;

/// A causal model, seen from a search.
pub trait NextToken {
    /// What can go wrong.
    type Error;

    /// Logits of the token after each prefix, `[prefixes][vocabulary]`.
    fn logits(&mut self, prefixes: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Self::Error>;
}

/// How texts are searched for. Defaults are those of `transformers` but for the length, which there is 20.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Decoding {
    /// Greatest number of tokens after the prompt, the end token among them.
    pub max_new_tokens: usize,
    /// Texts that are kept at each step; 1 is greedy.
    pub beams: usize,
    /// Power of the length that divides a finished text's sum: above 0 favours long texts, below 0 short ones. Greedy ignores it.
    pub length_penalty: f64,
    /// Length of the n-grams that may not come twice; 0 allows all.
    pub no_repeat_ngram: usize,
}

/// Most tokens of a text. The model's positions bound it as well.
const MOST_TOKENS: usize = 1_048_576;
/// Most texts that a search keeps: as many prefixes are computed at once.
const MOST_BEAMS: usize = 1024;
/// Most of a power of the length, either way: beyond, the score of every longer text is 0 or infinite.
const MOST_PENALTY: f64 = 10.0;

impl Default for Decoding {
    fn default() -> Self {
        // `--eval_len 64` of the E2E commands of `loralib` (`examples/NLG/README.md`).
        Self { max_new_tokens: 64, beams: 1, length_penalty: 1.0, no_repeat_ngram: 0 }
    }
}

impl Decoding {
    /// Every problem of the settings.
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, value, most) in
            [("max_new_tokens", self.max_new_tokens, MOST_TOKENS), ("beams", self.beams, MOST_BEAMS)]
        {
            if value == 0 {
                problems.push(format!("{key}: is `0`, which gives no text; use at least 1"));
            } else if value > most {
                problems.push(format!("{key}: is `{value}`; use at most {most}"));
            }
        }
        if self.no_repeat_ngram > MOST_TOKENS {
            let value = self.no_repeat_ngram;
            problems.push(format!("no_repeat_ngram: is `{value}`; use at most {MOST_TOKENS}, or 0 to allow all"));
        }
        if !self.length_penalty.is_finite() {
            problems.push(format!("length_penalty: is `{}`; use a finite number, such as 1.0", self.length_penalty));
        } else if self.length_penalty.abs() > MOST_PENALTY {
            let value = self.length_penalty;
            problems
                .push(format!("length_penalty: is `{value:e}`; use a number from -{MOST_PENALTY} to {MOST_PENALTY}"));
        }
        problems
    }
}

/// Prefixes that a model is asked about at once, as long as one prompt's beams do not exceed it.
const AT_ONCE: usize = 32;

/// What a model says after some prompts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// The tokens after each prompt, without the end token, `[prompts][length]`.
    pub texts: Vec<Vec<u32>>,
    /// How many of them the greatest length has cut before the model ended them, prompts that leave no room for a token included.
    pub cut: usize,
}

/// The tokens after each prompt, without the end token, `[prompts][length]`: the texts of [`generate_counted`].
pub fn generate<M: NextToken>(
    model: &mut M,
    prompts: &[Vec<u32>],
    end: u32,
    decoding: &Decoding,
    longest: usize,
) -> Result<Vec<Vec<u32>>, M::Error> {
    Ok(generate_counted(model, prompts, end, decoding, longest)?.texts)
}

/// A text for each prompt, and how many of these were cut.
///
/// A model of `longest` positions never sees a longer prefix: a text ends where the next one would be, and a prompt that is longer
/// has no text. Prompts share calls of the model but not their searches. A logit that is NaN is never chosen.
pub fn generate_counted<M: NextToken>(
    model: &mut M,
    prompts: &[Vec<u32>],
    end: u32,
    decoding: &Decoding,
    longest: usize,
) -> Result<Generated, M::Error> {
    // The last token is not read again.
    let room = |prompt: &Vec<u32>| decoding.max_new_tokens.min((longest + 1).saturating_sub(prompt.len()));
    let mut waiting = prompts.iter().enumerate().filter_map(|(i, prompt)| {
        let max_new = room(prompt);
        (max_new > 0).then(|| (i, Search::new(prompt, end, decoding, max_new)))
    });
    let cut = prompts.iter().filter(|prompt| room(prompt) == 0).count();
    let mut found = Generated { texts: vec![Vec::new(); prompts.len()], cut };
    let mut active: Vec<(usize, Search)> = Vec::new();
    let at_once = (AT_ONCE / decoding.beams.max(1)).max(1);
    loop {
        active.extend(waiting.by_ref().take(at_once - active.len()));
        if active.is_empty() {
            return Ok(found);
        }
        let prefixes: Vec<Vec<u32>> = active.iter().flat_map(|(_, search)| search.prefixes()).collect();
        let logits = model.logits(&prefixes)?;
        assert_eq!(logits.len(), prefixes.len(), "one row of logits per prefix");
        let mut rows = logits.as_slice();
        for (i, search) in &mut active {
            let (own, rest) = rows.split_at(search.width());
            rows = rest;
            search.step(own);
            if let Some((text, cut)) = search.take_result() {
                found.texts[*i] = text;
                found.cut += usize::from(cut);
            }
        }
        active.retain(|(_, search)| search.width() > 0);
    }
}
