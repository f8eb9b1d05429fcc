//! What can go wrong with files of records.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// One file that could not be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFile {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, as one clause without a full stop.
    pub reason: String,
    /// Whether it ends too early, as a power cut leaves a file: nobody's edit is lost with it.
    pub is_torn: bool,
}

/// Every way in which reading or writing records fails.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The operating system refused something.
    #[error("{path}: cannot {action}: {source}")]
    Io {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The file or directory it was attempted on.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Something that is no folder stands where results would lie.
    #[error("{path}: results lie in folders, and this is none; move it away, or use `--results DIR`")]
    NoFolder {
        /// What stands there.
        path: String,
    },
    /// The experiment's name is no relative path below the results directory.
    #[error(
        "experiment `{name}` cannot name a directory of results; use words of letters, digits, `-`, `_` and `.`, separated by `/`"
    )]
    ExperimentName {
        /// The name as given.
        name: String,
    },
    /// Another process works on the experiment.
    #[error("{path}: another process trains this experiment ({holder}); wait for it, or stop it")]
    InUse {
        /// The experiment's folder.
        path: String,
        /// Who it is.
        holder: String,
    },
    /// Some records exist but cannot be read.
    #[error("{}", unreadable(.files))]
    Unreadable {
        /// Every such file, in the order of their paths.
        files: Vec<BadFile>,
    },
    /// The directory of one cell holds the record of another.
    #[error(
        "{path}: holds the record of {found}, but the directory belongs to {expected}; move it away and run that cell again"
    )]
    WrongCell {
        /// The record's file.
        path: String,
        /// The cell that was asked for.
        expected: String,
        /// The cell that the file names.
        found: String,
    },
    /// A journal is not what it was when its checkpoint was saved.
    #[error("{path}: {reason}; delete its folder and run again: its runs restart from step 0")]
    Journal {
        /// The journal's file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of a tuning is not one.
    #[error(
        "{path}: not what a tuning of this experiment wrote: {reason}\n\nhint: restore it from version control, or delete it and `lora-lab \
         run` the experiment again: trials whose records are there are not trained twice"
    )]
    Tuned {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A record or journal entry could not be turned into JSON.
    #[error("{path}: cannot write the record as json: {source}")]
    Encode {
        /// The file that was to be written.
        path: String,
        /// What the encoder refused.
        source: serde_json::Error,
    },
}

impl RecordError {
    /// Whether it is about records that a power cut left, and nothing else.
    pub fn is_torn(&self) -> bool {
        matches!(self, Self::Unreadable { files } if files.iter().all(|file| file.is_torn))
    }

    /// For `map_err`: attaches the action and the path to the system's answer.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { action, path, source }
    }
}

fn unreadable(files: &[BadFile]) -> String {
    let mut text = match files.len() {
        1 => "1 record cannot be read".to_owned(),
        n => format!("{n} records cannot be read"),
    };
    for file in files {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {}: {}", file.path.display(), file.reason);
    }
    text.push_str("\n\nhint: delete a damaged file and run its cell again, or restore it from version control");
    text
}
