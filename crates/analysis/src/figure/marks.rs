//! The marks of the papers' figures (curves, dots, bars, heat maps): each function turns plain arrays into a [`super::Figure`].

mod amplification;
mod curves;
mod dots;
mod dynamics;
mod pareto;
mod phi;
mod rank_allocation;
mod ranks;

pub use amplification::{AmplificationRow, amplification};
pub use curves::{Curve, TaskCurves, expected_best, rank_curves, sensitivity, sequence_curves, training_curves};
pub use dots::{Overlap, TaskMeans, comparison, seed_overlap};
pub use dynamics::{Dynamics, Fit, dynamics};
pub use pareto::{AtCost, front, pareto};
pub use phi::{PhiMap, phi_grid, phi_ranks, phi_seeds};
pub use rank_allocation::rank_allocation;
pub use ranks::critical_difference;

use super::{Axis, Limits, Scale};

/// The words around a figure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caption {
    /// Above the panels.
    pub title: String,
    /// What was repeated and how often.
    pub n: String,
    /// Further sentences under the panels.
    pub notes: Vec<String>,
}

/// A measured number with its interval, such as a mean over seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The number.
    pub value: f64,
    /// Lower and upper end; none for a single run.
    pub interval: Option<[f64; 2]>,
}

impl Measured {
    /// Without interval.
    pub fn exact(value: f64) -> Self {
        Self { value, interval: None }
    }
}

fn axis(label: &str, unit: &str, scale: Scale) -> Axis {
    Axis { label: label.to_owned(), unit: unit.to_owned(), scale, range: None, limits: Limits::default() }
}
