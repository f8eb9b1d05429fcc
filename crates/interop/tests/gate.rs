//! Every field of PEFT's configurations is honoured, refused or without effect, in every command; and patterns are PEFT's.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/adapters.rs"]
mod support;

use std::path::Path;

use interop::{
    model_merging::{self, CombineRequest, Input, combine, methods::Method},
    peft::import::{ImportRequest, Imported, Purpose, import},
    predict::run::{Request, Rows, Source, run as predict},
    run_updates,
};
use serde_json::{Map, Value, json};
use support::{Numbers, cache, checkpoint, fixture, logits, numbers, says, write_numbers};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// A folder of PEFT on the fixtures' BERT, edited.
fn folder(case: &str, edit: impl FnOnce(&mut Map<String, Value>, &mut Numbers)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = fixture("peft").join(case);
    let mut config = serde_json::from_slice(&std::fs::read(source.join(CONFIG)).unwrap()).unwrap();
    let mut tensors = numbers(&source.join(WEIGHTS));
    edit(&mut config, &mut tensors);
    std::fs::write(folder.path().join(CONFIG), Value::Object(config).to_string()).unwrap();
    write_numbers(&folder.path().join(WEIGHTS), &tensors);
    folder
}

fn with(case: &str, field: &str, value: &Value) -> tempfile::TempDir {
    folder(case, |config, _| drop(config.insert(field.to_owned(), value.clone())))
}

fn imported(folder: &Path, model: &str) -> Result<Imported, String> {
    let purpose = Purpose::of_suite("glue", "mnli");
    let request = ImportRequest { folder, model: Some(model), purpose: Some(purpose), max_length: None };
    import(&request, &cache()).map_err(|error| error.to_string())
}

/// What every command that opens a folder of PEFT says of it.
fn every_command(folder: &Path, model: &str) -> Vec<(&'static str, Result<(), String>)> {
    let out = tempfile::tempdir().unwrap();
    let inputs = [Input { path: folder.to_owned(), weight: 1.0 }];
    let request = CombineRequest {
        inputs: &inputs,
        method: Method::Linear,
        head: None,
        target: None,
        out: &out.path().join("out"),
        force: false,
        command: model_merging::COMMAND,
    };
    let rows = out.path().join("rows.tsv");
    std::fs::write(&rows, "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2\n0\t0\t0\tx\tx\tx\tx\tx\tw3 w4\tw5\n").unwrap();
    let purpose = Purpose::of_suite("glue", "mnli");
    let source = Source::Adapter { path: folder, model: Some(model), purpose: Some(&purpose) };
    let asked = Request { source, rows: Rows::File(&rows), max_length: None, submission: None, form: None };
    let cache = cache();
    vec![
        ("import", imported(folder, model).map(drop)),
        ("predict", predict(&asked, &cache).map(drop).map_err(|error| error.to_string())),
        ("combine", combine(&request, &cache).map(drop).map_err(|error| error.to_string())),
        ("analyze", run_updates::read(folder, None, &cache).map(drop).map_err(|error| error.to_string())),
    ]
}

/// The configuration that each release writes for an adapter like the fixture's is read without a word about its fields.
#[test]
fn the_configurations_of_every_release_pass() {
    let root = tempfile::tempdir().unwrap();
    let model = checkpoint(root.path(), "bert");
    let releases: Value = serde_json::from_slice(&std::fs::read(fixture("peft_defaults.json")).unwrap()).unwrap();
    let mut seen = 0;
    for (kind, case) in [("LORA", "bert_lora"), ("ADALORA", "bert_adalora"), ("VERA", "bert_vera")] {
        let mut fields = Map::new();
        for release in releases[kind].as_array().unwrap() {
            fields.extend(release["new"].as_object().unwrap().clone());
            let folder = folder(case, |config, _| {
                let theirs = std::mem::take(config);
                let own = |field: &String| theirs.get(field).filter(|value| !value.is_null()).cloned();
                config.extend(fields.iter().map(|(field, value)| (field.clone(), own(field).unwrap_or(value.clone()))));
                config.insert("peft_type".to_owned(), json!(kind));
            });
            let found = imported(folder.path(), &model)
                .unwrap_or_else(|error| panic!("{kind} {}: {error}", release["release"]));
            assert_eq!(found.notes, Vec::<String>::new(), "{kind} {}", release["release"]);
            seen += 1;
        }
    }
    assert_eq!(seen, 19 + 19 + 11);
}

