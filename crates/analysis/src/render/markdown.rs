//! For READMEs and issues: a GitHub-flavoured table.

use super::grid::{Signs, entry};
use crate::table::Table;

const SIGNS: Signs = Signs { plus_minus: "±", missing: "–", dirty: "\\*" };

/// The table as Markdown with a final newline. A block's title becomes a bold row, since Markdown has no rules inside a table.
pub fn markdown(table: &Table) -> String {
    let columns = table.header.len();
    let rules =
        (0..columns).map(|column| if column < table.names { ":---" } else { "---:" }.to_owned()).collect::<Vec<_>>();
    let mut lines = Vec::new();
    if !table.caption.is_empty() {
        lines.extend([escape(&table.caption), String::new()]);
    }
    lines.extend([line(&table.header.iter().map(|head| escape(head)).collect::<Vec<_>>()), line(&rules)]);
    for block in &table.blocks {
        if let Some(title) = &block.title {
            let mut row = vec![String::new(); columns];
            row[0] = format!("**{}**", escape(title));
            lines.push(line(&row));
        }
        lines.extend(
            block.rows.iter().map(|row| line(&row.iter().map(|cell| entry(cell, &SIGNS, escape)).collect::<Vec<_>>())),
        );
    }
    for note in &table.notes {
        lines.extend([String::new(), escape(note)]);
    }
    lines.join("\n") + "\n"
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// Underscores inside words are harmless in GitHub's dialect and common in labels, so they stay.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('*', "\\*").replace('<', "&lt;")
}
