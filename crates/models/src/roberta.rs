//! RoBERTa (and BERT's encoder): post-norm transformer encoder, under Hugging Face's module names.
//!
//! `x = LN(E_word + E_position + E_type)`; each layer `x = LN(x + O·attention(x))`,
//! `x = LN(x + W₂·gelu(W₁·x))`. Positions count from `pad_token_id + 1`, as in transformers.

use burn::tensor::{Int, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};
use variants::{
    adapted::AdaptedLinear,
    dropout,
    embedding::AdaptedEmbedding,
    host::Place,
    norm::AdaptedNorm,
    pass::{Pass, join, split},
    slot::Slot,
};

use crate::{
    error::ModelError,
    weights::{Start, Wanted, Weights, transposed},
};

/// The part of config.json that the architecture depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
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
    /// Position embeddings, the offset's two included.
    pub max_position_embeddings: usize,
    /// Token types.
    pub type_vocab_size: usize,
    /// Epsilon of layer norms.
    pub layer_norm_eps: f64,
    /// Padding token; positions count from the next number.
    pub pad_token_id: usize,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// Dropout of hidden states in training.
    pub hidden_dropout_prob: f64,
    /// Dropout of attention weights in training.
    pub attention_probs_dropout_prob: f64,
}

impl Config {
    /// Reads config.json.
    pub fn read(json: &[u8]) -> Result<Self, ModelError> {
        let config: Self = serde_json::from_slice(json).map_err(|error| ModelError::Config(error.to_string()))?;
        if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            return Err(ModelError::Config(format!(
                "hidden_size is `{}`, which `{}` heads do not divide",
                config.hidden_size, config.num_attention_heads
            )));
        }
        Ok(config)
    }

    /// Every tensor of the encoder and its masked-language-modelling head.
    pub fn wanted(&self, with_lm_head: bool) -> Vec<Wanted> {
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
        if with_lm_head {
            linear("lm_head.dense", d, d, &mut push);
            norm("lm_head.layer_norm", &mut push);
            push("lm_head.bias".to_owned(), &[self.vocab_size], Start::Zeros);
        }
        all
    }
}

/// Token ids of a padded batch on the device.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// `[rows, seq]`
    pub ids: Tensor<2, Int>,
    /// `[rows, seq]`
    pub positions: Tensor<2, Int>,
    /// 0 where a key may be attended to and a large negative number where not, `[rows, 1, 1, seq]`.
    pub attention_bias: Tensor<4>,
}