/// A field that makes PEFT compute something else is refused by its name in every command, for the kinds that have it.
#[test]
fn what_has_no_counterpart_is_refused_in_every_command() {
    let root = tempfile::tempdir().unwrap();
    let model = checkpoint(root.path(), "bert");
    for (field, value) in [
        ("lora_bias", json!(true)),
        ("layer_replication", json!([[0, 2], [1, 2]])),
        ("target_parameters", json!(["mlp.experts.gate_up_proj"])),
        ("alora_invocation_tokens", json!([7, 8])),
        ("use_qalora", json!(true)),
        ("use_bdlora", json!({"nblocks": 2})),
        ("arrow_config", json!({"top_k": 3})),
        ("kasa_config", json!({"beta": 1e-4})),
        ("monteclora_config", json!({"num_samples": 8})),
        ("megatron_config", json!({"hidden_size": 24})),
        ("enable_lora", json!([true, false, true])),
        ("a_field_of_next_year", json!(true)),
        ("another_one", json!({"groups": 4})),
    ] {
        let one = with("bert_lora", field, &value);
        for (command, found) in every_command(one.path(), &model) {
            let error = found.map_err(|error| (command, error)).unwrap_err().1;
            says(&error, &[&one.path().join(CONFIG).display().to_string(), &format!("`{field}` is `{value}`")]);
        }
        let error = imported(with("bert_adalora", field, &value).path(), &model).map(drop).unwrap_err();
        says(&error, &[&format!("`{field}` is `{value}`")]);
    }
    let error = imported(with("bert_vera", "exclude_modules", &json!(["query"])).path(), &model).map(drop).unwrap_err();
    says(&error, &["`exclude_modules`", "no field of PEFT's VERA"]);
    // Starts that changed the base, or may have.
    for (start, part) in
        [("OLoRA_2", "changed the base"), ("loftq", "changed the base"), ("newest", "may have changed the base")]
    {
        for (command, found) in every_command(with("bert_lora", "init_lora_weights", &json!(start)).path(), &model) {
            let error = found.map_err(|error| (command, error)).unwrap_err().1;
            says(&error, &["init_lora_weights is", part]);
        }
    }
    // Biases that were trained and are not there.
    for (command, found) in every_command(with("bert_lora", "bias", &json!("all")).path(), &model) {
        let error = found.map_err(|error| (command, error)).unwrap_err().1;
        let part = if ["combine", "analyze"].contains(&command) { "bias is `all`" } else { ".bias" };
        says(&error, &[part]);
    }
    // Numbers that no adapter can have.
    for (field, value, part) in [
        ("lora_alpha", json!(0), "lora_alpha is `0`, but must not be 0"),
        ("lora_alpha", json!(1e300), "range of single precision"),
        ("alpha_pattern", json!({"query": -1e39}), "alpha_pattern of `query` is `-1e+39`"),
        ("lora_dropout", json!(1), "lora_dropout is `1`, but must lie in [0, 1)"),
        ("lora_dropout", json!(-0.5), "lora_dropout is `-0.5`, but must lie in [0, 1)"),
        ("layers_pattern", json!("layer"), "layers_to_transform are called, but that is not given"),
    ] {
        for (command, found) in every_command(with("bert_lora", field, &value).path(), &model) {
            says(&found.map_err(|error| (command, error)).unwrap_err().1, &[part]);
        }
    }
    for (command, found) in every_command(with("bert_lora", "bias", &json!("some")).path(), &model) {
        says(&found.map_err(|error| (command, error)).unwrap_err().1, &["bias is `some`", "none, all or lora_only"]);
    }
}

