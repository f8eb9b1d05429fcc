//! The experiment's fields, each read and checked on its own.

use std::collections::{BTreeMap, BTreeSet};

use models::{modules::Modules, target::Target};
use record::Matching;
use serde_yaml::Value;

use crate::{
    CohortSize, bounds,
    cell::HeldOutText,
    contrast,
    error::Report,
    fields::{given, list, map, name, path_safe, quoted, text, unknown, whole},
    launcher::Slurm,
    path::Path,
    suites::{self, CUSTOM},
    train_fields::{self, Layer},
};

mod entries;
mod launcher;
mod matched;
mod measure;
mod reader;
mod tasks;
mod tune;
mod values;

pub(crate) use entries::{ENTRY_KEYS, Entry};
pub(crate) use tasks::Task;
pub(crate) use tune::{Written as WrittenTune, space};

use entries::{derived_labels, entries};
use reader::{Reader, gave, unindexed};
pub(crate) use values::Varied;
use values::{N_STREAMS, cohort, model, modules, ranks, streams, targets, vary};

/// A value and where it was given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct At<T> {
    pub(crate) at: Path,
    pub(crate) value: T,
}

/// A list of ranks with their indices.
pub(crate) type Ranks = At<Vec<(usize, usize)>>;

/// The file, field by field.
#[derive(Debug)]
pub(crate) struct Document {
    /// Keys with a value, refused ones included.
    pub(crate) gave: BTreeSet<String>,
    pub(crate) name: String,
    pub(crate) suite: String,
    pub(crate) data: Option<At<String>>,
    pub(crate) model: Option<At<String>>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) seeds: Vec<u64>,
    pub(crate) streams: BTreeMap<String, u64>,
    pub(crate) vary: BTreeSet<Varied>,
    pub(crate) targets: Option<At<Target>>,
    /// The fields beside targets.
    pub(crate) modules: Modules,
    pub(crate) ranks: Option<Ranks>,
    pub(crate) cohort: CohortSize,
    pub(crate) train: Option<Layer>,
    pub(crate) variants: Vec<Entry>,
    pub(crate) baseline: Option<String>,
    pub(crate) contrasts: Vec<contrast::Written>,
    pub(crate) tune: Option<WrittenTune>,
    pub(crate) matching: Option<At<Matching>>,
    pub(crate) forgetting: Option<At<HeldOutText>>,
    pub(crate) equivalence: Option<f64>,
    pub(crate) primary: Vec<(usize, String)>,
    pub(crate) launcher: Option<Slurm>,
}

/// Beside [`MODULE_KEYS`].
pub(crate) const KEYS: &[&str] = &[
    "name",
    "suite",
    "data",
    "model",
    "tasks",
    "seeds",
    "streams",
    "vary",
    "targets",
    "ranks",
    "cohort",
    "train",
    "variants",
    "baseline",
    "contrasts",
    "match",
    "tune",
    "measure",
    "equivalence",
    "primary",
    "launcher",
    "root",
];
pub(crate) const REQUIRED: &[&str] = &["suite", "tasks", "seeds", "variants"];
/// The fields of [`Modules`], beside targets in the experiment and in an entry.
pub(crate) const MODULE_KEYS: [&str; 7] = [
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "trainable_token_indices",
];
/// Those that do not narrow targets, but say what trains besides.
pub(crate) const BESIDE_TARGETS: [&str; 2] = ["modules_to_save", "trainable_token_indices"];

