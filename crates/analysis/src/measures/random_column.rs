//! The random column of LoRA's table 7, sampled on the study's own weights and compared with its closed form.

use std::{collections::BTreeMap, sync::Arc};

use nalgebra::DMatrix;
use serde::Serialize;

use super::MeasureError;
use crate::subspace::{projection::random_projections, random::root_mean_square_projection};

/// Samples per map and number of directions.
pub const DRAWS: usize = 400;
/// Directions that are drawn, as in the paper's table.
pub const RANKS: [usize; 2] = [4, 64];
const SEED: u64 = 0x0072_616e;

/// One map at one number of directions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The map.
    pub map: String,
    /// Random directions on each side.
    pub r: usize,
    /// Samples.
    pub draws: usize,
    /// Mean of `‖UᵀWV‖_F²` over the samples.
    pub mean_square: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// `r²‖W‖_F²/(d_in d_out)`, its expectation.
    pub expected: f64,
}

crate::tabular!(Row: map, r, draws, mean_square, standard_error, expected);

/// Rows of every map of a base, `[d_in, d_out]` by name.
pub fn rows(bases: &BTreeMap<String, Arc<DMatrix<f64>>>) -> Result<Vec<Row>, MeasureError> {
    let mut rows = Vec::new();
    for (name, base) in bases {
        for r in RANKS.into_iter().filter(|&r| r <= base.nrows().min(base.ncols())) {
            let failed =
                |source| MeasureError::Measure { sample: "random directions".to_owned(), map: name.clone(), source };
            let squares: Vec<f64> =
                random_projections(base, r, DRAWS, SEED).map_err(failed)?.into_iter().map(|norm| norm * norm).collect();
            let n = squares.len() as f64;
            let mean = squares.iter().sum::<f64>() / n;
            let variance = squares.iter().map(|square| (square - mean).powi(2)).sum::<f64>() / (n - 1.0);
            rows.push(Row {
                map: name.clone(),
                r,
                draws: squares.len(),
                mean_square: mean,
                standard_error: (variance / n).sqrt(),
                expected: root_mean_square_projection(base.norm(), base.shape(), r).powi(2),
            });
        }
    }
    Ok(rows)
}
