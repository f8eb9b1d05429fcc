//! `analyze`: subspace measures of adapters, as tables.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use analysis::{
    measures::{
        self, AdapterSample, Directions, Map, MeasureError,
        frame::{Tabular, csv},
    },
    render,
    subspace::{
        Side, SubspaceError,
        factored::{LowRank, Update},
        grassmann::{principal_angles, projection_distance},
    },
    table::projection_table,
};
use burn::tensor::{DType, Device};
use experiment::cell::Cell;
use interop::update::{self, Change, MapUpdate, Updates};
use nalgebra::DMatrix;
use record::{CellId, Store, write_atomic};
use serde::Serialize;
use trainer::library::Library;
use variants::{
    base::BaseSpec,
    host::{Placement, values},
};

use super::read;
use crate::{
    args::{Adapters, Analyze, Output, Pair, SideName, Spectrum, TableFormat},
    terminal::{Failure, create_folder, note, print},
};

/// Measures and writes.
pub(super) fn run(args: &Analyze, results: &Path) -> Result<(), Failure> {
    let library = library();
    match args {
        Analyze::Phi(pair) => {
            let (first, second) = both(pair, &library)?;
            let phis = measures::overlap::between(&first, &second, directions(pair.side)).map_err(input)?;
            let entries = phis.iter().flat_map(|(module, phi)| phi.entries().map(move |entry| (module, entry)));
            let rows: Vec<PhiRow> = entries
                .map(|(module, entry)| PhiRow { module: module.clone(), i: entry.i, j: entry.j, phi: entry.phi })
                .collect();
            write(&rows, &pair.output)
        }
        Analyze::Angles(pair) => {
            let (first, second) = both(pair, &library)?;
            write(&angles(&first, &second, directions(pair.side))?, &pair.output)
        }
        Analyze::Projection(all) => {
            write(&measures::projection::rows(&samples(all, &library)?).map_err(input)?, &all.output)
        }
        Analyze::Heatmap(heat) => {
            let mut sample = sample(&heat.adapter, &heat.output, &library)?;
            attach_base(&mut sample, heat.base.as_deref(), &library)?;
            let side = if heat.outputs { Side::Output } else { Side::Input };
            write(&measures::heatmap::rows(&sample, side, heat.top.max(1)).map_err(input)?, &heat.output)
        }
        Analyze::Spectrum(Spectrum { adapters, directions }) => {
            let samples = samples(adapters, &library)?;
            if *directions {
                write(&measures::spectrum::directions(&samples).map_err(input)?, &adapters.output)
            } else {
                write(&measures::spectrum::rows(&samples).map_err(input)?, &adapters.output)
            }
        }
        Analyze::Layers(layers) => {
            let sample = sample(&layers.adapter, &layers.output, &library)?;
            let rows = measures::across::layers(&sample, directions(layers.side)).map_err(input)?;
            if rows.is_empty() {
                return Err(Failure::Input(format!(
                    "{}: no two layers have trained maps of one kind and width to compare",
                    layers.adapter.display()
                )));
            }
            write(&rows, &layers.output)
        }
        Analyze::CapturedEnergy(pair) => {
            let factor = sample(&pair.factor, &pair.output, &library)?;
            let full = sample(&pair.full, &pair.output, &library)?;
            write(&measures::captured_energy::between(&factor, &full).map_err(input)?, &pair.output)
        }
        Analyze::MagnitudeDirection(all) => {
            let samples = samples(all, &library)?;
            if let Some((path, _)) = all.paths.iter().zip(&samples).find(|(_, s)| s.snapshots.is_empty()) {
                return Err(Failure::Input(format!(
                    "{}: no snapshots here; train with `train: {{snapshot_every: 50}}`, or give the run's folder",
                    path.display()
                )));
            }
            write(&measures::magnitude_direction::rows(&samples).map_err(input)?, &all.output)
        }
        Analyze::Study { experiment, set } => {
            let experiment = read(experiment, set)?;
            let store = Store::open(results, experiment.name())?;
            let Some(samples) = of_study(experiment.cells(), &store, &library)? else {
                return Err(Failure::Input(format!(
                    "{}: not every run's adapter is here; `lora-lab run` trains what is missing (`--force` all of it)",
                    store.runs_dir().display()
                )));
            };
            tables(&samples, &store)
        }
    }
}

/// Adapters are read on the CPU in f32, the width they are stored in.
pub(super) fn library() -> Library {
    Library::new(Placement::new(&Device::flex(), DType::F32))
}

fn directions(side: SideName) -> Directions {
    match side {
        SideName::A => Directions::A,
        SideName::B => Directions::B,
        SideName::Delta | SideName::DeltaInput => Directions::DeltaInput,
        SideName::DeltaOutput => Directions::DeltaOutput,
    }
}

/// What cannot be measured is the input's fault.
#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` wants")]
fn input(error: MeasureError) -> Failure {
    Failure::Input(error.to_string())
}

