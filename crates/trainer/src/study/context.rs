//! What a study needs beside its cells.

use std::collections::BTreeMap;

use record::{CodeIdentity, Store};

use crate::{model_cache::ModelCache, stop::Stop};

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
    /// Whether finished cells whose adapter is not there stay as they are, all but those that another cell starts from; else they are trained
    /// again.
    pub keeps_records: bool,
    /// Who may want the study to stop.
    pub stop: Stop<'a>,
}
