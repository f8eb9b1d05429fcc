//! Values of PEFT's fields that no adapter can have, whatever command reads them.

use serde_json::{Map, Value};

use super::fields::{is_set, shown};

/// What is wrong with a configuration's numbers.
pub(super) fn problems(configuration: &Map<String, Value>) -> Vec<String> {
    let mut problems = Vec::new();
    let alphas = configuration.get("alpha_pattern").and_then(Value::as_object).into_iter().flatten();
    let alphas = alphas.map(|(map, value)| (format!("alpha_pattern of `{map}`"), value));
    let alpha = configuration.get("lora_alpha").map(|value| ("lora_alpha".to_owned(), value));
    for (name, value) in alpha.into_iter().chain(alphas) {
        let is_right = |alpha: f64| alpha != 0.0 && alpha.abs() <= f64::from(f32::MAX);
        if value.as_f64().is_some_and(|alpha| !is_right(alpha)) {
            let rule = "must not be 0, or the adapter has no effect, and must lie in the range of single precision";
            problems.push(format!("{name} is {}, but {rule}", shown(value)));
        }
    }
    for name in ["lora_dropout", "vera_dropout"] {
        if let Some(value) =
            configuration.get(name).filter(|value| value.as_f64().is_some_and(|p| !(0.0..1.0).contains(&p)))
        {
            problems.push(format!("{name} is {}, but must lie in [0, 1)", shown(value)));
        }
    }
    let is_given = |name: &str| configuration.get(name).is_some_and(is_set);
    if is_given("layers_pattern") && !is_given("layers_to_transform") {
        problems.push(
            "layers_pattern says what the layers of layers_to_transform are called, but that is not given; give it, or leave both out"
                .to_owned(),
        );
    }
    problems
}
