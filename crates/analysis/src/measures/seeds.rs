//! Overlap of seeds (LoRA figure 4): how much the runs of one rank have in common, map by map.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{AdapterSample, Directions, MeasureError, bases::all_bases, overlap::CUTS, place};
use crate::subspace::{
    basis::Basis,
    overlap::{self, PairValue, SeedOverlap},
    random,
};

/// `φ(k, k)` of one map over the seeds of one rank.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The task.
    pub task: String,
    /// The variant.
    pub variant: String,
    /// The runs' rank.
    pub rank: usize,
    /// Whose directions.
    pub side: &'static str,
    /// The map's layer, where its name has one.
    pub layer: Option<usize>,
    /// The map within its layer; `a minus b` for the difference of two kinds, averaged over layers.
    pub kind: String,
    /// Directions of both.
    pub k: usize,
    /// Seeds.
    pub n: usize,
    /// Mean over the pairs of seeds.
    pub mean: f64,
    /// Lower end of the 95% interval: a jackknife over seeds, since pairs share them; none below three seeds.
    pub ci_low: Option<f64>,
    /// Upper end.
    pub ci_high: Option<f64>,
    /// `E φ(k, k) = k/d` over random subspaces; empty for a difference.
    pub random_mean: Option<f64>,
}

crate::tabular!(Row: task, variant, rank, side, layer, kind, k, n, mean, ci_low, ci_high, random_mean);

/// The runs of one task, variant and rank.
struct Group<'a> {
    task: &'a str,
    variant: &'a str,
    rank: usize,
    /// Their places in the study, one per seed.
    runs: Vec<usize>,
}

/// The overlap of one map's seeds, and the dimension of its space.
type Overlaps<'a> = BTreeMap<&'a str, (usize, SeedOverlap)>;

/// Overlap of seeds for every map, and the difference of every two kinds of maps, at the cuts of [`CUTS`].
pub fn rows(samples: &[AdapterSample]) -> Result<Vec<Row>, MeasureError> {
    let groups = groups(samples);
    let mut rows = Vec::new();
    for side in Directions::ALL {
        let bases = all_bases(samples, side)?;
        for group in groups.iter().filter(|group| group.runs.len() > 1) {
            let maps = group.overlaps(&bases)?;
            for k in CUTS {
                group.add(&mut rows, &maps, side, k);
            }
        }
    }
    Ok(rows)
}

/// Factored runs by task, variant and rank.
fn groups(samples: &[AdapterSample]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<(&str, &str, usize), Vec<usize>> = BTreeMap::new();
    for (at, sample) in samples.iter().enumerate().filter(|(_, sample)| sample.is_factored()) {
        let cell = &sample.cell;
        groups.entry((&cell.task, &cell.variant, cell.rank)).or_default().push(at);
    }
    groups.into_iter().map(|((task, variant, rank), runs)| Group { task, variant, rank, runs }).collect()
}

impl Group<'_> {
    /// The overlap of every map that all runs have; `bases` has each run's.
    fn overlaps<'a>(&self, bases: &[BTreeMap<&'a str, Basis>]) -> Result<Overlaps<'a>, MeasureError> {
        let mut maps = BTreeMap::new();
        for &map in bases[self.runs[0]].keys() {
            let of_map: Option<Vec<Basis>> = self.runs.iter().map(|&run| bases[run].get(map).cloned()).collect();
            let Some(of_map) = of_map else { continue };
            let dimension = of_map[0].dimension();
            let overlap = overlap::overlap(&of_map).map_err(|source| MeasureError::Measure {
                sample: format!("{}/{} rank {}", self.task, self.variant, self.rank),
                map: map.to_owned(),
                source,
            })?;
            maps.insert(map, (dimension, overlap));
        }
        Ok(maps)
    }

    /// Adds the rows of one cut: every map, then every difference of two kinds.
    fn add(&self, rows: &mut Vec<Row>, maps: &Overlaps<'_>, side: Directions, k: usize) {
        let mut kinds: BTreeMap<String, Vec<Vec<PairValue>>> = BTreeMap::new();
        for (map, (dimension, overlap)) in maps {
            let values = overlap.values(k, k);
            if values.len() == overlap.pairs.len() {
                let random_mean = Some(random::mean_phi(*dimension, k, k));
                rows.push(Row { random_mean, ..self.row(side, k, place(map), &values) });
                kinds.entry(place(map).1).or_default().push(values);
            }
        }
        let kinds: Vec<(String, Vec<PairValue>)> =
            kinds.into_iter().map(|(kind, layers)| (kind, averaged(&layers))).collect();
        for (at, (first, one)) in kinds.iter().enumerate() {
            for (second, other) in &kinds[at + 1..] {
                let difference: Vec<_> = one.iter().zip(other).map(|(a, b)| (a.0, a.1, a.2 - b.2)).collect();
                rows.push(self.row(side, k, (None, format!("{first} minus {second}")), &difference));
            }
        }
    }

    fn row(&self, side: Directions, k: usize, (layer, kind): (Option<usize>, String), values: &[PairValue]) -> Row {
        let summary = overlap::jackknife(values, self.runs.len());
        Row {
            task: self.task.to_owned(),
            variant: self.variant.to_owned(),
            rank: self.rank,
            side: side.name(),
            layer,
            kind,
            k,
            n: self.runs.len(),
            mean: values.iter().map(|value| value.2).sum::<f64>() / values.len() as f64,
            ci_low: summary.as_ref().and_then(|summary| summary.ci_low),
            ci_high: summary.as_ref().and_then(|summary| summary.ci_high),
            random_mean: None,
        }
    }
}

/// The mean over layers of every pair's value.
fn averaged(layers: &[Vec<PairValue>]) -> Vec<PairValue> {
    let mean = |at: usize| layers.iter().map(|layer| layer[at].2).sum::<f64>() / layers.len() as f64;
    layers[0].iter().enumerate().map(|(at, pair)| (pair.0, pair.1, mean(at))).collect()
}