/// What asks for nothing is noted where it is not known, and a field that changes no number changes none.
#[test]
fn what_has_no_effect_has_none() {
    let root = tempfile::tempdir().unwrap();
    let model = checkpoint(root.path(), "bert");
    let asked = numbers(&fixture("peft").join("bert_lora/expected.safetensors"));
    let plain = imported(&fixture("peft").join("bert_lora"), &model).unwrap();
    for (field, value) in [
        ("qalora_group_size", json!(4)),
        ("megatron_core", json!("other.core")),
        ("loftq_config", json!({"loftq_bits": 4})),
        ("eva_config", json!({"rho": 1.0})),
        ("corda_config", json!({"corda_method": "kpm"})),
        ("lora_ga_config", json!({"direction": "ArBr"})),
        ("velora_config", json!({"num_groups": 4})),
        ("inference_mode", json!(false)),
        ("auto_mapping", json!({"base_model_class": "Bert"})),
        ("peft_version", json!("9.9.9")),
        ("fan_in_fan_out", json!(true)),
        ("merge_weights", json!(true)),
        ("runtime_config", json!({"ephemeral_gpu_offload": true})),
    ] {
        let found = imported(with("bert_lora", field, &value).path(), &model).unwrap();
        assert_eq!(found.notes, Vec::<String>::new(), "{field}");
        assert_eq!(logits(&found.network, &asked, false), logits(&plain.network, &asked, false), "{field}");
    }
    for value in [json!(null), json!(false), json!([]), json!({}), json!("")] {
        let found = imported(with("bert_lora", "a_field_of_next_year", &value).path(), &model).unwrap();
        says(&found.notes.join("; "), &["`a_field_of_next_year` is no field that is known here", "nothing is asked"]);
    }
}

/// What an absent field means is PEFT's default, and AdaLoRA passes over what its forward pass does not use.
#[test]
fn absent_fields_have_pefts_defaults() {
    let root = tempfile::tempdir().unwrap();
    let model = checkpoint(root.path(), "bert");
    let without = folder("bert_lora", |config, _| drop(config.remove("lora_alpha")));
    assert_eq!(imported(without.path(), &model).unwrap().metadata.plan.variant.alpha, 8.0);
    let plain = imported(&fixture("peft").join("bert_adalora"), &model).unwrap().metadata.plan;
    for (field, value) in [("use_rslora", json!(true)), ("alpha_pattern", json!({"query": 64})), ("r", json!(31))] {
        let found = imported(with("bert_adalora", field, &value).path(), &model).unwrap().metadata.plan;
        assert_eq!((found.variant, found.modules), (plain.variant.clone(), plain.modules.clone()), "{field}");
    }
}

/// The norm of a map's update by `analyze`, and what `import` makes of the same folder.
fn of_query(folder: &Path, model: &str) -> (f64, Imported) {
    let name = "encoder.layer.0.attention.self.query";
    let updates = run_updates::read(folder, None, &cache()).unwrap();
    (updates.maps[name].update.dense().norm(), imported(folder, model).unwrap())
}

