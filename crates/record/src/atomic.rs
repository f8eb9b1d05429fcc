//! Atomic writes: readers see the old file or the new one, never a part of it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::error::RecordError;
use crate::temporary;

/// Writes `bytes` to a temporary file and renames it to `path`. The directory must exist.
///
/// The bytes are on the disk before the rename. On any failure (no space left, no permission) an older file at `path` stays as it
/// was, and the temporary file is removed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    write_through(directory_of(path), path, bytes)
}

/// The same, whose temporary file is in the directory `through`. Where that was moved away before the rename, nothing is written and this fails:
/// whoever moves the directory of work that somebody lost knows that no file of it comes after.
///
/// No file can be renamed from one file system to another, as where results are a link. There the temporary file lies beside `path`, and whether
/// `through` is still in its place is asked right before the rename: a directory that is moved between the two is not noticed.
pub fn write_through(through: &Path, path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let failed = || RecordError::io("write", path);
    let name = path.file_name().unwrap_or_default();
    let (temporary, file) = temporary::create_beside(&through.join(name)).map_err(failed())?;
    let written = write_and_rename(file, &temporary, path, bytes);
    if written.is_err() {
        // Best effort: the first error is the one to report, and the name ends in `.tmp`.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed())
}

fn write_and_rename(mut file: File, temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    match fs::rename(temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => rename_across(temporary, path, bytes)?,
        done => done?,
    }
    sync_directory(directory_of(path))
}

/// Brings `bytes` to `path` on another file system than `temporary`, which is removed; nothing where that is gone.
fn rename_across(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (beside, mut file) = temporary::create_beside(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    // What is removed here lies in a directory that nobody has moved.
    let renamed = written.and_then(|()| fs::remove_file(temporary)).and_then(|()| fs::rename(&beside, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&beside); // the first error is the one to report
    }
    renamed
}

/// Creates a directory and those above it, and makes their entries durable: a file that is written into it outlives a power cut only if
/// the directory does.
pub fn create_directory(path: &Path) -> Result<(), RecordError> {
    let holders = holders(path);
    fs::create_dir_all(path).map_err(RecordError::io("create the directory", path))?;
    holders.into_iter().try_for_each(sync_directory).map_err(RecordError::io("create the directory", path))
}

/// The directories that get an entry when `path` is created, the outermost first; the one that holds it in any case, since whoever
/// created it may have been killed before that was durable.
fn holders(path: &Path) -> Vec<&Path> {
    let mut found = vec![directory_of(path)];
    while let Some(outer) = found.last().filter(|holder| !holder.exists()).map(|holder| directory_of(holder)) {
        // The working directory, which is its own holder here, may have been removed.
        if found.last() == Some(&outer) {
            break;
        }
        found.push(outer);
    }
    found.reverse();
    found
}

/// The directory that a path lies in.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a directory's entries durable where directories can be opened; elsewhere the system offers no way.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
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

    /// Where the memory of the machine is another file system than its temporary files.
    #[cfg(unix)]
    #[test]
    fn a_file_comes_from_a_directory_on_another_file_system() {
        use std::os::unix::fs::MetadataExt;

        let (here, memory) = (tempfile::tempdir().unwrap(), Path::new("/dev/shm"));
        let device = |path: &Path| fs::metadata(path).map(|data| data.dev()).ok();
        if device(memory).is_none_or(|of_memory| Some(of_memory) == device(here.path())) {
            println!("not asked: /dev/shm is no file system of its own here");
            return;
        }
        let there = tempfile::tempdir_in(memory).unwrap();
        let (path, work) = (here.path().join("record.json"), there.path().join("cohort"));
        fs::create_dir(&work).unwrap();
        write_through(&work, &path, b"one").unwrap();
        write_through(&work, &path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!((names(here.path()), names(&work)), (vec!["record.json".to_owned()], Vec::new()));
        // Its owner has lost the work: it was moved while the bytes were written.
        let (temporary, _file) = temporary::create_beside(&work.join("record.json")).unwrap();
        fs::rename(&work, there.path().join("moved")).unwrap();
        assert!(rename_across(&temporary, &path, b"late").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(here.path()), ["record.json"]);
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
    fn every_directory_that_gets_an_entry_is_made_durable() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let deep = at("results/glue/runs/cell");
        assert_eq!(holders(&deep), [directory.path(), &at("results"), &at("results/glue"), &at("results/glue/runs")]);
        create_directory(&deep).unwrap();
        assert!(deep.is_dir());
        // Its own entry again: a killed process may have left it.
        assert_eq!(holders(&deep), [at("results/glue/runs")]);
        assert_eq!(holders(Path::new("results")), [Path::new(".")]);
        // Nothing on the way is there: it ends all the same.
        assert_eq!(holders(Path::new("no/such")), [Path::new("."), Path::new("no")]);
        fs::write(at("file"), b"").unwrap();
        let message = create_directory(&at("file/runs")).unwrap_err().to_string();
        assert!(message.contains("file/runs: cannot create the directory"), "{message}");
    }
}
