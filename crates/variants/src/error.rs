//! What can be wrong with a variant as it is written.

use thiserror::Error;

use crate::calibration::Statistic;

/// One broken rule of a [`VariantSpec`](crate::spec::VariantSpec), with the field that breaks it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {rule}")]
pub struct SpecProblem {
    /// Path of the field inside the variant, e.g. `rank_policy.r_min`.
    pub field: String,
    /// The value, the rule it breaks and the way out, in one sentence.
    pub rule: String,
}

impl SpecProblem {
    /// A problem at `field`.
    pub fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.into() }
    }

    /// The same problem of a field inside `outer`.
    pub fn inside(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), rule: self.rule }
    }
}

/// Why an adapter cannot be put on a map.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AttachError {
    /// The rank exceeds what the map's shape allows.
    #[error("`{slot}` is [{d_in}, {d_out}], so its rank is at most {max}, but rank is `{rank}`; use 1..={max}")]
    RankTooLarge {
        /// Name of the map.
        slot: String,
        /// Input width.
        d_in: usize,
        /// Output width.
        d_out: usize,
        /// Largest legal rank.
        max: usize,
        /// The rank asked for.
        rank: usize,
    },
    /// The method cannot be put on a map of this shape at this rank.
    #[error("`{slot}` is [{d_in}, {d_out}], and {why}")]
    Misfit {
        /// Name of the map.
        slot: String,
        /// Input width.
        d_in: usize,
        /// Output width.
        d_out: usize,
        /// The rule that is broken, and the way out.
        why: String,
    },
    /// A start that needs a statistic of training batches, which is not there.
    #[error(
        "`{slot}` starts from {statistic} over training batches (`{delta}`), but there is none: no batch reached the map, or none was shown; \
         leave it out of `targets`"
    )]
    NotCalibrated {
        /// Name of the map.
        slot: String,
        /// What is needed.
        statistic: Statistic,
        /// The delta's kind.
        delta: &'static str,
    },
    /// A delta that has no form for embedding tables was pointed at one.
    #[error(
        "`{slot}` is an embedding table, and this variant (`{delta}`) has no lookup form; target linear maps, or use an \
         additive `low_rank` whose `a` trains, with `base_update: {{kind: none}}`"
    )]
    NotAnEmbeddingDelta {
        /// Name of the table.
        slot: String,
        /// The delta's kind.
        delta: &'static str,
    },
}
