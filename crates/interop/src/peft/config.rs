//! `adapter_config.json`: what is read of it for every kind of adapter, and its only writer.

use std::fmt;

use assets::source::hub::{Repository, SCHEME};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, json};

/// The kind whose configuration has no exclusions: PEFT would warn of the field and adapt what it names.
pub(super) const VERA: &str = "VERA";

/// A map whose order counts.
#[derive(Debug)]
pub(super) struct Ordered<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Ordered<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from names or expressions")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Ordered(pairs))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Ordered(Vec::new()))
            }
        }
        deserializer.deserialize_any(Pairs(std::marker::PhantomData))
    }
}

/// The base as `from_pretrained` would be given it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Base {
    /// A folder, or a repository of the hub.
    pub name: Option<String>,
    /// Revision of a base on the hub.
    pub revision: Option<String>,
}

impl Base {
    /// A model as a plan names it.
    pub fn of(model: &str) -> Self {
        match Repository::model(model) {
            Ok(found) if model.starts_with(SCHEME) => Self { name: Some(found.name), revision: Some(found.revision) },
            _ => Self { name: Some(model.to_owned()), revision: None },
        }
    }
}

/// PEFT's name of the kind of task.
pub(crate) fn task_type(is_text: bool) -> &'static str {
    if is_text { "CAUSAL_LM" } else { "SEQ_CLS" }
}

/// What a configuration says whatever its kind.
#[derive(Clone, Debug)]
pub(super) struct Common {
    /// `LORA`, `ADALORA` or `VERA`.
    pub(super) kind: &'static str,
    pub(super) task_type: Option<String>,
    pub(super) base: Base,
    /// Names or an expression.
    pub(super) targets: Value,
    /// Names or an expression of what is taken off; none for VeRA.
    pub(super) exclude: Option<Value>,
    pub(super) layers: Vec<usize>,
    pub(super) layers_pattern: Vec<String>,
    /// Modules that are saved whole.
    pub(super) saved: Vec<String>,
    /// Rows of the table of words that train.
    pub(super) tokens: Vec<usize>,
    /// Which biases train.
    pub(super) bias: &'static str,
    /// Whether the base keeps its maps as `[d_in, d_out]` (GPT-2's `Conv1D`).
    pub(super) fan_in_fan_out: bool,
}

/// What a configuration of kind `LORA` says beside.
#[derive(Clone, Debug)]
pub(super) struct Lora {
    pub(super) rank: usize,
    pub(super) alpha: f64,
    pub(super) ranks: Map<String, Value>,
    pub(super) alphas: Map<String, Value>,
    pub(super) dropout: f64,
    pub(super) rank_stabilized: bool,
    pub(super) decomposed: bool,
    /// `true`, or the name of a start.
    pub(super) start: Value,
}

impl Lora {
    /// Its fields by PEFT's names.
    pub(super) fn fields(&self) -> Value {
        json!({
            "r": self.rank,
            "lora_alpha": number(self.alpha),
            "lora_dropout": self.dropout,
            "use_rslora": self.rank_stabilized,
            "use_dora": self.decomposed,
            "init_lora_weights": self.start,
            "rank_pattern": self.ranks,
            "alpha_pattern": self.alphas,
            "lora_bias": false,
            "loftq_config": {},
        })
    }
}

/// Every field of a configuration, from what all kinds have and those of its own kind.
pub(super) fn configuration(common: &Common, own: &Value) -> Map<String, Value> {
    fn list<T: serde::Serialize>(items: &[T]) -> Value {
        if items.is_empty() { Value::Null } else { json!(items) }
    }
    let mut all = json!({
        "peft_type": common.kind,
        "task_type": common.task_type,
        "auto_mapping": null,
        "base_model_name_or_path": common.base.name,
        "revision": common.base.revision,
        "inference_mode": true,
        "target_modules": common.targets,
        "layers_to_transform": list(&common.layers),
        "layers_pattern": list(&common.layers_pattern),
        "modules_to_save": list(&common.saved),
        "bias": common.bias,
        "fan_in_fan_out": common.fan_in_fan_out,
    });
    if !common.tokens.is_empty() {
        all["trainable_token_indices"] = json!(common.tokens);
    }
    if common.kind != VERA {
        all["exclude_modules"] = json!(common.exclude);
    }
    [&all, own].into_iter().filter_map(Value::as_object).flat_map(Clone::clone).collect()
}

/// A configuration as its file.
pub(super) fn encode(configuration: &Map<String, Value>) -> Vec<u8> {
    let text = serde_json::to_string_pretty(configuration).unwrap_or_else(|error| unreachable!("plain data: {error}"));
    (text + "\n").into_bytes()
}

/// A whole number without its `.0`, as PEFT writes an `α` that was given so.
pub(super) fn number(value: f64) -> Value {
    // Every whole number up to 2^53 is one of both types.
    if value.fract() == 0.0 && value.abs() <= 2.0_f64.powi(53) { json!(value as i64) } else { json!(value) }
}
