//! Leases: which of several processes does a piece of work, told by files alone.
//!
//! A lease on the work `NAME` is the file `NAME.GENERATION` in a folder that all processes see. Whoever creates it has the work:
//! `O_CREAT | O_EXCL` succeeds for one of them, on a local file system and on NFS. It holds its owner and a count that the owner raises while it
//! lives. Who finds the count unchanged for [`patience`](Leases::open), by its own clock, takes the work over: it creates the next
//! generation, which again succeeds for one process alone. Clocks of machines are never compared. An owner that is gone from this machine's
//! list of processes is not waited for.
//!
//! An owner that slept through its lease (a frozen process, a lost network) finds a higher generation or no file of its own when it wakes: it
//! never creates a file again that it has once created. It asks by [`check`](Lease::check) before it writes anything that others would
//! read. Between that question and the write lie microseconds in which it may freeze again; so what is written then must be the same whoever
//! writes it, as a run's record is.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::RecordError;
use crate::lock::host;
use crate::temporary::{is_of_dead_process, is_of_living_process, is_old, process_mark};

/// Bytes of a lease's file: always the same, so that it is renewed in place, which cannot bring back a file that was taken away.
const LENGTH: usize = 512;

/// The longest note, in bytes.
const NOTE: usize = 200;

/// What a lease's file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    /// The owner, as its temporary files have it.
    mark: String,
    host: String,
    pid: u32,
    /// How often it was renewed.
    count: u64,
    /// What the owner says of its work.
    note: String,
}

/// Who has a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The machine's name; empty where the file does not tell yet.
    pub host: String,
    /// The process there.
    pub pid: u32,
    /// What it says of its work.
    pub note: String,
    mark: String,
}

impl Holder {
    /// Whether it is a process of this machine that lives.
    pub fn is_alive_here(&self) -> bool {
        is_of_living_process(&self.mark)
    }

    /// Whether it is a process of this machine that has ended, and left its lease behind.
    pub fn is_dead_here(&self) -> bool {
        is_of_dead_process(&self.mark)
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.is_empty() {
            return f.write_str("a process that has not said its number yet");
        }
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

/// The leases of a folder, as one process sees and holds them.
#[derive(Debug)]
pub struct Leases {
    shared: Arc<Shared>,
    heartbeat: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    patience: Duration,
    held: Mutex<Vec<Arc<Held>>>,
    /// What others' leases said last, and since when.
    seen: Mutex<BTreeMap<PathBuf, (Vec<u8>, Instant)>>,
    ends: Mutex<bool>,
    wake: Condvar,
}

#[derive(Debug)]
struct Held {
    path: PathBuf,
    name: String,
    generation: u64,
    claim: Mutex<Claim>,
    /// When the file was last found to be its own.
    confirmed: Mutex<Instant>,
    lost: AtomicBool,
}

/// What came of asking for a lease.
#[derive(Debug)]
pub enum Asked {
    /// It is this process's.
    Taken(Lease),
    /// Somebody else has it.
    Held(Holder),
}

/// A lease that this process holds; given back when it is dropped.
#[derive(Debug)]
pub struct Lease {
    held: Arc<Held>,
    shared: Arc<Shared>,
}

impl Leases {
    /// The leases in `folder`, which is created. `patience` is how long an owner may be silent before its work is taken over; leases held
    /// here are renewed six times as often.
    pub fn open(folder: &Path, patience: Duration) -> Result<Self, RecordError> {
        fs::create_dir_all(folder).map_err(RecordError::io("create the directory", folder))?;
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            patience,
            held: Mutex::default(),
            seen: Mutex::default(),
            ends: Mutex::new(false),
            wake: Condvar::new(),
        });
        let renewing = Arc::clone(&shared);
        let heartbeat = std::thread::Builder::new().name("leases".to_owned()).spawn(move || renewing.beat());
        let heartbeat = heartbeat.map_err(RecordError::io("start the renewal of leases in", folder))?;
        Ok(Self { shared, heartbeat: Some(heartbeat) })
    }

    /// Asks for the work `name`, of letters, digits, `-` and `_`.
    pub fn take(&self, name: &str) -> Result<Asked, RecordError> {
        let Some((generation, path)) = self.shared.highest(name)? else { return self.shared.create(name, 1) };
        let holder = match fs::read(&path) {
            // Given back in this moment.
            Err(error) if is_gone(&error) => return self.shared.create(name, generation + 1),
            bytes => self.shared.silent(&path, bytes.map_err(RecordError::io("read", &path))?),
        };
        match holder {
            Some(holder) => Ok(Asked::Held(holder)),
            None => self.shared.create(name, generation + 1),
        }
    }

