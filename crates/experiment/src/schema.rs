//! The JSON Schema of an experiment, by which editors complete and check its file.
//!
//! Keys come from what reads them, values from the registries and the defaults, and descriptions from the guide's tables. The schema says
//! what a file may look like; what only the whole tells, such as a rank that is wider than its map, `check` says.

use serde_json::{Map, Value, json};
use variants::preset;

use crate::{
    document::{ENTRY_KEYS, KEYS, MODULE_KEYS, REQUIRED},
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

/// The hyperparameters, with the types of the guide's table.
fn train() -> Value {
    let rows = section("## `train`");
    let typed = |row: &Row| match row.kind.as_str() {
        kind if kind.ends_with("or epoch") => {
            json!({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "epoch"}, {"type": "null"}]})
        }
        kind if kind.starts_with("whole number") => json!({"type": ["integer", "null"], "minimum": 1}),
        kind if kind.starts_with("number") => json!({"type": ["number", "null"], "minimum": 0}),
        "true, false" => json!({"type": "boolean"}),
        kind => json!({"enum": kind.split(", ").collect::<Vec<_>>()}),
    };
    let properties: Map<String, Value> =
        rows.iter().map(|row| (row.key.clone(), with_description(typed(row), &row.key, &rows))).collect();
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

    /// Whether a value fits a schema, by the keywords that this one has; another keyword is an error of the test. A library's validator
    /// brings in a second build of what is under Burn.
    fn fits(value: &Value, schema: &Value, root: &Value) -> bool {
        let all = |list: &Value, fits: &dyn Fn(&Value) -> bool| {
            list.as_array().unwrap().iter().filter(|one| fits(one)).count()
        };
        let number = value.as_f64();
        schema.as_object().unwrap().iter().all(|(keyword, rule)| match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => fits(value, root.pointer(rule.as_str().unwrap().trim_start_matches('#')).unwrap(), root),
            "anyOf" => all(rule, &|one| fits(value, one, root)) > 0,
            "oneOf" => all(rule, &|one| fits(value, one, root)) == 1,
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "type" => {
                let is = |kind: &Value| match kind.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "number" => value.is_number(),
                    "integer" => value.is_i64() || value.is_u64(),
                    other => panic!("type {other}"),
                };
                if rule.is_array() { all(rule, &is) > 0 } else { is(rule) }
            }
            "minimum" => number.is_none_or(|number| number >= rule.as_f64().unwrap()),
            "exclusiveMinimum" => number.is_none_or(|number| number > rule.as_f64().unwrap()),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "items" => value.as_array().is_none_or(|items| items.iter().all(|item| fits(item, rule, root))),
            "required" => value.as_object().is_none_or(|fields| {
                all(rule, &|key| fields.contains_key(key.as_str().unwrap())) == rule.as_array().unwrap().len()
            }),
            "properties" => value.as_object().is_none_or(|fields| {
                fields.iter().all(|(key, value)| rule.get(key).is_none_or(|schema| fits(value, schema, root)))
            }),
            "additionalProperties" => {
                assert_eq!(*rule, false);
                value.as_object().is_none_or(|fields| fields.keys().all(|key| schema["properties"].get(key).is_some()))
            }
            other => panic!("the test does not know the keyword {other}"),
        })
    }

    fn value(text: &str) -> Value {
        serde_json::to_value(crate::yaml::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn every_shipped_experiment_fits_and_names_it() {
        let schema = schema();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("# yaml-language-server: $schema=experiment.schema.json\n"), "{}", path.display());
            assert!(fits(&value(&text), &schema, &schema), "{}", path.display());
            seen += 1;
        }
        assert!(seen > 20);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let schema = schema();
        let good = "suite: glue_mini\nmodel: mini_roberta\ntasks: [cola]\nseeds: [0]\ntargets: [query]\nranks: [1]\nvariants: [lora]\n";
        assert!(fits(&value(good), &schema, &schema));
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
            assert!(!fits(&value(&bad), &schema, &schema), "{bad}");
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
    fn the_guides_hyperparameters_are_those_there_are() {
        use crate::hyper::Hyper;
        let rows = section("## `train`");
        let known = |key: &str| {
            // A value of no type: a known key refuses the value, another the key.
            let error = serde_json::from_value::<Hyper>(json!({key: {"no": "value"}})).unwrap_err().to_string();
            !error.contains("unknown field")
        };
        assert!(rows.iter().all(|row| known(&row.key)) && !known("lr"));
        let written = serde_json::to_value(Hyper::default()).unwrap();
        for key in written.as_object().unwrap().keys() {
            assert!(rows.iter().any(|row| row.key == *key), "{key} is not in the guide");
        }
    }

    #[test]
    fn the_file_in_the_repository_is_this_schema() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(FILE);
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == text(), "{FILE} is out of date; `cargo run --release -- schema > {FILE}` writes it");
    }
}
