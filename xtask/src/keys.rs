//! The guide's table of keys is the code's: every hyperparameter and every field of a variant has its row, with its default.

use std::path::Path;

use experiment::hyper::Hyper;
use serde_yaml::{Mapping, Value};

use crate::files::read;

/// The page that lists every key.
const PAGE: &str = "docs/src/experiments.md";

/// Keys that the page does not list, and defaults that it does not give.
pub(crate) fn problems(root: &Path) -> Vec<String> {
    let text = read(&root.join(PAGE));
    let lora = variants::presets::lora::spec(8);
    let mut problems = of_section(&text, "train", &value(&Hyper::default()));
    let mut fields = value(&lora);
    fields.retain(|key, _| key.as_str() != Some("rank"));
    problems.extend(of_section(&text, "with", &fields));
    problems
}

fn value(of: &impl serde::Serialize) -> Mapping {
    let value = serde_yaml::to_value(of).unwrap_or_else(|error| unreachable!("a recipe is YAML: {error}"));
    value.as_mapping().cloned().unwrap_or_default()
}

/// Keys of one section of the page, against the defaults that the code has.
fn of_section(text: &str, section: &str, defaults: &Mapping) -> Vec<String> {
    let body = text.split(&format!("\n## `{section}`\n")).nth(1).unwrap_or_default();
    let body = body.split("\n## ").next().unwrap_or_default();
    let rows: Vec<Vec<&str>> = body.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    let mut problems = Vec::new();
    for (key, default) in defaults {
        let key = key.as_str().unwrap_or_default();
        let Some(row) = rows.iter().find(|row| row.get(1) == Some(&format!("`{key}`").as_str())) else {
            problems.push(format!("{PAGE}: `{section}` has no row for `{key}`"));
            continue;
        };
        let (given, default) = (row.get(3).copied().unwrap_or_default(), shown(default));
        if default.is_some_and(|default| given != format!("`{default}`")) {
            problems.push(format!("{PAGE}: the default of `{section}.{key}` is not {given}"));
        }
    }
    problems
}

/// A default as the page writes it; a map's is said in words.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Mapping(map) => map.get("kind")?.as_str().map(str::to_owned),
        other => serde_yaml::to_string(other).ok().map(|text| text.trim().to_owned()),
    }
}
