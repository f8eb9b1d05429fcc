//! The tables of a study as the page shows and sorts them.

use analysis::{
    render,
    table::{Block, Entry, Table},
};
use serde::Serialize;

/// A table whose cells know what they are sorted by.
#[derive(Debug, Serialize)]
pub(crate) struct TableView {
    /// Its name, such as `comparison`.
    pub(crate) name: String,
    /// What a reader finds in it.
    pub(crate) about: &'static str,
    /// Heads of the columns.
    pub(crate) header: Vec<Head>,
    /// Groups of rows.
    pub(crate) blocks: Vec<BlockView>,
    /// Sentences below it.
    pub(crate) notes: Vec<String>,
}

/// The head of a column.
#[derive(Debug, Serialize)]
pub(crate) struct Head {
    /// Its words.
    pub(crate) text: String,
    /// Whether its cells are numbers, which stand to the right.
    pub(crate) is_number: bool,
}

/// A group of rows.
#[derive(Debug, Serialize)]
pub(crate) struct BlockView {
    /// Its heading.
    pub(crate) title: Option<String>,
    /// Its rows.
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Cell {
    /// What stands in it, as in the study's tables.
    pub(crate) text: String,
    /// What it is sorted by, where it is a number.
    pub(crate) value: Option<f64>,
}

impl Cell {
    /// Of an entry of a table.
    pub(crate) fn of(entry: &Entry) -> Self {
        let text = render::cell(entry);
        let value = match entry {
            Entry::Estimate(estimate) => Some(estimate.mean).filter(|mean| mean.is_finite()),
            Entry::Text(text) => number(text),
            Entry::Missing => None,
        };
        Self { text, value }
    }
}

impl TableView {
    /// Of a table and the name of its file.
    pub(crate) fn of(name: &str, table: &Table) -> Self {
        let block = |block: &Block| BlockView {
            title: block.title.clone(),
            rows: block.rows.iter().map(|row| row.iter().map(Cell::of).collect()).collect(),
        };
        let blocks: Vec<BlockView> = table.blocks.iter().map(block).collect();
        let head = |(at, text): (usize, &String)| Head { text: text.clone(), is_number: at >= table.names };
        Self {
            name: name.to_owned(),
            about: about(name),
            header: table.header.iter().enumerate().map(head).collect(),
            blocks,
            notes: table.notes.clone(),
        }
    }
}

/// What a reader finds in a table.
fn about(name: &str) -> &'static str {
    const TABLES: [(&str, &str); 10] = [
        ("comparison", "Every row against the baseline"),
        ("contrasts", "The questions that the experiment asks"),
        ("cost", "What every row costs, and which settings differ"),
        ("difficulty", "How well the tasks tell methods apart"),
        ("examples", "Comparisons by example"),
        ("methods", "Methods over all tasks"),
        ("noise", "What a second run would differ by"),
        ("ranks", "Ranks as columns"),
        ("sequence_matrix", "Every task after every task of a sequence"),
        ("sequence", "What is kept of earlier tasks"),
    ];
    let found = TABLES.iter().find(|(stem, _)| name.starts_with(stem));
    found.map_or("The settings that were chosen", |(_, about)| about)
}

/// The number that a cell's text begins with, `16.4k` and `<0.001` included; none where it is no number.
fn number(text: &str) -> Option<f64> {
    let first = text.split_whitespace().next()?;
    let plain = first.trim_start_matches(['<', '>', '+']).trim_end_matches(['%', '*']);
    let (digits, scale) = match plain.strip_suffix(['k', 'M', 'G']) {
        Some(digits) => {
            (digits, [('k', 1e3), ('M', 1e6), ('G', 1e9)].into_iter().find(|(unit, _)| plain.ends_with(*unit))?.1)
        }
        None => (plain, 1.0),
    };
    // `inf`, `nan` and the like are words here.
    let is_written = digits.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
    digits.parse::<f64>().ok().filter(|value| is_written && value.is_finite()).map(|value| value * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_sorted_by_their_numbers() {
        let cases = [
            ("16.4k", Some(16_400.0)),
            ("1.00M", Some(1e6)),
            ("<0.001", Some(0.001)),
            ("+0.123 ± 0.045 [n=3]", Some(0.123)),
            ("-", None),
            ("inf", None),
            ("lora", None),
            ("-1.5%", Some(-1.5)),
        ];
        for (text, want) in cases {
            assert_eq!(number(text), want, "{text}");
        }
    }
}
