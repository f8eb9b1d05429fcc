//! Overlap across layers, tasks, variants and checkpoints, at square cuts. [`super::overlap`] compares ranks and seeds.
//!
//! | between | first | second |
//! |---|---|---|
//! | `layers` | a map of one run | the same kind of map in a later layer of that run |
//! | `tasks` | a run | a run of another task; one variant and rank |
//! | `variants` | a run | a run of another variant; one task and rank |
//! | `checkpoints` | a snapshot of a run | the run's end |
//!
//! Two runs of one seed start from one `A`, whatever their task or variant. Tasks and variants are therefore compared between seeds
//! where a study has several; rows of runs that start alike say `shared_start`. A run and its own snapshots always do, and so does a
//! factor that never trains.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    AdapterSample, Directions, MeasureError,
    bases::{all_bases, bases},
    overlap::{Bands, CUTS},
    place,
};
use crate::subspace::{
    basis::Basis,
    grassmann::{Phi, phi},
    random,
};

/// One square cut of one pair of maps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What differs: `layers`, `tasks`, `variants` or `checkpoints`.
    pub between: &'static str,
    /// The first run.
    pub first: String,
    /// The second run, or the step of the first one's snapshot.
    pub second: String,
    /// The map of the first.
    pub first_map: String,
    /// The map of the second.
    pub second_map: String,
    /// Whose directions.
    pub side: &'static str,
    /// Directions of both.
    pub k: usize,
    /// `φ(k, k)`.
    pub phi: f64,
    /// `k/d`, its mean over random subspaces.
    pub random_mean: f64,
    /// What 97.5% of random subspaces stay below.
    pub random_high: f64,
    /// Whether a cut lies inside a cluster of singular values.
    pub ambiguous: bool,
    /// Whether the two share their first values, so that an overlap needs no training.
    pub shared_start: bool,
}

crate::tabular!(Row: between, first, second, first_map, second_map, side, k, phi, random_mean, random_high, ambiguous, shared_start);

/// One entry of the overlap of two layers of one adapter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerRow {
    /// The kind of map, such as `query`.
    pub kind: String,
    /// One layer.
    pub first_layer: usize,
    /// A later one.
    pub second_layer: usize,
    /// Directions of the first.
    pub i: usize,
    /// Directions of the second.
    pub j: usize,
    /// `φ(i, j)`.
    pub phi: f64,
    /// `max(i, j)/d`, its mean over random subspaces.
    pub random_mean: f64,
    /// Whether a cut lies inside a cluster of singular values.
    pub ambiguous: bool,
}

crate::tabular!(LayerRow: kind, first_layer, second_layer, i, j, phi, random_mean, ambiguous);

/// Every `φ(i, j)` of every two layers of one adapter; maps of one kind and one width are compared.
pub fn layers(sample: &AdapterSample, side: Directions) -> Result<Vec<LayerRow>, MeasureError> {
    let bases = bases(sample, side)?;
    let mut rows = Vec::new();
    for (first, second) in layer_pairs(&bases) {
        let ((Some(first_layer), kind), (Some(second_layer), _)) = (place(first), place(second)) else { continue };
        let found = between(sample, (first, &bases[first]), (second, &bases[second]))?;
        rows.extend(found.entries().map(|entry| LayerRow {
            kind: kind.clone(),
            first_layer,
            second_layer,
            i: entry.i,
            j: entry.j,
            phi: entry.phi,
            random_mean: random::mean_phi(found.dimension(), entry.i, entry.j),
            ambiguous: found.is_ambiguous(entry.i, entry.j),
        }));
    }
    Ok(rows)
}

/// Maps of one kind and one width in unlike layers, the lower layer first.
fn layer_pairs<'a>(bases: &BTreeMap<&'a str, Basis>) -> Vec<(&'a str, &'a str)> {
    let mut pairs = Vec::new();
    for (&first, one) in bases {
        for (&second, other) in bases {
            let ((a, kind), (b, other_kind)) = (place(first), place(second));
            if a.is_some() && a < b && kind == other_kind && one.dimension() == other.dimension() {
                pairs.push((first, second));
            }
        }
    }
    pairs
}

fn between(sample: &AdapterSample, first: (&str, &Basis), second: (&str, &Basis)) -> Result<Phi, MeasureError> {
    phi(first.1, second.1).map_err(|source| MeasureError::Measure {
        sample: sample.name.clone(),
        map: format!("{} and {}", first.0, second.0),
        source,
    })
}

