//! `check`: every problem of every file, before a device is touched.

use std::path::Path;

use assets::source;
use experiment::{Experiment, cell::Cell};

use super::read;
use crate::{
    args::Check,
    terminal::{Failure, print},
};

/// Checks all files, and that their results can be written; fails if one has a problem.
pub(super) fn run(args: &Check, results: &Path) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for path in &args.experiments {
        match read(path, &args.set) {
            Ok(experiment) => match writable(&results.join(experiment.name())).and_then(|()| present(&experiment)) {
                Ok(()) => print(&format!("{}: {} cells, no problems\n", path.display(), experiment.cells().len()))?,
                Err(reason) => problems.push(format!("{}: {reason}", path.display())),
            },
            Err(Failure::Input(message)) => problems.push(message),
            Err(other) => return Err(other),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Input(problems.join("\nerror: "))) }
}

/// Whether the folders of models and data are there.
fn present(experiment: &Experiment) -> Result<(), String> {
    let absent = |cell: &Cell| source::absent(&cell.plan.model, cell.plan.data.as_deref());
    match experiment.cells().iter().find_map(absent) {
        Some(error) => Err(error.to_string()),
        None => Ok(()),
    }
}

/// Whether a folder can be made and written; looks at the nearest part of the path that exists, and makes nothing.
fn writable(folder: &Path) -> Result<(), String> {
    let there = folder.ancestors().find(|part| part.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let meta = std::fs::metadata(there).map_err(|error| format!("{}: {error}", there.display()))?;
    if !meta.is_dir() {
        return Err(format!("{}: results go into this folder, but it is a file; use `--results DIR`", there.display()));
    }
    if meta.permissions().readonly() {
        return Err(format!("{}: cannot be written; use `--results DIR`", there.display()));
    }
    Ok(())
}
