//! Atomic output folders: written beside the target, then renamed into place, so that a folder is complete or absent.
//!
//! Files are written into a hidden folder beside the target, which then takes its name in one step; whatever fails before leaves the
//! target as it was. `lora_lab.json` lists the files and says what made them, so that the same command may replace its own output, and
//! only that.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use record::write_atomic;
use serde::{Deserialize, Serialize};
use trainer::error::TrainError;

/// The file that says what made a folder.
pub const ORIGIN: &str = "lora_lab.json";

/// What made a folder.
#[derive(Debug, Serialize, Deserialize)]
struct Origin {
    /// The command.
    written_by: String,
    /// Every file, this one left out.
    files: Vec<String>,
    /// What the command knows of its inputs.
    from: serde_json::Value,
}

/// A folder that may be written.
#[derive(Debug)]
pub struct OutputDir {
    path: PathBuf,
    command: &'static str,
}

impl OutputDir {
    /// Checks before any work that `command` may write `target`: it is absent, empty, or its own earlier output.
    pub fn check(target: &Path, command: &'static str) -> Result<Self, TrainError> {
        let refused = |reason: String| TrainError::foreign(target.to_owned(), reason);
        if target.file_name().is_none() {
            return Err(refused("is no name for a new folder; give one, e.g. `--out merged`".to_owned()));
        }
        if target.is_file() {
            return Err(refused("is a file, but a folder is written; give another `--out`".to_owned()));
        }
        let parent = parent(target);
        fs::create_dir_all(parent).map_err(|error| refused(format!("its folder cannot be made: {error}")))?;
        let found = match fs::read_dir(target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(TrainError::io(target.to_owned(), source)),
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>()
                .map_err(|source| TrainError::io(target.to_owned(), source))?,
        };
        if found.is_empty() {
            return Ok(Self { path: target.to_owned(), command });
        }
        let way_out = "give an empty or new folder with `--out`";
        let origin = fs::read(target.join(ORIGIN)).ok().and_then(|bytes| serde_json::from_slice::<Origin>(&bytes).ok());
        match origin.filter(|origin| origin.written_by == command) {
            None => Err(refused(format!("is not empty and not an earlier output of `{command}`; {way_out}"))),
            Some(origin) => match found.iter().find(|name| *name != ORIGIN && !origin.files.contains(name)) {
                Some(extra) => {
                    Err(refused(format!("has `{extra}`, which `{command}` did not write and would delete; {way_out}")))
                }
                None => Ok(Self { path: target.to_owned(), command }),
            },
        }
    }

    /// Begins to write.
    pub fn begin(self) -> Result<StagedDir, TrainError> {
        let staged = hidden(&self.path, "new");
        // What an earlier process of this number left behind.
        let _ = fs::remove_dir_all(&staged);
        fs::create_dir(&staged).map_err(|source| TrainError::io(staged.clone(), source))?;
        Ok(StagedDir { folder: staged, target: self, files: Vec::new() })
    }
}

/// A folder that is being written; dropped before [`finish`](Self::finish), it leaves nothing.
#[derive(Debug)]
pub struct StagedDir {
    folder: PathBuf,
    target: OutputDir,
    files: Vec<String>,
}

impl StagedDir {
    /// Where the files lie until the end.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes one file.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        write_atomic(&self.folder.join(name), bytes)?;
        self.files.push(name.to_owned());
        Ok(())
    }

    /// Puts the whole folder in its place.
    pub fn finish(mut self, from: serde_json::Value) -> Result<(), TrainError> {
        let files = std::mem::take(&mut self.files);
        let origin = Origin { written_by: self.target.command.to_owned(), files, from };
        let text = serde_json::to_string_pretty(&origin).unwrap_or_else(|error| unreachable!("plain data: {error}"));
        self.write(ORIGIN, (text + "\n").as_bytes())?;
        let target = &self.target.path;
        let failed = |source| TrainError::io(target.clone(), source);
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

impl Drop for StagedDir {
    fn drop(&mut self) {
        // After `finish` there is nothing under this name.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn parent(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A hidden name beside the target.
fn hidden(target: &Path, what: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{what}-{}.tmp", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(target: &Path, text: &str) -> Result<(), TrainError> {
        let mut staged = OutputDir::check(target, "test")?.begin()?;
        staged.write("a.txt", text.as_bytes())?;
        staged.finish(serde_json::Value::Null)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut all: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        all.sort();
        all
    }

    #[test]
    fn only_its_own_output_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("deep/out");
        write(&target, "one").unwrap();
        write(&target, "two").unwrap();
        assert_eq!(fs::read(target.join("a.txt")).unwrap(), b"two");
        assert_eq!(names(&target), ["a.txt", ORIGIN]);
        let error = OutputDir::check(&target, "other").unwrap_err().to_string();
        assert!(error.contains("not an earlier output of `other`"), "{error}");
        fs::write(target.join("mine.txt"), "mine").unwrap();
        let error = write(&target, "three").unwrap_err().to_string();
        assert!(error.contains("`mine.txt`") && error.contains("would delete"), "{error}");
        assert_eq!(fs::read(target.join("a.txt")).unwrap(), b"two");
        for (target, part) in [(root.path().join("deep/out/a.txt"), "is a file"), (PathBuf::from(".."), "no name")] {
            let error = OutputDir::check(&target, "test").unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("out");
        let mut staged = OutputDir::check(&target, "test").unwrap().begin().unwrap();
        staged.write("a.txt", b"half").unwrap();
        drop(staged);
        assert!(names(root.path()).is_empty());
    }
}
