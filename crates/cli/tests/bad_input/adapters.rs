//! Folders that PEFT wrote, of its versions from 0.3 on, for another base, or edited.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use crate::{
    base::Base,
    case::Case,
    place::Place,
    tensors::{Tensor, file},
};

/// Reads the folder for a base.
pub(crate) const IMPORT: &str = "import peft --model ./base --task cola --out new";
/// Reads it as it lies.
pub(crate) const COMBINE: &str = "combine peft=1 --method linear --out new";

const QUERY: &str = "base_model.model.bert.encoder.layer.0.attention.self.query";

/// A folder in parts.
pub(crate) struct Folder {
    config: Value,
    tensors: Vec<Tensor>,
}

/// What each release of PEFT added to LoRA's configuration: `scripts/oracle/peft_defaults.py` reads it off the releases.
fn releases() -> Vec<(String, Map<String, Value>)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop/tests/fixtures");
    let all: Value = serde_json::from_slice(&fs::read(fixtures.join("peft_defaults.json")).unwrap()).unwrap();
    let one = |release: &Value| {
        (release["release"].as_str().unwrap().to_owned(), release["new"].as_object().unwrap().clone())
    };
    all["LORA"].as_array().unwrap().iter().map(one).collect()
}

impl Folder {
    /// LoRA of rank 2 on queries and values, and a head, with fields that every release reads.
    pub(crate) fn new() -> Self {
        let config = json!({
            "peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": "./base", "inference_mode": true, "r": 2,
            "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": ["query", "value"], "bias": "none", "fan_in_fan_out": false,
            "modules_to_save": ["classifier"], "init_lora_weights": true, "layers_to_transform": null, "layers_pattern": null,
        });
        let mut tensors = vec![
            Tensor::new("base_model.model.classifier.weight", &[2, 16]),
            Tensor::new("base_model.model.classifier.bias", &[2]),
        ];
        for map in ["query", "value"] {
            let of = QUERY.replace("query", map);
            tensors.push(Tensor::new(format!("{of}.lora_A.weight"), &[2, 16]));
            tensors.push(Tensor::new(format!("{of}.lora_B.weight"), &[16, 2]));
        }
        Self { config, tensors }
    }

    /// With the fields that releases up to `version` added, where they are not set.
    fn of_version(version: &str) -> Self {
        let mut folder = Self::new();
        let config = folder.config.as_object_mut().unwrap();
        let releases = releases();
        let last = releases.iter().position(|(release, _)| release == version).unwrap();
        for (name, value) in releases.into_iter().take(last + 1).flat_map(|(_, new)| new) {
            config.entry(name).or_insert(value);
        }
        folder
    }

    pub(crate) fn put(&self, place: &Place) {
        Base::new().put(place);
        place.json("peft/adapter_config.json", &self.config);
        place.write("peft/adapter_model.safetensors", file(&self.tensors));
    }
}

fn edited(name: &str, command: &'static str, edit: impl Fn(&mut Folder) + Send + Sync + 'static) -> Case {
    Case::new(format!("adapter: {name} ({})", command.split(' ').next().unwrap()), command, move |place| {
        let mut folder = Folder::of_version("0.21.0");
        edit(&mut folder);
        folder.put(place);
    })
}

/// A field for every command that reads a folder: none passes over what another refuses.
fn field(name: &str, field: &'static str, value: &Value) -> [Case; 2] {
    [IMPORT, COMBINE].map(|command| {
        let value = value.clone();
        edited(name, command, move |folder| folder.config[field] = value.clone())
    })
}

/// A field that no release has: an unknown field is said, and is an error where it may change the function.
fn unknown(version: String) -> Case {
    Case::new(format!("adapter: PEFT {version} and a field of no release (import)"), IMPORT, move |place| {
        let mut folder = Folder::of_version(&version);
        folder.config["use_phlora"] = json!(true);
        folder.put(place);
    })
}

