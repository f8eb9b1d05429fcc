//! The models that come with the build.

use crate::{
    config::{Config, Purpose},
    error::ModelError,
    weights::Weights,
};

/// A model's files, as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Embedded {
    /// Name in YAML.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// config.json
    pub config: &'static [u8],
    /// tokenizer.json
    pub tokenizer: &'static [u8],
    /// model.safetensors; `None` where weights are drawn at random.
    pub weights: Option<&'static [u8]>,
}

const CONFIG: &[u8] = include_bytes!("../assets/mini_roberta/config.json");
const TOKENIZER: &[u8] = include_bytes!("../assets/mini_roberta/tokenizer.json");

/// Every embedded model. A static, because every use of a constant has weights of its own.
pub static MODELS: &[Embedded] = &[
    Embedded {
        name: "mini_roberta",
        about: "RoBERTa encoder of 4 layers, d_model 128, pretrained on the suite's language",
        config: CONFIG,
        tokenizer: TOKENIZER,
        weights: Some(include_bytes!("../assets/mini_roberta/model.safetensors")),
    },
    Embedded {
        name: "mini_roberta_random",
        about: "the same architecture with random weights (seed 0), the control without pretraining",
        config: CONFIG,
        tokenizer: TOKENIZER,
        weights: None,
    },
    Embedded {
        name: "story_roberta_128",
        about: "RoBERTa encoder of 4 layers, d_model 128, pretrained on stories that know nothing of the tasks of `unseen`",
        config: include_bytes!("../assets/story_roberta_128/config.json"),
        tokenizer: include_bytes!("../assets/story_roberta_128/tokenizer.json"),
        weights: Some(include_bytes!("../assets/story_roberta_128/model.safetensors")),
    },
    Embedded {
        name: "story_roberta_128_random",
        about: "the same architecture with random weights (seed 0), the control without pretraining",
        config: include_bytes!("../assets/story_roberta_128/config.json"),
        tokenizer: include_bytes!("../assets/story_roberta_128/tokenizer.json"),
        weights: None,
    },
    Embedded {
        name: "story_roberta_256",
        about: "the same text for 4 layers of d_model 256",
        config: include_bytes!("../assets/story_roberta_256/config.json"),
        tokenizer: include_bytes!("../assets/story_roberta_256/tokenizer.json"),
        weights: Some(include_bytes!("../assets/story_roberta_256/model.safetensors")),
    },
    Embedded {
        name: "story_roberta_256_random",
        about: "4 layers of d_model 256 with random weights (seed 0)",
        config: include_bytes!("../assets/story_roberta_256/config.json"),
        tokenizer: include_bytes!("../assets/story_roberta_256/tokenizer.json"),
        weights: None,
    },
];

/// config.json of checkpoints that many experiments name, as published, so that these can be checked where the files are not at hand.
const KNOWN: &[(&str, &[u8])] = &[
    ("roberta-base", include_bytes!("../assets/configs/roberta-base.json")),
    ("roberta-large", include_bytes!("../assets/configs/roberta-large.json")),
    ("bert-base-uncased", include_bytes!("../assets/configs/bert-base-uncased.json")),
    ("gpt2", include_bytes!("../assets/configs/gpt2.json")),
    ("gpt2-medium", include_bytes!("../assets/configs/gpt2-medium.json")),
];

/// The configuration of a published checkpoint, by its repository's name with or without the organisation.
pub fn known(repository: &str) -> Option<&'static [u8]> {
    let name = repository.rsplit('/').next()?;
    let is_theirs = !repository.contains('/')
        || ["FacebookAI/", "google-bert/", "openai-community/"].iter().any(|org| repository.starts_with(org));
    KNOWN.iter().find(|(known, _)| is_theirs && *known == name).map(|(_, config)| *config)
}

/// The model called `name`.
pub fn find(name: &str) -> Result<&'static Embedded, ModelError> {
    MODELS.iter().find(|model| model.name == name).ok_or_else(|| {
        let nearest = suggest::nearest(name, MODELS.iter().map(|model| model.name));
        ModelError::Unknown { name: name.to_owned(), nearest: nearest.map(str::to_owned) }
    })
}

impl Embedded {
    /// The configuration.
    pub fn config(&self) -> Result<Config, ModelError> {
        Config::read(self.config)
    }

    /// Weights that fit the configuration.
    pub fn weights(&self) -> Result<Weights, ModelError> {
        let config = self.config()?;
        match self.weights {
            Some(bytes) => Weights::read(bytes, config.prefixes()),
            None => Ok(Weights::random(&config.wanted(Purpose::FillMasks), 0)),
        }
    }
}
