//! Overlap between ranks and between seeds (LoRA section 7.2, figures 3 and 4), for every map and side.
//!
//! Two runs of one seed start from the same `A`, component by component, so an overlap between their ranks is there before any
//! training: untrained factors of ranks 8 and 64 have `φ(8, 64) = 1`. Ranks are therefore compared between runs of different
//! seeds. Where a study has one seed only, its rows say `shared_start`, and no claim may rest on them.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use serde::Serialize;

use super::{AdapterSample, Directions, MeasureError, bases::all_bases};
use crate::subspace::{
    SubspaceError,
    grassmann::{Phi, phi},
    random::{self, Band},
};

/// The cuts that tables show; a heat map has all.
pub const CUTS: [usize; 4] = [1, 2, 4, 8];
/// Beside them the cuts `(1, j)` up to this share of the space: beyond, even a random subspace contains much of a direction.
pub const FIRST_SHARE: f64 = 0.1;
/// Draws of the random band; 100 of them make its upper tail.
pub const DRAWS: usize = 4000;

/// Key of those draws.
const BAND_SEED: u64 = 0x0062_616e;

/// What the two runs differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// The rank, and the seed where there is a second one.
    Ranks,
    /// The seed; one rank.
    Seeds,
}

impl Between {
    /// As written in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ranks => "ranks",
            Self::Seeds => "seeds",
        }
    }
}

/// One cut of one pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The task.
    pub task: String,
    /// The variant.
    pub variant: String,
    /// What differs.
    pub between: &'static str,
    /// The map.
    pub map: String,
    /// Whose directions.
    pub side: &'static str,
    /// Rank of the first run.
    pub first_rank: usize,
    /// Seed of the first run.
    pub first_seed: u64,
    /// Rank of the second run.
    pub second_rank: usize,
    /// Seed of the second run.
    pub second_seed: u64,
    /// Directions of the first.
    pub i: usize,
    /// Directions of the second.
    pub j: usize,
    /// `φ(i, j)`.
    pub phi: f64,
    /// Its mean over random subspaces.
    pub random_mean: f64,
    /// What 2.5% of random subspaces stay below.
    pub random_low: f64,
    /// What 97.5% of random subspaces stay below.
    pub random_high: f64,
    /// Whether a cut lies inside a cluster of singular values.
    pub ambiguous: bool,
    /// Whether the runs share their first values, so that an overlap needs no training.
    pub shared_start: bool,
}

crate::tabular!(Row: task, variant, between, map, side, first_rank, first_seed, second_rank, second_seed, i, j, phi, random_mean, random_low, random_high, ambiguous, shared_start);

/// Random bands by dimension and numbers of directions, each simulated once.
#[derive(Debug, Default)]
pub struct Bands(BTreeMap<(usize, usize, usize), Band>);

impl Bands {
    /// The band of `φ` between random subspaces like these.
    pub fn of(&mut self, phi: &Phi) -> Result<&Band, SubspaceError> {
        let (first, second) = phi.values().shape();
        let most = CUTS[CUTS.len() - 1];
        let key = (phi.dimension(), first.min(most), second.min(most.max(first_cuts(phi.dimension()))));
        match self.0.entry(key) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            // A seed of its own, so that no run's draws are reused.
            Entry::Vacant(entry) => Ok(entry.insert(random::band(key.0, (key.1, key.2), DRAWS, BAND_SEED)?)),
        }
    }
}

/// Largest `j` of the cuts `(1, j)`.
fn first_cuts(dimension: usize) -> usize {
    (dimension as f64 * FIRST_SHARE) as usize
}

/// Cuts `i <= j` of a table over `φ: [most_i, most_j]`, ascending.
fn cuts(dimension: usize, (most_i, most_j): (usize, usize)) -> BTreeSet<(usize, usize)> {
    let square = CUTS.iter().flat_map(|&i| CUTS.iter().map(move |&j| (i, j))).filter(|(i, j)| i <= j);
    let first = (1..=first_cuts(dimension)).map(|j| (1, j));
    square.chain(first).filter(|&(i, j)| i <= most_i && j <= most_j).collect()
}

/// Two runs whose subspaces are compared, by their places in the study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What they differ in.
    pub between: Between,
    /// The first run, of the smaller rank or seed.
    pub one: usize,
    /// The second run.
    pub other: usize,
    /// Whether they start from the same values.
    pub shared_start: bool,
}

/// The pairs whose overlap a study shows: each run of a smaller rank with a run of the largest and another seed, and each seed
/// with each other at one rank.
pub fn pairs(samples: &[AdapterSample]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (one, first) in samples.iter().enumerate().filter(|(_, sample)| sample.is_factored()) {
        let a = &first.cell;
        let alike: Vec<usize> = samples
            .iter()
            .enumerate()
            .filter(|(_, s)| (&s.cell.task, &s.cell.variant) == (&a.task, &a.variant) && s.is_factored())
            .map(|(at, _)| at)
            .collect();
        let largest = alike.iter().map(|&at| samples[at].cell.rank).max().unwrap_or(a.rank);
        if a.rank < largest {
            // The next seed in turn, so that every run of the largest rank is used once.
            let mut partners: Vec<usize> =
                alike.iter().copied().filter(|&at| samples[at].cell.rank == largest).collect();
            partners.sort_by_key(|&at| samples[at].cell.seed);
            let later = partners.iter().copied().find(|&at| samples[at].cell.seed > a.seed);
            let other = later.or_else(|| partners.first().copied());
            pairs.extend(other.map(|other| Pair {
                between: Between::Ranks,
                one,
                other,
                shared_start: samples[other].cell.seed == a.seed,
            }));
        }
        for &other in &alike {
            let b = &samples[other].cell;
            if a.rank == b.rank && a.seed < b.seed {
                pairs.push(Pair { between: Between::Seeds, one, other, shared_start: false });
            }
        }
    }
    pairs
}

/// Rows of all pairs, `i <= j`.
pub fn rows(samples: &[AdapterSample]) -> Result<Vec<Row>, MeasureError> {
    let mut bands = Bands::default();
    let mut rows = Vec::new();
    let pairs = pairs(samples);
    for side in Directions::ALL {
        let bases = all_bases(samples, side)?;
        for &Pair { between, one, other, shared_start } in &pairs {
            let (first, second) = (&samples[one].cell, &samples[other].cell);
            for (map, basis) in &bases[one] {
                let Some(partner) = bases[other].get(map) else { continue };
                let failed = |source| MeasureError::Measure {
                    sample: format!("{first} and {second}"),
                    map: (*map).to_owned(),
                    source,
                };
                let phi = phi(basis, partner).map_err(failed)?;
                let band = bands.of(&phi).map_err(failed)?;
                for (i, j) in cuts(phi.dimension(), phi.values().shape()) {
                    rows.push(Row {
                        task: first.task.clone(),
                        variant: first.variant.clone(),
                        between: between.name(),
                        map: (*map).to_owned(),
                        side: side.name(),
                        first_rank: first.rank,
                        first_seed: first.seed,
                        second_rank: second.rank,
                        second_seed: second.seed,
                        i,
                        j,
                        phi: phi.at(i, j),
                        random_mean: random::mean_phi(phi.dimension(), i, j),
                        random_low: band.low[(i - 1, j - 1)],
                        random_high: band.high[(i - 1, j - 1)],
                        ambiguous: phi.is_ambiguous(i, j),
                        // A frozen factor is the same in every run, or random; neither says anything about training.
                        shared_start: shared_start || (side == Directions::A && samples[one].frozen_inputs),
                    });
                }
            }
        }
    }
    Ok(rows)
}
