//! The experiment's fields, each read and checked on its own.

use std::collections::{BTreeMap, BTreeSet};

use data::{causal::task::TextTask, own::OwnTask};
use models::{modules::Modules, target::Target};
use serde_yaml::{Mapping, Value};
use variants::{
    preset::{self, Preset},
    stream::Seeds,
};

use super::{
    CohortSize, contrast,
    error::Report,
    fields::{given, list, map, name, path_safe, quoted, shown, text, unknown, whole},
    path::Path,
    train_fields::{self, Layer},
};
use crate::cell::{Derived, Given};
use crate::tasks::{self, OWN, SUITES, TEXT};
use assets::source;

/// A value and where it was given.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct At<T> {
    pub(super) at: Path,
    pub(super) value: T,
}

/// A list of ranks with their indices.
pub(super) type Ranks = At<Vec<(usize, usize)>>;

/// The file, field by field.
#[derive(Debug)]
pub(super) struct Document {
    /// Keys with a value, refused ones included.
    pub(super) gave: BTreeSet<String>,
    pub(super) name: String,
    pub(super) suite: String,
    pub(super) data: Option<At<String>>,
    pub(super) model: Option<At<String>>,
    pub(super) tasks: Vec<Task>,
    pub(super) seeds: Vec<u64>,
    pub(super) streams: BTreeMap<String, u64>,
    pub(super) targets: Option<At<Target>>,
    /// The fields beside targets.
    pub(super) modules: Modules,
    pub(super) ranks: Option<Ranks>,
    pub(super) cohort: CohortSize,
    pub(super) train: Option<Layer>,
    pub(super) variants: Vec<Entry>,
    pub(super) baseline: Option<String>,
    pub(super) contrasts: Vec<contrast::Written>,
}

/// One task.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) at: Path,
    pub(super) name: String,
    /// The task itself, where the file describes it.
    pub(super) given: Option<Given>,
    /// Another task of the file, or an adapter, that its runs start from.
    pub(super) start_from: Option<At<String>>,
    pub(super) train: Option<Layer>,
}

/// One entry of `variants`.
#[derive(Debug)]
pub(super) struct Entry {
    /// Keys with a value, refused ones included.
    pub(super) gave: BTreeSet<String>,
    pub(super) at: Path,
    pub(super) preset: &'static Preset,
    pub(super) label: String,
    pub(super) model: Option<At<String>>,
    pub(super) targets: Option<At<Target>>,
    /// The fields beside targets.
    pub(super) modules: Modules,
    pub(super) ranks: Option<Ranks>,
    pub(super) train: Option<Layer>,
    pub(super) with: Mapping,
    pub(super) readouts: Vec<Derived>,
}

