//! Text to token ids in the form RoBERTa was pretrained on: `<s> A </s>` and `<s> A </s></s> B </s>`.

use std::collections::BTreeSet;

use crate::error::DataError;
use crate::language::lexicon::lexicon;
use crate::language::render::FUNCTION_WORDS;

/// Special tokens before the words; `<mask>` follows the words, as in RoBERTa.
const LEADING: [&str; 4] = ["<s>", "<pad>", "</s>", "<unk>"];
const MASK: &str = "<mask>";

/// A tokenizer with RoBERTa's special tokens.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    start: u32,
    pad: u32,
    end: u32,
    unknown: u32,
    mask: u32,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. Truncation and padding stored in the file are ignored.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DataError> {
        let inner = tokenizers::Tokenizer::from_bytes(bytes);
        let mut inner = inner.map_err(|e| DataError::Tokenizer { reason: e.to_string() })?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| DataError::Tokenizer { reason: e.to_string() })?;
        let id = |token: &'static str| inner.token_to_id(token).ok_or(DataError::MissingToken { token });
        let (start, pad, end, unknown, mask) = (id("<s>")?, id("<pad>")?, id("</s>")?, id("<unk>")?, id(MASK)?);
        Ok(Self { inner, start, pad, end, unknown, mask })
    }

    /// Token ids with special tokens, at most `max_len`. The longer text is shortened first; of equal texts, the second.
    pub fn encode(&self, first: &str, second: Option<&str>, max_len: usize) -> Result<Vec<u32>, DataError> {
        let special = if second.is_some() { 4 } else { 2 };
        if max_len <= special {
            return Err(DataError::TooShort { max_len, special });
        }
        let mut a = self.words(first)?;
        let mut b = second.map(|text| self.words(text)).transpose()?.unwrap_or_default();
        while a.len() + b.len() + special > max_len {
            let longer = if a.len() > b.len() { &mut a } else { &mut b };
            longer.pop();
        }
        let mut ids = vec![self.start];
        ids.extend(a);
        ids.push(self.end);
        if second.is_some() {
            ids.push(self.end);
            ids.extend(b);
            ids.push(self.end);
        }
        Ok(ids)
    }

    fn words(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|e| DataError::Tokenizer { reason: e.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Id of `<s>`.
    pub fn start_id(&self) -> u32 {
        self.start
    }

    /// Id of `<pad>`.
    pub fn pad_id(&self) -> u32 {
        self.pad
    }

    /// Id of `</s>`.
    pub fn end_id(&self) -> u32 {
        self.end
    }

    /// Id of `<unk>`.
    pub fn unknown_id(&self) -> u32 {
        self.unknown
    }

    /// Id of `<mask>`.
    pub fn mask_id(&self) -> u32 {
        self.mask
    }

    /// Ids of all five special tokens.
    pub fn special_ids(&self) -> [u32; 5] {
        [self.start, self.pad, self.end, self.unknown, self.mask]
    }

    /// Number of tokens, specials included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The token of an id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }
}

/// Every token of the language by id: specials, punctuation and words in alphabetical order, `<mask>`.
pub fn vocabulary() -> Vec<String> {
    let forms = lexicon().forms().into_iter().map(|(form, _)| form);
    let words: BTreeSet<&str> = FUNCTION_WORDS.split_whitespace().chain(forms).collect();
    LEADING.into_iter().chain(words).chain([MASK]).map(str::to_owned).collect()
}

/// The `tokenizer.json` of the language: one token per word. Every byte is fixed by the vocabulary.
pub fn build_tokenizer_json() -> String {
    let vocabulary = vocabulary();
    let is_special = |token: &str| LEADING.contains(&token) || token == MASK;
    let special = |(id, token): (usize, &String)| {
        let lstrip = token == MASK;
        is_special(token).then(|| {
            format!(
                r#"    {{"id": {id}, "content": "{token}", "single_word": false, "lstrip": {lstrip}, "rstrip": false, "normalized": false, "special": true}}"#
            )
        })
    };
    let added: Vec<String> = vocabulary.iter().enumerate().filter_map(special).collect();
    let word = |(id, token): (usize, &String)| format!("      \"{token}\": {id}");
    let words: Vec<String> = vocabulary.iter().enumerate().map(word).collect();
    TEMPLATE.replace("ADDED", &added.join(",\n")).replace("WORDS", &words.join(",\n"))
}

/// Written out rather than built as a JSON value: the key order of such a value depends on features that other crates turn on.
const TEMPLATE: &str = r#"{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [
ADDED
  ],
  "normalizer": {"type": "Lowercase"},
  "pre_tokenizer": {"type": "Whitespace"},
  "post_processor": {
    "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": false
  },
  "decoder": null,
  "model": {
    "type": "WordLevel",
    "vocab": {
WORDS
    },
    "unk_token": "<unk>"
  }
}
"#;
