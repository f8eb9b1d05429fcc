//! Claims of the papers, each judged against what this repository's studies found.
//!
//! `assets/paper_targets.json` states each claim, the paper's number where it has one, and how it is judged here. A claim holds,
//! does not hold, is undecided (too few runs, or the interval covers both), or cannot be tested at this scale. A claim that does not
//! hold is a finding, not a failure: the miniature is not the papers' models.

use std::fmt;

use crate::{
    AnalysisError,
    compare::{Beyond, Reached, beyond},
    stats::Estimate,
    subspace::random::root_mean_square_projection,
};

mod amplification;
mod csv;
mod evidence;
mod memory;
mod pruning;
mod rows;
mod table;
mod target;

pub use csv::Rows;
pub use evidence::Evidence;
pub use table::table;
use table::{short, shown};
pub use target::{Check, Kept, Target, Wanted};

/// What a claim came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds here.
    Holds,
    /// It does not.
    DoesNotHold,
    /// The runs do not decide.
    Undecided,
    /// It needs what is not here, or a study that was not run.
    NotTestable(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => f.pad("holds"),
            Self::DoesNotHold => f.pad("does not hold"),
            Self::Undecided => f.pad("undecided"),
            Self::NotTestable(_) => f.pad("not testable"),
        }
    }
}

/// A claim judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What was found, where something was.
    pub got: Option<f64>,
    /// Its 95% interval.
    pub interval: Option<[f64; 2]>,
    /// What randomness alone would give, and the upper end of its band.
    pub random: Option<[f64; 2]>,
    /// Runs or seeds.
    pub n: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// What a reader must know beside the numbers.
    pub remark: Option<String>,
    /// What must all lie above their bounds for the claim to hold, decided in one family with the other claims about the study; empty where
    /// the verdict stands already.
    conditions: Vec<Beyond>,
}

impl Finding {
    /// A verdict without numbers.
    fn plain(verdict: Verdict) -> Self {
        Self { got: None, interval: None, random: None, n: 0, verdict, remark: None, conditions: Vec::new() }
    }

    fn none(reason: impl Into<String>) -> Self {
        Self::plain(Verdict::NotTestable(reason.into()))
    }

    /// What must lie above `bound`.
    fn above(estimate: &Estimate, bound: f64) -> Self {
        Self {
            got: Some(estimate.difference),
            interval: estimate.interval(),
            n: estimate.n,
            conditions: vec![condition(estimate, bound)],
            ..Self::plain(Verdict::Undecided)
        }
    }

    /// The same of a mean over seeds.
    fn mean_above(values: &[f64], bound: f64) -> Self {
        match Estimate::of(values) {
            Ok(estimate) => Self::above(&estimate, bound),
            Err(_) => Self::none("no finite value was found"),
        }
    }

    fn map(mut self, f: impl Fn(f64) -> f64) -> Self {
        self.got = self.got.map(&f);
        self.interval = self.interval.map(|ends| ends.map(&f));
        self
    }
}

/// The statement that an estimate lies above a bound.
fn condition(estimate: &Estimate, bound: f64) -> Beyond {
    Beyond { p: estimate.p_of(bound), is_above: estimate.difference > bound }
}

/// A claim holds where all of its conditions do, and does not where one surely fails.
fn verdict(conditions: impl IntoIterator<Item = Reached>) -> Verdict {
    let all: Vec<Reached> = conditions.into_iter().collect();
    if all.contains(&Reached::No) {
        Verdict::DoesNotHold
    } else if all.contains(&Reached::Undecided) {
        Verdict::Undecided
    } else {
        Verdict::Holds
    }
}

/// The claims that come with the build.
pub fn targets() -> Vec<Target> {
    serde_json::from_str(include_str!("../assets/paper_targets.json"))
        .unwrap_or_else(|error| unreachable!("a test reads the embedded targets: {error}"))
}

