//! Overrides laid over defaults, key by key, and what serde says of them put where it belongs.
//!
//! A map that changes its tag (`kind`, `state`) replaces the old map; any other map merges. Each leaf or replaced map is tried
//! over the defaults on its own, so that one wrong value does not hide the next.

use serde::{Serialize, de::DeserializeOwned};
use serde_yaml::{Mapping, Value};

use super::{
    bounds,
    error::Report,
    fields::{shown, unknown},
    path::{Part, Path},
    refusal::{Refusal, described, refusal},
};

/// Keys that say which alternative a map is.
const TAGS: [&str; 2] = ["kind", "state"];

/// `over` laid on `base`, as a `T`; every problem is reported under `at`.
pub(super) fn overlay<T: Serialize + DeserializeOwned>(
    base: &Value,
    over: &Mapping,
    at: &Path,
    report: &mut Report,
) -> Option<T> {
    let before = report.met();
    let mut units = Vec::new();
    split(Some(base), &Value::Mapping(over.clone()), &Path::default(), &mut units);
    let mut merged = base.clone();
    for (keys, value) in units {
        merged = put(&merged, &keys, &value);
        diagnose::<T>(base, &keys, value, at, report);
    }
    if report.met() > before {
        return None;
    }
    let read: T = match serde_yaml::from_value(merged) {
        Ok(read) => read,
        Err(error) => {
            report.add(at, error.to_string());
            return None;
        }
    };
    let kept = serde_yaml::to_value(&read).unwrap_or_default();
    survived(over, &kept, at, report);
    (report.met() == before).then_some(read)
}

/// `value` as a `T` that has no defaults; every unknown key is reported under `at`, and the first of anything else.
pub(super) fn whole<T: DeserializeOwned>(value: &Value, at: &Path, report: &mut Report) -> Option<T> {
    let before = report.met();
    diagnose::<T>(&Value::Null, &Path::default(), value.clone(), at, report);
    if report.met() > before {
        return None;
    }
    serde_yaml::from_value(value.clone()).map_err(|error| report.add(at, error.to_string())).ok()
}

/// Parts of `over` that replace something of `base`: its leaves, and maps of another kind.
fn split(base: Option<&Value>, over: &Value, keys: &Path, units: &mut Vec<(Path, Value)>) {
    match (base, over) {
        (Some(Value::Mapping(old)), Value::Mapping(new)) if !retagged(old, new) => {
            for (key, value) in new {
                let name = key.as_str().map_or_else(|| shown(key), str::to_owned);
                split(old.get(key), value, &keys.key(name), units);
            }
        }
        _ => units.push((keys.clone(), over.clone())),
    }
}

fn retagged(old: &Mapping, new: &Mapping) -> bool {
    TAGS.iter().any(|tag| new.get(*tag).is_some_and(|kind| old.get(*tag) != Some(kind)))
}

/// `base` with `value` at `keys`.
fn put(base: &Value, keys: &Path, value: &Value) -> Value {
    let mut out = base.clone();
    let mut slot = &mut out;
    for part in keys.parts() {
        let Part::Key(key) = part else { continue };
        if !slot.is_mapping() {
            *slot = Value::Mapping(Mapping::new());
        }
        let Value::Mapping(map) = slot else { unreachable!("it was made a map") };
        slot = map.entry(Value::String(key.clone())).or_insert(Value::Null);
    }
    *slot = value.clone();
    out
}

/// Reports what is wrong with one unit: unknown keys one after the other, and the first of anything else.
fn diagnose<T: DeserializeOwned>(base: &Value, keys: &Path, mut value: Value, at: &Path, report: &mut Report) {
    // Each round removes a key, so it ends.
    while let Some(refused) = refusal::<T>(&put(base, keys, &value)) {
        let (inside, message) = explain(&refused, keys, &value);
        report.add(&join(&join(at, keys), &inside), message);
        if !matches!(refused, Refusal::Field { .. }) || !remove(&mut value, inside.parts()) {
            return;
        }
    }
}

fn join(path: &Path, rest: &Path) -> Path {
    rest.parts().iter().fold(path.clone(), |path, part| path.with(part.clone()))
}

