//! Fisher merging: a mean of weights in which every entry counts as much as it matters to its own run.
//!
//! With `F_i` the diagonal of the Fisher information of run `i` in the weight of a map, `[d_in, d_out]`,
//!
//! `ΔW = Σ_i w_i·F_i∘ΔW_i / Σ_i w_i·F_i`, since `W_i = W0 + ΔW_i` and the base cancels.
//!
//! `F_i` is the mean over examples of the squared gradient of the loss, in units of its root of the sum of squares over all maps of the run,
//! and at least 1e-6. Equal `F_i` give the mean.
//!
//! Departure: the labels are those of the data (the empirical Fisher information); the paper takes the expectation over the model's own
//! predictions.
//!
//! Matena and Raffel, *Merging Models with Fisher-Weighted Averaging*, NeurIPS 2022, arXiv:2111.09832, Eq. 4; floor and unit from the authors'
//! code.

use std::collections::{BTreeMap, BTreeSet};

use lowrank::{Truncated, Update};
use nalgebra::DMatrix;
use trainer::{adapter, calibrate, error::TrainError, model_cache::ModelCache};

use super::{
    Input, foreign,
    regmean::{matrix, must_be_a_run},
};

/// What `F` is at least.
const FLOOR: f64 = 1e-6;

/// `F` of every one of these maps in a run's own model, over `examples` examples of its training.
pub(super) fn information(
    input: &Input,
    names: &BTreeSet<&String>,
    examples: usize,
    cache: &ModelCache,
) -> Result<BTreeMap<String, DMatrix<f64>>, TrainError> {
    must_be_a_run(input)?;
    let (metadata, mut network) = adapter::load(&adapter::resolve(&input.path)?, cache)?;
    let maps: BTreeSet<String> = names.iter().copied().cloned().collect();
    let linears: BTreeSet<&str> = network.backbone.linears().iter().map(|map| map.name()).collect();
    if let Some(fused) = maps.iter().find(|map| !linears.contains(map.as_str())) {
        let reason = format!(
            "has the parts of `{fused}` apart, in which a gradient of the whole map is not taken; merge with another method"
        );
        return Err(foreign(&input.path, reason));
    }
    let squares = calibrate::trained_squared_gradients(&metadata.plan, &mut network, &maps, examples, cache)?;
    let squares: BTreeMap<String, DMatrix<f64>> =
        squares.into_iter().map(|(map, square)| (map, matrix(&square))).collect();
    let unit = squares.values().map(DMatrix::norm_squared).sum::<f64>().sqrt();
    if !(unit.is_finite() && unit > 0.0) {
        return Err(foreign(
            &input.path,
            format!("has gradients of size `{unit:e}` on its training data, which weigh nothing"),
        ));
    }
    Ok(squares.into_iter().map(|(map, square)| (map, square.map(|value| (value / unit).max(FLOOR)))).collect())
}

/// The merged update of one map at `rank`, from the runs' weights, `F` and updates; one that leaves the map alone counts with an update of zero.
pub fn weighted_mean(
    updates: &[(f64, Option<&Update>)],
    information: &[DMatrix<f64>],
    rank: usize,
) -> Result<Truncated, String> {
    let shape = updates.iter().find_map(|(_, update)| update.map(Update::shape));
    let (d_in, d_out) = shape.unwrap_or_else(|| unreachable!("at least one update is there"));
    let (mut sum, mut wanted) = (DMatrix::zeros(d_in, d_out), DMatrix::zeros(d_in, d_out));
    for ((weight, update), information) in updates.iter().zip(information) {
        let share = information * *weight;
        if let Some(update) = update {
            wanted += share.component_mul(&update.dense());
        }
        sum += share;
    }
    Update::Dense(wanted.component_div(&sum)).truncated(Some(rank)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: entries weigh 1 to 3 and 4 to 1; a run without the map counts with zeros.
    #[test]
    fn every_entry_is_a_mean_by_its_information() {
        let of = |values: [f64; 2]| DMatrix::from_row_slice(1, 2, &values);
        let (a, b) = (Update::Dense(of([4.0, 10.0])), Update::Dense(of([8.0, 0.0])));
        let information = [of([1.0, 4.0]), of([3.0, 1.0])];
        let merged =
            |updates: &[(f64, Option<&Update>)]| weighted_mean(updates, &information, 1).unwrap().update.dense();
        let close = |found: DMatrix<f64>, wanted: [f64; 2]| assert!((found - of(wanted)).amax() < 1e-14);
        close(merged(&[(1.0, Some(&a)), (1.0, Some(&b))]), [7.0, 8.0]);
        close(merged(&[(3.0, Some(&a)), (1.0, Some(&b))]), [6.0, 120.0 / 13.0]);
        close(merged(&[(1.0, Some(&a)), (1.0, None)]), [1.0, 8.0]);
    }
}
