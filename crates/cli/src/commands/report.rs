//! `report`: studies as one HTML file.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use record::{RunRecord, Store, regular, write_atomic};
use report::{FILES, Source};
use trainer::study;

use super::{results, tune::Settled};
use crate::{failure::Failure, output::create_folder, terminal::note};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab report dylora_glue                      results/dylora_glue/report.html
  lora-lab report compare_tuned dylora_tuned       both in results/report.html
  lora-lab report fairness --out ~/fairness.html

The file needs no network and no program but a browser: it has the tables, sorted and filtered by a click, the charts, and a page for every
run. docs/src/report.md says what is where.")]
pub(crate) struct Report {
    /// Studies: names, folders under the results, or experiments' files.
    #[arg(required = true, value_name = "STUDY")]
    pub experiments: Vec<PathBuf>,
    /// Read the file with an override. The results keep the overrides of their run, so a study's name needs none.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The file; by default results/<name>/report.html, or results/report.html for several experiments.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What a report needs of one experiment.
struct Loaded {
    settled: Settled,
    store: Store,
    records: Vec<RunRecord>,
    notes: Vec<String>,
    measures: Vec<(String, String)>,
}

/// Writes the report of the named experiments.
pub(super) fn run(args: &Report, results: &Path) -> Result<(), Failure> {
    if !args.set.is_empty() && args.experiments.len() > 1 {
        let message = "`--set` is about one experiment; report those that were run with overrides one by one";
        return Err(Failure::Input(message.to_owned()));
    }
    let loaded: Vec<Loaded> =
        args.experiments.iter().map(|name| load(name, &args.set, results)).collect::<Result<_, _>>()?;
    let mut names = BTreeSet::new();
    if let Some(twice) = loaded.iter().map(|one| one.settled.experiment.name()).find(|name| !names.insert(*name)) {
        return Err(Failure::Input(format!("`{twice}` is named twice; a report shows a study once")));
    }
    let studies: Vec<_> = loaded.iter().map(|one| super::study(&one.settled)).collect();
    let sources: Vec<Source<'_>> = loaded.iter().zip(&studies).map(|(one, study)| source(one, study)).collect();
    let page = report::html(&sources)?;
    let out = args.out.clone().unwrap_or_else(|| match loaded.as_slice() {
        [only] => only.store.directory().join("report.html"),
        _ => results.join("report.html"),
    });
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create_folder(folder)?;
    }
    write_atomic(&out, page.as_bytes())?;
    note(&out.display().to_string());
    Ok(())
}

/// Reads an experiment, its records and its measures.
fn load(name: &Path, set: &[String], results: &Path) -> Result<Loaded, Failure> {
    let results::Found { settled, store, records } = results::find(name, set, results)?;
    let notes = study::notes(settled.experiment.cells(), &records, &store);
    Ok(Loaded { measures: measures(&store)?, settled, store, records, notes })
}

/// The measures of adapters that `figures` left, as far as a report shows them.
fn measures(store: &Store) -> Result<Vec<(String, String)>, Failure> {
    let folder = store.directory().join("analysis");
    let mut found = Vec::new();
    for name in FILES {
        let path = folder.join(name);
        let wrong = |error: String| Failure::Input(format!("{}: {error}", path.display()));
        match regular::read(&path) {
            Ok(bytes) => {
                let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
                found.push((name.to_owned(), text));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(wrong(error.to_string())),
        }
    }
    Ok(found)
}

fn source<'a>(loaded: &'a Loaded, study: &'a analysis::study::Study) -> Source<'a> {
    let experiment = &loaded.settled.experiment;
    Source {
        study,
        records: &loaded.records,
        planned: experiment.cells().len(),
        notes: &loaded.notes,
        text: experiment.text(),
        measures: &loaded.measures,
    }
}
