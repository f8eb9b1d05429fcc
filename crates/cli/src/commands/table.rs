//! `table`: an experiment's tables, from its records alone.

use std::path::{Path, PathBuf};

use analysis::{
    render,
    tables::{NamedTable, tables},
    tuning,
};
use record::{RunRecord, Store, write_atomic};
use trainer::study;

use super::{read_settled, tune::Settled};
use crate::{
    args::Format,
    failure::Failure,
    output::{create_folder, remove_tuning_table, rendered, write_table},
    terminal::{note, print},
};

/// Arguments of `table`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab table dylora_glue
  lora-lab table dylora_glue --format latex        for a paper
  lora-lab table dylora_glue --format csv          summary.csv, one line per row, metric and split

The command also writes every table under results/<name>/tables: main, ranks, comparison, contrasts, examples, methods, noise, cost and
tuning, each as .txt, .md and .tex. docs/src/statistics.md says what they test.")]
pub(crate) struct Table {
    /// The experiment: a YAML file, or its name under `experiments/`.
    pub experiment: PathBuf,
    /// Format in which the table is printed.
    #[arg(long, default_value = "text")]
    pub format: Format,
    /// The overrides that the experiment was run with.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Prints one table and writes all of them.
pub(super) fn run(args: &Table, results: &Path) -> Result<(), Failure> {
    let (settled, store) = read_settled(&args.experiment, &args.set, results)?;
    let records = study::records(settled.experiment.cells(), &store)?;
    if records.is_empty() {
        return Err(no_records(&store, &args.experiment));
    }
    let (shown, files) = made(&settled, &store, &records, args.format)?;
    // Results that cannot be written to, such as a mount that is read-only, can still be read.
    print(&shown)?;
    files.write(&store)
}

/// The error for an experiment that nobody has run.
pub(super) fn no_records(store: &Store, experiment: &Path) -> Failure {
    Failure::Input(format!(
        "{}: no records yet\n\nhint: `lora-lab run {}` makes them",
        store.runs_dir().display(),
        experiment.display()
    ))
}

/// Writes summary.csv and every table in every format; returns what `format` shows.
pub(super) fn write(
    settled: &Settled,
    store: &Store,
    records: &[RunRecord],
    format: Format,
) -> Result<String, Failure> {
    let (shown, files) = made(settled, store, records, format)?;
    files.write(store)?;
    Ok(shown)
}

/// What is written into a study's folder of tables.
struct Files {
    study: String,
    csv: String,
    tables: Vec<NamedTable>,
}

impl Files {
    fn write(&self, store: &Store) -> Result<(), Failure> {
        let folder = store.tables_dir();
        create_folder(&folder)?;
        write_atomic(&folder.join("summary.csv"), self.csv.as_bytes())?;
        self.tables.iter().try_for_each(|named| write_table(&folder, &self.study, &named.name, &named.table))?;
        let is_tuned = self.tables.iter().any(|named| named.name == tuning::TABLE);
        if is_tuned { Ok(()) } else { remove_tuning_table(&folder) }
    }
}

/// What `format` shows, and the files of all tables.
fn made(settled: &Settled, store: &Store, records: &[RunRecord], format: Format) -> Result<(String, Files), Failure> {
    let experiment = &settled.experiment;
    let missing = study::missing(experiment.cells(), records).len();
    for line in study::notes(experiment.cells(), records, store) {
        note(&format!("note: {line}"));
    }
    let found = tables(&super::study(settled), records, missing == 0)?;
    found.notes.iter().for_each(|line| note(&format!("note: {line}")));
    let csv = render::csv(&found.summary)?;
    let shown = if format == Format::Csv {
        csv.clone()
    } else {
        let shown = found.tables.iter().filter(|named| named.is_shown);
        let label = |name: &str| format!("{}-{name}", experiment.name());
        shown.map(|named| format!("\n{}", rendered(&named.table, &label(&named.name), format))).collect()
    };
    Ok((shown, Files { study: experiment.name().to_owned(), csv, tables: found.tables }))
}
