//! The papers' claims against what the studies of this repository found.
//!
//! `assets/paper_targets.json` states each claim, the paper's number where it has one, and how it is judged here. A claim holds,
//! does not hold, is undecided (too few runs, or the interval covers both), or cannot be tested at this scale. A claim that does not
//! hold is a finding, not a failure: the miniature is not the papers' models.

use std::{collections::BTreeMap, fmt};

use record::RunRecord;
use serde::Deserialize;

use crate::{
    AnalysisError,
    compare::{ALL_TASKS, Contrast, contrast},
    stats::Summary,
    subspace::random::root_mean_square_projection,
    summary::{Selection, summarise},
    survey::place,
    table::{Block, Entry, Table},
};

mod csv;

pub use csv::Rows;

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
    /// The ratio of the amplification at two ranks above 1, geometric mean over maps, interval over seeds.
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
    /// Where pruning leaves the ranks.
    FinalRanks {
        /// The study.
        experiment: String,
        /// The variant.
        variant: String,
        /// The group that keeps more.
        more: Kept,
    },
    /// Needs what is not here.
    Untestable {
        /// What it needs.
        reason: String,
    },
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

/// What a study left: its records, and the tables of its adapters by name.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Records by experiment.
    pub records: BTreeMap<String, Vec<RunRecord>>,
    /// Tables of `results/<experiment>/analysis`, by experiment and name.
    pub tables: BTreeMap<(String, String), Rows>,
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

impl Evidence {
    fn table(&self, experiment: &str, name: &str) -> Result<&Rows, Finding> {
        let key = (experiment.to_owned(), name.to_owned());
        self.tables.get(&key).ok_or_else(|| {
            Finding::none(format!(
                "`{experiment}` has no analysis; `lora-lab run {experiment}`, then `analyze study {experiment}`"
            ))
        })
    }

    /// The largest distance of a sampled mean square from its expectation, in standard errors.
    fn samples(&self, experiment: &str, errors: f64) -> Result<Finding, Finding> {
        let rows = self.table(experiment, "random_column")?;
        let far = |i: usize| {
            let [mean, error, wanted] = ["mean_square", "standard_error", "expected"].map(|name| rows.number(i, name));
            Some((mean? - wanted?).abs() / error?)
        };
        let worst = (0..rows.len()).filter_map(far).fold(0.0, f64::max);
        let verdict = if worst <= errors { Verdict::Holds } else { Verdict::DoesNotHold };
        Ok(Finding { got: Some(worst), interval: None, random: None, n: rows.len(), verdict })
    }

    /// A difference of two kinds of maps in their overlap of seeds.
    fn seed_difference(
        &self,
        experiment: &str,
        (variant, rank, kinds, side, k): (&str, usize, &str, &str, usize),
    ) -> Result<Finding, Finding> {
        let rows = self.table(experiment, "seeds")?;
        let wanted = |i: &usize| {
            rows.is(*i, "variant", variant)
                && rows.is(*i, "kind", kinds)
                && rows.is(*i, "side", side)
                && rows.number(*i, "rank") == Some(rank as f64)
                && rows.number(*i, "k") == Some(k as f64)
        };
        let i = (0..rows.len())
            .find(wanted)
            .ok_or_else(|| Finding::none(format!("`{experiment}` has no `{kinds}` at rank {rank}")))?;
        let interval = rows.number(i, "ci_low").zip(rows.number(i, "ci_high")).map(|(low, high)| [low, high]);
        let n = rows.number(i, "n").unwrap_or_default() as usize;
        Ok(Finding { got: rows.number(i, "mean"), interval, random: None, n, verdict: decide(interval, 0.0) })
    }

    /// The ratio of the amplification at two ranks, per seed.
    fn falls(&self, experiment: &str, (variant, ranks, map): (&str, [usize; 2], &str)) -> Result<Finding, Finding> {
        let logarithm = |rows: &Rows, i| Some(rows.number(i, "amplification")?.ln());
        let low = self.by_seed(experiment, (variant, ranks[0], map), logarithm)?;
        let high = self.by_seed(experiment, (variant, ranks[1], map), logarithm)?;
        let ratios: Vec<f64> = low.iter().filter_map(|(seed, a)| Some(a - high.get(seed)?)).collect();
        Ok(Finding::above(&ratios, 0.0).map(f64::exp))
    }

