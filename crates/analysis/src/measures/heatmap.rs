//! `W` against `ΔW` (LoRA appendix H.3): how much of the update's directions lies in the leading ones of the base.

use serde::Serialize;

use super::{AdapterSample, Directions, MeasureError};
use crate::subspace::{
    Side,
    grassmann::phi,
    top::{TopOptions, top},
};

/// One cell of one map's heat map.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The map.
    pub module: String,
    /// Leading directions of `W`.
    pub i: usize,
    /// Leading directions of `ΔW`.
    pub j: usize,
    /// `φ(i, j)`.
    pub phi: f64,
    /// `max(i, j)/d`, the mean over random subspaces.
    pub random_mean: f64,
    /// Whether a cut lies inside a cluster of singular values.
    pub ambiguous: bool,
}

crate::tabular!(Row: module, i, j, phi, random_mean, ambiguous);

/// Rows of every map whose base is known and whose update is not zero, on one side, up to `count` directions of `W`.
pub fn rows(sample: &AdapterSample, side: Side, count: usize) -> Result<Vec<Row>, MeasureError> {
    let directions = if side == Side::Input { Directions::DeltaInput } else { Directions::DeltaOutput };
    let mut rows = Vec::new();
    for (name, map) in &sample.maps {
        let Some(base) = &map.base else { continue };
        let Some(update) = directions.of(&map.update, &sample.name, name)? else { continue };
        let failed = |source| MeasureError::Measure { sample: sample.name.clone(), map: name.clone(), source };
        let count = count.min(base.nrows().min(base.ncols()));
        let leading = top(base, count, TopOptions::default()).map_err(failed)?;
        let found = phi(&leading.svd.basis(side), &update).map_err(failed)?;
        rows.extend(found.entries().map(|entry| Row {
            module: name.clone(),
            i: entry.i,
            j: entry.j,
            phi: entry.phi,
            random_mean: crate::subspace::random::mean_phi(found.dimension(), entry.i, entry.j),
            ambiguous: found.is_ambiguous(entry.i, entry.j),
        }));
    }
    Ok(rows)
}
