//! Atomic writes: readers see the old file or the new one, never a part of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::RecordError;

/// Writes `bytes` to a temporary file and renames it to `path`. The directory must exist.
///
/// The bytes are on the disk before the rename. On any failure (no space left, no permission) an older file at `path` stays as it
/// was, and the temporary file is removed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let temporary = temporary_beside(path);
    let written = write_and_rename(&temporary, path, bytes);
    if written.is_err() {
        // Best effort: the first error is the one to report, and the name ends in `.tmp`.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(RecordError::io("write", path))
}

fn write_and_rename(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(temporary, path)?;
    sync_directory(path)
}

/// Makes the rename itself durable where directories can be opened; elsewhere the system offers no way.
fn sync_directory(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// A hidden name that no other thread or process uses at the same time.
fn temporary_beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{count}.tmp", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_written_and_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.json");
        write_atomic(&path, b"long old text").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["record.json"]);
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gone/record.json");
        let message = write_atomic(&path, b"x").unwrap_err().to_string();
        assert!(message.starts_with(&format!("{}: cannot write: ", path.display())), "{message}");
    }

    #[test]
    fn a_failed_rename_leaves_the_old_state_and_no_debris() {
        let directory = tempfile::tempdir().unwrap();
        // A directory in the file's place makes the last step fail, for the superuser too.
        let path = directory.path().join("record.json");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"kept").unwrap();
        assert!(write_atomic(&path, b"x").is_err());
        assert_eq!(fs::read(path.join("inside")).unwrap(), b"kept");
        assert_eq!(names(directory.path()), ["record.json"]);
    }

    #[test]
    fn writers_in_many_threads_leave_one_whole_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.json");
        std::thread::scope(|scope| {
            for letter in b'a'..b'i' {
                let path = &path;
                scope.spawn(move || write_atomic(path, &[letter; 10_000]).unwrap());
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 10_000 && bytes.iter().all(|byte| *byte == bytes[0]));
        assert_eq!(names(directory.path()), ["record.json"]);
    }
}
