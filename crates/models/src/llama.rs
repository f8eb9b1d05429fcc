//! Llama and what shares its block (Mistral, Qwen2): pre-norm decoder with root-mean-square norms, rotary positions, grouped queries
//! and a gated feed-forward layer, under Hugging Face's module names.
//!
//! `x = x + O·attention(N₁(x))`, `x = x + D·(silu(G·N₂(x)) ∘ U·N₂(x))`; `N` at the end. Queries and keys are turned by
//! `R(p)·q = q∘cos(p·f) + half(q)∘sin(p·f)`, `half([a, b]) = [−b, a]`, `f_i = θ^(−2i/d_head)` for both halves alike.
//!
//! Touvron et al. 2023, arXiv:2302.13971; Su et al. 2021, arXiv:2104.09864; Ainslie et al. 2023, arXiv:2305.13245.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use variants::{
    adapted::AdaptedLinear, embedding::AdaptedEmbedding, host::Placement, norm::AdaptedNorm, pass::Pass, slot::Slot,
};

use crate::{
    attention::{attend, dropout_at, per_width},
    config::{
        Activation, Purpose,
        bounds::{HEADS, LAYERS, ROWS, WIDTH, not_negative, positive, shares, sizes},
        divides, typed,
    },
    error::ModelError,
    tokens::Tokens,
    weights::{Start, Wanted, Weights},
};

mod rotary;
mod window;

pub use rotary::Stretch;

/// The part of config.json that the architecture depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "config.json has them")]
pub struct Config {
    /// `d_model`
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of queries.
    pub num_attention_heads: usize,
    /// Heads of keys and values; as many as of queries where absent.
    #[serde(default)]
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; `hidden_size/num_attention_heads` where absent.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Tokens.
    pub vocab_size: usize,
    /// Most tokens of one input.
    pub max_position_embeddings: usize,
    /// Epsilon of norms.
    #[serde(default = "epsilon")]
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    #[serde(default = "theta")]
    pub rope_theta: f64,
    /// How the frequencies are stretched for long inputs.
    #[serde(default)]
    pub rope_scaling: Option<Stretch>,
    /// Standard deviation of fresh weights.
    #[serde(default = "deviation")]
    pub initializer_range: f64,
    /// The gate's function.
    #[serde(default = "silu")]
    pub hidden_act: Activation,
    /// Whether the maps of attention have biases; those of queries, keys and values have them in Qwen2.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the maps of the feed-forward layer have biases.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Dropout of attention weights in training.
    #[serde(default)]
    pub attention_dropout: f64,
    /// Whether the output projection is the embedding table.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Biases of queries, keys and values alone, as Qwen2 has them.
    #[serde(skip)]
    pub input_bias: bool,
}

fn epsilon() -> f64 {
    1e-6 // transformers' LlamaConfig
}

fn theta() -> f64 {
    rotary::THETA
}

fn deviation() -> f64 {
    0.02
}

fn silu() -> Activation {
    Activation::Silu
}

