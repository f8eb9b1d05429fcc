//! Which study a command means that reads results, and what of it is there.
//!
//! A study stands on its own: `results/NAME/experiment.yaml` is the experiment as it was run, with every override. A command that reads
//! results takes the study's name, its folder, or the experiment's file.

use std::path::{Path, PathBuf};

use assets::file::is_there;
use experiment::{Experiment, located::EXPERIMENT};
use record::{RunRecord, Store, write_atomic};
use serde_json::Value;
use trainer::study::{self, identity::spec_of};

use super::{bare, read, tune::Settled};
use crate::{failure::Failure, terminal::note};

/// A study whose results are looked at.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its experiment.
    pub(crate) settled: Settled,
    /// Where its results are.
    pub(crate) store: Store,
    /// Its records, in the order of its cells; at least one.
    pub(crate) records: Vec<RunRecord>,
}

/// The study that a file, a folder of results or a name means.
///
/// A file is read as it stands; where no record is of its recipe, the study is shown as it was run, and what differs is said. A name or a
/// folder means the study as it was run.
pub(super) fn find(written: &Path, overrides: &[String], results: &Path) -> Result<Found, Failure> {
    let (experiment, store) = open(written, overrides, results)?;
    let settled = Settled::of(experiment.clone(), &store);
    let records = match &settled {
        Ok(settled) => study::records(settled.experiment.cells(), &store)?,
        Err(_) => Vec::new(),
    };
    if !records.is_empty() {
        let settled = settled?;
        keep(&settled.experiment, &store, &records)?;
        return Ok(Found { settled, store, records });
    }
    // Another recipe than the one that was run: what is there is shown, and what differs is said.
    let run = as_run(&store)?.filter(|run| run.cells() != experiment.cells());
    if let Some(run) = run {
        let run = Settled::of(run, &store)?;
        let records = study::records(run.experiment.cells(), &store)?;
        if !records.is_empty() {
            say_changed(&experiment, &records, written);
            return Ok(Found { settled: run, store, records });
        }
    }
    let settled = settled?;
    let found = settled.experiment.cells().iter().filter_map(|cell| store.record(&cell.id).transpose());
    let records: Vec<RunRecord> = found.collect::<Result<_, _>>()?;
    if records.is_empty() {
        return Err(none(&store, written));
    }
    one_recipe(&settled.experiment, &records, &store)?;
    say_changed(&settled.experiment, &records, written);
    Ok(Found { settled, store, records })
}

/// The names of all studies that have a record under `results`; an error where there is none.
pub(super) fn all(results: &Path) -> Result<Vec<PathBuf>, Failure> {
    let named = names(results).into_iter().map(PathBuf::from).collect::<Vec<_>>();
    if named.is_empty() {
        return Err(Failure::Input(format!(
            "{}: no study has results here; `lora-lab run` makes them",
            results.display()
        )));
    }
    Ok(named)
}

/// The names of all folders of studies under `results`.
pub(super) fn names(results: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(results).into_iter().flatten().flatten();
    let is_study = |name: &String| results.join(name).join("runs").is_dir();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(is_study).collect();
    names.sort();
    names
}

/// The experiment and where its results are.
pub(super) fn open(written: &Path, overrides: &[String], results: &Path) -> Result<(Experiment, Store), Failure> {
    let folder = folder(written, results).filter(|_| overrides.is_empty());
    if let Some((results, name)) = folder {
        let store = Store::open(&results, &name)?;
        if let Some(experiment) = as_run(&store)? {
            return Ok((experiment, store));
        }
        let experiment = read(Path::new(&name), overrides).map_err(|_| {
            Failure::Input(format!(
                "{}: has no {EXPERIMENT}, which `run` writes, and no experiment is called `{name}`; give the experiment's file",
                store.directory().display()
            ))
        })?;
        return Ok((experiment, store));
    }
    let experiment = read(written, overrides)?;
    let store = Store::open(results, experiment.name())?;
    Ok((experiment, store))
}

/// The folder of results that is meant, as the folder around it and its own name; none of a file.
fn folder(written: &Path, results: &Path) -> Option<(PathBuf, String)> {
    let is_study = |folder: &Path| is_there(&folder.join(EXPERIMENT)) || folder.join("runs").is_dir();
    if written.is_dir() && is_study(written) {
        let whole = std::path::absolute(written).ok()?;
        let name = whole.file_name()?.to_str()?.to_owned();
        let around = written.parent().filter(|parent| !parent.as_os_str().is_empty());
        let is_named = written.file_name().is_some_and(|end| *end == *name);
        let around =
            around.filter(|_| is_named).map_or_else(|| whole.parent().map(Path::to_owned), |it| Some(it.to_owned()));
        return Some((around?, name));
    }
    if written.is_file() || written.components().count() != 1 {
        return None;
    }
    let name = bare(written).filter(|_| written.extension().is_none())?;
    is_study(&results.join(name)).then(|| (results.to_owned(), name.to_owned()))
}

