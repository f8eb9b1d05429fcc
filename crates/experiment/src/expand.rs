//! A checked experiment as cells.

use std::collections::{BTreeMap, BTreeSet};

use record::CellId;
use serde_json::json;
use serde_yaml::{Mapping, Value};
use variants::{spec::VariantSpec, stream::Seeds};

use super::{
    document::{Document, Entry, MODULE_KEYS, Task, Varied},
    grid::Row,
    path::{Part, Path},
    set::Set,
    train_fields,
};
use crate::cell::{Cell, HeldOutText, Recipe};
use crate::located::Located;
use crate::start::{self, StartFrom};

/// Every cell: by task, variant, rank, seed. Each of the four differs within its list, so no id is there twice.
pub(super) fn cells(document: &Document, rows: &[Row], sets: &[Set], root: &std::path::Path) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (n, task) in document.tasks.iter().enumerate() {
        for row in rows {
            let entry = &document.variants[row.entry];
            let diff = diff(task, entry, sets, root);
            let largest = row.specs.iter().map(|spec| spec.rank).max().unwrap_or_default();
            for spec in &row.specs {
                let readouts = if spec.rank == largest { entry.readouts.clone() } else { Vec::new() };
                for &seed in &document.seeds {
                    let id = CellId { task: task.name.clone(), variant: entry.label.clone(), rank: spec.rank, seed };
                    let from = task.start_from.as_ref().filter(|_| !entry.starts_at_base);
                    let start_from = from.map(|from| start_of(document, &from.value, &id, root));
                    let recipe = Recipe {
                        suite: document.suite.clone(),
                        data: document.data.as_ref().map(|data| Located::at(root, &data.value)),
                        task: task.name.clone(),
                        given: task.given.clone(),
                        model: Located::at(root, &row.model),
                        variant: beside(spec, start_from.as_ref(), document),
                        start_from,
                        targets: row.targets.clone(),
                        modules: row.modules.clone(),
                        preset: row.preset.name.to_owned(),
                        train: row.hypers[n].clone(),
                        readouts: readouts.clone(),
                        seeds: seeds(&document.streams, &document.vary, seed),
                        holdout: None,
                        forgetting: document.forgetting.as_ref().map(|held_out| measured(&held_out.value, root)),
                    };
                    cells.push(Cell { id, recipe, diff: diff.clone() });
                }
            }
        }
    }
    cells
}

/// The cell of another task with the same variant, rank and seed, or an adapter on disk.
fn start_of(document: &Document, from: &str, id: &CellId, root: &std::path::Path) -> StartFrom {
    if document.tasks.iter().any(|task| task.name == from) {
        StartFrom::Cell(CellId { task: from.to_owned(), ..id.clone() })
    } else {
        StartFrom::Adapter(Located::at(root, from))
    }
}

/// What forgetting is measured on, as it was written.
fn measured(held_out: &HeldOutText, root: &std::path::Path) -> HeldOutText {
    HeldOutText { text: held_out.text.as_ref().map(|text| Located::at(root, text)), ..held_out.clone() }
}

/// The composition of a run that starts there: where it keeps the adapters of earlier tasks, it says how many those are.
fn beside(spec: &VariantSpec, from: Option<&StartFrom>, document: &Document) -> VariantSpec {
    let task_of = |name: &str| document.tasks.iter().find(|task| task.name == name);
    let before = |id: &CellId| {
        let chain = std::iter::successors(task_of(&id.task), |task| task_of(&task.start_from.as_ref()?.value));
        // The first of them may start from an adapter on disk, which may be beside others itself.
        let first = chain.clone().last().and_then(|task| task.start_from.as_ref());
        chain.count() + first.map_or(0, |from| kept(&from.value))
    };
    let adapters = match from {
        None => 0,
        Some(StartFrom::Cell(id)) => before(id),
        Some(StartFrom::Adapter(written)) => kept(written),
    };
    let base_update = spec.base_update.after(adapters).unwrap_or_else(|| spec.base_update.clone());
    VariantSpec { base_update, ..spec.clone() }
}

/// Adapters that a run keeps which starts from one on disk. What cannot be read is said where it is checked.
fn kept(written: &str) -> usize {
    start::adapters_of(written).unwrap_or_default() + 1
}

/// The run's seed for every stream that is not pinned, and for its training set where that varies.
pub(super) fn seeds(streams: &BTreeMap<String, u64>, vary: &BTreeSet<Varied>, seed: u64) -> Seeds {
    let pinned = |stream: &str| streams.get(stream).copied().unwrap_or(seed);
    Seeds {
        init: pinned("init"),
        data: pinned("data"),
        dropout: pinned("dropout"),
        rank: pinned("rank"),
        sample: vary.contains(&Varied::Sample).then_some(seed),
    }
}

/// What differs from the experiment's defaults: `model`, `targets`, `modules` (the fields beside targets), `train` (the task's and the variant's together), `with`,
/// and under `set` the overrides of the command line that concern this task and variant.
fn diff(task: &Task, entry: &Entry, sets: &[Set], root: &std::path::Path) -> serde_json::Value {
    let mut train = Mapping::new();
    for layer in [&task.train, &entry.train].into_iter().flatten() {
        train_fields::over(&mut train, &layer.map);
    }
    let mut diff = serde_json::Map::new();
    let mut put = |key: &str, value: serde_json::Value| {
        if !value.as_object().is_some_and(serde_json::Map::is_empty) {
            diff.insert(key.to_owned(), value);
        }
    };
    if let Some(model) = &entry.model {
        put("model", json!(Located::at(root, &model.value)));
    }
    if let Some(targets) = &entry.targets {
        put("targets", json!(targets.value));
    }
    let own = json!(entry.modules);
    let given = MODULE_KEYS.iter().filter(|key| entry.gave.contains(**key));
    put("modules", given.map(|key| ((*key).to_owned(), own[*key].clone())).collect::<serde_json::Map<_, _>>().into());
    put("train", json!(train));
    put("with", json!(entry.with));
    let set = sets.iter().filter(|set| concerns(&set.path, task, entry));
    put("set", set.map(|set| (set.path.to_string(), json(&set.value))).collect::<serde_json::Map<_, _>>().into());
    diff.into()
}

fn json(value: &Value) -> serde_json::Value {
    json!(value)
}

/// Whether an override at `path` may change cells of this task and entry.
fn concerns(path: &Path, task: &Task, entry: &Entry) -> bool {
    match path.parts() {
        [Part::Key(list), Part::Index(_), ..] if list == "tasks" => path.starts_with(&task.at),
        [Part::Key(list), Part::Index(_), ..] if list == "variants" => path.starts_with(&entry.at),
        _ => true,
    }
}
