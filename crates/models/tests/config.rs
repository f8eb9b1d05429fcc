//! config.json: every field is honoured, or refused where another value would be another function, or known to have no effect, or said.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(clippy::disallowed_methods, reason = "fixtures are files")]

use models::config::{
    Config, ConfigFile, MODEL_TYPES,
    fields::{Effect, effect},
    labels::order,
};
use serde_json::{Map, Value, json};

fn fixture(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The defaults of a model type in transformers' newest release, with other fields.
fn with(model_type: &str, fields: &Value) -> Value {
    let mut config = fixture("config_defaults.json")["5"][model_type].clone();
    config["model_type"] = model_type.into();
    for (name, value) in fields.as_object().unwrap() {
        config[name.as_str()] = value.clone();
    }
    config
}

fn without(model_type: &str, fields: &[&str]) -> Value {
    let mut config = with(model_type, &json!({}));
    for field in fields {
        config.as_object_mut().unwrap().remove(*field);
    }
    config
}

fn read(config: &Value) -> ConfigFile {
    ConfigFile::read(config.to_string().as_bytes()).unwrap_or_else(|error| panic!("{config}: {error}"))
}

#[track_caller]
fn refused(config: &Value, parts: &[&str]) {
    let error = ConfigFile::read(config.to_string().as_bytes()).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "`{error}` lacks `{part}`");
    }
    assert!(error.len() < 1000, "{} characters", error.len());
}

#[test]
fn what_transformers_writes_is_known_and_built() {
    let fixture = fixture("config_defaults.json");
    for release in ["4.57", "5"] {
        let defaults = fixture[release].as_object().unwrap();
        assert_eq!(defaults.keys().map(String::as_str).collect::<Vec<_>>(), {
            let mut types = MODEL_TYPES.to_vec();
            types.sort_unstable();
            types
        });
        for (model_type, fields) in defaults {
            let mut config: Map<String, Value> = fixture["every_field"].as_object().unwrap().clone();
            config.extend(fields.as_object().unwrap().clone());
            config.insert("model_type".to_owned(), model_type.as_str().into());
            let found = read(&Value::Object(config.clone()));
            // Mistral's own default is a window that its positions exceed.
            let expected = usize::from(model_type == "mistral");
            assert_eq!(found.notes.len(), expected, "{release} {model_type}: {:?}", found.notes);
            assert_eq!(found.labels, None);
            for name in config.keys() {
                assert!(effect(model_type, name).is_some(), "{release} {model_type}: {name}");
            }
        }
    }
}

#[test]
fn the_lists_have_each_field_once_and_state_reasons() {
    for model_type in MODEL_TYPES {
        for name in fixture("config_defaults.json")["every_field"].as_object().unwrap().keys() {
            if let Some(Effect::None(reason)) = effect(model_type, name) {
                assert!(reason.split(' ').count() > 3, "{name}: {reason}");
            }
        }
        assert_eq!(effect(model_type, "vocab_size"), Some(Effect::Honoured));
        assert_eq!(effect(model_type, "no_such_field"), None);
    }
}

#[test]
fn unknown_fields_are_said() {
    let found = read(&with("bert", &json!({"embedding_scale": 2.0, "nothing": null, "mup": true})));
    assert_eq!(
        found.notes,
        ["config.json: fields that are not known here and have no effect: `embedding_scale`, `mup`"]
    );
    let many: Map<String, Value> = (0..100_000).map(|at| (format!("field_{at}"), json!(1))).collect();
    let found = read(&with("llama", &Value::Object(many)));
    assert!(found.notes[0].ends_with("and 99992 more") && found.notes[0].len() < 300, "{:?}", found.notes);
}