impl Config {
    pub(crate) fn read(
        mut fields: Map<String, Value>,
        model_type: &str,
        notes: &mut Vec<String>,
    ) -> Result<Self, ModelError> {
        // What transformers' class takes where the field is absent; `null` is as many as heads of queries.
        let shared = match model_type {
            "mistral" => Some(8),
            "qwen2" => Some(32),
            _ => None,
        };
        if let (Some(heads), false) = (shared, fields.contains_key("num_key_value_heads")) {
            fields.insert("num_key_value_heads".to_owned(), json!(heads));
        }
        rotary::unite(&mut fields, notes)?;
        let window = window::take(&mut fields, model_type)?;
        let mut config: Self = typed(fields)?;
        config.input_bias = config.attention_bias || model_type == "qwen2";
        config.check()?;
        if let Some(window) = window.filter(|window| *window < config.max_position_embeddings) {
            // Within the window every position sees all before it, as here.
            notes.push(format!(
                "config.json: attention has a sliding window of {window} tokens, which is not built in beyond its width: inputs have at \
                 most {window} tokens, not {}",
                config.max_position_embeddings
            ));
            config.max_position_embeddings = window;
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), ModelError> {
        sizes([
            ("hidden_size", self.hidden_size, WIDTH),
            ("num_hidden_layers", self.num_hidden_layers, LAYERS),
            ("num_attention_heads", self.num_attention_heads, HEADS),
            ("num_key_value_heads", self.key_value_heads(), HEADS),
            ("head_dim", self.head_dim.unwrap_or(2), WIDTH),
            ("intermediate_size", self.intermediate_size, WIDTH),
            ("vocab_size", self.vocab_size, ROWS),
            ("max_position_embeddings", self.max_position_embeddings, ROWS),
        ])?;
        if self.head_dim.is_none() {
            divides("hidden_size", self.hidden_size, self.num_attention_heads, "heads")?;
        }
        divides("num_attention_heads", self.num_attention_heads, self.key_value_heads(), "heads of keys")?;
        if !self.head_dim().is_multiple_of(2) || self.head_dim() == 0 {
            return Err(ModelError::Config(format!(
                "head_dim is `{}`, but rotary positions need an even one",
                self.head_dim()
            )));
        }
        not_negative([("rms_norm_eps", self.rms_norm_eps), ("initializer_range", self.initializer_range)])?;
        shares([("attention_dropout", self.attention_dropout)])?;
        positive([("rope_theta", self.rope_theta)])?;
        self.frequencies().map(drop)
    }

    fn key_value_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// `f_i`, `[d_head/2]`, radians per position.
    fn frequencies(&self) -> Result<Vec<f64>, ModelError> {
        let d = self.head_dim() as f64;
        let plain = (0..self.head_dim() / 2).map(|i| self.rope_theta.powf(-2.0 * i as f64 / d)).collect();
        match &self.rope_scaling {
            Some(stretch) => stretch.apply(plain),
            None => Ok(plain),
        }
    }

    /// Every tensor that `purpose` needs.
    pub(crate) fn wanted(&self, purpose: Purpose) -> Vec<Wanted> {
        let (d, wide) = (self.hidden_size, self.intermediate_size);
        let (queries, keys) = (self.num_attention_heads * self.head_dim(), self.key_value_heads() * self.head_dim());
        let mut all = Vec::new();
        let mut push = |name: String, shape: &[usize], start| all.push(Wanted { name, shape: shape.to_vec(), start });
        let normal = Start::Normal(self.initializer_range);
        push("embed_tokens.weight".to_owned(), &[self.vocab_size, d], normal);
        for layer in 0..self.num_hidden_layers {
            let at = |rest: &str| format!("layers.{layer}.{rest}");
            push(at("input_layernorm.weight"), &[d], Start::Ones);
            for (name, d_in, d_out, bias) in [
                ("self_attn.q_proj", d, queries, self.input_bias),
                ("self_attn.k_proj", d, keys, self.input_bias),
                ("self_attn.v_proj", d, keys, self.input_bias),
                ("self_attn.o_proj", queries, d, self.attention_bias),
                ("mlp.gate_proj", d, wide, self.mlp_bias),
                ("mlp.up_proj", d, wide, self.mlp_bias),
                ("mlp.down_proj", wide, d, self.mlp_bias),
            ] {
                push(at(&format!("{name}.weight")), &[d_out, d_in], normal);
                if bias {
                    push(at(&format!("{name}.bias")), &[d_out], Start::Zeros);
                }
            }
            push(at("post_attention_layernorm.weight"), &[d], Start::Ones);
        }
        push("norm.weight".to_owned(), &[d], Start::Ones);
        if purpose == Purpose::Continue && !self.tie_word_embeddings {
            push("lm_head.weight".to_owned(), &[self.vocab_size, d], normal);
        }
        all
    }
}

/// One layer's slots.
#[derive(Clone, Debug)]
struct Layer {
    first_norm: AdaptedNorm,
    query: AdaptedLinear,
    key: AdaptedLinear,
    value: AdaptedLinear,
    projection: AdaptedLinear,
    second_norm: AdaptedNorm,
    gate: AdaptedLinear,
    up: AdaptedLinear,
    down: AdaptedLinear,
}

/// The decoder.
#[derive(Clone, Debug)]
pub struct Llama {
    config: Config,
    place: Placement,
    word: AdaptedEmbedding,
    layers: Vec<Layer>,
    norm: AdaptedNorm,
    /// The output projection where it is not the embedding table, `[vocabulary, d]`.
    output: Option<Tensor<2>>,
    /// `[d_head/2]`
    frequencies: Vec<f64>,
    /// Cosine and sine by the number of positions, made once and kept: a recorded step reads them where they lie and uploads nothing.
    turns: Arc<Mutex<BTreeMap<usize, [Tensor<4>; 2]>>>,
}

impl Llama {
    /// The decoder from weights that were checked against what `purpose` wants of `config`.
    pub(crate) fn new(
        config: &Config,
        weights: &Weights,
        purpose: Purpose,
        place: &Placement,
    ) -> Result<Self, ModelError> {
        let (d, wide) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) =
            (config.num_attention_heads * config.head_dim(), config.key_value_heads() * config.head_dim());
        let norm = |name: String| weights.square_norm(name, config.rms_norm_eps, place);
        let layer = |index: usize| {
            let at = |rest: &str| format!("layers.{index}.{rest}");
            let linear = |rest: &str, shape, biased| weights.linear(at(rest), shape, biased, place);
            Layer {
                first_norm: norm(at("input_layernorm")),
                query: linear("self_attn.q_proj", [d, queries], config.input_bias),
                key: linear("self_attn.k_proj", [d, keys], config.input_bias),
                value: linear("self_attn.v_proj", [d, keys], config.input_bias),
                projection: linear("self_attn.o_proj", [queries, d], config.attention_bias),
                second_norm: norm(at("post_attention_layernorm")),
                gate: linear("mlp.gate_proj", [d, wide], config.mlp_bias),
                up: linear("mlp.up_proj", [d, wide], config.mlp_bias),
                down: linear("mlp.down_proj", [wide, d], config.mlp_bias),
            }
        };
        let untied = purpose == Purpose::Continue && !config.tie_word_embeddings;
        Ok(Self {
            config: config.clone(),
            place: place.clone(),
            word: weights.table("embed_tokens", config.vocab_size, d, place),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            norm: norm("norm".to_owned()),
            output: untied.then(|| weights.table("lm_head", config.vocab_size, d, place).base()),
            frequencies: config.frequencies()?,
            turns: Arc::default(),
        })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn set_dropout(&mut self, p: f64) {
        self.config.attention_dropout = p;
    }

