//! Settings that differ between the rows of a study, each with its value in every row.

use std::collections::{BTreeMap, BTreeSet};

use record::RunRecord;
use serde_json::{Map, Value};

/// A setting that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, such as `learning rate`.
    pub name: String,
    /// Its values by label and rank; a row that has no use for it has none.
    pub values: BTreeMap<(String, usize), String>,
}

/// Fields of the training recipe that change no number of a table.
const APART: [&str; 5] = ["checkpoint_every", "evaluate_every", "log_every", "snapshot_every", "recompute"];
/// What stands for a field that a recipe leaves out.
const LEFT_OUT: &str = "-";
/// Most values of one row that are written out: its tasks may be tuned apart.
const MOST: usize = 3;

/// Settings whose values are not the same in every row that has them, by name. Tasks come in the order of `tasks`.
pub fn differing(records: &[RunRecord], tasks: &[String]) -> Vec<Setting> {
    let mut runs: Vec<&RunRecord> = records.iter().filter(|record| record.is_finished()).collect();
    runs.sort_by_key(|run| tasks.iter().position(|task| *task == run.cell.task));
    let found: Vec<BTreeMap<String, String>> = runs.iter().map(|run| facets(&run.spec)).collect();
    let names: BTreeSet<&String> = found.iter().flat_map(BTreeMap::keys).collect();
    let setting = |name: &&String| {
        let mut values: BTreeMap<(String, usize), Vec<String>> = BTreeMap::new();
        for (run, facets) in runs.iter().zip(&found) {
            let is_recipe = name.starts_with(TRAIN);
            let value = facets.get(*name).cloned().or_else(|| is_recipe.then(|| LEFT_OUT.to_owned()));
            let of_row = values.entry((run.cell.variant.clone(), run.cell.rank)).or_default();
            of_row.extend(value.filter(|value| !of_row.contains(value)));
        }
        values.retain(|_, values| !values.is_empty());
        let distinct: BTreeSet<&Vec<String>> = values.values().collect();
        (distinct.len() > 1).then(|| Setting {
            name: name.trim_start_matches(TRAIN).to_owned(),
            values: values.into_iter().map(|(row, values)| (row, joined(&values))).collect(),
        })
    };
    names.iter().filter_map(setting).collect()
}

/// Before the names of the training recipe's fields, so that they come after the method's.
const TRAIN: &str = "~";

/// The settings of a run, by name.
fn facets(spec: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut put = |name: &str, value: Option<String>| found.extend(value.map(|value| (name.to_owned(), value)));
    put("base", spec["model"].as_str().map(str::to_owned));
    let variant = &spec["variant"];
    if !variant["delta"].is_null() {
        put("targets", spec.get("targets").map(plain));
        // A constant scale has no alpha, whatever stands in its field.
        put("alpha", variant.get("alpha").filter(|_| variant["scaling"]["kind"] != "constant").map(plain));
        put("dropout", variant.get("dropout").map(plain));
        put("scaling", variant["scaling"].as_object().map(scaling));
        put("rates by role", variant["train"].as_object().map(roles));
    }
    let train = spec["train"].as_object().into_iter().flatten();
    for (name, value) in train.filter(|(name, _)| !APART.contains(&name.as_str())) {
        put(&format!("{TRAIN}{}", name.replace('_', " ")), Some(plain(value)));
    }
    found
}

fn joined(values: &[String]) -> String {
    if values.len() <= MOST { values.join("/") } else { format!("{} values", values.len()) }
}

/// A value without JSON's quotes, brackets and needless zeros.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |value| value.to_string()),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// `alpha_over_rank`, or `constant 1`.
fn scaling(fields: &Map<String, Value>) -> String {
    let kind = fields.get("kind").map(plain);
    let others = fields.iter().filter(|(name, _)| *name != "kind").map(|(_, value)| plain(value));
    kind.into_iter().chain(others).collect::<Vec<_>>().join(" ")
}

/// `a frozen`, `b rate ×16`: what departs from the run's own rate and decay.
fn roles(roles: &Map<String, Value>) -> String {
    let of_role = |(role, plan): (&String, &Value)| {
        if plan["state"] == "frozen" {
            return vec![format!("{role} frozen")];
        }
        let fields = plan.as_object().into_iter().flatten();
        let told = |(name, value): (&String, &Value)| match name.as_str() {
            "state" => None,
            "lr_multiplier" => (value.as_f64() != Some(1.0)).then(|| format!("{role} rate ×{}", plain(value))),
            "learning_rate" => Some(format!("{role} rate {}", plain(value))),
            other => Some(format!("{role} {} {}", other.replace('_', " "), plain(value))),
        };
        fields.filter_map(told).collect()
    };
    let told: Vec<String> = roles.iter().flat_map(of_role).collect();
    if told.is_empty() { "the run's".to_owned() } else { told.join(", ") }
}
