//! The directions of every map of an adapter, taken once for all comparisons.

use std::collections::BTreeMap;

use super::{AdapterSample, Directions, MeasureError};
use crate::subspace::basis::Basis;

/// The directions of every map that has some.
pub(super) fn bases(sample: &AdapterSample, side: Directions) -> Result<BTreeMap<&str, Basis>, MeasureError> {
    let mut bases = BTreeMap::new();
    for (name, map) in &sample.maps {
        if let Some(basis) = side.of(&map.update, &sample.name, name)? {
            bases.insert(name.as_str(), basis);
        }
    }
    Ok(bases)
}

/// The directions of every run, though it stands in several pairs; none for updates without factors.
pub(super) fn all_bases(
    samples: &[AdapterSample],
    side: Directions,
) -> Result<Vec<BTreeMap<&str, Basis>>, MeasureError> {
    let of = |sample| if AdapterSample::is_factored(sample) { bases(sample, side) } else { Ok(BTreeMap::new()) };
    samples.iter().map(of).collect()
}
