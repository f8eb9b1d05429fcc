//! The evidence for a claim: the records of the studies and the tables of their adapters. Where a study has none, the finding says why.

use std::collections::BTreeMap;

use record::RunRecord;

use super::{Finding, Missing, Rows, Verdict, condition, pruning::pooled, short, shown};
use crate::{compare::Beyond, stats::Estimate, study::Study};

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

impl Evidence {
    pub(super) fn table(&self, experiment: &str, name: &str) -> Result<&Rows, Missing> {
        let key = (experiment.to_owned(), name.to_owned());
        self.tables.get(&key).ok_or_else(|| {
            Missing(format!(
                "`{experiment}` has no analysis; `lora-lab run {experiment}`, then `analyze study {experiment}`"
            ))
        })
    }

    /// The largest distance of a sampled mean square from its expectation, in standard errors.
    pub(super) fn samples(&self, experiment: &str, errors: f64) -> Result<Finding, Missing> {
        let rows = self.table(experiment, "random_column")?;
        let far = |i: usize| {
            let [mean, error, wanted] = ["mean_square", "standard_error", "expected"].map(|name| rows.number(i, name));
            Some((mean? - wanted?).abs() / error?)
        };
        let worst = (0..rows.len()).filter_map(far).fold(0.0, f64::max);
        let verdict = if worst <= errors { Verdict::Holds } else { Verdict::DoesNotHold };
        Ok(Finding { got: Some(worst), n: rows.len(), ..Finding::plain(verdict) })
    }

    /// A difference of two kinds of maps in their overlap of seeds.
    pub(super) fn seed_difference(
        &self,
        experiment: &str,
        (variant, rank, kinds, side, k): (&str, usize, &str, &str, usize),
    ) -> Result<Finding, Missing> {
        let rows = self.table(experiment, "seeds")?;
        let wanted = |i: &usize| {
            rows.is(*i, "variant", variant)
                && rows.is(*i, "kind", kinds)
                && rows.is(*i, "side", side)
                && rows.number(*i, "rank") == Some(rank as f64)
                && rows.number(*i, "k") == Some(k as f64)
        };
        let i = (0..rows.len()).find(wanted).ok_or_else(|| {
            Missing(format!("the analysis of `{experiment}` has no `{kinds}` of `{variant}` at rank {rank}"))
        })?;
        let interval = rows.number(i, "ci_low").zip(rows.number(i, "ci_high")).map(|(low, high)| [low, high]);
        let n = rows.number(i, "n").unwrap_or_default() as usize;
        let got = rows.number(i, "mean");
        let estimate = got.zip(interval).and_then(|(mean, ends)| Estimate::of_interval(n, mean, ends));
        let conditions = vec![estimate.map_or(Beyond { p: None, is_above: false }, |found| condition(&found, 0.0))];
        Ok(Finding { got, interval, n, conditions, ..Finding::plain(Verdict::Undecided) })
    }

