//! Text for causal language models: which tokens a model reads, and which of them it learns.
//!
//! | module | one sentence |
//! |---|---|
//! | [`pair`] | `context||completion` lines of the E2E data, with several references |
//! | [`block`] | plain text in blocks of equal length |
//! | [`instruction`] | prompts with completions, and conversations, as JSONL |
//! | [`chat`] | conversations as text, by the template of a tokenizer |
//! | [`answer`] | exact match of the answers that an expression finds |
//! | [`decode`] | greedy and beam search over a model that somebody else runs |
//! | [`score`] | metrics of generated texts |
//! | [`task`] | a text task from YAML |
//!
//! A target is a token that the model predicts from those before it. Texts longer than the limit lose tokens on the right; one that
//! keeps no target is refused.

pub mod answer;
pub mod block;
pub mod chat;
pub mod decode;
pub mod instruction;
pub mod pair;
pub mod score;
mod search;
pub mod task;

use crate::batch::{Encoded, EncodedSet};
use crate::causal::chat::ChatTemplate;
use crate::error::DataError;
use crate::tokenize::Tokenizer;

/// What it takes to make tokens of a file's items.
#[derive(Clone, Copy, Debug)]
pub struct Encoder<'a> {
    /// Name of the file, for errors.
    pub file: &'a str,
    /// The tokenizer; [`Tokenizer::with_config`] tells it which token ends a text.
    pub tokenizer: &'a Tokenizer,
    /// Renders conversations; prompts with completions do without.
    pub template: Option<&'a ChatTemplate>,
    /// Greatest number of tokens of an item.
    pub max_len: usize,
}

/// An item's tokens before the length limit.
struct Item {
    /// Its line in the file.
    line: usize,
    /// `[length]`
    ids: Vec<u32>,
    /// Which of them are learnt, `[length]`.
    targets: Vec<bool>,
}

impl Encoder<'_> {
    /// Items of at most `max_len` tokens each.
    fn set(&self, items: impl Iterator<Item = Result<Item, DataError>>) -> Result<EncodedSet, DataError> {
        let mut set = EncodedSet::default();
        for item in items {
            let item = item?;
            set.truncated += usize::from(item.ids.len() > self.max_len);
            set.rows.push(self.limited(item)?);
        }
        Ok(set)
    }

    /// An item of at most `max_len` tokens.
    fn limited(&self, Item { line, mut ids, mut targets }: Item) -> Result<Encoded, DataError> {
        if ids.len() > self.max_len && self.tokenizer.cuts_left() {
            let problem = format!(
                "the item has {} tokens, and {} (max_length) are read; tokenizer_config.json cuts texts on the left (truncation_side), where the \
                 prompts stand",
                ids.len(),
                self.max_len
            );
            return Err(at(
                self.file,
                line,
                &problem,
                "raise max_length, shorten the item, or set truncation_side to `right`",
            ));
        }
        let (length, first) = (ids.len(), targets.iter().position(|&target| target).unwrap_or(targets.len()));
        ids.truncate(self.max_len);
        targets.truncate(self.max_len);
        // Nothing stands before position 0 to predict it from.
        if !targets.iter().skip(1).any(|&target| target) {
            let found = format!("the item has {length} tokens and learns none before token {first}");
            let problem = format!("{found}; the first {} (max_length) leave nothing to learn", self.max_len);
            return Err(at(self.file, line, &problem, "raise max_length or shorten the prompt"));
        }
        Ok(Encoded::causal(ids, targets))
    }
}

/// An error in a line, counted from 1.
fn at(file: &str, line: usize, problem: &str, way_out: &str) -> DataError {
    let place = format!("{file}:{line}");
    DataError::Text { place, problem: problem.to_owned(), way_out: way_out.to_owned() }
}

/// An error of a whole file or of a setting.
fn of(place: &str, problem: &str, way_out: &str) -> DataError {
    DataError::Text { place: place.to_owned(), problem: problem.to_owned(), way_out: way_out.to_owned() }
}

/// The bytes as text, without a byte order mark.
fn utf8<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, DataError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let valid = &bytes[..error.valid_up_to()];
            let line = valid.split(|&byte| byte == b'\n').count();
            let problem = format!("byte `{:#04x}` is not UTF-8", bytes[valid.len()]);
            Err(at(file, line, &problem, "save the file as UTF-8"))
        }
    }
}
