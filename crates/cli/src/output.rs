//! Files and text that commands write: folders, tables in every format, aligned columns.

use std::path::Path;

use analysis::{render, table::Table};
use record::write_atomic;

use crate::{args::Format, failure::Failure};

/// Makes a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path)
        .map_err(|error| Failure::Input(format!("{}: cannot create the folder: {error}", path.display())))
}

/// Writes a table as text, Markdown and LaTeX: `STEM.txt`, `STEM.md` and `STEM.tex`.
pub(crate) fn write_table(folder: &Path, stem: &str, table: &Table) -> Result<(), Failure> {
    for (end, format) in [("txt", Format::Text), ("md", Format::Markdown), ("tex", Format::Latex)] {
        write_atomic(&folder.join(format!("{stem}.{end}")), rendered(table, format).as_bytes())?;
    }
    Ok(())
}

/// A table in a format. CSV is the summary's format; a laid-out table has none.
pub(crate) fn rendered(table: &Table, format: Format) -> String {
    match format {
        Format::Text => render::text(table),
        Format::Markdown => render::markdown(table),
        Format::Latex => render::latex(table),
        Format::Csv => String::new(),
    }
}

/// Columns padded to their widest entry, two spaces apart.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
