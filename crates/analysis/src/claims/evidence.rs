//! The evidence for a claim: the records of the studies and the tables of their adapters. Where a study has none, the finding says why.

use std::collections::BTreeMap;

use record::{Contrast, Readout, RunRecord};

use super::{Check, Finding, Rows, Verdict, decide, targets};
use crate::{
    AnalysisError,
    compare::{ALL_TASKS, POINTS, Reached, answerable, contrast},
    study::Study,
    summary::{Selection, summarise},
    table::is_of,
};

/// What a study left: its records, and the tables of its adapters by name.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Records by experiment.
    pub records: BTreeMap<String, Vec<RunRecord>>,
    /// Tables of `results/<experiment>/analysis`, by experiment and name.
    pub tables: BTreeMap<(String, String), Rows>,
    /// What the experiments ask, by name: a claim about two rows is one of their questions.
    pub studies: BTreeMap<String, Study>,
}

/// A claim as a contrast.
fn asked(row: &(String, usize), against: &(String, usize), at_least: f64) -> Contrast {
    let readout = |(label, rank): &(String, usize)| Readout { label: label.clone(), rank: *rank };
    Contrast { row: readout(row), against: readout(against), margin: Some(at_least), equivalence: None }
}

/// The study's contrasts with the margins that the papers' claims ask for; claims about other rows, `this` one among them, behind them.
fn with_claims(experiment: &str, study: &Study, this: &Contrast) -> Vec<Contrast> {
    let of_claims = targets().into_iter().filter_map(|target| match target.check {
        Check::Rows { experiment: of, row, against, at_least } if of == experiment => {
            Some(asked(&row, &against, at_least))
        }
        _ => None,
    });
    let mut contrasts = study.contrasts.clone();
    for claim in of_claims.chain([this.clone()]) {
        match contrasts.iter_mut().find(|other| (&other.row, &other.against) == (&claim.row, &claim.against)) {
            Some(known) => known.margin = claim.margin,
            None => contrasts.push(claim),
        }
    }
    contrasts
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
    pub(super) fn samples(&self, experiment: &str, errors: f64) -> Result<Finding, Finding> {
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
    pub(super) fn seed_difference(
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
    pub(super) fn falls(
        &self,
        experiment: &str,
        (variant, ranks, map): (&str, [usize; 2], &str),
    ) -> Result<Finding, Finding> {
        let logarithm = |rows: &Rows, i| Some(rows.number(i, "amplification")?.ln());
        let low = self.by_seed(experiment, (variant, ranks[0], map), logarithm)?;
        let high = self.by_seed(experiment, (variant, ranks[1], map), logarithm)?;
        let ratios: Vec<f64> = low.iter().filter_map(|(seed, a)| Some(a - high.get(seed)?)).collect();
        Ok(Finding::above(&ratios, 0.0).map(f64::exp))
    }

    /// A mean correlation over seeds that should have a sign.
    pub(super) fn correlation(&self, experiment: &str, variant: &str, sign: f64) -> Result<Finding, Finding> {
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

    /// A paired difference of two rows of a study, in points, averaged over its tasks: whether it reaches the claim's margin is decided as in
    /// the study's own table of contrasts, in one family with the other questions of the study and of the papers.
    pub(super) fn rows(
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
        let none = Study::default();
        let study = self.studies.get(experiment).unwrap_or(&none);
        let asked = asked(row, against, at_least);
        let contrasts = answerable(&summary, &split, &with_claims(experiment, study, &asked))?;
        let compared = contrast(&summary, &split, &contrasts, &study.rules)?;
        let own = || compared.comparisons.iter().filter(|comparison| is_of(comparison, &asked));
        let Some(found) = own().find(|comparison| comparison.task == ALL_TASKS).or(own().next()) else {
            return Ok(Finding::none("no task has both rows"));
        };
        let interval = found.ci_low.zip(found.ci_high).map(|(low, high)| [low * POINTS, high * POINTS]);
        let verdict = match found.reached {
            Some(Reached::Yes) => Verdict::Holds,
            Some(Reached::No) => Verdict::DoesNotHold,
            Some(Reached::Undecided) | None => Verdict::Undecided,
        };
        Ok(Finding { got: Some(found.difference * POINTS), interval, random: None, n: found.n, verdict })
    }

    /// Width of the space that a kind of map's directions lie in, from the random mean of its overlaps.
    pub(super) fn dimension(&self, experiment: &str, map: &str) -> Option<f64> {
        let rows = self.table(experiment, "overlap").ok()?;
        let row = (0..rows.len()).find(|&i| rows.kind_is(i, map) && rows.number(i, "j") == Some(1.0))?;
        Some(1.0 / rows.number(row, "random_mean")?)
    }

    /// Mean of `φ(1, j)` over maps and pairs of runs without a shared start. The claim holds where every cut lies above the value and
    /// above the band of a single random pair; the number shown is that of the weakest cut.
    pub(super) fn overlaps(
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
    pub(super) fn by_seed(
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
