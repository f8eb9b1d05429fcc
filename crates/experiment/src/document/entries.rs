//! The list of variants: each entry is a preset, what changes in it, and how it is read out.

use std::collections::BTreeSet;

use models::{modules::Modules, target::Target};
use serde_yaml::{Mapping, Value};
use variants::preset::{self, Preset};

use super::{
    At, MODULE_KEYS, Ranks,
    reader::{Reader, gave, unindexed},
    values::{model, modules, ranks, targets},
};
use crate::{
    cell::Derived,
    error::Report,
    fields::{given, list, map, name, path_safe, shown, text, unknown},
    path::Path,
    train_fields::{self, Layer},
};

/// Beside [`MODULE_KEYS`].
pub(crate) const ENTRY_KEYS: &[&str] =
    &["preset", "label", "model", "targets", "ranks", "train", "with", "readouts", "start_from", "tune"];

/// One entry of `variants`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Keys with a value, refused ones included.
    pub(crate) gave: BTreeSet<String>,
    pub(crate) at: Path,
    /// None where it is not known, which has been reported.
    pub(crate) preset: Option<&'static Preset>,
    pub(crate) label: String,
    pub(crate) model: Option<At<String>>,
    pub(crate) targets: Option<At<Target>>,
    /// The fields beside targets.
    pub(crate) modules: Modules,
    pub(crate) ranks: Option<Ranks>,
    /// Whether its ranks are those that match the baseline's.
    pub(crate) matches_ranks: bool,
    pub(crate) train: Option<Layer>,
    pub(crate) with: Mapping,
    pub(crate) readouts: Vec<Derived>,
    /// Whether its runs start from the base on every task, also on those that start from another.
    pub(crate) starts_at_base: bool,
    /// Tuned fields of its own, over those of the experiment.
    pub(crate) tune: Option<At<Mapping>>,
}

/// Every readable entry, and the labels of all.
pub(crate) fn entries(value: &Value, at: &Path, report: &mut Report) -> (Vec<Entry>, Vec<String>) {
    let mut labels: Vec<String> = Vec::new();
    let mut entries = Vec::new();
    // Entries may be equal as YAML; what must differ is the label.
    list(value, at, report, |value, at, report| {
        let bare = Mapping::from_iter([(Value::from("preset"), value.clone())]);
        let fields =
            if value.is_string() { &bare } else { map(value, at, &[ENTRY_KEYS, &MODULE_KEYS].concat(), report)? };
        let named = |key| given(fields, key).and_then(Value::as_str);
        let label = named("label").or(named("preset")).unwrap_or_default().to_owned();
        if !label.is_empty() && labels.iter().any(|other| other.eq_ignore_ascii_case(&label)) {
            report.add(at, format!("label `{label}` is there twice, case aside; give each entry a `label` of its own"));
        }
        labels.push(label.clone());
        let preset_at = if value.is_string() { at.clone() } else { at.key("preset") };
        entries.push(entry(fields, at, &preset_at, label, report));
        Some(at.clone())
    });
    check_derived_labels(&entries, report);
    (entries, labels)
}

fn entry(fields: &Mapping, at: &Path, preset_at: &Path, label: String, report: &mut Report) -> Entry {
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
    let matches_ranks = given(fields, "ranks").and_then(Value::as_str) == Some("match");
    let own_ranks = if matches_ranks { None } else { reader.read("ranks", ranks) };
    let (ranks, train) = (own_ranks, reader.read("train", train_fields::layer).map(|t| t.value));
    let readouts = reader.read("readouts", |v, at, report| Some(unindexed(list(v, at, report, readout))));
    let start = reader.read("start_from", |value, at, report| {
        let wanted = text(value, at, report)?;
        if wanted != BASE {
            let rule = format!("start_from is `{wanted}`, but an entry of variants can only start from `{BASE}`; where a task starts stands in `tasks`");
            report.add(at, rule);
        }
        Some(wanted == BASE)
    });
    let tune = reader.read("tune", |value, at, report| {
        let space = value.as_mapping();
        if space.is_none() {
            report.add(at, format!("tune is {}, but must be a map of fields to their values", shown(value)));
        }
        space.cloned()
    });
    Entry {
        gave: gave(fields),
        at: at.clone(),
        preset: preset.and_then(|preset| preset::find(&preset.value).ok()),
        label,
        model,
        targets,
        modules,
        ranks,
        matches_ranks,
        train,
        with: with.map(|w| w.value).unwrap_or_default(),
        readouts: readouts.map(|r| r.value).unwrap_or_default(),
        starts_at_base: start.is_some_and(|start| start.value),
        tune,
    }
}

/// Where an entry's runs start that ask for no adapter.
const BASE: &str = "base";

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
pub(crate) fn derived_labels(entry: &Entry) -> Vec<String> {
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