#[test]
fn what_would_be_another_function_is_refused_by_name() {
    let refuse = |model_type: &str, fields: Value, parts: &[&str]| refused(&with(model_type, &fields), parts);
    refuse("bert", json!({"position_embedding_type": "relative_key"}), &["position_embedding_type is `relative_key`"]);
    refuse(
        "bert",
        json!({"add_cross_attention": true}),
        &["add_cross_attention is `true`, but only `false` is built in"],
    );
    refuse("roberta", json!({"pruned_heads": {"0": [1]}}), &["pruned_heads is `{\"0\":[1]}`"]);
    refuse("bert", json!({"pooler_type": "last"}), &["pooler_type is `last`", "first_token_transform"]);
    refuse("gpt2", json!({"scale_attn_by_inverse_layer_idx": true}), &["scale_attn_by_inverse_layer_idx is `true`"]);
    refuse("gpt2", json!({"tie_word_embeddings": false}), &["tie_word_embeddings is `false`"]);
    refuse("gpt2", json!({"tie_word_embeddings": null}), &["tie_word_embeddings is `null`"]);
    refuse("mistral", json!({"attention_bias": true}), &["attention_bias is `true`"]);
    refuse("llama", json!({"partial_rotary_factor": 0.5}), &["partial_rotary_factor is `0.5`", "`1.0`"]);
    read(&with("llama", &json!({"partial_rotary_factor": 1})));
    let quantised = json!({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true}});
    refuse("roberta", quantised, &["quantization_config", "quantised (bitsandbytes)", "dequantize()"]);
    // All at once.
    refuse(
        "bert",
        json!({"is_encoder_decoder": true, "add_cross_attention": true}),
        &["is_encoder_decoder", "add_cross"],
    );
}

#[test]
fn rotary_positions_are_read_in_every_form() {
    let scaled = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    let mut within = scaled.clone();
    within["rope_theta"] = 500.0.into();
    let both = {
        let mut both = scaled.clone();
        both["type"] = "llama3".into();
        both
    };
    let new = read(&with("llama", &json!({"rope_parameters": within}))).config;
    let old = |rope: &Value| {
        let mut config = without("llama", &["rope_parameters"]);
        config["rope_theta"] = 500.0.into();
        config["rope_scaling"] = rope.clone();
        config
    };
    let Config::Llama(found) = &new else { panic!("a llama") };
    assert_eq!((found.rope_theta, found.rope_scaling.as_ref().unwrap().rope_type.as_str()), (500.0, "llama3"));
    for rope in [&scaled, &both] {
        assert_eq!(read(&old(rope)).config, new);
    }
    let mut original_outside = old(&scaled);
    original_outside["rope_scaling"].as_object_mut().unwrap().remove("original_max_position_embeddings");
    refused(&original_outside, &["`original_max_position_embeddings` is missing"]);
    original_outside["original_max_position_embeddings"] = 8192.into();
    assert_eq!(read(&original_outside).config, new);

    // Two forms that contradict each other.
    let mut apart = old(&both);
    apart["rope_scaling"]["type"] = "linear".into();
    refused(&apart, &["rope_type is `linear` in `type`, but `llama3` in `rope_type`", "leave one"]);
    let mut apart = with("llama", &json!({"rope_parameters": within, "rope_theta": 10_000.0}));
    refused(&apart, &["rope_theta is `500.0` in rope_parameters, but `10000.0` in config.json"]);
    apart["rope_theta"] = 500.into();
    assert_eq!(read(&apart).config, new);
    apart["rope_scaling"] = json!({"rope_type": "linear", "factor": 2.0});
    refused(&apart, &["in rope_scaling, but", "in rope_parameters"]);

    let said = read(&with("llama", &json!({"rope_parameters": {"rope_theta": 5.0, "factor": 2.0}})));
    assert!(said.notes[0].ends_with("no effect where rope_type is `default`: `factor`"), "{:?}", said.notes);

    for (rope, parts) in [
        (json!({"full_attention": {"rope_theta": 1.0}}), &["`full_attention` apart"][..]),
        (json!("llama3"), &["rope_parameters is `llama3`, but must be an object"]),
        (json!({"rope_type": "yarn", "factor": 2.0}), &["rope_type is `yarn`", "`linear` or `llama3`"]),
        (json!({"rope_type": "linear", "factor": 0.0}), &["factor is `0`", "above 0"]),
        (json!({"rope_theta": 0.0}), &["rope_theta is `0`", "above 0"]),
        (json!({"rope_theta": 1.0, "partial_rotary_factor": 0.25}), &["partial_rotary_factor is `0.25`"]),
    ] {
        refused(&with("llama", &json!({"rope_parameters": rope})), parts);
    }
    let mut turned = scaled.clone();
    turned["high_freq_factor"] = 1.0.into();
    refused(&old(&turned), &["low_freq_factor is `1`, but must be less than high_freq_factor `1`"]);
    let said = read(&with("llama", &json!({"rope_parameters": {"rope_theta": 5.0, "mscale": 1.0}})));
    assert!(said.notes[0].contains("`mscale`"), "{:?}", said.notes);
}

