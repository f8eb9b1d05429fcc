//! `analyze`: subspace measures of adapters, as tables.

pub(crate) mod args;
pub(super) mod samples;

use std::path::Path;

use analysis::{
    measures::{
        AdapterSample, across, captured_energy,
        frame::{Tabular, csv, json},
        heatmap, magnitude_direction, pair, projection, spectrum, study,
    },
    subspace::Side,
};
use record::{Store, write_atomic};
use trainer::model_cache::ModelCache;

use self::{
    args::{Adapters, Analyze, Layers, Output, Spectrum, TableFormat},
    samples::{of_study, one, several, two},
};
use super::read;
use crate::{
    failure::Failure,
    output::create_folder,
    terminal::{note, print},
};

/// Measures, and writes the table.
pub(super) fn run(args: &Analyze, results: &Path) -> Result<(), Failure> {
    let cache = ModelCache::on_cpu();
    match args {
        Analyze::Phi(args) => {
            let (first, second) = two([&args.first, &args.second], &args.output, &cache)?;
            write(&pair::phi_rows(&first, &second, args.side.into())?, &args.output)
        }
        Analyze::Angles(args) => {
            let (first, second) = two([&args.first, &args.second], &args.output, &cache)?;
            write(&pair::angle_rows(&first, &second, args.side.into())?, &args.output)
        }
        Analyze::Projection(args) => write(&projection::rows(&several(args, &cache)?)?, &args.output),
        Analyze::Heatmap(args) => {
            let sample = one(&args.adapter, args.base.as_deref(), &args.output, &cache)?;
            let side = if args.outputs { Side::Output } else { Side::Input };
            write(&heatmap::rows(&sample, side, args.top.max(1))?, &args.output)
        }
        Analyze::Spectrum(Spectrum { adapters, directions }) => {
            let samples = several(adapters, &cache)?;
            if *directions {
                write(&spectrum::directions(&samples)?, &adapters.output)
            } else {
                write(&spectrum::rows(&samples)?, &adapters.output)
            }
        }
        Analyze::Layers(args) => layers(args, &cache),
        Analyze::CapturedEnergy(args) => {
            let (factor, full) = two([&args.factor, &args.full], &args.output, &cache)?;
            write(&captured_energy::between(&factor, &full)?, &args.output)
        }
        Analyze::MagnitudeDirection(args) => dynamics(args, &cache),
        Analyze::Study { experiment, set } => {
            let experiment = read(experiment, set)?;
            let store = Store::open(results, experiment.name())?;
            let Some(samples) = of_study(&experiment, &store, &cache)? else {
                return Err(Failure::Input(format!(
                    "{}: some runs have no adapter here; `lora-lab run` trains what is missing (`--force` all of it)",
                    store.runs_dir().display()
                )));
            };
            write_tables(&samples, &store)
        }
    }
}

/// The overlap between the layers of one adapter.
fn layers(args: &Layers, cache: &ModelCache) -> Result<(), Failure> {
    let rows = across::layers(&one(&args.adapter, None, &args.output, cache)?, args.side.into())?;
    if rows.is_empty() {
        return Err(Failure::Input(format!(
            "{}: no two layers have trained maps of one kind and width to compare",
            args.adapter.display()
        )));
    }
    write(&rows, &args.output)
}

/// Changes of magnitude and direction over the snapshots of runs.
fn dynamics(args: &Adapters, cache: &ModelCache) -> Result<(), Failure> {
    let samples = several(args, cache)?;
    if let Some((path, _)) = args.paths.iter().zip(&samples).find(|(_, sample)| sample.snapshots.is_empty()) {
        return Err(Failure::Input(format!(
            "{}: no snapshots here; train with `train: {{snapshot_every: 50}}`, or give the run's folder",
            path.display()
        )));
    }
    write(&magnitude_direction::rows(&samples)?, &args.output)
}

/// Writes rows to where they were asked for.
fn write<T: Tabular>(rows: &[T], output: &Output) -> Result<(), Failure> {
    if rows.is_empty() {
        return Err(Failure::Input(
            "nothing to measure: the update is zero (B is untrained), has no factors, or its base is missing (give a PEFT \
             adapter's with `--base`)"
                .to_owned(),
        ));
    }
    let text = match output.format {
        TableFormat::Csv => csv(rows)?,
        TableFormat::Json => json(rows)?,
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

/// Writes every table of a study.
pub(super) fn write_tables(samples: &[AdapterSample], store: &Store) -> Result<(), Failure> {
    let folder = store.directory().join("analysis");
    create_folder(&folder)?;
    for file in study::files(samples)? {
        let path = folder.join(&file.name);
        write_atomic(&path, file.text.as_bytes())?;
        if let Some(rows) = file.rows {
            note(&format!("{}: {rows} rows", path.display()));
        }
    }
    Ok(())
}
