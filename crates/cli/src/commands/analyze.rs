//! `analyze`: subspace measures of adapters, as tables.

pub(crate) mod args;
pub(super) mod samples;

use std::{
    collections::BTreeSet,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use analysis::{
    measures::{
        across, captured_energy,
        frame::{Tabular, csv, json},
        heatmap, magnitude_direction, pair, projection, spectrum,
        study::Measures,
    },
    subspace::Side,
};
use interop::{
    output::{Guard, OutputFile},
    update::Reader,
};
use record::{Store, write_atomic};
use trainer::model_cache::ModelCache;

use self::{
    args::{Adapters, Analyze, Layers, Output, Spectrum, TableFormat},
    samples::{of_study, one, several, two},
};
use super::results;
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
            let table = Table::of(&args.output, [&args.first, &args.second])?;
            let (first, second) = two([&args.first, &args.second], &args.output, &cache)?;
            table.write(&pair::phi_rows(&first, &second, args.side.into())?)
        }
        Analyze::Angles(args) => {
            let table = Table::of(&args.output, [&args.first, &args.second])?;
            let (first, second) = two([&args.first, &args.second], &args.output, &cache)?;
            table.write(&pair::angle_rows(&first, &second, args.side.into())?)
        }
        Analyze::Projection(args) => {
            let table = Table::of(&args.output, &args.paths)?;
            table.write(&projection::rows(&several(args, &cache)?)?)
        }
        Analyze::Heatmap(args) => {
            let table = Table::of(&args.output, [&args.adapter])?;
            let sample = one(&args.adapter, args.base.as_deref(), &args.output, &Reader::new(&cache))?;
            let side = if args.outputs { Side::Output } else { Side::Input };
            table.write(&heatmap::rows(&sample, side, args.top.max(1))?)
        }
        Analyze::Spectrum(Spectrum { adapters, directions: true }) => {
            let table = Table::of(&adapters.output, &adapters.paths)?;
            table.write(&spectrum::directions(&several(adapters, &cache)?)?)
        }
        Analyze::Spectrum(Spectrum { adapters, directions: false }) => {
            let table = Table::of(&adapters.output, &adapters.paths)?;
            table.write(&spectrum::rows(&several(adapters, &cache)?)?)
        }
        Analyze::Layers(args) => layers(args, &cache),
        Analyze::CapturedEnergy(args) => {
            let table = Table::of(&args.output, [&args.factor, &args.full])?;
            let (factor, full) = two([&args.factor, &args.full], &args.output, &cache)?;
            table.write(&captured_energy::between(&factor, &full)?)
        }
        Analyze::MagnitudeDirection(args) => dynamics(args, &cache),
        Analyze::Study { experiment, set } => of_experiment(experiment, set, results, &cache),
    }
}

/// Every table of an experiment.
fn of_experiment(experiment: &Path, set: &[String], results: &Path, cache: &ModelCache) -> Result<(), Failure> {
    let results::Found { settled, store, .. } = results::find(experiment, set, results)?;
    let Some(measures) = of_study(&settled.experiment, &store, cache)? else {
        return Err(Failure::Input(format!(
            "{}: some runs have no adapter here; `lora-lab run` trains what is missing (`--force` all of it)",
            store.runs_dir().display()
        )));
    };
    write_tables(&measures, &store)
}

/// The overlap between the layers of one adapter.
fn layers(args: &Layers, cache: &ModelCache) -> Result<(), Failure> {
    let table = Table::of(&args.output, [&args.adapter])?;
    let rows = across::layers(&one(&args.adapter, None, &args.output, &Reader::new(cache))?, args.side.into())?;
    if rows.is_empty() {
        return Err(Failure::Input(format!(
            "{}: no two layers have trained maps of one kind and width to compare",
            args.adapter.display()
        )));
    }
    table.write(&rows)
}

/// Changes of magnitude and direction over the snapshots of runs.
fn dynamics(args: &Adapters, cache: &ModelCache) -> Result<(), Failure> {
    let table = Table::of(&args.output, &args.paths)?;
    let samples = several(args, cache)?;
    if let Some((path, _)) = args.paths.iter().zip(&samples).find(|(_, sample)| sample.snapshots.is_empty()) {
        return Err(Failure::Input(format!(
            "{}: no snapshots here; train with `train: {{snapshot_every: 50}}`, or give the run's folder",
            path.display()
        )));
    }
    table.write(&magnitude_direction::rows(&samples)?)
}

/// Where the rows of a measure go.
struct Table<'a, T> {
    output: &'a Output,
    file: Option<OutputFile>,
    rows: PhantomData<T>,
}

impl<'a, T: Tabular> Table<'a, T> {
    /// Checks before any work that the file which is asked for may be written; an earlier table of the same columns may be replaced.
    fn of(output: &'a Output, inputs: impl IntoIterator<Item = &'a PathBuf>) -> Result<Self, Failure> {
        let header = csv::<T>(&[])?;
        let is_own = |head: &[u8]| head.starts_with(header.as_bytes()) || is_table(head, &header);
        let guard = Guard::new(inputs, output.force);
        let file = output.out.as_ref().map(|out| OutputFile::check(out, &guard, &is_own)).transpose()?;
        Ok(Self { output, file, rows: PhantomData })
    }

    /// Writes rows to where they were asked for.
    fn write(&self, rows: &[T]) -> Result<(), Failure> {
        if rows.is_empty() {
            return Err(Failure::Input(
                "nothing to measure: the update is zero (B is untrained), has no factors, or its base is missing (give a PEFT \
                 adapter's with `--base`)"
                    .to_owned(),
            ));
        }
        let text = match self.output.format {
            TableFormat::Csv => csv(rows)?,
            TableFormat::Json => json(rows)?,
        };
        let (Some(file), Some(path)) = (&self.file, &self.output.out) else { return print(&text) };
        file.write(text.as_bytes())?;
        note(&format!("wrote {} rows to {}", rows.len(), path.display()));
        Ok(())
    }
}

/// Whether the first object of a JSON array has the columns of a header as its keys.
fn is_table(head: &[u8], header: &str) -> bool {
    let text = String::from_utf8_lossy(head);
    let object = text.strip_prefix('[').and_then(|rest| Some(&rest[..=rest.find('}')?]));
    let object: Option<serde_json::Map<String, serde_json::Value>> =
        object.and_then(|object| serde_json::from_str(object).ok());
    let columns: BTreeSet<&str> = header.trim().split(',').collect();
    object.is_some_and(|object| object.keys().map(String::as_str).collect::<BTreeSet<_>>() == columns)
}

/// Writes every table of a study.
pub(super) fn write_tables(measures: &Measures, store: &Store) -> Result<(), Failure> {
    let folder = store.directory().join("analysis");
    create_folder(&folder)?;
    let study = store.directory().file_name().unwrap_or_default().to_string_lossy();
    for file in measures.files(&study)? {
        let path = folder.join(&file.name);
        write_atomic(&path, file.text.as_bytes())?;
        if let Some(rows) = file.rows {
            note(&format!("{}: {rows} rows", path.display()));
        }
    }
    Ok(())
}
