//! Which maps a target means, on every architecture.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(clippy::disallowed_methods, reason = "fixtures are files")]

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{DType, Device};
use models::{
    backbone::Backbone,
    catalog,
    config::{Config, MapKind, Purpose},
    modules::{Modules, Selected},
    target::Target,
    weights::Weights,
};
use serde_json::Value;
use variants::{
    base::BiasSpec,
    error::SpecProblem,
    host::Placement,
    presets::lora,
    role::Role,
    slot::{RunPlan, StackPlan, attach},
    spec::VariantSpec,
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

/// A model's slots with a stack of one run: every copy of the base's tensors, `<slot>.<tensor>`, and every adapter's rank.
fn attached(config: &Config, spec: &VariantSpec, selected: &Selected) -> (BTreeSet<String>, BTreeMap<String, usize>) {
    let place = Placement::new(&Device::flex(), DType::F32);
    let weights = Weights::random(&config.wanted(Purpose::Classify), 0);
    let mut backbone = Backbone::new(config, &weights, Purpose::Classify, &place).unwrap();
    let runs = vec![RunPlan { init_seed: 0, alpha: spec.alpha }];
    let plan = StackPlan {
        maps: selected.own.clone(),
        fully_trained: selected.fully_trained.clone(),
        ..StackPlan::new(spec.check(None).unwrap(), runs, selected.maps.keys().cloned().collect())
    };
    attach(&mut backbone.slots(), &plan, &place).unwrap();
    let (mut copies, mut ranks) = (BTreeSet::new(), BTreeMap::new());
    for slot in backbone.slots() {
        let name = slot.name().to_owned();
        for param in slot.into_parameters(0) {
            match (param.role, param.name) {
                (Role::Weight | Role::Bias | Role::Norm, _) => {
                    copies.insert(format!("{name}.{}", param.name));
                }
                (_, "a") => {
                    ranks.insert(name.clone(), param.tensor.dims()[2]);
                }
                _ => {}
            }
        }
    }
    (copies, ranks)
}

fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().map(|item| item.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    }
}

fn target(value: &Value) -> Option<Target> {
    (!value.is_null())
        .then(|| value.as_str().map_or_else(|| Target::Endings(words(value)), |text| Target::Pattern(text.to_owned())))
}

/// In PEFT's order; in the fixture the first key of every pattern that overlaps another comes first by name too.
fn pairs(value: &Value) -> Vec<(String, f64)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.as_f64().unwrap())).collect()
}

/// What PEFT's `LoraConfig` says, in our fields.
fn of_peft(lora: &Value) -> (Target, Modules, BiasSpec) {
    let layers = &lora["layers_to_transform"];
    let modules = Modules {
        exclude_modules: target(&lora["exclude_modules"]),
        layers_to_transform: match layers {
            Value::Array(items) => items.iter().map(|index| index.as_u64().unwrap() as usize).collect(),
            one => one.as_u64().map(|index| index as usize).into_iter().collect(),
        },
        layers_pattern: words(&lora["layers_pattern"]),
        rank_pattern: pairs(&lora["rank_pattern"]).into_iter().map(|(key, rank)| (key, rank as usize)).collect(),
        alpha_pattern: pairs(&lora["alpha_pattern"]),
        modules_to_save: words(&lora["modules_to_save"]),
        trainable_token_indices: Vec::new(),
    };
    let bias = match lora["bias"].as_str() {
        None => BiasSpec::None,
        Some("all") => BiasSpec::All,
        Some("lora_only") => BiasSpec::LoraOnly,
        Some(other) => panic!("bias `{other}`"),
    };
    (target(&lora["target_modules"]).unwrap(), modules, bias)
}

