//! A model's files as they lie, for whoever writes another checkpoint of them.

use std::path::Path;

use models::{
    catalog,
    config::{Config, Purpose},
    safetensors::{self, Stored},
    weights::{Weights, canonical},
};

use super::{
    CHAT_TEMPLATE, CONFIG, Origin, TOKENIZER, TOKENIZER_CONFIG, absent, finder, foreign, model, shards, tensors,
};
use crate::{
    error::AssetError,
    file::{self, CONFIGURATION, TOKENS},
};

/// Files that a tokenizer may consist of, and the settings of generation.
const BESIDE: [&str; 12] = [
    TOKENIZER,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    CHAT_TEMPLATE,
    GENERATION,
];

/// Settings of generation, which a causal model has.
pub const GENERATION: &str = "generation_config.json";

/// What transformers needs to know of the embedded models' tokenizer, which says the rest itself: its words are whole, so the class
/// that RoBERTa's `model_type` stands for is another.
const EMBEDDED_TOKENIZER: &[u8] = br#"{
  "tokenizer_class": "PreTrainedTokenizerFast",
  "model_input_names": ["input_ids", "attention_mask"],
  "bos_token": "<s>",
  "cls_token": "<s>",
  "eos_token": "</s>",
  "sep_token": "</s>",
  "pad_token": "<pad>",
  "unk_token": "<unk>",
  "mask_token": "<mask>"
}
"#;

/// A model's files.
#[derive(Debug)]
pub struct Files {
    /// config.json
    pub config: Vec<u8>,
    /// What else belongs to it, by name.
    pub beside: Vec<(String, Vec<u8>)>,
    /// Every tensor, those of shards joined.
    pub tensors: Vec<Stored>,
}

/// Reads the files of a model, downloading what is missing.
pub fn files(name: &str) -> Result<Files, AssetError> {
    if let Some(absent) = absent(name, None) {
        return Err(absent);
    }
    let find = match model(name)? {
        Origin::Embedded(name) => return embedded(name),
        other => finder(other),
    };
    let need = |file: &str| {
        find(file)?.ok_or_else(|| foreign(Path::new(name), format!("`{file}` is missing; it lies beside every model")))
    };
    let mut all =
        Files { config: file::bounded(&need(CONFIG)?, CONFIGURATION)?, beside: Vec::new(), tensors: Vec::new() };
    for file in BESIDE {
        if let Some(path) = find(file)? {
            all.beside.push((file.to_owned(), file::bounded(&path, TOKENS)?));
        }
    }
    for path in shards(&need, &find)? {
        all.tensors.extend(stored(&tensors(&path)?, &path)?);
    }
    Ok(all)
}

/// Every tensor of a safetensors file, under the name that transformers has for it now.
fn stored(content: &[u8], path: &Path) -> Result<Vec<Stored>, AssetError> {
    let file = safetensors::read(content).map_err(|error| foreign(path, format!("not a safetensors file: {error}")))?;
    let named = |stored: Stored| Stored { name: canonical(&stored.name), ..stored };
    Ok(file.into_stored().into_iter().map(named).collect())
}

fn embedded(name: &str) -> Result<Files, AssetError> {
    let found = catalog::find(name)?;
    let tensors = match found.weights {
        Some(content) => stored(content, Path::new(name))?,
        None => drawn(&found.config()?, &found.weights()?),
    };
    let beside = vec![
        (TOKENIZER.to_owned(), found.tokenizer.to_vec()),
        (TOKENIZER_CONFIG.to_owned(), EMBEDDED_TOKENIZER.to_vec()),
    ];
    Ok(Files { config: found.config.to_vec(), beside, tensors })
}

/// A model whose weights lie in no file, as its file would be.
fn drawn(config: &Config, weights: &Weights) -> Vec<Stored> {
    let one = |wanted: models::weights::Wanted| {
        let prefix = if wanted.name.starts_with("lm_head.") { "" } else { config.base_prefix() };
        let numbers = weights.get(&wanted.name).iter().copied();
        Stored::of(format!("{prefix}{}", wanted.name), wanted.shape, numbers)
    };
    config.wanted(Purpose::FillMasks).into_iter().map(one).collect()
}
