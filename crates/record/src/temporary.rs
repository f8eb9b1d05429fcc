//! Names of files that are being written, and what killed processes have left of them.
//!
//! A name is `.<file>.<machine>-<pid>-<process>-<count>.tmp`. Process ids alone tell writers apart neither in containers, where the
//! program may always be number 1, nor on a shared file system, where two machines count for themselves. So a name has the machine (its
//! name, its boot and the namespace of its process ids) and a number that each process draws.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::hash::sha256_hex;
use crate::lock::host;

/// Longer than any write takes: what another machine has not touched for as long is nobody's.
const LEFT: Duration = Duration::from_hours(1);

/// Attempts at a free name.
const ATTEMPTS: usize = 16;

/// Who writes a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Writer {
    /// Where its process id counts.
    machine: String,
    pid: u32,
    /// A random number of the process.
    process: String,
}

/// This process.
static OWN: LazyLock<Writer> = LazyLock::new(|| {
    // Each state of the standard hasher has keys of its own from the system's randomness.
    let process = format!("{:016x}", RandomState::new().build_hasher().finish());
    Writer { machine: machine(), pid: std::process::id(), process }
});

/// Where this process's id counts, in eight digits.
fn machine() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let all = format!("{}\n{boot}\n{}", host(), namespace.display());
    sha256_hex(all.as_bytes())[..8].to_owned()
}

/// What tells the names of this process's temporary files and folders from those of others.
pub fn process_mark() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (Writer { machine, pid, process }, count) = (&*OWN, COUNT.fetch_add(1, Ordering::Relaxed));
    format!("{machine}-{pid}-{process}-{count}")
}

/// Whether a temporary file or folder, named by [`process_mark`], is of a process that is gone.
pub fn is_left_behind(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    writer(&name).is_some_and(|writer| is_left(&writer, path))
}

/// A new file beside `path`, under a hidden name that nobody else uses.
pub(crate) fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    create_as(path, process_mark)
}

/// The same with a name of `mark`, which is asked again where a file has it.
fn create_as(path: &Path, mut mark: impl FnMut() -> String) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut attempt = || {
        let temporary = path.with_file_name(format!(".{name}.{}.tmp", mark()));
        OpenOptions::new().write(true).create_new(true).open(&temporary).map(|file| (temporary, file))
    };
    let is_taken = |made: &io::Result<_>| made.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists);
    let mut made = attempt();
    for _ in 1..ATTEMPTS {
        if !is_taken(&made) {
            break;
        }
        made = attempt();
    }
    made
}

/// Removes below `folder` what writers leave when they are killed. Files of processes that live are theirs.
///
/// Best effort: what cannot be listed or removed stays, and no reader takes it for a file.
pub(crate) fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder {
            sweep(&entry.path());
        } else if writer(&entry.file_name().to_string_lossy()).is_some_and(|writer| is_left(&writer, &entry.path())) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whom a temporary file's name tells of; none for the name of another file. Earlier builds wrote `<pid>-<count>`, which says nothing of
/// the machine.
fn writer(name: &str) -> Option<Writer> {
    let inner = name.strip_prefix('.')?.strip_suffix(".tmp")?;
    let parts: Vec<&str> = inner.rsplit_once('.')?.1.split('-').collect();
    let (machine, pid, process, count) = match parts[..] {
        [pid, count] => ("", pid, "", count),
        [machine, pid, process, count] => (machine, pid, process, count),
        _ => return None,
    };
    count.parse::<u64>().ok()?;
    Some(Writer { machine: machine.to_owned(), pid: pid.parse().ok()?, process: process.to_owned() })
}

/// Whether a mark of [`process_mark`] is of a process of this machine that is gone. Of another machine's nothing is known.
pub(crate) fn is_of_dead_process(mark: &str) -> bool {
    let writer = writer(&format!(".x.{mark}.tmp"));
    writer.is_some_and(|writer| writer.machine == OWN.machine && is_dead(&writer))
}

/// Whether a mark is of a process of this machine that lives.
pub(crate) fn is_of_living_process(mark: &str) -> bool {
    let writer = writer(&format!(".x.{mark}.tmp"));
    writer.is_some_and(|writer| writer.machine == OWN.machine && !is_dead(&writer))
}

