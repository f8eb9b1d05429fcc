//! GPT-2: pre-norm transformer decoder, under Hugging Face's module names.
//!
//! `x = E_token + E_position`; each layer `x = x + P·attention(LN₁(x))`, `x = x + W₂·gelu(W₁·LN₂(x))`; `LN_f` at the end. The file
//! keeps linear maps as `[d_in, d_out]` (`Conv1D`), and query, key and value as one map `c_attn: [d, 3d]`.
//!
//! `c_attn` is a slot, which PEFT adapts as one map; `c_attn.q`, `c_attn.k` and `c_attn.v` are slots too, its thirds, as in loralib's
//! `MergedLinear`. A stack uses one or the other. If all stacks of a cohort agree, only that side is computed; otherwise both are, and each
//! stack takes its rows from its own side.
//!
//! Radford et al., *Language Models are Unsupervised Multitask Learners*, 2019.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use variants::{
    adapted::AdaptedLinear,
    embedding::AdaptedEmbedding,
    host::Placement,
    norm::AdaptedNorm,
    pass::{Pass, join, split},
    slot::Slot,
};

use crate::{
    attention::{attend, drop_hidden, dropout_at, per_width},
    config::{
        Activation,
        bounds::{HEADS, LAYERS, ROWS, WIDTH, not_negative, shares, sizes},
        divides, fields, typed,
    },
    error::ModelError,
    tokens::Tokens,
    weights::{Start, Wanted, Weights},
};

/// The end of the fused map's name.
pub(crate) const FUSED: &str = ".attn.c_attn";

/// Names of a fused map's parts: query, key, value.
pub(crate) fn parts(fused: &str) -> [String; 3] {
    ["q", "k", "v"].map(|part| format!("{fused}.{part}"))
}

/// The part of config.json that the architecture depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// `d_model`
    pub n_embd: usize,
    /// Layers.
    pub n_layer: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Width of the feed-forward layer; `4·n_embd` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_inner: Option<usize>,
    /// Tokens.
    pub vocab_size: usize,
    /// Position embeddings.
    pub n_positions: usize,
    /// Epsilon of layer norms.
    #[serde(default = "epsilon")]
    pub layer_norm_epsilon: f64,
    /// Standard deviation of fresh weights.
    #[serde(default = "deviation")]
    pub initializer_range: f64,
    /// The function between the maps of a feed-forward layer.
    #[serde(default = "gelu")]
    pub activation_function: Activation,
    /// Dropout after the embeddings in training.
    #[serde(default = "tenth")]
    pub embd_pdrop: f64,
    /// Dropout of attention weights in training.
    #[serde(default = "tenth")]
    pub attn_pdrop: f64,
    /// Dropout of what a layer adds in training.
    #[serde(default = "tenth")]
    pub resid_pdrop: f64,
    /// Whether products of queries and keys are divided by `√d_head`.
    #[serde(default = "yes")]
    pub scale_attn_weights: bool,
}

/// Names that transformers takes for the fields too.
const ALIASES: [(&str, &str); 4] = [
    ("hidden_size", "n_embd"),
    ("num_hidden_layers", "n_layer"),
    ("num_attention_heads", "n_head"),
    ("max_position_embeddings", "n_positions"),
];

fn yes() -> bool {
    true
}

fn epsilon() -> f64 {
    1e-5
}

fn deviation() -> f64 {
    0.02
}

fn gelu() -> Activation {
    Activation::GeluTanh
}

fn tenth() -> f64 {
    0.1 // transformers' GPT2Config
}

impl Config {
    pub(crate) fn read(mut fields: Map<String, Value>) -> Result<Self, ModelError> {
        // Before names are compared: `null` counts as absent.
        fields.retain(|_, value| !value.is_null());
        for (alias, name) in ALIASES {
            let Some(value) = fields.remove(alias) else { continue };
            match fields.get(name) {
                Some(own) if *own != value => {
                    return Err(ModelError::Config(format!(
                        "{name} is `{}`, but {alias}, another name of it, is `{}`; leave one of them out",
                        fields::shown(own),
                        fields::shown(&value)
                    )));
                }
                _ => fields.insert(name.to_owned(), value),
            };
        }
        // Old files say the number of positions twice, some only under its old name.
        if let (Some(context), false) = (fields.remove("n_ctx"), fields.contains_key("n_positions")) {
            fields.insert("n_positions".to_owned(), context);
        }
        let config: Self = typed(fields)?;
        sizes([
            ("n_embd", config.n_embd, WIDTH),
            ("n_layer", config.n_layer, LAYERS),
            ("n_head", config.n_head, HEADS),
            ("n_inner", config.n_inner.unwrap_or(1), WIDTH),
            ("vocab_size", config.vocab_size, ROWS),
            ("n_positions", config.n_positions, ROWS),
        ])?;
        divides("n_embd", config.n_embd, config.n_head, "heads")?;
        not_negative([
            ("layer_norm_epsilon", config.layer_norm_epsilon),
            ("initializer_range", config.initializer_range),
        ])?;
        shares([
            ("embd_pdrop", config.embd_pdrop),
            ("attn_pdrop", config.attn_pdrop),
            ("resid_pdrop", config.resid_pdrop),
        ])?;
        Ok(config)
    }

