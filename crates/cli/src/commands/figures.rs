//! `figures`: the figures that an experiment's records and adapters allow.
//!
//! Figures from adapters are described in `figures/<name>.json`. Where the adapters are not present, as in a fresh clone, the command
//! draws these figures from their descriptions.

use std::path::{Path, PathBuf};

use analysis::{
    figure::{Figure, render},
    figures::{Named, records, subspaces},
};
use experiment::Experiment;
use record::{RunRecord, Store, write_atomic};
use trainer::model_cache::ModelCache;

use super::{
    analyze::{samples, write_tables},
    results::{self, Found},
    tune::Settled,
};
use crate::{
    failure::Failure,
    output::{create_folder, remove_tuning_figures},
    terminal::note,
};

/// Arguments of `figures`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab figures dylora_glue                     under results/dylora_glue/figures, as .svg, .pdf, .png and .csv
  lora-lab figures                                 every experiment that has results")]
pub(crate) struct Figures {
    /// Studies: names, folders under the results, or experiments' files; by default all that have results.
    #[arg(value_name = "STUDY")]
    pub experiments: Vec<PathBuf>,
    /// Read the file with an override. The results keep the overrides of their run, so a study's name needs none.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "experiments")]
    pub set: Vec<String>,
}

/// Draws the figures of the named experiments, or of all with results.
pub(super) fn run(args: &Figures, results: &Path) -> Result<(), Failure> {
    let named = if args.experiments.is_empty() { results::all(results)? } else { args.experiments.clone() };
    let cache = ModelCache::on_cpu();
    for name in named {
        let Found { settled, store, records } = results::find(&name, &args.set, results)?;
        draw(&settled, &store, &records, &cache)?;
    }
    Ok(())
}

fn draw(settled: &Settled, store: &Store, found: &[RunRecord], cache: &ModelCache) -> Result<(), Failure> {
    let experiment = &settled.experiment;
    let folder = store.figures_dir();
    create_folder(&folder)?;
    let planned = |record: &RunRecord| planned_components(experiment, record);
    let mut figures = records::all(&super::study(settled), found, &planned)?;
    figures.extend(match samples::of_study(experiment, store, cache)? {
        Some(measures) => {
            write_tables(&measures, store)?;
            described(subspaces::all(experiment.name(), &measures)?, &folder)?
        }
        None => descriptions(&folder)?,
    });
    for Named { name, figure } in &figures {
        let drawn = render(figure).map_err(|error| Failure::Run(anyhow::anyhow!("figure `{name}`: {error}")))?;
        write_atomic(&folder.join(format!("{name}.svg")), drawn.svg.as_bytes())?;
        write_atomic(&folder.join(format!("{name}.pdf")), &drawn.pdf)?;
        write_atomic(&folder.join(format!("{name}.png")), &drawn.png)?;
        write_atomic(&folder.join(format!("{name}.csv")), drawn.data_csv.as_bytes())?;
        note(&folder.join(format!("{name}.svg")).display().to_string());
    }
    let drawn: Vec<&str> = figures.iter().map(|named| named.name.as_str()).collect();
    remove_tuning_figures(&folder, &drawn)
}

/// What the rank policy of a record's cell plans to keep after every step.
fn planned_components(experiment: &Experiment, record: &RunRecord) -> Vec<(u64, usize)> {
    let cell = experiment.cells().iter().find(|cell| cell.id == record.cell);
    let maps = record.measured.final_ranks.len();
    cell.map(|cell| cell.planned_components(maps, record.steps.last())).unwrap_or_default()
}

/// Writes the descriptions of figures whose adapters are present.
fn described(figures: Vec<Named>, folder: &Path) -> Result<Vec<Named>, Failure> {
    for Named { name, figure } in &figures {
        let text = serde_json::to_string(figure)? + "\n";
        write_atomic(&folder.join(format!("{name}.json")), text.as_bytes())?;
    }
    Ok(figures)
}

/// Figures whose adapters are not present, from their descriptions.
fn descriptions(folder: &Path) -> Result<Vec<Named>, Failure> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let figure: Figure = serde_json::from_slice(&record::regular::read(&path)?).map_err(|error| {
                Failure::Input(format!("{}: not the description of a figure: {error}; delete it", path.display()))
            })?;
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            Ok(Named { name, figure })
        })
        .collect()
}
