//! BERT and RoBERTa: post-norm transformer encoders, under Hugging Face's module names.
//!
//! `x = LN(E_word + E_position + E_type)`; each layer `x = LN(x + O·attention(x))`,
//! `x = LN(x + W₂·gelu(W₁·x))`. RoBERTa's positions count from `pad_token_id + 1`, BERT's from 0, as in transformers. A row is
//! classified by its first token, which BERT passes through `tanh(pooler(x))`.
//!
//! Devlin et al. 2019, arXiv:1810.04805; Liu et al. 2019, arXiv:1907.11692.

use burn::tensor::Tensor;
use kernels::ops::SharedInputGrad;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use variants::{
    adapted::AdaptedLinear, embedding::AdaptedEmbedding, host::Placement, norm::AdaptedNorm, pass::Pass, slot::Slot,
};

use crate::{
    attention::{attend, attend_packed, drop_hidden, dropout_at, per_width},
    config::{
        Activation, Purpose,
        bounds::{HEADS, LAYERS, ROWS, WIDTH, not_negative, shares, sizes},
        divides, typed,
    },
    error::ModelError,
    tokens::{AttentionMask, Scheme, Tokens},
    weights::{Start, Wanted, Weights},
};

/// Which of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// BERT, with a pooler.
    Bert,
    /// RoBERTa.
    #[default]
    Roberta,
}

impl Kind {
    /// The padding token of transformers' class.
    fn padding(self) -> usize {
        match self {
            Self::Bert => 0,
            Self::Roberta => 1,
        }
    }
}

/// The part of config.json that the architecture depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Which encoder; from `model_type`.
    #[serde(skip)]
    pub kind: Kind,
    /// `d_model`
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Tokens.
    pub vocab_size: usize,
    /// Position embeddings, RoBERTa's offset included.
    pub max_position_embeddings: usize,
    /// Token types.
    pub type_vocab_size: usize,
    /// Epsilon of layer norms.
    #[serde(default = "epsilon")]
    pub layer_norm_eps: f64,
    /// Padding token; RoBERTa's positions count from the next number. Where it is absent it is that of transformers' class.
    pub pad_token_id: usize,
    /// Standard deviation of fresh weights.
    #[serde(default = "deviation")]
    pub initializer_range: f64,
    /// The function between the maps of a feed-forward layer.
    #[serde(default = "gelu")]
    pub hidden_act: Activation,
    /// Dropout of hidden states in training.
    pub hidden_dropout_prob: f64,
    /// Dropout of attention weights in training.
    pub attention_probs_dropout_prob: f64,
    /// Dropout in a classification head; that of hidden states where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classifier_dropout: Option<f64>,
    /// How positions enter; `absolute` is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_embedding_type: Option<String>,
    /// Whether a position sees only those before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_decoder: bool,
}

fn epsilon() -> f64 {
    1e-12 // transformers' BertConfig and RobertaConfig
}

fn deviation() -> f64 {
    0.02
}

fn gelu() -> Activation {
    Activation::Gelu
}

impl Config {
    pub(crate) fn read(
        mut fields: Map<String, Value>,
        kind: Kind,
        notes: &mut Vec<String>,
    ) -> Result<Self, ModelError> {
        let padding = kind.padding();
        if fields.get("pad_token_id").is_none_or(Value::is_null) {
            if kind == Kind::Roberta && fields.contains_key("pad_token_id") {
                notes.push(format!(
                    "config.json: pad_token_id is `null`; it is taken as {padding}, so that positions count from {}",
                    padding + 1
                ));
            }
            fields.insert("pad_token_id".to_owned(), padding.into());
        }
        let config = Self { kind, ..typed(fields)? };
        sizes([
            ("hidden_size", config.hidden_size, WIDTH),
            ("num_hidden_layers", config.num_hidden_layers, LAYERS),
            ("num_attention_heads", config.num_attention_heads, HEADS),
            ("intermediate_size", config.intermediate_size, WIDTH),
            ("vocab_size", config.vocab_size, ROWS),
            ("max_position_embeddings", config.max_position_embeddings, ROWS),
            ("type_vocab_size", config.type_vocab_size, ROWS),
        ])?;
        divides("hidden_size", config.hidden_size, config.num_attention_heads, "heads")?;
        not_negative([("layer_norm_eps", config.layer_norm_eps), ("initializer_range", config.initializer_range)])?;
        shares([
            ("hidden_dropout_prob", config.hidden_dropout_prob),
            ("attention_probs_dropout_prob", config.attention_probs_dropout_prob),
            ("classifier_dropout", config.classifier_dropout.unwrap_or(0.0)),
        ])?;
        config.check_padding()?;
        Ok(config)
    }

