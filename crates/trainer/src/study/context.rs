//! What a study needs beside its cells.

use std::collections::BTreeMap;

use record::{CodeIdentity, Lease, Store};

use crate::{error::TrainError, model_cache::ModelCache, stop::Stop};

/// What a study needs beside its cells.
#[derive(Clone, Copy, Debug)]
pub struct StudyContext<'a> {
    /// Models and tasks.
    pub cache: &'a ModelCache,
    /// Where records go.
    pub store: &'a Store,
    /// The code that runs.
    pub code: &'a CodeIdentity,
    /// Versions of the crates that matter.
    pub versions: &'a BTreeMap<String, String>,
    /// Name of the device.
    pub device: &'a str,
    /// Runs per cohort; `None` fills a device whose memory can be read, and takes one run elsewhere.
    pub cohort: Option<usize>,
    /// Cohorts trained at once.
    pub workers: usize,
    /// Processes that are to share the study, so that none takes more than its part at once.
    pub among: usize,
    /// Whether it stays until the runs that others train have ended; else it ends when nothing is left to begin.
    pub stays: bool,
    /// The lease on the cohort that is trained; none outside a study.
    pub lease: Option<&'a Lease>,
    /// Whether finished cells whose adapter is not there stay as they are, all but those that another cell starts from; else they are trained
    /// again.
    pub keeps_records: bool,
    /// Who may want the study to stop.
    pub stop: Stop<'a>,
}

impl StudyContext<'_> {
    /// [`TrainError::Interrupted`] where the cohort in training is another process's by now: asked before what others read is written.
    pub fn still_has_it(&self) -> Result<(), TrainError> {
        if self.lease.is_none_or(Lease::check) { Ok(()) } else { Err(TrainError::Interrupted) }
    }
}
