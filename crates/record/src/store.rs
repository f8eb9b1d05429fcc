//! The records of one experiment on disk.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::atomic::{create_directory, write_atomic, write_through};
use crate::cell::CellId;
use crate::error::{BadFile, RecordError};
use crate::lease::Leases;
use crate::lock::Lock;
use crate::regular;
use crate::run::RunRecord;

/// Folder of an experiment's finished runs.
pub(crate) const RUNS: &str = "runs";

/// Folder of its unfinished ones.
pub(crate) const PARTIAL: &str = ".partial";

/// Folder in that one of the leases on them.
pub(crate) const LEASES: &str = "leases";

/// How the names of leases begin that every process at work has, whatever it does.
pub const WORKER: &str = "worker-";

/// How long a process may be silent before its work is taken over, where nothing else is asked for.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// File name of a record in its run's directory.
pub(crate) const RECORD: &str = "record.json";

/// File name of an adapter in its run's directory.
pub const ADAPTER: &str = "adapter.safetensors";

/// The file of an adapter that is named by its run's folder or by the file itself.
pub fn adapter_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(ADAPTER) } else { path.to_owned() }
}

/// The directory `results/<experiment>`. This type alone knows its layout.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    patience: Duration,
}

impl Store {
    /// The store of one experiment below `root`, the results directory. Nothing is created; see [`Store::prepare`].
    pub fn open(root: &Path, experiment: &str) -> Result<Self, RecordError> {
        let name = Path::new(experiment);
        let plain =
            |part: Component<'_>| matches!(part, Component::Normal(name) if !name.to_string_lossy().starts_with('.'));
        if experiment.is_empty() || experiment.contains('\\') || !name.components().all(plain) {
            return Err(RecordError::ExperimentName { name: experiment.to_owned() });
        }
        Ok(Self { directory: root.join(name), patience: PATIENCE })
    }

    /// The same store, in which processes that were silent for this long are taken for dead.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Refuses a place in which nothing but a folder that is made or found there could be: a part of its path is a file, or a link that
    /// leads to no folder. Nothing is created.
    pub fn check_place(&self) -> Result<(), RecordError> {
        let partial = self.partial_dir();
        let runs = self.runs_dir();
        let no_folder = |part: &&Path| part.symlink_metadata().is_ok() && !part.is_dir();
        match runs.ancestors().chain([partial.as_path()]).find(no_folder) {
            Some(part) => Err(RecordError::NoFolder { path: part.display().to_string() }),
            None => Ok(()),
        }
    }

    /// Creates the directories and writes a probe into each, so that a path that cannot be written to is found before a long run.
    pub fn prepare(&self) -> Result<(), RecordError> {
        self.check_place()?;
        for directory in [self.runs_dir(), self.partial_dir()] {
            create_directory(&directory)?;
            let probe = directory.join(".probe");
            write_atomic(&probe, b"")?;
            match fs::remove_file(&probe) {
                // Another process that starts at the same moment took it away; the lock decides which of the two goes on.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(RecordError::io("remove", &probe))?,
            }
        }
        Ok(())
    }

    /// `results/<experiment>`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `results/<experiment>/runs`.
    pub fn runs_dir(&self) -> PathBuf {
        self.directory.join(RUNS)
    }

    /// `results/<experiment>/tables`.
    pub fn tables_dir(&self) -> PathBuf {
        self.directory.join("tables")
    }

    /// `results/<experiment>/figures`.
    pub fn figures_dir(&self) -> PathBuf {
        self.directory.join("figures")
    }

    /// Where a finished cell's record and adapter lie.
    pub fn run_dir(&self, cell: &CellId) -> PathBuf {
        self.runs_dir().join(cell.slug())
    }

    /// `results/<experiment>/.partial`, which holds the journals and checkpoints of unfinished cohorts, one folder each.
    pub fn partial_dir(&self) -> PathBuf {
        self.directory.join(PARTIAL)
    }

    /// The file of a cell's record, whether it exists or not.
    pub fn record_path(&self, cell: &CellId) -> PathBuf {
        self.run_dir(cell).join(RECORD)
    }

    /// The file of a cell's adapter, whether it exists or not.
    pub fn adapter_path(&self, cell: &CellId) -> PathBuf {
        self.run_dir(cell).join(ADAPTER)
    }

    /// Joins those who work on the experiment, until the lock is dropped; the system unlocks it when a process dies. Clears away unfinished
    /// files of processes that died.
    pub fn join(&self) -> Result<Lock, RecordError> {
        Lock::share(&self.partial_dir(), &self.directory)
    }