/// Rows of every pair of a study, for the factor on the inputs and for `ΔW` in their space.
pub fn rows(samples: &[AdapterSample]) -> Result<Vec<Row>, MeasureError> {
    let mut table = Table::default();
    let pairs = partners(samples);
    for side in [Directions::A, Directions::DeltaInput] {
        let all = all_bases(samples, side)?;
        for (sample, bases) in samples.iter().zip(&all) {
            table.within(sample, bases, side)?;
        }
        for &(between, one, other) in &pairs {
            let (first, second) = (&samples[one], &samples[other]);
            let frozen = side == Directions::A && (first.frozen_inputs || second.frozen_inputs);
            let shared_start = first.cell.seed == second.cell.seed || frozen;
            let pair = Compared { between, first, second: second.cell.slug(), side, shared_start };
            for (map, basis) in &all[one] {
                let Some(partner) = all[other].get(map) else { continue };
                table.add(&pair, (map, basis), (map, partner))?;
            }
        }
    }
    Ok(table.rows)
}

/// Two runs, or a run and its snapshot.
struct Compared<'a> {
    between: &'static str,
    first: &'a AdapterSample,
    second: String,
    side: Directions,
    shared_start: bool,
}

/// The rows so far, and the random bands that they share.
#[derive(Default)]
struct Table {
    bands: Bands,
    rows: Vec<Row>,
}

impl Table {
    /// The layers of one run, and its snapshots against its end.
    fn within(
        &mut self,
        sample: &AdapterSample,
        bases: &BTreeMap<&str, Basis>,
        side: Directions,
    ) -> Result<(), MeasureError> {
        let frozen = side == Directions::A && sample.frozen_inputs;
        let second = sample.cell.slug();
        let layers = Compared { between: "layers", first: sample, second, side, shared_start: frozen };
        for (first, second) in layer_pairs(bases) {
            self.add(&layers, (first, &bases[first]), (second, &bases[second]))?;
        }
        for (step, maps) in &sample.snapshots {
            let second = format!("step {step}");
            let snapshot = Compared { between: "checkpoints", first: sample, second, side, shared_start: true };
            for (map, update) in maps {
                let Some(end) = bases.get(map.as_str()) else { continue };
                let Some(then) = side.of(update, &sample.name, map)? else { continue };
                self.add(&snapshot, (map, end), (map, &then))?;
            }
        }
        Ok(())
    }

    /// The square cuts of two maps.
    fn add(&mut self, pair: &Compared<'_>, one: (&str, &Basis), other: (&str, &Basis)) -> Result<(), MeasureError> {
        let sample = pair.first;
        let found = between(sample, one, other)?;
        let failed = |source| MeasureError::Measure { sample: sample.name.clone(), map: one.0.to_owned(), source };
        let band = self.bands.of(&found).map_err(failed)?;
        let (most_i, most_j) = found.values().shape();
        for k in CUTS.into_iter().filter(|k| *k <= most_i.min(most_j)) {
            self.rows.push(Row {
                between: pair.between,
                first: sample.cell.slug(),
                second: pair.second.clone(),
                first_map: one.0.to_owned(),
                second_map: other.0.to_owned(),
                side: pair.side.name(),
                k,
                phi: found.at(k, k),
                random_mean: random::mean_phi(found.dimension(), k, k),
                random_high: band.high[(k - 1, k - 1)],
                ambiguous: found.is_ambiguous(k, k),
                shared_start: pair.shared_start,
            });
        }
        Ok(())
    }
}

/// Pairs of runs that differ in the task alone or in the variant alone, each run with the next seed of the other side in turn.
fn partners(samples: &[AdapterSample]) -> Vec<(&'static str, usize, usize)> {
    let mut pairs = Vec::new();
    for (one, first) in samples.iter().enumerate().filter(|(_, sample)| sample.is_factored()) {
        let a = &first.cell;
        let mut others: BTreeMap<(&'static str, &str), Vec<usize>> = BTreeMap::new();
        for (other, second) in samples.iter().enumerate().filter(|(_, sample)| sample.is_factored()) {
            let b = &second.cell;
            if a.rank != b.rank || first.base_hash != second.base_hash {
                continue;
            }
            if a.variant == b.variant && a.task < b.task {
                others.entry(("tasks", &b.task)).or_default().push(other);
            } else if a.task == b.task && a.variant < b.variant {
                others.entry(("variants", &b.variant)).or_default().push(other);
            }
        }
        for ((kind, _), mut found) in others {
            found.sort_by_key(|&at| samples[at].cell.seed);
            let later = found.iter().copied().find(|&at| samples[at].cell.seed > a.seed);
            pairs.extend(later.or_else(|| found.first().copied()).map(|other| (kind, one, other)));
        }
    }
    pairs
}
