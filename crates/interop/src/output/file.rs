//! Single files, written whole or not at all.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use record::write_atomic;
use trainer::error::TrainError;

use super::{Guard, parent, place};

/// A file that may be written.
#[derive(Clone, Debug)]
pub struct OutputFile(PathBuf);

/// Bytes of a file from which its writer is known.
const HEAD: u64 = 1 << 16;

impl OutputFile {
    /// Checks before any work that `target` may be written: it is not there, or `is_own` knows the beginning of it as what the same
    /// command writes.
    pub fn check(target: &Path, guard: &Guard, is_own: &dyn Fn(&[u8]) -> bool) -> Result<Self, TrainError> {
        let refused = |reason: &str| Err(TrainError::foreign(target.to_owned(), reason.to_owned()));
        let path = place(target)?;
        guard.spare_inputs(target, &path)?;
        if path.is_dir() {
            return refused("is a folder, but a file is written; give another name");
        }
        if !parent(&path).is_dir() {
            return refused("its folder does not exist; make it first");
        }
        if !path.exists() {
            return Ok(Self(path));
        }
        if guard.is_inside_an_input(&path) {
            return refused("is part of an input of this command; give another `--out`");
        }
        let mut head = Vec::new();
        let opened = File::open(&path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
        opened.map_err(|source| TrainError::io(target.to_owned(), source))?;
        if !guard.is_forced && !is_own(&head) {
            return refused(
                "is there already and not an earlier output of this command; give another name, or `--force`",
            );
        }
        Ok(Self(path))
    }

    /// Writes the file in one step.
    pub fn write(&self, bytes: &[u8]) -> Result<(), TrainError> {
        Ok(write_atomic(&self.0, bytes)?)
    }
}
