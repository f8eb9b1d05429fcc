//! `--set key=value`: changes to the YAML before it is read.

use serde_yaml::{Mapping, Value};

use super::{
    error::Report,
    fields::shown,
    path::{Part, Path},
    set::Set,
    yaml,
};

/// Lists whose items may be named by a key of theirs, and the key that a bare name stands for.
const NAMED: [(&str, &[&str], &str); 2] = [("variants", &["label", "preset"], "preset"), ("tasks", &["task"], "task")];

/// Applies every override in order. Keys that the experiment does not know are found when it is checked.
pub(super) fn apply(root: &mut Value, overrides: &[String], report: &mut Report) -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::new();
    for text in overrides {
        match set(root, text, &sets) {
            Ok((path, value)) => sets.push(Set { path, text: text.clone(), value }),
            Err(reason) => report.add(&Path::default(), format!("`--set {text}`: {reason}")),
        }
    }
    sets
}

fn set(root: &mut Value, text: &str, earlier: &[Set]) -> Result<(Path, Value), String> {
    let (keys, value) = text.split_once('=').ok_or("must be `key=value`, such as `train.steps=50`")?;
    let value = yaml::value(value).map_err(|error| format!("the value is not valid YAML: {error}"))?;
    let (mut slot, mut path) = (root, Path::default());
    for key in keys.split('.') {
        if key.is_empty() {
            return Err("the key has an empty part".to_owned());
        }
        name_in_full(slot, &path);
        give_way(slot, &path, key, earlier);
        let part = part(slot, &path, key)?;
        path = path.with(part.clone());
        slot = enter(slot, part);
    }
    slot.clone_from(&value);
    Ok((path, value))
}

/// A bare name in a list of variants or tasks becomes a map, so that keys can be put beside it.
fn name_in_full(slot: &mut Value, path: &Path) {
    if let [Part::Key(list), Part::Index(_)] = path.parts()
        && let Some((_, _, key)) = NAMED.iter().find(|(named, _, _)| named == list)
        && slot.is_string()
    {
        let name = std::mem::take(slot);
        *slot = Value::Mapping(Mapping::from_iter([(Value::from(*key), name)]));
    }
}

/// The file's `epochs` give way to `steps` from the command line, and the reverse; an earlier override's do not.
fn give_way(slot: &mut Value, path: &Path, key: &str, earlier: &[Set]) {
    let other = match key {
        "steps" => "epochs",
        "epochs" => "steps",
        _ => return,
    };
    if path.last() == "train" && earlier.iter().all(|set| set.path != path.key(other)) {
        slot.as_mapping_mut().map(|map| map.remove(other));
    }
}

/// What `key` means inside `slot`.
fn part(slot: &Value, path: &Path, key: &str) -> Result<Part, String> {
    let items = match slot {
        Value::Mapping(_) | Value::Null => return Ok(Part::Key(key.to_owned())),
        Value::Sequence(items) => items,
        other => return Err(format!("`{path}` is {}, which has no keys", shown(other))),
    };
    if let Ok(index) = key.parse::<usize>() {
        let way_out = format!("`{path}` has {} items, counted from 0", items.len());
        return if index < items.len() { Ok(Part::Index(index)) } else { Err(way_out) };
    }
    let names: Vec<&str> = items.iter().map(|item| name_of(item, path).unwrap_or_default()).collect();
    let mut found = names.iter().enumerate().filter(|(_, name)| **name == key).map(|(index, _)| index);
    match (found.next(), found.next()) {
        (Some(index), None) => Ok(Part::Index(index)),
        (None, _) => Err(format!("`{path}` has no item `{key}`; its items are {}", names.join(", "))),
        (Some(_), Some(_)) => Err(format!("`{path}` has several items `{key}`; use an index, counted from 0")),
    }
}

/// What an item of a list is called.
fn name_of<'a>(item: &'a Value, path: &Path) -> Option<&'a str> {
    let (_, keys, _) = NAMED.iter().find(|(list, _, _)| *list == path.last())?;
    // A task that the experiment describes has its name one level below.
    let named = |key: &&str| item.get(key).and_then(|value| value.as_str().or_else(|| value.get("name")?.as_str()));
    item.as_str().or_else(|| keys.iter().find_map(named))
}

/// The value at `part`, made where it is not there.
fn enter(slot: &mut Value, part: Part) -> &mut Value {
    if slot.is_null() {
        *slot = Value::Mapping(Mapping::new());
    }
    match (slot, part) {
        (Value::Mapping(map), Part::Key(key)) => map.entry(Value::String(key)).or_insert(Value::Null),
        (Value::Sequence(items), Part::Index(index)) => &mut items[index],
        (slot, _) => unreachable!("`part` has found the part in {slot:?}"),
    }
}
