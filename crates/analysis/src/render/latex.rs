//! For papers: a `booktabs` table to `\input`.

use super::grid::{Signs, entry};
use crate::table::Table;

const SIGNS: Signs = Signs { plus_minus: "$\\pm$", missing: "--", dirty: "$^{*}$" };

/// The table as a LaTeX `table` environment with a final newline; needs the package `booktabs`.
pub fn latex(table: &Table) -> String {
    let columns = table.header.len();
    let alignment: String = (0..columns).map(|column| if column < table.names { 'l' } else { 'r' }).collect();
    let mut lines =
        vec!["% requires \\usepackage{booktabs}".to_owned(), "\\begin{table}".to_owned(), "\\centering".to_owned()];
    if !table.caption.is_empty() {
        lines.push(format!("\\caption{{{}}}", escape(&table.caption)));
    }
    lines.extend([format!("\\begin{{tabular}}{{{alignment}}}"), "\\toprule".to_owned()]);
    lines.push(line(&table.header.iter().map(|head| escape(head)).collect::<Vec<_>>()));
    for block in &table.blocks {
        lines.push("\\midrule".to_owned());
        lines.extend(
            block
                .title
                .iter()
                .map(|title| format!("\\multicolumn{{{columns}}}{{l}}{{\\textit{{{}}}}} \\\\", escape(title))),
        );
        lines.extend(
            block.rows.iter().map(|row| line(&row.iter().map(|cell| entry(cell, &SIGNS, escape)).collect::<Vec<_>>())),
        );
    }
    lines.extend(["\\bottomrule".to_owned(), "\\end{tabular}".to_owned()]);
    lines.extend(table.notes.iter().map(|note| format!("\\par\\smallskip\\footnotesize {}", escape(note))));
    lines.push("\\end{table}".to_owned());
    lines.join("\n") + "\n"
}

fn line(cells: &[String]) -> String {
    format!("{} \\\\", protected(cells).join(" & "))
}

/// `\\` takes a following `[` for its optional argument, and a line may start with one.
fn protected(cells: &[String]) -> Vec<String> {
    cells.iter().map(|cell| if cell.starts_with('[') { format!("{{}}{cell}") } else { cell.clone() }).collect()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', c]),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' => escaped.push_str("$<$"),
            '>' => escaped.push_str("$>$"),
            '±' => escaped.push_str("$\\pm$"),
            other => escaped.push(other),
        }
    }
    escaped
}