/// transformers 5.24, `convert_rope_params_to_dict`: `self.rope_parameters = rope_scaling or self.rope_parameters`, so that nothing of
/// `rope_parameters` is read beside `rope_scaling`; transformers 4.57 has no `rope_parameters`.
#[test]
fn both_forms_of_rotary_positions_are_refused_unless_they_say_the_same() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    let also = |base: &Value, fields: Value| {
        let mut all = base.clone();
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        all
    };
    let both = |old: &Value, new: &Value| with("llama", &json!({"rope_scaling": old, "rope_parameters": new}));
    let linear = json!({"type": "linear", "factor": 2.0});
    for (old, new, parts) in [
        (
            &linear,
            json!({"rope_type": "default", "rope_theta": 10000.0}),
            &["factor is `2.0` in rope_scaling, but is absent in rope_parameters", "leave one of them out"][..],
        ),
        (
            &json!({"type": "linear"}),
            json!({"rope_type": "default"}),
            &["rope_type is `linear` in rope_scaling, but is `default` in rope_parameters"],
        ),
        (
            &json!({"rope_type": "default"}),
            json!({"type": "linear", "factor": 2.0}),
            &["factor is absent in rope_scaling"],
        ),
        (
            &llama3,
            json!({"rope_theta": 500_000}),
            &["factor is `8.0` in rope_scaling, but is absent in rope_parameters"],
        ),
        // transformers reads 10000.
        (
            &llama3,
            also(&llama3, json!({"rope_theta": 500_000})),
            &["rope_theta is absent (so `10000.0`) in rope_scaling, but is `500000` in rope_parameters"],
        ),
        (&also(&llama3, json!({"rope_theta": 500})), llama3.clone(), &["is absent (so `10000.0`) in rope_parameters"]),
        (&linear, json!({"type": "linear", "factor": 4}), &["factor is `2.0` in rope_scaling, but is `4` in"]),
        (&linear, json!({"type": "linear", "factor": 2, "mscale": 1}), &["mscale is absent in rope_scaling"]),
    ] {
        refused(&both(old, &new), parts);
    }
    let alone = |rope: &Value| read(&with("llama", &json!({"rope_parameters": rope}))).config;
    let stretched = also(&llama3, json!({"rope_theta": 500_000}));
    for (old, new, meant) in [
        (&linear, json!({"rope_type": "linear", "factor": 2}), &linear),
        (&linear, json!({"rope_type": "linear", "factor": 2, "rope_theta": 1e4}), &linear),
        (&llama3, also(&llama3, json!({"partial_rotary_factor": 1, "type": "llama3"})), &llama3),
        (&stretched, stretched.clone(), &stretched),
        (&json!({}), stretched.clone(), &stretched),
        (&json!(null), stretched.clone(), &stretched),
    ] {
        assert_eq!(read(&both(old, &new)).config, alone(meant), "{old} {new}");
    }
    // What stands beside both forms counts for the one that lacks it.
    let mut beside = both(&llama3, &stretched);
    beside["rope_theta"] = 500_000.into();
    assert_eq!(read(&beside).config, alone(&stretched));
    for form in ["rope_scaling", "rope_parameters"] {
        let mut beside = both(&stretched, &stretched);
        beside["original_max_position_embeddings"] = 8192.into();
        beside[form].as_object_mut().unwrap().remove("original_max_position_embeddings");
        assert_eq!(read(&beside).config, alone(&stretched));
        beside["original_max_position_embeddings"] = 4096.into();
        refused(&beside, &["original_max_position_embeddings is ", "absent (so `4096`)", "`8192`"]);
    }
}

