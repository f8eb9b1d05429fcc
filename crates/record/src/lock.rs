//! The lock on an experiment: any number of processes train it together, and one that takes records away has it for itself.
//!
//! File systems without locks (some networked ones) are passed over here: there [leases](crate::lease) alone tell who is at work.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::RecordError;
use crate::temporary::sweep;

/// Where one that has the experiment for itself says who it is. What it says counts only while the lock is held: a process that was killed
/// leaves it behind.
const HOLDER: &str = ".holder";

/// How long one waits that wants to join: nobody has an experiment for itself for longer than it takes to remove files.
const JOINING: Duration = Duration::from_secs(2);

/// A held lock; the system unlocks it when this is dropped or the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    /// What an exclusive holder has written.
    holder: Option<PathBuf>,
}

impl Lock {
    /// Locks `folder`, an existing one, beside others that do the same for the experiment at `directory`, and clears away what dead processes
    /// left there of files that they were writing.
    pub(crate) fn share(folder: &Path, directory: &Path) -> Result<Self, RecordError> {
        // The folder itself, so that the lock needs no file that somebody may delete.
        let file = File::open(folder).map_err(RecordError::io("open", folder))?;
        let begun = Instant::now();
        loop {
            match file.try_lock_shared() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < JOINING => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Err(in_use(folder, directory)),
                Err(TryLockError::Error(source)) if has_none(&source) => break,
                Err(TryLockError::Error(source)) => return Err(RecordError::io("lock", folder)(source)),
            }
        }
        sweep(directory);
        Ok(Self { _file: file, holder: None })
    }

    /// Locks `folder` against all others.
    pub(crate) fn take(folder: &Path, directory: &Path) -> Result<Self, RecordError> {
        let file = File::open(folder).map_err(RecordError::io("open", folder))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(folder, directory)),
            Err(TryLockError::Error(source)) if has_none(&source) => {}
            Err(TryLockError::Error(source)) => return Err(RecordError::io("lock", folder)(source)),
        }
        let holder = folder.join(HOLDER);
        let text = format!("{} {} {}", std::process::id(), now().as_secs(), host());
        fs::write(&holder, text).map_err(RecordError::io("write", &holder))?;
        sweep(directory);
        Ok(Self { _file: file, holder: Some(holder) })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the lock goes, so that it is never the next holder's. Left behind, it says nothing.
        if let Some(holder) = &self.holder {
            let _ = fs::remove_file(holder);
        }
    }
}

/// Whether an answer is that of a file system without locks, or of NFS, which locks no folder against all.
fn has_none(error: &io::Error) -> bool {
    // EBADF, ENOLCK
    error.kind() == ErrorKind::Unsupported || (cfg!(unix) && matches!(error.raw_os_error(), Some(9 | 37)))
}

/// Who has the lock: one that says so, or workers, of which each has a lease.
fn in_use(folder: &Path, directory: &Path) -> RecordError {
    let said = fs::read_to_string(folder.join(HOLDER)).ok().and_then(|text| describe(&text));
    let workers =
        || crate::lease::holders(&folder.join(crate::store::LEASES), crate::store::WORKER).unwrap_or_default();
    let holder = said.or_else(|| workers().first().map(|(_, holder)| holder.to_string()));
    let holder = holder.unwrap_or_else(|| "which has not said its number yet".to_owned());
    RecordError::InUse { path: directory.display().to_string(), holder }
}

/// A holder in words, from what it wrote.
fn describe(text: &str) -> Option<String> {
    let mut parts = text.splitn(3, ' ');
    let (pid, since, host) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let minutes = now().saturating_sub(Duration::from_secs(since)).as_secs() / 60;
    Some(format!("process {pid} on {host}, for {minutes} min"))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The machine's name, where the system tells.
pub(crate) fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    name.ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "this host".to_owned())
}
