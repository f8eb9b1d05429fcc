//! `claims`: the papers' claims against the studies under the results.

use std::path::Path;

use analysis::{
    claims::{Evidence, Rows, experiments, judge, table, targets},
    render,
};
use record::{Store, write_atomic};
use trainer::study;

use super::read;
use crate::{
    args::{Claims, Format},
    terminal::{Failure, create_folder, note, print},
};

/// Judges every claim, writes the table and prints it.
pub(super) fn run(args: &Claims, results: &Path) -> Result<(), Failure> {
    let targets = targets();
    let mut evidence = Evidence::default();
    for name in experiments(&targets) {
        let experiment = read(Path::new(name), &[])?;
        let store = Store::open(results, name)?;
        let records = study::records(experiment.cells(), &store)?;
        if records.is_empty() {
            note(&format!("note: no records of {name}; `lora-lab run {name}` makes them"));
            continue;
        }
        evidence.records.insert(name.to_owned(), records);
        let folder = store.directory().join("analysis");
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if let (Some(stem), true) = (path.file_stem(), path.extension().is_some_and(|end| end == "csv")) {
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
                let rows = Rows::read(&text).map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
                evidence.tables.insert((name.to_owned(), stem.to_string_lossy().into_owned()), rows);
            }
        }
    }
    let judged = targets
        .into_iter()
        .map(|target| Ok((target.clone(), judge(&target, &evidence)?)))
        .collect::<Result<Vec<_>, analysis::AnalysisError>>()?;
    let table = table(&judged);
    let folder = results.join("paper");
    create_folder(&folder)?;
    let texts = [("txt", render::text(&table)), ("md", render::markdown(&table)), ("tex", render::latex(&table))];
    for (end, text) in &texts {
        write_atomic(&folder.join(format!("claims.{end}")), text.as_bytes())?;
    }
    print(match args.format {
        Format::Markdown => &texts[1].1,
        Format::Latex => &texts[2].1,
        Format::Text | Format::Csv => &texts[0].1,
    })
}