    /// What products of queries and keys are multiplied by.
    fn attention_scale(&self) -> f64 {
        if self.scale_attn_weights { per_width(self.n_embd / self.n_head) } else { 1.0 }
    }

    fn inner(&self) -> usize {
        self.n_inner.unwrap_or(4 * self.n_embd)
    }

    /// Every tensor of the decoder.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        let (d, wide) = (self.n_embd, self.inner());
        let mut all = Vec::new();
        let mut push = |name: String, shape: &[usize], start| all.push(Wanted { name, shape: shape.to_vec(), start });
        let normal = Start::Normal(self.initializer_range);
        let norm = |name: String, push: &mut dyn FnMut(String, &[usize], Start)| {
            push(format!("{name}.weight"), &[d], Start::Ones);
            push(format!("{name}.bias"), &[d], Start::Zeros);
        };
        push("wte.weight".to_owned(), &[self.vocab_size, d], normal);
        push("wpe.weight".to_owned(), &[self.n_positions, d], normal);
        for layer in 0..self.n_layer {
            let at = |rest: &str| format!("h.{layer}.{rest}");
            let linear = |name: &str, d_in: usize, d_out: usize, push: &mut dyn FnMut(String, &[usize], Start)| {
                push(format!("{}.weight", at(name)), &[d_in, d_out], normal);
                push(format!("{}.bias", at(name)), &[d_out], Start::Zeros);
            };
            norm(at("ln_1"), &mut push);
            linear("attn.c_attn", d, 3 * d, &mut push);
            linear("attn.c_proj", d, d, &mut push);
            norm(at("ln_2"), &mut push);
            linear("mlp.c_fc", d, wide, &mut push);
            linear("mlp.c_proj", wide, d, &mut push);
        }
        norm("ln_f".to_owned(), &mut push);
        all
    }
}

/// Query, key and value: the fused map and its thirds.
#[derive(Clone, Debug)]
struct Fused {
    fused: AdaptedLinear,
    parts: Vec<AdaptedLinear>,
}

impl Fused {
    fn new(fused: AdaptedLinear) -> Self {
        let names = parts(fused.name());
        let width = fused.shape()[1] / 3;
        let part = |(at, name): (usize, &String)| fused.part(name.clone(), &names, at * width, (at + 1) * width);
        Self { parts: names.iter().enumerate().map(part).collect(), fused: fused.fusing(&names) }
    }

    /// Query, key and value concatenated, `[rows, seq, 3d]`.
    fn forward(&self, x: Tensor<3>, pass: &Pass) -> Tensor<3> {
        let divided: Vec<bool> =
            (0..self.fused.stacks()).map(|stack| self.parts.iter().any(|part| part.is_used(stack))).collect();
        let apart =
            |x: Tensor<3>| Tensor::cat(self.parts.iter().map(|part| part.forward(x.clone(), pass)).collect(), 2);
        if !divided.contains(&true) {
            return self.fused.forward(x, pass);
        }
        if !divided.contains(&false) {
            return apart(x);
        }
        let [rows, seq, _] = x.dims();
        let (fused, parts) = (split(&self.fused.forward(x.clone(), pass), pass), split(&apart(x), pass));
        let chosen = fused
            .into_iter()
            .zip(parts)
            .zip(divided)
            .map(|((fused, part), divided)| if divided { part } else { fused });
        join(chosen.collect(), rows, seq)
    }

    /// After one stack was merged into the slots: the side it used is right, the other follows.
    fn settle(&mut self, divided: bool) {
        let fused = if divided { self.fused.fused_from(&self.parts) } else { self.fused.clone() };
        *self = Self::new(fused);
    }
}

/// One layer's slots.
#[derive(Clone, Debug)]
struct Layer {
    first_norm: AdaptedNorm,
    attention: Fused,
    projection: AdaptedLinear,
    second_norm: AdaptedNorm,
    wide: AdaptedLinear,
    narrow: AdaptedLinear,
}

/// The decoder.
#[derive(Clone, Debug)]
pub struct Gpt2 {
    config: Config,
    place: Placement,
    word: AdaptedEmbedding,
    position: AdaptedEmbedding,
    layers: Vec<Layer>,
    norm: AdaptedNorm,
}