#[derive(Serialize)]
struct PhiRow {
    module: String,
    i: usize,
    j: usize,
    phi: f64,
}

analysis::tabular!(PhiRow: module, i, j, phi);

#[derive(Serialize)]
struct AngleRow {
    module: String,
    k: usize,
    angle: f64,
    distance: f64,
}

analysis::tabular!(AngleRow: module, k, angle, distance);

fn angles(first: &AdapterSample, second: &AdapterSample, side: Directions) -> Result<Vec<AngleRow>, Failure> {
    // `between` says which maps both have, and refuses what has no directions.
    let shared = measures::overlap::between(first, second, side).map_err(input)?;
    let mut rows = Vec::new();
    for module in shared.into_keys() {
        let basis =
            |sample: &AdapterSample| side.of(&sample.maps[&module].update, &sample.name, &module).map_err(input);
        let (Some(one), Some(other)) = (basis(first)?, basis(second)?) else { continue };
        let failed = |error: SubspaceError| Failure::Input(format!("map `{module}`: {error}"));
        let distance = projection_distance(&one, &other).map_err(failed)?;
        for (at, angle) in principal_angles(&one, &other).map_err(failed)?.into_iter().enumerate() {
            rows.push(AngleRow { module: module.clone(), k: at + 1, angle, distance });
        }
    }
    Ok(rows)
}

/// Writes rows to where they were asked for.
fn write<T: Serialize + Tabular>(rows: &[T], output: &Output) -> Result<(), Failure> {
    if rows.is_empty() {
        return Err(Failure::Input(
            "nothing to measure: the update is zero (an untrained B), has no factors, or its base is not at hand (a PEFT \
             adapter)"
                .to_owned(),
        ));
    }
    let text = match output.format {
        TableFormat::Csv => csv(rows)?,
        TableFormat::Json => serde_json::to_string_pretty(rows)? + "\n",
    };
    match &output.out {
        Some(path) => {
            write_atomic(path, text.as_bytes())?;
            note(&format!("wrote {} rows to {}", rows.len(), path.display()));
            Ok(())
        }
        None => print(&text),
    }
}

fn both(pair: &Pair, library: &Library) -> Result<(AdapterSample, AdapterSample), Failure> {
    Ok((sample(&pair.first, &pair.output, library)?, sample(&pair.second, &pair.output, library)?))
}

fn samples(all: &Adapters, library: &Library) -> Result<Vec<AdapterSample>, Failure> {
    let read = |path| {
        let mut sample = sample(path, &all.output, library)?;
        attach_base(&mut sample, all.base.as_deref(), library)?;
        Ok(sample)
    };
    all.paths.iter().map(|path: &PathBuf| read(path)).collect()
}

/// Gives the maps of an adapter that came without its base the weights of a named model.
fn attach_base(sample: &mut AdapterSample, name: Option<&str>, library: &Library) -> Result<(), Failure> {
    let Some(name) = name else { return Ok(()) };
    let base = library.base(name).map_err(|error| Failure::Input(error.to_string()))?;
    let weights: BTreeMap<&str, _> =
        base.backbone.linears().into_iter().map(|map| (map.name(), (map.shape(), map.base().0))).collect();
    let mut wrong = Vec::new();
    for (module, map) in sample.maps.iter_mut().filter(|(_, map)| map.base.is_none()) {
        let shape: [usize; 2] = map.update.shape().into();
        match weights.get(module.as_str()) {
            Some((found, weight)) if *found == shape => {
                map.base = Some(DMatrix::from_row_slice(shape[0], shape[1], &values(weight)));
            }
            Some((found, _)) => {
                wrong.push(format!("`{module}` is {shape:?} in the adapter and {found:?} in the model"));
            }
            None => wrong.push(format!("the model has no `{module}`")),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::Input(format!("{}: `{name}` is not its base: {}", sample.name, wrong.join("; "))))
}

/// One adapter with its snapshots, those maps of it that were asked for.
fn sample(path: &Path, output: &Output, library: &Library) -> Result<AdapterSample, Failure> {
    let mut sample = load(path, library)?;
    if let Some(pattern) = &output.maps {
        let wanted = regex::Regex::new(pattern)
            .map_err(|error| Failure::Input(format!("--maps `{pattern}` is no regular expression: {error}")))?;
        let all: Vec<String> = sample.maps.keys().cloned().collect();
        sample.maps.retain(|name, _| wanted.is_match(name));
        if sample.maps.is_empty() {
            let known = all.join("`, `");
            return Err(Failure::Input(format!(
                "--maps `{pattern}` matches no map of {}; it has `{known}`",
                path.display()
            )));
        }
    }
    Ok(sample)
}

fn load(path: &Path, library: &Library) -> Result<AdapterSample, Failure> {
    let updates = update::read(path, library).map_err(|error| Failure::Input(error.to_string()))?;
    let mut sample = convert(updates, path)?;
    for (step, file) in snapshots(path)? {
        let taken = update::read(&file, library).map_err(|error| Failure::Input(error.to_string()))?;
        let maps = convert(taken, &file)?.maps.into_iter().map(|(name, map)| (name, map.update)).collect();
        sample.snapshots.insert(step, maps);
    }
    Ok(sample)
}

/// Steps and files of a run's snapshots.
fn snapshots(run: &Path) -> Result<BTreeMap<u64, PathBuf>, Failure> {
    let folder = run.join("snapshots");
    let mut found = BTreeMap::new();
    if folder.is_dir() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let step = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let Some(step) = step.filter(|_| path.extension().is_some_and(|end| end == "safetensors")) {
                found.insert(step, path);
            }
        }
    }
    Ok(found)
}

