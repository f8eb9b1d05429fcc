//! How a command fails, and with which exit status.

use std::process::ExitCode;

use analysis::{AnalysisError, measures::MeasureError};
use assets::error::AssetError;
use data::error::DataError;
use experiment::SpecErrors;
use record::RecordError;
use trainer::error::TrainError;

use crate::terminal::note;

/// Exit status of a process that Ctrl-C stopped.
const INTERRUPTED: u8 = 130;

/// Why a command does not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The input is wrong; exit status 2.
    Input(String),
    /// A run failed, or a result cannot be written; exit status 1.
    Run(anyhow::Error),
    /// A signal stopped it, and everything is saved; the exit status is 128 and the signal's number: 130 for Ctrl-C.
    Interrupted {
        /// The exit status.
        status: u8,
    },
}

/// Errors that the user's input causes, and errors that it does not.
macro_rules! failures {
    (input: $($Input:ty),+; run: $($Run:ty),+ $(,)?) => {
        $(impl From<$Input> for Failure {
            fn from(error: $Input) -> Self {
                Self::Input(error.to_string())
            }
        })+
        $(impl From<$Run> for Failure {
            fn from(error: $Run) -> Self {
                Self::Run(error.into())
            }
        })+
    };
}

failures! {
    input: AssetError, DataError, MeasureError, SpecErrors;
    run: AnalysisError, std::io::Error, serde_json::Error,
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        match error {
            // What is read is input, as an adapter is, whoever wrote it.
            RecordError::NoFolder { .. }
            | RecordError::Unreadable { .. }
            | RecordError::WrongCell { .. }
            | RecordError::Tuned { .. } => Self::Input(error.to_string()),
            // A full disk is not the input's fault.
            other => Self::Run(other.into()),
        }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Record(error) => error.into(),
            error @ (TrainError::Diverged { .. } | TrainError::BaseChanged { .. } | TrainError::Untunable { .. }) => {
                Self::Run(error.into())
            }
            TrainError::Interrupted => Self::Interrupted { status: INTERRUPTED },
            other => Self::Input(other.to_string()),
        }
    }
}

impl From<report::ReportError> for Failure {
    fn from(error: report::ReportError) -> Self {
        match error {
            // A file that somebody else wrote.
            error @ report::ReportError::Measures { .. } => Self::Input(error.to_string()),
            other => Self::Run(other.into()),
        }
    }
}

impl From<analysis::measures::study::StudyError> for Failure {
    fn from(error: analysis::measures::study::StudyError) -> Self {
        use analysis::measures::study::StudyError;
        match error {
            StudyError::Measure(error) => error.into(),
            StudyError::Analysis(error) => error.into(),
        }
    }
}

impl Failure {
    /// Prints what went wrong; returns the status with which the process ends.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Input(message) => {
                note(&format!("error: {message}"));
                ExitCode::from(2)
            }
            Self::Run(error) => {
                note(&format!("error: {}", chain(error)));
                ExitCode::from(1)
            }
            Self::Interrupted { status } => {
                note("interrupted; everything is saved, and the same command continues where it stopped");
                ExitCode::from(*status)
            }
        }
    }
}

/// An error and its causes in one line, each said once: most errors of the crates say their cause themselves.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let full = || std::io::Error::other("no space left");
        let error = TrainError::from(AssetError::Io { path: "a/b".into(), source: full() });
        assert_eq!(chain(&error.into()), "a/b: no space left");
        assert_eq!(chain(&anyhow::Error::from(full()).context("table")), "table: no space left");
    }
}
