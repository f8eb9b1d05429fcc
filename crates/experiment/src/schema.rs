//! The JSON Schema of an experiment, by which editors complete and check its file.
//!
//! Keys come from what reads them, values from the registries and the defaults, and descriptions from the guide's tables. The schema says
//! what a file may look like; what only the whole tells, such as a rank that is wider than its map, `check` says.

use serde_json::{Map, Value, json};
use variants::preset;

use crate::{
    document::{ENTRY_KEYS, KEYS, MODULE_KEYS, REQUIRED},
    hyper::Hyper,
    suites,
};

/// The guide's page on experiments.
const GUIDE: &str = include_str!("../../../docs/src/experiments.md");

/// Where the schema lies in the repository, from its root.
pub const FILE: &str = "experiments/experiment.schema.json";

/// The schema, as JSON that people can read.
pub fn text() -> String {
    format!("{:#}\n", schema())
}

/// The schema, of draft 2020-12.
pub fn schema() -> Value {
    let modules = section("## Selecting modules");
    let described = |key: &str, rows: &[Row], schema: Value| with_description(schema, key, rows);
    let top = section("## The experiment");
    let mut properties = Map::new();
    for key in KEYS {
        properties.insert((*key).to_owned(), described(key, &top, of_experiment(key)));
    }
    let entry = section("## An entry of `variants`");
    let mut of_entry = Map::new();
    for key in ENTRY_KEYS {
        let schema = match *key {
            "preset" => json!({"$ref": "#/$defs/preset"}),
            "label" => json!({"type": "string"}),
            "with" => json!({"$ref": "#/$defs/with"}),
            "readouts" => json!({"type": "array", "items": {"enum": ["truncated", "svd"]}}),
            "start_from" => json!({"const": "base"}),
            "tune" => json!({"type": "object"}),
            key => of_experiment(key),
        };
        of_entry.insert((*key).to_owned(), described(key, &entry, schema));
    }
    for key in MODULE_KEYS {
        properties.insert(key.to_owned(), described(key, &modules, of_module(key)));
        of_entry.insert(key.to_owned(), described(key, &modules, of_module(key)));
    }
    let names: Vec<Value> =
        preset::all().iter().map(|preset| json!({"const": preset.name, "description": preset.about})).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An experiment of LoRA Lab",
        "type": "object",
        "required": REQUIRED,
        "additionalProperties": false,
        "properties": properties,
        "$defs": {
            "preset": {"oneOf": names},
            "entry": {"type": "object", "required": ["preset"], "additionalProperties": false, "properties": of_entry},
            "train": train(),
            "with": with(),
            "task": task(),
        },
    })
}

fn of_experiment(key: &str) -> Value {
    let whole = json!({"type": "integer", "minimum": 0});
    let list = |items: Value| json!({"type": "array", "minItems": 1, "items": items});
    match key {
        "suite" => {
            let names = [suites::NAMES, &[suites::CUSTOM]].concat();
            json!({"enum": names})
        }
        "seeds" => list(whole),
        "ranks" => json!({"anyOf": [list(json!({"type": "integer", "minimum": 1})), {"const": "match"}]}),
        "tasks" => list(json!({"anyOf": [{"type": "string"}, {"$ref": "#/$defs/task"}]})),
        "variants" => list(json!({"anyOf": [{"$ref": "#/$defs/preset"}, {"$ref": "#/$defs/entry"}]})),
        "targets" => json!({"anyOf": [{"type": "string"}, list(json!({"type": "string"}))]}),
        "train" => json!({"$ref": "#/$defs/train"}),
        "vary" => list(json!({"enum": ["sample"]})),
        "cohort" => json!({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
        "contrasts" => list(keys_of("## `contrasts`", &["variant", "against"])),
        "tune" => keys_of("## `tune`", &["space"]),
        "match" => json!({"anyOf": [{"type": "string"}, {"type": "object"}]}),
        "streams" | "measure" | "launcher" => json!({"type": "object"}),
        "primary" => json!({"anyOf": [{"type": "string"}, list(json!({"type": "string"}))]}),
        "equivalence" => json!({"type": "number", "exclusiveMinimum": 0}),
        _ => json!({"type": "string"}),
    }
}

fn of_module(key: &str) -> Value {
    let names = json!({"anyOf": [{"type": "string"}, {"type": "array"}, {"type": "null"}]});
    match key {
        "rank_pattern" | "alpha_pattern" => json!({"type": ["object", "null"]}),
        "layers_to_transform" => json!({"type": ["array", "integer", "null"]}),
        "trainable_token_indices" => json!({"type": ["array", "null"]}),
        _ => names,
    }
}

/// A map whose keys are those of a table of the guide.
fn keys_of(heading: &str, required: &[&str]) -> Value {
    let rows = section(heading);
    let properties: Map<String, Value> =
        rows.iter().map(|row| (row.key.clone(), with_description(json!({}), &row.key, &rows))).collect();
    json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
}

/// The hyperparameters: types by their defaults, choices by the guide's table.
fn train() -> Value {
    let rows = section("## `train`");
    let defaults = serde_json::to_value(Hyper::default()).unwrap_or_default();
    let mut properties = Map::new();
    for (key, value) in defaults.as_object().into_iter().flatten() {
        let schema = match (key.as_str(), value) {
            ("evaluate_every", _) => {
                json!({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "epoch"}, {"type": "null"}]})
            }
            ("clip", _) => json!({"type": ["number", "null"]}),
            ("steps" | "patience" | "snapshot_every", _) => json!({"type": ["integer", "null"], "minimum": 1}),
            (_, Value::String(_)) => json!({"enum": choices(key, &rows)}),
            (_, Value::Bool(_)) => json!({"type": "boolean"}),
            (_, Value::Number(number)) if number.is_u64() => json!({"type": "integer", "minimum": 1}),
            _ => json!({"type": ["number", "null"]}),
        };
        properties.insert(key.clone(), with_description(schema, key, &rows));
    }
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

/// Overrides of a composition: its axes are named, what is under them depends on their kinds.
fn with() -> Value {
    let rows = section("## `with`");
    let properties: Map<String, Value> =
        rows.iter().map(|row| (row.key.clone(), with_description(json!({}), &row.key, &rows))).collect();
    json!({"type": "object", "properties": properties})
}

fn task() -> Value {
    let rows = section("## A task");
    let described = |key: &str, schema: Value| with_description(schema, key, &rows);
    json!({
        "type": "object",
        "required": ["task"],
        "additionalProperties": false,
        "properties": {
            "task": described("task", json!({"anyOf": [{"type": "string"}, {"type": "object", "required": ["name", "train"]}]})),
            "train": described("train", json!({"$ref": "#/$defs/train"})),
            "start_from": described("start_from", json!({"type": "string"})),
        },
    })
}

/// One row of a table of the guide.
struct Row {
    key: String,
    kind: String,
    text: String,
}

/// The rows of the first table under a heading.
fn section(heading: &str) -> Vec<Row> {
    let start = GUIDE.find(&format!("\n{heading}\n")).map_or(GUIDE.len(), |at| at + heading.len() + 1);
    let under = &GUIDE[start..];
    let end = under.find("\n## ").unwrap_or(under.len());
    let lines = under[..end].lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let mut rows = Vec::new();
    for line in lines.skip(2) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [keys, rest @ ..] = &cells[..] else { continue };
        let kind = if rest.len() > 1 { plain(rest[0]) } else { String::new() };
        let meaning = plain(rest.get(2).or(rest.first()).copied().unwrap_or_default());
        let default = rest.get(1).filter(|_| rest.len() > 2).map(|default| plain(default));
        let default = default.filter(|default| !default.is_empty() && default != "–");
        let text = match default {
            Some(default) if !meaning.is_empty() => format!("{meaning}. Default: {default}."),
            Some(default) => format!("Default: {default}."),
            None => meaning,
        };
        for key in keys.split(", ").filter_map(|key| key.trim_matches('`').split(':').next()) {
            rows.push(Row { key: key.to_owned(), kind: kind.clone(), text: text.clone() });
        }
    }
    rows
}