#[test]
fn windows_count_where_transformers_has_them() {
    let longest = |config: &Value| {
        let found = read(config);
        assert_eq!(found.notes.iter().any(|note| note.contains("sliding window")), found.config.longest() < 32_768);
        found.config.longest()
    };
    let of = |model_type: &str, mut fields: Value| {
        fields["max_position_embeddings"] = 32_768.into();
        with(model_type, &fields)
    };
    let qwen2 = |fields: Value| {
        let mut config = of("qwen2", fields);
        if config["layer_types"] == json!("absent") {
            config.as_object_mut().unwrap().remove("layer_types");
        }
        longest(&config)
    };
    // Qwen2 has none unless it says so, and then in the layers from max_window_layers on.
    assert_eq!(qwen2(json!({"sliding_window": 8, "use_sliding_window": null})), 32_768);
    let slides =
        json!({"sliding_window": 8, "use_sliding_window": true, "layer_types": "absent", "max_window_layers": 1});
    assert_eq!(qwen2(slides.clone()), 8);
    let mut late = slides;
    late["max_window_layers"] = 2.into();
    assert_eq!(qwen2(late), 32_768);
    let kinds = json!(["full_attention", "sliding_attention"]);
    assert_eq!(qwen2(json!({"sliding_window": 8, "use_sliding_window": true, "layer_types": kinds})), 8);
    refused(&with("qwen2", &json!({"layer_types": ["chunked_attention"]})), &["layer_types has `chunked_attention`"]);
    // Mistral has one unless it says `null`.
    assert_eq!(longest(&of("mistral", json!({"sliding_window": null}))), 32_768);
    assert_eq!(longest(&of("mistral", json!({"sliding_window": 100}))), 100);
    let mut silent = of("mistral", json!({}));
    silent.as_object_mut().unwrap().remove("sliding_window");
    assert_eq!(longest(&silent), 4096);
    refused(&with("mistral", &json!({"sliding_window": 0})), &["sliding_window is `0`", "at least 1"]);
    assert_eq!(longest(&of("llama", json!({"sliding_window": 8}))), 32_768);
}

#[test]
fn padding_has_a_row_and_counts_positions() {
    let padding = |config: &Value| match read(config).config {
        Config::Encoder(config) => (config.pad_token_id, config.max_position_embeddings),
        other => panic!("{other:?}"),
    };
    assert_eq!(padding(&with("roberta", &json!({"pad_token_id": 5}))).0, 5);
    assert_eq!(padding(&without("roberta", &["pad_token_id"])).0, 1, "transformers' class");
    assert_eq!(padding(&without("bert", &["pad_token_id"])).0, 0);
    let null = read(&with("roberta", &json!({"pad_token_id": null})));
    assert!(
        null.notes[0].contains("pad_token_id is `null`") && null.notes[0].contains("count from 2"),
        "{:?}",
        null.notes
    );
    assert_eq!(null.config.longest(), 510);
    assert!(read(&with("bert", &json!({"pad_token_id": null}))).notes.is_empty());
    refused(&with("roberta", &json!({"pad_token_id": 50_265})), &["pad_token_id is `50265`, but vocab_size is 50265"]);
    refused(
        &with("roberta", &json!({"pad_token_id": 600})),
        &["max_position_embeddings is `512`", "count from", "601"],
    );
    refused(&with("bert", &json!({"pad_token_id": -1})), &["pad_token_id: invalid value", "`-1`"]);
}

