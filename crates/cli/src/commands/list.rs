//! `list`: what an experiment can name, from the registries.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use data::suite;
use models::catalog::MODELS;

use record::Store;

use super::{read, results};
use crate::{failure::Failure, output::aligned, shipped, terminal::print};

/// What `list` lists.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum What {
    /// Presets that can stand under `variants:`.
    Variants,
    /// Tasks of every suite.
    Tasks,
    /// Base models.
    Models,
    /// Experiments under `experiments/`, and those that come with the program.
    Experiments,
    /// Studies under the results, with how much of each is done.
    Results,
    /// The same as `lora-lab devices`.
    Devices,
}

/// Lists one kind of thing.
pub(super) fn run(what: What, results: &Path) -> Result<(), Failure> {
    let rows: Vec<[String; 3]> = match what {
        What::Variants => variants::preset::all()
            .iter()
            .map(|p| [p.name.to_owned(), p.about.to_owned(), p.paper.to_owned()])
            .collect(),
        What::Tasks => tasks()?,
        What::Models => MODELS.iter().map(|m| [m.name.to_owned(), m.about.to_owned(), String::new()]).collect(),
        What::Devices => return super::devices::run(),
        What::Experiments => experiments(Path::new(shipped::FOLDER)),
        What::Results => studies(results)?,
    };
    print(&aligned(&rows))
}

fn tasks() -> Result<Vec<[String; 3]>, Failure> {
    let mut rows = Vec::new();
    for suite in suite::suites() {
        for task in suite::tasks(suite)? {
            let metrics: Vec<String> = task.metrics.iter().map(ToString::to_string).collect();
            rows.push([format!("{suite} {}", task.name), task.doc.clone(), metrics.join(", ")]);
        }
    }
    Ok(rows)
}

/// Those of a folder, and those of the program whose names it does not have.
fn experiments(folder: &Path) -> Vec<[String; 3]> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let name = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut known: BTreeMap<String, PathBuf> =
        shipped::EXPERIMENTS.iter().map(|(name, _)| ((*name).to_owned(), PathBuf::from(name))).collect();
    known.extend(files.map(|path| (name(&path), path)));
    let row = |(name, path): (String, PathBuf)| match read(&path, &[]) {
        Ok(experiment) => [name, experiment.title(), format!("{} cells", experiment.cells().len())],
        Err(_) => [name, String::new(), "has problems, see `check`".to_owned()],
    };
    known.into_iter().map(row).collect()
}

/// Name, title, and how many of the cells have a record.
fn studies(folder: &Path) -> Result<Vec<[String; 3]>, Failure> {
    let row = |name: PathBuf| {
        let store = Store::open(folder, &name.display().to_string())?;
        let experiment = results::open(&name, &[], folder).map(|(experiment, _)| experiment);
        let records = std::fs::read_dir(store.runs_dir())
            .map_or(0, |entries| entries.flatten().filter(|entry| entry.path().join("record.json").is_file()).count());
        let (title, cells) = match experiment {
            Ok(experiment) => (experiment.title(), format!(" of {}", experiment.cells().len())),
            Err(_) => (String::new(), String::new()),
        };
        Ok([name.display().to_string(), title, format!("{records}{cells} runs")])
    };
    results::all(folder)?.into_iter().map(row).collect()
}
