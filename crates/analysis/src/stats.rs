//! Statistics on slices of numbers: no files, no records, no rendering.
//!
//! The unit of observation is a run, one value per seed. With few seeds the normal approximation is too narrow, so intervals are
//! Student's; with few pairs the t-test leans on normality, so the exact sign-flip test stands beside it where it can reach 5%.
//!
//! | module | one sentence |
//! |---|---|
//! | `sample` | mean, spread, interval and noise floor of one sample |
//! | `estimate` | a paired difference: its interval, its tests, equivalence |
//! | `power` | what a number of seeds can tell |
//! | `multiple` | Holm's correction |
//! | `sign_flip` | the exact test on signs |
//! | `strata` | whether tasks' differences at one seed go together |
//! | `examples` | McNemar's test and the bootstrap over seeds and examples |
//! | `bootstrap` | interquartile mean and probability of improvement, stratified by task |
//! | `friedman` | ranks over tasks and their critical difference |

mod bootstrap;
mod draws;
mod estimate;
mod examples;
mod friedman;
mod multiple;
mod power;
mod sample;
mod sign_flip;
mod strata;

pub use bootstrap::{Resampled, improvement, interquartile_mean};
pub use estimate::Estimate;
pub use examples::{McNemar, two_level};
pub use friedman::{Friedman, average_ranks, studentized_range_quantile};
pub use multiple::holm;
pub use power::{MOST_SEEDS, POWER, power};
pub use sample::{CONFIDENCE, Summary};
pub use sign_flip::{LARGEST_EXACT, SMALLEST_EXACT, sign_flip_test};
pub use strata::{Together, together};

/// Why a statistic is not defined on what was given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// There are too few values.
    #[error("{found} values where at least {needed} are needed; add seeds")]
    TooFew {
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A value is NaN or infinite.
    #[error("value {index} is `{value}`, but only finite numbers can be averaged; leave failed runs out")]
    NotFinite {
        /// Its position, from 0.
        index: usize,
        /// The value.
        value: f64,
    },
    /// Pairs need two slices of equal length.
    #[error("{first} values cannot be paired with {second}; match them by seed")]
    Unpaired {
        /// Length of the first slice.
        first: usize,
        /// Length of the second slice.
        second: usize,
    },
    /// The exact test enumerates all sign patterns.
    #[error("{found} pairs have 2^{found} sign patterns, but at most 2^{LARGEST_EXACT} are enumerated; use the t-test")]
    TooMany {
        /// How many pairs there are.
        found: usize,
    },
    /// A p-value outside 0..=1.
    #[error("p-value {index} is `{value}`, but must lie in 0..=1")]
    NotProbability {
        /// Its position, from 0.
        index: usize,
        /// The value.
        value: f64,
    },
}

/// Refuses values that are not finite.
fn finite(values: &[f64]) -> Result<(), StatsError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(StatsError::NotFinite { index, value: values[index] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
