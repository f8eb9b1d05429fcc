//! The append-only log of an unfinished run.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::RecordError;
use crate::evaluation::Evaluation;
use crate::hash::hex;
use crate::steps::StepEntry;

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A training step.
    Step(StepEntry),
    /// An evaluation.
    Evaluation(Evaluation),
    /// The run was resumed from a checkpoint.
    Resumed {
        /// Optimizer steps taken before.
        step: u64,
    },
}

/// How a journal was when a checkpoint was taken: what a resumed run finds has to begin with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalMark {
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of these bytes.
    pub sha256: String,
}

/// JSON lines, one per step or evaluation, each handed to the system as soon as it is appended.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of complete lines; a failed append may leave a torn line after them.
    length: u64,
    /// Of these bytes.
    hasher: Sha256,
}

impl Journal {
    /// Starts an empty journal and replaces an older one. The directory must exist.
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        let file = File::create(path).map_err(RecordError::io("create the journal", path))?;
        Ok(Self { path: path.to_owned(), file, length: 0, hasher: Sha256::new() })
    }

    /// Opens a journal to resume from the checkpoint that was taken at `mark`, and returns its entries up to there.
    ///
    /// What follows the mark is cut off, because the run takes those steps again, but for the notes of earlier resumptions. A journal that
    /// does not begin with what was there at the mark is [damaged](RecordError::Journal), and left as it is.
    pub fn reopen(path: &Path, mark: &JournalMark) -> Result<(Self, Vec<Entry>), RecordError> {
        let io = |action| RecordError::io(action, path);
        let damaged = |reason: String| RecordError::Journal { path: path.display().to_string(), reason };
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(damaged("is gone".to_owned())),
            file => file.map_err(io("open the journal"))?,
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read the journal"))?;
        let found = bytes.len();
        let kept = usize::try_from(mark.bytes).ok().and_then(|kept| bytes.get(..kept)).ok_or_else(|| {
            damaged(format!("has {found} bytes, but had {} when the checkpoint beside it was saved", mark.bytes))
        })?;
        if hex(Sha256::digest(kept).as_slice()) != mark.sha256 {
            return Err(damaged("is not what it was when the checkpoint beside it was saved".to_owned()));
        }
        let mut entries = Vec::new();
        for (index, line) in lines(kept).enumerate() {
            let entry = serde_json::from_slice(line);
            entries.push(entry.map_err(|error| damaged(format!("line {}: {error}", index + 1)))?);
        }
        let mut length = kept.len();
        for line in lines(&bytes[kept.len()..]) {
            let Ok(entry @ Entry::Resumed { .. }) = serde_json::from_slice(line) else { break };
            entries.push(entry);
            length += line.len();
        }
        let hasher = Sha256::new_with_prefix(&bytes[..length]);
        let length = length as u64;
        file.set_len(length).map_err(io("truncate the journal"))?;
        file.seek(SeekFrom::Start(length)).map_err(io("truncate the journal"))?;
        Ok((Self { path: path.to_owned(), file, length, hasher }, entries))
    }

    /// How it is now. [`sync`](Self::sync) it before the mark is written down.
    pub fn mark(&self) -> JournalMark {
        JournalMark { bytes: self.length, sha256: hex(self.hasher.clone().finalize().as_slice()) }
    }

    /// Appends one line. After a failure, such as no space left, the journal still ends with a complete line.
    pub fn append(&mut self, entry: &Entry) -> Result<(), RecordError> {
        let encode = |source| RecordError::Encode { path: self.path.display().to_string(), source };
        let mut line = serde_json::to_vec(entry).map_err(encode)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.flush());
        if let Err(error) = written {
            // Best effort: if this fails too, `reopen` cuts the torn line off.
            let _ =
                self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)).map(drop));
            return Err(RecordError::io("append to the journal", &self.path)(error));
        }
        self.length += line.len() as u64;
        self.hasher.update(&line);
        Ok(())
    }

    /// Waits until all lines are on the disk; call it before a checkpoint is named valid.
    pub fn sync(&self) -> Result<(), RecordError> {
        self.file.sync_all().map_err(RecordError::io("write the journal to disk", &self.path))
    }
}

