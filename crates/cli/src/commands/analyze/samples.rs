//! Adapters as the measures take them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use analysis::{
    measures::{AdapterSample, Map},
    subspace::{
        SubspaceError,
        factored::{LowRank, Update},
    },
};
use experiment::Experiment;
use interop::{
    run_updates::{self, RunUpdates},
    update::{Change, MapUpdate},
};
use nalgebra::DMatrix;
use record::Store;
use trainer::model_cache::ModelCache;

use super::args::{Adapters, Output};
use crate::failure::Failure;

/// One adapter with its snapshots, and those of its maps that were asked for.
pub(super) fn one(
    path: &Path,
    base: Option<&str>,
    output: &Output,
    cache: &ModelCache,
) -> Result<AdapterSample, Failure> {
    let mut sample = sample(run_updates::read(path, base, cache)?)?;
    let Some(pattern) = &output.maps else { return Ok(sample) };
    let wanted = regex::Regex::new(pattern)
        .map_err(|error| Failure::Input(format!("--maps `{pattern}` is no regular expression: {error}")))?;
    let all: Vec<String> = sample.maps.keys().cloned().collect();
    sample.maps.retain(|name, _| wanted.is_match(name));
    if sample.maps.is_empty() {
        return Err(Failure::Input(format!(
            "--maps `{pattern}` matches no map of {}; it has `{}`",
            path.display(),
            all.join("`, `")
        )));
    }
    Ok(sample)
}

/// Two adapters.
pub(super) fn two(
    paths: [&PathBuf; 2],
    output: &Output,
    cache: &ModelCache,
) -> Result<(AdapterSample, AdapterSample), Failure> {
    Ok((one(paths[0], None, output, cache)?, one(paths[1], None, output, cache)?))
}

/// Several adapters.
pub(super) fn several(args: &Adapters, cache: &ModelCache) -> Result<Vec<AdapterSample>, Failure> {
    args.paths.iter().map(|path| one(path, args.base.as_deref(), &args.output, cache)).collect()
}

/// Every adapted run of an experiment that finished; none where an adapter is missing.
pub(in crate::commands) fn of_study(
    experiment: &Experiment,
    store: &Store,
    cache: &ModelCache,
) -> Result<Option<Vec<AdapterSample>>, Failure> {
    let Some(runs) = run_updates::of_study(experiment.cells(), store, cache)? else { return Ok(None) };
    runs.into_iter().map(sample).collect::<Result<_, _>>().map(Some)
}

/// The numbers of a run as matrices.
fn sample(run: RunUpdates) -> Result<AdapterSample, Failure> {
    let RunUpdates { name, cell, frozen_inputs, trains_base, base_hash, maps, snapshots } = run;
    let failed = |map: &str, error: &SubspaceError| Failure::Input(format!("{name}, map `{map}`: {error}"));
    let mut converted = BTreeMap::new();
    for (key, map) in maps {
        let map = matrices(map).map_err(|error| failed(&key, &error))?;
        converted.insert(key, map);
    }
    let mut taken = BTreeMap::new();
    for (step, maps) in snapshots {
        let mut updates = BTreeMap::new();
        for (key, map) in maps {
            let map = matrices(map).map_err(|error| failed(&key, &error))?;
            updates.insert(key, map.update);
        }
        taken.insert(step, updates);
    }
    Ok(AdapterSample { name, cell, frozen_inputs, trains_base, base_hash, maps: converted, snapshots: taken })
}

fn matrices(map: MapUpdate) -> Result<Map, SubspaceError> {
    let MapUpdate { d_in, d_out, base, change } = map;
    let base = base.map(|values| DMatrix::from_row_slice(d_in, d_out, &values));
    let update = match (change, &base) {
        (Change::LowRank { rank, down, up }, _) => Update::Factored(LowRank::new(
            DMatrix::from_row_slice(d_in, rank, &down),
            DMatrix::from_row_slice(rank, d_out, &up),
            1.0,
        )?),
        (Change::Dense(weight), Some(base)) => Update::between(base, &DMatrix::from_row_slice(d_in, d_out, &weight))?,
        (Change::Dense(_), None) => unreachable!("a dense change comes with its base"),
    };
    Ok(Map { base, update })
}