/// Whether nobody writes a file any more. Another machine's processes cannot be asked, and its files are left alone until they are old.
fn is_left(writer: &Writer, file: &Path) -> bool {
    let processes = Path::new("/proc");
    if writer.machine != OWN.machine || !processes.join("self").exists() {
        return is_old(file);
    }
    is_dead(writer)
}

/// Whether a process of this machine is gone, where the system lists its processes.
fn is_dead(writer: &Writer) -> bool {
    let processes = Path::new("/proc");
    if writer.pid == OWN.pid {
        // An earlier process of the same number, as every one is in a container.
        return writer.process != OWN.process;
    }
    let stat = fs::read_to_string(processes.join(writer.pid.to_string()).join("stat"));
    // One that was killed stays on the list until its parent has asked for it.
    let is_zombie = |stat: &str| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
    match stat {
        Ok(stat) => is_zombie(&stat),
        Err(error) => error.kind() == ErrorKind::NotFound && processes.join("self").exists(),
    }
}

/// Whether a file was not written for longer than any write takes.
pub(crate) fn is_old(file: &Path) -> bool {
    let age = fs::metadata(file).and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age > LEFT)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let all = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut all: Vec<String> = all.collect();
        all.sort();
        all
    }

    #[test]
    #[cfg_attr(miri, ignore = "sets the times of files")]
    fn what_dead_processes_left_is_swept_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let tables = directory.path().join("tables");
        fs::create_dir(&tables).unwrap();
        let Writer { machine, pid, process } = &*OWN;
        // Linux gives no process this number.
        let dead = u32::MAX;
        let mut kept = vec![
            format!(".main.md.{machine}-{pid}-{process}-7.tmp"),
            // Of another machine, whose process may live; and of an earlier build, whose machine is unknown.
            format!(".main.md.0badcafe-{dead}-{process}-7.tmp"),
            format!(".main.md.{dead}-76.tmp"),
            "main.md".to_owned(),
            ".hidden".to_owned(),
            ".notes.tmp".to_owned(),
            format!("main.{machine}-{dead}-{process}-1.tmp"),
            format!(".main.{machine}-{dead}-{process}-one.tmp"),
        ];
        let gone = [
            format!(".main.md.{machine}-{dead}-{process}-76.tmp"),
            // The number of this process, but an earlier one's: a container's first process is always 1.
            format!(".record.json.{machine}-{pid}-0123456789abcdef-0.tmp"),
        ];
        for name in kept.iter().chain(&gone) {
            fs::write(tables.join(name), b"x").unwrap();
        }
        let old = [format!(".old.md.0badcafe-1-{process}-7.tmp"), ".old.md.1-0.tmp".to_owned()];
        for name in &old {
            let file = File::create(tables.join(name)).unwrap();
            file.set_modified(SystemTime::now() - 2 * LEFT).unwrap();
        }
        sweep(directory.path());
        kept.sort();
        assert_eq!(names(&tables), kept);
    }

    #[test]
    fn a_name_that_is_taken_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.json");
        let (first, _) = create_beside(&path).unwrap();
        assert_ne!(create_beside(&path).unwrap().0, first);
        let mut marks = ["1-0", "1-0", "1-1"].into_iter().map(str::to_owned);
        create_as(&path, || marks.next().unwrap()).unwrap();
        let (third, _) = create_as(&path, || marks.next().unwrap()).unwrap();
        assert!(third.ends_with(".record.json.1-1.tmp"), "{}", third.display());
        let taken = create_as(&path, || "1-0".to_owned()).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_name_tells_of_its_writer() {
        let directory = tempfile::tempdir().unwrap();
        let (path, _) = create_beside(&directory.path().join("a.b-c.json")).unwrap();
        assert_eq!(writer(&path.file_name().unwrap().to_string_lossy()).as_ref(), Some(&*OWN));
        assert_eq!(OWN.machine, machine(), "the same for every process of a machine");
        assert_eq!(OWN.process.len(), 16);
    }
}
