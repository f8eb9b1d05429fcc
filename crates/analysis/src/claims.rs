//! Claims of the papers, each judged against what this repository's studies found.
//!
//! `assets/paper_targets.json` states each claim, the paper's number where it has one, and how it is judged here. A claim holds,
//! does not hold, is undecided (too few runs, or the interval covers both), or cannot be tested at this scale. A claim that does not
//! hold is a finding, not a failure: the miniature is not the papers' models.

use std::{collections::BTreeMap, fmt};

use record::RunRecord;

use crate::{
    AnalysisError,
    measures::place,
    stats::Summary,
    subspace::random::root_mean_square_projection,
    table::{Block, Entry, Table},
};

mod csv;
mod evidence;
mod target;

pub use csv::Rows;
pub use evidence::Evidence;
pub use target::{Check, Kept, Target};

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
}

impl Finding {
    fn none(reason: impl Into<String>) -> Self {
        Self { got: None, interval: None, random: None, n: 0, verdict: Verdict::NotTestable(reason.into()) }
    }

    /// A mean over seeds that must lie above `bound`: the interval decides.
    fn above(values: &[f64], bound: f64) -> Self {
        let Ok(summary) = Summary::of(values) else { return Self::none("no finite value was found") };
        let interval = summary.ci_low.zip(summary.ci_high).map(|(low, high)| [low, high]);
        Self { got: Some(summary.mean), interval, random: None, n: summary.n, verdict: decide(interval, bound) }
    }

    fn map(mut self, f: impl Fn(f64) -> f64) -> Self {
        self.got = self.got.map(&f);
        self.interval = self.interval.map(|ends| ends.map(&f));
        self
    }
}

/// Above, below or around a bound.
fn decide(interval: Option<[f64; 2]>, bound: f64) -> Verdict {
    match interval {
        Some([low, _]) if low > bound => Verdict::Holds,
        Some([_, high]) if high <= bound => Verdict::DoesNotHold,
        _ => Verdict::Undecided,
    }
}

/// The claims that come with the build.
pub fn targets() -> Vec<Target> {
    serde_json::from_str(include_str!("../assets/paper_targets.json"))
        .unwrap_or_else(|error| unreachable!("a test reads the embedded targets: {error}"))
}

