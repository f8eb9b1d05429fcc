//! Training recipes: the defaults, the experiment's overrides, the task's, the variant's.

use serde_yaml::{Mapping, Value};

use super::{
    bounds::{self, Real},
    error::Report,
    fields::given,
    overlay::overlay,
    path::Path,
};
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
    let mut rule = |field: &'static str, value: &dyn std::fmt::Display, bound: Option<String>| {
        broken.extend(bound.map(|bound| (field, format!("{field} is `{value}`, but must {bound}"))));
    };
    let between = match hyper.evaluate_every {
        Some(Interval::Steps(steps)) => Some(steps),
        Some(Interval::Epoch) | None => None,
    };
    for (field, value, bound) in [
        ("steps", hyper.steps, bounds::STEPS),
        ("patience", hyper.patience, bounds::INTERVAL),
        ("snapshot_every", hyper.snapshot_every, bounds::INTERVAL),
        ("evaluate_every", between, bounds::INTERVAL),
        ("batch", Some(hyper.batch as u64), bounds::BATCH),
        ("accumulate", Some(hyper.accumulate as u64), bounds::ACCUMULATE),
        ("checkpoint_every", Some(hyper.checkpoint_every), bounds::INTERVAL),
        ("log_every", Some(hyper.log_every), bounds::INTERVAL),
    ] {
        rule(field, &value.unwrap_or_default(), value.and_then(|value| bound.broken(value)));
    }
    for (field, value, bound) in [
        ("epochs", hyper.epochs, bounds::EPOCHS),
        ("head_learning_rate", hyper.head_learning_rate, bounds::RATE),
        ("clip", hyper.clip, bounds::CLIP),
        ("learning_rate", Some(hyper.learning_rate), bounds::RATE),
        ("epsilon", Some(hyper.epsilon), bounds::EPSILON),
        ("weight_decay", Some(hyper.weight_decay), bounds::DECAY),
        ("backbone_dropout", hyper.backbone_dropout, Real::Share),
        ("warmup", Some(hyper.warmup), Real::Share),
        ("beta1", Some(hyper.beta1), Real::Share),
        ("beta2", Some(hyper.beta2), Real::Share),
    ] {
        rule(field, &bounds::shown(value.unwrap_or_default()), value.and_then(|value| bound.broken(value)));
    }
    let positions = longest.filter(|longest| hyper.max_length > *longest);
    let length = match (bounds::MAX_LENGTH.broken(hyper.max_length as u64), positions) {
        (_, Some(longest)) => Some(format!("be at most {longest}, the positions of the model")),
        (Some(bound), None) if (hyper.max_length as u64) < bounds::MAX_LENGTH.least => {
            Some(format!("{bound}, two special tokens and one of text"))
        }
        (bound, None) => bound,
    };
    rule("max_length", &hyper.max_length, length);
    broken.extend(too_many_rows(hyper));
    broken.extend(contradictions(hyper));
    broken
}

/// Rows of a step beyond what a machine holds, where batch and micro-batches are each within bounds.
fn too_many_rows(hyper: &Hyper) -> Option<(&'static str, String)> {
    let each = [(hyper.batch, bounds::BATCH), (hyper.accumulate, bounds::ACCUMULATE)];
    let rows = (hyper.batch as u64).saturating_mul(hyper.accumulate as u64);
    let within = each.iter().all(|(value, bound)| bound.broken(*value as u64).is_none());
    let bound = within.then(|| bounds::ROWS_OF_A_STEP.broken(rows)).flatten()?;
    Some((
        "accumulate",
        format!(
            "accumulate is `{}`, {rows} rows a step with the batch of {}, but they must {bound}",
            hyper.accumulate, hyper.batch
        ),
    ))
}

/// Fields that need each other.
fn contradictions(hyper: &Hyper) -> Vec<(&'static str, String)> {
    let mut broken = Vec::new();
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
