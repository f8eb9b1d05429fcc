//! For a terminal: aligned columns, readable without colour.

use super::grid::{Signs, entry};
use crate::table::{Entry, Table};

const SIGNS: Signs = Signs { plus_minus: "±", missing: "-", dirty: "*" };
const GAP: &str = "  ";

/// One cell's text, as [`text`] has it.
pub fn cell(cell: &Entry) -> String {
    entry(cell, &SIGNS, str::to_owned)
}

/// The table as aligned text with a final newline.
pub fn text(table: &Table) -> String {
    let blocks: Vec<(Option<&String>, Vec<Vec<String>>)> = table
        .blocks
        .iter()
        .map(|block| {
            let rows = block.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
            (block.title.as_ref(), rows)
        })
        .collect();
    let all_rows = || std::iter::once(&table.header).chain(blocks.iter().flat_map(|(_, rows)| rows));
    let width = |column: usize| all_rows().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..table.header.len()).map(width).collect();
    let rule = "-".repeat(widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1));

    let mut lines = Vec::new();
    if !table.caption.is_empty() {
        lines.extend([table.caption.clone(), String::new()]);
    }
    lines.extend([line(&table.header, &widths, table.names), rule.clone()]);
    for (i, (title, rows)) in blocks.iter().enumerate() {
        if i > 0 {
            lines.push(rule.clone());
        }
        lines.extend(title.map(ToString::to_string));
        lines.extend(rows.iter().map(|row| line(row, &widths, table.names)));
    }
    lines.push(rule);
    lines.extend(table.notes.iter().cloned());
    lines.join("\n") + "\n"
}

fn line(cells: &[String], widths: &[usize], names: usize) -> String {
    let padded = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
        // `{:width$}` counts chars, which is what `±` needs.
        if column < names { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    });
    padded.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
}