#[test]
fn what_is_selected_is_what_peft_selects() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/targets.json");
    let fixture: BTreeMap<String, Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut counts = BTreeMap::new();
    for (arch, found) in &fixture {
        let config = Config::read(found["config"].to_string().as_bytes()).unwrap();
        for case in found["cases"].as_array().unwrap() {
            let (targets, modules, bias) = of_peft(&case["lora"]);
            let selected = modules.select(Some(&targets), &config);
            let at = format!("{arch}: {}", case["lora"]);
            *counts.entry(arch.as_str()).or_insert(0) += 1;
            if !case["refused"].is_null() {
                assert!(selected.is_err(), "{at}: PEFT refuses it, but {:?}", selected.unwrap().maps.keys());
                continue;
            }
            let selected = selected.unwrap_or_else(|problems| panic!("{at}: {problems:?}"));
            let wanted: BTreeMap<String, (usize, f64)> = case["maps"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, own)| (name.clone(), (own[0].as_u64().unwrap() as usize, own[1].as_f64().unwrap())))
                .collect();
            let spec = VariantSpec { bias, ..lora::spec(4) };
            let own = |name: &String| selected.own.get(name).copied().unwrap_or_default();
            let ours: BTreeMap<String, (usize, f64)> = selected
                .maps
                .keys()
                .map(|name| {
                    (name.clone(), (own(name).rank.unwrap_or(spec.rank), own(name).alpha.unwrap_or(spec.alpha)))
                })
                .collect();
            assert_eq!(ours, wanted, "{at}");
            let (copies, ranks) = attached(&config, &spec, &selected);
            assert_eq!(copies, words(&case["trained"]).into_iter().collect(), "{at}");
            assert_eq!(ranks, wanted.into_iter().map(|(name, (rank, _))| (name, rank)).collect(), "{at}");
        }
    }
    assert!(counts.len() == 4 && counts.values().all(|cases| *cases >= 10), "{counts:?}");
}

fn refused(modules: &Modules, targets: &Target, arch: &str) -> Vec<SpecProblem> {
    modules.select(Some(targets), &config(arch)).unwrap_err()
}

#[test]
fn the_first_expression_that_matches_counts() {
    let order = |keys: [(&str, usize); 2]| Modules {
        rank_pattern: keys.map(|(key, rank)| (key.to_owned(), rank)).to_vec(),
        ..Modules::default()
    };
    let rank = |modules: &Modules, name: &str| {
        modules.select(Some(&endings(&["query", "value"])), &config("bert")).unwrap().own[name].rank
    };
    let (query, value) = ("encoder.layer.0.attention.self.query", "encoder.layer.0.attention.self.value");
    let special = order([("query", 2), (".*", 3)]);
    assert_eq!((rank(&special, query), rank(&special, value)), (Some(2), Some(3)));
    let problems = refused(&order([(".*", 3), ("query", 2)]), &endings(&["query", "value"]), "bert");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].rule.contains("every map that `query` matches"), "{problems:?}");
}

#[test]
fn what_trains_in_full_and_what_is_adapted_are_apart() {
    let save = |names: &[&str]| Modules {
        modules_to_save: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Modules::default()
    };
    let rule = |names: &[&str], targets: &[&str], arch: &str| {
        refused(&save(names), &endings(targets), arch).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let found = rule(&["attn"], &["c_attn"], "gpt2");
    assert!(found.contains("`h.0.attn.c_attn` is a target and would also train in full"), "{found}");
    let found = rule(&["c_attn"], &["c_attn.q"], "gpt2");
    assert!(found.contains("`h.0.attn.c_attn` and its part `h.0.attn.c_attn.q`"), "{found}");
    for (head, arch) in [("classifier", "bert"), ("classifier.out_proj", "roberta"), ("score", "llama")] {
        let found = rule(&[head], &["query", "q_proj"][usize::from(arch == "llama")..][..1], arch);
        assert!(found.contains(&format!("`{head}` is the task's head")), "{found}");
    }
    // A part trains in full beside an adapted part, on the divided side of the fused map.
    let config = config("gpt2");
    let selected = save(&["c_attn.v"]).select(Some(&endings(&["c_attn.q"])), &config).unwrap();
    let (copies, ranks) = attached(&config, &lora::spec(2), &selected);
    let wanted = (0..2).flat_map(|layer| ["bias", "weight"].map(|name| format!("h.{layer}.attn.c_attn.v.{name}")));
    assert_eq!((copies, ranks.len()), (wanted.collect(), 2));
    // Where nothing is adapted, modules train all the same; Llama's `norm` is the last one alone.
    let selected = save(&["norm"]).select(None, &self::config("llama")).unwrap();
    assert_eq!((selected.maps.len(), selected.fully_trained), (0, BTreeSet::from(["norm".to_owned()])));
}

#[test]
fn a_name_may_have_the_prefix_of_a_model_with_a_head() {
    let config = config("roberta");
    let count = |target: Target| target.select(&config).unwrap().len();
    assert_eq!(count(endings(&["roberta.encoder.layer.0.attention.self.query"])), 1);
    assert_eq!(count(endings(&["encoder.layer.0.attention.self.query"])), 1);
    assert_eq!(count(pattern(r"roberta\.encoder\.layer\.[01]\.attention\.self\.query")), 2);
    assert_eq!(count(pattern(r"encoder\.layer\.[01]\.attention\.self\.query")), 2);
}
