//! Spectra of the updates, and the directions of `W0 + ΔW` that `W0` does not have.

use serde::Serialize;

use super::{Subject, SurveyError, trained};
use crate::subspace::{
    Side,
    factored::Svd,
    spectrum::{intruders, spectrum},
};

/// Leading directions of `W0 + ΔW` that are looked at; Shuttleworth et al. 2024 (arXiv:2410.21228) look at the first 10 as well.
pub const INTRUDER_DIRECTIONS: usize = 10;
/// A direction whose largest cosine with those of `W0` is below this intrudes; theirs is 0.5 too.
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
pub fn rows(subjects: &[Subject]) -> Result<Vec<Row>, SurveyError> {
    let mut rows = Vec::new();
    for subject in subjects {
        for (name, map) in &subject.maps {
            let Some(update) = trained(map.update.svd(), &subject.name(), name)? else { continue };
            let failed = |source| SurveyError::Measure { subject: subject.name(), map: name.clone(), source };
            let shape = spectrum(&update);
            let found = match &map.base {
                None => None,
                Some(base) => {
                    let (before, after) = (Svd::full(base), Svd::full(&(base + map.update.dense())));
                    let (before, after) = (before.map_err(failed)?, after.map_err(failed)?);
                    let count = INTRUDER_DIRECTIONS.min(after.rank());
                    let likeness = intruders(&before, &after, Side::Output, count, INTRUDER_COSINE).map_err(failed)?;
                    Some((base.norm(), likeness.iter().filter(|l| l.is_intruder && !l.is_ambiguous).count()))
                }
            };
            rows.push(Row {
                task: subject.cell.task.clone(),
                variant: subject.cell.variant.clone(),
                rank: subject.cell.rank,
                seed: subject.cell.seed,
                map: name.clone(),
                numerical_rank: shape.rank,
                norm: shape.norm,
                relative_norm: found.map(|(base, _)| shape.norm / base),
                stable_rank: shape.stable_rank,
                effective_rank: shape.effective_rank,
                first_energy: shape.energy[0],
                intruders: found.map(|(_, count)| count),
            });
        }
    }
    Ok(rows)
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
pub fn directions(subjects: &[Subject]) -> Result<Vec<DirectionRow>, SurveyError> {
    let mut rows = Vec::new();
    for subject in subjects {
        for (name, map) in &subject.maps {
            let Some(update) = trained(map.update.svd(), &subject.name(), name)? else { continue };
            let (shape, basis) = (spectrum(&update), update.basis(Side::Input));
            let mut cumulative = 0.0;
            for (at, (value, energy)) in update.values().iter().zip(shape.energy).enumerate() {
                cumulative += energy;
                rows.push(DirectionRow {
                    task: subject.cell.task.clone(),
                    variant: subject.cell.variant.clone(),
                    rank: subject.cell.rank,
                    seed: subject.cell.seed,
                    map: name.clone(),
                    k: at + 1,
                    value: *value,
                    energy,
                    cumulative,
                    ambiguous: basis.is_ambiguous(at + 1),
                });
            }
        }
    }
    Ok(rows)
}