pub(crate) fn cases() -> Vec<Case> {
    let fields = [
        ("an unknown kind", "peft_type", json!("WAVEFT")),
        ("a kind that is a number", "peft_type", json!(7)),
        ("a rank of 0", "r", json!(0)),
        ("a rank below 0", "r", json!(-2)),
        ("another rank than the tensors'", "r", json!(4)),
        ("a rank of 2^64 - 1", "r", json!(u64::MAX)),
        ("a rank that is text", "r", json!("two")),
        ("a residual start", "init_lora_weights", json!("loftq")),
        ("a bias of LoRA", "lora_bias", json!(true)),
        ("layers that are repeated", "layer_replication", json!([[0, 1], [0, 1]])),
        ("parameters as targets", "target_parameters", json!(["bert.pooler.dense.weight"])),
        ("tokens that invoke it", "alora_invocation_tokens", json!([1, 2])),
        ("KaSA", "kasa_config", json!({"beta": 1e-4, "gamma": 1e-3})),
        ("QALoRA", "use_qalora", json!(true)),
        ("a pattern that is no expression", "rank_pattern", json!({"(query": 4})),
        ("a pattern of another rank", "rank_pattern", json!({"query": 1})),
        ("a pattern of rank 0", "rank_pattern", json!({"query": 0})),
    ];
    let mut all: Vec<Case> = fields.iter().flat_map(|(name, key, value)| field(name, key, value)).collect();
    all.extend(releases().into_iter().map(|(version, _)| unknown(version)));
    all.extend([
        edited("an unknown bias", IMPORT, |folder| folder.config["bias"] = json!("some")),
        edited("trained rows", COMBINE, |folder| folder.config["trainable_token_indices"] = json!([1])),
        edited("trained rows of another table", IMPORT, |folder| {
            folder.config["trainable_token_indices"] = json!({"position_embeddings": [1]});
        }),
        edited("trained rows that are not there", IMPORT, |folder| {
            folder.config["trainable_token_indices"] = json!([1]);
        }),
        edited("no targets", IMPORT, |folder| folder.config["target_modules"] = json!(null)),
        edited("targets that match nothing", IMPORT, |folder| folder.config["target_modules"] = json!(["q_proj"])),
        edited("an expression that does not end", IMPORT, |folder| folder.config["target_modules"] = json!("(query")),
        edited("dropout above 1", IMPORT, |folder| folder.config["lora_dropout"] = json!(5.0)),
        edited("an alpha that is text", IMPORT, |folder| folder.config["lora_alpha"] = json!("16")),
        edited("an A without its B", IMPORT, |folder| {
            folder.tensors.retain(|one| !one.name.ends_with("query.lora_B.weight"));
        }),
        edited("an A without its B", COMBINE, |folder| {
            folder.tensors.retain(|one| !one.name.ends_with("query.lora_B.weight"));
        }),
        edited("a tensor without a place", IMPORT, |folder| {
            folder.tensors.push(Tensor::new(format!("{QUERY}.lora_C.weight"), &[2, 2]));
        }),
        edited("no tensors", COMBINE, |folder| folder.tensors.clear()),
        edited("no tensors", IMPORT, |folder| folder.tensors.clear()),
        edited("a base of another width", IMPORT, |folder| {
            for tensor in folder.tensors.iter_mut().filter(|one| one.name.ends_with("lora_A.weight")) {
                *tensor = Tensor::new(tensor.name.clone(), &[2, 32]);
            }
        }),
        edited("a base with more layers", IMPORT, |folder| {
            let deep: Vec<Tensor> = folder.tensors.iter().filter(|one| one.name.contains("layer.0")).cloned().collect();
            folder
                .tensors
                .extend(deep.into_iter().map(|one| Tensor { name: one.name.replace("layer.0", "layer.7"), ..one }));
        }),
        edited("numbers that are none", IMPORT, |folder| {
            let name = format!("{QUERY}.lora_A.weight");
            let tensor = folder.tensors.iter_mut().find(|one| one.name == name).unwrap();
            *tensor = Tensor::filled(name, &[2, 16], f32::NAN);
        }),
        edited("whole numbers", COMBINE, |folder| {
            let name = format!("{QUERY}.lora_A.weight");
            let tensor = folder.tensors.iter_mut().find(|one| one.name == name).unwrap();
            *tensor = Tensor::new(name, &[2, 16]).typed("I64", 8);
        }),
        edited("factors of three axes", COMBINE, |folder| {
            let name = format!("{QUERY}.lora_A.weight");
            let tensor = folder.tensors.iter_mut().find(|one| one.name == name).unwrap();
            *tensor = Tensor::new(name, &[2, 4, 4]);
        }),
    ]);
    for command in [IMPORT, COMBINE] {
        all.push(Case::new(format!("adapter: no JSON ({})", &command[..6]), command, |place| {
            Folder::new().put(place);
            place.write("peft/adapter_config.json", "peft_type: LORA");
        }));
        all.push(Case::new(format!("adapter: weights cut short ({})", &command[..6]), command, |place| {
            Folder::new().put(place);
            let all = file(&Folder::new().tensors);
            place.write("peft/adapter_model.safetensors", &all[..all.len() - 40]);
        }));
        all.push(Case::new(format!("adapter: weights of torch alone ({})", &command[..6]), command, |place| {
            Folder::new().put(place);
            std::fs::remove_file(place.inside().join("peft/adapter_model.safetensors")).unwrap();
            place.write("peft/adapter_model.bin", b"\x80\x02}q\x00.");
        }));
        all.push(Case::new(format!("adapter: nothing there ({})", &command[..6]), command, |place| {
            Base::new().put(place);
        }));
    }
    all
}
