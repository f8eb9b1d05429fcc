//! `figures`: everything that an experiment's records and adapters let one see.
//!
//! Figures from adapters are described in `figures/<name>.json`; where the adapters are not at hand, as in a fresh clone, they are
//! drawn from that description.

use std::path::{Path, PathBuf};

use analysis::{
    figure::{Figure, render},
    figures::{Named, records, subspaces},
    summary::{Selection, summarise},
};
use experiment::Experiment;
use record::{RunRecord, Store, write_atomic};
use trainer::{library::Library, study};
use variants::{rank::AnyRankPolicy, spec::VariantSpec};

use super::{analyze, read, table};
use crate::{
    args::Figures,
    terminal::{Failure, create_folder, note},
};

/// Draws the figures of the experiments named, or of all with results.
pub(super) fn run(args: &Figures, results: &Path) -> Result<(), Failure> {
    let named = if args.experiments.is_empty() { with_results(results)? } else { args.experiments.clone() };
    if named.is_empty() {
        return Err(Failure::Input(format!(
            "{}: no experiment under `experiments/` has results here; `lora-lab run` makes them",
            results.display()
        )));
    }
    let library = analyze::library();
    for name in named {
        let experiment = read(&name, &args.set)?;
        let store = Store::open(results, experiment.name())?;
        let found = study::records(experiment.cells(), &store)?;
        if found.is_empty() {
            return Err(Failure::Input(format!(
                "{}: no records yet\n\nhint: `lora-lab run {}` makes them",
                store.runs_dir().display(),
                name.display()
            )));
        }
        draw(&experiment, &store, &found, &library)?;
    }
    Ok(())
}

/// Experiments of this folder with a record.
fn with_results(results: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir("experiments") else { return Ok(found) };
    for entry in entries {
        let path = entry?.path();
        let stem = path.file_stem().map(|stem| results.join(stem).join("runs"));
        if path.extension().is_some_and(|end| end == "yaml") && stem.is_some_and(|runs| runs.is_dir()) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn draw(experiment: &Experiment, store: &Store, found: &[RunRecord], library: &Library) -> Result<(), Failure> {
    let folder = store.figures_dir();
    create_folder(&folder)?;
    let (variants, tasks) = (table::labels(experiment), experiment.tasks().to_vec());
    let about =
        records::Study { name: experiment.name(), variants: &variants, tasks: &tasks, baseline: experiment.baseline() };
    let summary = summarise(found, Selection::Reported)?;
    let mut all = Vec::new();
    for split in summary.splits() {
        all.extend(records::from_summary(&about, &summary, split)?);
    }
    all.extend(records::training(&about, found));
    all.extend(records::allocation(&about, found, &schedule));
    let described = match analyze::of_study(experiment.cells(), store, library)? {
        Some(samples) => {
            analyze::tables(&samples, store)?;
            let figures =
                subspaces::all(experiment.name(), &samples).map_err(|error| Failure::Input(error.to_string()))?;
            for Named { name, figure } in &figures {
                let text = serde_json::to_string(figure)? + "\n";
                write_atomic(&folder.join(format!("{name}.json")), text.as_bytes())?;
            }
            figures
        }
        None => descriptions(&folder)?,
    };
    all.extend(described);
    for Named { name, figure } in &all {
        let drawn = render(figure).map_err(|error| Failure::Run(anyhow::anyhow!("figure `{name}`: {error}")))?;
        write_atomic(&folder.join(format!("{name}.svg")), drawn.svg.as_bytes())?;
        write_atomic(&folder.join(format!("{name}.png")), &drawn.png)?;
        write_atomic(&folder.join(format!("{name}.csv")), drawn.data_csv.as_bytes())?;
        note(&folder.join(format!("{name}.svg")).display().to_string());
    }
    Ok(())
}

/// Figures whose adapters are elsewhere, from their descriptions.
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
            let figure: Figure = serde_json::from_slice(&std::fs::read(&path)?).map_err(|error| {
                Failure::Input(format!("{}: not a figure's description: {error}; delete it", path.display()))
            })?;
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            Ok(Named { name, figure })
        })
        .collect()
}

/// The planned budget of a pruned run, as `(step, components)`.
fn schedule(record: &RunRecord) -> Vec<(f64, f64)> {
    let Some(spec) = record.spec.get("variant").and_then(|v| serde_json::from_value::<VariantSpec>(v.clone()).ok())
    else {
        return Vec::new();
    };
    let AnyRankPolicy::Budget(budget) = &spec.rank_policy else { return Vec::new() };
    // The planned length: a run that stopped early planned for all of it.
    let planned = record.spec.get("train").and_then(|train| train.get("steps")).and_then(serde_json::Value::as_u64);
    let (maps, steps) = (record.measured.final_ranks.len(), planned.unwrap_or(record.steps.len() as u64));
    (0..=steps).map(|step| (step as f64, budget.components(spec.rank, maps, step, steps) as f64)).collect()
}
