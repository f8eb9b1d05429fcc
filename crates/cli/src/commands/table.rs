//! `table`: an experiment's tables, from its records alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use analysis::{
    AnalysisError,
    compare::{self, Baseline, compare},
    render,
    summary::{Selection, SummaryTable, summarise},
    table::{Layout, Table, comparison_table, contrast_table, pivot_table, rank_curve_table},
};
use experiment::Experiment;
use record::{RunRecord, Store, write_atomic};
use trainer::study;

use super::read;
use crate::{
    args::{self, Format},
    terminal::{Failure, create_folder, note, print},
};

/// Prints one table and writes all of them.
pub(super) fn run(args: &args::Table, results: &Path) -> Result<(), Failure> {
    let experiment = read(&args.experiment, &args.set)?;
    let store = Store::open(results, experiment.name())?;
    let records = study::records(experiment.cells(), &store)?;
    if records.is_empty() {
        return Err(Failure::Input(format!(
            "{}: no records yet\n\nhint: `lora-lab run {}` makes them",
            store.runs_dir().display(),
            args.experiment.display()
        )));
    }
    print(&write(&experiment, &store, &records, args.format)?)
}

/// Writes summary.csv and every table in every format; returns what `format` shows.
pub(super) fn write(
    experiment: &Experiment,
    store: &Store,
    records: &[RunRecord],
    format: Format,
) -> Result<String, Failure> {
    let missing = study::missing(experiment.cells(), records);
    if !missing.is_empty() {
        note(&format!("note: {} of {} cells have no record yet", missing.len(), experiment.cells().len()));
    }
    let summary = summarise(records, Selection::Reported)?;
    let folder = store.tables_dir();
    create_folder(&folder)?;
    let csv = render::csv(&summary)?;
    write_atomic(&folder.join("summary.csv"), csv.as_bytes())?;
    let mut shown = String::new();
    for split in summary.splits() {
        let mut layout = layout(experiment, split);
        let renamed = summary.renamed(split);
        if !renamed.is_empty() {
            layout
                .notes
                .push(format!("Where a task has several splits, its first stands here ({}).", renamed.join(", ")));
        }
        let mut tables = vec![("main", pivot_table(&summary, &layout)?)];
        if ranks(records).values().any(|ranks| ranks.len() > 1) {
            tables.push(("ranks", rank_curve_table(&summary, &layout)?));
        }
        if let Some(label) = experiment.baseline() {
            let baseline = Baseline { variant: label.to_owned(), rank: None };
            match compare(&summary, split, &baseline) {
                Ok(comparisons) => {
                    tables.push(("comparison", comparison_table(&comparisons, &baseline, true, &layout)));
                }
                // Tables of an unfinished study leave out what needs the rows that are not there yet.
                Err(AnalysisError::NoBaseline { .. }) if !missing.is_empty() => {
                    note(&format!("note: no comparison on {split} yet: `{label}` has not run on every task"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let contrasts = contrasts(experiment, &summary, split)?;
        if !contrasts.is_empty() {
            let comparisons = compare::contrast(&summary, split, &contrasts)?;
            tables.push(("contrasts", contrast_table(&comparisons, &contrasts, &layout)));
        }
        let by_rank = ranks(records).values().filter(|ranks| ranks.len() > 1).count() > 1;
        for (name, table) in &tables {
            let stem = if summary.splits().len() > 1 { format!("{name}-{split}") } else { (*name).to_owned() };
            write_atomic(&folder.join(format!("{stem}.txt")), render::text(table).as_bytes())?;
            write_atomic(&folder.join(format!("{stem}.md")), render::markdown(table).as_bytes())?;
            write_atomic(&folder.join(format!("{stem}.tex")), render::latex(table).as_bytes())?;
            // The long family of comparisons goes to its file; what the experiment asks is shown. Ranks as columns read well
            // where several rows have several of them.
            if split == summary.splits()[0] && *name != "comparison" && *name != if by_rank { "main" } else { "ranks" }
            {
                shown += &show(table, format);
            }
        }
    }
    Ok(if format == Format::Csv { csv } else { shown })
}

/// The experiment's questions whose rows have records on this split; points become the metric's unit.
fn contrasts(experiment: &Experiment, summary: &SummaryTable, split: &str) -> Result<Vec<compare::Contrast>, Failure> {
    let rows = summary.primary(split)?;
    let has = |task: &str, (label, rank): &(String, usize)| {
        rows.iter().any(|row| row.task == task && row.variant == *label && row.rank == *rank)
    };
    let answerable = experiment.contrasts().iter().filter(|contrast| {
        experiment.tasks().iter().any(|task| has(task, &contrast.row) && has(task, &contrast.against))
    });
    let contrasts = answerable.map(|contrast| compare::Contrast {
        variant: contrast.row.0.clone(),
        rank: contrast.row.1,
        against: contrast.against.0.clone(),
        against_rank: contrast.against.1,
        margin: contrast.margin.map(|points| points / 100.0),
    });
    Ok(contrasts.collect())
}

fn show(table: &Table, format: Format) -> String {
    let text = match format {
        Format::Text => render::text(table),
        Format::Markdown => render::markdown(table),
        Format::Latex => render::latex(table),
        Format::Csv => String::new(),
    };
    format!("\n{text}")
}

/// Ranks at which each row is read out.
fn ranks(records: &[RunRecord]) -> BTreeMap<&str, BTreeSet<usize>> {
    let mut ranks: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for readout in records.iter().flat_map(|record| &record.evaluations).map(|evaluation| &evaluation.readout) {
        ranks.entry(&readout.label).or_default().insert(readout.rank);
    }
    ranks
}

/// Every label that a row can have, in the experiment's order.
pub(super) fn labels(experiment: &Experiment) -> Vec<String> {
    let mut labels = Vec::new();
    for cell in experiment.cells() {
        for (readout, _) in cell.readouts(&[]) {
            if !labels.contains(&readout.label) {
                labels.push(readout.label);
            }
        }
    }
    labels
}

/// Order, caption, and what was matched between the rows.
fn layout(experiment: &Experiment, split: &str) -> Layout {
    let variants = labels(experiment);
    let notes = vec![experiment::controls::sentence(experiment.cells())];
    Layout {
        split: split.to_owned(),
        tasks: experiment.tasks().to_vec(),
        variants,
        caption: [experiment.name(), experiment.title()].join(": ").trim_end_matches(": ").to_owned(),
        notes,
    }
}
