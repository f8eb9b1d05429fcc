//! `config.json` that says what cannot be, or what is not built here.

use serde_json::{Value, json};

use crate::{
    base::{Base, LLAMA, PREDICT},
    case::Case,
};

/// One field of BERT's configuration.
fn bert(name: &str, field: &'static str, value: Value) -> Case {
    Case::new(format!("config: {name}"), PREDICT, move |place| Base::new().with(field, value.clone()).put(place))
}

/// One field of Llama's.
fn llama(name: &str, field: &'static str, value: Value) -> Case {
    Case::new(format!("config of Llama: {name}"), LLAMA, move |place| {
        Base::llama().with(field, value.clone()).put(place);
    })
}

fn file(name: &str, bytes: &'static [u8]) -> Case {
    Case::new(format!("config: {name}"), PREDICT, move |place| {
        Base::new().put(place);
        place.write("base/config.json", bytes);
    })
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = vec![
        file("an empty file", b""),
        file("no JSON", b"model_type: bert"),
        file("a list", b"[]"),
        file("cut short", b"{\"model_type\": \"bert\", \"hidden_si"),
        file("a lone surrogate", b"{\"model_type\": \"\\ud800\"}"),
        file("text that is not UTF-8", b"{\"model_type\": \"\xff\"}"),
        bert("an unknown architecture", "model_type", json!("bart")),
        bert("a number for the architecture", "model_type", json!(3)),
        bert("another width than the tensors'", "hidden_size", json!(32)),
        bert("a width of 0", "hidden_size", json!(0)),
        bert("a width below 0", "hidden_size", json!(-16)),
        bert("a width of 2^63", "hidden_size", json!(9_223_372_036_854_775_808_u64)),
        bert("a width that is a fraction", "hidden_size", json!(16.5)),
        bert("a width that is text", "hidden_size", json!("16")),
        bert("heads that do not divide", "num_attention_heads", json!(3)),
        bert("no heads", "num_attention_heads", json!(0)),
        bert("more layers than tensors", "num_hidden_layers", json!(2)),
        bert("10^12 layers", "num_hidden_layers", json!(1_000_000_000_000_u64)),
        bert("2^64 - 1 layers", "num_hidden_layers", json!(u64::MAX)),
        bert("another vocabulary than the table", "vocab_size", json!(17)),
        bert("a vocabulary of 2^63", "vocab_size", json!(9_223_372_036_854_775_808_u64)),
        bert("a smaller vocabulary than the tokenizer's", "vocab_size", json!(8)),
        bert("positions of 2^64 - 1", "max_position_embeddings", json!(u64::MAX)),
        bert("no positions", "max_position_embeddings", json!(0)),
        bert("a padding token of 2^64 - 1", "pad_token_id", json!(u64::MAX)),
        bert("an unknown activation", "hidden_act", json!("mish")),
        bert("relative positions", "position_embedding_type", json!("relative_key")),
        bert("an epsilon that is text", "layer_norm_eps", json!("tiny")),
        bert("an epsilon below 0", "layer_norm_eps", json!(-1.0)),
        bert("dropout above 1", "hidden_dropout_prob", json!(1.5)),
        llama("a head's width of 2^62", "head_dim", json!(1_u64 << 62)),
        llama("an odd width of a head", "head_dim", json!(7)),
        llama("heads of keys that do not divide", "num_key_value_heads", json!(3)),
        llama("no heads of keys", "num_key_value_heads", json!(0)),
        llama("an unknown stretch", "rope_scaling", json!({"rope_type": "yarn", "factor": 4.0})),
        llama("a stretch without its factor", "rope_scaling", json!({"rope_type": "linear"})),
        llama("a stretch by 0", "rope_scaling", json!({"rope_type": "linear", "factor": 0.0})),
        llama("a rotary base of 0", "rope_theta", json!(0.0)),
    ];
    for field in ["model_type", "hidden_size", "num_hidden_layers", "vocab_size"] {
        all.push(Case::new(format!("config: no {field}"), PREDICT, move |place| Base::new().without(field).put(place)));
    }
    all.push(Case::new("config: lists in lists", PREDICT, |place| {
        Base::new().put(place);
        place.write("base/config.json", format!("{{\"a\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000)));
    }));
    #[cfg(unix)]
    all.push(Case::new("config: a link to zeros without end", PREDICT, |place| {
        Base::new().put(place);
        std::fs::remove_file(place.inside().join("base/config.json")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", place.inside().join("base/config.json")).unwrap();
    }));
    all.push(Case::new("config: a FIFO that nobody writes to", PREDICT, |place| {
        Base::new().put(place);
        let path = place.inside().join("base/config.json");
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    }));
    all
}
