//! What a command writes where the user says: the one owner of what an output may replace.
//!
//! | the target | what happens |
//! |---|---|
//! | is not there, or an empty folder | written |
//! | is a link | what it points to is the target |
//! | is a device, a pipe or a socket | refused |
//! | is an input of the same command, or has one inside | refused |
//! | lies in the runs of an experiment, or among its unfinished ones | refused: one run's folder is never another's output |
//! | is what the same command wrote | replaced |
//! | is anything else | refused, unless it is forced |
//!
//! A folder says by its `lora_lab.json` what wrote it; a file is known by its content. Forced, a file is replaced; a folder keeps what
//! has another name.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use trainer::{adapter::AdapterMetadata, error::TrainError};

mod dir;
mod file;

pub(crate) use dir::changed;
pub use dir::{ORIGIN, OutputDir, StagedDir};
pub use file::OutputFile;

/// What an output must leave alone.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Files and folders that the command reads.
    inputs: Vec<PathBuf>,
    /// Whether what the program did not write may be replaced.
    is_forced: bool,
}

impl Guard {
    /// Guards inputs; a name that is no path (`mini_roberta`, `hf://org/name`) guards nothing.
    pub fn new(inputs: impl IntoIterator<Item = impl AsRef<Path>>, is_forced: bool) -> Self {
        let inputs = inputs.into_iter().filter(|input| input.as_ref().exists());
        Self { inputs: inputs.map(|input| absolute(input.as_ref())).collect(), is_forced }
    }

    /// Refuses a target where nothing may be written, whatever it is.
    pub fn check(&self, target: &Path) -> Result<(), TrainError> {
        self.spare_inputs(target, &place(target)?)
    }

    /// Refuses a place that is an input of the command or has one inside.
    fn spare_inputs(&self, target: &Path, place: &Path) -> Result<(), TrainError> {
        match self.inputs.iter().find(|input| input.starts_with(place)) {
            None => Ok(()),
            Some(input) => Err(TrainError::foreign(
                target,
                format!("is or holds an input of this command ({}); give another `--out`", input.display()),
            )),
        }
    }

    /// Whether a file lies inside an input that is a folder.
    fn is_inside_an_input(&self, place: &Path) -> bool {
        self.inputs.iter().any(|input| place.starts_with(input))
    }
}

/// Refuses a target that is or holds the base of an adapter, which is known once the adapter is read; no force replaces it.
pub(crate) fn spare_base(metadata: &AdapterMetadata, target: &Path) -> Result<(), TrainError> {
    Guard::new([&metadata.plan.model], false).check(target)
}

/// Where a target lies once links are followed; refused where nothing may be written whatever it is.
fn place(target: &Path) -> Result<PathBuf, TrainError> {
    let refused = |reason: String| TrainError::foreign(target.to_owned(), reason);
    if target.file_name().is_none() {
        return Err(refused("is no name of a file or folder; give one, e.g. `--out merged`".to_owned()));
    }
    let place = followed(target).map_err(refused)?;
    if let Some(what) = special(&place) {
        return Err(refused(format!("is {what}, which is not written to; give a file or folder with `--out`")));
    }
    let place = absolute(&place);
    // What is not there yet cannot be followed, and `new/..` need not be where it seems once `new` is there.
    if place.components().any(|part| part == Component::ParentDir) {
        return Err(refused("goes up (`..`) from a folder that is not there; give the path without it".to_owned()));
    }
    if let Some(runs) = record::runs_around(&place) {
        return Err(refused(format!(
            "lies in {}, which has the runs of an experiment; give another `--out`",
            runs.display()
        )));
    }
    Ok(place)
}

/// Most links that lead from one to the next.
const LINKS: usize = 40;

/// What a chain of links ends at, whether it is there or not.
fn followed(target: &Path) -> Result<PathBuf, String> {
    let mut path = target.to_owned();
    for _ in 0..LINKS {
        let Ok(next) = fs::read_link(&path) else { return Ok(path) };
        // A link is read from where it lies; an absolute one replaces all before it.
        path = parent(&path).join(next);
    }
    Err("is a link in a circle; give another `--out`".to_owned())
}

/// What a path is, if it is neither a file nor a folder.
fn special(path: &Path) -> Option<&'static str> {
    let kind = fs::metadata(path).ok()?.file_type();
    (!kind.is_file() && !kind.is_dir()).then_some("a device, a pipe or a socket")
}

/// A path from the root, links followed as far as it exists.
fn absolute(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = whole.ancestors().find_map(|at| Some((at, at.canonicalize().ok()?)));
    match found.and_then(|(at, real)| Some((real, whole.strip_prefix(at).ok()?))) {
        Some((real, rest)) if rest.as_os_str().is_empty() => real,
        Some((real, rest)) => real.join(rest),
        None => whole,
    }
}

fn parent(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;