const KEYS: &[&str] = &[
    "name",
    "suite",
    "data",
    "model",
    "tasks",
    "seeds",
    "streams",
    "targets",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "ranks",
    "cohort",
    "train",
    "variants",
    "baseline",
    "contrasts",
];
const REQUIRED: &[&str] = &["suite", "tasks", "seeds", "variants"];
const ENTRY_KEYS: &[&str] = &[
    "preset",
    "label",
    "model",
    "targets",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "ranks",
    "train",
    "with",
    "readouts",
];
/// The fields of [`Modules`], beside targets in the experiment and in an entry.
pub(super) const MODULE_KEYS: [&str; 6] =
    ["exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "modules_to_save"];

/// Reads every field; `None` where the file is no map.
pub(super) fn read(root: &Value, default_name: &str, report: &mut Report) -> Option<Document> {
    let file = Path::default();
    if root.is_null() {
        report.add(&file, format!("the file is empty; an experiment needs {}", quoted(REQUIRED)));
        return None;
    }
    let fields = map(root, &file, KEYS, report)?;
    for key in REQUIRED.iter().filter(|key| given(fields, key).is_none()) {
        report.add(&file.key(*key), format!("`{key}` is missing"));
    }
    let suite = given(fields, "suite").and_then(|v| name(v, &file.key("suite"), SUITES, "suites", report));
    let mut reader = Reader { fields, at: file, report };
    let named = reader.read("name", text).map_or_else(|| default_name.to_owned(), |name| name.value);
    path_safe(&named, &reader.at.key("name"), ".", reader.report);
    let (variants, labels) =
        reader.read("variants", |v, at, report| Some(entries(v, at, report))).map(|v| v.value).unwrap_or_default();
    let baseline = reader.read("baseline", |v, at, report| baseline(v, at, &labels, report));
    let derived = variants.iter().flat_map(derived_labels);
    let rows: Vec<String> = labels.iter().cloned().chain(derived).collect();
    let contrasts = reader.read("contrasts", |v, at, report| Some(contrast::read(v, at, &rows, report)));
    let seeds = reader.read("seeds", |v, at, r| Some(unindexed(list(v, at, r, |v, at, r| whole(v, at, 0, r)))));
    let streams = reader.read("streams", streams);
    let document = Document {
        gave: gave(fields),
        name: named,
        model: reader.read("model", model),
        tasks: reader
            .read("tasks", |v, at, report| Some(tasks(v, at, suite.as_deref(), report)))
            .map(|t| t.value)
            .unwrap_or_default(),
        data: reader.read("data", text),
        suite: suite.unwrap_or_default(),
        seeds: seeds.map(|s| s.value).unwrap_or_default(),
        streams: streams.map(|s| s.value).unwrap_or_default(),
        targets: reader.read("targets", targets),
        modules: modules(&mut reader),
        ranks: reader.read("ranks", ranks),
        cohort: reader.read("cohort", cohort).map_or(CohortSize::Auto, |c| c.value),
        train: reader.read("train", train_fields::layer).map(|t| t.value),
        variants,
        baseline: baseline.map(|b| b.value),
        contrasts: contrasts.map(|c| c.value).unwrap_or_default(),
    };
    check_data(&document.suite, document.gave.contains("data"), &Path::default().key("data"), report);
    if document.seeds.len() > 1 && document.streams.len() == N_STREAMS {
        report.add(
            &Path::default().key("streams"),
            "every stream is pinned, so the seeds make no difference; leave one out or use one seed",
        );
    }
    Some(document)
}

/// Reads fields of one map.
struct Reader<'a> {
    fields: &'a Mapping,
    at: Path,
    report: &'a mut Report,
}

impl Reader<'_> {
    /// The field `key` by `parse`, with its path.
    fn read<T>(&mut self, key: &str, parse: impl FnOnce(&Value, &Path, &mut Report) -> Option<T>) -> Option<At<T>> {
        let at = self.at.key(key);
        let value = parse(given(self.fields, key)?, &at, self.report)?;
        Some(At { at, value })
    }
}

fn gave(fields: &Mapping) -> BTreeSet<String> {
    fields.iter().filter(|(_, value)| !value.is_null()).filter_map(|(key, _)| Some(key.as_str()?.to_owned())).collect()
}

fn unindexed<T>(items: Vec<(usize, T)>) -> Vec<T> {
    items.into_iter().map(|(_, item)| item).collect()
}

fn model(value: &Value, at: &Path, report: &mut Report) -> Option<String> {
    let names: Vec<_> = models::catalog::MODELS.iter().map(|model| model.name).collect();
    // A name is one of the embedded; a folder and an address of the hub are not looked up in a list.
    let written =
        value.as_str().filter(|written| written.contains(['/', '.']) || std::path::Path::new(written).is_dir());
    let Some(written) = written else { return name(value, at, &names, "models", report) };
    match source::model(written) {
        Ok(_) => Some(written.to_owned()),
        Err(error) => {
            report.add(at, format!("model `{written}` cannot be used: {error}"));
            None
        }
    }
}

/// A suite of files needs `data`, and one that comes with the build has none.
fn check_data(suite: &str, has_data: bool, at: &Path, report: &mut Report) {
    let embedded = data::suite::suites().contains(&suite);
    if embedded && has_data {
        report.add(at, format!("suite `{suite}` comes with the build and has no files; leave `data` out"));
    } else if !embedded && !suite.is_empty() && !has_data {
        let what =
            if suite == OWN { "the folder of your files" } else { "the folder of its files, or `hf://org/name`" };
        report.add(at, format!("suite `{suite}` is read from files; give `data`, {what}"));
    }
}

fn cohort(value: &Value, at: &Path, report: &mut Report) -> Option<CohortSize> {
    match value.as_u64() {
        Some(runs) if runs >= 1 => Some(CohortSize::Runs(runs as usize)),
        _ if value.as_str() == Some("auto") => Some(CohortSize::Auto),
        _ => {
            report.add(at, format!("cohort is {}, but must be `auto` or a number of runs, at least 1", shown(value)));
            None
        }
    }
}

