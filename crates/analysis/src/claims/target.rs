//! A claim as `assets/paper_targets.json` states it.

use serde::Deserialize;

/// A claim and how it is judged.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// A name for it.
    pub id: String,
    /// Paper and place.
    pub paper: String,
    /// In words.
    pub claim: String,
    /// The paper's number, where it has one.
    pub value: Option<f64>,
    /// How it is judged.
    pub check: Check,
}

/// How a claim is judged; every kind names the study it needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// `r·‖W‖_F/√(d_in·d_out)` within a share of the paper's figure.
    RandomClosedForm {
        /// Directions.
        r: usize,
        /// `‖W‖_F`
        norm: f64,
        /// Inputs.
        d_in: usize,
        /// Outputs.
        d_out: usize,
        /// Share of the paper's figure.
        tolerance: f64,
    },
    /// Sampled mean squares within so many standard errors of their expectation, for every map and `r`.
    RandomSamples {
        /// The study.
        experiment: String,
        /// Standard errors.
        errors: f64,
    },
    /// Mean `φ(1, 1)` between two ranks above a value and above the random band.
    FirstDirection {
        /// The study.
        experiment: String,
        /// The variant.
        variant: String,
        /// The two ranks.
        ranks: [usize; 2],
        /// Kind of map.
        map: String,
        /// Whose directions.
        side: String,
        /// The value.
        above: f64,
    },
    /// Mean `φ(1, j)` above a value and above the random band for every `j` up to a share of the space.
    FirstRow {
        /// The study.
        experiment: String,
        /// The variant.
        variant: String,
        /// The two ranks.
        ranks: [usize; 2],
        /// Kind of map.
        map: String,
        /// Whose directions.
        side: String,
        /// Of the space.
        share: f64,
        /// The value.
        above: f64,
    },
    /// The jackknife interval of a difference of seed overlaps above 0.
    SeedDifference {
        /// The study.
        experiment: String,
        /// The variant.
        variant: String,
        /// The rank.
        rank: usize,
        /// `a minus b`
        kinds: String,
        /// Whose directions.
        side: String,
        /// Directions.
        k: usize,
    },
    /// The ratio of the amplification at two ranks above that of random directions with the same norms, geometric mean over maps.
    AmplificationFalls {
        /// The study.
        experiment: String,
        /// The variant.
        variant: String,
        /// The two ranks.
        ranks: [usize; 2],
        /// Kind of map.
        map: String,
    },
    /// `‖UᵀWV‖_F` of the update's directions over that of random ones above 1.
    OverRandom {
        /// The study.
        experiment: String,
        /// The variant.
        variant: String,
        /// The rank.
        rank: usize,
        /// Kind of map.
        map: String,
    },
    /// The sign of a mean correlation over seeds.
    Correlation {
        /// The study.
        experiment: String,
        /// The variant.
        variant: String,
        /// The variant of which the paper reports the other sign: the correlation must also lie beyond its.
        #[serde(default)]
        unlike: Option<String>,
    },
    /// A paired difference of two rows, in points, averaged over tasks.
    Rows {
        /// The study.
        experiment: String,
        /// Label and rank.
        row: (String, usize),
        /// Label and rank.
        against: (String, usize),
        /// In points.
        at_least: f64,
    },
    /// The verdict of a study's own table on a row against its baseline, averaged over tasks.
    Verdict {
        /// The study.
        experiment: String,
        /// The row's label.
        variant: String,
        /// What the paper says of it.
        wanted: Wanted,
    },
    /// Where pruning leaves the ranks.
    FinalRanks {
        /// The study.
        experiment: String,
        /// The variant.
        variant: String,
        /// The group that keeps more.
        more: Kept,
    },
    /// The share of another row's peak memory that a row saves, each trained alone: above 0.
    PeakMemory {
        /// The study.
        experiment: String,
        /// The row's label.
        variant: String,
        /// The other's.
        against: String,
    },
    /// Needs what is not here.
    Untestable {
        /// What it needs.
        reason: String,
    },
}

/// What a paper says of a method beside the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// As good: equivalent or better.
    Level,
    /// Better.
    Better,
}

/// A group of maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Feed-forward maps, against attention's.
    FeedForward,
    /// The upper half of the layers, against the lower.
    UpperLayers,
}

impl Check {
    /// The experiment whose results it needs, where it needs one.
    pub fn experiment(&self) -> Option<&str> {
        match self {
            Self::RandomSamples { experiment, .. }
            | Self::FirstDirection { experiment, .. }
            | Self::FirstRow { experiment, .. }
            | Self::SeedDifference { experiment, .. }
            | Self::AmplificationFalls { experiment, .. }
            | Self::OverRandom { experiment, .. }
            | Self::Correlation { experiment, .. }
            | Self::Rows { experiment, .. }
            | Self::Verdict { experiment, .. }
            | Self::PeakMemory { experiment, .. }
            | Self::FinalRanks { experiment, .. } => Some(experiment.as_str()),
            Self::RandomClosedForm { .. } | Self::Untestable { .. } => None,
        }
    }

    /// Whether it is true of any matrices: a check of the code, and no finding about models.
    pub fn is_identity(&self) -> bool {
        matches!(self, Self::RandomClosedForm { .. } | Self::RandomSamples { .. })
    }
}
