//! Exact match of answers.
//!
//! The answer of a text is what the expression's capture group holds at its last match (the number of GSM8K's `#### 42`), or without
//! an expression the whole text; either is trimmed.

use regex::Regex;

use crate::causal::of;
use crate::error::DataError;

/// Where the answer of a text stands.
#[derive(Clone, Debug, Default)]
pub struct AnswerPattern {
    expression: Option<Regex>,
}

impl AnswerPattern {
    /// Reads an expression with one capture group. [`AnswerPattern::default`] takes the whole text.
    pub fn new(pattern: &str) -> Result<Self, DataError> {
        const WAY_OUT: &str = "write one group round the answer, as in `#### (.+)`";
        let expression = Regex::new(pattern);
        let expression =
            expression.map_err(|e| of("answer_pattern", &format!("`{pattern}` is refused: {e}"), WAY_OUT))?;
        let groups = expression.captures_len() - 1;
        if groups != 1 {
            let problem = format!("`{pattern}` has {groups} capture groups, but must have 1");
            return Err(of("answer_pattern", &problem, WAY_OUT));
        }
        Ok(Self { expression: Some(expression) })
    }

    /// The answer of a text, if it has one.
    pub fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        let Some(expression) = &self.expression else {
            return Some(text.trim());
        };
        expression.captures_iter(text).last()?.get(1).map(|group| group.as_str().trim())
    }
}

/// Share of generations whose answer is the reference's, each text's found by `pattern`; NaN for none.
///
/// A generation without an answer is wrong; a reference without one is an error.
pub fn exact_match(
    pattern: &AnswerPattern,
    generations: &[impl AsRef<str>],
    references: &[impl AsRef<str>],
) -> Result<f64, DataError> {
    let references: Vec<Vec<&str>> = references.iter().map(|reference| vec![reference.as_ref()]).collect();
    exact_match_of_any(pattern, generations, &references)
}

/// [`exact_match`] with several references per generation, one of which it has to match.
pub fn exact_match_of_any(
    pattern: &AnswerPattern,
    generations: &[impl AsRef<str>],
    references: &[Vec<impl AsRef<str>>],
) -> Result<f64, DataError> {
    assert_eq!(generations.len(), references.len(), "one list of references per generation");
    let mut hits = 0;
    for (i, (generation, references)) in generations.iter().zip(references).enumerate() {
        let found = pattern.find(generation.as_ref());
        let mut hit = false;
        for reference in references {
            let Some(answer) = pattern.find(reference.as_ref()) else {
                let problem = format!("reference {} has no answer: `{}`", i + 1, reference.as_ref());
                return Err(of("answer_pattern", &problem, "mend the expression or the reference"));
            };
            hit |= found == Some(answer);
        }
        hits += usize::from(hit);
    }
    Ok(hits as f64 / references.len() as f64)
}
