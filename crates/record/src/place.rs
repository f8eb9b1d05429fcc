//! Whether a path lies among the runs of an experiment, where only the study writes.

use std::path::{Path, PathBuf};

use crate::store::{PARTIAL, RECORD, RUNS};

/// The folder of runs, finished or not, that a path is or lies in; none where there is none. The path is absolute and without links.
pub fn runs_around(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|at| is_runs(at)).map(Path::to_owned)
}

fn is_runs(folder: &Path) -> bool {
    let Some(experiment) = folder.parent() else { return false };
    match folder.file_name().and_then(|name| name.to_str()) {
        Some(PARTIAL) => experiment.join(RUNS).is_dir(),
        Some(RUNS) => experiment.join(PARTIAL).is_dir() || has_records(folder),
        _ => false,
    }
}

fn has_records(runs: &Path) -> bool {
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().join(RECORD)).any(|record| record.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;

    use super::*;

    #[test]
    fn runs_are_known_by_their_records_or_by_what_is_unfinished() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        create_dir_all(at("done/runs/cola-lora-r8-s0")).unwrap();
        assert_eq!(runs_around(&at("done/runs/cola-lora-r8-s0/record.json")), None);
        std::fs::write(at("done/runs/cola-lora-r8-s0/record.json"), "{}").unwrap();
        create_dir_all(at("begun/.partial")).unwrap();
        create_dir_all(at("begun/runs")).unwrap();
        for (path, runs) in [
            ("done/runs/cola-lora-r8-s0/record.json", Some("done/runs")),
            ("done/runs/new", Some("done/runs")),
            ("done/runs", Some("done/runs")),
            ("done/tables/main.txt", None),
            ("begun/runs/new", Some("begun/runs")),
            ("begun/.partial/cohort/checkpoint", Some("begun/.partial")),
            ("runs/mine", None),
        ] {
            assert_eq!(runs_around(&at(path)), runs.map(at), "{path}");
        }
    }
}
