//! Files and text that commands write: folders, tables in every format, aligned columns.

use std::path::Path;

use analysis::{render, table::Table, tuning};
use record::write_atomic;

use crate::{args::Format, failure::Failure, terminal::note};

/// Makes a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path)
        .map_err(|error| Failure::Input(format!("{}: cannot create the folder: {error}", path.display())))
}

/// Writes a table of a study as text, Markdown and LaTeX: `STEM.txt`, `STEM.md` and `STEM.tex`.
pub(crate) fn write_table(folder: &Path, study: &str, stem: &str, table: &Table) -> Result<(), Failure> {
    let label = format!("{study}-{stem}");
    for (end, format) in [("txt", Format::Text), ("md", Format::Markdown), ("tex", Format::Latex)] {
        write_atomic(&folder.join(format!("{stem}.{end}")), rendered(table, &label, format).as_bytes())?;
    }
    Ok(())
}

/// Removes the table of a tuning that the experiment does not have any more; a table that another program wrote stays.
pub(crate) fn remove_tuning_table(folder: &Path) -> Result<(), Failure> {
    let is_ours = |text: &str| text.lines().next().is_some_and(|line| line.ends_with(tuning::CAPTION));
    // What tells whose they are goes last, so that an interrupted removal can go on.
    remove_known(folder, tuning::TABLE, &["md", "tex", "txt"], is_ours)
}

/// Removes the figures of a tuning that were not drawn now, as `drawn` names them: the experiment is not tuned any more, or has fewer
/// parts. A figure that another program wrote stays.
pub(crate) fn remove_tuning_figures(folder: &Path, drawn: &[&str]) -> Result<(), Failure> {
    let is_part = |rest: &str| {
        rest.is_empty()
            || rest.strip_prefix('-').is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    let is_known = |stem: &str| tuning::FIGURES.iter().any(|name| stem.strip_prefix(name).is_some_and(is_part));
    let mut stale = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|end| end == "csv") && is_known(stem) && !drawn.contains(&stem) {
            stale.push(stem.to_owned());
        }
    }
    let is_ours = |text: &str| text.starts_with("panel,title,series,x,y,");
    stale.iter().try_for_each(|stem| remove_known(folder, stem, &["svg", "pdf", "png", "csv"], is_ours))
}

/// Removes `STEM` with every ending, where the file with the last of them says that this program wrote it.
fn remove_known(folder: &Path, stem: &str, ends: &[&str], is_ours: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let path = |end: &str| folder.join(format!("{stem}.{end}"));
    let is_file = |end: &str| path(end).symlink_metadata().is_ok_and(|found| found.is_file());
    let Some(last) = ends.last().filter(|end| is_file(end)) else { return Ok(()) };
    if !std::fs::read_to_string(path(last)).is_ok_and(|text| is_ours(&text)) {
        return Ok(());
    }
    for end in ends.iter().filter(|end| is_file(end)) {
        std::fs::remove_file(path(end)).map_err(|error| {
            Failure::Input(format!("{}: cannot remove what is out of date: {error}", path(end).display()))
        })?;
    }
    note(&format!("removed, since no tuning of this experiment has it: {}", folder.join(stem).display()));
    Ok(())
}

/// A table in a format; `label` is what LaTeX refers to it by. CSV is the summary's format; a laid-out table has none.
pub(crate) fn rendered(table: &Table, label: &str, format: Format) -> String {
    match format {
        Format::Text => render::text(table),
        Format::Markdown => render::markdown(table),
        Format::Latex => render::latex(table, label),
        Format::Csv => String::new(),
    }
}

/// A count as tables show it: `768`, `8.19k`, `1.00M`, three digits that count.
pub(crate) fn compact(count: u64) -> String {
    let (scaled, unit) = match count {
        0..1_000 => return count.to_string(),
        1_000..1_000_000 => (count as f64 / 1e3, "k"),
        1_000_000..1_000_000_000 => (count as f64 / 1e6, "M"),
        _ => (count as f64 / 1e9, "B"),
    };
    let digits = if scaled < 10.0 { 2 } else { usize::from(scaled < 100.0) };
    format!("{scaled:.digits$}{unit}")
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