/// Plain numbers to matrices.
fn convert(updates: Updates, path: &Path) -> Result<AdapterSample, Failure> {
    let matrix = |rows: usize, cols: usize, values: &[f64]| DMatrix::from_row_slice(rows, cols, values);
    let mut maps = BTreeMap::new();
    for (name, MapUpdate { d_in, d_out, base, change }) in updates.maps {
        let failed = |error: SubspaceError| Failure::Input(format!("{}, map `{name}`: {error}", path.display()));
        let base = base.map(|values| matrix(d_in, d_out, &values));
        let update = match (change, &base) {
            (Change::LowRank { rank, down, up }, _) => Update::Factored(
                LowRank::new(matrix(d_in, rank, &down), matrix(rank, d_out, &up), 1.0).map_err(failed)?,
            ),
            (Change::Dense(weight), Some(base)) => {
                Update::between(base, &matrix(d_in, d_out, &weight)).map_err(failed)?
            }
            (Change::Dense(_), None) => unreachable!("a dense change comes with its base"),
        };
        maps.insert(name, Map { base, update });
    }
    let variant = updates.card.as_ref().map(|card| &card.plan.variant);
    let frozen_inputs = variant.is_some_and(|variant| variant.delta.is_some() && !variant.trains_inputs());
    let trains_base = variant.is_some_and(|variant| variant.base == BaseSpec::Trained);
    let base_hash = updates.card.as_ref().map(|card| card.model_hash.clone()).unwrap_or_default();
    let cell = updates.card.map_or_else(
        || CellId { task: String::new(), variant: updates.name.clone(), rank: 0, seed: 0 },
        |card| card.cell,
    );
    Ok(AdapterSample {
        name: updates.name,
        cell,
        frozen_inputs,
        trains_base,
        base_hash,
        maps,
        snapshots: BTreeMap::new(),
    })
}

/// Every adapted run of an experiment that finished; `None` where an adapter is missing.
pub(super) fn of_study(
    cells: &[Cell],
    store: &Store,
    library: &Library,
) -> Result<Option<Vec<AdapterSample>>, Failure> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for cell in cells {
        let failed =
            store.record(&cell.id).map_err(trainer::error::TrainError::from)?.is_some_and(|r| !r.is_finished());
        if !failed {
            folders.push(store.run_dir(&cell.id));
        }
    }
    if !folders.iter().all(|folder| folder.join("adapter.safetensors").is_file()) {
        return Ok(None);
    }
    let mut samples = Vec::new();
    for folder in folders {
        let sample = load(&folder, library)?;
        if !sample.maps.is_empty() {
            samples.push(sample);
        }
    }
    Ok(Some(samples))
}

/// Writes every table of a study.
pub(super) fn tables(samples: &[AdapterSample], store: &Store) -> Result<(), Failure> {
    let folder = store.directory().join("analysis");
    create_folder(&folder)?;
    let moved = measures::magnitude_direction::rows(samples).map_err(input)?;
    let projected = measures::projection::rows(samples).map_err(input)?;
    if !projected.is_empty() {
        let table = projection_table(&projected);
        for (end, text) in
            [("txt", render::text(&table)), ("md", render::markdown(&table)), ("tex", render::latex(&table))]
        {
            write_atomic(&folder.join(format!("table7.{end}")), text.as_bytes())?;
        }
    }
    let all = [
        ("seeds", csv(&measures::overlap::seeds(samples).map_err(input)?)?),
        ("random_column", csv(&measures::random_column::rows(samples).map_err(input)?)?),
        ("correlation", csv(&measures::magnitude_direction::correlations(&moved))?),
        ("overlap", csv(&measures::overlap::rows(samples).map_err(input)?)?),
        ("across", csv(&measures::across::rows(samples).map_err(input)?)?),
        ("projection", csv(&projected)?),
        ("shape", csv(&measures::spectrum::rows(samples).map_err(input)?)?),
        ("movement", csv(&moved)?),
        ("span", csv(&measures::captured_energy::rows(samples).map_err(input)?)?),
    ];
    for (name, text) in all.iter().filter(|(_, text)| text.lines().count() > 1) {
        write_atomic(&folder.join(format!("{name}.csv")), text.as_bytes())?;
        note(&format!("{}: {} rows", folder.join(format!("{name}.csv")).display(), text.lines().count() - 1));
    }
    Ok(())
}
