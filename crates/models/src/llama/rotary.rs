//! How config.json says rotary positions: `rope_theta` and `rope_scaling` of transformers 4, `rope_parameters` of transformers 5.

use std::collections::BTreeSet;

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

const ORIGINAL: &str = "original_max_position_embeddings";

/// What stretches read: `linear` the first, `llama3` all.
const STRETCH: [&str; 4] = ["factor", "low_freq_factor", "high_freq_factor", ORIGINAL];

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
                let original = self.need(self.original_max_position_embeddings, ORIGINAL)?;
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

/// Leaves `rope_theta` and `rope_scaling`, whichever of the forms the file has. Forms that contradict each other are refused: transformers 4
/// reads `rope_scaling` alone, and so does transformers 5 where both are there, so that what only `rope_parameters` says would be lost.
pub(super) fn unite(fields: &mut Map<String, Value>, notes: &mut Vec<String>) -> Result<(), ModelError> {
    let old = stated(fields.remove("rope_scaling"), "rope_scaling")?;
    let new = stated(fields.remove("rope_parameters"), "rope_parameters")?;
    let original = fields.remove(ORIGINAL).filter(|value| !value.is_null());
    if let (Some(old), Some(new)) = (&old, &new) {
        say_the_same(old, new, (fields.get("rope_theta"), original.as_ref()))?;
    }
    let Some(mut rope) = new.or(old) else { return Ok(()) };
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
        agree(("config.json", original.as_ref()), ("rope_parameters", rope.get(ORIGINAL)), ORIGINAL)?;
        if let Some(original) = original {
            rope.insert(ORIGINAL.to_owned(), original);
        }
    }
    notes.extend(passed_over(&rope, &kind));
    fields.insert("rope_scaling".to_owned(), Value::Object(rope));
    Ok(())
}

/// What a field holds, its kind under `rope_type`; entries that are `null` count as absent.
fn stated(value: Option<Value>, name: &str) -> Result<Option<Map<String, Value>>, ModelError> {
    let mut entries = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(entries)) => entries,
        Some(other) => {
            return Err(ModelError::Config(format!("{name} is `{}`, but must be an object", shown(&other))));
        }
    };
    entries.retain(|_, value| !value.is_null());
    if let Some((layers, _)) = entries.iter().find(|(_, value)| value.is_object()) {
        return Err(ModelError::Config(format!(
            "{name} is given for `{}` apart, but layers of several kinds are not built in",
            clipped(layers)
        )));
    }
    if let Some(kind) = entries.remove("type") {
        agree(("`type`", Some(&kind)), ("`rope_type`", entries.get("rope_type")), "rope_type")?;
        entries.insert("rope_type".to_owned(), kind);
    }
    Ok(Some(entries).filter(|entries| !entries.is_empty()))
}

/// Refuses two forms that are not the same function: whatever one of them lacks is what stands beside them, or transformers' default.
fn say_the_same(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    (theta, original): (Option<&Value>, Option<&Value>),
) -> Result<(), ModelError> {
    let absent = |name: &str| match name {
        "rope_type" => Some(Value::from("default")),
        "rope_theta" => Some(theta.filter(|theta| !theta.is_null()).cloned().unwrap_or_else(|| THETA.into())),
        "partial_rotary_factor" => Some(1.0.into()),
        ORIGINAL => original.cloned(),
        _ => None,
    };
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (a, b) = (old.get(name), new.get(name));
        let (here, there) = (a.cloned().or_else(|| absent(name)), b.cloned().or_else(|| absent(name)));
        if here.as_ref().zip(there.as_ref()).is_some_and(|(here, there)| equal(here, there)) {
            continue;
        }
        let says = |own: Option<&Value>, taken: Option<&Value>| match (own, taken) {
            (Some(own), _) => format!("is `{}`", shown(own)),
            (None, Some(taken)) => format!("is absent (so `{}`)", shown(taken)),
            (None, None) => "is absent".to_owned(),
        };
        return Err(ModelError::Config(format!(
            "{} {} in rope_scaling, but {} in rope_parameters; transformers reads rope_scaling alone where a file has both; leave one of \
             them out",
            clipped(name),
            says(a, here.as_ref()),
            says(b, there.as_ref())
        )));
    }
    Ok(())
}

/// Names the entries that change nothing: unknown ones, and those of another kind of stretch.
fn passed_over(rope: &Map<String, Value>, kind: &Value) -> Vec<String> {
    let read: &[&str] = match kind.as_str() {
        Some("llama3") => &STRETCH,
        Some("linear") => &STRETCH[..1],
        _ => &[],
    };
    let idle = |name: &&String| *name != "rope_type" && !read.contains(&name.as_str());
    let (of_others, unknown): (Vec<&String>, Vec<&String>) =
        rope.keys().filter(idle).partition(|name| STRETCH.contains(&name.as_str()));
    let note = |names: Vec<&String>, why: &str| {
        let names: Vec<String> = names.into_iter().map(|name| format!("`{}`", clipped(name))).collect();
        let shown = clipped(&names.join(", "));
        (!names.is_empty()).then(|| format!("config.json: fields of rotary positions that {why}: {shown}"))
    };
    let of_others = note(of_others, &format!("have no effect where rope_type is `{}`", shown(kind)));
    of_others.into_iter().chain(note(unknown, "are not known here and have no effect")).collect()
}

/// Refuses two values of one field that differ.
fn agree(one: (&str, Option<&Value>), other: (&str, Option<&Value>), name: &str) -> Result<(), ModelError> {
    let ((here, Some(a)), (there, Some(b))) = (one, other) else { return Ok(()) };
    if b.is_null() || equal(a, b) {
        return Ok(());
    }
    Err(ModelError::Config(format!(
        "{} is `{}` in {here}, but `{}` in {there}; leave one of them out",
        clipped(name),
        shown(a),
        shown(b)
    )))
}

/// Whether two values are one, however a number is written.
fn equal(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().is_some_and(|number| b.as_f64() == Some(number))
}
