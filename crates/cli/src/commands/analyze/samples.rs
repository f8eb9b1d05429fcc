//! Adapters as the measures take them.

use std::path::{Path, PathBuf};

use analysis::measures::{
    AdapterSample, Map,
    study::{MOST_COMPARED, Measures, Measuring},
};
use experiment::Experiment;
use interop::{
    run_updates::{self, RunUpdates},
    update::{MapUpdate, Reader},
};
use record::Store;
use trainer::model_cache::ModelCache;

use super::args::{Adapters, Output};
use crate::{failure::Failure, terminal::note};

/// One adapter with its snapshots, and those of its maps that were asked for.
pub(super) fn one(
    path: &Path,
    base: Option<&str>,
    output: &Output,
    reader: &Reader<'_>,
) -> Result<AdapterSample, Failure> {
    let run = reader.run(path, base)?;
    run.notes.iter().for_each(|line| note(&format!("{}: {line}", path.display())));
    let mut sample = sample(run);
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
    let reader = Reader::new(cache);
    Ok((one(paths[0], None, output, &reader)?, one(paths[1], None, output, &reader)?))
}

/// Several adapters.
pub(super) fn several(args: &Adapters, cache: &ModelCache) -> Result<Vec<AdapterSample>, Failure> {
    let reader = Reader::new(cache);
    args.paths.iter().map(|path| one(path, args.base.as_deref(), &args.output, &reader)).collect()
}

/// The measures of every adapted run of an experiment that finished; none where an adapter is missing. Adapters are read and measured
/// one at a time, so that memory does not grow with their number.
pub(in crate::commands) fn of_study(
    experiment: &Experiment,
    store: &Store,
    cache: &ModelCache,
) -> Result<Option<Measures>, Failure> {
    let Some(finished) = run_updates::finished(experiment.cells(), store)? else { return Ok(None) };
    let (reader, mut measuring) = (Reader::new(cache), Measuring::default());
    if !finished.strays.is_empty() {
        let names: Vec<String> = finished.strays.iter().map(|id| id.slug()).collect();
        note(&format!(
            "not measured, since no run of the present recipe has made their adapters: {}; `lora-lab run` trains them",
            names.join(", ")
        ));
    }
    for id in finished.runs {
        let run = reader.run(&store.run_dir(id), None)?;
        if !run.maps.is_empty() {
            measuring.add(sample(run))?;
        }
    }
    let measures = measuring.finish()?;
    if measures.left_out() > 0 {
        note(&format!(
            "overlaps are between the first {MOST_COMPARED} runs of every task, variant and rank; {} more are in the other tables",
            measures.left_out()
        ));
    }
    Ok(Some(measures))
}

/// A run as the measures take it.
fn sample(run: RunUpdates) -> AdapterSample {
    let RunUpdates { name, cell, frozen_inputs, trains_base, base_hash, maps, snapshots, notes: _ } = run;
    let snapshots = snapshots
        .into_iter()
        .map(|(step, maps)| (step, maps.into_iter().map(|(key, map)| (key, map.update)).collect()))
        .collect();
    let maps = maps.into_iter().map(|(key, MapUpdate { base, update })| (key, Map { base, update })).collect();
    AdapterSample { name, cell, frozen_inputs, trains_base, base_hash, maps, snapshots }
}