    /// Locks the experiment against all other processes. Where file systems have no locks, their leases tell.
    pub fn lock(&self) -> Result<Lock, RecordError> {
        let lock = Lock::take(&self.partial_dir(), &self.directory)?;
        match self.leases()?.alive(WORKER)? {
            Some(holder) => {
                Err(RecordError::InUse { path: self.directory.display().to_string(), holder: holder.to_string() })
            }
            None => Ok(lock),
        }
    }

    /// The leases on its unfinished work.
    pub fn leases(&self) -> Result<Leases, RecordError> {
        Leases::open(&self.leases_dir(), self.patience)
    }

    /// `results/<experiment>/.partial/leases`
    pub fn leases_dir(&self) -> PathBuf {
        self.partial_dir().join(LEASES)
    }

    /// What tells one state of a cell's record from another without reading it: when it was written, and its length. None where there is none.
    pub fn record_stamp(&self, cell: &CellId) -> Option<(SystemTime, u64)> {
        let data = fs::metadata(self.record_path(cell)).ok()?;
        Some((data.modified().ok()?, data.len()))
    }

    /// The cell's record, if it has one that was made from the spec with this hash; a record of another spec is stale.
    ///
    /// A failed run has a record too, and it is returned: the same spec would fail again.
    pub fn finished(&self, cell: &CellId, spec_hash: &str) -> Result<Option<RunRecord>, RecordError> {
        Ok(self.record(cell)?.filter(|record| record.spec_hash == spec_hash))
    }

    /// The cell's record, whatever spec it was made from.
    pub fn record(&self, cell: &CellId) -> Result<Option<RunRecord>, RecordError> {
        let path = self.record_path(cell);
        let record = match read(&path) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(bad) => return Err(RecordError::Unreadable { files: vec![bad] }),
        };
        if record.cell != *cell {
            let (expected, found) = (cell.to_string(), record.cell.to_string());
            return Err(RecordError::WrongCell { path: path.display().to_string(), expected, found });
        }
        Ok(Some(record))
    }

    /// Writes the record of a run that has ended, replacing an older one in a single step.
    pub fn write(&self, record: &RunRecord) -> Result<(), RecordError> {
        self.write_from(record, &self.run_dir(&record.cell))
    }

    /// The same from the folder of unfinished work that the record ends: where others have moved that away, since they took the work over, nothing is
    /// written.
    pub fn write_from(&self, record: &RunRecord, work: &Path) -> Result<(), RecordError> {
        let directory = self.run_dir(&record.cell);
        create_directory(&directory)?;
        let path = directory.join(RECORD);
        let encode = |source| RecordError::Encode { path: path.display().to_string(), source };
        write_through(work, &path, &record.to_json().map_err(encode)?)
    }

    /// Every record of the experiment in the order of their slugs; none if it was never run.
    ///
    /// Files that cannot be read are an error that names them all: a table that leaves them out would be wrong without saying so.
    pub fn all(&self) -> Result<Vec<RunRecord>, RecordError> {
        let mut records = Vec::new();
        let mut files = Vec::new();
        for slug in self.slugs()? {
            let path = self.runs_dir().join(&slug).join(RECORD);
            match read(&path) {
                Ok(Some(record)) if record.cell.slug() == slug => records.push(record),
                Ok(Some(record)) => {
                    let reason =
                        format!("holds the record of {}, whose directory is `{}`", record.cell, record.cell.slug());
                    files.push(BadFile { path, reason, is_torn: false });
                }
                Ok(None) => {}
                Err(bad) => files.push(bad),
            }
        }
        if files.is_empty() { Ok(records) } else { Err(RecordError::Unreadable { files }) }
    }

    fn slugs(&self) -> Result<Vec<String>, RecordError> {
        let runs = self.runs_dir();
        let io = || RecordError::io("list", &runs);
        let entries = match fs::read_dir(&runs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io())?,
        };
        let mut slugs = Vec::new();
        for entry in entries {
            let name = entry.map_err(io())?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                slugs.push(name);
            }
        }
        slugs.sort();
        Ok(slugs)
    }
}

impl Store {
    /// Whether the record of a cell has no checksum: earlier builds wrote none, and an edit of it would not be noticed.
    pub fn is_unsealed(&self, cell: &CellId) -> bool {
        let bytes = regular::read(&self.record_path(cell)).unwrap_or_default();
        let value = serde_json::from_slice::<serde_json::Value>(&bytes);
        value.is_ok_and(|value| value.get("checksum").is_none())
    }
}