impl Tokens {
    /// From right-padded `ids` `[rows, seq]` with the real length of each row.
    pub fn new(ids: &[u32], lengths: &[usize], pad: usize, place: &Place) -> Self {
        let (rows, seq) = (lengths.len(), ids.len() / lengths.len());
        let per_row = |f: &dyn Fn(usize, usize) -> i64| -> Vec<i64> {
            lengths.iter().flat_map(|&length| (0..seq).map(move |p| (length, p))).map(|(l, p)| f(l, p)).collect()
        };
        let positions = per_row(&|length, p| if p < length { (pad + 1 + p) as i64 } else { pad as i64 });
        let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
        let int = |values: Vec<i64>| Tensor::from_data(TensorData::new(values, [rows, seq]), &place.device);
        // Finite, so that a filler row of padding alone yields numbers and not NaN.
        let bias = lengths.iter().flat_map(|&length| (0..seq).map(move |p| if p < length { 0.0 } else { -1e9 }));
        Self {
            ids: int(ids),
            positions: int(positions),
            attention_bias: place.tensor(bias.collect(), [rows, 1, 1, seq]),
        }
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
pub struct Roberta {
    config: Config,
    place: Place,
    word: AdaptedEmbedding,
    position: AdaptedEmbedding,
    token_type: AdaptedEmbedding,
    norm: AdaptedNorm,
    layers: Vec<Layer>,
}

impl Roberta {
    /// The encoder from weights that fit `config`.
    pub fn new(config: &Config, weights: &Weights, place: &Place) -> Result<Self, ModelError> {
        weights.check(&config.wanted(false))?;
        let (d, wide) = (config.hidden_size, config.intermediate_size);
        let vector = |name: &str| -> Tensor<1> {
            let values: Vec<f64> = weights.get(name).iter().map(|v| f64::from(*v)).collect();
            let n = values.len();
            place.tensor(values, [n])
        };
        let linear = |name: String, d_in: usize, d_out: usize| {
            let weight = place.tensor(transposed(weights.get(&format!("{name}.weight")), d_out, d_in), [d_in, d_out]);
            let bias = vector(&format!("{name}.bias"));
            AdaptedLinear::new(name, weight, Some(bias))
        };
        let norm = |name: String| {
            let (gamma, beta) = (vector(&format!("{name}.weight")), vector(&format!("{name}.bias")));
            AdaptedNorm::new(name, gamma, beta, config.layer_norm_eps)
        };
        let table = |name: &str, rows: usize| {
            let values = weights.get(&format!("{name}.weight")).iter().map(|v| f64::from(*v)).collect();
            AdaptedEmbedding::new(name, place.tensor(values, [rows, d]))
        };
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
        Ok(Self {
            config: config.clone(),
            place: place.clone(),
            word: table("embeddings.word_embeddings", config.vocab_size),
            position: table("embeddings.position_embeddings", config.max_position_embeddings),
            token_type: table("embeddings.token_type_embeddings", config.type_vocab_size),
            norm: norm("embeddings.LayerNorm".to_owned()),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where its tensors live.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Every slot, in the order of the forward pass.
    pub fn slots(&mut self) -> Vec<Slot<'_>> {
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
        slots
    }

    /// Every linear map, in the order of the forward pass.
    pub fn linears(&self) -> Vec<&AdaptedLinear> {
        self.layers
            .iter()
            .flat_map(|l| [&l.query, &l.key, &l.value, &l.attention_output, &l.intermediate, &l.output])
            .collect()
    }

    /// The word embeddings, for tied output projections.
    pub fn word(&self) -> &AdaptedEmbedding {
        &self.word
    }

    /// `[rows, seq]` tokens to `[rows, seq, d_model]` hidden states.
    pub fn forward(&self, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        let types = tokens.ids.zeros_like();
        let x = self.word.forward(tokens.ids.clone(), pass)
            + self.position.forward(tokens.positions.clone(), pass)
            + self.token_type.forward(types, pass); // [rows, seq, d_model]
        let mut x = self.drop(self.norm.forward(x, pass), "embeddings", pass);
        for (index, layer) in self.layers.iter().enumerate() {
            x = self.layer(layer, index, x, tokens, pass);
        }
        x
    }

    fn layer(&self, layer: &Layer, index: usize, x: Tensor<3>, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        let attended = self.attention(layer, index, x.clone(), tokens, pass);
        let attended = self.drop(attended, &format!("encoder.layer.{index}.attention.output"), pass);
        let x = layer.attention_norm.forward(x + attended, pass);
        let wide = activation::gelu(layer.intermediate.forward(x.clone(), pass)); // [rows, seq, d_ffn]
        let narrow = self.drop(layer.output.forward(wide, pass), &format!("encoder.layer.{index}.output"), pass);
        layer.output_norm.forward(x + narrow, pass)
    }

    fn attention(&self, layer: &Layer, index: usize, x: Tensor<3>, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        let [rows, seq, d_model] = x.dims();
        let heads = self.config.num_attention_heads;
        let d_head = d_model / heads;
        let split_heads = |t: Tensor<3>| t.reshape([rows, seq, heads, d_head]).swap_dims(1, 2); // [rows, heads, seq, d_head]
        // The scale goes on the smaller operand.
        let query = split_heads(layer.query.forward(x.clone(), pass) * (1.0 / (d_head as f64).sqrt()));
        let key = split_heads(layer.key.forward(x.clone(), pass));
        let value = split_heads(layer.value.forward(x, pass));
        let scores = query.matmul(key.swap_dims(2, 3)) + tokens.attention_bias.clone(); // [rows, heads, seq, seq]
        let weights = self.drop_attention(activation::softmax(scores, 3), index, pass);
        let mixed = weights.matmul(value).swap_dims(1, 2).reshape([rows, seq, d_model]);
        layer.attention_output.forward(mixed, pass)
    }

    /// Dropout of hidden states, `[rows, seq, d]`.
    fn drop(&self, x: Tensor<3>, site: &str, pass: &Pass) -> Tensor<3> {
        self.drop_at(x, dropout::site(&format!("{site}.dropout")), self.config.hidden_dropout_prob, pass)
    }

    /// Dropout of attention weights, `[rows, heads, seq, seq]`; a position is a (query, head) pair and a
    /// feature a key, so a bit does not depend on the padding.
    fn drop_attention(&self, x: Tensor<4>, index: usize, pass: &Pass) -> Tensor<4> {
        let p = self.config.attention_probs_dropout_prob;
        if p == 0.0 {
            return x;
        }
        let [rows, heads, seq, _] = x.dims();
        let flat = x.swap_dims(1, 2).reshape([rows, seq * heads, seq]);
        let site = dropout::site(&format!("encoder.layer.{index}.attention.self.dropout"));
        self.drop_at(flat, site, p, pass).reshape([rows, seq, heads, seq]).swap_dims(1, 2)
    }

    fn drop_at(&self, x: Tensor<3>, site: u64, p: f64, pass: &Pass) -> Tensor<3> {
        if p == 0.0 {
            return x;
        }
        let [rows, positions, width] = x.dims();
        let per_run = rows / pass.runs();
        let parts = split(&x, pass).into_iter().zip(&pass.stacks).map(|(part, here)| {
            match dropout::mask(here, site, p, [per_run, positions, width], &self.place) {
                Some(mask) => part * mask,
                None => part,
            }
        });
        join(parts.collect(), rows, positions)
    }
}
