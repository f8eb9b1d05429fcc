//! config.json: the architecture, and the settings that a model's tensors and computation depend on.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, activation};
use kernels::ops;
use serde::{Deserialize, Serialize};

use crate::{encoder, error::ModelError, gpt2, llama, weights::Wanted};

/// A checkpoint's configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    /// BERT and RoBERTa.
    Encoder(encoder::Config),
    /// GPT-2.
    Gpt2(gpt2::Config),
    /// Llama and what shares its block.
    Llama(llama::Config),
}

/// What a checkpoint is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Hidden states, and a head of one's own on one vector per row.
    Classify,
    /// Words in the place of masks.
    FillMasks,
    /// The next token.
    Continue,
}

/// A map that can be adapted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// `[d_in, d_out]`; `[rows, d_model]` of a table.
    pub shape: [usize; 2],
    /// What it is.
    pub kind: MapKind,
}

/// Kinds of maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// A linear map.
    Linear,
    /// An embedding table.
    Table,
    /// Part of a linear map that computes several in one, which has this name.
    Part(String),
}

impl Map {
    /// Largest rank of an update.
    pub fn max_rank(&self) -> usize {
        self.shape[0].min(self.shape[1])
    }
}

/// The function between the two maps of a feed-forward layer, as config.json calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// `x·Φ(x)`
    #[serde(rename = "gelu")]
    Gelu,
    /// Its tanh approximation.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluTanh,
    /// `max(x, 0)`
    #[serde(rename = "relu")]
    Relu,
    /// `x·σ(x)`
    #[serde(rename = "silu", alias = "swish")]
    Silu,
}

impl Activation {
    /// Element by element.
    pub fn apply(self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Gelu => ops::gelu(x),
            Self::GeluTanh => {
                let inner = (x.clone() + x.clone().powi_scalar(3) * 0.044_715) * (2.0 / std::f64::consts::PI).sqrt();
                x * 0.5 * (inner.tanh() + 1.0)
            }
            Self::Relu => activation::relu(x),
            Self::Silu => activation::silu(x),
        }
    }
}

/// The keys that come before the architecture's own.
#[derive(Deserialize)]
struct Header {
    model_type: Option<String>,
}

/// Values of `model_type` that are read.
pub const MODEL_TYPES: &[&str] = &["bert", "roberta", "xlm-roberta", "camembert", "gpt2", "llama", "mistral", "qwen2"];

impl Config {
    /// Reads config.json.
    pub fn read(json: &[u8]) -> Result<Self, ModelError> {
        let header: Header = parse(json)?;
        let Some(kind) = header.model_type else {
            return Err(ModelError::Config(format!(
                "`model_type` is missing; it says which of {} to build",
                MODEL_TYPES.join(", ")
            )));
        };
        match kind.as_str() {
            "bert" => Ok(Self::Encoder(encoder::Config::read(json, encoder::Kind::Bert)?)),
            "roberta" | "xlm-roberta" | "camembert" => {
                Ok(Self::Encoder(encoder::Config::read(json, encoder::Kind::Roberta)?))
            }
            "gpt2" => Ok(Self::Gpt2(gpt2::Config::read(json)?)),
            "llama" | "mistral" | "qwen2" => Ok(Self::Llama(llama::Config::read(json, &kind)?)),
            other => Err(ModelError::Config(format!(
                "model_type is `{other}`, but must be one of {}; no other architecture is built in",
                MODEL_TYPES.join(", ")
            ))),
        }
    }

    /// Width of the hidden states.
    pub fn hidden_size(&self) -> usize {
        match self {
            Self::Encoder(config) => config.hidden_size,
            Self::Gpt2(config) => config.n_embd,
            Self::Llama(config) => config.hidden_size,
        }
    }

