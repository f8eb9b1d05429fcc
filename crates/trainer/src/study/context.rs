//! What a study needs beside its cells.

use std::{collections::BTreeMap, sync::atomic::AtomicBool};

use record::{CodeIdentity, Store};

use crate::model_cache::ModelCache;

/// What a study needs beside its cells.
#[derive(Debug)]
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
    /// Set by whoever wants the study to stop at the next step.
    pub stop: &'a AtomicBool,
}
