//! Text to token ids by a `tokenizer.json`, framed as that file says.
//!
//! | family | one text | two texts | types |
//! |---|---|---|---|
//! | RoBERTa | `<s> A </s>` | `<s> A </s></s> B </s>` | 0 |
//! | BERT | `[CLS] A [SEP]` | `[CLS] A [SEP] B [SEP]` | 0, and 1 from `B` on |
//! | GPT-2 | `A` | `A B` | 0, and 1 from `B` on |
//! | Llama | `<s> A` | `<s> A <s> B` | as the file says |
//!
//! Truncation takes tokens off the right end, or off the left one where `truncation_side` says so, one at a time, from the longer text,
//! or from the second of equal ones. That is what `truncate_sequences` of `transformers` does. `tokenizers` differs in one case. Where
//! both texts are cut to an odd number of tokens, the odd one is the first text's here and in `transformers`; in `tokenizers` it is the
//! second's unless the first is the longer, both counted up to `max_len`.

pub mod fields;
pub mod special;

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::PostProcessor;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::tokenizer::{AddedToken, Encoding as Raw, Token};
use tokenizers::utils::truncation::TruncationDirection;

use crate::error::DataError;
use crate::foreign::quietly;
use crate::language::lexicon::lexicon;
use crate::language::render::FUNCTION_WORDS;
use crate::tokenize::fields::Facts;
use crate::tokenize::special::{Role, Roles, SPECIAL_TOKENS};

/// Special tokens before the words; `<mask>` follows the words, as in RoBERTa.
const LEADING: [&str; 4] = ["<s>", "<pad>", "</s>", "<unk>"];
const MASK: &str = "<mask>";

/// Tokens of a text or of a pair of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids with special tokens, `[length]`.
    pub ids: Vec<u32>,
    /// Type ids: which text a token belongs to, where the family tells them apart, `[length]`.
    pub types: Vec<u32>,
    /// Tokens that the length limit has cut off.
    pub truncated: usize,
}

/// A tokenizer with the frame of its file.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    /// Without its post-processor, which would trim the offsets that [`Tokenizer::spans`] gives.
    inner: tokenizers::Tokenizer,
    frame: Option<PostProcessorWrapper>,
    roles: Roles,
    special: Vec<u32>,
    side: TruncationDirection,
    notes: Vec<String>,
}