    /// Waits for the work `name`; none where `stops` says so first.
    pub fn wait(&self, name: &str, stops: impl Fn() -> bool) -> Result<Option<Lease>, RecordError> {
        let mut pause = Duration::from_millis(2);
        loop {
            if let Asked::Taken(lease) = self.take(name)? {
                return Ok(Some(lease));
            }
            if stops() {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(250)).min(self.shared.patience / 4);
        }
    }

    /// Every lease whose name begins with `prefix` and who has it. The owner may be gone; see [`take`](Self::take).
    pub fn holders(&self, prefix: &str) -> Result<Vec<(String, Holder)>, RecordError> {
        holders(&self.shared.folder, prefix)
    }

    /// Clears away leases whose names begin with `prefix` and whose owners are gone: they were killed.
    pub fn clear(&self, prefix: &str) -> Result<(), RecordError> {
        let own: Vec<PathBuf> = locked(&self.shared.held).iter().map(|held| held.path.clone()).collect();
        for (name, _, path) in self.shared.entries(|name| name.starts_with(prefix))? {
            if own.contains(&path) {
                continue;
            }
            // Of another machine's owners nothing is known but that they are silent, for longer than any two clocks are apart.
            let is_old = is_old(&path);
            if is_old || matches!(self.take(&name)?, Asked::Taken(_)) {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }

    /// Who has leases whose names begin with `prefix`, and lives: this asks for as long as an owner may be silent, where one does not say.
    pub fn alive(&self, prefix: &str) -> Result<Option<Holder>, RecordError> {
        loop {
            let all = self.shared.entries(|name| name.starts_with(prefix))?;
            let own: Vec<PathBuf> = locked(&self.shared.held).iter().map(|held| held.path.clone()).collect();
            let mut in_doubt = false;
            for (_, _, path) in all.into_iter().filter(|(_, _, path)| !own.contains(path)) {
                let Ok(bytes) = fs::read(&path) else { continue };
                let before = locked(&self.shared.seen).get(&path).map(|(bytes, _)| bytes.clone());
                let renewed = before.is_some_and(|before| before != bytes);
                match self.shared.silent(&path, bytes) {
                    Some(holder) if renewed || holder.is_alive_here() => return Ok(Some(holder)),
                    Some(_) => in_doubt = true,
                    None => {
                        let _ = fs::remove_file(&path);
                    }
                }
            }
            if !in_doubt {
                return Ok(None);
            }
            std::thread::sleep(self.shared.patience / 10);
        }
    }
}

/// Every lease in a folder whose name begins with `prefix` and who has it, or had it when it died.
pub fn holders(folder: &Path, prefix: &str) -> Result<Vec<(String, Holder)>, RecordError> {
    let mut found = BTreeMap::new();
    for (name, _, path) in entries(folder, |name| name.starts_with(prefix))? {
        if let Ok(bytes) = fs::read(&path) {
            // The highest generation comes last.
            found.insert(name, holder(&bytes));
        }
    }
    Ok(found.into_iter().collect())
}

impl Drop for Leases {
    fn drop(&mut self) {
        *locked(&self.shared.ends) = true;
        self.shared.wake.notify_all();
        if let Some(heartbeat) = self.heartbeat.take() {
            let _ = heartbeat.join();
        }
        // The last to leave; not empty, it is others'.
        let _ = fs::remove_dir(&self.shared.folder);
    }
}

impl Shared {
    /// Renews what is held until the end.
    fn beat(&self) {
        let mut ends = locked(&self.ends);
        while !*ends {
            let waited = self.wake.wait_timeout(ends, self.patience / 6);
            ends = waited.unwrap_or_else(PoisonError::into_inner).0;
            let held: Vec<Arc<Held>> = locked(&self.held).clone();
            held.iter().filter(|_| !*ends).for_each(|held| held.renew(self));
        }
    }

    /// Files of leases whose names are sought, with name and generation, the highest generation last.
    fn entries(&self, is_sought: impl Fn(&str) -> bool) -> Result<Vec<(String, u64, PathBuf)>, RecordError> {
        entries(&self.folder, is_sought)
    }

    fn highest(&self, name: &str) -> Result<Option<(u64, PathBuf)>, RecordError> {
        let all = self.entries(|other| other == name)?;
        Ok(all.into_iter().next_back().map(|(_, generation, path)| (generation, path)))
    }

    /// The holder of a lease that says `bytes`; none where it is gone or was silent for too long.
    fn silent(&self, path: &Path, bytes: Vec<u8>) -> Option<Holder> {
        let found = holder(&bytes);
        let claim: Option<Claim> = serde_json::from_slice(&bytes).ok();
        if claim.is_some_and(|claim| is_of_dead_process(&claim.mark)) {
            return None;
        }
        let mut seen = locked(&self.seen);
        match seen.get(path) {
            Some((before, since)) if *before == bytes => {
                if since.elapsed() > self.patience {
                    return None;
                }
            }
            _ => {
                seen.insert(path.to_owned(), (bytes, Instant::now()));
            }
        }
        Some(found)
    }

    /// Creates a lease of this generation, unless somebody else does.
    fn create(self: &Arc<Self>, name: &str, generation: u64) -> Result<Asked, RecordError> {
        let path = self.folder.join(format!("{name}.{generation}"));
        let claim =
            Claim { mark: process_mark(), host: host(), pid: std::process::id(), count: 0, note: String::new() };
        let asked = Instant::now();
        let open = || OpenOptions::new().write(true).create_new(true).open(&path);
        let opened = open().or_else(|error| {
            // Somebody who left thought to be the last.
            if !is_gone(&error) {
                return Err(error);
            }
            fs::create_dir_all(&self.folder)?;
            open()
        });
        let mut file = match opened {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let bytes = fs::read(&path).unwrap_or_default();
                return Ok(Asked::Held(holder(&bytes)));
            }
            file => file.map_err(RecordError::io("create", &path))?,
        };
        if let Err(source) = file.write_all(&bytes_of(&claim)) {
            // A full disk: nobody has the work.
            let _ = fs::remove_file(&path);
            return Err(RecordError::io("write", &path)(source));
        }
        drop(file);
        for (_, _, older) in self.entries(|other| other == name)?.into_iter().filter(|(_, of, _)| *of < generation) {
            let _ = fs::remove_file(&older);
            locked(&self.seen).remove(&older);
        }
        let held = Arc::new(Held {
            path,
            name: name.to_owned(),
            generation,
            claim: Mutex::new(claim),
            confirmed: Mutex::new(asked),
            lost: AtomicBool::new(false),
        });
        locked(&self.held).push(Arc::clone(&held));
        Ok(Asked::Taken(Lease { held, shared: Arc::clone(self) }))
    }
}

impl Held {
    /// Raises the count, if the lease is still its own.
    fn renew(&self, shared: &Shared) {
        if !self.check(shared) {
            return;
        }
        let bytes = {
            let mut claim = locked(&self.claim);
            claim.count += 1;
            bytes_of(&claim)
        };
        // No `create`: a file that was taken away stays away.
        let written = OpenOptions::new().write(true).open(&self.path).and_then(|mut file| file.write_all(&bytes));
        if written.is_err_and(|error| is_gone(&error)) {
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it is still its own, by what lies in the folder. Where that cannot be read, it is for as long as others wait.
    fn check(&self, shared: &Shared) -> bool {
        if self.lost.load(Ordering::Relaxed) {
            return false;
        }
        let asked = Instant::now();
        match self.is_own(shared) {
            Ok(true) => *locked(&self.confirmed) = asked,
            Ok(false) => self.lost.store(true, Ordering::Relaxed),
            Err(_) if locked(&self.confirmed).elapsed() > shared.patience => self.lost.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
        !self.lost.load(Ordering::Relaxed)
    }

    fn is_own(&self, shared: &Shared) -> io::Result<bool> {
        let bytes = match fs::read(&self.path) {
            Err(error) if is_gone(&error) => return Ok(false),
            bytes => bytes?,
        };
        let claim: Option<Claim> = serde_json::from_slice(&bytes).ok();
        // Half of a renewal of its own is its own.
        if claim.is_some_and(|claim| claim.mark != locked(&self.claim).mark) {
            return Ok(false);
        }
        let all = shared.entries(|name| name == self.name).map_err(io::Error::other)?;
        Ok(all.into_iter().all(|(_, generation, _)| generation <= self.generation))
    }
}

impl Lease {
    /// Whether the work is still this process's: it asks the folder.
    pub fn check(&self) -> bool {
        self.held.check(&self.shared)
    }

    /// Set once the work is known to be another's.
    pub fn lost(&self) -> &AtomicBool {
        &self.held.lost
    }

    /// How many have had the work before since it was last given back: 1 for none.
    pub fn generation(&self) -> u64 {
        self.held.generation
    }

    /// What others are told of the work from the next renewal on.
    pub fn say(&self, note: &str) {
        let end = (0..=note.len().min(NOTE)).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        note[..end].clone_into(&mut locked(&self.held.claim).note);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        locked(&self.shared.held).retain(|held| !Arc::ptr_eq(held, &self.held));
        if self.check() {
            // Left behind, it is taken over.
            let _ = fs::remove_file(&self.held.path);
        }
    }
}

/// Files of leases in a folder, with name and generation, sorted.
fn entries(folder: &Path, is_sought: impl Fn(&str) -> bool) -> Result<Vec<(String, u64, PathBuf)>, RecordError> {
    let io = || RecordError::io("list", folder);
    let listed = match fs::read_dir(folder) {
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        listed => listed.map_err(io())?,
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.map_err(io())?;
        let file = entry.file_name();
        let parts = file.to_str().and_then(|file| file.rsplit_once('.'));
        let Some((name, generation)) = parts.and_then(|(name, of)| Some((name, of.parse().ok()?))) else { continue };
        if is_sought(name) {
            found.push((name.to_owned(), generation, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Who wrote these bytes.
fn holder(bytes: &[u8]) -> Holder {
    match serde_json::from_slice::<Claim>(bytes) {
        Ok(Claim { host, pid, note, mark, .. }) => Holder { host, pid, note, mark },
        Err(_) => Holder { host: String::new(), pid: 0, note: String::new(), mark: String::new() },
    }
}

/// A claim in the length that every file has. Names of hosts are short; a note that a long one leaves no room for is left out.
fn bytes_of(claim: &Claim) -> Vec<u8> {
    let encode = |claim: &Claim| serde_json::to_vec(claim).unwrap_or_default();
    let mut bytes = encode(claim);
    if bytes.len() >= LENGTH {
        let host = claim.host.chars().take(64).collect();
        bytes = encode(&Claim { note: String::new(), host, ..claim.clone() });
    }
    bytes.resize(LENGTH.max(bytes.len()), b' ');
    bytes
}

/// A missing file, or one of a server that has no memory of it.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.kind() == ErrorKind::StaleNetworkFileHandle
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(300);

    fn leases(folder: &tempfile::TempDir) -> Leases {
        Leases::open(folder.path(), PATIENCE).unwrap()
    }

    fn taken(asked: Asked) -> Lease {
        match asked {
            Asked::Taken(lease) => lease,
            Asked::Held(holder) => panic!("{holder} has it"),
        }
    }

    fn files(folder: &tempfile::TempDir) -> Vec<String> {
        let all = fs::read_dir(folder.path()).unwrap();
        let mut all: Vec<_> = all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    }

    /// A lease as another machine's process left it.
    fn elsewhere(folder: &tempfile::TempDir, file: &str, count: u64) {
        let note = "at work".to_owned();
        let claim = Claim { mark: "elsewher-1-2-3".to_owned(), host: "other".to_owned(), pid: 7, count, note };
        fs::write(folder.path().join(file), bytes_of(&claim)).unwrap();
    }

    #[test]
    fn one_has_it_until_it_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (leases(&folder), leases(&folder));
        let lease = taken(one.take("work").unwrap());
        lease.say("step 3");
        std::thread::sleep(PATIENCE * 2);
        let Asked::Held(holder) = other.take("work").unwrap() else { panic!("taken twice") };
        assert_eq!(
            (holder.pid, holder.note.as_str()),
            (std::process::id(), "step 3"),
            "it is renewed, and says what it does"
        );
        assert!(lease.check() && lease.generation() == 1);
        assert!(matches!(other.take("another").unwrap(), Asked::Taken(_)));
        drop(lease);
        assert_eq!(files(&folder), Vec::<String>::new());
        assert!(matches!(other.take("work").unwrap(), Asked::Taken(_)));
    }

    #[test]
    fn many_that_ask_at_once_are_answered_once() {
        let folder = tempfile::tempdir().unwrap();
        elsewhere(&folder, "stale.4", 1);
        let all: Vec<Leases> = (0..8).map(|_| leases(&folder)).collect();
        let count = |name: &'static str| {
            std::thread::scope(|scope| {
                let asks = all.iter().map(|leases| scope.spawn(move || leases.take(name).unwrap()));
                let asked: Vec<Asked> = asks.collect::<Vec<_>>().into_iter().map(|ask| ask.join().unwrap()).collect();
                asked.iter().filter(|asked| matches!(asked, Asked::Taken(_))).count()
            })
        };
        assert_eq!(count("free"), 1);
        assert_eq!(count("stale"), 0, "it may be alive");
        std::thread::sleep(PATIENCE + PATIENCE / 4);
        assert_eq!(count("stale"), 1, "it was silent for too long");
    }

    #[test]
    fn an_owner_elsewhere_is_waited_for_while_it_counts() {
        let folder = tempfile::tempdir().unwrap();
        let here = leases(&folder);
        for count in 0..6 {
            elsewhere(&folder, "work.1", count);
            let Asked::Held(holder) = here.take("work").unwrap() else { panic!("taken from the living") };
            assert_eq!(holder.to_string(), "process 7 on other");
            std::thread::sleep(PATIENCE / 2);
        }
        elsewhere(&folder, "work.1", 6);
        assert_eq!(here.alive("wo").unwrap().unwrap().pid, 7, "its count was another before");
        std::thread::sleep(PATIENCE + PATIENCE / 4);
        let lease = taken(here.take("work").unwrap());
        assert_eq!((lease.generation(), files(&folder)), (2, vec!["work.2".to_owned()]));
        assert_eq!(here.alive("wo").unwrap(), None, "its own does not count");
    }

    #[test]
    fn a_dead_process_of_this_machine_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let here = leases(&folder);
        // No process has this number.
        let mark = process_mark().replacen(&format!("-{}-", std::process::id()), "-4194999-", 1);
        let claim = Claim { mark, host: host(), pid: 4_194_999, count: 3, note: String::new() };
        fs::write(folder.path().join("work.2"), bytes_of(&claim)).unwrap();
        assert_eq!(here.alive("work").unwrap(), None);
        fs::write(folder.path().join("work.2"), bytes_of(&claim)).unwrap();
        assert_eq!(taken(here.take("work").unwrap()).generation(), 3);
    }

    #[test]
    fn who_slept_through_its_lease_has_lost_it() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (leases(&folder), leases(&folder));
        let lease = taken(one.take("work").unwrap());
        // Another took over while this one slept, and has ended since.
        fs::remove_file(folder.path().join("work.1")).unwrap();
        assert!(!lease.check());
        std::thread::sleep(PATIENCE);
        assert_eq!(files(&folder), Vec::<String>::new(), "it does not come back");
        drop(lease);
        // Another has it now, in a higher generation or in one of the same number.
        for taken_over in ["work.2", "work.1"] {
            let lease = taken(one.take("work").unwrap());
            elsewhere(&folder, taken_over, 0);
            assert!(!lease.check());
            assert!(lease.lost().load(Ordering::Relaxed));
            drop(lease);
            assert!(files(&folder).contains(&taken_over.to_owned()), "what is another's stays");
            assert!(matches!(other.take("work").unwrap(), Asked::Held(_)));
            for file in files(&folder) {
                fs::remove_file(folder.path().join(file)).unwrap();
            }
        }
    }

    #[test]
    fn a_file_that_says_nothing_is_somebodys_until_it_was_silent_for_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let here = leases(&folder);
        File::create(folder.path().join("work.1")).unwrap();
        fs::write(folder.path().join("work"), b"no lease").unwrap();
        let Asked::Held(holder) = here.take("work").unwrap() else { panic!("taken") };
        assert_eq!(holder.to_string(), "a process that has not said its number yet");
        let waited = here.wait("work", || false).unwrap().unwrap();
        assert_eq!(waited.generation(), 2);
        assert!(here.wait("work", || true).unwrap().is_none());
    }

    #[test]
    fn a_lease_has_one_length_whatever_it_says() {
        let claim = |host: &str, note: &str| Claim {
            mark: process_mark(),
            host: host.to_owned(),
            pid: u32::MAX,
            count: u64::MAX,
            note: note.to_owned(),
        };
        for (host, note) in [("a", ""), ("node-17", &*"é".repeat(100)), (&*"h".repeat(400), "x")] {
            let bytes = bytes_of(&claim(host, note));
            assert_eq!(bytes.len(), LENGTH, "{host}");
            assert_eq!(super::holder(&bytes).pid, u32::MAX);
        }
    }
}
