//! Training recipes: the defaults, the experiment's overrides, the task's, the variant's.

use serde_yaml::{Mapping, Value};

use super::{error::Report, fields::given, overlay::overlay, path::Path};
use crate::hyper::{Hyper, Interval, Select};

/// A `train` map, as written. Its types are checked, the ranges are not: they may depend on other layers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer {
    pub(super) at: Path,
    pub(super) map: Mapping,
}

/// The keys of which a recipe has one; the upper layer's replaces the other.
const EXCLUSIVE: [(&str, &str); 2] = [("steps", "epochs"), ("epochs", "steps")];

fn defaults() -> Value {
    serde_yaml::to_value(Hyper::default()).unwrap_or_else(|error| unreachable!("plain data serialises: {error}"))
}

/// Reads a `train` map.
pub(super) fn layer(value: &Value, at: &Path, report: &mut Report) -> Option<Layer> {
    let Value::Mapping(map) = value else {
        report.add(at, "train is not a map; write `train: {steps: 300}`");
        return None;
    };
    if given(map, "steps").is_some() && given(map, "epochs").is_some() {
        report.add(&at.key("epochs"), "epochs is given beside steps, but a run has one length; leave one of them out");
    }
    overlay::<Hyper>(&defaults(), map, at, report)?;
    Some(Layer { at: at.clone(), map: map.clone() })
}

/// `upper` over `lower`, key by key.
pub(super) fn over(lower: &mut Mapping, upper: &Mapping) {
    for (key, other) in EXCLUSIVE {
        if given(upper, key).is_some() {
            lower.remove(other);
        }
    }
    lower.extend(upper.clone());
}

/// The recipe of all layers, lowest first; what is out of range is reported where it was given.
///
/// A `max_length` that no layer gives is the default or all that the model takes, whichever is less.
pub(super) fn resolve(layers: &[&Layer], longest: Option<usize>, report: &mut Report) -> Option<Hyper> {
    let mut map = defaults().as_mapping().cloned().unwrap_or_default();
    for layer in layers {
        over(&mut map, &layer.map);
    }
    let mut hyper: Hyper = serde_yaml::from_value(Value::Mapping(map)).ok()?;
    if let Some(longest) = longest.filter(|_| layers.iter().all(|layer| !layer.map.contains_key("max_length"))) {
        hyper.max_length = hyper.max_length.min(longest);
    }
    let broken = broken(&hyper, longest);
    for (field, rule) in &broken {
        let giver = layers.iter().rev().find(|layer| layer.map.contains_key(field));
        let at = giver.map_or_else(|| Path::default().key("train"), |layer| layer.at.clone());
        report.add(&at.key(*field), rule.clone());
    }
    broken.is_empty().then_some(hyper)
}

/// Every rule that a recipe breaks, with the field. `longest`: the most tokens the model takes, where known.
fn broken(hyper: &Hyper, longest: Option<usize>) -> Vec<(&'static str, String)> {
    let mut broken = Vec::new();
    let mut rule = |holds: bool, field: &'static str, value: &dyn std::fmt::Display, bound: &str| {
        if !holds {
            broken.push((field, format!("{field} is `{value}`, but must {bound}")));
        }
    };
    let positive = |value: f64| value.is_finite() && value > 0.0;
    let share = |value: f64| (0.0..1.0).contains(&value);
    let above = "be finite and above 0";
    let one = "be at least 1";
    for (field, value) in
        [("steps", hyper.steps), ("patience", hyper.patience), ("snapshot_every", hyper.snapshot_every)]
    {
        rule(value != Some(0), field, &value.unwrap_or_default(), one);
    }
    rule(hyper.evaluate_every != Some(Interval::Steps(0)), "evaluate_every", &0, one);
    rule(hyper.batch >= 1, "batch", &hyper.batch, one);
    rule(hyper.accumulate >= 1, "accumulate", &hyper.accumulate, one);
    rule(hyper.checkpoint_every >= 1, "checkpoint_every", &hyper.checkpoint_every, one);
    for (field, value) in
        [("epochs", hyper.epochs), ("head_learning_rate", hyper.head_learning_rate), ("clip", hyper.clip)]
    {
        rule(value.is_none_or(positive), field, &value.unwrap_or_default(), above);
    }
    rule(positive(hyper.learning_rate), "learning_rate", &hyper.learning_rate, above);
    rule(positive(hyper.epsilon), "epsilon", &hyper.epsilon, above);
    rule(
        hyper.weight_decay.is_finite() && hyper.weight_decay >= 0.0,
        "weight_decay",
        &hyper.weight_decay,
        "be finite and not negative",
    );
    rule(
        hyper.backbone_dropout.is_none_or(share),
        "backbone_dropout",
        &hyper.backbone_dropout.unwrap_or_default(),
        "lie in [0, 1)",
    );
    for (field, value) in [("warmup", hyper.warmup), ("beta1", hyper.beta1), ("beta2", hyper.beta2)] {
        rule(share(value), field, &value, "lie in [0, 1)");
    }
    // Two special tokens frame at least one of text.
    rule(hyper.max_length >= 3, "max_length", &hyper.max_length, "be at least 3, two special tokens and one of text");
    if let Some(longest) = longest {
        let bound = format!("be at most {longest}, the positions of the model");
        rule(hyper.max_length <= longest, "max_length", &hyper.max_length, &bound);
    }
    let evaluates = hyper.evaluate_every.is_some();
    if hyper.select == Select::Best && !evaluates {
        broken.push((
            "select",
            "select is `best`, but only the last step is evaluated; give `evaluate_every`".to_owned(),
        ));
    }
    if hyper.patience.is_some() && !evaluates {
        broken.push((
            "patience",
            "patience counts evaluations during the run, but there are none; give `evaluate_every`".to_owned(),
        ));
    }
    if hyper.steps.is_none() && hyper.epochs.is_none() {
        broken
            .push(("steps", "steps and epochs are both empty, but a run needs a length; give one of them".to_owned()));
    }
    broken
}