    /// Refuses a padding token that the tables have no row for.
    fn check_padding(&self) -> Result<(), ModelError> {
        let padding = self.pad_token_id;
        if padding >= self.vocab_size {
            return Err(ModelError::Config(format!(
                "pad_token_id is `{padding}`, but vocab_size is {}; it is the id of a token",
                self.vocab_size
            )));
        }
        if self.longest() == 0 {
            return Err(ModelError::Config(format!(
                "max_position_embeddings is `{}`, but positions count from pad_token_id + 1 = {}, which leaves none",
                self.max_position_embeddings,
                self.first_position()
            )));
        }
        Ok(())
    }

    /// Position of a row's first token.
    fn first_position(&self) -> usize {
        match self.kind {
            Kind::Bert => 0,
            Kind::Roberta => self.pad_token_id + 1,
        }
    }

    pub(crate) fn longest(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.first_position())
    }

    /// Every tensor that `purpose` needs.
    pub fn wanted(&self, purpose: Purpose) -> Vec<Wanted> {
        let mut all = Vec::new();
        let d = self.hidden_size;
        let mut push = |name: String, shape: &[usize], start| all.push(Wanted { name, shape: shape.to_vec(), start });
        let normal = Start::Normal(self.initializer_range);
        let linear = |name: &str, d_in: usize, d_out: usize, push: &mut dyn FnMut(String, &[usize], Start)| {
            push(format!("{name}.weight"), &[d_out, d_in], normal);
            push(format!("{name}.bias"), &[d_out], Start::Zeros);
        };
        let norm = |name: &str, push: &mut dyn FnMut(String, &[usize], Start)| {
            push(format!("{name}.weight"), &[d], Start::Ones);
            push(format!("{name}.bias"), &[d], Start::Zeros);
        };
        for (table, rows) in [
            ("word", self.vocab_size),
            ("position", self.max_position_embeddings),
            ("token_type", self.type_vocab_size),
        ] {
            push(format!("embeddings.{table}_embeddings.weight"), &[rows, d], normal);
        }
        norm("embeddings.LayerNorm", &mut push);
        for layer in 0..self.num_hidden_layers {
            let at = |rest: &str| format!("encoder.layer.{layer}.{rest}");
            for map in ["query", "key", "value"] {
                linear(&at(&format!("attention.self.{map}")), d, d, &mut push);
            }
            linear(&at("attention.output.dense"), d, d, &mut push);
            norm(&at("attention.output.LayerNorm"), &mut push);
            linear(&at("intermediate.dense"), d, self.intermediate_size, &mut push);
            linear(&at("output.dense"), self.intermediate_size, d, &mut push);
            norm(&at("output.LayerNorm"), &mut push);
        }
        if purpose == Purpose::Classify && self.kind == Kind::Bert {
            linear("pooler.dense", d, d, &mut push);
        }
        if purpose == Purpose::FillMasks {
            linear("lm_head.dense", d, d, &mut push);
            norm("lm_head.layer_norm", &mut push);
            push("lm_head.bias".to_owned(), &[self.vocab_size], Start::Zeros);
        }
        all
    }
}

