//! Two adapters compared: the Grassmann similarity and the principal angles of every map that both have.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{AdapterSample, Directions, MeasureError};
use crate::subspace::{
    SubspaceError,
    grassmann::{Phi, phi, principal_angles, projection_distance},
};

/// One cut of one map.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhiRow {
    /// The map.
    pub module: String,
    /// Directions of the first adapter.
    pub i: usize,
    /// Directions of the second.
    pub j: usize,
    /// `φ(i, j)`.
    pub phi: f64,
}

crate::tabular!(PhiRow: module, i, j, phi);

/// One principal angle of one map.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AngleRow {
    /// The map.
    pub module: String,
    /// The angle's number, from 1; angles ascend.
    pub k: usize,
    /// In radians.
    pub angle: f64,
    /// The projection distance of the two subspaces, the same for every angle of a map.
    pub distance: f64,
}

crate::tabular!(AngleRow: module, k, angle, distance);

/// `φ(i, j)` at every cut of every shared map.
pub fn phi_rows(first: &AdapterSample, second: &AdapterSample, side: Directions) -> Result<Vec<PhiRow>, MeasureError> {
    let phis = between(first, second, side)?;
    let entries = phis.iter().flat_map(|(module, phi)| phi.entries().map(move |entry| (module, entry)));
    Ok(entries.map(|(module, e)| PhiRow { module: module.clone(), i: e.i, j: e.j, phi: e.phi }).collect())
}

/// The principal angles and the projection distance of every shared map.
pub fn angle_rows(
    first: &AdapterSample,
    second: &AdapterSample,
    side: Directions,
) -> Result<Vec<AngleRow>, MeasureError> {
    let mut rows = Vec::new();
    // `between` says which maps both have, and refuses what has no directions.
    for module in between(first, second, side)?.into_keys() {
        let basis = |sample: &AdapterSample| side.of(&sample.maps[&module].update, &sample.name, &module);
        let (Some(one), Some(other)) = (basis(first)?, basis(second)?) else { continue };
        let failed = |source| MeasureError::Measure { sample: both(first, second), map: module.clone(), source };
        let distance = projection_distance(&one, &other).map_err(failed)?;
        for (at, angle) in principal_angles(&one, &other).map_err(failed)?.into_iter().enumerate() {
            rows.push(AngleRow { module: module.clone(), k: at + 1, angle, distance });
        }
    }
    Ok(rows)
}

/// Refuses two adapters of different bases. An adapter that does not name its base is not refused.
pub(super) fn same_base(first: &AdapterSample, second: &AdapterSample) -> Result<(), MeasureError> {
    if first.base_hash == second.base_hash || first.base_hash.is_empty() || second.base_hash.is_empty() {
        return Ok(());
    }
    let short = |hash: &str| format!("`{}`", hash.get(..12).unwrap_or(hash));
    Err(MeasureError::OtherBase {
        first: first.name.clone(),
        first_base: short(&first.base_hash),
        second: second.name.clone(),
        second_base: short(&second.base_hash),
    })
}

/// Two adapters without a map in common.
pub(super) fn nothing_shared(first: &AdapterSample, second: &AdapterSample) -> MeasureError {
    MeasureError::NothingShared {
        first: first.name.clone(),
        first_maps: first.maps.keys().cloned().collect(),
        second: second.name.clone(),
        second_maps: second.maps.keys().cloned().collect(),
    }
}

/// `φ` of every map that two adapters share.
pub fn between(
    first: &AdapterSample,
    second: &AdapterSample,
    side: Directions,
) -> Result<BTreeMap<String, Phi>, MeasureError> {
    same_base(first, second)?;
    let mut all = BTreeMap::new();
    for (name, map) in &first.maps {
        let Some(partner) = second.maps.get(name) else { continue };
        let one = side.of(&map.update, &first.name, name)?;
        let other = side.of(&partner.update, &second.name, name)?;
        let (Some(one), Some(other)) = (one, other) else {
            return Err(MeasureError::Measure {
                sample: both(first, second),
                map: name.clone(),
                source: SubspaceError::RankZero { name: "ΔW" },
            });
        };
        let phi = phi(&one, &other).map_err(|source| MeasureError::Measure {
            sample: both(first, second),
            map: name.clone(),
            source,
        })?;
        all.insert(name.clone(), phi);
    }
    if all.is_empty() {
        return Err(nothing_shared(first, second));
    }
    Ok(all)
}

/// Two adapters in a message.
fn both(first: &AdapterSample, second: &AdapterSample) -> String {
    format!("{} and {}", first.name, second.name)
}