/// Keys and expressions match the names that PEFT knows: with a head's prefix, from the beginning where they have a `^`.
#[test]
fn patterns_are_pefts_in_every_command() {
    let root = tempfile::tempdir().unwrap();
    let model = checkpoint(root.path(), "bert");
    let (plain, _) = of_query(&fixture("peft").join("bert_lora"), &model);
    let alpha = |key: &str| {
        let folder = with("bert_lora", "alpha_pattern", &json!({ key: 64 }));
        let (norm, found) = of_query(folder.path(), &model);
        let selected = found.metadata.plan.modules.alpha_pattern.len();
        (norm / plain, selected)
    };
    let near = |found: (f64, usize), wanted: (f64, usize), key: &str| {
        assert!((found.0 - wanted.0).abs() < 1e-9 && found.1 == wanted.1, "{key}: {found:?}");
    };
    // alpha 8 becomes 64.
    near(alpha("^bert.encoder.layer.0.attention.self.query"), (8.0, 1), "`^`");
    near(alpha("layer.0.attention.self.(?!value).*"), (8.0, 1), "look-ahead");
    near(alpha("(?<!key.)query"), (8.0, 1), "look-behind");
    // Not the beginning of a name in PEFT's model, so the key matches nothing.
    near(alpha("^encoder.layer.0.attention.self.query"), (1.0, 0), "`^` without the prefix");
    // The same key for an adapter of the model without a head, whose names have no prefix.
    let bare = folder("bert_lora", |config, tensors| {
        config.insert("alpha_pattern".to_owned(), json!({"^encoder.layer.0.attention.self.query": 64}));
        let plain = |name: &String| name.replace("base_model.model.bert.", "base_model.model.");
        *tensors = tensors.iter().map(|(name, tensor)| (plain(name), tensor.clone())).collect();
    });
    let (norm, found) = of_query(bare.path(), &model);
    near((norm / plain, found.metadata.plan.modules.alpha_pattern.len()), (8.0, 1), "bare");

    // Targets and exclusions: the tensors of the file are those of query and value.
    for (targets, exclude) in [
        (json!("^(?!.*visual).*(?:query|value)$"), Value::Null),
        (json!("bert.encoder.*(?<!key)(?<!dense)"), Value::Null),
        (json!(".*self.*"), json!(".*(?=key).*")),
        (json!(["query", "value"]), json!(".*vision_tower.*")),
        (json!(["query", "value"]), json!("^encoder.*")),
    ] {
        let folder = folder("bert_lora", |config, _| {
            config.insert("target_modules".to_owned(), targets.clone());
            config.insert("exclude_modules".to_owned(), exclude.clone());
        });
        let found = imported(folder.path(), &model).unwrap_or_else(|error| panic!("{targets} {exclude}: {error}"));
        let passed = found.notes.iter().any(|note| note.contains("exclude_modules"));
        assert_eq!(passed, targets.is_array(), "{targets} {exclude}: {:?}", found.notes);
    }
    let error = imported(with("bert_lora", "target_modules", &json!("encoder.*query")).path(), &model).map(drop);
    says(&error.unwrap_err(), &["target_modules is `encoder.*query`", "matches none", "such as `bert."]);
    for (command, found) in every_command(with("bert_lora", "alpha_pattern", &json!({"(": 2})).path(), &model) {
        says(&found.map_err(|error| (command, error)).unwrap_err().1, &["`(` is not a valid regular expression"]);
    }
}

/// Tensors of a map that the configuration leaves out are not used by PEFT, so no command uses them.
#[test]
fn maps_that_the_configuration_leaves_out_are_refused_in_every_command() {
    let root = tempfile::tempdir().unwrap();
    let model = checkpoint(root.path(), "bert");
    for (field, value) in [
        ("target_modules", json!(["query"])),
        ("target_modules", json!(".*query")),
        ("exclude_modules", json!(["value"])),
        ("exclude_modules", json!(".*(?<!query)")),
        ("layers_to_transform", json!(0)),
        ("layers_to_transform", json!([1])),
        ("modules_to_save", json!(["classifier", "score", "value"])),
    ] {
        for (command, found) in every_command(with("bert_lora", field, &value).path(), &model) {
            let error = found.map_err(|error| (command, error)).unwrap_err().1;
            says(&error, &["belongs to nothing in its configuration"]);
        }
    }
    // Maps that are named in full are not chosen by layer.
    let folder = folder("bert_lora", |config, tensors| {
        let maps =
            tensors.keys().filter_map(|name| name.strip_prefix("base_model.model.")?.strip_suffix(".lora_A.weight"));
        config.insert("target_modules".to_owned(), json!(maps.collect::<Vec<_>>()));
        config.insert("layers_to_transform".to_owned(), json!([0]));
    });
    for (command, found) in every_command(folder.path(), &model) {
        found.unwrap_or_else(|error| panic!("{command}: {error}"));
    }
}

