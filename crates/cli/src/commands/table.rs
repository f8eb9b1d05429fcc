//! `table`: an experiment's tables, from its records alone.

use std::path::{Path, PathBuf};

use analysis::{
    render, runs,
    tables::{NamedTable, tables},
    tuning,
};
use record::{RunRecord, Store, write_atomic};
use trainer::study;

use super::{
    results::{self, Found},
    tune::Settled,
};
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
  lora-lab table results/quick --parquet           the study in this folder; every run and step as Parquet too

The command also writes every table under results/<name>/tables: main, ranks, comparison, contrasts, examples, methods, noise, cost and
tuning, each as .txt, .md and .tex, and for other programs summary.csv, runs.csv (one line per run, split and metric) and steps.csv (one
per run and logged step; an own line of `step` and numbers per run, as trackio's import_csv reads them). docs/src/statistics.md says what
the tables test.")]
pub(crate) struct Table {
    /// The study: its name, its folder under the results, or the experiment's file.
    #[arg(value_name = "STUDY")]
    pub experiment: PathBuf,
    /// Format in which the table is printed.
    #[arg(long, default_value = "text")]
    pub format: Format,
    /// Write steps.csv, one line per run and logged step, even where it is long.
    #[arg(long)]
    pub steps: bool,
    /// Write runs.parquet and steps.parquet too.
    #[arg(long)]
    pub parquet: bool,
    /// Read the file with an override. The results keep the overrides of their run, so a study's name needs none.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Prints one table and writes all of them.
pub(super) fn run(args: &Table, results: &Path) -> Result<(), Failure> {
    let Found { settled, store, records } = results::find(&args.experiment, &args.set, results)?;
    let (shown, files) = made(&settled, &store, &records, args.format)?;
    // Results that cannot be written to, such as a mount that is read-only, can still be read.
    print(&shown)?;
    files.write(&store, Extra { steps: args.steps, parquet: args.parquet })
}

/// Writes summary.csv and every table in every format; returns what `format` shows.
pub(super) fn write(
    settled: &Settled,
    store: &Store,
    records: &[RunRecord],
    format: Format,
) -> Result<String, Failure> {
    let (shown, files) = made(settled, store, records, format)?;
    files.write(store, Extra::default())?;
    Ok(shown)
}

/// Rows up to which `steps.csv` is written without asking: some ten megabytes.
const STEPS: usize = 100_000;

/// What is written beside the tables, for other programs.
#[derive(Clone, Copy, Debug, Default)]
struct Extra {
    /// `steps.csv`, however long.
    steps: bool,
    /// `runs.parquet` and `steps.parquet`.
    parquet: bool,
}

/// What is written into a study's folder of tables.
struct Files<'a> {
    study: String,
    csv: String,
    tables: Vec<NamedTable>,
    records: &'a [RunRecord],
}

impl Files<'_> {
    fn write(&self, store: &Store, extra: Extra) -> Result<(), Failure> {
        let folder = store.tables_dir();
        create_folder(&folder)?;
        write_atomic(&folder.join("summary.csv"), self.csv.as_bytes())?;
        self.write_runs(&folder, extra)?;
        self.tables.iter().try_for_each(|named| write_table(&folder, &self.study, &named.name, &named.table))?;
        let is_tuned = self.tables.iter().any(|named| named.name == tuning::TABLE);
        if is_tuned { Ok(()) } else { remove_tuning_table(&folder) }
    }

    /// Writes every run, and every step of every run.
    fn write_runs(&self, folder: &Path, extra: Extra) -> Result<(), Failure> {
        let all = runs::runs(self.records)?;
        write_atomic(&folder.join("runs.csv"), render::columns_csv(&all).as_bytes())?;
        let many = runs::most_steps(self.records);
        let steps = (many <= STEPS || extra.steps || extra.parquet).then(|| runs::steps(self.records));
        let csv = folder.join("steps.csv");
        match &steps {
            Some(steps) if many <= STEPS || extra.steps => {
                write_atomic(&csv, render::columns_csv(steps).as_bytes())?;
            }
            // One of fewer runs would be out of date.
            _ => {
                let _ = std::fs::remove_file(&csv);
                note(&format!(
                    "steps.csv is left out, since it would have {many} rows; `lora-lab table --steps` writes it"
                ));
            }
        }
        if let (Some(steps), true) = (&steps, extra.parquet) {
            write_atomic(&folder.join("runs.parquet"), &render::parquet(&all)?)?;
            write_atomic(&folder.join("steps.parquet"), &render::parquet(steps)?)?;
        }
        Ok(())
    }
}

/// What `format` shows, and the files of all tables.
fn made<'a>(
    settled: &Settled,
    store: &Store,
    records: &'a [RunRecord],
    format: Format,
) -> Result<(String, Files<'a>), Failure> {
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
    Ok((shown, Files { study: experiment.name().to_owned(), csv, tables: found.tables, records }))
}
