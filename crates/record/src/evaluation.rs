//! The outcome of one evaluation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cell::Readout;
use crate::number;

/// What one readout of a cell scored on one split after some step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Optimizer steps taken before this evaluation.
    pub step: u64,
    /// The split, such as `validation`.
    pub split: String,
    /// Which readout of the cell was evaluated.
    pub readout: Readout,
    /// Metric names to values, in the metric's own unit (accuracy lies in 0..=1); NaN where undefined.
    #[serde(with = "number::map")]
    pub metrics: BTreeMap<String, f64>,
    /// Number of real examples evaluated, padding rows not counted.
    pub examples: usize,
    /// Mean loss over these examples.
    #[serde(with = "number::single")]
    pub loss: f64,
}
