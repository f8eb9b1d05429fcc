//! Names of a head's outputs: `id2label` of config.json, or `label2id`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::clipped;

/// The names by output. None where the file names no outputs, or calls them `LABEL_0`, `LABEL_1`, .. as transformers does without names;
/// an error says why names cannot be used.
pub(super) fn read(fields: &Map<String, Value>) -> Result<Option<Vec<String>>, String> {
    let Some(by_id) = by_id(fields)? else { return Ok(None) };
    let is_generic = |(id, name): (usize, &String)| name.to_uppercase() == format!("LABEL_{id}");
    if by_id.is_empty() || by_id.iter().enumerate().all(is_generic) { Ok(None) } else { Ok(Some(by_id)) }
}

fn by_id(fields: &Map<String, Value>) -> Result<Option<Vec<String>>, String> {
    let broken = |field: &str, what: &str| {
        Err(format!(
            "{field}: `{}` is no output of 0, 1, .., each named once, so the names are not used",
            clipped(what)
        ))
    };
    let mut names: BTreeMap<usize, String> = BTreeMap::new();
    // A list names the outputs in their order.
    if let Some(list) = fields.get("id2label").and_then(Value::as_array) {
        return Ok(Some(
            list.iter().map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned)).collect(),
        ));
    }
    if let Some(other) = fields.get("id2label").filter(|value| !value.is_null() && !value.is_object()) {
        return Err(format!(
            "id2label is `{}`, which names no outputs, so the names are not used",
            clipped(&other.to_string())
        ));
    }
    let field = if let Some(map) = fields.get("id2label").and_then(Value::as_object) {
        for (id, name) in map {
            // Labels of some files are numbers.
            let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
            match id.parse() {
                Ok(id) if !names.contains_key(&id) => names.insert(id, name),
                _ => return broken("id2label", id),
            };
        }
        "id2label"
    } else if let Some(map) = fields.get("label2id").and_then(Value::as_object) {
        for (name, id) in map {
            let id = id.as_u64().or_else(|| id.as_str()?.parse().ok());
            match id.and_then(|id| usize::try_from(id).ok()) {
                Some(id) if !names.contains_key(&id) => names.insert(id, name.clone()),
                _ => return broken("label2id", name),
            };
        }
        "label2id"
    } else {
        return Ok(None);
    };
    match names.keys().enumerate().find(|(at, id)| at != *id) {
        Some((_, id)) => broken(field, &id.to_string()),
        None => Ok(Some(names.into_values().collect())),
    }
}

/// What to say where `label2id` gives a name of `id2label` another output. transformers reads predictions by `id2label`, and so does this.
pub(super) fn contradiction(fields: &Map<String, Value>) -> Option<String> {
    let names = by_id(fields).ok()??;
    let other = |(name, id): (&String, &Value)| {
        let at = names.iter().position(|known| known == name)?;
        let is_other = id.as_u64().is_some_and(|id| id != at as u64);
        is_other.then(|| {
            let name = clipped(name);
            format!("label2id has `{name}` at output {id} and id2label at {at}; outputs are named by id2label")
        })
    };
    fields.get("label2id")?.as_object()?.iter().find_map(other)
}

/// Why a head of this file answers another question than a task here asks: `problem_type` says how its outputs are read, and a row has one
/// label or one score.
pub(super) fn other_question(fields: &Map<String, Value>) -> Option<String> {
    let outputs = by_id(fields).ok().flatten().map_or(1, |names| names.len());
    let what = match fields.get("problem_type")?.as_str()? {
        "multi_label_classification" => "any number of labels may be right for a row".to_owned(),
        "regression" if outputs > 1 => format!("a row has {outputs} scores"),
        _ => return None,
    };
    let problem = clipped(fields["problem_type"].as_str().unwrap_or_default());
    Some(format!(
        "config.json has problem_type `{problem}`, where {what}, and a row of a task here has one label or one score"
    ))
}

/// For each of the task's labels, the output of a head that has its name. Case and what stands between words do not count. None where
/// some label has no output of its own.
pub fn order(outputs: &[String], labels: &[String]) -> Option<Vec<usize>> {
    let plain = |name: &String| name.to_lowercase().replace(['-', ' '], "_");
    let outputs: Vec<String> = outputs.iter().map(plain).collect();
    let labels: Vec<String> = labels.iter().map(plain).collect();
    let found: Option<Vec<usize>> =
        labels.iter().map(|label| outputs.iter().position(|output| output == label)).collect();
    let mut met = vec![false; outputs.len()];
    found.filter(|found| found.len() == outputs.len() && found.iter().all(|at| !std::mem::replace(&mut met[*at], true)))
}
