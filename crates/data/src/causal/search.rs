//! The search behind [`decode`](crate::causal::decode), for one prompt, one step at a time.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::causal::decode::Decoding;

/// Tokens after the prompt, with a sum of log-probabilities or a score.
#[derive(Clone, Debug)]
struct Text {
    tokens: Vec<u32>,
    value: f32,
}

/// The state of one prompt's search.
pub(super) struct Search<'a> {
    prompt: &'a [u32],
    end: u32,
    decoding: &'a Decoding,
    max_new: usize,
    /// Unfinished texts, the best first; none once the search is over.
    running: Vec<Text>,
    /// Finished texts, the best first, at most `beams`.
    finished: Vec<Text>,
}

impl<'a> Search<'a> {
    pub(super) fn new(prompt: &'a [u32], end: u32, decoding: &'a Decoding, max_new: usize) -> Self {
        let running = vec![Text { tokens: Vec::new(), value: 0.0 }];
        Self { prompt, end, decoding, max_new, running, finished: Vec::new() }
    }

    /// Number of prefixes whose logits the next step needs; 0 once the search is over.
    pub(super) fn width(&self) -> usize {
        self.running.len()
    }

    /// What the model reads for the next step.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = Vec<u32>> {
        self.running.iter().map(|text| [self.prompt, &text.tokens].concat())
    }

    /// Goes on by one token, from the logits of each prefix, `[prefixes][vocabulary]`.
    pub(super) fn step(&mut self, logits: &[Vec<f32>]) {
        if self.decoding.beams > 1 { self.beam_step(logits) } else { self.greedy_step(&logits[0]) }
    }

    /// The text found, without the end token, and whether the greatest length has cut it, if the search is over.
    pub(super) fn take_result(&mut self) -> Option<(Vec<u32>, bool)> {
        if !self.running.is_empty() {
            return None;
        }
        let mut tokens = self.finished.drain(..).next().map_or(Vec::new(), |text| text.tokens);
        let ended = tokens.pop_if(|token| *token == self.end).is_some();
        let cut = !ended && tokens.len() == self.max_new;
        Some((tokens, cut))
    }

    fn greedy_step(&mut self, logits: &[f32]) {
        let banned = self.banned(&self.running[0].tokens);
        let (mut best, mut greatest) = (0, f32::NEG_INFINITY);
        for (token, &logit) in (0u32..).zip(logits) {
            if logit > greatest && !banned.contains(&token) {
                (best, greatest) = (token, logit);
            }
        }
        let text = &mut self.running[0];
        text.tokens.push(best);
        if best == self.end || text.tokens.len() == self.max_new {
            self.finished.append(&mut self.running);
        }
    }

    fn beam_step(&mut self, logits: &[Vec<f32>]) {
        let (beams, candidates) = (self.decoding.beams, self.candidates(logits));
        let length = self.running[0].tokens.len() + 1;
        let mut running = Vec::with_capacity(beams);
        for (rank, Candidate { value, beam, token }) in candidates.into_iter().enumerate() {
            let tokens = [self.running[beam].tokens.as_slice(), &[token]].concat();
            if token != self.end && length < self.max_new {
                running.push(Text { tokens, value });
            } else if rank < beams {
                // What ends further down only makes room for what does not.
                self.finished.push(Text { tokens, value: self.score(value, length) });
            }
        }
        running.truncate(beams);
        // Stable: of equal scores, the one that was there first stays.
        self.finished.sort_by(|a, b| b.value.total_cmp(&a.value));
        self.finished.truncate(beams);
        self.running = running;
        let hopeful = self.running.first().map(|best| self.score(best.value, length));
        let worst = self.finished.last().map(|text| text.value);
        if self.finished.len() == beams && hopeful <= worst {
            self.running.clear();
        }
    }

    fn score(&self, sum: f32, length: usize) -> f32 {
        sum / (length as f64).powf(self.decoding.length_penalty) as f32
    }

    /// The best `2 · beams` continuations, the best first: since one token ends a text, at least `beams` of so many go on.
    fn candidates(&self, logits: &[Vec<f32>]) -> Vec<Candidate> {
        let most = 2 * self.decoding.beams;
        let mut best: Vec<Candidate> = Vec::with_capacity(most + 1);
        for (beam, (text, logits)) in self.running.iter().zip(logits).enumerate() {
            let (banned, normaliser) = (self.banned(&text.tokens), log_sum_exp(logits));
            for (token, &logit) in (0u32..).zip(logits) {
                let value = (f64::from(logit) - normaliser) as f32 + text.value;
                // Also where it is NaN.
                let possible = value > f32::NEG_INFINITY;
                let full = best.len() == most;
                if !possible || (full && value <= best[most - 1].value) || banned.contains(&token) {
                    continue;
                }
                let place = best.partition_point(|other| other.value.total_cmp(&value) != Ordering::Less);
                best.insert(place, Candidate { value, beam, token });
                best.truncate(most);
            }
        }
        best
    }

    /// Tokens that would complete an n-gram for the second time.
    fn banned(&self, tokens: &[u32]) -> BTreeSet<u32> {
        let n = self.decoding.no_repeat_ngram;
        let text = [self.prompt, tokens].concat();
        if n == 0 || text.len() + 1 < n {
            return BTreeSet::new();
        }
        let last = &text[text.len() + 1 - n..];
        text.windows(n).filter(|ngram| ngram.starts_with(last)).map(|ngram| ngram[n - 1]).collect()
    }
}

/// A continuation of a running text.
struct Candidate {
    /// Sum of log-probabilities, the token's included.
    value: f32,
    beam: usize,
    token: u32,
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let greatest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 =
        logits.iter().filter(|logit| !logit.is_nan()).map(|&logit| (f64::from(logit) - greatest).exp()).sum();
    greatest + sum.ln()
}