/// PEFT adapts nothing inside a module that is saved whole, though the targets name it.
#[test]
fn what_is_saved_whole_is_not_adapted() {
    let root = tempfile::tempdir().unwrap();
    let model = checkpoint(root.path(), "bert");
    let asked = numbers(&fixture("peft").join("bert_saved/expected.safetensors"));
    let plain = imported(&fixture("peft").join("bert_saved"), &model).unwrap();
    for (targets, exclude) in [
        (json!(["query", "value", "pooler.dense"]), Value::Null),
        (json!(["query", "value", "pooler.dense"]), json!(["key"])),
        (json!(".*(query|key|value|pooler.dense)"), json!(".*key")),
    ] {
        let folder = folder("bert_saved", |config, _| {
            config.insert("target_modules".to_owned(), targets.clone());
            config.insert("exclude_modules".to_owned(), exclude.clone());
        });
        let found = imported(folder.path(), &model).unwrap_or_else(|error| panic!("{targets}: {error}"));
        says(&found.notes.join("; "), &["saved whole and not adapted, as in PEFT: bert.pooler.dense"]);
        assert_eq!(logits(&found.network, &asked, false), logits(&plain.network, &asked, false), "{targets}");
    }
}

/// What a file has beside plain factors is refused where only they would be read.
#[test]
fn tensors_beside_the_factors_are_no_plain_update() {
    let name = "base_model.model.bert.encoder.layer.0.attention.self.query";
    for end in ["lora_diag", "lora_B.bias", "lora_magnitude_vector"] {
        let folder = folder("bert_lora", |_, tensors| {
            tensors.insert(format!("{name}.{end}"), (vec![4], vec![1.0; 4]));
        });
        let error = run_updates::read(folder.path(), None, &cache()).map(drop).unwrap_err().to_string();
        says(&error, &[WEIGHTS, end, "no plain LoRA"]);
    }
}

#[test]
fn files_that_other_programs_leave_are_named_as_what_they_are() {
    let root = tempfile::tempdir().unwrap();
    let model = checkpoint(root.path(), "bert");
    // A pickle.
    let pickle = folder("bert_lora", |_, _| {});
    std::fs::rename(pickle.path().join(WEIGHTS), pickle.path().join("adapter_model.bin")).unwrap();
    // DeepSpeed's ZeRO-3.
    let empty = folder("bert_lora", |_, tensors| {
        for tensor in tensors.values_mut() {
            *tensor = (vec![0], Vec::new());
        }
    });
    for (command, found) in every_command(pickle.path(), &model) {
        says(&found.map_err(|error| (command, error)).unwrap_err().1, &["adapter_model.bin", "pickle", "save_file"]);
    }
    for (command, found) in every_command(empty.path(), &model) {
        says(&found.map_err(|error| (command, error)).unwrap_err().1, &["is [0]", "ZeRO-3", "gather"]);
    }
    // torch.compile: the adapter is the same.
    let compiled = folder("bert_lora", |_, tensors| {
        *tensors = tensors.iter().map(|(name, tensor)| (format!("_orig_mod.{name}"), tensor.clone())).collect();
    });
    let (norm, found) = of_query(compiled.path(), &model);
    let (plain, _) = of_query(&fixture("peft").join("bert_lora"), &model);
    assert_eq!(norm, plain);
    says(&found.notes.join("; "), &["`_orig_mod.` of torch.compile", "tensors"]);
    let both = folder("bert_lora", |_, tensors| {
        let twice: Vec<_> =
            tensors.iter().map(|(name, tensor)| (format!("_orig_mod.{name}"), tensor.clone())).collect();
        tensors.extend(twice);
    });
    says(&imported(both.path(), &model).map(drop).unwrap_err(), &["with `_orig_mod.` and without"]);
    // A name of the hub.
    let named = with("bert_lora", "base_model_name_or_path", &json!("google-bert/bert-tiny"));
    let purpose = Purpose::of_suite("glue", "mnli");
    let request = ImportRequest { folder: named.path(), model: None, purpose: Some(purpose), max_length: None };
    let error = import(&request, &cache()).map(drop).unwrap_err().to_string();
    says(
        &error,
        &["`google-bert/bert-tiny`", "no folder here", "`--model DIR`", "`--model hf://google-bert/bert-tiny`"],
    );
}