    pub(crate) fn place(&self) -> &Placement {
        &self.place
    }

    pub(crate) fn slots(&mut self) -> Vec<Slot<'_>> {
        let mut slots = vec![Slot::Embedding(&mut self.word)];
        for layer in &mut self.layers {
            slots.extend([
                Slot::Norm(&mut layer.first_norm),
                Slot::Linear(&mut layer.query),
                Slot::Linear(&mut layer.key),
                Slot::Linear(&mut layer.value),
                Slot::Linear(&mut layer.projection),
                Slot::Norm(&mut layer.second_norm),
                Slot::Linear(&mut layer.gate),
                Slot::Linear(&mut layer.up),
                Slot::Linear(&mut layer.down),
            ]);
        }
        slots.push(Slot::Norm(&mut self.norm));
        slots
    }

    pub(crate) fn linears(&self) -> Vec<&AdaptedLinear> {
        self.layers.iter().flat_map(|l| [&l.query, &l.key, &l.value, &l.projection, &l.gate, &l.up, &l.down]).collect()
    }

    pub(crate) fn word(&self) -> &AdaptedEmbedding {
        &self.word
    }

    /// The output projection where it is not the embedding table, `[vocabulary, d]`.
    pub(crate) fn output(&self) -> Option<&Tensor<2>> {
        self.output.as_ref()
    }

    /// How many layers.
    pub(crate) fn depth(&self) -> usize {
        self.layers.len()
    }

    /// What the first layer is given, `[rows, seq, d]`.
    pub(crate) fn embed(&self, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        self.word.forward(tokens.ids.clone(), pass)
    }

