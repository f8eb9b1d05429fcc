//! How config.json says rotary positions: `rope_theta` and `rope_scaling` of transformers 4, `rope_parameters` of transformers 5.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    config::{
        bounds::positive,
        fields::{clipped, shown},
    },
    error::ModelError,
};

/// Base of the frequencies where the file names none, in transformers' classes.
pub(super) const THETA: f64 = 10_000.0;

/// `rope_scaling`: how frequencies are stretched for inputs longer than those of the first training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// `default`, `linear` or `llama3`.
    pub rope_type: String,
    /// How much longer the inputs are than those of the first training.
    #[serde(default)]
    pub factor: Option<f64>,
    /// Wavelengths above `original/low_freq_factor` are stretched in full.
    #[serde(default)]
    pub low_freq_factor: Option<f64>,
    /// Wavelengths below `original/high_freq_factor` are left alone.
    #[serde(default)]
    pub high_freq_factor: Option<f64>,
    /// Longest input of the first training.
    #[serde(default)]
    pub original_max_position_embeddings: Option<f64>,
}

const KNOWN: [&str; 8] = [
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "partial_rotary_factor",
];

impl Stretch {
    /// Stretched frequencies, radians per position.
    pub(super) fn apply(&self, plain: Vec<f64>) -> Result<Vec<f64>, ModelError> {
        match self.rope_type.as_str() {
            "default" => Ok(plain),
            "linear" => {
                let factor = self.need(self.factor, "factor")?;
                Ok(plain.into_iter().map(|f| f / factor).collect())
            }
            "llama3" => {
                let factor = self.need(self.factor, "factor")?;
                let low = self.need(self.low_freq_factor, "low_freq_factor")?;
                let high = self.need(self.high_freq_factor, "high_freq_factor")?;
                let original = self.need(self.original_max_position_embeddings, "original_max_position_embeddings")?;
                if low >= high {
                    return Err(ModelError::Config(format!(
                        "rope_scaling: low_freq_factor is `{low}`, but must be less than high_freq_factor `{high}`"
                    )));
                }
                let stretched = |f: f64| {
                    let turns = original * f / std::f64::consts::TAU; // over the first training's longest input
                    let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    f * (share + (1.0 - share) / factor)
                };
                Ok(plain.into_iter().map(stretched).collect())
            }
            other => Err(ModelError::Config(format!(
                "rope_scaling: rope_type is `{}`, but must be `default`, `linear` or `llama3`",
                clipped(other)
            ))),
        }
    }

    fn need(&self, value: Option<f64>, name: &str) -> Result<f64, ModelError> {
        let kind = clipped(&self.rope_type);
        let value =
            value.ok_or_else(|| ModelError::Config(format!("rope_scaling: `{name}` is missing for `{kind}`")))?;
        positive([(name, value)])?;
        Ok(value)
    }
}

/// Leaves `rope_theta` and `rope_scaling`, whichever of the forms the file has. Forms that contradict each other are refused: transformers
/// itself has changed which of them counts.
pub(super) fn unite(fields: &mut Map<String, Value>, notes: &mut Vec<String>) -> Result<(), ModelError> {
    let old = object(fields.remove("rope_scaling"), "rope_scaling")?;
    let new = object(fields.remove("rope_parameters"), "rope_parameters")?;
    if let (Some(old), Some(new)) = (&old, &new) {
        for (name, value) in old {
            agree(("rope_scaling", Some(value)), ("rope_parameters", new.get(name)), name)?;
        }
    }
    let original = fields.remove("original_max_position_embeddings").filter(|value| !value.is_null());
    let Some(mut rope) = new.or(old) else { return Ok(()) };
    if let Some(kind) = rope.remove("type") {
        agree(("`type`", Some(&kind)), ("`rope_type`", rope.get("rope_type")), "rope_type")?;
        rope.insert("rope_type".to_owned(), kind);
    }
    let kind = rope.entry("rope_type").or_insert_with(|| "default".into()).clone();
    if let Some(theta) = rope.remove("rope_theta") {
        agree(("rope_parameters", Some(&theta)), ("config.json", fields.get("rope_theta")), "rope_theta")?;
        fields.insert("rope_theta".to_owned(), theta);
    }
    if let Some(share) = rope.remove("partial_rotary_factor").filter(|share| share.as_f64() != Some(1.0)) {
        let rule = "but only `1.0` is built in";
        return Err(ModelError::Config(format!("partial_rotary_factor is `{}`, {rule}", shown(&share))));
    }
    if kind == "llama3" {
        let within = rope.get("original_max_position_embeddings");
        agree(("config.json", original.as_ref()), ("rope_parameters", within), "original_max_position_embeddings")?;
        if let Some(original) = original {
            rope.insert("original_max_position_embeddings".to_owned(), original);
        }
    }
    let unknown = |name: &&String| !KNOWN.contains(&name.as_str());
    let passed_over: Vec<String> = rope.keys().filter(unknown).map(|name| format!("`{}`", clipped(name))).collect();
    if !passed_over.is_empty() {
        notes.push(format!(
            "config.json: fields of rotary positions that are not known here and have no effect: {}",
            clipped(&passed_over.join(", "))
        ));
    }
    fields.insert("rope_scaling".to_owned(), Value::Object(rope));
    Ok(())
}

/// What a field holds; entries that are `null` count as absent.
fn object(value: Option<Value>, name: &str) -> Result<Option<Map<String, Value>>, ModelError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(mut entries)) => {
            entries.retain(|_, value| !value.is_null());
            if let Some((layers, _)) = entries.iter().find(|(_, value)| value.is_object()) {
                return Err(ModelError::Config(format!(
                    "{name} is given for `{}` apart, but layers of several kinds are not built in",
                    clipped(layers)
                )));
            }
            Ok(Some(entries).filter(|entries| !entries.is_empty()))
        }
        Some(other) => Err(ModelError::Config(format!("{name} is `{}`, but must be an object", shown(&other)))),
    }
}

/// Refuses two values of one field that differ.
fn agree(one: (&str, Option<&Value>), other: (&str, Option<&Value>), name: &str) -> Result<(), ModelError> {
    let ((here, Some(a)), (there, Some(b))) = (one, other) else { return Ok(()) };
    if a == b || b.is_null() || a.as_f64().is_some_and(|number| b.as_f64() == Some(number)) {
        return Ok(());
    }
    Err(ModelError::Config(format!(
        "{} is `{}` in {here}, but `{}` in {there}; leave one of them out",
        clipped(name),
        shown(a),
        shown(b)
    )))
}
