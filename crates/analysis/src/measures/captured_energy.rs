//! Captured energy: how much of a full update lies in the span of a frozen random factor (LoRA-FA, VeRA).
//!
//! The tables call the column `reach`, as the committed ones do.

use lowrank::Update;
use serde::Serialize;

use super::{AdapterSample, MeasureError};
use crate::subspace::{Side, captured_energy::captured_energy, factored::factor_basis, random::mean_captured_energy};

/// One frozen factor against one full update of the same task, seed and map.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The task.
    pub task: String,
    /// The seed.
    pub seed: u64,
    /// The variant with the frozen factor.
    pub variant: String,
    /// Its rank.
    pub rank: usize,
    /// The variant whose update is taken as full.
    pub full: String,
    /// The map.
    pub map: String,
    /// `‖P ΔW‖_F² / ‖ΔW‖_F²`
    #[serde(rename = "reach")]
    pub captured: f64,
    /// Its mean over random factors, `rank/d_in`, at most 1.
    pub random_mean: f64,
}

crate::tabular!(Row: task, seed, variant, rank, full, map, captured as "reach", random_mean);

/// One map of a pair that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairRow {
    /// The map.
    pub module: String,
    /// Directions of the factor.
    pub rank: usize,
    /// `‖P ΔW‖_F² / ‖ΔW‖_F²`, `P` onto the span of the factor on the inputs.
    #[serde(rename = "reach")]
    pub captured: f64,
    /// Its mean over random factors, `rank/d_in`.
    pub random_mean: f64,
}

crate::tabular!(PairRow: module, rank, captured as "reach", random_mean);

/// How much of `full`'s update lies in the span of the first adapter's factor on the inputs, for every map that both have.
pub fn between(factor: &AdapterSample, full: &AdapterSample) -> Result<Vec<PairRow>, MeasureError> {
    super::pair::same_base(factor, full)?;
    let mut rows = Vec::new();
    for (name, map) in &factor.maps {
        let Some(partner) = full.maps.get(name) else { continue };
        // A dense update has no factor to span a space with; the error says so.
        let Update::LowRank(product) = &map.update else {
            return Err(MeasureError::NoFactors { sample: factor.name.clone(), map: name.clone(), side: "a" });
        };
        let measure = |source| MeasureError::Measure {
            sample: format!("{} and {}", factor.name, full.name),
            map: name.clone(),
            source,
        };
        let (d_in, _) = product.shape();
        let rank = factor_basis(product, Side::Input).map_err(measure)?.rank();
        let captured = captured_energy(&partner.update, product.down(), Side::Input).map_err(measure)?;
        rows.push(PairRow { module: name.clone(), rank, captured, random_mean: mean_captured_energy(d_in, rank) });
    }
    if rows.is_empty() {
        return Err(super::pair::nothing_shared(factor, full));
    }
    Ok(rows)
}

/// Rows of every pair of a run whose factor on the inputs is frozen and a run that trained the base, of one base, task and seed.
pub fn rows(samples: &[AdapterSample]) -> Result<Vec<Row>, MeasureError> {
    let mut rows = Vec::new();
    for sample in samples.iter().filter(|sample| sample.frozen_inputs) {
        for full in samples.iter().filter(|full| {
            full.trains_base
                && (&full.cell.task, full.cell.seed, &full.base_hash)
                    == (&sample.cell.task, sample.cell.seed, &sample.base_hash)
        }) {
            for (name, map) in &sample.maps {
                let (Update::LowRank(product), Some(partner)) = (&map.update, full.maps.get(name)) else { continue };
                let (d_in, _) = product.shape();
                let found = captured_energy(&partner.update, product.down(), Side::Input).map_err(|source| {
                    MeasureError::Measure {
                        sample: format!("{} and {}", sample.cell, full.cell),
                        map: name.clone(),
                        source,
                    }
                })?;
                rows.push(Row {
                    task: sample.cell.task.clone(),
                    seed: sample.cell.seed,
                    variant: sample.cell.variant.clone(),
                    rank: sample.cell.rank,
                    full: full.cell.variant.clone(),
                    map: name.clone(),
                    captured: found,
                    random_mean: mean_captured_energy(d_in, sample.cell.rank.min(d_in)),
                });
            }
        }
    }
    Ok(rows)
}
