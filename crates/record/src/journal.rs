//! The append-only log of an unfinished run.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::RecordError;
use crate::evaluation::Evaluation;
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

impl Entry {
    /// The step that the line belongs to.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(entry) => entry.step,
            Self::Evaluation(evaluation) => evaluation.step,
            Self::Resumed { step } => *step,
        }
    }
}

/// JSON lines, one per step or evaluation, each handed to the system as soon as it is appended.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of complete lines; a failed append may leave a torn line after them.
    length: u64,
}

impl Journal {
    /// Starts an empty journal and replaces an older one. The directory must exist.
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        let file = File::create(path).map_err(RecordError::io("create the journal", path))?;
        Ok(Self { path: path.to_owned(), file, length: 0 })
    }

    /// Opens a journal to resume from a checkpoint taken after `step`, and returns its entries up to that step.
    ///
    /// Lines of later steps are cut off, because the run takes those steps again; so is a last line that a crash tore. Any other line
    /// that cannot be read is an error.
    pub fn reopen(path: &Path, step: u64) -> Result<(Self, Vec<Entry>), RecordError> {
        let io = |action| RecordError::io(action, path);
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(io("open the journal"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read the journal"))?;
        let (entries, length) = whole_lines(path, &bytes, step)?;
        file.set_len(length).map_err(io("truncate the journal"))?;
        file.seek(SeekFrom::Start(length)).map_err(io("truncate the journal"))?;
        Ok((Self { path: path.to_owned(), file, length }, entries))
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
        Ok(())
    }

    /// Waits until all lines are on the disk; call it before a checkpoint is named valid.
    pub fn sync(&self) -> Result<(), RecordError> {
        self.file.sync_all().map_err(RecordError::io("write the journal to disk", &self.path))
    }
}

/// The entries up to and including `last_step`, and the number of bytes they take.
fn whole_lines(path: &Path, bytes: &[u8], last_step: u64) -> Result<(Vec<Entry>, u64), RecordError> {
    let mut entries = Vec::new();
    let mut length = 0;
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let is_last = length + line.len() == bytes.len();
        match serde_json::from_slice::<Entry>(line) {
            // A last line without its newline may be a number cut short that still parses.
            Ok(_) if !line.ends_with(b"\n") => break,
            Ok(entry) if entry.step() > last_step => break,
            Ok(entry) => entries.push(entry),
            Err(_) if is_last => break,
            Err(error) => {
                return Err(RecordError::Journal {
                    path: path.display().to_string(),
                    line: index + 1,
                    reason: error.to_string(),
                });
            }
        }
        length += line.len();
    }
    Ok((entries, length as u64))
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
            examples: 4,
            loss: 0.5,
            generated: None,
        })
    }

    fn written(entries: &[Entry]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let mut journal = Journal::create(&path).unwrap();
        for entry in entries {
            journal.append(entry).unwrap();
        }
        journal.sync().unwrap();
        (directory, path)
    }

    #[test]
    fn later_steps_are_cut_off_and_the_run_goes_on() {
        let (_directory, path) = written(&[step(1), step(2), evaluation(2), step(3)]);
        let (mut journal, entries) = Journal::reopen(&path, 2).unwrap();
        assert_eq!(entries, [step(1), step(2), evaluation(2)]);
        journal.append(&Entry::Resumed { step: 2 }).unwrap();
        journal.append(&step(3)).unwrap();
        let (_, entries) = Journal::reopen(&path, u64::MAX).unwrap();
        assert_eq!(entries, [step(1), step(2), evaluation(2), Entry::Resumed { step: 2 }, step(3)]);
    }

    #[test]
    fn nothing_is_kept_of_a_run_that_starts_over() {
        let (_directory, path) = written(&[step(1)]);
        assert_eq!(Journal::reopen(&path, 0).unwrap().1, []);
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn damage_before_the_last_line_is_an_error_that_names_it() {
        let (_directory, path) = written(&[step(1), step(2)]);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{{\"step\":\n{text}")).unwrap();
        let message = Journal::reopen(&path, 2).unwrap_err().to_string();
        assert!(message.contains("journal.jsonl:1: ") && message.contains("delete "), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    }

    proptest! {
        // Wherever a crash tears the file, what is kept is a prefix and the torn line is gone.
        #[test]
        fn a_torn_end_is_cut_off(cut in 0_usize..400) {
            let all = [step(1), evaluation(1), step(2), step(3)];
            let (_directory, path) = written(&all);
            let bytes = fs::read(&path).unwrap();
            let cut = cut.min(bytes.len());
            fs::write(&path, &bytes[..cut]).unwrap();
            let (mut journal, entries) = Journal::reopen(&path, u64::MAX).unwrap();
            prop_assert_eq!(&entries[..], &all[..entries.len()]);
            prop_assert_eq!(entries.len(), String::from_utf8_lossy(&bytes[..cut]).matches('\n').count());
            journal.append(&step(9)).unwrap();
            let (_, entries) = Journal::reopen(&path, u64::MAX).unwrap();
            prop_assert_eq!(entries.last(), Some(&step(9)));
        }
    }
}