    /// A mean correlation over seeds that should have a sign.
    fn correlation(&self, experiment: &str, variant: &str, sign: f64) -> Result<Finding, Finding> {
        let rows = self.table(experiment, "correlation")?;
        let of = |i: &usize| rows.is(*i, "variant", variant);
        let signed: Vec<f64> =
            (0..rows.len()).filter(of).filter_map(|i| rows.number(i, "pearson")).map(|value| value * sign).collect();
        let found = Finding::above(&signed, 0.0);
        let interval = found.interval.map(|ends| {
            let [one, other] = ends.map(|end| end * sign);
            [one.min(other), one.max(other)]
        });
        Ok(Finding { got: found.got.map(|got| got * sign), interval, ..found })
    }

    /// A paired difference of two rows of a study, in points, averaged over its tasks.
    fn rows(
        &self,
        experiment: &str,
        row: &(String, usize),
        against: &(String, usize),
        at_least: f64,
    ) -> Result<Finding, AnalysisError> {
        let Some(records) = self.records.get(experiment) else {
            return Ok(Finding::none(format!("`{experiment}` was not run")));
        };
        let summary = summarise(records, Selection::Reported)?;
        let Some(split) = summary.splits().first().map(|split| (*split).to_owned()) else {
            return Ok(Finding::none(format!("no run of `{experiment}` finished")));
        };
        let asked = Contrast {
            variant: row.0.clone(),
            rank: row.1,
            against: against.0.clone(),
            against_rank: against.1,
            margin: None,
        };
        let found = match contrast(&summary, &split, &[asked]) {
            Err(AnalysisError::NoBaseline { .. }) => return Ok(Finding::none("no task has both rows")),
            found => found?,
        };
        let Some(found) = found.iter().find(|c| c.task == ALL_TASKS).or(found.first()) else {
            return Ok(Finding::none("no task has both rows"));
        };
        let interval = found.ci_low.zip(found.ci_high).map(|(low, high)| [low * 100.0, high * 100.0]);
        let got = Some(found.difference * 100.0);
        Ok(Finding { got, interval, random: None, n: found.n, verdict: decide(interval, at_least) })
    }

    /// Width of the space that a kind of map's directions lie in, from the random mean of its overlaps.
    fn dimension(&self, experiment: &str, map: &str) -> Option<f64> {
        let rows = self.table(experiment, "overlap").ok()?;
        let row = (0..rows.len()).find(|&i| rows.kind_is(i, map) && rows.number(i, "j") == Some(1.0))?;
        Some(1.0 / rows.number(row, "random_mean")?)
    }

    /// Mean of `φ(1, j)` over maps and pairs of runs without a shared start. The claim holds where every cut lies above the value and
    /// above the band of a single random pair; the number shown is that of the weakest cut.
    fn overlaps(
        &self,
        experiment: &str,
        (variant, ranks, map, side): (&str, [usize; 2], &str, &str),
        cuts: &[usize],
        above: f64,
    ) -> Result<Finding, Finding> {
        let rows = self.table(experiment, "overlap")?;
        let mut weakest: Option<Finding> = None;
        for &j in cuts {
            let wanted = |i: &usize| {
                rows.is(*i, "variant", variant)
                    && rows.is(*i, "between", "ranks")
                    && rows.is(*i, "side", side)
                    && rows.is(*i, "ambiguous", "false")
                    && rows.is(*i, "shared_start", "false")
                    && rows.kind_is(*i, map)
                    && [("first_rank", ranks[0]), ("second_rank", ranks[1]), ("i", 1), ("j", j)]
                        .iter()
                        .all(|(name, value)| rows.number(*i, name) == Some(*value as f64))
            };
            let found: Vec<usize> = (0..rows.len()).filter(wanted).collect();
            let mut seeds: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
            for &i in &found {
                if let (Some(seed), Some(phi)) = (rows.number(i, "first_seed"), rows.number(i, "phi")) {
                    seeds.entry(seed as u64).or_default().push(phi);
                }
            }
            let values: Vec<f64> =
                seeds.into_values().map(|maps| maps.iter().sum::<f64>() / maps.len() as f64).collect();
            let mut finding = Finding::above(&values, above);
            let random =
                found.first().and_then(|&i| Some([rows.number(i, "random_mean")?, rows.number(i, "random_high")?]));
            finding.random = random;
            if let (Verdict::Holds, Some([low, _]), Some([_, high])) = (&finding.verdict, finding.interval, random)
                && low <= high
            {
                finding.verdict = Verdict::Undecided;
            }
            let worse = |one: &Finding, other: &Finding| {
                let margin = |f: &Finding| f.got.unwrap_or(f64::NEG_INFINITY);
                margin(one) < margin(other)
            };
            if weakest.as_ref().is_none_or(|known| worse(&finding, known)) {
                weakest = Some(finding);
            }
        }
        weakest.ok_or_else(|| Finding::none("no cut lies within the share"))
    }