/// The record of the run whose adapter lies at `path`; `None` for an adapter without a record beside it.
pub fn record_beside(path: &Path) -> Result<Option<RunRecord>, RecordError> {
    if path.file_name().is_none_or(|name| name != ADAPTER) {
        return Ok(None);
    }
    read(&path.with_file_name(RECORD)).map_err(|bad| RecordError::Unreadable { files: vec![bad] })
}

/// The record in a file, `None` where there is no file, or why it cannot be used.
fn read(path: &Path) -> Result<Option<RunRecord>, BadFile> {
    let bad = |reason, is_torn| BadFile { path: path.to_owned(), reason, is_torn };
    let bytes = match regular::read(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        bytes => bytes.map_err(|error| bad(error.to_string(), false))?,
    };
    RunRecord::from_json(&bytes).map(Some).map_err(|reason| bad(reason, is_torn(&bytes)))
}

/// Whether a file ends before its JSON does, or holds nothing but zeros.
fn is_torn(bytes: &[u8]) -> bool {
    let is_cut = |error: serde_json::Error| error.is_eof();
    bytes.iter().all(|byte| *byte == 0) || serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err_and(is_cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Status, tests::example};

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), "glue/cola").unwrap();
        (directory, store)
    }

    #[test]
    fn records_are_found_again_in_order() {
        let (_directory, store) = store();
        assert_eq!(store.all().unwrap(), []);
        store.prepare().unwrap();
        for seed in [2, 1] {
            store.write(&example(seed)).unwrap();
        }
        assert_eq!(store.all().unwrap(), [example(1), example(2)]);
        assert!(store.directory().join("runs/cola-lora-r8-s1/record.json").is_file());
    }

    #[test]
    fn a_record_of_another_spec_is_stale() {
        let (_directory, store) = store();
        let record = example(1);
        assert_eq!(store.finished(&record.cell, &record.spec_hash).unwrap(), None);
        store.write(&record).unwrap();
        assert_eq!(store.finished(&record.cell, "another").unwrap(), None);
        assert_eq!(store.finished(&record.cell, &record.spec_hash).unwrap(), Some(record));
    }

    #[test]
    #[cfg_attr(miri, ignore = "insta starts a process")]
    fn every_damaged_file_is_named_with_the_way_out() {
        let (directory, store) = store();
        for seed in 1..=4 {
            store.write(&example(seed)).unwrap();
        }
        let path = |seed| store.record_path(&example(seed).cell);
        fs::write(path(1), b"{\"format\": 1").unwrap();
        fs::write(path(2), b"{\"format\": 7}").unwrap();
        fs::copy(path(4), path(3)).unwrap();
        let error = store.all().unwrap_err().to_string().replace(&directory.path().display().to_string(), "results");
        insta::assert_snapshot!(error, @r"
        3 records cannot be read
          results/glue/cola/runs/cola-lora-r8-s1/record.json: EOF while parsing an object at line 1 column 12
          results/glue/cola/runs/cola-lora-r8-s2/record.json: format is `7`, but this build reads `1`
          results/glue/cola/runs/cola-lora-r8-s3/record.json: holds the record of cola/lora rank 8 seed 4, whose directory is `cola-lora-r8-s4`

        hint: delete a damaged file and run its cell again, or restore it from version control
        ");
        assert!(store.finished(&example(1).cell, "x").unwrap_err().is_torn());
        assert!(!store.finished(&example(2).cell, "x").unwrap_err().is_torn());
        assert!(matches!(store.finished(&example(3).cell, "x"), Err(RecordError::WrongCell { .. })));
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_record() {
        let (_directory, store) = store();
        // A file where the runs directory should be refuses even the superuser.
        fs::create_dir_all(store.directory()).unwrap();
        fs::write(store.runs_dir(), b"in the way").unwrap();
        let message = store.write(&example(1)).unwrap_err().to_string();
        assert!(message.contains("cannot create the directory"), "{message}");
        assert!(matches!(store.prepare(), Err(RecordError::NoFolder { path }) if path.ends_with("cola/runs")));
        assert_eq!(fs::read(store.runs_dir()).unwrap(), b"in the way");
    }

    #[cfg(unix)]
    #[test]
    fn what_stands_in_the_way_of_results_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let place = |root: &str| Store::open(&path(root), "name").unwrap().check_place();
        fs::write(path("file"), b"in the way").unwrap();
        std::os::unix::fs::symlink(path("nowhere"), path("dangling")).unwrap();
        std::os::unix::fs::symlink(path("circle"), path("circle")).unwrap();
        std::os::unix::fs::symlink(directory.path(), path("link")).unwrap();
        for (root, named) in
            [("file", "file"), ("file/results", "file"), ("dangling", "dangling"), ("circle/a", "circle")]
        {
            let message = place(root).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("{}: results lie in folders", path(named).display())),
                "{root}: {message}"
            );
        }
        for root in ["new/results", "link/results", "."] {
            place(root).unwrap();
        }
        assert!(!path("new").exists());
    }

    #[test]
    fn only_names_below_the_results_directory_open() {
        for name in ["", "..", "a/../b", "/etc", ".partial", "a/./../b", "a\\b"] {
            assert!(
                matches!(Store::open(Path::new("results"), name), Err(RecordError::ExperimentName { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn one_process_at_a_time() {
        let (_directory, store) = store();
        store.prepare().unwrap();
        let held = store.lock().unwrap();
        let message = store.lock().unwrap_err().to_string();
        assert!(
            message.contains(&format!("another process trains this experiment (process {} on ", std::process::id()))
        );
        assert!(store.join().is_err(), "it has the experiment for itself");
        drop(held);
        assert!(fs::read_dir(store.partial_dir()).unwrap().next().is_none(), "a lock leaves nothing behind");
        let (one, other) = (store.join().unwrap(), store.join().unwrap());
        assert!(matches!(store.lock(), Err(RecordError::InUse { .. })), "two are at work");
        drop((one, other));
        // One that has no lock, as where file systems have none, but a lease.
        let leases = store.leases().unwrap();
        let worker = leases.take("worker-1").unwrap();
        let message = store.lock().unwrap_err().to_string();
        assert!(message.contains(&format!("(process {} on ", std::process::id())), "{message}");
        drop(worker);
        // What a killed holder said of itself stands in nobody's way.
        fs::write(store.partial_dir().join(".holder"), "1 0 gone").unwrap();
        assert!(store.lock().is_ok());
    }

    #[test]
    fn a_record_that_was_changed_after_it_was_written_is_noticed() {
        let (_directory, store) = store();
        let record = example(1);
        store.write(&record).unwrap();
        let path = store.record_path(&record.cell);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"checksum\": \""));
        // Another layout is the same record.
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        fs::write(&path, serde_json::to_vec(&value).unwrap()).unwrap();
        assert_eq!(store.record(&record.cell).unwrap(), Some(record.clone()));
        for (from, to) in [
            ("\"matthews\":0.5", "\"matthews\":0.6"),
            ("\"seed\": 1", "\"seed\": 2"),
            ("\"finished\": 2", "\"finished\": 3"),
        ] {
            assert!(text.contains(from), "{from} in {text}");
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            let message = store.all().unwrap_err().to_string();
            assert!(message.contains("record.json: ") && message.contains("checksum"), "{message}");
        }
    }

    #[test]
    fn a_finished_record_without_its_results_is_refused() {
        let (_directory, store) = store();
        let finished = example(1);
        let mut without = finished.clone();
        without.evaluations[0].metrics.clear();
        let mut none = finished.clone();
        none.evaluations.clear();
        for (record, wanted) in [(without, "`matthews` is missing on `validation`"), (none, "has no evaluation")] {
            store.write(&record).unwrap();
            let message = store.all().unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
            // A run that failed may have come to none.
            store.write(&RunRecord { status: Status::Failed { step: 1, reason: "x".into() }, ..record }).unwrap();
            assert_eq!(store.all().unwrap().len(), 1);
        }
    }

    #[test]
    fn a_record_of_an_earlier_build_has_no_checksum() {
        let (_directory, store) = store();
        let record = example(1);
        store.write(&record).unwrap();
        let path = store.record_path(&record.cell);
        fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(store.record(&record.cell).unwrap(), Some(record.clone()));
        // The hash of the adapter came with the checksum: a record with one and without the other was edited.
        let newer = RunRecord { adapter_hash: Some("a".to_owned()), ..record };
        fs::write(&path, serde_json::to_vec(&newer).unwrap()).unwrap();
        let message = store.record(&newer.cell).unwrap_err().to_string();
        assert!(message.contains("is not what was written (its checksum is gone)"), "{message}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "starts a process")]
    #[cfg(unix)]
    fn a_pipe_or_a_device_in_the_place_of_a_record_is_refused_and_not_waited_for() {
        let (_directory, store) = store();
        let record = example(1);
        store.write(&record).unwrap();
        let path = store.record_path(&record.cell);
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let message = store.all().unwrap_err().to_string();
        assert!(message.contains("is a pipe, but only regular files are read"), "{message}");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(store.all().unwrap_err().to_string().contains("is a device"));
    }
}