/// A cell of Markdown as plain text: links are their words.
fn plain(cell: &str) -> String {
    let mut text = String::new();
    let mut rest = cell;
    while let Some(at) = rest.find("](") {
        let (before, link) = rest.split_at(at);
        text += before;
        rest = link.find(')').map_or("", |end| &link[end + 1..]);
    }
    text += rest;
    text.replace(['`', '[', ']'], "").replace("\\|", "|")
}

/// The choices that the guide lists for a key whose value is a word.
fn choices(key: &str, rows: &[Row]) -> Vec<String> {
    let row = rows.iter().find(|row| row.key == key);
    row.map_or_else(Vec::new, |row| row.kind.split(", ").map(str::to_owned).collect())
}

fn with_description(mut schema: Value, key: &str, rows: &[Row]) -> Value {
    if let (Some(row), Some(fields)) = (rows.iter().find(|row| row.key == key), schema.as_object_mut())
        && !row.text.is_empty()
    {
        fields.insert("description".to_owned(), row.text.clone().into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled() -> (boon::Schemas, boon::SchemaIndex) {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("file:///experiment.json", schema()).unwrap();
        let index = compiler.compile("file:///experiment.json", &mut schemas).unwrap();
        (schemas, index)
    }

    fn value(text: &str) -> Value {
        serde_json::to_value(crate::yaml::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn every_shipped_experiment_fits_and_names_it() {
        let (schemas, index) = compiled();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("# yaml-language-server: $schema=experiment.schema.json\n"), "{}", path.display());
            if let Err(error) = schemas.validate(&value(&text), index) {
                panic!("{}: {error:#}", path.display());
            }
            seen += 1;
        }
        assert!(seen > 20);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let (schemas, index) = compiled();
        let good = "suite: glue_mini\nmodel: mini_roberta\ntasks: [cola]\nseeds: [0]\ntargets: [query]\nranks: [1]\nvariants: [lora]\n";
        assert!(schemas.validate(&value(good), index).is_ok());
        for (from, to) in [
            ("seeds: [0]", "seeds: 3"),
            ("seeds: [0]", "sedes: [0]"),
            ("variants: [lora]", "variants: [loar]"),
            ("variants: [lora]", "variants: [{preset: lora, rank: [3]}]"),
            ("ranks: [1]", "ranks: [0]"),
            ("suite: glue_mini\n", ""),
            ("ranks: [1]", "ranks: [1]\ntrain: {schedule: steps}"),
            ("ranks: [1]", "ranks: [1]\ntrain: {lr: 1e-3}"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(schemas.validate(&value(&bad), index).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_guide_describes_every_key() {
        let schema = schema();
        for place in ["/properties", "/$defs/entry/properties", "/$defs/train/properties", "/$defs/task/properties"] {
            for (key, schema) in schema.pointer(place).unwrap().as_object().unwrap() {
                // An entry's fields that are the experiment's have no words of their own.
                let is_shared = place == "/$defs/entry/properties" && ["targets", "ranks"].contains(&key.as_str());
                assert!(is_shared || schema["description"].is_string(), "{place}/{key} has no description");
            }
        }
    }

    #[test]
    fn the_file_in_the_repository_is_this_schema() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(FILE);
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == text(), "{FILE} is out of date; `cargo run --release -- schema > {FILE}` writes it");
    }
}
