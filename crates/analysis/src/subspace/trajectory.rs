//! The trajectory of an update over training: its size, its distance to the final update, and when it finds its final directions.

use lowrank::Update;

use super::factored::{SingularDirections as _, Svd};
use super::grassmann::{Phi, phi};
use super::{Side, SubspaceError, same_shape};

/// One checkpoint of an update against the last one.
#[derive(Clone, Debug, PartialEq)]
pub struct TrajectoryPoint {
    /// `‖ΔW_t‖_F`.
    pub norm: f64,
    /// `‖ΔW_t - ΔW_{t-1}‖_F`, from zero for the first.
    pub step: f64,
    /// `‖ΔW_t - ΔW_T‖_F / ‖ΔW_T‖_F`.
    pub to_final: f64,
    /// `φ` between the directions of `ΔW_t` and those of `ΔW_T`; none where `ΔW_t` has rank 0, as before the first step.
    pub phi_final: Option<Phi>,
}

/// One point per checkpoint of one map, in their order; the last checkpoint must have directions.
pub fn trajectory(checkpoints: &[Update], side: Side) -> Result<Vec<TrajectoryPoint>, SubspaceError> {
    let Some(last) = checkpoints.last() else {
        return Err(SubspaceError::TooFew { what: "checkpoints", found: 0, needed: 1 });
    };
    let end = last.svd()?;
    let mut previous: Option<&Update> = None;
    let mut points = Vec::with_capacity(checkpoints.len());
    for update in checkpoints {
        let to_final = distance(update, last)? / end.norm();
        let norm = update.norm();
        let step = previous.map_or(Ok(norm), |previous| distance(update, previous))?;
        points.push(TrajectoryPoint { norm, step, to_final, phi_final: phi_final(update, &end, side)? });
        previous = Some(update);
    }
    Ok(points)
}

/// `‖ΔW - ΔW'‖_F`.
fn distance(one: &Update, other: &Update) -> Result<f64, SubspaceError> {
    same_shape(("ΔW", one.shape()), ("the other ΔW", other.shape()))?;
    Ok(one.distance(other))
}

fn phi_final(update: &Update, end: &Svd, side: Side) -> Result<Option<Phi>, SubspaceError> {
    match update.svd() {
        Ok(svd) => phi(&svd.basis(side), &end.basis(side)).map(Some),
        Err(SubspaceError::RankZero { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
