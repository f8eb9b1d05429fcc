//! The lock on an experiment: one process trains it at a time, and whoever meets the lock is told who holds it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::RecordError;
use crate::temporary::sweep;

/// Where a holder says who it is. What it says counts only while the lock is held: a process that was killed leaves it behind.
const HOLDER: &str = ".holder";

/// A held lock; the system unlocks it when this is dropped or the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    holder: PathBuf,
}

impl Lock {
    /// Locks `folder`, an existing one, for the experiment at `directory`, and clears away what dead processes left there of files that they
    /// were writing.
    pub(crate) fn take(folder: &Path, directory: &Path) -> Result<Self, RecordError> {
        // The folder itself, so that the lock needs no file that somebody may delete.
        let file = File::open(folder).map_err(RecordError::io("open", folder))?;
        let holder = folder.join(HOLDER);
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let said = fs::read_to_string(&holder).ok().and_then(|text| describe(&text));
                let holder = said.unwrap_or_else(|| "which has not said its number yet".to_owned());
                return Err(RecordError::InUse { path: directory.display().to_string(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(RecordError::io("lock", folder)(source)),
        }
        let text = format!("{} {} {}", std::process::id(), now().as_secs(), host());
        fs::write(&holder, text).map_err(RecordError::io("write", &holder))?;
        sweep(directory);
        Ok(Self { _file: file, holder })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the lock goes, so that it is never the next holder's. Left behind, it says nothing.
        let _ = fs::remove_file(&self.holder);
    }
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