    /// One layer, `[rows, seq, d]` to the same.
    pub(crate) fn layer(&self, index: usize, x: Tensor<3>, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        let (layer, [_, seq, _]) = (&self.layers[index], x.dims());
        let turns = self.turns(seq);
        let normed = layer.first_norm.forward(x.clone(), pass);
        let x = x + self.attention(layer, index, &normed, &turns, tokens, pass);
        let normed = layer.second_norm.forward(x.clone(), pass);
        let [gate, up] =
            AdaptedLinear::forward_all([&layer.gate, &layer.up], &normed, pass, &pass.input_grad(layer.gate.name()));
        x + layer.down.forward(self.config.hidden_act.apply(gate) * up, pass)
    }

    /// What comes after the last layer.
    pub(crate) fn finish(&self, x: Tensor<3>, pass: &Pass) -> Tensor<3> {
        self.norm.forward(x, pass)
    }

    /// Cosine and sine of every position, `[1, 1, seq, d_head]` each, computed in f64.
    fn turns(&self, seq: usize) -> [Tensor<4>; 2] {
        // Tables of few lengths serve all: a generation has one more position at every token.
        let length = seq.next_power_of_two();
        let mut known = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = known.entry(length).or_insert_with(|| self.tables(length)).clone();
        whole.map(|table| table.slice([0..1, 0..1, 0..seq]))
    }

    fn tables(&self, seq: usize) -> [Tensor<4>; 2] {
        let table = |f: fn(f64) -> f64| {
            let row = |p: usize| {
                let half = self.frequencies.iter().map(move |w| f(p as f64 * w));
                half.clone().chain(half)
            };
            self.place.frozen((0..seq).flat_map(row).collect(), [1, 1, seq, 2 * self.frequencies.len()])
        };
        [table(f64::cos), table(f64::sin)]
    }

    fn attention(
        &self,
        layer: &Layer,
        index: usize,
        x: &Tensor<3>,
        turns: &[Tensor<4>; 2],
        tokens: &Tokens,
        pass: &Pass,
    ) -> Tensor<3> {
        let (heads, shared) = (self.config.num_attention_heads, self.config.key_value_heads());
        let maps = [&layer.query, &layer.key, &layer.value];
        let [query, key, value] = AdaptedLinear::forward_all(maps, x, pass, &pass.input_grad(layer.query.name()));
        let query = turn(split_heads(query, heads), turns);
        let key = turn(split_heads(key, shared), turns);
        let value = split_heads(value, shared);
        let each = heads / shared;
        let drop = dropout_at(&format!("layers.{index}.self_attn.dropout"), self.config.attention_dropout, pass);
        let operands = [query, repeat(key, each), repeat(value, each)].map(join_heads);
        let mixed = attend(operands, tokens.mask(), (heads, per_width(self.config.head_dim())), drop);
        layer.projection.forward(mixed, pass)
    }
}

/// `[rows, seq, heads·d_head]` to `[rows, heads, seq, d_head]`.
fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [rows, seq, d] = x.dims();
    x.reshape([rows, seq, heads, d / heads]).swap_dims(1, 2)
}

/// The inverse of [`split_heads`].
fn join_heads(x: Tensor<4>) -> Tensor<3> {
    let [rows, heads, seq, d_head] = x.dims();
    x.swap_dims(1, 2).reshape([rows, seq, heads * d_head])
}

/// `x∘cos + half(x)∘sin`, `[rows, heads, seq, d_head]`.
fn turn(x: Tensor<4>, [cos, sin]: &[Tensor<4>; 2]) -> Tensor<4> {
    let [rows, heads, seq, d] = x.dims();
    let part = |from: usize, to: usize| x.clone().slice([0..rows, 0..heads, 0..seq, from..to]);
    let half = Tensor::cat(vec![part(d / 2, d).neg(), part(0, d / 2)], 3);
    x * cos.clone() + half * sin.clone()
}

/// Every head `times` in a row, `[rows, heads, seq, d_head]` to `[rows, heads·times, seq, d_head]`.
fn repeat(x: Tensor<4>, times: usize) -> Tensor<4> {
    if times == 1 {
        return x;
    }
    let [rows, heads, seq, d] = x.dims();
    x.reshape([rows, heads, 1, seq, d]).repeat_dim(2, times).reshape([rows, heads * times, seq, d])
}
