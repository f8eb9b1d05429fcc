//! Lines `context||completion`, the form of the E2E data in Microsoft's `loralib` (`examples/NLG/data/e2e`).
//!
//! `loralib` encodes a line as `context, bos, " " + completion, eos`, context and completion tokenised apart, and learns the
//! completion and `eos` (`gpt2_encode.py` with `--add_bos --add_eos`; `FT_Dataset` of `data_utils.py`). For GPT-2, `bos` and `eos`
//! are both `<|endoftext|>`. So does this module, with the tokenizer's start and end tokens.
//!
//! Departs from it: a line with more than one `||` is refused, where `format_converting_e2e.py` drops the rest.

use crate::batch::{Encoded, EncodedSet};
use crate::causal::{Encoder, Item, at, of, utf8};
use crate::error::DataError;

/// A prompt and what should follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPair {
    /// The context.
    pub prompt: String,
    /// The text to learn.
    pub completion: String,
    /// Texts to compare a generation with; the completion is the first.
    pub references: Vec<String>,
    /// The line of the file, from 1.
    pub line: usize,
}

/// One pair per line; blank lines are skipped.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Vec<TextPair>, DataError> {
    let text = utf8(file, bytes)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let pairs: Vec<TextPair> = lines.map(|(i, line)| parse_line(file, i + 1, line)).collect::<Result<_, _>>()?;
    if pairs.is_empty() {
        return Err(of(file, "has no lines", "give at least one line `context||completion`"));
    }
    Ok(pairs)
}

fn parse_line(file: &str, line: usize, text: &str) -> Result<TextPair, DataError> {
    let parts: Vec<&str> = text.trim().split("||").collect();
    let [prompt, completion] = parts[..] else {
        let problem = format!("found {} `||`, but a line is `context||completion`", parts.len() - 1);
        return Err(at(file, line, &problem, "separate context and completion by one `||`"));
    };
    if prompt.is_empty() || completion.is_empty() {
        let side = if prompt.is_empty() { "context" } else { "completion" };
        return Err(at(file, line, &format!("the {side} is empty"), "fill it in or drop the line"));
    }
    let references = vec![completion.trim().to_owned()];
    Ok(TextPair { prompt: prompt.to_owned(), completion: completion.to_owned(), references, line })
}

/// Consecutive pairs with the same context as one, with the references of all: the items of development and test files.
pub fn group(pairs: Vec<TextPair>) -> Vec<TextPair> {
    let mut items: Vec<TextPair> = Vec::new();
    for mut pair in pairs {
        match items.last_mut() {
            Some(last) if last.prompt == pair.prompt => last.references.append(&mut pair.references),
            _ => items.push(pair),
        }
    }
    items
}

impl Encoder<'_> {
    /// `context, bos, " " + completion, eos`, of which completion and `eos` are learnt.
    pub fn pair(&self, pair: &TextPair) -> Result<Encoded, DataError> {
        self.limited(self.pair_item(pair)?)
    }

    fn pair_item(&self, pair: &TextPair) -> Result<Item, DataError> {
        let mut ids = self.pair_prompt(pair)?;
        let prompt = ids.len();
        ids.extend(self.tokenizer.encode_plain(&format!(" {}", pair.completion), false)?);
        ids.push(self.tokenizer.end_id()?);
        let targets = (0..ids.len()).map(|i| i >= prompt).collect();
        Ok(Item { line: pair.line, ids, targets })
    }

    /// Every pair, in order.
    pub fn pairs(&self, pairs: &[TextPair]) -> Result<EncodedSet, DataError> {
        self.set(pairs.iter().map(|pair| self.pair_item(pair)))
    }

    /// What a generation starts from: `context, bos`, whole.
    pub fn pair_prompt(&self, pair: &TextPair) -> Result<Vec<u32>, DataError> {
        let mut ids = self.tokenizer.encode_plain(&pair.prompt, false)?;
        ids.push(self.tokenizer.start_id()?);
        Ok(ids)
    }
}
