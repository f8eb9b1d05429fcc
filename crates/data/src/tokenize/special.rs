//! The parts that special tokens play: named by `tokenizer_config.json`, or found under the names that models give them.

use serde_json::Value;

use crate::error::DataError;

/// What a special token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Stands first.
    Start,
    /// Fills rows up.
    Pad,
    /// Stands last.
    End,
    /// Stands for what the vocabulary lacks.
    Unknown,
    /// Stands for what the model must restore.
    Mask,
}

impl Role {
    const ALL: [Self; 5] = [Self::Start, Self::Pad, Self::End, Self::Unknown, Self::Mask];

    /// Names in use, in the order in which they are tried: RoBERTa and Llama, BERT, GPT-2, Llama 3, Gemma.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Start => &["<s>", "[CLS]", "<|begin_of_text|>", "<bos>", "<|endoftext|>"],
            Self::Pad => &["<pad>", "[PAD]"],
            // A vocabulary may have several; the one that ends documents comes first.
            Self::End => &["<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>", "[SEP]"],
            Self::Unknown => &["<unk>", "[UNK]"],
            Self::Mask => &["<mask>", "[MASK]"],
        }
    }

    /// Keys of `tokenizer_config.json`, in the order in which they are tried.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Start => &["bos_token", "cls_token"],
            Self::Pad => &["pad_token"],
            Self::End => &["eos_token", "sep_token"],
            Self::Unknown => &["unk_token"],
            Self::Mask => &["mask_token"],
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Start => "begin a text with",
            Self::Pad => "pad with",
            Self::End => "end a text with",
            Self::Unknown => "put for unknown words",
            Self::Mask => "mask with",
        }
    }
}

/// Fields of `tokenizer_config.json` that name a token.
pub(super) const SPECIAL_TOKENS: &[&str] =
    &["bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token"];

/// The id of every role that has one.
#[derive(Clone, Debug, Default)]
pub(super) struct Roles {
    ids: [Option<u32>; 5],
}

impl Roles {
    /// Looks up the tokens that `config` names, and for the other roles the usual names.
    pub(super) fn find(config: Option<&Value>, id: impl Fn(&str) -> Option<u32>) -> Self {
        let named = |role: Role| role.keys().iter().find_map(|key| token(config?, key)).and_then(|name| id(&name));
        let usual = |role: Role| role.names().iter().find_map(|name| id(name));
        let mut ids = Role::ALL.map(|role| named(role).or_else(|| usual(role)));
        // Padding is masked, so that any token serves.
        ids[Role::Pad as usize] = ids[Role::Pad as usize].or(ids[Role::End as usize]);
        Self { ids }
    }

    pub(super) fn id(&self, role: Role) -> Result<u32, DataError> {
        let tried = || {
            let fallback = if role == Role::Pad { Role::End.names() } else { &[] };
            let names: Vec<String> = role.names().iter().chain(fallback).map(|name| format!("`{name}`")).collect();
            DataError::MissingToken { tried: names.join(" or "), purpose: role.purpose(), key: role.keys()[0] }
        };
        self.ids[role as usize].ok_or_else(tried)
    }
}

/// The token under a key of `tokenizer_config.json`: a string, or an object with its `content`.
pub(crate) fn token(config: &Value, key: &str) -> Option<String> {
    let value = &config[key];
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}
