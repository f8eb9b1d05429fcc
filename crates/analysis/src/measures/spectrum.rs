//! Spectra of the updates, and intruder dimensions: directions of `W0 + ΔW` that `W0` does not have.

use serde::Serialize;

use super::{AdapterSample, MeasureError, RunMap, known::Known, per_run_and_map};
use crate::subspace::{
    Side, SubspaceError,
    factored::Svd,
    spectrum::{intruders, may_intrude, spectrum},
};

/// Number of leading directions of `W0 + ΔW` that are tested, 10 as in Shuttleworth et al. 2024 (arXiv:2410.21228).
pub const INTRUDER_DIRECTIONS: usize = 10;
/// A direction intrudes if its largest cosine with the directions of `W0` is below this; 0.5 as in their paper.
pub const INTRUDER_COSINE: f64 = 0.5;

/// One run and map.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The task.
    pub task: String,
    /// The variant.
    pub variant: String,
    /// The run's rank, 0 for methods without.
    pub rank: usize,
    /// The run's seed.
    pub seed: u64,
    /// The map.
    pub map: String,
    /// Directions of `ΔW`.
    pub numerical_rank: usize,
    /// `‖ΔW‖_F`
    pub norm: f64,
    /// `‖ΔW‖_F / ‖W0‖_F`; empty without the base.
    pub relative_norm: Option<f64>,
    /// `‖ΔW‖_F² / σ_1²`
    pub stable_rank: f64,
    /// `exp` of the entropy of the singular values' shares.
    pub effective_rank: f64,
    /// Share of `‖ΔW‖_F²` in the first direction.
    pub first_energy: f64,
    /// Intruders among the first [`INTRUDER_DIRECTIONS`] directions of `W0 + ΔW`; empty without the base.
    pub intruders: Option<usize>,
}

crate::tabular!(Row: task, variant, rank, seed, map, numerical_rank, norm, relative_norm, stable_rank, effective_rank, first_energy, intruders);

/// Rows of every update.
pub fn rows(samples: &[AdapterSample]) -> Result<Vec<Row>, MeasureError> {
    let (mut rows, mut known) = (Vec::new(), Known::default());
    for run in per_run_and_map(samples) {
        if let Some(update) = run.svd()? {
            rows.push(row(&run, &update, &mut known)?);
        }
    }
    Ok(rows)
}

/// The row of one map with its update's SVD.
pub(super) fn row(run: &RunMap<'_>, update: &Svd, known: &mut Known) -> Result<Row, MeasureError> {
    let shape = spectrum(update);
    let base = run.map.base.as_ref();
    let found = intruding(run, update, known).map_err(|error| run.failed(error))?;
    let cell = &run.sample.cell;
    Ok(Row {
        task: cell.task.clone(),
        variant: cell.variant.clone(),
        rank: cell.rank,
        seed: cell.seed,
        map: run.name.to_owned(),
        numerical_rank: shape.rank,
        norm: shape.norm,
        relative_norm: base.map(|base| shape.norm / known.of(base).norm()),
        stable_rank: shape.stable_rank,
        effective_rank: shape.effective_rank,
        first_energy: shape.energy[0],
        intruders: found,
    })
}

/// Number of intruders among the leading directions of `W0 + ΔW`; none where `W0` is not known.
fn intruding(run: &RunMap<'_>, update: &Svd, known: &mut Known) -> Result<Option<usize>, SubspaceError> {
    let Some(base) = &run.map.base else { return Ok(None) };
    let before = known.of(base).whole()?;
    // The SVD of `W0 + ΔW` is most of the work of a study; a small update needs none.
    if !may_intrude(before, update, INTRUDER_DIRECTIONS, INTRUDER_COSINE)? {
        return Ok(Some(0));
    }
    let after = Svd::full(&(&**base + run.map.update.dense()))?;
    let count = INTRUDER_DIRECTIONS.min(after.rank());
    let likeness = intruders(before, &after, Side::Output, count, INTRUDER_COSINE)?;
    Ok(Some(likeness.iter().filter(|l| l.is_intruder && !l.is_ambiguous).count()))
}

/// One direction of one map's update.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DirectionRow {
    /// The task.
    pub task: String,
    /// The variant.
    pub variant: String,
    /// The run's rank, 0 for methods without.
    pub rank: usize,
    /// The run's seed.
    pub seed: u64,
    /// The map.
    pub map: String,
    /// The direction, from 1.
    pub k: usize,
    /// `σ_k`
    pub value: f64,
    /// `σ_k² / ‖ΔW‖_F²`
    pub energy: f64,
    /// `Σ_{i ≤ k} σ_i² / ‖ΔW‖_F²`
    pub cumulative: f64,
    /// Whether the cut after it lies inside a cluster of singular values.
    pub ambiguous: bool,
}

crate::tabular!(DirectionRow: task, variant, rank, seed, map, k, value, energy, cumulative, ambiguous);

/// Every direction of every update, up to its numerical rank.
pub fn directions(samples: &[AdapterSample]) -> Result<Vec<DirectionRow>, MeasureError> {
    let mut rows = Vec::new();
    for run in per_run_and_map(samples) {
        let Some(update) = run.svd()? else { continue };
        let (shape, basis) = (spectrum(&update), update.basis(Side::Input));
        let cell = &run.sample.cell;
        let mut cumulative = 0.0;
        for (at, (value, energy)) in update.values().iter().zip(shape.energy).enumerate() {
            cumulative += energy;
            rows.push(DirectionRow {
                task: cell.task.clone(),
                variant: cell.variant.clone(),
                rank: cell.rank,
                seed: cell.seed,
                map: run.name.to_owned(),
                k: at + 1,
                value: *value,
                energy,
                cumulative,
                ambiguous: basis.is_ambiguous(at + 1),
            });
        }
    }
    Ok(rows)
}
