//! Typed reads of YAML values; what does not fit is reported and skipped.

use serde_yaml::{Mapping, Number, Value};

use super::{bounds::Whole, error::Report, foreign, path::Path};

/// A map; anything else and every unknown key is reported.
pub(super) fn map<'a>(value: &'a Value, at: &Path, known: &[&str], report: &mut Report) -> Option<&'a Mapping> {
    let Value::Mapping(map) = value else {
        report.add(at, format!("{} is {}, but must be a map", at.last(), shown(value)));
        return None;
    };
    for key in map.keys() {
        let name = key.as_str().map_or_else(|| shown(key).trim_matches('`').to_owned(), str::to_owned);
        if !key.is_string() || !known.contains(&name.as_str()) {
            report.add(&at.key(name.clone()), unknown("key", &name, known));
        }
    }
    Some(map)
}

/// A value that is there and not null.
pub(super) fn given<'a>(map: &'a Mapping, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|value| !value.is_null())
}

/// A string.
pub(super) fn text(value: &Value, at: &Path, report: &mut Report) -> Option<String> {
    if let Value::String(text) = value {
        return Some(text.clone());
    }
    report.add(at, format!("{} is {}, but must be a name", at.last(), shown(value)));
    None
}

/// One of `valid`, all of which are `list`.
pub(super) fn name(
    value: &Value,
    at: &Path,
    valid: &[&str],
    list: &'static str,
    report: &mut Report,
) -> Option<String> {
    let name = text(value, at, report)?;
    if valid.contains(&name.as_str()) {
        return Some(name);
    }
    report.unknown_name(list);
    report.add(at, unknown(list.trim_end_matches('s'), &name, valid));
    None
}

/// A name that is safe as part of a path.
pub(super) fn path_safe(name: &str, at: &Path, also: &str, report: &mut Report) {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-+=".contains(c) || also.contains(c);
    if name.is_empty() || name.len() > 80 || !name.chars().all(legal) || name.starts_with(['-', '.']) {
        report.add(
            at,
            format!(
                "{} is `{name}`, but names a folder; use 1 to 80 letters, digits, `_` or `-`, and no `-` in front",
                at.last()
            ),
        );
    }
}

/// Longest list, far beyond any study: each item is compared with those before it.
const MOST_ITEMS: usize = 16_384;

/// The items of a list with their indices: at least one, none twice.
pub(super) fn list<T: PartialEq>(
    value: &Value,
    at: &Path,
    report: &mut Report,
    mut item: impl FnMut(&Value, &Path, &mut Report) -> Option<T>,
) -> Vec<(usize, T)> {
    let Value::Sequence(values) = value else {
        let way_out = match value.as_u64() {
            _ if value.is_mapping() => String::new(),
            // Some mean a number of seeds, some the seed.
            Some(count) if at.last() == "seeds" && (2..=100).contains(&count) => {
                let few: Vec<String> = (0..count.min(3)).map(|seed| seed.to_string()).collect();
                let more = if count > 3 { ", .." } else { "" };
                format!("; write `[{}{more}]` for {count} seeds, or `[{count}]` for the seed {count}", few.join(", "))
            }
            _ => format!("; write `[{}]`", shown(value).trim_matches('`')),
        };
        report.add(at, format!("{} is {}, but must be a list{way_out}", at.last(), shown(value)));
        return Vec::new();
    };
    if values.is_empty() {
        report.add(at, format!("{} is empty, but needs at least one item", at.last()));
    }
    if values.len() > MOST_ITEMS {
        report.add(at, format!("{} has {} items, but must have at most {MOST_ITEMS}", at.last(), values.len()));
        return Vec::new();
    }
    let mut items: Vec<(usize, T)> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let Some(read) = item(value, &at.index(index), report) else { continue };
        match items.iter().find(|(_, other)| *other == read) {
            Some((first, _)) => {
                report.add(&at.index(index), format!("{} is there twice, first at {}", shown(value), at.index(*first)));
            }
            None => items.push((index, read)),
        }
    }
    items
}

/// A whole number within `bound`.
pub(super) fn whole(value: &Value, at: &Path, bound: Whole, report: &mut Report) -> Option<u64> {
    let number = value.as_u64().filter(|number| bound.broken(*number).is_none());
    if number.is_none() {
        let bound = bound.missed_by(value.as_f64());
        report.add(at, format!("{} is {}, but must be a whole number, {bound}", at.last(), shown(value)));
    }
    number
}

/// Whether a key is a hyperparameter's.
pub(super) fn is_of_train(name: &str) -> bool {
    let alone = serde_json::Map::from_iter([(name.to_owned(), serde_json::json!({}))]);
    let read = serde_json::from_value::<crate::hyper::Hyper>(alone.into());
    // A known key refuses the value, another the key.
    read.is_err_and(|error| !error.to_string().contains("unknown field"))
}

/// What comes before all names that are valid; of equal lists the file's problems show one.
pub(super) const USE: &str = "; use one of ";

/// `unknown <what> <name>` with the nearest valid name, or all of them where none is near.
pub(super) fn unknown(what: &str, name: &str, valid: &[&str]) -> String {
    if let ("key", Some(way_out)) = (what, foreign::translated(name)) {
        return format!("unknown key `{name}`; {way_out}");
    }
    if what == "key" && is_of_train(name) {
        return format!("unknown key `{name}` here; it is a field of `train`");
    }
    if let ("model", Some(there)) = (what, foreign::on_the_hub(name)) {
        return format!("unknown model `{name}`; the hub's model is written `{there}`");
    }
    match suggest::nearest(name, valid.iter().copied()) {
        Some(nearest) => format!("unknown {what} `{name}`, did you mean `{nearest}`?"),
        None if valid.is_empty() => format!("unknown {what} `{name}`; none is taken here"),
        None if what == "model" => format!(
            "unknown model `{name}`; write `hf://ORGANISATION/{name}` for a model of the hub, `./{name}` for a folder, or use one of {}",
            quoted(valid)
        ),
        None => format!("unknown {what} `{name}`{USE}{}", quoted(valid)),
    }
}

/// `` `a`, `b` ``
pub(super) fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A number in a message: one that 64 bits do not hold as the whole number that it was, or nearly.
fn digits(number: &Number) -> String {
    let beyond =
        number.as_f64().filter(|value| !number.is_i64() && !number.is_u64() && (9e18..1e30).contains(&value.abs()));
    beyond.map_or_else(|| number.to_string(), |value| format!("{value:.0}"))
}

/// A value in a message.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => format!("`{}`", digits(number)),
        Value::String(value) => format!("`{value}`"),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a map".to_owned(),
        Value::Tagged(value) => format!("tagged `{}`", value.tag),
    }
}
