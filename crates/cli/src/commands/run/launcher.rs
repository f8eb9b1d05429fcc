//! `--launcher`: starts the workers of a study, here or on a cluster, and watches them.
//!
//! A worker is this program with the same arguments. Nothing but the study's own files tells workers and launcher of each other.

pub(super) mod local;
pub(super) mod slurm;
mod watched;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::SystemTime,
};

use experiment::cell::Cell;
use record::Store;

use crate::failure::Failure;

/// Who starts the workers of a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launcher {
    /// This program, on this machine; none of a number takes one worker for each card, or each core where there is none.
    Local(Option<usize>),
    /// Slurm, as a job array.
    Slurm,
}

impl FromStr for Launcher {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = "write `local`, `local:N` for N workers from 1 to 1024, or `slurm`";
        match text.split_once(':') {
            None if text == "local" => Ok(Self::Local(None)),
            None if text == "slurm" => Ok(Self::Slurm),
            Some(("local", count)) => match count.parse() {
                Ok(count @ 1..=1024) => Ok(Self::Local(Some(count))),
                _ => Err(format!("`{count}` is no number of workers; {rule}")),
            },
            _ => Err(format!("`{text}` is no launcher; {rule}")),
        }
    }
}

/// Whether an option was given to this program.
fn given(option: &str) -> bool {
    std::env::args().any(|argument| argument == option || argument.starts_with(&format!("{option}=")))
}

/// The launcher's arguments without those that are its own, and without `others`, all of which have a value.
fn without_launcher(all: impl Iterator<Item = String>, others: &[&str]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut skips = false;
    for argument in all {
        let name = argument.split('=').next().unwrap_or_default();
        if name == "--launcher" || name == "--among" || others.contains(&name) {
            skips = !argument.contains('=');
        } else if !std::mem::take(&mut skips) {
            kept.push(argument);
        }
    }
    kept
}

/// Cells that are to be trained, by their slugs, each with when the record was written that it has already, and how long that is.
pub(super) type Lacking = BTreeMap<String, Option<(SystemTime, u64)>>;

/// All cells, before it is known which of them are to be trained.
pub(super) fn stamps(cells: &[Cell], store: &Store) -> Lacking {
    cells.iter().map(|cell| (cell.id.slug(), store.record_stamp(&cell.id))).collect()
}

/// The folder of what workers say.
fn logs(store: &Store) -> Result<PathBuf, Failure> {
    let logs = store.directory().join("logs");
    fs::create_dir_all(&logs).map_err(|error| Failure::Run(anyhow::anyhow!("{}: {error}", logs.display())))?;
    Ok(logs)
}

/// What the first of these logs that ends with an error says there.
fn said_last<'a>(logs: impl Iterator<Item = &'a Path>) -> String {
    for log in logs {
        let text = fs::read_to_string(log).unwrap_or_default();
        if let Some(at) = text.rfind("error: ") {
            return format!("{} ends with\n\n{}", log.display(), text[at..].trim_end());
        }
    }
    "their logs say why".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_is_written_with_its_number_of_workers() {
        assert_eq!("local".parse(), Ok(Launcher::Local(None)));
        assert_eq!("local:3".parse(), Ok(Launcher::Local(Some(3))));
        assert_eq!("slurm".parse(), Ok(Launcher::Slurm));
        for (text, wanted) in
            [("local:0", "`0` is no number"), ("local:x", "`x` is no number"), ("slurm:2", "`slurm:2` is no launcher")]
        {
            let message = text.parse::<Launcher>().unwrap_err();
            assert!(message.starts_with(wanted), "{message}");
        }
    }
}
