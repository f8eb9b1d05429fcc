//! A model's files as they lie, for whoever writes another checkpoint of them.

use std::path::Path;

use models::{
    catalog,
    config::{Config, Purpose},
    safetensors::{self, Stored},
    weights::Weights,
};

use super::{CONFIG, Find, Origin, TOKENIZER, absent, bytes, foreign, model, shards, tensors};
use crate::error::AssetError;

/// Files that a tokenizer may consist of, and the settings of generation.
const BESIDE: [&str; 12] = [
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "chat_template.jinja",
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
    let find: Box<Find> = match model(name)? {
        Origin::Embedded(name) => return embedded(name),
        Origin::Folder(folder) => Box::new(move |file| Ok(Some(folder.join(file)).filter(|path| path.is_file()))),
        Origin::Hub(repository) => Box::new(move |file| repository.fetch(file)),
    };
    let need = |file: &str| {
        find(file)?.ok_or_else(|| foreign(Path::new(name), format!("`{file}` is missing; it lies beside every model")))
    };
    let mut all = Files { config: bytes(&need(CONFIG)?)?, beside: Vec::new(), tensors: Vec::new() };
    for file in BESIDE {
        if let Some(path) = find(file)? {
            all.beside.push((file.to_owned(), bytes(&path)?));
        }
    }
    for path in shards(&need, &find)? {
        all.tensors.extend(stored(&tensors(&path)?, &path)?);
    }
    Ok(all)
}

/// Every tensor of a safetensors file.
fn stored(content: &[u8], path: &Path) -> Result<Vec<Stored>, AssetError> {
    let file = safetensors::read(content).map_err(|error| foreign(path, format!("not a safetensors file: {error}")))?;
    Ok(file.into_stored())
}

fn embedded(name: &str) -> Result<Files, AssetError> {
    let found = catalog::find(name)?;
    let tensors = match found.weights {
        Some(content) => stored(content, Path::new(name))?,
        None => drawn(&found.config()?, &found.weights()?),
    };
    let beside = vec![
        (TOKENIZER.to_owned(), found.tokenizer.to_vec()),
        ("tokenizer_config.json".to_owned(), EMBEDDED_TOKENIZER.to_vec()),
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
