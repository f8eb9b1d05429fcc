//! How far an update moves over training: its size, its distance to where it ends, and when its directions are found.

use super::factored::{Svd, Update};
use super::grassmann::{Phi, phi};
use super::{Side, SubspaceError};

/// One checkpoint of an update against the last one.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// `‖ΔW_t‖_F`.
    pub norm: f64,
    /// `‖ΔW_t - ΔW_{t-1}‖_F`, from zero for the first.
    pub step: f64,
    /// `‖ΔW_t - ΔW_T‖_F / ‖ΔW_T‖_F`.
    pub to_final: f64,
    /// `φ` between the directions of `ΔW_t` and those of `ΔW_T`; none where `ΔW_t` has rank 0, as before the first step.
    pub phi_final: Option<Phi>,
}

/// The moments of a sequence of checkpoints of one map, in their order; the last has directions.
pub fn movement(checkpoints: &[Update], side: Side) -> Result<Vec<Moment>, SubspaceError> {
    let Some(last) = checkpoints.last() else {
        return Err(SubspaceError::TooFew { what: "checkpoints", found: 0, needed: 1 });
    };
    let end = last.svd()?;
    let mut previous: Option<&Update> = None;
    let mut moments = Vec::with_capacity(checkpoints.len());
    for update in checkpoints {
        let to_final = update.distance(last)? / end.norm();
        let norm = update.norm();
        let step = previous.map_or(Ok(norm), |previous| update.distance(previous))?;
        moments.push(Moment { norm, step, to_final, phi_final: phi_final(update, &end, side)? });
        previous = Some(update);
    }
    Ok(moments)
}

fn phi_final(update: &Update, end: &Svd, side: Side) -> Result<Option<Phi>, SubspaceError> {
    match update.svd() {
        Ok(svd) => phi(&svd.basis(side), &end.basis(side)).map(Some),
        Err(SubspaceError::RankZero { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