#[test]
fn sizes_that_no_model_has_are_refused_before_anything_is_made_of_them() {
    refused(
        &with("roberta", &json!({"num_hidden_layers": 1_000_000_000_000_u64})),
        &["num_hidden_layers is `1000000000000`"],
    );
    refused(&with("llama", &json!({"head_dim": 1_u64 << 62})), &["head_dim is `4611686018427387904`"]);
    refused(&with("llama", &json!({"head_dim": 0})), &["head_dim is `0`"]);
    refused(&with("llama", &json!({"num_attention_heads": 0})), &["num_attention_heads is `0`"]);
    refused(&with("llama", &json!({"num_key_value_heads": 0})), &["num_key_value_heads is `0`"]);
    refused(
        &with("gpt2", &json!({"n_layer": 1_000_000, "n_inner": u64::MAX})),
        &["n_layer", "n_inner is `18446744073709551615`"],
    );
    refused(&with("bert", &json!({"vocab_size": 0, "hidden_size": 0})), &["vocab_size is `0`", "hidden_size is `0`"]);
    refused(&with("bert", &json!({"hidden_dropout_prob": 1.0})), &["hidden_dropout_prob is `1`", "less than 1"]);
    refused(&with("bert", &json!({"layer_norm_eps": -1.0})), &["layer_norm_eps is `-1`"]);
    refused(&with("bert", &json!({"hidden_size": "x".repeat(100_000)})), &["hidden_size: invalid type"]);
    refused(&with("bert", &json!({"num_hidden_layers": 2.5})), &["num_hidden_layers: invalid type"]);
    refused(&without("bert", &["hidden_size"]), &["missing field `hidden_size`"]);
    refused(&json!([1]), &["no JSON object"]);
    refused(&json!({"model_type": "t".repeat(100_000)}), &["model_type is `ttt", "must be one of"]);
    refused(&json!({"model_type": 3}), &["model_type is `3`"]);
    assert!(ConfigFile::read("[".repeat(1 << 20).as_bytes()).is_err(), "nested without end");
}

#[test]
fn gpt2_has_two_names_for_its_sizes() {
    let mut config = without("gpt2", &["n_layer", "n_positions"]);
    config["num_hidden_layers"] = 3.into();
    config["n_ctx"] = 77.into();
    let found = read(&config).config;
    assert_eq!((found.layers(), found.longest()), (3, 77));
    config["n_layer"] = 3.into();
    config["n_positions"] = 99.into();
    assert_eq!((read(&config).config.layers(), read(&config).config.longest()), (3, 99));
    config["num_hidden_layers"] = 4.into();
    refused(&config, &["n_layer is `3`, but num_hidden_layers, another name of it, is `4`"]);
    // `null` counts as absent under either name.
    for (name, other) in [
        ("n_embd", "hidden_size"),
        ("n_layer", "num_hidden_layers"),
        ("n_head", "num_attention_heads"),
        ("n_positions", "max_position_embeddings"),
        ("n_positions", "n_ctx"),
    ] {
        let config = with("gpt2", &json!({}));
        let mut beside = config.clone();
        beside[other] = Value::Null;
        assert_eq!(read(&beside).config, read(&config).config, "{other}");
        let mut instead = config.clone();
        instead[other] = config[name].clone();
        instead[name] = Value::Null;
        assert_eq!(read(&instead).config, read(&config).config, "{name}");
    }
}