/// Whole lines, each with its end. A line that a crash tore has none and is left out: it may be a number cut short that still parses.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Readout;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::fs;

    fn step(step: u64) -> Entry {
        Entry::Step(StepEntry {
            step,
            task_loss: 0.5,
            penalty: Some(0.0),
            learning_rate: 1e-3,
            gradient_norm: 1.0,
            components: None,
        })
    }

    fn evaluation(step: u64) -> Entry {
        let metrics = BTreeMap::from([("accuracy".into(), 0.75)]);
        let readout = Readout { label: "lora".into(), rank: 8 };
        Entry::Evaluation(Evaluation {
            step,
            split: "validation".into(),
            readout,
            metrics,
            undefined: BTreeMap::new(),
            examples: 4,
            loss: 0.5,
            generated: None,
            correct: None,
        })
    }

    /// A journal of `entries` and then `later`, with its mark between them.
    fn written(entries: &[Entry], later: &[Entry]) -> (tempfile::TempDir, PathBuf, JournalMark) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let mut journal = Journal::create(&path).unwrap();
        for entry in entries {
            journal.append(entry).unwrap();
        }
        let mark = journal.mark();
        for entry in later {
            journal.append(entry).unwrap();
        }
        journal.sync().unwrap();
        (directory, path, mark)
    }

    #[test]
    fn what_follows_the_mark_is_cut_off_and_the_run_goes_on() {
        let (_directory, path, mark) = written(&[step(1), step(2), evaluation(2)], &[step(3), evaluation(2)]);
        let (mut journal, entries) = Journal::reopen(&path, &mark).unwrap();
        assert_eq!(entries, [step(1), step(2), evaluation(2)]);
        journal.append(&Entry::Resumed { step: 2 }).unwrap();
        // Killed again before the next checkpoint: that it was resumed once is kept.
        journal.append(&step(3)).unwrap();
        let (mut journal, entries) = Journal::reopen(&path, &mark).unwrap();
        assert_eq!(entries, [step(1), step(2), evaluation(2), Entry::Resumed { step: 2 }]);
        journal.append(&step(3)).unwrap();
        let (_, entries) = Journal::reopen(&path, &journal.mark()).unwrap();
        assert_eq!(entries, [step(1), step(2), evaluation(2), Entry::Resumed { step: 2 }, step(3)]);
    }

    #[test]
    fn nothing_is_kept_of_a_run_that_starts_over() {
        let (_directory, path, mark) = written(&[], &[step(1)]);
        assert_eq!(Journal::reopen(&path, &mark).unwrap().1, []);
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_journal_that_is_shorter_or_was_edited_is_damaged_and_stays_as_it_is() {
        let (_directory, path, mark) = written(&[step(1), step(2)], &[]);
        let text = fs::read_to_string(&path).unwrap();
        let first = text.split_inclusive('\n').next().unwrap();
        for damaged in ["", first, &text[..text.len() - 1], &text.replacen("0.5", "0.4", 1), &format!("x{text}")] {
            fs::write(&path, damaged).unwrap();
            let message = Journal::reopen(&path, &mark).unwrap_err().to_string();
            assert!(message.contains("journal.jsonl: ") && message.contains("checkpoint"), "{message}");
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
        }
        fs::remove_file(&path).unwrap();
        let message = Journal::reopen(&path, &mark).unwrap_err().to_string();
        assert!(message.contains("journal.jsonl: is gone"), "{message}");
    }

    proptest! {
        // Wherever a crash tears the file behind the mark, what was there at the mark is kept and nothing else.
        #[test]
        fn a_torn_end_is_cut_off(cut in 0_usize..400) {
            let all = [step(1), evaluation(1), step(2), step(3)];
            let (_directory, path, mark) = written(&all[..2], &all[2..]);
            let bytes = fs::read(&path).unwrap();
            let cut = (usize::try_from(mark.bytes).unwrap() + cut).min(bytes.len());
            fs::write(&path, &bytes[..cut]).unwrap();
            let (mut journal, entries) = Journal::reopen(&path, &mark).unwrap();
            prop_assert_eq!(&entries[..], &all[..2]);
            journal.append(&step(9)).unwrap();
            let (_, entries) = Journal::reopen(&path, &journal.mark()).unwrap();
            prop_assert_eq!(entries.last(), Some(&step(9)));
        }
    }
}