    /// `‖UᵀWV‖_F` of the update's directions over that of random ones, the geometric mean over maps.
    pub(super) fn over_random(&self, experiment: &str, of: (&str, usize, &str)) -> Result<Finding, Missing> {
        let over = |column: &'static str| {
            move |rows: &Rows, i: usize| Some((rows.number(i, column)? / rows.number(i, "onto_random")?).ln())
        };
        let ratios = |column| -> Result<Vec<f64>, Missing> {
            Ok(means(self.by_seed(experiment, of, &over(column))?).into_values().collect())
        };
        let mut found = Finding::mean_above(&ratios("onto_update")?, 0.0).map(f64::exp);
        found.remark = Estimate::of(&ratios("onto_base")?).ok().map(|own| {
            format!(
                "judged by whether the factor is above 1; W's own directions would have {}",
                short(own.difference.exp())
            )
        });
        Ok(found)
    }

    /// A mean correlation over seeds that should have a sign, and, where the paper reports the other one of `unlike`, lie beyond that one's
    /// on the same seeds.
    pub(super) fn correlation(
        &self,
        experiment: &str,
        variant: &str,
        unlike: Option<&str>,
        sign: f64,
    ) -> Result<Finding, Missing> {
        let rows = self.table(experiment, "correlation")?;
        // By task and seed: tasks are averaged, and no runs of two of them are taken for more runs of one.
        let of = |variant: &str| {
            let mut tasks: BTreeMap<&str, BTreeMap<u64, f64>> = BTreeMap::new();
            for i in (0..rows.len()).filter(|i| rows.is(*i, "variant", variant)) {
                if let (Some(task), Some(seed), Some(r)) =
                    (rows.text(i, "task"), rows.number(i, "seed"), rows.number(i, "pearson"))
                {
                    tasks.entry(task).or_default().insert(seed as u64, sign * r);
                }
            }
            tasks
        };
        let pooled = |tasks: &BTreeMap<&str, BTreeMap<u64, f64>>| {
            pooled(&tasks.values().cloned().collect::<Vec<_>>()).map(|found| found.times(sign))
        };
        let (own, other) = (of(variant), unlike.map(of).unwrap_or_default());
        let Some(estimate) = pooled(&own) else {
            return Err(Missing(format!("`{experiment}` has no correlation of `{variant}`")));
        };
        let toward = |estimate: &Estimate| condition(&estimate.times(sign), 0.0);
        let mut found = Finding { conditions: vec![toward(&estimate)], ..Finding::above(&estimate, 0.0) };
        let mut apart = own.clone();
        for (task, values) in &mut apart {
            values.retain(|seed, value| match other.get(task).and_then(|theirs| theirs.get(seed)) {
                Some(theirs) => {
                    *value -= theirs;
                    true
                }
                None => false,
            });
        }
        if let (Some(unlike), Some(theirs), Some(apart)) = (unlike, pooled(&other), pooled(&apart)) {
            found.remark = Some(format!(
                "`{unlike}` has {}, and `{variant}` minus `{unlike}` is {}",
                shown(&theirs),
                shown(&apart)
            ));
            found.conditions.push(toward(&apart));
        }
        Ok(found)
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
    ) -> Result<Finding, Missing> {
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
            let mut finding = Finding::mean_above(&values, above);
            let random =
                found.first().and_then(|&i| Some([rows.number(i, "random_mean")?, rows.number(i, "random_high")?]));
            finding.random = random;
            if let (Some([low, _]), Some([_, high])) = (finding.interval, random)
                && low <= high
            {
                finding.conditions.push(Beyond { p: None, is_above: false });
            }
            let worse = |one: &Finding, other: &Finding| {
                let margin = |f: &Finding| f.got.unwrap_or(f64::NEG_INFINITY);
                margin(one) < margin(other)
            };
            if weakest.as_ref().is_none_or(|known| worse(&finding, known)) {
                weakest = Some(finding);
            }
        }
        weakest.ok_or_else(|| Missing("no cut lies within the share".to_owned()))
    }

    /// The numbers of the maps of one kind by seed, from the table of projections.
    pub(super) fn by_seed(
        &self,
        experiment: &str,
        (variant, rank, map): (&str, usize, &str),
        of: &dyn Fn(&Rows, usize) -> Option<f64>,
    ) -> Result<BTreeMap<u64, Vec<f64>>, Missing> {
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
            // The variant may be there without such a map, or the map without the number.
            let is_row = |i: &usize| rows.is(*i, "variant", variant) && rows.number(*i, "rank") == Some(rank as f64);
            let has_map = (0..rows.len()).filter(is_row).any(|i| rows.kind_is(i, map));
            let what = if has_map {
                format!("number of `{map}` for `{variant}` at rank {rank}")
            } else if (0..rows.len()).any(|i| is_row(&i)) {
                format!("map `{map}` of `{variant}` at rank {rank}")
            } else {
                format!("`{variant}` at rank {rank}")
            };
            return Err(Missing(format!("the analysis of `{experiment}` has no {what}")));
        }
        Ok(seeds)
    }
}

/// The mean over maps, by seed.
pub(super) fn means(seeds: BTreeMap<u64, Vec<f64>>) -> BTreeMap<u64, f64> {
    seeds.into_iter().map(|(seed, maps)| (seed, maps.iter().sum::<f64>() / maps.len() as f64)).collect()
}
