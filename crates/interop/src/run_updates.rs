//! The updates of a run with its snapshots, and what a measure needs to know of the run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use experiment::cell::Cell;
use lowrank::{Update, error::check};
use record::{CellId, RunRecord, Store};
use trainer::{adapter, error::TrainError, model_cache::ModelCache, study};
use variants::base::BaseSpec;

use crate::update::{self, MapUpdate, Reader, Updates};

/// One run's adapter on the host.
#[derive(Clone, Debug)]
pub struct RunUpdates {
    /// Name in messages.
    pub name: String,
    /// Its place in the grid; a foreign adapter has its name alone.
    pub cell: CellId,
    /// Whether the factor on the inputs never trains, as LoRA-FA's and VeRA's.
    pub frozen_inputs: bool,
    /// Whether the base itself trains, as in full fine-tuning.
    pub trains_base: bool,
    /// Hash of the base; empty where it is not known.
    pub base_hash: String,
    /// The change of every map, by name.
    pub maps: BTreeMap<String, MapUpdate>,
    /// The same at the steps of its snapshots.
    pub snapshots: BTreeMap<u64, BTreeMap<String, MapUpdate>>,
    /// What is worth knowing of its files.
    pub notes: Vec<String>,
}

impl Reader<'_> {
    /// Reads an adapter with the snapshots in its folder. `base` names the base model of an adapter that does not say it.
    pub fn run(&self, path: &Path, base: Option<&str>) -> Result<RunUpdates, TrainError> {
        let whole = self.read(path)?;
        let mut kept = BTreeMap::new();
        for (step, file) in snapshots(path)? {
            let snapshot = self.read(&file)?;
            if let (Some(run), Some(found)) = (&whole.metadata, &snapshot.metadata) {
                adapter::check_snapshot(&file, found, run)?;
            }
            kept.insert(step, snapshot.maps);
        }
        let mut run = RunUpdates { snapshots: kept, ..RunUpdates::from(whole) };
        if let Some(name) = base {
            attach_base(&mut run, name, self)?;
        }
        finite(&run, path)?;
        Ok(run)
    }
}

/// Reads one run; see [`Reader::run`].
pub fn read(path: &Path, base: Option<&str>, cache: &ModelCache) -> Result<RunUpdates, TrainError> {
    Reader::new(cache).run(path, base)
}

/// Refuses dense updates with numbers that are not finite; factors are checked where they are read.
fn finite(run: &RunUpdates, path: &Path) -> Result<(), TrainError> {
    for (map, MapUpdate { update, .. }) in run.snapshots.values().chain([&run.maps]).flatten() {
        if let Update::Dense(matrix) = update {
            check("ΔW", matrix).map_err(|error| update::no_update(path, map, &error))?;
        }
    }
    Ok(())
}

/// The runs of an experiment that finished by the recipes that it has now, as the tables take them, and the cells whose adapter is of no
/// such run; none where an adapter is missing.
pub fn finished<'a>(cells: &'a [Cell], store: &Store) -> Result<Option<Finished<'a>>, TrainError> {
    let records = study::records(cells, store)?;
    let slugs = |of: &dyn Fn(&RunRecord) -> bool| -> BTreeSet<String> {
        records.iter().filter(|record| of(record)).map(|record| record.cell.slug()).collect()
    };
    let (recorded, finished) = (slugs(&|_| true), slugs(&RunRecord::is_finished));
    let has_adapter = |id: &&CellId| store.adapter_path(id).is_file();
    let ids = || cells.iter().map(|cell| &cell.id);
    let runs: Vec<&CellId> = ids().filter(|id| finished.contains(&id.slug())).collect();
    let strays = ids().filter(|id| !recorded.contains(&id.slug())).filter(has_adapter).collect();
    Ok(runs.iter().all(has_adapter).then_some(Finished { runs, strays }))
}

/// What lies in the folders of an experiment's cells.
#[derive(Debug)]
pub struct Finished<'a> {
    /// Runs that finished.
    pub runs: Vec<&'a CellId>,
    /// Cells with an adapter that no run of the present recipe has made.
    pub strays: Vec<&'a CellId>,
}

impl From<Updates> for RunUpdates {
    fn from(updates: Updates) -> Self {
        let Updates { name, metadata, maps, notes } = updates;
        let variant = metadata.as_ref().map(|metadata| &metadata.plan.variant);
        Self {
            frozen_inputs: variant.is_some_and(|variant| variant.delta.is_some() && !variant.trains_inputs()),
            trains_base: variant.is_some_and(|variant| variant.base == BaseSpec::Trained),
            base_hash: metadata.as_ref().map(|metadata| metadata.model_hash.clone()).unwrap_or_default(),
            cell: metadata.map_or_else(
                || CellId { task: String::new(), variant: name.clone(), rank: 0, seed: 0 },
                |metadata| metadata.cell,
            ),
            name,
            maps,
            snapshots: BTreeMap::new(),
            notes,
        }
    }
}

/// Steps and files of a run's snapshots.
fn snapshots(run: &Path) -> Result<BTreeMap<u64, PathBuf>, TrainError> {
    let folder = run.join(adapter::SNAPSHOTS);
    let mut found = BTreeMap::new();
    if folder.is_dir() {
        let failed = |source| TrainError::io(&folder, source);
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let step = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let Some(step) = step.filter(|_| path.extension().is_some_and(|end| end == "safetensors")) {
                found.insert(step, path);
            }
        }
    }
    Ok(found)
}

/// Gives the maps that came without their base the weights of the model called `name`.
fn attach_base(run: &mut RunUpdates, name: &str, reader: &Reader<'_>) -> Result<(), TrainError> {
    let base = reader.cache.base(name)?;
    let linears: BTreeMap<&str, _> = base.backbone.linears().into_iter().map(|map| (map.name(), map)).collect();
    let mut wrong = Vec::new();
    for (module, map) in run.maps.iter_mut().filter(|(_, map)| map.base.is_none()) {
        let shape = <[usize; 2]>::from(map.update.shape());
        match linears.get(module.as_str()) {
            Some(linear) if linear.shape() == shape => map.base = Some(reader.weight(&base.hash, linear)),
            Some(linear) => {
                wrong.push(format!("`{module}` is {shape:?} in the adapter and {:?} in the model", linear.shape()));
            }
            None => wrong.push(format!("the model has no `{module}`")),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(TrainError::foreign(&run.name, format!("`{name}` is not its base: {}", wrong.join("; "))))
}
