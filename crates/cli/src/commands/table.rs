//! `table`: an experiment's tables, from its records alone.

use std::{collections::BTreeSet, path::Path};

use analysis::{
    compare::{Baseline, compare},
    render,
    summary::{Selection, summarise},
    table::{Layout, Table, comparison_table, pivot_table, rank_curve_table},
};
use record::{RunRecord, Store, write_atomic};
use trainer::{experiment::Experiment, hyper::Select, study};

use super::read;
use crate::{
    args::{self, Format},
    terminal::{Failure, note, print},
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
    print(&write(&experiment, &store, &records, args.format)?);
    Ok(())
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
    let best = experiment.cells().iter().all(|cell| cell.plan.train.select == Select::Best);
    let summary = summarise(records, if best { Selection::Best } else { Selection::Last })?;
    let folder = store.tables_dir();
    std::fs::create_dir_all(&folder)?;
    let csv = render::csv(&summary)?;
    write_atomic(&folder.join("summary.csv"), csv.as_bytes())?;
    let mut shown = String::new();
    for split in summary.splits() {
        let layout = layout(experiment, split);
        let mut tables = vec![("main", pivot_table(&summary, &layout)?)];
        if ranks(records).len() > 1 {
            tables.push(("ranks", rank_curve_table(&summary, &layout)?));
        }
        if let Some(label) = experiment.baseline() {
            let baseline = Baseline { variant: label.to_owned(), rank: None };
            let fixed = Baseline { rank: largest_rank(records, label), ..baseline.clone() };
            // Against the same rank where the baseline has it; else against its largest.
            let (against, comparisons) = match compare(&summary, split, &baseline) {
                Ok(comparisons) => (&baseline, comparisons),
                Err(_) => (&fixed, compare(&summary, split, &fixed)?),
            };
            tables.push(("comparison", comparison_table(&comparisons, against, true, &layout)));
        }
        for (name, table) in &tables {
            let stem = if summary.splits().len() > 1 { format!("{name}-{split}") } else { (*name).to_owned() };
            write_atomic(&folder.join(format!("{stem}.txt")), render::text(table).as_bytes())?;
            write_atomic(&folder.join(format!("{stem}.md")), render::markdown(table).as_bytes())?;
            write_atomic(&folder.join(format!("{stem}.tex")), render::latex(table).as_bytes())?;
            shown += &show(table, format);
        }
    }
    Ok(if format == Format::Csv { csv } else { shown })
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

fn largest_rank(records: &[RunRecord], label: &str) -> Option<usize> {
    records.iter().filter(|record| record.cell.variant == label).map(|record| record.cell.rank).max()
}

fn ranks(records: &[RunRecord]) -> BTreeSet<usize> {
    let readouts = records.iter().flat_map(|record| &record.evaluations).map(|evaluation| evaluation.readout.rank);
    readouts.filter(|rank| *rank > 0).collect()
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
    let notes = vec![trainer::matched::sentence(experiment.cells())];
    Layout {
        split: split.to_owned(),
        tasks: experiment.tasks().to_vec(),
        variants,
        caption: [experiment.name(), experiment.title()].join(": ").trim_end_matches(": ").to_owned(),
        notes,
    }
}