    /// A number per seed, averaged over the maps of one kind, from the table of projections.
    fn by_seed(
        &self,
        experiment: &str,
        (variant, rank, map): (&str, usize, &str),
        of: impl Fn(&Rows, usize) -> Option<f64>,
    ) -> Result<BTreeMap<u64, f64>, Finding> {
        let rows = self.table(experiment, "projection")?;
        let mut seeds: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for i in 0..rows.len() {
            let wanted =
                rows.is(i, "variant", variant) && rows.number(i, "rank") == Some(rank as f64) && rows.kind_is(i, map);
            if let (true, Some(seed), Some(value)) = (wanted, rows.number(i, "seed"), of(rows, i)) {
                seeds.entry(seed as u64).or_default().push(value);
            }
        }
        if seeds.is_empty() {
            return Err(Finding::none(format!("`{experiment}` has no `{variant}` at rank {rank}")));
        }
        Ok(seeds.into_iter().map(|(seed, maps)| (seed, maps.iter().sum::<f64>() / maps.len() as f64)).collect())
    }
}

/// The claims with target, found, difference and verdict, one block per paper.
pub fn table(judged: &[(Target, Finding)]) -> Table {
    let number = |value: Option<f64>| value.map_or(Entry::Missing, |value| Entry::Text(short(value)));
    let pair = |ends: Option<[f64; 2]>, join: &str| {
        ends.map_or(Entry::Missing, |[low, high]| Entry::Text(format!("{}{join}{}", short(low), short(high))))
    };
    let mut blocks: Vec<Block> = Vec::new();
    for (target, finding) in judged {
        let paper = target.paper.split(',').next().unwrap_or_default().to_owned();
        let rest = target.paper.split_once(", ").map_or("", |(_, rest)| rest);
        let difference = target.value.zip(finding.got).map(|(value, got)| got - value);
        let row = vec![
            Entry::Text(format!("{}: {}", rest, target.claim)),
            number(target.value),
            number(finding.got),
            pair(finding.interval, " to "),
            pair(finding.random, ", below "),
            number(difference),
            if finding.n == 0 { Entry::Missing } else { Entry::Text(finding.n.to_string()) },
            Entry::Text(finding.verdict.to_string()),
        ];
        match blocks.iter_mut().find(|block| block.title.as_ref() == Some(&paper)) {
            Some(block) => block.rows.push(row),
            None => blocks.push(Block { title: Some(paper), rows: vec![row] }),
        }
    }
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
    let untestable = (!reasons.is_empty()).then(|| format!("Not testable here: {}.", reasons.join("; ")));
    let count =
        |wanted: &dyn Fn(&Verdict) -> bool| judged.iter().filter(|(_, finding)| wanted(&finding.verdict)).count();
    Table {
        caption: "The papers' claims on the miniature.".to_owned(),
        header: ["claim", "target", "got", "95% interval", "random", "difference", "n", "verdict"].map(str::to_owned).to_vec(),
        names: 1,
        blocks,
        notes: [
            format!(
                "{} hold, {} do not, {} undecided, {} not testable here.",
                count(&|v| *v == Verdict::Holds),
                count(&|v| *v == Verdict::DoesNotHold),
                count(&|v| *v == Verdict::Undecided),
                count(&|v| matches!(v, Verdict::NotTestable(_)))
            ),
            "Intervals are 95% Student intervals over n seeds (jackknife over seeds for overlaps of seeds). Random: the mean over \
             random subspaces, and what 97.5% of random pairs stay below. A claim about a size or a sign holds where its interval does; a miss is a \
             finding about this model and suite."
                .to_owned(),
        ]
        .into_iter()
        .chain(untestable)
        .collect(),
    }
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
