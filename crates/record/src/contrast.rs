//! A contrast: one comparison of two table rows that an experiment asks for before it is run.

use crate::cell::Readout;

/// Whether one row of the tables is better than another, and by how much the claim asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Contrast {
    /// The row.
    pub row: Readout,
    /// The row it is compared with.
    pub against: Readout,
    /// The difference that the claim asks for, in points (hundredths of the metric).
    pub margin: Option<f64>,
    /// Differences smaller than this many points do not matter; none where the experiment's own margin holds.
    pub equivalence: Option<f64>,
}
