//! Checkpoints of 16 features and one layer: BERT with a head of two classes, and Llama.

use serde_json::{Map, Value, json};

use crate::{
    place::Place,
    tensors::{Tensor, file},
};

/// Opens every file of the checkpoint.
pub(crate) const PREDICT: &str = "predict --model ./base --task cola --data rows.tsv --out out.safetensors";
/// The same for a decoder's.
pub(crate) const LLAMA: &str = "predict --model ./base --task cola --data rows.tsv --out out.safetensors";

const WORDS: [&str; 16] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "is", "good", "bad", "the", "plot", "so", "never", "|",
    "old",
];

/// A checkpoint in parts.
pub(crate) struct Base {
    pub(crate) config: Value,
    pub(crate) tokenizer: Value,
    pub(crate) tokenizer_config: Value,
    pub(crate) tensors: Vec<Tensor>,
}

impl Base {
    pub(crate) fn new() -> Self {
        Self {
            config: json!({
                "architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": WORDS.len(), "max_position_embeddings": 32,
                "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
                "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
            }),
            tokenizer: tokenizer(),
            tokenizer_config: json!({
                "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]",
            }),
            tensors: bert(),
        }
    }

    pub(crate) fn llama() -> Self {
        Self {
            config: json!({
                "architectures": ["LlamaForSequenceClassification"], "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24, "vocab_size": WORDS.len(),
                "max_position_embeddings": 32, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu", "pad_token_id": 0,
                "tie_word_embeddings": false,
            }),
            tensors: llama(),
            ..Self::new()
        }
    }

    /// The checkpoint with one field of its configuration changed.
    pub(crate) fn with(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    /// Without a field of its configuration.
    pub(crate) fn without(mut self, field: &str) -> Self {
        self.config.as_object_mut().map(|fields| fields.remove(field));
        self
    }

    /// Writes `base`, and rows to predict.
    pub(crate) fn put(&self, place: &Place) {
        self.put_description(place);
        place.write("base/model.safetensors", file(&self.tensors));
    }

    /// Everything but the weights.
    pub(crate) fn put_description(&self, place: &Place) {
        place.json("base/config.json", &self.config);
        place.json("base/tokenizer.json", &self.tokenizer);
        place.json("base/tokenizer_config.json", &self.tokenizer_config);
        place.write("rows.tsv", "src\t1\t\ta good film\nsrc\t0\t\tthe plot is old\n");
    }

    /// Two shards and their index.
    pub(crate) fn put_in_shards(&self, place: &Place) {
        self.put_description(place);
        let (first, second) = self.tensors.split_at(self.tensors.len() / 2);
        let mut map = Map::new();
        for (name, tensors) in [(SHARDS[0], first), (SHARDS[1], second)] {
            place.write(&format!("base/{name}"), file(tensors));
            map.extend(tensors.iter().map(|tensor| (tensor.name.clone(), json!(name))));
        }
        place.json(INDEX, &json!({"metadata": {"total_size": 0}, "weight_map": map}));
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }
}

pub(crate) const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
pub(crate) const INDEX: &str = "base/model.safetensors.index.json";

fn linear(name: &str, d_in: usize, d_out: usize) -> [Tensor; 2] {
    [Tensor::new(format!("{name}.weight"), &[d_out, d_in]), Tensor::new(format!("{name}.bias"), &[d_out])]
}

fn norm(name: &str) -> [Tensor; 2] {
    [Tensor::filled(format!("{name}.weight"), &[16], 1.0), Tensor::filled(format!("{name}.bias"), &[16], 0.0)]
}

fn bert() -> Vec<Tensor> {
    let mut all = Vec::new();
    for (table, rows) in [("word", WORDS.len()), ("position", 32), ("token_type", 2)] {
        all.push(Tensor::new(format!("bert.embeddings.{table}_embeddings.weight"), &[rows, 16]));
    }
    all.extend(norm("bert.embeddings.LayerNorm"));
    let layer = |rest: &str| format!("bert.encoder.layer.0.{rest}");
    for map in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
        all.extend(linear(&layer(map), 16, 16));
    }
    all.extend(norm(&layer("attention.output.LayerNorm")));
    all.extend(linear(&layer("intermediate.dense"), 16, 24));
    all.extend(linear(&layer("output.dense"), 24, 16));
    all.extend(norm(&layer("output.LayerNorm")));
    all.extend(linear("bert.pooler.dense", 16, 16));
    all.extend(linear("classifier", 16, 2));
    all
}

fn llama() -> Vec<Tensor> {
    let layer = |rest: &str| format!("model.layers.0.{rest}");
    let maps = [
        ("self_attn.q_proj", 16, 16),
        ("self_attn.k_proj", 8, 16),
        ("self_attn.v_proj", 8, 16),
        ("self_attn.o_proj", 16, 16),
        ("mlp.gate_proj", 24, 16),
        ("mlp.up_proj", 24, 16),
        ("mlp.down_proj", 16, 24),
    ];
    let mut all = vec![
        Tensor::new("model.embed_tokens.weight", &[WORDS.len(), 16]),
        Tensor::filled("model.norm.weight", &[16], 1.0),
        Tensor::new("score.weight", &[2, 16]),
        Tensor::new("lm_head.weight", &[WORDS.len(), 16]),
        Tensor::filled(layer("input_layernorm.weight"), &[16], 1.0),
        Tensor::filled(layer("post_attention_layernorm.weight"), &[16], 1.0),
    ];
    all.extend(maps.map(|(name, d_out, d_in)| Tensor::new(layer(&format!("{name}.weight")), &[d_out, d_in])));
    all
}

fn tokenizer() -> Value {
    let special = |(id, content): (usize, &&str)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
        })
    };
    let added: Vec<Value> = WORDS[..5].iter().enumerate().map(special).collect();
    let vocab: Map<String, Value> =
        WORDS.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
    })
}
