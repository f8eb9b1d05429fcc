//! What the rows of a comparison have equal.

/// A quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// The rank of the update.
    Rank,
    /// Trained parameters without the head's.
    Parameters,
    /// Device memory of a run.
    Memory,
    /// Wall time of a step.
    Time,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rank, Self::Parameters, Self::Memory, Self::Time];

    /// Its name in an experiment.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rank => "rank",
            Self::Parameters => "parameters",
            Self::Memory => "memory",
            Self::Time => "time",
        }
    }
}

/// What an experiment says of its rows: each has as much of a quantity as the baseline has.
#[derive(Clone, Debug, PartialEq)]
pub struct Matching {
    /// Of what.
    pub by: Quantity,
    /// How far a row may be off, as a share of the baseline's.
    pub tolerance: f64,
    /// Labels that are shown beside the others and not matched.
    pub except: Vec<String>,
}

impl Matching {
    /// How far `value` is off the nearest of the baseline's values, as a share of it, above 0 where it is larger; none where the baseline has
    /// no value above 0.
    pub fn off(&self, value: f64, baseline: &[f64]) -> Option<f64> {
        let off = baseline.iter().filter(|of| **of > 0.0).map(|of| value / of - 1.0);
        off.min_by(|one, other| one.abs().total_cmp(&other.abs()))
    }
}
