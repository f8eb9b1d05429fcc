//! What a comparison held equal, said from the resolved cells and not from memory.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::cell::Cell;

/// The parts of a plan that a reader of a table wants to see matched.
fn facets(cell: &Cell) -> BTreeMap<String, Value> {
    let (plan, modules) = (&cell.recipe, &cell.recipe.modules);
    // A facet is its field alone where nothing beside it changes what it says.
    let beside = |field: Value, more: &[(&str, Value)]| -> Value {
        let given: Vec<Value> =
            more.iter().filter(|(_, value)| *value != json!([]) && !value.is_null()).map(|pair| json!(pair)).collect();
        if given.is_empty() { field } else { json!([field, given]) }
    };
    let mut facets = BTreeMap::from([
        ("base model".to_owned(), Value::from(plan.model.written())),
        (
            "targets".to_owned(),
            beside(
                json!(plan.targets),
                &[
                    ("exclude_modules", json!(modules.exclude_modules)),
                    ("layers_to_transform", json!(modules.layers_to_transform)),
                    ("layers_pattern", json!(modules.layers_pattern)),
                ],
            ),
        ),
        ("rank".to_owned(), beside(json!(plan.variant.rank), &[("rank_pattern", json!(modules.rank_pattern))])),
        ("alpha".to_owned(), beside(json!(plan.variant.alpha), &[("alpha_pattern", json!(modules.alpha_pattern))])),
        ("scaling".to_owned(), serde_json::to_value(plan.variant.scaling).unwrap_or_default()),
        ("adapter dropout".to_owned(), Value::from(plan.variant.dropout)),
        ("rates and decay by role".to_owned(), serde_json::to_value(&plan.variant.train).unwrap_or_default()),
    ]);
    if plan.variant.delta.is_none() {
        // What adapts nothing has none of these; its rank, alpha and scale match everything and nothing.
        for facet in ["targets", "rank", "alpha", "scaling", "adapter dropout", "rates and decay by role"] {
            facets.remove(facet);
        }
    }
    facets
}

/// The training recipe of a cell, without what changes no number of the tables. A field at a default that records leave out is absent.
fn training(cell: &Cell) -> BTreeMap<String, Value> {
    let Ok(Value::Object(train)) = serde_json::to_value(&cell.recipe.train) else { return BTreeMap::new() };
    let apart = ["checkpoint_every", "evaluate_every", "log_every", "snapshot_every", "recompute"];
    let named = train.into_iter().filter(|(name, _)| !apart.contains(&name.as_str()));
    named.map(|(name, value)| (name.replace('_', " "), value)).collect()
}

/// One sentence: what every variant shares on every task, and what differs between variants.
pub fn sentence(cells: &[Cell]) -> String {
    let mut seen: BTreeMap<(String, String), BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let saves = cells.iter().any(|cell| !cell.recipe.modules.modules_to_save.is_empty());
    let tokens = cells.iter().any(|cell| !cell.recipe.modules.trainable_token_indices.is_empty());
    let training: Vec<_> = cells.iter().map(training).collect();
    let fields: BTreeSet<&String> = training.iter().flat_map(BTreeMap::keys).collect();
    for (cell, training) in cells.iter().zip(&training) {
        let mut facets = facets(cell);
        // A cell that leaves a field out has its default, which differs from what another cell writes.
        let of = |field: &&String| ((*field).clone(), training.get(*field).cloned().unwrap_or_default());
        facets.extend(fields.iter().map(of));
        if saves {
            facets.insert("modules to save".to_owned(), json!(cell.recipe.modules.modules_to_save));
        }
        if tokens {
            facets.insert("trainable tokens".to_owned(), json!(cell.recipe.modules.trainable_token_indices));
        }
        for (facet, value) in facets {
            seen.entry((facet, cell.id.task.clone()))
                .or_default()
                .entry(cell.id.variant.clone())
                .or_default()
                .insert(value.to_string());
        }
    }
    let (mut matched, mut differs) = (BTreeSet::new(), BTreeSet::new());
    for ((facet, _), by_variant) in &seen {
        let values: BTreeSet<_> = by_variant.values().collect();
        if values.len() == 1 {
            matched.insert(facet.clone())
        } else {
            differs.insert(facet.clone())
        };
    }
    let streams = |label: &str| -> BTreeSet<(u64, u64)> {
        cells
            .iter()
            .filter(|cell| cell.id.variant == label)
            .map(|cell| (cell.id.seed, cell.recipe.seeds.data))
            .collect()
    };
    let labels: BTreeSet<&str> = cells.iter().map(|cell| cell.id.variant.as_str()).collect();
    if labels.iter().map(|label| streams(label)).collect::<BTreeSet<_>>().len() == 1 {
        matched.insert("data order by seed".to_owned());
    }
    let matched: Vec<String> = matched.difference(&differs).cloned().collect();
    let mut text = format!("matched over all variants: {}", matched.join(", "));
    if !differs.is_empty() {
        text += &format!("; not matched: {}", differs.into_iter().collect::<Vec<_>>().join(", "));
    }
    text
}
