//! `claims`: the papers' reported numbers against the studies under the results.

use std::path::Path;

use analysis::claims::{Evidence, Rows, experiments, judge, table, targets};
use record::Store;
use trainer::study;

use super::{read, tune::Settled};
use crate::{
    args::Format,
    failure::Failure,
    output::{create_folder, rendered, write_table},
    terminal::{note, print},
};

/// Arguments of `claims`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab claims
  lora-lab claims --format markdown                for a README

The command also writes the table to results/paper: claims.txt, claims.md and claims.tex. A claim that fails here is a finding
about this model and these tasks, and no error: the exit status stays 0.")]
pub(crate) struct Claims {
    /// Format in which the table is printed.
    #[arg(long, default_value = "text")]
    pub format: Format,
}

/// Judges every claim, writes the table and prints it.
pub(super) fn run(args: &Claims, results: &Path) -> Result<(), Failure> {
    let targets = targets();
    let mut evidence = Evidence::default();
    for name in experiments(&targets) {
        gather(name, results, &mut evidence)?;
    }
    let findings = judge(&targets, &evidence)?;
    let table = table(&targets.into_iter().zip(findings).collect::<Vec<_>>());
    let folder = results.join("paper");
    create_folder(&folder)?;
    write_table(&folder, "paper", "claims", &table)?;
    print(&rendered(&table, "paper-claims", if args.format == Format::Csv { Format::Text } else { args.format }))
}

/// Adds the records of a study and the tables of its adapters.
fn gather(name: &str, results: &Path, evidence: &mut Evidence) -> Result<(), Failure> {
    let experiment = read(Path::new(name), &[])?;
    let store = Store::open(results, name)?;
    let settled = match Settled::of(experiment, &store) {
        Ok(settled) => Some(settled),
        // A study that was never tuned has no records either.
        Err(_) if !store.tuned_path().exists() => None,
        Err(error) => return Err(error),
    };
    let records = settled.as_ref().map(|settled| study::records(settled.experiment.cells(), &store)).transpose()?;
    let (Some(settled), Some(records)) = (settled, records.filter(|records| !records.is_empty())) else {
        note(&format!("note: no records of {name}; `lora-lab run {name}` makes them"));
        return Ok(());
    };
    evidence.records.insert(name.to_owned(), records);
    evidence.studies.insert(name.to_owned(), super::study(&settled));
    let folder = store.directory().join("analysis");
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if let (Some(stem), true) = (path.file_stem(), path.extension().is_some_and(|end| end == "csv")) {
            let rows = rows(&path)?;
            evidence.tables.insert((name.to_owned(), stem.to_string_lossy().into_owned()), rows);
        }
    }
    Ok(())
}

fn rows(path: &Path) -> Result<Rows, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let rows = text.and_then(|text| Rows::read(&text).map_err(|error| error.to_string()));
    rows.map_err(|error| Failure::Input(format!("{}: {error}", path.display())))
}
