//! Which maps a target means, on every architecture.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(clippy::disallowed_methods, reason = "fixtures are files")]

use models::{
    catalog,
    config::{Config, MapKind},
    target::Target,
};

fn config(arch: &str) -> Config {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(arch).join("config.json");
    Config::read(&std::fs::read(path).unwrap()).unwrap()
}

fn endings(list: &[&str]) -> Target {
    Target::Endings(list.iter().map(|ending| (*ending).to_owned()).collect())
}

fn pattern(text: &str) -> Target {
    Target::Pattern(text.to_owned())
}

#[test]
fn maps_have_names_and_shapes() {
    let config = catalog::find("mini_roberta").unwrap().config().unwrap();
    let all = pattern("all-linear").select(&config).unwrap();
    assert_eq!(all.len(), 6 * 4);
    assert_eq!(all["encoder.layer.0.intermediate.dense"].shape, [128, 512]);
    assert_eq!(all["encoder.layer.0.output.dense"].shape, [512, 128]);
    let table = endings(&["word_embeddings"]).select(&config).unwrap();
    assert_eq!((table.len(), &table["embeddings.word_embeddings"].kind), (1, &MapKind::Table));
    assert_eq!(table["embeddings.word_embeddings"].shape, [1561, 128]);
}

#[test]
fn all_linear_is_what_peft_takes() {
    let count = |arch: &str| pattern("all-linear").select(&config(arch)).unwrap().len();
    // Two layers each. BERT's pooler is linear too; GPT-2's fused map counts once; no output projection.
    assert_eq!((count("bert"), count("roberta"), count("gpt2"), count("llama")), (13, 12, 8, 14));
}

#[test]
fn parts_of_a_fused_map_are_named_by_themselves() {
    let config = config("gpt2");
    let whole = endings(&["c_attn"]).select(&config).unwrap();
    assert_eq!(whole["h.1.attn.c_attn"].shape, [24, 72]);
    let parts = endings(&["c_attn.q", "c_attn.v"]).select(&config).unwrap();
    assert_eq!((parts.len(), parts["h.0.attn.c_attn.v"].shape), (4, [24, 24]));
    let both = endings(&["c_attn", "c_attn.q"]).select(&config).unwrap_err().to_string();
    assert!(both.contains("`h.0.attn.c_attn` and its part `h.0.attn.c_attn.q`"), "{both}");
    // An expression that matches everything means the whole.
    assert_eq!(pattern(r".*attn\..*").select(&config).unwrap().len(), 4);
}

#[test]
fn grouped_queries_have_narrower_keys() {
    let maps = pattern(r".*layers\.0\.self_attn.*").select(&config("llama_tied")).unwrap();
    assert_eq!(maps["layers.0.self_attn.q_proj"].shape, [24, 40]);
    assert_eq!(maps["layers.0.self_attn.k_proj"].shape, [24, 20]);
    assert_eq!(maps["layers.0.self_attn.o_proj"].shape, [40, 24]);
}

#[test]
fn configurations_that_cannot_be_built_say_why() {
    let refused = |json: &str, parts: &[&str]| {
        let error = Config::read(json.as_bytes()).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "`{error}` lacks `{part}`");
        }
    };
    refused("{}", &["config.json", "`model_type` is missing", "llama"]);
    refused(r#"{"model_type": "t5"}"#, &["model_type is `t5`", "must be one of", "gpt2"]);
    let read = |arch: &str| -> serde_json::Value {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(arch).join("config.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let with = |arch: &str, key: &str, value: serde_json::Value| {
        let mut config = read(arch);
        config[key] = value;
        config.to_string()
    };
    refused(&with("bert", "num_attention_heads", 5.into()), &["hidden_size is `24`", "`5` heads do not divide"]);
    refused(&with("bert", "hidden_act", "mish".into()), &["mish"]);
    refused(&with("bert", "position_embedding_type", "relative_key".into()), &["relative_key", "absolute"]);
    refused(
        &with("llama", "rope_scaling", serde_json::json!({"rope_type": "yarn"})),
        &["rope_type is `yarn`", "llama3"],
    );
    refused(&with("llama", "rope_scaling", serde_json::json!({"rope_type": "linear"})), &["`factor` is missing"]);
    refused(&with("gpt2", "n_head", 7.into()), &["n_embd is `24`"]);
}