/// The experiments whose results the claims need.
pub fn experiments(targets: &[Target]) -> Vec<&str> {
    let mut names: Vec<&str> = targets
        .iter()
        .filter_map(|target| match &target.check {
            Check::RandomSamples { experiment, .. }
            | Check::FirstDirection { experiment, .. }
            | Check::FirstRow { experiment, .. }
            | Check::SeedDifference { experiment, .. }
            | Check::AmplificationFalls { experiment, .. }
            | Check::OverRandom { experiment, .. }
            | Check::Correlation { experiment, .. }
            | Check::Rows { experiment, .. }
            | Check::FinalRanks { experiment, .. } => Some(experiment.as_str()),
            Check::RandomClosedForm { .. } | Check::Untestable { .. } => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Judges one claim.
pub fn judge(target: &Target, evidence: &Evidence) -> Result<Finding, AnalysisError> {
    Ok(match &target.check {
        Check::Untestable { reason } => Finding::none(reason.clone()),
        Check::RandomClosedForm { r, norm, d_in, d_out, tolerance } => {
            let got = root_mean_square_projection(*norm, (*d_in, *d_out), *r);
            let value = target.value.unwrap_or(f64::NAN);
            let holds = (got - value).abs() <= tolerance * value;
            let verdict = if holds { Verdict::Holds } else { Verdict::DoesNotHold };
            Finding { got: Some(got), interval: None, random: None, n: 0, verdict }
        }
        Check::RandomSamples { experiment, errors } => or(evidence.samples(experiment, *errors)),
        Check::FirstDirection { experiment, variant, ranks, map, side, above } => {
            or(evidence.overlaps(experiment, (variant, *ranks, map, side), &[1], *above))
        }
        Check::FirstRow { experiment, variant, ranks, map, side, share, above } => {
            let Some(dimension) = evidence.dimension(experiment, map) else {
                return Ok(Finding::none(format!("`{experiment}` was not run")));
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
            let ratio = |rows: &Rows, i| Some((rows.number(i, "onto_update")? / rows.number(i, "onto_random")?).ln());
            or(evidence
                .by_seed(experiment, (variant, *rank, map), ratio)
                .map(|values| Finding::above(&values.into_values().collect::<Vec<_>>(), 0.0).map(f64::exp)))
        }
        Check::Correlation { experiment, variant } => {
            or(evidence.correlation(experiment, variant, target.value.unwrap_or(1.0).signum()))
        }
        Check::Rows { experiment, row, against, at_least } => evidence.rows(experiment, row, against, *at_least)?,
        Check::FinalRanks { experiment, variant, more } => match evidence.records.get(experiment) {
            None => Finding::none(format!("`{experiment}` was not run")),
            Some(records) => {
                let runs = records.iter().filter(|record| record.cell.variant == *variant && record.is_finished());
                Finding::above(&runs.filter_map(|record| kept_more(record, *more)).collect::<Vec<_>>(), 0.0)
            }
        },
    })
}

/// A finding, or the one that says why there is none.
fn or(found: Result<Finding, Finding>) -> Finding {
    found.unwrap_or_else(|missing| missing)
}

/// Mean final rank of one group of maps minus that of the others.
fn kept_more(record: &RunRecord, more: Kept) -> Option<f64> {
    let ranks = &record.measured.final_ranks;
    let layers: Vec<usize> = ranks.keys().filter_map(|map| place(map).0).collect();
    let half = f64::midpoint(*layers.iter().min()? as f64, *layers.iter().max()? as f64);
    let within = |map: &str| match more {
        Kept::FeedForward => !map.contains("attention"),
        Kept::UpperLayers => place(map).0.is_some_and(|layer| layer as f64 > half),
    };
    let mean = |inside: bool| {
        let of: Vec<f64> =
            ranks.iter().filter(|(map, _)| within(map) == inside).map(|(_, rank)| *rank as f64).collect();
        (!of.is_empty()).then(|| of.iter().sum::<f64>() / of.len() as f64)
    };
    Some(mean(true)? - mean(false)?)
}

/// The claims with target, found, difference and verdict, one block per paper.
pub fn table(judged: &[(Target, Finding)]) -> Table {
    let mut blocks: Vec<Block> = Vec::new();
    for (target, finding) in judged {
        let paper = target.paper.split(',').next().unwrap_or_default().to_owned();
        let row = row(target, finding);
        match blocks.iter_mut().find(|block| block.title.as_ref() == Some(&paper)) {
            Some(block) => block.rows.push(row),
            None => blocks.push(Block { title: Some(paper), rows: vec![row] }),
        }
    }
    let header = ["claim", "target", "got", "95% interval", "random", "difference", "n", "verdict"];
    Table {
        caption: "The papers' claims on the miniature.".to_owned(),
        header: header.map(str::to_owned).to_vec(),
        names: 1,
        blocks,
        notes: notes(judged),
    }
}

fn row(target: &Target, finding: &Finding) -> Vec<Entry> {
    let number = |value: Option<f64>| value.map_or(Entry::Missing, |value| Entry::Text(short(value)));
    let pair = |ends: Option<[f64; 2]>, join: &str| {
        ends.map_or(Entry::Missing, |[low, high]| Entry::Text(format!("{}{join}{}", short(low), short(high))))
    };
    let place = target.paper.split_once(", ").map_or("", |(_, rest)| rest);
    let difference = target.value.zip(finding.got).map(|(value, got)| got - value);
    vec![
        Entry::Text(format!("{place}: {}", target.claim)),
        number(target.value),
        number(finding.got),
        pair(finding.interval, " to "),
        pair(finding.random, ", below "),
        number(difference),
        if finding.n == 0 { Entry::Missing } else { Entry::Text(finding.n.to_string()) },
        Entry::Text(finding.verdict.to_string()),
    ]
}

/// How many claims hold, what the columns mean, and why some claims cannot be tested.
fn notes(judged: &[(Target, Finding)]) -> Vec<String> {
    let findings = || judged.iter().filter(|(target, _)| !target.check.is_identity());
    let count = |wanted: &dyn Fn(&Verdict) -> bool| findings().filter(|(_, finding)| wanted(&finding.verdict)).count();
    let identities = judged.len() - findings().count();
    let identities = match identities {
        0 => String::new(),
        n => format!(" {n} rows about random matrices are identities: they check the code and are not counted."),
    };
    let mut notes = vec![
        format!(
            "{} hold, {} do not, {} undecided, {} not testable here.{identities}",
            count(&|v| *v == Verdict::Holds),
            count(&|v| *v == Verdict::DoesNotHold),
            count(&|v| *v == Verdict::Undecided),
            count(&|v| matches!(v, Verdict::NotTestable(_)))
        ),
        "Intervals are 95% Student intervals over n seeds (jackknife over seeds for overlaps of seeds). Random: the mean over \
         random subspaces, and what 97.5% of random pairs stay below. A claim about a size or a sign holds where its interval does; one about two rows of a study is decided \
         as in the study's table of contrasts, after Holm's correction. A miss is a finding about this model and suite."
            .to_owned(),
    ];
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, finding) in judged {
        if let Verdict::NotTestable(reason) = &finding.verdict {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let reasons: Vec<String> = reasons
        .into_iter()
        .map(|(reason, n)| if n > 1 { format!("{reason} ({n} claims)") } else { reason.to_owned() })
        .collect();
    if !reasons.is_empty() {
        notes.push(format!("Not testable here: {}.", reasons.join("; ")));
    }
    notes
}

/// Three significant digits.
fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 6) as usize)
}

#[cfg(test)]
mod tests;
