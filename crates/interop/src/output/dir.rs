//! Atomic output folders: written beside the target, then renamed into place, so that a folder is complete or absent.
//!
//! Files are written into a hidden folder beside the target, which then takes its name in one step; whatever fails before leaves the
//! target as it was. `lora_lab.json` lists the files and says what made them, so that the same command may replace its own output, and
//! only that.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use record::{sha256_hex, write_atomic};
use serde::{Deserialize, Serialize};
use trainer::error::TrainError;

use super::{Guard, parent, place};

/// The file that says what made a folder.
pub const ORIGIN: &str = "lora_lab.json";

/// What made a folder.
#[derive(Debug, Serialize, Deserialize)]
struct Origin {
    /// The command.
    written_by: String,
    /// Every file, this one left out.
    files: Vec<String>,
    /// SHA-256 of every file as it was written. Outputs of earlier builds have none.
    #[serde(default)]
    checksums: BTreeMap<String, String>,
    /// What the command knows of its inputs.
    from: serde_json::Value,
}

/// A folder that may be written.
#[derive(Debug)]
pub struct OutputDir {
    /// Once links are followed.
    path: PathBuf,
    command: &'static str,
    /// Whether it has what the command did not write, which stays.
    is_shared: bool,
    is_forced: bool,
}

impl OutputDir {
    /// Checks before any work that `command` may write `target`: it is absent, empty, or its own earlier output, or it is forced.
    pub fn check(target: &Path, command: &'static str, guard: &Guard) -> Result<Self, TrainError> {
        let refused = |reason: String| TrainError::foreign(target.to_owned(), reason);
        let path = place(target)?;
        recover(&path);
        if path.is_file() {
            return Err(refused("is a file, but a folder is written; give another `--out`".to_owned()));
        }
        guard.spare_inputs(target, &path)?;
        fs::create_dir_all(parent(&path)).map_err(|error| refused(format!("its folder cannot be made: {error}")))?;
        let foreign = foreign(&path, command).map_err(|source| TrainError::io(target.to_owned(), source))?;
        match foreign {
            Some(reason) if !guard.is_forced => Err(refused(format!(
                "{reason}; give an empty or new folder with `--out`, or `--force`, which replaces files of the same names"
            ))),
            foreign => Ok(Self { path, command, is_shared: foreign.is_some(), is_forced: guard.is_forced }),
        }
    }

    /// Begins to write.
    pub fn begin(self) -> Result<StagedDir, TrainError> {
        let staged = hidden(&self.path, "new");
        fs::create_dir(&staged).map_err(|source| TrainError::io(staged.clone(), source))?;
        Ok(StagedDir { folder: staged, target: self, files: Vec::new(), checksums: BTreeMap::new() })
    }
}

/// A folder that is being written; dropped before [`finish`](Self::finish), it leaves nothing.
#[derive(Debug)]
pub struct StagedDir {
    folder: PathBuf,
    target: OutputDir,
    files: Vec<String>,
    checksums: BTreeMap<String, String>,
}

impl StagedDir {
    /// Where the files lie until the end.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes one file; a name with slashes lies in folders of its own.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        let path = self.folder.join(name);
        fs::create_dir_all(parent(&path)).map_err(|source| TrainError::io(path.clone(), source))?;
        write_atomic(&path, bytes)?;
        self.checksums.insert(name.to_owned(), sha256_hex(bytes));
        self.files.push(name.to_owned());
        Ok(())
    }

    /// Puts the whole folder in its place.
    pub fn finish(mut self, from: serde_json::Value) -> Result<(), TrainError> {
        let origin = Origin {
            written_by: self.target.command.to_owned(),
            files: self.files.clone(),
            checksums: self.checksums.clone(),
            from,
        };
        let text = serde_json::to_string_pretty(&origin).unwrap_or_else(|error| unreachable!("plain data: {error}"));
        self.write(ORIGIN, (text + "\n").as_bytes())?;
        let target = &self.target.path;
        let failed = |source| TrainError::io(target.clone(), source);
        // Somebody may have put a file there during the work.
        let foreign = foreign(target, self.target.command).map_err(failed)?;
        if let Some(reason) = foreign.as_ref().filter(|_| !self.target.is_shared && !self.target.is_forced) {
            let reason = format!("{reason}: it came during the work; move it away and run the command again");
            return Err(TrainError::foreign(target.clone(), reason));
        }
        if self.target.is_shared || foreign.is_some() {
            return self.join().map_err(failed);
        }
        let old = hidden(target, "old");
        let replaces = target.exists();
        if replaces {
            fs::rename(target, &old).map_err(failed)?;
        }
        if let Err(error) = fs::rename(&self.folder, target) {
            if replaces {
                let _ = fs::rename(&old, target); // the earlier output back; the first error is the one to report
            }
            return Err(failed(error));
        }
        if replaces {
            fs::remove_dir_all(&old).map_err(|source| TrainError::io(old.clone(), source))?;
        }
        Ok(())
    }
}

