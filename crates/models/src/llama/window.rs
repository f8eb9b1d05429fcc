//! How config.json says sliding windows, which Mistral has and Qwen2 can have.

use serde_json::{Map, Value};

use crate::{
    config::{fields::shown, typed},
    error::ModelError,
};

/// Width of the window where the file names none, in transformers' classes.
const WIDTH: usize = 4096;
/// Qwen2's first layer with a window where the file names none.
const FIRST_LAYER: usize = 28;

/// What Qwen2 says of its windows.
#[derive(serde::Deserialize)]
struct Qwen2 {
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default = "first_layer")]
    max_window_layers: usize,
    #[serde(default)]
    layer_types: Option<Vec<String>>,
    #[serde(default = "layers")]
    num_hidden_layers: usize,
}

fn first_layer() -> usize {
    FIRST_LAYER
}

fn layers() -> usize {
    1
}

/// Takes the fields of windows off; the positions that a query of some layer sees, where not all before it.
pub(super) fn take(fields: &mut Map<String, Value>, model_type: &str) -> Result<Option<usize>, ModelError> {
    let width = match fields.remove("sliding_window") {
        None => Some(WIDTH),
        Some(Value::Null) => None,
        Some(value) => Some(width(&value)?),
    };
    match model_type {
        "mistral" => Ok(width),
        "qwen2" => {
            let names = ["use_sliding_window", "max_window_layers", "layer_types", "num_hidden_layers"];
            let own = names.into_iter().filter_map(|name| Some((name.to_owned(), fields.get(name)?.clone()))).collect();
            let found: Qwen2 = typed(own)?;
            for name in &names[..3] {
                fields.remove(*name);
            }
            if let Some(other) = found.layer_types.iter().flatten().find(|kind| !KINDS.contains(&kind.as_str())) {
                return Err(ModelError::Config(format!(
                    "layer_types has `{}`, but must have {}",
                    crate::config::fields::clipped(other),
                    KINDS.map(|kind| format!("`{kind}`")).join(" or ")
                )));
            }
            let slides = match &found.layer_types {
                Some(kinds) => kinds.iter().any(|kind| kind == KINDS[1]),
                None => found.max_window_layers < found.num_hidden_layers,
            };
            Ok(width.filter(|_| found.use_sliding_window && slides))
        }
        _ => Ok(None),
    }
}

const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];

fn width(value: &Value) -> Result<usize, ModelError> {
    let width = value.as_u64().and_then(|width| usize::try_from(width).ok()).filter(|width| *width > 0);
    width.ok_or_else(|| {
        let rule = "but must be a number of tokens, at least 1, or `null`";
        ModelError::Config(format!("sliding_window is `{}`, {rule}", shown(value)))
    })
}
