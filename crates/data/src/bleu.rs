//! Corpus BLEU as `sacrebleu` defines it, in 0..=100.
//!
//! `BLEU = BP · exp(¼ Σ_{n=1..4} ln p_n)`, where `p_n = 100 · matched / total` counts the n-grams of all segments, each matched at
//! most as often as in that one of its references that has most; `BP = exp(1 - r/c)` if the `c` tokens of the hypotheses are fewer
//! than `r`, the sum over segments of the reference length nearest to the hypothesis (the shorter of two). An order without a match
//! is smoothed to `100 / (2^k · total)` at the `k`-th such order (`exp`, the default); no match at all, or an order without n-grams,
//! gives 0, since the effective order is off.
//!
//! Papineni et al., *BLEU*, ACL 2002; Post, *A Call for Clarity in Reporting BLEU Scores*, WMT 2018, arXiv:1804.08771.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use crate::error::DataError;

const ORDERS: usize = 4;

/// How a segment becomes tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tokenization {
    /// As `mteval-v13a.pl`: punctuation apart.
    #[default]
    V13a,
    /// At white space alone.
    None,
}

/// A score and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Bleu {
    /// The score, 0..=100.
    pub score: f64,
    /// Matched n-grams by order, `[4]`.
    pub counts: [u64; ORDERS],
    /// N-grams of the hypotheses by order, `[4]`.
    pub totals: [u64; ORDERS],
    /// Brevity penalty, 0..=1.
    pub bp: f64,
    /// Tokens of the hypotheses.
    pub sys_len: u64,
    /// Tokens of the nearest references.
    pub ref_len: u64,
}

/// BLEU of `hypotheses: [segments]` against the references of each segment, one or more.
pub fn corpus_bleu(
    hypotheses: &[impl AsRef<str>],
    references: &[Vec<impl AsRef<str>>],
    tokenization: Tokenization,
) -> Result<Bleu, DataError> {
    assert_eq!(hypotheses.len(), references.len(), "one list of references per hypothesis");
    let (mut counts, mut totals, mut sys_len, mut ref_len) = ([0; ORDERS], [0; ORDERS], 0, 0);
    for (i, (hypothesis, references)) in hypotheses.iter().zip(references).enumerate() {
        let hypothesis = tokens(hypothesis.as_ref(), tokenization);
        let references: Vec<_> = references.iter().map(|r| tokens(r.as_ref(), tokenization)).collect();
        let distance = |length: &usize| (length.abs_diff(hypothesis.len()), *length);
        let nearest = references.iter().map(Vec::len).min_by_key(distance).ok_or_else(|| DataError::Text {
            place: "bleu".to_owned(),
            problem: format!("segment {} has no reference", i + 1),
            way_out: "give every segment at least one".to_owned(),
        })?;
        sys_len += hypothesis.len() as u64;
        ref_len += nearest as u64;
        for n in 1..=ORDERS {
            let references: Vec<_> = references.iter().map(|reference| ngrams(reference, n)).collect();
            for (ngram, count) in ngrams(&hypothesis, n) {
                let most = references.iter().filter_map(|reference| reference.get(ngram)).max().copied().unwrap_or(0);
                counts[n - 1] += count.min(most);
                totals[n - 1] += count;
            }
        }
    }
    let bp = brevity_penalty(sys_len, ref_len);
    Ok(Bleu { score: bp * mean_precision(counts, totals), counts, totals, bp, sys_len, ref_len })
}

fn brevity_penalty(sys_len: u64, ref_len: u64) -> f64 {
    match sys_len {
        _ if sys_len >= ref_len => 1.0,
        0 => 0.0,
        _ => (1.0 - ref_len as f64 / sys_len as f64).exp(),
    }
}

/// Geometric mean of the smoothed precisions, 0..=100.
fn mean_precision(counts: [u64; ORDERS], totals: [u64; ORDERS]) -> f64 {
    if counts == [0; ORDERS] || totals.contains(&0) {
        return 0.0;
    }
    let mut unmatched = 1.0;
    let logarithms = counts.iter().zip(totals).map(|(&count, total)| {
        let matched = if count == 0 {
            unmatched *= 2.0;
            1.0 / unmatched
        } else {
            count as f64
        };
        (100.0 * matched / total as f64).ln()
    });
    (logarithms.sum::<f64>() / ORDERS as f64).exp()
}

fn ngrams(tokens: &[String], n: usize) -> HashMap<&[String], u64> {
    let mut counts = HashMap::new();
    for ngram in tokens.windows(n) {
        *counts.entry(ngram).or_insert(0) += 1;
    }
    counts
}

/// Substitutions of `sacrebleu`'s `tokenizer_re.py`, in order: symbols; period and comma unless after a digit; unless before one;
/// a dash after a digit.
static SUBSTITUTIONS: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    [
        (r"([\{-~\[-` -&\(-\+:-@/])", " $1 "),
        (r"([^0-9])([\.,])", "$1 $2 "),
        (r"([\.,])([^0-9])", " $1 $2"),
        (r"([0-9])(-)", "$1 $2 "),
    ]
    .map(|(expression, by)| {
        (Regex::new(expression).unwrap_or_else(|e| unreachable!("the expression is fixed: {e}")), by)
    })
});

fn tokens(segment: &str, tokenization: Tokenization) -> Vec<String> {
    // Python also splits at the four separators of ASCII.
    let is_space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    let segment = segment.trim_end_matches(is_space);
    let line = match tokenization {
        Tokenization::None => segment.to_owned(),
        Tokenization::V13a => {
            let line = segment.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
            let line = line.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
            SUBSTITUTIONS
                .iter()
                .fold(format!(" {line} "), |line, (expression, by)| expression.replace_all(&line, *by).into_owned())
        }
    };
    line.split(is_space).filter(|token| !token.is_empty()).map(str::to_owned).collect()
}
