//! Overlap between ranks and between seeds (LoRA section 7.2, figures 3 and 4), for every map and side.

use std::collections::{BTreeMap, btree_map::Entry};

use serde::Serialize;

use super::{Directions, Subject, SurveyError};
use crate::subspace::{
    basis::Basis,
    grassmann::{Phi, phi},
    random::{self, Band},
};

/// The cuts that tables show; a heat map has all.
pub const CUTS: [usize; 4] = [1, 2, 4, 8];
/// Draws of the random band.
pub const DRAWS: usize = 400;

/// Key of those draws.
const BAND_SEED: u64 = 0x0062_616e;

/// What the two runs differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// The rank; one seed.
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
    /// What 97.5% of random subspaces stay below.
    pub random_high: f64,
    /// Whether a cut lies inside a cluster of singular values.
    pub ambiguous: bool,
}

crate::tabular!(Row: task, variant, between, map, side, first_rank, first_seed, second_rank, second_seed, i, j, phi, random_mean, random_high, ambiguous);

/// Random bands by dimension and numbers of directions, each simulated once.
#[derive(Debug, Default)]
pub struct Bands(BTreeMap<(usize, usize, usize), Band>);

impl Bands {
    /// The band of `φ` between random subspaces like these.
    pub fn of(&mut self, phi: &Phi) -> Option<&Band> {
        let (first, second) = phi.values().shape();
        let key = (phi.dimension(), first.min(CUTS[CUTS.len() - 1]), second.min(CUTS[CUTS.len() - 1]));
        match self.0.entry(key) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            // A seed of its own, so that no run's draws are reused.
            Entry::Vacant(entry) => Some(entry.insert(random::band(key.0, (key.1, key.2), DRAWS, BAND_SEED).ok()?)),
        }
    }
}

/// The pairs whose overlap a study shows: each rank with the largest at one seed, each seed with each other at one rank.
pub fn pairs(subjects: &[Subject]) -> Vec<(Between, usize, usize)> {
    let mut pairs = Vec::new();
    for (one, first) in subjects.iter().enumerate() {
        for (other, second) in subjects.iter().enumerate() {
            let (a, b) = (&first.cell, &second.cell);
            if (&a.task, &a.variant) != (&b.task, &b.variant) || !first.is_factored() || !second.is_factored() {
                continue;
            }
            let largest = subjects
                .iter()
                .map(|s| &s.cell)
                .filter(|c| (&c.task, &c.variant) == (&a.task, &a.variant))
                .map(|c| c.rank)
                .max();
            if a.seed == b.seed && a.rank < b.rank && Some(b.rank) == largest {
                pairs.push((Between::Ranks, one, other));
            } else if a.rank == b.rank && a.seed < b.seed {
                pairs.push((Between::Seeds, one, other));
            }
        }
    }
    pairs
}

/// Rows of all pairs, `i <= j`.
pub fn rows(subjects: &[Subject]) -> Result<Vec<Row>, SurveyError> {
    let mut bands = Bands::default();
    let mut rows = Vec::new();
    let pairs = pairs(subjects);
    for side in Directions::ALL {
        // Each subject's directions once, though it stands in several pairs.
        let bases: Vec<BTreeMap<&str, Basis>> = subjects
            .iter()
            .map(|subject| if subject.is_factored() { bases(subject, side) } else { Ok(BTreeMap::new()) })
            .collect::<Result<_, _>>()?;
        for &(between, one, other) in &pairs {
            let (first, second) = (&subjects[one].cell, &subjects[other].cell);
            for (map, basis) in &bases[one] {
                let Some(partner) = bases[other].get(map) else { continue };
                let phi = phi(basis, partner).map_err(|source| SurveyError::Measure {
                    subject: format!("{first} and {second}"),
                    map: (*map).to_owned(),
                    source,
                })?;
                let (most_i, most_j) = phi.values().shape();
                let cuts = || CUTS.iter().flat_map(|&i| CUTS.iter().map(move |&j| (i, j)));
                for (i, j) in cuts().filter(|&(i, j)| i <= j && i <= most_i && j <= most_j) {
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
                        random_high: bands.of(&phi).map_or(f64::NAN, |band| band.high[(i - 1, j - 1)]),
                        ambiguous: phi.is_ambiguous(i, j),
                    });
                }
            }
        }
    }
    Ok(rows)
}

fn bases(subject: &Subject, side: Directions) -> Result<BTreeMap<&str, Basis>, SurveyError> {
    let mut bases = BTreeMap::new();
    for (name, map) in &subject.maps {
        if let Some(basis) = side.of(&map.update, &subject.name(), name)? {
            bases.insert(name.as_str(), basis);
        }
    }
    Ok(bases)
}

/// `φ` of every map that two adapters share.
pub fn between(first: &Subject, second: &Subject, side: Directions) -> Result<BTreeMap<String, Phi>, SurveyError> {
    let mut all = BTreeMap::new();
    for (name, map) in &first.maps {
        let Some(partner) = second.maps.get(name) else { continue };
        let one = side.of(&map.update, &first.name(), name)?;
        let other = side.of(&partner.update, &second.name(), name)?;
        let (Some(one), Some(other)) = (one, other) else {
            return Err(SurveyError::Measure {
                subject: format!("{} and {}", first.name(), second.name()),
                map: name.clone(),
                source: crate::subspace::SubspaceError::RankZero { name: "ΔW" },
            });
        };
        let phi = phi(&one, &other).map_err(|source| SurveyError::Measure {
            subject: format!("{} and {}", first.name(), second.name()),
            map: name.clone(),
            source,
        })?;
        all.insert(name.clone(), phi);
    }
    if all.is_empty() {
        return Err(SurveyError::NothingShared {
            first: first.name(),
            first_maps: first.maps.keys().cloned().collect(),
            second: second.name(),
            second_maps: second.maps.keys().cloned().collect(),
        });
    }
    Ok(all)
}
