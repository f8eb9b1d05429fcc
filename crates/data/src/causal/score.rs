//! Metrics of generated texts.

use std::collections::BTreeMap;

use crate::bleu::{Tokenization, corpus_bleu};
use crate::causal::answer::{AnswerPattern, exact_match_of_any};
use crate::error::DataError;
use crate::metric::Metric;

/// Those of `metrics` that compare `generations: [n]` with the `references` of each, one or more, by the metric's name.
///
/// Like every metric here, `bleu` is in 0..=1, a hundredth of what `sacrebleu` reports with its tokenisation `13a`; so is
/// `exact_match`, where one of the references has to have the answer that `answer` finds, or without it be the text. Perplexity comes
/// from the model's loss and is left out. No texts give NaN.
pub fn of_texts(
    metrics: &[Metric],
    answer: Option<&str>,
    generations: &[String],
    references: &[Vec<String>],
) -> Result<BTreeMap<String, f64>, DataError> {
    let pattern = answer.map(AnswerPattern::new).transpose()?.unwrap_or_default();
    let mut values = BTreeMap::new();
    for metric in metrics {
        let value = match metric {
            Metric::Bleu if generations.is_empty() => f64::NAN,
            Metric::Bleu => corpus_bleu(generations, references, Tokenization::V13a)?.score / 100.0,
            Metric::ExactMatch => exact_match_of_any(&pattern, generations, references)?,
            Metric::Perplexity => continue,
            other => unreachable!("`check` refuses `{other}` for a text task"),
        };
        values.insert(metric.to_string(), value);
    }
    Ok(values)
}