/// The experiments whose results the claims need.
pub fn experiments(targets: &[Target]) -> Vec<&str> {
    let mut names: Vec<&str> = targets.iter().filter_map(|target| target.check.experiment()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Judges claims, in their order. What is measured on one study's runs is one family, corrected as the study's own comparisons are.
pub fn judge(targets: &[Target], evidence: &Evidence) -> Result<Vec<Finding>, AnalysisError> {
    let mut findings = targets.iter().map(|target| found(target, evidence)).collect::<Result<Vec<_>, _>>()?;
    for experiment in experiments(targets) {
        let family: Vec<usize> =
            (0..targets.len()).filter(|at| targets[*at].check.experiment() == Some(experiment)).collect();
        let conditions: Vec<Beyond> = family.iter().flat_map(|at| findings[*at].conditions.clone()).collect();
        let mut reached = beyond(&conditions)?.into_iter();
        for at in family {
            let own: Vec<Reached> = reached.by_ref().take(findings[at].conditions.len()).collect();
            if !own.is_empty() {
                findings[at].verdict = verdict(own);
            }
        }
    }
    Ok(findings)
}

/// What the evidence says of one claim; undecided where it has conditions.
fn found(target: &Target, evidence: &Evidence) -> Result<Finding, AnalysisError> {
    Ok(match &target.check {
        Check::Untestable { reason } => Finding::none(reason.clone()),
        Check::RandomClosedForm { r, norm, d_in, d_out, tolerance } => {
            let got = root_mean_square_projection(*norm, (*d_in, *d_out), *r);
            let value = target.value.unwrap_or(f64::NAN);
            let holds = (got - value).abs() <= tolerance * value;
            let verdict = if holds { Verdict::Holds } else { Verdict::DoesNotHold };
            Finding { got: Some(got), ..Finding::plain(verdict) }
        }
        Check::RandomSamples { experiment, errors } => or(evidence.samples(experiment, *errors)),
        Check::FirstDirection { experiment, variant, ranks, map, side, above } => {
            or(evidence.overlaps(experiment, (variant, *ranks, map, side), &[1], *above))
        }
        Check::FirstRow { experiment, variant, ranks, map, side, share, above } => {
            let Some(dimension) = evidence.dimension(experiment, map) else {
                let no_map = || Missing(format!("the analysis of `{experiment}` has no overlap of `{map}`"));
                return Ok(or(evidence.table(experiment, "overlap").and_then(|_| Err(no_map()))));
            };
            let cuts: Vec<usize> = (1..=(dimension * share) as usize).collect();
            or(evidence.overlaps(experiment, (variant, *ranks, map, side), &cuts, *above))
        }
        Check::SeedDifference { experiment, variant, rank, kinds, side, k } => {
            or(evidence.seed_difference(experiment, (variant, *rank, kinds, side, *k)))
        }
        Check::AmplificationFalls { experiment, variant, ranks, map } => {
            or(evidence.falls(experiment, (variant, *ranks, map)))
        }
        Check::OverRandom { experiment, variant, rank, map } => {
            or(evidence.over_random(experiment, (variant, *rank, map)))
        }
        Check::Correlation { experiment, variant, unlike } => {
            let sign = target.value.unwrap_or(1.0).signum();
            or(evidence.correlation(experiment, variant, unlike.as_deref(), sign))
        }
        Check::Rows { experiment, row, against, at_least } => evidence.rows(experiment, row, against, *at_least)?,
        Check::Verdict { experiment, variant, wanted } => evidence.verdict(experiment, variant, *wanted)?,
        Check::PeakMemory { experiment, variant, against } => evidence.memory_saved(experiment, variant, against),
        Check::FinalRanks { experiment, variant, more } => evidence.final_ranks(experiment, variant, *more),
    })
}

/// Why there is no finding.
struct Missing(String);

/// A finding, or the one that says why there is none.
fn or(found: Result<Finding, Missing>) -> Finding {
    found.unwrap_or_else(|Missing(reason)| Finding::none(reason))
}

#[cfg(test)]
mod tests;
