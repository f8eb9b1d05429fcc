//! config.json: the architecture, and the settings that a model's tensors and computation depend on.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, activation};
use kernels::ops;
use serde::{Deserialize, Serialize};
use serde_json::{Map as Fields, Value};

use crate::{
    encoder,
    error::ModelError,
    gpt2, llama,
    weights::{Wanted, Weights},
};

pub(crate) mod bounds;
pub mod fields;
pub mod labels;

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

/// What a config.json says.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigFile {
    /// The model.
    pub config: Config,
    /// Names of the outputs of its classification head, where it gives them any.
    pub labels: Option<Vec<String>>,
    /// Why that head cannot be used for a task here, where the file says that it answers another question.
    pub other_head: Option<String>,
    /// What is passed over or taken otherwise than it stands there.
    pub notes: Vec<String>,
}

/// The output projection of a causal model, where it is not the table of words.
pub const PROJECTION: &str = "lm_head.weight";

/// Values of `model_type` that are read.
pub const MODEL_TYPES: &[&str] = &["bert", "roberta", "xlm-roberta", "camembert", "gpt2", "llama", "mistral", "qwen2"];

impl ConfigFile {
    /// Reads config.json.
    pub fn read(json: &[u8]) -> Result<Self, ModelError> {
        let whole: Value = serde_json::from_slice(json).map_err(|error| ModelError::Config(error.to_string()))?;
        let Value::Object(all) = whole else {
            return Err(ModelError::Config("it is no JSON object".to_owned()));
        };
        let kind = model_type(&all)?;
        let (fields, unknown) = fields::sift(&kind, all)?;
        let mut notes: Vec<String> = unknown_note(&unknown).into_iter().collect();
        let labels = labels::read(&fields).unwrap_or_else(|note| {
            notes.push(format!("config.json: {note}"));
            None
        });
        notes.extend(labels::contradiction(&fields).map(|note| format!("config.json: {note}")));
        let other_head = labels::other_question(&fields);
        let config = match kind.as_str() {
            "bert" => Config::Encoder(encoder::Config::read(fields, encoder::Kind::Bert, &mut notes)?),
            "gpt2" => Config::Gpt2(gpt2::Config::read(fields)?),
            "llama" | "mistral" | "qwen2" => Config::Llama(llama::Config::read(fields, &kind, &mut notes)?),
            _ => Config::Encoder(encoder::Config::read(fields, encoder::Kind::Roberta, &mut notes)?),
        };
        Ok(Self { config, labels, other_head, notes })
    }
}

fn model_type(fields: &Fields<String, Value>) -> Result<String, ModelError> {
    let known = MODEL_TYPES.join(", ");
    match fields.get("model_type") {
        None | Some(Value::Null) => {
            Err(ModelError::Config(format!("`model_type` is missing; it says which of {known} to build")))
        }
        Some(Value::String(kind)) if MODEL_TYPES.contains(&kind.as_str()) => Ok(kind.clone()),
        Some(other) => Err(ModelError::Config(format!(
            "model_type is `{}`, but must be one of {known}; no other architecture is built in",
            fields::shown(other)
        ))),
    }
}

/// Names the fields that are in no list.
fn unknown_note(names: &[String]) -> Option<String> {
    const SHOWN: usize = 8;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{}`", fields::clipped(name))).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    (!names.is_empty())
        .then(|| format!("config.json: fields that are not known here and have no effect: {}{more}", shown.join(", ")))
}

impl Config {
    /// Reads config.json.
    pub fn read(json: &[u8]) -> Result<Self, ModelError> {
        ConfigFile::read(json).map(|file| file.config)
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

    /// Types that a token may have, where it has one.
    pub fn token_types(&self) -> Option<usize> {
        match self {
            Self::Encoder(config) => Some(config.type_vocab_size),
            Self::Gpt2(_) | Self::Llama(_) => None,
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

    /// The table of the words that a model reads.
    pub fn word_table(&self) -> &'static str {
        match self {
            Self::Encoder(_) => "embeddings.word_embeddings",
            Self::Gpt2(_) => "wte",
            Self::Llama(_) => "embed_tokens",
        }
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

    /// What a checkpoint with these tensors can be opened for. A decoder comes with its output projection, so that it can both classify and
    /// continue texts; one saved for classification, or as embeddings, has none.
    pub fn purpose(&self, weights: &Weights) -> Purpose {
        let projection = |tensor: &Wanted| tensor.name == PROJECTION;
        if self.is_causal() && !weights.absent(&self.wanted(Purpose::Continue)).iter().any(projection) {
            Purpose::Continue
        } else {
            Purpose::Classify
        }
    }

    /// GPT-2's `Conv1D` keeps `[d_in, d_out]` in the file, torch's `Linear` `[d_out, d_in]`.
    pub fn stores_inputs_first(&self) -> bool {
        matches!(self, Self::Gpt2(_))
    }
}

/// Reads the fields as `T`; one that is `null` counts as absent. A field of another type is named.
pub(crate) fn typed<T: serde::de::DeserializeOwned>(mut fields: Fields<String, Value>) -> Result<T, ModelError> {
    fields.retain(|_, value| !value.is_null());
    let read = |fields: &Fields<String, Value>| serde_json::from_value::<T>(Value::Object(fields.clone()));
    read(&fields).map_err(|error| {
        // serde does not say which field it means: it is the one without which the complaint is another. A field that is missing it names,
        // and a configuration has some tens.
        let is_named = error.to_string().starts_with("missing field") || fields.len() > 1000;
        let is_it = |name: &&String| {
            let mut others = fields.clone();
            others.remove(*name);
            read(&others).err().is_none_or(|other| other.to_string() != error.to_string())
        };
        let place = if is_named { None } else { fields.keys().find(is_it) };
        let place = place.map(|name| format!("{name}: ")).unwrap_or_default();
        // The complaint repeats the value, however long.
        ModelError::Config(format!("{place}{}", fields::first(&error.to_string(), 200)))
    })
}

/// Refuses a width that the heads do not divide.
pub(crate) fn divides(name: &str, width: usize, heads: usize, what: &str) -> Result<(), ModelError> {
    if heads > 0 && width.is_multiple_of(heads) {
        return Ok(());
    }
    Err(ModelError::Config(format!("{name} is `{width}`, which `{heads}` {what} do not divide")))
}