/// Where inside `value` the refused one stands, as far as that is certain, and what is wrong in our words.
fn explain(refused: &Refusal, keys: &Path, value: &Value) -> (Path, String) {
    let mut nodes = Vec::new();
    walk(value, &Path::default(), &mut nodes);
    let only = |matches: &dyn Fn(&Path, &Value) -> bool| {
        let mut found = nodes.iter().filter(|(path, node)| matches(path, node));
        found.next().filter(|_| found.next().is_none())
    };
    match refused {
        Refusal::Field { name, valid } => {
            let is_key = |path: &Path| matches!(path.parts().last(), Some(Part::Key(key)) if key == name);
            let path = only(&|path, _| is_key(path)).map(|(path, _)| path.clone());
            (path.unwrap_or_default(), unknown("key", name, valid))
        }
        Refusal::Variant { name, valid } => match only(&|_, node| node.as_str() == Some(name)) {
            Some((path, _)) => (path.clone(), unknown(join(keys, path).last(), name, valid)),
            // A map keyed by an enumeration, such as the configuration of each role.
            None => (Path::default(), unknown("key", name, valid)),
        },
        Refusal::Value { found, expected } => {
            let path = only(&|_, node| described(node) == *found).map(|(path, _)| path.clone()).unwrap_or_default();
            let node = nodes.iter().find(|(other, _)| *other == path).map_or(value, |(_, node)| node);
            let place = join(keys, &path);
            let expected = friendly(expected, node, &place);
            let message = format!("{} is {}, but must be {expected}", place.last(), shown(node));
            (path, message)
        }
        Refusal::Missing(name) if keys.parts().is_empty() => (Path::default(), format!("`{name}` is missing")),
        Refusal::Missing(name) => (Path::default(), format!("{} lacks `{name}`", keys.last())),
        Refusal::Rule(rule) => (Path::default(), rule.clone()),
    }
}

/// Every value inside `value`, itself included, with its path.
fn walk(value: &Value, at: &Path, nodes: &mut Vec<(Path, Value)>) {
    nodes.push((at.clone(), value.clone()));
    match value {
        Value::Mapping(map) => {
            for (key, value) in map {
                walk(value, &at.key(key.as_str().unwrap_or_default()), nodes);
            }
        }
        Value::Sequence(items) => {
            for (index, value) in items.iter().enumerate() {
                walk(value, &at.index(index), nodes);
            }
        }
        _ => {}
    }
}

/// What serde expected, for a reader who knows no Rust.
fn friendly(expected: &str, found: &Value, place: &Path) -> String {
    match expected {
        "f64" => "a number".to_owned(),
        "u64" | "usize" => {
            let bound = bounds::of_recipe(place.last()).unwrap_or(bounds::ANY);
            format!("a whole number, {}", bound.missed_by(found.as_f64()))
        }
        "a sequence" => "a list".to_owned(),
        _ if expected.starts_with("internally tagged enum") => "a map with a `kind` or `state`".to_owned(),
        _ if expected.starts_with("struct") || expected == "a map" => "a map".to_owned(),
        _ if expected.contains("enum") => "a name".to_owned(),
        _ => expected.to_owned(),
    }
}

fn remove(value: &mut Value, parts: &[Part]) -> bool {
    let Some((Part::Key(last), around)) = parts.split_last() else { return false };
    let inner = around.iter().try_fold(value, |value, part| match part {
        Part::Key(key) => value.get_mut(key),
        Part::Index(index) => value.get_mut(index),
    });
    inner.and_then(Value::as_mapping_mut).is_some_and(|map| map.remove(last.as_str()).is_some())
}

/// Reports keys that serde dropped: it ignores what stands beside the tag of an alternative without fields.
fn survived(over: &Mapping, kept: &Value, at: &Path, report: &mut Report) {
    for (key, value) in over {
        let Some(name) = key.as_str().filter(|_| !value.is_null()) else { continue };
        match (value, kept.get(name)) {
            (_, None) => {
                // Elsewhere serde has refused unknown keys, and what is missing is a default that is not written.
                let tag = TAGS.iter().find_map(|tag| Some(format!("`{tag}: {}`", kept.get(tag)?.as_str()?)));
                let Some(tag) = tag else { continue };
                report.add(&at.key(name), format!("unknown key `{name}`; {tag} takes no such key"));
            }
            (Value::Mapping(inner), Some(kept)) => survived(inner, kept, &at.key(name), report),
            _ => {}
        }
    }
}