/// The part of a `tokenizer.json` at which `tokenizers` panics where it is no JSON, a cut or a lone surrogate; read by itself first.
#[derive(Deserialize)]
struct Outline {
    #[serde(default, rename = "decoder")]
    _decoder: serde_json::Value,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. Padding stored in the file is ignored, and so is truncation but for its direction.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DataError> {
        let _: Outline = serde_json::from_slice(bytes).map_err(refused)?;
        // The builder of BPE indexes past the end of tokens that its merges do not fit.
        let read = quietly(|| tokenizers::Tokenizer::from_bytes(bytes));
        let mut inner = read
            .ok_or_else(|| refused("its parts do not fit one another, such as merges and tokens"))?
            .map_err(refused)?;
        let side = inner.get_truncation().map_or(TruncationDirection::Right, |truncation| truncation.direction);
        inner.with_padding(None);
        inner.with_truncation(None).map_err(refused)?;
        let frame = inner.get_post_processor().cloned();
        inner.with_post_processor(None::<PostProcessorWrapper>);
        let added = inner.get_added_tokens_decoder();
        let special: BTreeSet<u32> = added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id).collect();
        let roles = Roles::find(None, |token| inner.token_to_id(token));
        let special = special.into_iter().collect();
        Ok(Self { inner, frame, roles, special, side, notes: Vec::new() })
    }

    /// Takes the special tokens that a `tokenizer_config.json` names, where the vocabulary has them, instead of the usual names, and the
    /// side on which texts are cut. Whatever else it says of how texts become tokens must agree with `tokenizer.json` ([`fields`]).
    pub fn with_config(mut self, config: &[u8]) -> Result<Self, DataError> {
        let config = read_config(config)?;
        self.roles = Roles::find(Some(&config), |token| self.inner.token_to_id(token));
        let sifted = fields::sift(&config, &self.facts(&config)?)?;
        if let Some(left) = sifted.cuts_left {
            self.side = if left { TruncationDirection::Left } else { TruncationDirection::Right };
        }
        self.notes = sifted.notes;
        Ok(self)
    }

    /// What a configuration is compared with.
    fn facts(&self, config: &Value) -> Result<Facts, DataError> {
        let json = |part: Result<Value, serde_json::Error>| part.map_err(refused);
        let (before, after) = self.around()?;
        let is_in = |role: Role, ids: &[u32]| self.roles.id(role).ok().map(|id| ids.contains(&id));
        let lacks = |field: &&'static str| {
            let token = special::token(config, field).filter(|token| self.id(token).is_none());
            Some((*field, token?))
        };
        Ok(Facts {
            adds_start: is_in(Role::Start, &before),
            adds_end: is_in(Role::End, &after),
            normalizer: json(serde_json::to_value(self.inner.get_normalizer()))?,
            pre_tokenizer: json(serde_json::to_value(self.inner.get_pre_tokenizer()))?,
            added: self.inner.get_added_tokens_decoder().values().map(added).collect(),
            missing: SPECIAL_TOKENS.iter().filter(|field| **field != "pad_token").filter_map(lacks).collect(),
        })
    }

    /// What a `tokenizer_config.json` says that is passed over.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether long texts lose their beginning.
    pub fn cuts_left(&self) -> bool {
        matches!(self.side, TruncationDirection::Left)
    }

    /// Tokens in the frame of the file, at most `max_len`. The longer text is shortened first; of equal texts, the second.
    ///
    /// Where neither the texts nor the frame give a token, the end token stands for them: a model reads at least one.
    pub fn encode(&self, first: &str, second: Option<&str>, max_len: usize) -> Result<Encoding, DataError> {
        let special = self.frame.as_ref().map_or(0, |frame| frame.added_tokens(second.is_some()));
        if max_len <= special {
            return Err(DataError::TooShort { max_len, special });
        }
        let mut a = self.raw(first)?;
        let mut b = second.map(|text| self.raw(text)).transpose()?;
        let (mut n_a, mut n_b) = (a.len(), b.as_ref().map_or(0, Raw::len));
        let all = n_a + n_b;
        while n_a + n_b + special > max_len {
            *(if n_a > n_b { &mut n_a } else { &mut n_b }) -= 1;
        }
        cut(&mut a, n_a, self.side);
        if let Some(b) = &mut b {
            cut(b, n_b, self.side);
        }
        let encoding = Encoding { truncated: all - n_a - n_b, ..self.framed(a, b)? };
        if !encoding.ids.is_empty() {
            return Ok(encoding);
        }
        let end = self.end_id().map_err(|_| DataError::NothingToRead { row: None })?;
        Ok(Encoding { ids: vec![end], types: vec![0], truncated: 0 })
    }

    /// Token ids of a text, whole, with or without the frame.
    pub fn encode_plain(&self, text: &str, add_special: bool) -> Result<Vec<u32>, DataError> {
        let raw = self.raw(text)?;
        if add_special { Ok(self.framed(raw, None)?.ids) } else { Ok(raw.get_ids().to_vec()) }
    }

    /// The text of token ids, with or without special tokens. Ids beyond the vocabulary, which a padded embedding can give, are
    /// left out.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, DataError> {
        self.inner.decode(ids, skip_special).map_err(|e| DataError::Text {
            place: "tokenizer".to_owned(),
            problem: format!("decoding failed: {e}"),
            way_out: "use the tokenizer.json saved beside the model's weights".to_owned(),
        })
    }

    /// Every token of a text without the frame, and the bytes of the text that it stands for, `[length]`.
    pub(crate) fn spans(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, DataError> {
        let raw = self.inner.encode(text, false).map_err(refused)?;
        Ok(raw.get_ids().iter().copied().zip(raw.get_offsets().iter().map(|&(start, end)| start..end)).collect())
    }

    /// The ids that the frame puts before a text.
    pub(crate) fn leading(&self) -> Result<Vec<u32>, DataError> {
        Ok(self.around()?.0)
    }

    /// The ids that the frame puts before a text, and those that it puts after it.
    fn around(&self) -> Result<(Vec<u32>, Vec<u32>), DataError> {
        const TEXT: u32 = u32::MAX;
        let framed = self.framed(Raw::from_tokens(vec![Token::new(TEXT, "a".to_owned(), (0, 1))], 0), None)?;
        let mut parts = framed.ids.split(|&id| id == TEXT).map(<[u32]>::to_vec);
        Ok((parts.next().unwrap_or_default(), parts.next().unwrap_or_default()))
    }

    fn raw(&self, text: &str) -> Result<Raw, DataError> {
        self.inner.encode_fast(text, false).map_err(refused)
    }

    fn framed(&self, a: Raw, b: Option<Raw>) -> Result<Encoding, DataError> {
        if let Some(frame) = &self.frame {
            let whole = frame.process(a, b, true).map_err(refused)?;
            let (ids, types) = (whole.get_ids().to_vec(), whole.get_type_ids().to_vec());
            return Ok(Encoding { ids, types, truncated: 0 });
        }
        let second = b.as_ref().map_or(&[][..], Raw::get_ids);
        let types = [vec![0; a.len()], vec![1; second.len()]].concat();
        Ok(Encoding { ids: [a.get_ids(), second].concat(), types, truncated: 0 })
    }

    /// Id of the token that stands first: `<s>`, `[CLS]` or their like.
    pub fn start_id(&self) -> Result<u32, DataError> {
        self.roles.id(Role::Start)
    }

    /// Id to pad with: `<pad>`, `[PAD]`, or else [`Tokenizer::end_id`], since padding is masked.
    pub fn pad_id(&self) -> Result<u32, DataError> {
        self.roles.id(Role::Pad)
    }

    /// Id of the token that stands last: `<|endoftext|>`, `</s>`, `[SEP]` or their like.
    pub fn end_id(&self) -> Result<u32, DataError> {
        self.roles.id(Role::End)
    }

    /// Id of `<unk>` or `[UNK]`.
    pub fn unknown_id(&self) -> Result<u32, DataError> {
        self.roles.id(Role::Unknown)
    }

    /// Id of `<mask>` or `[MASK]`.
    pub fn mask_id(&self) -> Result<u32, DataError> {
        self.roles.id(Role::Mask)
    }

    /// Ids of the tokens that the file marks as special, ascending.
    pub fn special_ids(&self) -> &[u32] {
        &self.special
    }

    /// Number of tokens, specials included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The token with the largest id that an encoding can hold, and its id: of the vocabulary, added tokens included, or of the frame, which
    /// has ids of its own.
    pub fn largest_id(&self) -> Result<Option<(String, u32)>, DataError> {
        let of_words =
            self.inner.get_vocab(true).into_iter().max_by(|(a, id), (b, other)| id.cmp(other).then(b.cmp(a)));
        let frames = [self.frame_tokens(false)?, self.frame_tokens(true)?];
        let of_frames =
            frames.iter().flat_map(|frame| frame.get_tokens().iter().cloned().zip(frame.get_ids().iter().copied()));
        Ok(of_words.into_iter().chain(of_frames).max_by_key(|(_, id)| *id))
    }

    /// The largest type of a token.
    pub fn largest_type(&self) -> Result<u32, DataError> {
        let pair = self.frame_tokens(true)?;
        Ok(pair.get_type_ids().iter().copied().max().unwrap_or(0))
    }

    /// What stands around a text, or two: the frame of one token of id 0 each.
    fn frame_tokens(&self, pair: bool) -> Result<Raw, DataError> {
        let text = || Raw::from_tokens(vec![Token::new(0, "a".to_owned(), (0, 1))], 0);
        match &self.frame {
            Some(frame) => frame.process(text(), pair.then(text), true).map_err(refused),
            None => Ok(text()),
        }
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

/// The JSON of a `tokenizer_config.json`.
pub(crate) fn read_config(bytes: &[u8]) -> Result<serde_json::Value, DataError> {
    serde_json::from_slice(bytes).map_err(|e| DataError::Text {
        place: "tokenizer_config.json".to_owned(),
        problem: format!("not JSON: {e}"),
        way_out: "use the file saved beside tokenizer.json".to_owned(),
    })
}

fn refused(error: impl std::fmt::Display) -> DataError {
    DataError::Tokenizer { reason: error.to_string() }
}

/// An added token with the rules by which it is found in a text.
fn added(token: &AddedToken) -> Value {
    let AddedToken { content, single_word, lstrip, rstrip, normalized, .. } = token;
    serde_json::json!({
        "content": content, "single_word": single_word, "lstrip": lstrip, "rstrip": rstrip, "normalized": normalized
    })
}

/// Keeps `length` tokens, the last ones where the left side is cut; what is cut off would otherwise be framed too.
fn cut(raw: &mut Raw, length: usize, side: TruncationDirection) {
    raw.truncate(length, 0, side);
    raw.set_overflowing(Vec::new());
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
