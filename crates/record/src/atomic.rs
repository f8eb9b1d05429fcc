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

/// Removes below `folder` what [`write_atomic`] leaves when its process is killed. Files of processes that live are theirs.
///
/// Best effort: what cannot be listed or removed stays, and no reader takes it for a file.
pub(crate) fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder {
            sweep(&entry.path());
        } else if writer(&entry.file_name().to_string_lossy()).is_some_and(|pid| !lives(pid, &entry.path())) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The process that a temporary file's name tells of; none for the name of another file.
fn writer(name: &str) -> Option<u32> {
    let inner = name.strip_prefix('.')?.strip_suffix(".tmp")?;
    let (pid, count) = inner.rsplit_once('.')?.1.split_once('-')?;
    count.parse::<u64>().ok()?;
    pid.parse().ok()
}

/// Whether a process that was writing `file` may still do so. Where the system does not list its processes, an hour is longer than a write.
fn lives(pid: u32, file: &Path) -> bool {
    let all = Path::new("/proc");
    if all.join("self").exists() {
        return all.join(pid.to_string()).exists();
    }
    let age = fs::metadata(file).and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
    age.is_none_or(|age| age.as_secs() < 3600)
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

    #[test]
    fn what_dead_processes_left_is_swept_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let tables = directory.path().join("tables");
        fs::create_dir(&tables).unwrap();
        // Linux gives no process this number.
        let dead = u32::MAX;
        let kept = [
            format!(".main.md.{}-7.tmp", std::process::id()),
            "main.md".to_owned(),
            ".hidden".to_owned(),
            ".notes.tmp".to_owned(),
            format!("main.{dead}-1.tmp"),
            format!(".main.{dead}-one.tmp"),
        ];
        for name in kept.iter().chain(&[format!(".main.md.{dead}-76.tmp"), format!(".record.json.{dead}-0.tmp")]) {
            fs::write(tables.join(name), b"x").unwrap();
        }
        sweep(directory.path());
        let (mut left, mut wanted) = (names(&tables), kept.to_vec());
        left.sort();
        wanted.sort();
        assert_eq!(left, wanted);
    }
}