/// Reads every field; `None` where the file is no map.
pub(crate) fn read(root: &Value, default_name: &str, report: &mut Report) -> Option<Document> {
    let file = Path::default();
    if root.is_null() {
        report.add(&file, format!("the file is empty; an experiment needs {}", quoted(REQUIRED)));
        return None;
    }
    let fields = map(root, &file, &[KEYS, &MODULE_KEYS].concat(), report)?;
    for key in REQUIRED.iter().filter(|key| given(fields, key).is_none()) {
        report.add(&file.key(*key), format!("`{key}` is missing"));
    }
    let suite = given(fields, "suite").and_then(|v| suite(v, &file.key("suite"), report));
    let mut reader = Reader { fields, at: file, report };
    let named = reader.read("name", text).map_or_else(|| default_name.to_owned(), |name| name.value);
    path_safe(&named, &reader.at.key("name"), ".", reader.report);
    reader.read("root", folder);
    let (variants, labels) =
        reader.read("variants", |v, at, report| Some(entries(v, at, report))).map(|v| v.value).unwrap_or_default();
    let baseline = reader.read("baseline", |v, at, report| baseline(v, at, &labels, report));
    let derived = variants.iter().flat_map(derived_labels);
    let rows: Vec<String> = labels.iter().cloned().chain(derived).collect();
    let contrasts = reader.read("contrasts", |v, at, report| Some(contrast::read(v, at, &rows, report)));
    let tune = reader.read("tune", tune::tune).map(|tune| tune.value);
    let seeds =
        reader.read("seeds", |v, at, r| Some(unindexed(list(v, at, r, |v, at, r| whole(v, at, bounds::ANY, r)))));
    let streams = reader.read("streams", streams);
    let vary = reader.read("vary", |v, at, report| Some(vary(v, at, suite.as_deref(), report)));
    let document = Document {
        gave: gave(fields),
        name: named,
        model: reader.read("model", model),
        tasks: reader
            .read("tasks", |v, at, report| Some(tasks::tasks(v, at, suite.as_deref(), report)))
            .map(|t| t.value)
            .unwrap_or_default(),
        data: reader.read("data", text),
        suite: suite.unwrap_or_default(),
        seeds: seeds.map(|s| s.value).unwrap_or_default(),
        streams: streams.map(|s| s.value).unwrap_or_default(),
        vary: vary.map(|v| v.value).unwrap_or_default(),
        targets: reader.read("targets", targets),
        modules: modules(&mut reader),
        ranks: reader.read("ranks", ranks),
        cohort: reader.read("cohort", cohort).map_or(CohortSize::Auto, |c| c.value),
        train: reader.read("train", train_fields::layer).map(|t| t.value),
        variants,
        baseline: baseline.map(|b| b.value),
        contrasts: contrasts.map(|c| c.value).unwrap_or_default(),
        tune,
        matching: reader.read("match", |v, at, report| matched::matched(v, at, &labels, report)),
        forgetting: reader.read("measure", measure::measure).map(|measure| measure.value),
        equivalence: reader.read("equivalence", contrast::equivalence).map(|e| e.value),
        primary: reader
            .read("primary", |v, at, report| Some(contrast::primary(v, at, report)))
            .map(|p| p.value)
            .unwrap_or_default(),
        launcher: reader.read("launcher", launcher::launcher).map(|launcher| launcher.value),
    };
    check_data(&document.suite, document.gave.contains("data"), &Path::default().key("data"), report);
    if document.seeds.len() > 1 && document.streams.len() == N_STREAMS && document.vary.is_empty() {
        report.add(
            &Path::default().key("streams"),
            "every stream is pinned, so the seeds make no difference; leave one out or use one seed",
        );
    }
    Some(document)
}

/// The suite, by the name that records have for it.
fn suite(value: &Value, at: &Path, report: &mut Report) -> Option<String> {
    let written = if value.as_str() == Some(CUSTOM) {
        Some(CUSTOM.to_owned())
    } else {
        name(value, at, suites::NAMES, "suites", report)
    };
    written.map(|written| suites::recorded(&written).to_owned())
}

/// A suite of files needs `data`, and one that comes with the build has none.
fn check_data(suite: &str, has_data: bool, at: &Path, report: &mut Report) {
    let embedded = data::suite::suites().contains(&suite);
    let named = suites::shown(suite);
    if embedded && has_data {
        report.add(at, format!("suite `{named}` comes with the build and has no files; leave `data` out"));
    } else if !embedded && !suite.is_empty() && !has_data {
        let what =
            if suite == CUSTOM { "the folder of your files" } else { "the folder of its files, or `hf://org/name`" };
        report.add(at, format!("suite `{named}` is read from files; give `data`, {what}"));
    }
}

/// The folder that relative paths are relative to; they are located before the fields are read.
fn folder(value: &Value, at: &Path, report: &mut Report) -> Option<()> {
    let written = text(value, at, report)?;
    if written.is_empty() {
        report.add(at, "root is empty, but must be a folder, such as `..` for the one above the file's; leave it out for the file's own");
    }
    Some(())
}

fn baseline(value: &Value, at: &Path, labels: &[String], report: &mut Report) -> Option<String> {
    let wanted = text(value, at, report)?;
    if !labels.contains(&wanted) {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        report.add(at, unknown("label", &wanted, &labels));
    }
    Some(wanted)
}