/// The experiment as it was run, where that is known.
pub(super) fn as_run(store: &Store) -> Result<Option<Experiment>, Failure> {
    let path = store.directory().join(EXPERIMENT);
    let bytes = match assets::file::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?,
    };
    let origin = path.display().to_string();
    let text = experiment::text(&bytes, &origin)?;
    let name = store.directory().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Some(experiment::read(&text, &origin, &name, &[])?))
}

/// The text of an experiment as it was run.
pub(super) fn text(experiment: &Experiment, store: &Store) -> Result<String, Failure> {
    experiment.resolved(store.directory()).map_err(|reason| Failure::Run(anyhow::anyhow!(reason)))
}

/// Writes the experiment beside its results, so that they can be read without its file and its overrides.
pub(super) fn write(experiment: &Experiment, store: &Store) -> Result<(), Failure> {
    write_atomic(&store.directory().join(EXPERIMENT), text(experiment, store)?.as_bytes())?;
    Ok(())
}

/// Writes it beside results of earlier builds, where all are of this very recipe.
fn keep(experiment: &Experiment, store: &Store, records: &[RunRecord]) -> Result<(), Failure> {
    let is_whole = records.len() == experiment.cells().len();
    if is_there(&store.directory().join(EXPERIMENT)) || !is_whole {
        return Ok(());
    }
    match write(experiment, store) {
        // Results that cannot be written to can still be read.
        Err(Failure::Run(_)) => Ok(()),
        written => written,
    }
}

/// The error for an experiment that nobody has run.
fn none(store: &Store, experiment: &Path) -> Failure {
    Failure::Input(format!(
        "{}: no records yet\n\nhint: `lora-lab run {}` makes them",
        store.runs_dir().display(),
        experiment.display()
    ))
}

/// Refuses records that differ from the experiment in several ways: what a table says is matched over its rows would not be.
fn one_recipe(experiment: &Experiment, records: &[RunRecord], store: &Store) -> Result<(), Failure> {
    let of = |record: &RunRecord| {
        let cell = experiment.cells().iter().find(|cell| cell.id == record.cell);
        cell.map(|cell| differences(&spec_of(cell), &record.spec)).unwrap_or_default()
    };
    let first = of(&records[0]);
    let Some(other) = records.iter().find(|record| of(record) != first) else { return Ok(()) };
    Err(Failure::Input(format!(
        "{}: no record is of the present recipe, and those that are there are of several: {} differs in {}, {} in {}; give the file that they \
         were run from",
        store.runs_dir().display(),
        records[0].cell,
        first.join("; "),
        other.cell,
        of(other).join("; ")
    )))
}

/// Says what records have otherwise than the experiment.
fn say_changed(experiment: &Experiment, records: &[RunRecord], written: &Path) {
    let differences = records.iter().find_map(|record| {
        let cell = experiment.cells().iter().find(|cell| cell.id == record.cell)?;
        Some(differences(&spec_of(cell), &record.spec))
    });
    let what = match differences.as_deref() {
        None | Some([]) => "its runs are others".to_owned(),
        Some(some) => some.join("; "),
    };
    note(&format!(
        "note: {} has changed since these {} runs were trained, which are shown as they are: {what}",
        written.display(),
        records.len()
    ));
}

/// Fields of two recipes that differ, each with both values: `train.steps is 20, 60 in the records`.
pub(super) fn differences(now: &Value, then: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", now, then, &mut found);
    found
}

fn compare(at: &str, now: &Value, then: &Value, found: &mut Vec<String>) {
    let (Value::Object(one), Value::Object(other)) = (now, then) else {
        if now != then {
            found.push(format!("{at} is {}, {} in the records", shown(now), shown(then)));
        }
        return;
    };
    let mut keys: Vec<&String> = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))).collect();
    keys.sort();
    for key in keys {
        let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        compare(&at, one.get(key).unwrap_or(&Value::Null), other.get(key).unwrap_or(&Value::Null), found);
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "absent".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_that_differ_are_named_with_both_values() {
        let (now, then) =
            (json!({"train": {"steps": 20, "batch": 8}, "data": "a"}), json!({"train": {"steps": 60, "batch": 8}}));
        assert_eq!(
            differences(&now, &then),
            ["data is `a`, absent in the records", "train.steps is `20`, `60` in the records"]
        );
        assert_eq!(differences(&now, &now), Vec::<String>::new());
    }
}
