//! Training and development sets out of Microsoft's one training file.

use std::collections::BTreeSet;

use super::folder::{Folder, Part};
use super::{Labels, Reader};
use crate::error::DataError;
use crate::table::{Format, Header, Layout, Table};
use crate::task::Example;

const TRAIN: &str = "msr_paraphrase_train.txt";

/// Names under which the benchmark's list of development pairs is passed on.
const DEV_IDS: [&str; 2] = ["dev_ids.tsv", "mrpc_dev_ids.tsv"];

/// Train and dev.
type Divided = (Vec<Example>, Vec<Example>);

/// Train and dev, as the benchmark divides the file; none where the folder has no such file, or has the divided ones.
pub(super) fn from_msr(folder: &Folder<'_>, reader: &mut Reader<'_>) -> Result<Option<Divided>, DataError> {
    let Some(path) = folder.named(TRAIN) else { return Ok(None) };
    if reader.entry.name != "mrpc" || folder.named("train.tsv").is_some() {
        return Ok(None);
    }
    let Some(ids) = DEV_IDS.iter().find_map(|name| folder.named(name)) else {
        let wanted =
            format!("`{}`, the pairs of ids that the benchmark takes out of `{TRAIN}` as its dev split", DEV_IDS[0]);
        return Err(folder.lacks(wanted, [path].into_iter()));
    };
    let id_bytes = reader.bytes(ids)?;
    let header = Header::Absent(vec!["first".to_owned(), "second".to_owned()]);
    let id_table = Table::read(ids, &id_bytes, &Layout { header, ..Layout::new(Format::Tsv) })?;
    let mut wanted = BTreeSet::new();
    for row in 0..id_table.rows.len() {
        wanted.insert((id_table.text(row, 0)?, id_table.text(row, 1)?));
    }
    let part = Part { path: path.to_owned(), format: Format::Tsv, benchmark: true };
    let bytes = reader.bytes(path)?;
    let table = reader.table(&part, &bytes, Labels::Given)?;
    let (first, second) = (table.column("#1 ID")?, table.column("#2 ID")?);
    let (mut train, mut dev) = (Vec::new(), Vec::new());
    let mut found = BTreeSet::new();
    for row in 0..table.rows.len() {
        let example = reader.example(&part, &table, row, Labels::Given)?;
        let pair = (table.text(row, first)?, table.text(row, second)?);
        if !wanted.contains(&pair) {
            train.push(example);
            continue;
        }
        dev.push(example);
        found.insert(pair);
    }
    if let Some((first, second)) = wanted.difference(&found).next() {
        let wanted = format!("pair `{first}`, `{second}` in `{path}`, which `{ids}` names");
        return Err(folder.lacks(wanted, [path, ids].into_iter()));
    }
    Ok(Some((train, dev)))
}