const N_STREAMS: usize = 4;

/// Seeds of pinned streams; the names are those of [`Seeds`].
fn streams(value: &Value, at: &Path, report: &mut Report) -> Option<BTreeMap<String, u64>> {
    let all = serde_yaml::to_value(Seeds::all(0)).unwrap_or_default();
    let names: Vec<&str> = all.as_mapping().into_iter().flat_map(Mapping::keys).filter_map(Value::as_str).collect();
    let pins = map(value, at, &names, report)?;
    let pins = names.iter().filter_map(|name| {
        let seed = whole(given(pins, name)?, &at.key(*name), 0, report)?;
        Some(((*name).to_owned(), seed))
    });
    Some(pins.collect())
}

/// The fields beside targets; one that is empty takes back what the experiment says.
fn modules(reader: &mut Reader<'_>) -> Modules {
    let words = |value: &Value, at: &Path, report: &mut Report| Some(listed(value, at, report, text));
    let index = |value: &Value, at: &Path, report: &mut Report| whole(value, at, 0, report).map(|index| index as usize);
    let rank = |value: &Value, at: &Path, report: &mut Report| whole(value, at, 1, report).map(|rank| rank as usize);
    let exclude = |value: &Value, at: &Path, report: &mut Report| match value {
        Value::Sequence(items) if items.is_empty() => None,
        other => targets(other, at, report),
    };
    Modules {
        exclude_modules: reader.read("exclude_modules", exclude).map(|found| found.value),
        layers_to_transform: taken(reader.read("layers_to_transform", |v, at, r| Some(listed(v, at, r, index)))),
        layers_pattern: taken(reader.read("layers_pattern", words)),
        rank_pattern: taken(reader.read("rank_pattern", |v, at, report| pattern(v, at, report, rank))),
        alpha_pattern: taken(reader.read("alpha_pattern", |v, at, report| pattern(v, at, report, number))),
        modules_to_save: taken(reader.read("modules_to_save", words)),
    }
}

fn taken<T: Default>(found: Option<At<T>>) -> T {
    found.map(|found| found.value).unwrap_or_default()
}

/// One item or a list of them, which may be empty.
fn listed<T: PartialEq>(
    value: &Value,
    at: &Path,
    report: &mut Report,
    mut item: impl FnMut(&Value, &Path, &mut Report) -> Option<T>,
) -> Vec<T> {
    match value {
        Value::Sequence(items) if items.is_empty() => Vec::new(),
        Value::Sequence(_) => unindexed(list(value, at, report, item)),
        one => item(one, at, report).into_iter().collect(),
    }
}

/// Values by expression, in the file's order.
fn pattern<T>(
    value: &Value,
    at: &Path,
    report: &mut Report,
    mut read: impl FnMut(&Value, &Path, &mut Report) -> Option<T>,
) -> Option<Vec<(String, T)>> {
    let Value::Mapping(pairs) = value else {
        let example = format!("`{}: {{query: 4}}`", at.last());
        report.add(at, format!("{} is {}, but must be a map such as {example}", at.last(), shown(value)));
        return None;
    };
    let mut found = Vec::new();
    for (key, value) in pairs {
        let Some(name) = key.as_str() else {
            report.add(at, format!("the key {} is no name or expression; write it in quotes", shown(key)));
            continue;
        };
        found.extend(read(value, &at.key(name), report).map(|value| (name.to_owned(), value)));
    }
    Some(found)
}

/// A number.
fn number(value: &Value, at: &Path, report: &mut Report) -> Option<f64> {
    let number = value.as_f64();
    if number.is_none() {
        report.add(at, format!("{} is {}, but must be a number", at.last(), shown(value)));
    }
    number
}

fn targets(value: &Value, at: &Path, report: &mut Report) -> Option<Target> {
    match value {
        Value::String(pattern) => Some(Target::Pattern(pattern.clone())),
        Value::Sequence(_) => {
            Some(Target::Endings(unindexed(list(value, at, report, text)))).filter(|t| *t != Target::Endings(vec![]))
        }
        other => {
            report.add(
                at,
                format!(
                    "{} is {}, but must be a list such as `[query, value]`, `all-linear` or an expression",
                    at.last(),
                    shown(other)
                ),
            );
            None
        }
    }
}