#[test]
fn null_counts_as_absent_in_every_architecture() {
    // Where transformers' own class means something else by it.
    let means = ["model_type", "sliding_window", "num_key_value_heads", "tie_word_embeddings"];
    for model_type in MODEL_TYPES {
        let config = with(model_type, &json!({}));
        for name in config.as_object().unwrap().keys().filter(|name| !means.contains(&name.as_str())) {
            let (absent, null) = (without(model_type, &[name]), with(model_type, &json!({name.as_str(): null})));
            let of = |config: &Value| ConfigFile::read(config.to_string().as_bytes()).map(|file| file.config);
            let same = match (of(&absent), of(&null)) {
                (Ok(absent), Ok(null)) => absent == null,
                (Err(absent), Err(null)) => absent.to_string() == null.to_string(),
                _ => false,
            };
            assert!(same, "{model_type} {name}: {:?} {:?}", of(&absent), of(&null));
        }
    }
}

#[test]
fn outputs_have_names() {
    let labels = |fields: Value| read(&with("roberta", &fields)).labels;
    let named = Some(vec!["NO".to_owned(), "YES".to_owned()]);
    assert_eq!(labels(json!({"id2label": {"1": "YES", "0": "NO"}})), named);
    assert_eq!(labels(json!({"label2id": {"YES": 1, "NO": 0}})), named);
    assert_eq!(labels(json!({"id2label": {"0": "NO", "1": "YES"}, "label2id": {"YES": 0, "NO": 1}})), named);
    let crossed =
        read(&with("roberta", &json!({"id2label": {"0": "NO", "1": "YES"}, "label2id": {"YES": 0, "NO": 1}})));
    let said = "config.json: label2id has `NO` at output 1 and id2label at 0; outputs are named by id2label";
    assert!(crossed.notes.iter().any(|note| note == said), "{:?}", crossed.notes);
    let partly =
        read(&with("roberta", &json!({"id2label": {"0": "NO", "1": "YES"}, "label2id": {"NO": 0, "LABEL_1": 1}})));
    assert!(!partly.notes.iter().any(|note| note.contains("label2id")), "{:?}", partly.notes);
    assert_eq!(labels(json!({"id2label": {"0": "LABEL_0", "1": "label_1"}})), None);
    assert_eq!(labels(json!({"id2label": null})), None);
    assert_eq!(labels(json!({"id2label": ["NO", "YES"]})), named);
    assert_eq!(labels(json!({"id2label": {"0": 3, "1": 5}})), Some(vec!["3".to_owned(), "5".to_owned()]));
    for broken in [
        json!({"id2label": {"0": "a", "2": "b"}}),
        json!({"label2id": {"a": 0, "b": 0}}),
        json!({"id2label": {"x": "a"}}),
        json!({"id2label": "a, b"}),
    ] {
        let found = read(&with("roberta", &broken));
        assert_eq!(found.labels, None);
        assert!(found.notes[0].contains("the names are not used"), "{:?}", found.notes);
    }

    let other = |fields: Value| read(&with("roberta", &fields)).other_head;
    let two = json!({"0": "a", "1": "b"});
    let many = other(json!({"problem_type": "multi_label_classification", "id2label": two})).unwrap();
    assert!(many.contains("`multi_label_classification`, where any number of labels may be right"), "{many}");
    let scores = other(json!({"problem_type": "regression", "id2label": two})).unwrap();
    assert!(scores.contains("where a row has 2 scores"), "{scores}");
    for (problem, labels) in [("regression", json!({"0": "LABEL_0"})), ("single_label_classification", two)] {
        assert_eq!(other(json!({"problem_type": problem, "id2label": labels})), None);
    }

    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let task = names(&["entailment", "not_entailment"]);
    assert_eq!(order(&names(&["NOT ENTAILMENT", "Entailment"]), &task), Some(vec![1, 0]));
    assert_eq!(order(&names(&["yes", "no"]), &task), None);
    assert_eq!(order(&names(&["entailment", "entailment"]), &task), None);
    assert_eq!(order(&names(&["entailment", "not-entailment", "other"]), &task), None);
}
