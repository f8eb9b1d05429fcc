//! `list`: what an experiment can name, from the registries.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use data::suite;
use models::catalog::MODELS;

use super::read;
use crate::{failure::Failure, output::aligned, terminal::print};

/// What `list` lists.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum What {
    /// Presets that can stand under `variants:`.
    Variants,
    /// Tasks of every suite.
    Tasks,
    /// Base models.
    Models,
    /// Experiments under `experiments/`.
    Experiments,
    /// The same as `lora-lab devices`.
    Devices,
}

/// Lists one kind of thing.
pub(super) fn run(what: What) -> Result<(), Failure> {
    let rows: Vec<[String; 3]> = match what {
        What::Variants => variants::preset::all()
            .iter()
            .map(|p| [p.name.to_owned(), p.about.to_owned(), p.paper.to_owned()])
            .collect(),
        What::Tasks => tasks()?,
        What::Models => MODELS.iter().map(|m| [m.name.to_owned(), m.about.to_owned(), String::new()]).collect(),
        What::Devices => return super::devices::run(),
        What::Experiments => experiments(Path::new("experiments")),
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

fn experiments(folder: &Path) -> Vec<[String; 3]> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            let title = std::fs::read_to_string(path)
                .ok()
                .and_then(|text| text.lines().next().map(|l| l.trim_start_matches(['#', ' ']).to_owned()));
            let cells = read(path, &[])
                .map_or_else(|_| "has problems, see `check`".to_owned(), |e| format!("{} cells", e.cells().len()));
            [name, title.unwrap_or_default(), cells]
        })
        .collect()
}