    /// Tokens.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Encoder(config) => config.vocab_size,
            Self::Gpt2(config) => config.vocab_size,
            Self::Llama(config) => config.vocab_size,
        }
    }

    /// Most tokens of one input.
    pub fn longest(&self) -> usize {
        match self {
            Self::Encoder(config) => config.longest(),
            Self::Gpt2(config) => config.n_positions,
            Self::Llama(config) => config.max_position_embeddings,
        }
    }

    /// Standard deviation of fresh weights.
    pub fn initializer_range(&self) -> f64 {
        match self {
            Self::Encoder(config) => config.initializer_range,
            Self::Gpt2(config) => config.initializer_range,
            Self::Llama(config) => config.initializer_range,
        }
    }

    /// Whether a position sees only those before it.
    pub fn is_causal(&self) -> bool {
        !matches!(self, Self::Encoder(_))
    }

    /// What the tensors' names may start with in a checkpoint of a model with a head.
    pub fn prefixes(&self) -> &'static [&'static str] {
        match self {
            Self::Encoder(config) => match config.kind {
                encoder::Kind::Bert => &["bert."],
                encoder::Kind::Roberta => &["roberta."],
            },
            Self::Gpt2(_) => &["transformer."],
            Self::Llama(_) => &["model."],
        }
    }

    /// What a model with a head puts in front of the backbone's names, such as `bert.`.
    pub fn base_prefix(&self) -> &'static str {
        self.prefixes()[0]
    }

    /// The name of a slot in a model with a head, with its prefix.
    pub fn full(&self, name: &str) -> String {
        format!("{}{name}", self.base_prefix())
    }

    /// Layers.
    pub fn layers(&self) -> usize {
        match self {
            Self::Encoder(config) => config.num_hidden_layers,
            Self::Gpt2(config) => config.n_layer,
            Self::Llama(config) => config.num_hidden_layers,
        }
    }

    /// What the list of layers is called, without prefix.
    pub fn layer_list(&self) -> &'static str {
        match self {
            Self::Encoder(_) => "encoder.layer",
            Self::Gpt2(_) => "h",
            Self::Llama(_) => "layers",
        }
    }

    /// Every tensor that `purpose` needs, without prefix.
    pub fn wanted(&self, purpose: Purpose) -> Vec<Wanted> {
        match self {
            Self::Encoder(config) => config.wanted(purpose),
            Self::Gpt2(config) => config.wanted(),
            Self::Llama(config) => config.wanted(purpose),
        }
    }

    /// Names of a stored head's tensors in a checkpoint fine-tuned for classification, in the order of [`crate::head::Classifier`].
    pub fn head_names(&self) -> &'static [&'static str] {
        match self {
            Self::Encoder(config) => match config.kind {
                encoder::Kind::Bert => &["classifier.weight", "classifier.bias"],
                encoder::Kind::Roberta => &[
                    "classifier.dense.weight",
                    "classifier.dense.bias",
                    "classifier.out_proj.weight",
                    "classifier.out_proj.bias",
                ],
            },
            Self::Gpt2(_) | Self::Llama(_) => &["score.weight"],
        }
    }

    /// Every map that can be adapted, by full name.
    pub fn maps(&self) -> BTreeMap<String, Map> {
        let mut maps = BTreeMap::new();
        for Wanted { name, shape, .. } in self.wanted(Purpose::Classify) {
            let Some(name) = name.strip_suffix(".weight") else { continue };
            let (&[rows, columns], kind) = (&shape[..], self.kind(name)) else { continue };
            let shape =
                if kind == MapKind::Table || self.stores_inputs_first() { [rows, columns] } else { [columns, rows] };
            if name.ends_with(gpt2::FUSED) && matches!(self, Self::Gpt2(_)) {
                for part in gpt2::parts(name) {
                    let kind = MapKind::Part(name.to_owned());
                    maps.insert(part, Map { shape: [shape[0], shape[1] / 3], kind });
                }
            }
            maps.insert(name.to_owned(), Map { shape, kind });
        }
        maps
    }

    fn kind(&self, name: &str) -> MapKind {
        let table = match self {
            Self::Encoder(_) => name.starts_with("embeddings.") && name.ends_with("_embeddings"),
            Self::Gpt2(_) => ["wte", "wpe"].contains(&name),
            Self::Llama(_) => name == "embed_tokens",
        };
        if table { MapKind::Table } else { MapKind::Linear }
    }

    /// The parts of a map that computes several in one, in the order of its columns.
    pub fn parts(&self, whole: &str) -> Option<[String; 3]> {
        (matches!(self, Self::Gpt2(_)) && whole.ends_with(gpt2::FUSED)).then(|| gpt2::parts(whole))
    }

    /// Whether the word table is the output projection of a causal model too.
    pub fn is_tied(&self) -> bool {
        match self {
            Self::Encoder(_) | Self::Gpt2(_) => true,
            Self::Llama(config) => config.tie_word_embeddings,
        }
    }

    /// GPT-2's `Conv1D` keeps `[d_in, d_out]` in the file, torch's `Linear` `[d_out, d_in]`.
    pub fn stores_inputs_first(&self) -> bool {
        matches!(self, Self::Gpt2(_))
    }
}

/// Reads config.json as `T`.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, ModelError> {
    serde_json::from_slice(json).map_err(|error| ModelError::Config(error.to_string()))
}

/// Refuses a width that the heads do not divide.
pub(crate) fn divides(name: &str, width: usize, heads: usize, what: &str) -> Result<(), ModelError> {
    if heads > 0 && width.is_multiple_of(heads) {
        return Ok(());
    }
    Err(ModelError::Config(format!("{name} is `{width}`, which `{heads}` {what} do not divide")))
}
