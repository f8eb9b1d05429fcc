//! Spectra of the updates, and intruder dimensions: directions of `W0 + ΔW` that `W0` does not have.

use lowrank::Update;
use nalgebra::DMatrix;
use serde::Serialize;

use super::{AdapterSample, MeasureError, per_run_and_map};
use crate::subspace::{
    Side, SubspaceError,
    factored::Svd,
    spectrum::{intruders, spectrum},
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
    let mut rows = Vec::new();
    for run in per_run_and_map(samples) {
        let Some(update) = run.svd()? else { continue };
        let shape = spectrum(&update);
        let base = run.map.base.as_ref();
        let found = base.map(|base| intruding(base, &run.map.update).map_err(|e| run.failed(e))).transpose()?;
        let cell = &run.sample.cell;
        rows.push(Row {
            task: cell.task.clone(),
            variant: cell.variant.clone(),
            rank: cell.rank,
            seed: cell.seed,
            map: run.name.to_owned(),
            numerical_rank: shape.rank,
            norm: shape.norm,
            relative_norm: base.map(|base| shape.norm / base.norm()),
            stable_rank: shape.stable_rank,
            effective_rank: shape.effective_rank,
            first_energy: shape.energy[0],
            intruders: found,
        });
    }
    Ok(rows)
}

/// Number of intruders among the leading directions of `W0 + ΔW`, `base: [d_in, d_out]`.
fn intruding(base: &DMatrix<f64>, update: &Update) -> Result<usize, SubspaceError> {
    let (before, after) = (Svd::full(base)?, Svd::full(&(base + update.dense()))?);
    let count = INTRUDER_DIRECTIONS.min(after.rank());
    let likeness = intruders(&before, &after, Side::Output, count, INTRUDER_COSINE)?;
    Ok(likeness.iter().filter(|l| l.is_intruder && !l.is_ambiguous).count())
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