impl Gpt2 {
    /// The decoder from weights that were checked against `config`.
    pub(crate) fn new(config: &Config, weights: &Weights, place: &Placement) -> Self {
        let (d, wide) = (config.n_embd, config.inner());
        let norm = |name: String| weights.layer_norm(name, config.layer_norm_epsilon, place);
        let layer = |index: usize| {
            let at = |rest: &str| format!("h.{index}.{rest}");
            let linear = |rest: &str, d_in, d_out| weights.linear_as_stored(at(rest), [d_in, d_out], place);
            Layer {
                first_norm: norm(at("ln_1")),
                attention: Fused::new(linear("attn.c_attn", d, 3 * d)),
                projection: linear("attn.c_proj", d, d),
                second_norm: norm(at("ln_2")),
                wide: linear("mlp.c_fc", d, wide),
                narrow: linear("mlp.c_proj", wide, d),
            }
        };
        Self {
            config: config.clone(),
            place: place.clone(),
            word: weights.table("wte", config.vocab_size, d, place),
            position: weights.table("wpe", config.n_positions, d, place),
            layers: (0..config.n_layer).map(layer).collect(),
            norm: norm("ln_f".to_owned()),
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn set_dropout(&mut self, p: f64) {
        self.config.embd_pdrop = p;
        self.config.attn_pdrop = p;
        self.config.resid_pdrop = p;
    }

    pub(crate) fn place(&self) -> &Placement {
        &self.place
    }

    pub(crate) fn slots(&mut self) -> Vec<Slot<'_>> {
        let mut slots = vec![Slot::Embedding(&mut self.word), Slot::Embedding(&mut self.position)];
        for layer in &mut self.layers {
            slots.push(Slot::Norm(&mut layer.first_norm));
            slots.push(Slot::Linear(&mut layer.attention.fused));
            slots.extend(layer.attention.parts.iter_mut().map(Slot::Linear));
            slots.extend([
                Slot::Linear(&mut layer.projection),
                Slot::Norm(&mut layer.second_norm),
                Slot::Linear(&mut layer.wide),
                Slot::Linear(&mut layer.narrow),
            ]);
        }
        slots.push(Slot::Norm(&mut self.norm));
        slots
    }

    pub(crate) fn linears(&self) -> Vec<&AdaptedLinear> {
        self.layers
            .iter()
            .flat_map(|layer| {
                std::iter::once(&layer.attention.fused).chain(&layer.attention.parts).chain([
                    &layer.projection,
                    &layer.wide,
                    &layer.narrow,
                ])
            })
            .collect()
    }

    pub(crate) fn word(&self) -> &AdaptedEmbedding {
        &self.word
    }

    /// Folds one run's update into the slots and takes all stacks off.
    pub(crate) fn merge(&mut self, stack: usize, run: usize, active: &variants::pass::Active) {
        let divided: Vec<bool> =
            self.layers.iter().map(|layer| layer.attention.parts.iter().any(|part| part.is_used(stack))).collect();
        self.slots().iter_mut().for_each(|slot| slot.merge(stack, run, active));
        for (layer, divided) in self.layers.iter_mut().zip(divided) {
            layer.attention.settle(divided);
        }
    }

    /// How many layers.
    pub(crate) fn depth(&self) -> usize {
        self.layers.len()
    }

    /// What the first layer is given, `[rows, seq, d]`.
    pub(crate) fn embed(&self, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        let x = self.word.forward(tokens.ids.clone(), pass) + self.position.forward(tokens.positions.clone(), pass);
        drop_hidden(x, "drop", self.config.embd_pdrop, pass)
    }

    /// What comes after the last layer.
    pub(crate) fn finish(&self, x: Tensor<3>, pass: &Pass) -> Tensor<3> {
        self.norm.forward(x, pass)
    }

    /// One layer, `[rows, seq, d]` to the same.
    pub(crate) fn layer(&self, index: usize, x: Tensor<3>, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        let layer = &self.layers[index];
        let residual =
            |y: Tensor<3>, site: &str| drop_hidden(y, &format!("h.{index}.{site}"), self.config.resid_pdrop, pass);
        let attended = self.attention(layer, index, layer.first_norm.forward(x.clone(), pass), tokens, pass);
        let x = x + residual(attended, "attn.resid_dropout");
        let wide = layer.wide.forward(layer.second_norm.forward(x.clone(), pass), pass); // [rows, seq, d_ffn]
        let narrow = layer.narrow.forward(self.config.activation_function.apply(wide), pass);
        x + residual(narrow, "mlp.dropout")
    }

    fn attention(&self, layer: &Layer, index: usize, x: Tensor<3>, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        let (d, heads) = (self.config.n_embd, self.config.n_head);
        let [rows, seq, _] = x.dims();
        let all = layer.attention.forward(x, pass); // [rows, seq, 3d]
        let third = |at: usize| all.clone().slice([0..rows, 0..seq, at * d..(at + 1) * d]);
        let drop = dropout_at(&format!("h.{index}.attn.attn_dropout"), self.config.attn_pdrop, pass);
        let mixed = attend([0, 1, 2].map(third), tokens.mask(), (heads, self.config.attention_scale()), drop);
        layer.projection.forward(mixed, pass)
    }
}
