//! LoRA's table 7 for every run and map: how much of `W` lies in the directions of `ΔW`, and how much these are amplified.

use serde::Serialize;

use super::{AdapterSample, MeasureError, RunMap, known::Known, per_run_and_map};
use crate::subspace::{factored::Svd, projection};

/// One run and map, with as many directions as its update has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The task.
    pub task: String,
    /// The variant.
    pub variant: String,
    /// The run's rank.
    pub rank: usize,
    /// The run's seed.
    pub seed: u64,
    /// The map.
    pub map: String,
    /// Directions: the update's numerical rank.
    pub directions: usize,
    /// `‖W‖_F`
    pub base_norm: f64,
    /// `‖ΔW‖_F`
    pub update_norm: f64,
    /// `‖UᵀWV‖_F`, directions of `ΔW`.
    pub onto_update: f64,
    /// `‖UᵀWV‖_F`, directions of `W`.
    pub onto_base: f64,
    /// `(E ‖UᵀWV‖_F²)^½`, random directions.
    pub onto_random: f64,
    /// `‖ΔW‖_F / ‖UᵀWV‖_F`; empty where `W` vanishes on the directions of `ΔW`.
    pub amplification: Option<f64>,
}

crate::tabular!(Row: task, variant, rank, seed, map, directions, base_norm, update_norm, onto_update, onto_base, onto_random, amplification);

/// Rows of every factored update whose base is known.
pub fn rows(samples: &[AdapterSample]) -> Result<Vec<Row>, MeasureError> {
    let (mut rows, mut known) = (Vec::new(), Known::default());
    for run in per_run_and_map(samples) {
        if let Some(update) = run.svd()? {
            rows.extend(row(&run, &update, &mut known)?);
        }
    }
    Ok(rows)
}

/// The row of one map with its update's SVD; none where the run's updates have no factors or the base is not known.
pub(super) fn row(run: &RunMap<'_>, update: &Svd, known: &mut Known) -> Result<Option<Row>, MeasureError> {
    let Some(base) = run.map.base.as_ref().filter(|_| run.sample.is_factored()) else { return Ok(None) };
    let failed = |source| run.failed(source);
    // Of the base's own directions the table needs the singular values alone.
    let leading = known.of(base).leading(update.rank()).map_err(failed)?;
    let directions = update.rank().min(leading.rank());
    let found = projection::table(base, update, leading, &[directions]).map_err(failed)?[0];
    let cell = &run.sample.cell;
    Ok(Some(Row {
        task: cell.task.clone(),
        variant: cell.variant.clone(),
        rank: cell.rank,
        seed: cell.seed,
        map: run.name.to_owned(),
        directions,
        base_norm: found.base_norm,
        update_norm: found.update_norm,
        onto_update: found.onto_update,
        onto_base: found.onto_base,
        onto_random: found.onto_random,
        amplification: found.amplification,
    }))
}