fn ranks(value: &Value, at: &Path, report: &mut Report) -> Option<Vec<(usize, usize)>> {
    let ranks = list(value, at, report, |v, at, report| whole(v, at, 1, report).map(|rank| rank as usize));
    (!ranks.is_empty()).then_some(ranks)
}

fn tasks(value: &Value, at: &Path, suite: Option<&str>, report: &mut Report) -> Vec<Task> {
    let known = suite.map(tasks::tasks).unwrap_or_default();
    let known: Vec<&str> = known.iter().map(|task| task.name.as_str()).collect();
    let (mut trains, mut described, mut starts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let names = list(value, at, report, |value, at, report| {
        let (task, path) = if value.is_mapping() {
            let fields = map(value, at, &["task", "train", "start_from"], report)?;
            let Some(task) = given(fields, "task") else {
                report.add(at, "`task` is missing");
                return None;
            };
            if let Some(train) =
                given(fields, "train").and_then(|train| train_fields::layer(train, &at.key("train"), report))
            {
                trains.insert(at.to_string(), train);
            }
            let start = at.key("start_from");
            if let Some(from) = given(fields, "start_from").and_then(|from| text(from, &start, report)) {
                starts.insert(at.to_string(), At { at: start, value: from });
            }
            (task, at.key("task"))
        } else {
            (value, at.clone())
        };
        if let Some(suite @ (OWN | TEXT)) = suite {
            let own = described_task(suite, task, &path, report)?;
            let label = own.name().to_owned();
            path_safe(&label, &path.key("name"), "", report);
            described.insert(at.to_string(), own);
            return Some(label);
        }
        // Without a suite there is nothing to check a name against.
        if suite.is_none() { text(task, &path, report) } else { name(task, &path, &known, "tasks", report) }
    });
    let task = |(index, name)| {
        let at = at.index(index);
        let key = at.to_string();
        let (train, given, start_from) = (trains.remove(&key), described.remove(&key), starts.remove(&key));
        Task { at, name, given, start_from, train }
    };
    let tasks: Vec<Task> = names.into_iter().map(task).collect();
    check_starts(&tasks, report);
    tasks
}

/// Chains of warm starts must lead to a task that starts afresh, or to an adapter that is there.
fn check_starts(tasks: &[Task], report: &mut Report) {
    let find = |name: &str| tasks.iter().find(|task| task.name == name);
    for task in tasks {
        let Some(from) = &task.start_from else { continue };
        if find(&from.value).is_none() {
            if !std::path::Path::new(&from.value).exists() {
                let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
                report.add(
                    &from.at,
                    format!(
                        "start_from is `{}`, which is no task of this experiment ({}) and no folder or file",
                        from.value,
                        quoted(&names)
                    ),
                );
            }
            continue;
        }
        let chain = std::iter::successors(Some(task), |task| find(&task.start_from.as_ref()?.value));
        if chain.take(tasks.len() + 1).count() > tasks.len() {
            report.add(
                &from.at,
                format!(
                    "`{}` starts from `{}`, which leads back to itself; let one of them start afresh",
                    task.name, from.value
                ),
            );
        }
    }
}

/// A task that the file describes: a map under `task`.
fn described_task(suite: &str, value: &Value, at: &Path, report: &mut Report) -> Option<Given> {
    if !value.is_mapping() {
        let form = if suite == OWN { "text: column, label: column" } else { "form: pairs" };
        report.add(
            at,
            format!(
                "task is {}, but a task of suite `{suite}` is described: `task: {{name: .., train: file, dev: file, {form}}}`",
                shown(value)
            ),
        );
        return None;
    }
    let read = if suite == OWN {
        serde_yaml::from_value::<OwnTask>(value.clone()).map(|task| (task.check(), Given::Own(task)))
    } else {
        serde_yaml::from_value::<TextTask>(value.clone()).map(|task| (task.check(), Given::Text(task)))
    };
    match read {
        Ok((problems, task)) => {
            let valid = problems.is_empty();
            for problem in problems {
                report.add(at, problem);
            }
            valid.then_some(task)
        }
        Err(error) => {
            report.add(at, error.to_string());
            None
        }
    }
}

/// Every readable entry, and the labels of all.
fn entries(value: &Value, at: &Path, report: &mut Report) -> (Vec<Entry>, Vec<String>) {
    let mut labels: Vec<String> = Vec::new();
    let mut entries = Vec::new();
    // Entries may be equal as YAML; what must differ is the label.
    list(value, at, report, |value, at, report| {
        let bare = Mapping::from_iter([(Value::from("preset"), value.clone())]);
        let fields = if value.is_string() { &bare } else { map(value, at, ENTRY_KEYS, report)? };
        let named = |key| given(fields, key).and_then(Value::as_str);
        let label = named("label").or(named("preset")).unwrap_or_default().to_owned();
        if !label.is_empty() && labels.iter().any(|other| other.eq_ignore_ascii_case(&label)) {
            report.add(at, format!("label `{label}` is there twice, case aside; give each entry a `label` of its own"));
        }
        labels.push(label.clone());
        let preset_at = if value.is_string() { at.clone() } else { at.key("preset") };
        entries.extend(entry(fields, at, &preset_at, label, report));
        Some(at.clone())
    });
    check_derived_labels(&entries, report);
    (entries, labels)
}

fn entry(fields: &Mapping, at: &Path, preset_at: &Path, label: String, report: &mut Report) -> Option<Entry> {
    let presets = preset::all();
    let names: Vec<&str> = presets.iter().map(|preset| preset.name).collect();
    if given(fields, "preset").is_none() {
        report.add(at, "`preset` is missing");
    }
    let mut reader = Reader { fields, at: at.clone(), report };
    let preset = reader.read("preset", |value, _, report| name(value, preset_at, &names, "presets", report));
    if reader.read("label", text).is_some() {
        path_safe(&label, &at.key("label"), "", reader.report);
    }
    let with = reader.read("with", |value, at, report| {
        let with = value.as_mapping();
        if with.is_none() {
            report.add(at, format!("with is {}, but must be a map of overrides such as `{{alpha: 32}}`", shown(value)));
        }
        with.cloned()
    });
    let (model, targets) = (reader.read("model", model), reader.read("targets", targets));
    let modules = modules(&mut reader);
    let (ranks, train) = (reader.read("ranks", ranks), reader.read("train", train_fields::layer).map(|t| t.value));
    let readouts = reader.read("readouts", |v, at, report| Some(unindexed(list(v, at, report, readout))));
    Some(Entry {
        gave: gave(fields),
        at: at.clone(),
        preset: preset::find(&preset?.value).ok()?,
        label,
        model,
        targets,
        modules,
        ranks,
        train,
        with: with.map(|w| w.value).unwrap_or_default(),
        readouts: readouts.map(|r| r.value).unwrap_or_default(),
    })
}

/// Names of the derived readouts, which are also the ends of their rows' labels.
const READOUTS: [(&str, Derived); 2] = [("truncated", Derived::Truncated), ("svd", Derived::Svd)];

fn readout(value: &Value, at: &Path, report: &mut Report) -> Option<Derived> {
    let wanted = text(value, at, report)?;
    let found = READOUTS.iter().find(|(name, _)| *name == wanted).map(|(_, derived)| *derived);
    if found.is_none() {
        report.add(at, unknown("readout", &wanted, &READOUTS.map(|(name, _)| name)));
    }
    found
}

/// Labels of the rows that an entry's derived readouts make.
fn derived_labels(entry: &Entry) -> Vec<String> {
    let wanted = READOUTS.iter().filter(|(_, derived)| entry.readouts.contains(derived));
    wanted.map(|(name, _)| format!("{}_{name}", entry.label)).collect()
}

/// A derived readout makes a row of its own, which no entry may be called.
fn check_derived_labels(entries: &[Entry], report: &mut Report) {
    for entry in entries {
        for (name, _) in READOUTS.iter().filter(|(_, derived)| entry.readouts.contains(derived)) {
            let row = format!("{}_{name}", entry.label);
            if let Some(other) = entries.iter().find(|other| other.label == row) {
                report.add(
                    &other.at,
                    format!("label `{row}` is also the row of `{}`'s readout `{name}`; choose another", entry.label),
                );
            }
        }
    }
}

fn baseline(value: &Value, at: &Path, labels: &[String], report: &mut Report) -> Option<String> {
    let wanted = text(value, at, report)?;
    if !labels.contains(&wanted) {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        report.add(at, unknown("label", &wanted, &labels));
    }
    Some(wanted)
}