impl StagedDir {
    /// Puts every file into a folder that has others; what says that it is whole comes last.
    fn join(&self) -> io::Result<()> {
        let target = &self.target.path;
        match fs::remove_file(target.join(ORIGIN)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for name in &self.files {
            fs::create_dir_all(parent(&target.join(name)))?;
            fs::rename(self.folder.join(name), target.join(name))?;
        }
        Ok(())
    }
}

/// What a folder says of its making.
fn origin(folder: &Path) -> Option<Origin> {
    let bytes = assets::file::read(&folder.join(ORIGIN)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// What to say where a command of this program wrote a file of this name and its content is another now.
pub(crate) fn changed(folder: &Path, name: &str, bytes: &[u8]) -> Option<String> {
    let Origin { written_by, checksums, .. } = origin(folder)?;
    let written = checksums.get(name)?;
    (*written != sha256_hex(bytes)).then(|| {
        format!(
            "{}: `{written_by}` wrote other bytes ({ORIGIN} has their SHA-256), so the file was trained on, replaced or damaged since; what \
             is there now is used",
            folder.join(name).display()
        )
    })
}

/// What a folder has that `command` did not write; none of a folder that is empty or not there.
fn foreign(path: &Path, command: &str) -> io::Result<Option<String>> {
    let found = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?,
    };
    if found.is_empty() {
        return Ok(None);
    }
    let Some(origin) = origin(path).filter(|origin| origin.written_by == command) else {
        return Ok(Some(format!("is not empty and not an earlier output of `{command}`")));
    };
    let found = inside(path, found, &origin)?;
    let extra = found.iter().find(|name| *name != ORIGIN && !origin.files.contains(name));
    if let Some(extra) = extra {
        return Ok(Some(format!("has `{extra}`, which `{command}` did not write and would delete")));
    }
    for (name, written) in origin.checksums.iter().filter(|(name, _)| found.contains(name)) {
        if record::file_sha256(&path.join(name))? != *written {
            return Ok(Some(format!(
                "has a `{name}` that is not what `{command}` wrote: it was trained on or changed since"
            )));
        }
    }
    Ok(None)
}

/// The names found in a folder, with the files in its folders that `origin` has files in: `a/b`.
fn inside(path: &Path, found: Vec<String>, origin: &Origin) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    for name in found {
        let within = format!("{name}/");
        if !origin.files.iter().any(|file| file.starts_with(&within)) || !path.join(&name).is_dir() {
            all.push(name);
            continue;
        }
        for entry in fs::read_dir(path.join(&name))? {
            all.push(format!("{within}{}", entry?.file_name().to_string_lossy()));
        }
    }
    Ok(all)
}

impl Drop for StagedDir {
    fn drop(&mut self) {
        // After `finish` there is nothing under this name.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A hidden name beside the target, of this process alone.
fn hidden(target: &Path, what: &str) -> PathBuf {
    target.with_file_name(format!(".{}.{what}.{}.tmp", name(target), record::process_mark()))
}

fn name(target: &Path) -> std::borrow::Cow<'_, str> {
    target.file_name().unwrap_or_default().to_string_lossy()
}

/// Takes away what killed processes left beside a target. Where one was killed after it had moved the earlier output aside and before it put
/// the new one there, the earlier one comes back.
///
/// Best effort: what cannot be listed, moved or removed stays, and nobody takes it for an output.
fn recover(target: &Path) {
    for entry in fs::read_dir(parent(target)).into_iter().flatten().flatten() {
        let (file, path) = (entry.file_name(), entry.path());
        let kind = |what: &str| file.to_string_lossy().starts_with(&format!(".{}.{what}.", name(target)));
        if !(kind("new") || kind("old")) || !record::is_left_behind(&path) {
            continue;
        }
        if kind("old") && !target.exists() {
            let _ = fs::rename(&path, target);
        } else {
            let _ = fs::remove_dir_all(&path);
        }
    }
}
