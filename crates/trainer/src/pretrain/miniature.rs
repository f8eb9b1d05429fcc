//! The embedded base models: their shapes and text, and their files as transformers reads them.

use std::collections::BTreeMap;

use assets::device;
use burn::tensor::DType;
use data::{
    corpus::Text,
    tokenize::{Tokenizer, build_tokenizer_json},
};
use models::{
    config::Activation,
    encoder::{Config, Kind},
    weights::Weights,
};
use serde_json::{Value, json};
use variants::host::Placement;

use super::{PretrainConfig, Report, pretrain};
use crate::error::TrainError;

/// Longest document in tokens; two positions are RoBERTa's offset.
pub const MAX_LENGTH: usize = 64;

/// What a miniature is: its size and the text that it reads, with the optimizer's settings that it was made with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Name in YAML, and of the folder under `crates/models/assets`.
    pub name: &'static str,
    /// Number of encoder layers.
    pub n_layers: usize,
    /// Width of the hidden state; the inner width is four times it, and a head has 32.
    pub d_model: usize,
    /// Text of the pretraining.
    pub text: Text,
    /// Optimizer steps.
    pub steps: u64,
    /// Peak learning rate.
    pub learning_rate: f64,
}

/// Every miniature that comes with the build.
pub const SHAPES: &[Shape] = &[
    Shape { name: "mini_roberta", n_layers: 4, d_model: 128, text: Text::Pairs, steps: 7407, learning_rate: 2e-3 },
    Shape {
        name: "story_roberta_128",
        n_layers: 4,
        d_model: 128,
        text: Text::Stories,
        steps: 6400,
        learning_rate: 2e-3,
    },
    Shape {
        name: "story_roberta_256",
        n_layers: 4,
        d_model: 256,
        text: Text::Stories,
        steps: 3700,
        learning_rate: 1e-3,
    },
];

/// The text that an embedded base was pretrained on; of one with random weights, what its pretrained kin read.
pub fn text_of(name: &str) -> Option<Text> {
    let name = name.strip_suffix("_random").unwrap_or(name);
    SHAPES.iter().find(|shape| shape.name == name).map(|shape| shape.text)
}

/// A RoBERTa encoder of a few million parameters, and its tokenizer.
#[derive(Debug)]
pub struct Miniature {
    shape: Shape,
    config: Config,
    tokenizer: Tokenizer,
    tokenizer_json: String,
}

impl Miniature {
    /// The model without weights, with the language's tokenizer.
    pub fn new(shape: Shape) -> Result<Self, TrainError> {
        let tokenizer_json = build_tokenizer_json();
        let tokenizer = Tokenizer::from_bytes(tokenizer_json.as_bytes())?;
        Ok(Self { shape, config: config(shape, tokenizer.vocab_size()), tokenizer, tokenizer_json })
    }

    /// What it is.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// [`pretrain`]s it on a device, in f32.
    pub fn pretrain(
        &self,
        recipe: PretrainConfig,
        device: &device::Named,
        evaluate_every: u64,
        report: &mut Report<'_>,
    ) -> Result<(), TrainError> {
        let place = Placement::new(&device.device, DType::F32);
        pretrain(&self.config, &self.tokenizer, recipe, &place, evaluate_every, report)
    }

    /// config.json, tokenizer.json and model.safetensors (f16).
    pub fn files(&self, weights: &Weights) -> Result<BTreeMap<&'static str, Vec<u8>>, TrainError> {
        Ok(BTreeMap::from([
            ("config.json", self.config_json()),
            ("tokenizer.json", self.tokenizer_json.clone().into_bytes()),
            ("model.safetensors", weights.write_f16(published)?),
        ]))
    }

    /// config.json as transformers reads it.
    fn config_json(&self) -> Vec<u8> {
        let mut fields = json!(self.config);
        let extra = json!({
            "architectures": ["RobertaForMaskedLM"],
            "bos_token_id": 0,
            "eos_token_id": 2,
            "hidden_act": "gelu",
            "model_type": "roberta",
            "position_embedding_type": "absolute",
            "tie_word_embeddings": true,
            "torch_dtype": "float16",
        });
        if let (Value::Object(fields), Value::Object(extra)) = (&mut fields, extra) {
            fields.extend(extra);
        }
        serde_json::to_vec_pretty(&fields).unwrap_or_else(|error| unreachable!("a configuration is JSON: {error}"))
    }
}

fn config(shape: Shape, vocabulary: usize) -> Config {
    Config {
        kind: Kind::Roberta,
        hidden_act: Activation::Gelu,
        classifier_dropout: None,
        position_embedding_type: None,
        is_decoder: false,
        hidden_size: shape.d_model,
        num_hidden_layers: shape.n_layers,
        num_attention_heads: shape.d_model / 32,
        intermediate_size: 4 * shape.d_model,
        vocab_size: vocabulary,
        max_position_embeddings: MAX_LENGTH + 2,
        type_vocab_size: 1,
        layer_norm_eps: 1e-5,
        pad_token_id: 1,
        initializer_range: 0.02,
        // Text is generated without end, so there is nothing to overfit; fine-tuning uses the adapters' dropout.
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
    }
}

/// A tensor's name in Hugging Face's `RobertaForMaskedLM`.
fn published(name: &str) -> String {
    if name.starts_with("lm_head") { name.to_owned() } else { format!("roberta.{name}") }
}
