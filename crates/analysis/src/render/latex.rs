//! For papers: a `booktabs` table to `\input`, which needs no other package and no character outside ASCII.
//!
//! A table that is wider than a page's text is set in smaller type; one that is longer is cut into several, which share their number.

mod escape;
mod fit;

use std::ops::Range;

use self::escape::escape;
use self::fit::Fit;
use super::grid::{Signs, entry};
use crate::compare::RULE;
use crate::table::{Entry, Table};

const SIGNS: Signs = Signs { plus_minus: "$\\pm$", missing: "--", dirty: "$^{*}$" };

/// The table as LaTeX `table` environments with a final newline, `\label{tab:LABEL}` on the first; needs the package `booktabs`.
///
/// Estimates that may be the best of their column are bold, and the caption says by which rule.
pub fn latex(table: &Table, label: &str) -> String {
    let is_bold = |row: &Vec<Entry>| row.iter().any(|cell| matches!(cell, Entry::Estimate(found) if found.is_best));
    let has_bold = table.blocks.iter().flat_map(|block| &block.rows).any(is_bold);
    let mut caption = escape(&table.caption);
    if has_bold {
        let stop = if caption.is_empty() || caption.ends_with(['.', '!', '?']) { "" } else { "." };
        caption = format!("{caption}{stop} {}", escape(RULE)).trim_start().to_owned();
    }
    let body = body(table);
    let fit = Fit::of(table, &caption, &body);
    let parts = fit.parts(&body);
    let last = parts.len() - 1;
    let mut lines = vec!["% requires \\usepackage{booktabs}".to_owned()];
    for (at, part) in parts.into_iter().enumerate() {
        lines.push("\\begin{table}".to_owned());
        lines.push("\\centering".to_owned());
        lines.extend(headed(&caption, label, at));
        lines.extend(tabular(table, &body[part], &fit));
        if at == last {
            lines.extend(table.notes.iter().map(|note| format!("\\par\\smallskip\\footnotesize {}", escape(note))));
        }
        lines.push("\\end{table}".to_owned());
    }
    lines.join("\n") + "\n"
}

/// A line of a table's body, in LaTeX.
enum Line {
    /// A rule between blocks, with the block's title where it has one.
    Rule(Option<String>),
    Row(String),
}

fn body(table: &Table) -> Vec<Line> {
    let columns = table.header.len();
    let titled = |title: &String| format!("\\multicolumn{{{columns}}}{{l}}{{\\textit{{{}}}}} \\\\", escape(title));
    let mut lines = Vec::new();
    for block in &table.blocks {
        lines.push(Line::Rule(block.title.as_ref().map(titled)));
        lines.extend(block.rows.iter().map(|row| Line::Row(line(&row.iter().map(cell).collect::<Vec<_>>()))));
    }
    lines
}

/// The caption and the label of a table's first part, and what keeps its number on the parts that follow.
fn headed(caption: &str, label: &str, part: usize) -> Vec<String> {
    if part > 0 {
        return vec!["\\addtocounter{table}{-1}".to_owned(), "\\caption{(continued)}".to_owned()];
    }
    vec![format!("\\caption{{{caption}}}"), format!("\\label{{tab:{}}}", plain(label))]
}

fn tabular(table: &Table, body: &[Line], fit: &Fit) -> Vec<String> {
    let alignment = |column: usize| if column < table.names { 'l' } else { 'r' };
    let alignment: String = (0..table.header.len()).map(alignment).collect();
    let mut lines = fit.size().map_or_else(Vec::new, |size| vec![size]);
    // Without a box of the text's width, what is wider sticks out on the right alone.
    lines.extend(fit.is_wide().then(|| "\\makebox[\\textwidth][c]{%".to_owned()));
    lines.extend([format!("\\begin{{tabular}}{{{alignment}}}"), "\\toprule".to_owned()]);
    lines.push(line(&table.header.iter().map(|head| escape(head)).collect::<Vec<_>>()));
    // A part may begin within a block.
    lines.extend(matches!(body.first(), Some(Line::Row(_))).then(|| "\\midrule".to_owned()));
    for of_body in body {
        match of_body {
            Line::Rule(title) => lines.extend(std::iter::once("\\midrule".to_owned()).chain(title.clone())),
            Line::Row(row) => lines.push(row.clone()),
        }
    }
    lines.extend(["\\bottomrule".to_owned(), "\\end{tabular}".to_owned()]);
    if fit.is_wide() {
        lines.push("}".to_owned());
    }
    if fit.size().is_some() {
        lines.push("\\normalsize".to_owned());
    }
    lines
}

fn cell(cell: &Entry) -> String {
    let text = match cell {
        Entry::Text(text) if text == "-" => SIGNS.missing.to_owned(),
        other => entry(other, &SIGNS, escape),
    };
    match cell {
        Entry::Estimate(estimate) => {
            // Only what `grid` wrote: numbers, signs and remarks such as `n=3`.
            let text = if let Some(positive) = text.strip_prefix('-') { format!("$-${positive}") } else { text };
            let mean = text.find(' ').unwrap_or(text.len());
            if estimate.is_best { format!("\\textbf{{{}}}{}", &text[..mean], &text[mean..]) } else { text }
        }
        _ => text,
    }
}

fn line(cells: &[String]) -> String {
    format!("{} \\\\", protected(cells).join(" & "))
}

/// `\\` takes a following `[` for its optional argument, and a line may start with one.
fn protected(cells: &[String]) -> Vec<String> {
    cells.iter().map(|cell| if cell.starts_with('[') { format!("{{}}{cell}") } else { cell.clone() }).collect()
}

/// A label without what LaTeX or an index of labels would take for a sign of its own.
fn plain(label: &str) -> String {
    label.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.:".contains(c) { c } else { '-' }).collect()
}

type Part = Range<usize>;