/// One layer's slots.
#[derive(Clone, Debug)]
struct Layer {
    query: AdaptedLinear,
    key: AdaptedLinear,
    value: AdaptedLinear,
    attention_output: AdaptedLinear,
    attention_norm: AdaptedNorm,
    intermediate: AdaptedLinear,
    output: AdaptedLinear,
    output_norm: AdaptedNorm,
}

/// The encoder.
#[derive(Clone, Debug)]
pub struct Encoder {
    config: Config,
    place: Placement,
    word: AdaptedEmbedding,
    position: AdaptedEmbedding,
    token_type: AdaptedEmbedding,
    norm: AdaptedNorm,
    layers: Vec<Layer>,
    pooler: Option<AdaptedLinear>,
}

impl Encoder {
    /// The encoder from weights that were checked against what `purpose` wants of `config`.
    pub(crate) fn new(config: &Config, weights: &Weights, purpose: Purpose, place: &Placement) -> Self {
        let (d, wide) = (config.hidden_size, config.intermediate_size);
        let linear = |name: String, d_in: usize, d_out: usize| weights.linear(name, [d_in, d_out], true, place);
        let norm = |name: String| weights.layer_norm(name, config.layer_norm_eps, place);
        let table = |name: &str, rows: usize| weights.table(name, rows, d, place);
        let layer = |index: usize| {
            let at = |rest: &str| format!("encoder.layer.{index}.{rest}");
            Layer {
                query: linear(at("attention.self.query"), d, d),
                key: linear(at("attention.self.key"), d, d),
                value: linear(at("attention.self.value"), d, d),
                attention_output: linear(at("attention.output.dense"), d, d),
                attention_norm: norm(at("attention.output.LayerNorm")),
                intermediate: linear(at("intermediate.dense"), d, wide),
                output: linear(at("output.dense"), wide, d),
                output_norm: norm(at("output.LayerNorm")),
            }
        };
        let pooled = purpose == Purpose::Classify && config.kind == Kind::Bert;
        Self {
            config: config.clone(),
            place: place.clone(),
            word: table("embeddings.word_embeddings", config.vocab_size),
            position: table("embeddings.position_embeddings", config.max_position_embeddings),
            token_type: table("embeddings.token_type_embeddings", config.type_vocab_size),
            norm: norm("embeddings.LayerNorm".to_owned()),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            pooler: pooled.then(|| linear("pooler.dense".to_owned(), d, d)),
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn set_dropout(&mut self, p: f64) {
        self.config.hidden_dropout_prob = p;
        self.config.attention_probs_dropout_prob = p;
        self.config.classifier_dropout = None;
    }

    pub(crate) fn place(&self) -> &Placement {
        &self.place
    }

    pub(crate) fn scheme(&self) -> Scheme {
        let padding = (self.config.kind == Kind::Roberta).then_some(self.config.pad_token_id);
        Scheme { first: self.config.first_position(), padding, causal: self.config.is_decoder }
    }

    pub(crate) fn slots(&mut self) -> Vec<Slot<'_>> {
        let mut slots = vec![
            Slot::Embedding(&mut self.word),
            Slot::Embedding(&mut self.position),
            Slot::Embedding(&mut self.token_type),
            Slot::Norm(&mut self.norm),
        ];
        for layer in &mut self.layers {
            slots.extend([
                Slot::Linear(&mut layer.query),
                Slot::Linear(&mut layer.key),
                Slot::Linear(&mut layer.value),
                Slot::Linear(&mut layer.attention_output),
                Slot::Norm(&mut layer.attention_norm),
                Slot::Linear(&mut layer.intermediate),
                Slot::Linear(&mut layer.output),
                Slot::Norm(&mut layer.output_norm),
            ]);
        }
        slots.extend(self.pooler.as_mut().map(Slot::Linear));
        slots
    }

    pub(crate) fn linears(&self) -> Vec<&AdaptedLinear> {
        self.layers
            .iter()
            .flat_map(|l| [&l.query, &l.key, &l.value, &l.attention_output, &l.intermediate, &l.output])
            .chain(&self.pooler)
            .collect()
    }

    pub(crate) fn word(&self) -> &AdaptedEmbedding {
        &self.word
    }

    /// How many layers.
    pub(crate) fn depth(&self) -> usize {
        self.layers.len()
    }

    /// What the first layer is given, `[rows, seq, d_model]`.
    pub(crate) fn embed(&self, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        // Where there is one type, it is that of every token, whatever the tokenizer says; so has transformers' RoBERTa it.
        let types = tokens.types.clone().filter(|_| self.config.type_vocab_size > 1);
        let types = types.unwrap_or_else(|| tokens.ids.zeros_like());
        let x = self.word.forward(tokens.ids.clone(), pass)
            + self.position.forward(tokens.positions.clone(), pass)
            + self.token_type.forward(types, pass); // [rows, seq, d_model]
        let p = self.config.hidden_dropout_prob;
        drop_hidden(self.norm.forward(x, pass), "embeddings.dropout", p, pass)
    }

    /// Whether its batches have to be padded: dropout's masks are keyed by row and position, and packed attention has no direction.
    pub(crate) fn needs_padding(&self) -> bool {
        self.config.hidden_dropout_prob > 0.0
            || self.config.attention_probs_dropout_prob > 0.0
            || self.config.is_decoder
    }

    /// The vector that a row is classified by, `[rows, 1, d_model]`, from hidden states.
    pub(crate) fn pooled(&self, hidden: &Tensor<3>, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        let [rows, seq, d] = hidden.dims();
        let first = match &tokens.attention_mask {
            AttentionMask::Padded(_) => hidden.clone().slice([0..rows, 0..1, 0..d]),
            AttentionMask::Packed { first, .. } => {
                let rows_of_runs = first.dims()[0];
                hidden.clone().reshape([rows * seq, d]).select(0, first.clone()).reshape([rows_of_runs, 1, d])
            }
        };
        match &self.pooler {
            Some(pooler) => pooler.forward(first, pass).tanh(),
            None => first,
        }
    }

    /// One layer, `[rows, seq, d_model]` to the same.
    pub(crate) fn layer(&self, index: usize, x: Tensor<3>, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        let layer = &self.layers[index];
        let input_grad = pass.input_grad(layer.query.name());
        let attended = self.attention(layer, index, (x.clone(), &input_grad), tokens, pass);
        let drop = |site: &str| {
            let site = format!("encoder.layer.{index}.{site}.dropout");
            dropout_at(&site, self.config.hidden_dropout_prob, pass)
        };
        let x = layer.attention_norm.after(attended, Some((x, &input_grad)), drop("attention.output"), pass);
        let input_grad = pass.input_grad(layer.intermediate.name());
        let wide = layer.intermediate.forward_among(&x, pass, &input_grad);
        let wide = self.config.hidden_act.apply(wide); // [rows, seq, d_ffn]
        let narrow = layer.output.forward(wide, pass);
        layer.output_norm.after(narrow, Some((x, &input_grad)), drop("output"), pass)
    }

    fn attention(
        &self,
        layer: &Layer,
        index: usize,
        (x, input_grad): (Tensor<3>, &SharedInputGrad),
        tokens: &Tokens,
        pass: &Pass,
    ) -> Tensor<3> {
        let each = AdaptedLinear::forward_all([&layer.query, &layer.key, &layer.value], &x, pass, input_grad);
        let site = format!("encoder.layer.{index}.attention.self.dropout");
        let drop = dropout_at(&site, self.config.attention_probs_dropout_prob, pass);
        let heads = self.config.num_attention_heads;
        let mixed = match &tokens.attention_mask {
            AttentionMask::Padded(bias) => {
                let scale = per_width(self.config.hidden_size / heads);
                attend(each, bias.clone(), (heads, scale), drop)
            }
            AttentionMask::Packed { starts, longest, .. } => attend_packed(each, starts.clone(), *longest, heads),
        };
        layer.attention_output.forward(mixed, pass)
    }
}
