//! Comparisons by example as a table.

use super::methods::shown;
use super::{Block, Entry, Layout, Table};
use crate::compare::POINTS;
use crate::examples::{ByExample, DRAWS};

/// One row per comparison: the difference in accuracy with its bootstrap interval, and how many seeds McNemar's test decides.
pub fn examples_table(rows: &[ByExample], layout: &Layout) -> Table {
    let name = |(label, rank): &(String, usize)| if *rank == 0 { label.clone() } else { format!("{label} r={rank}") };
    let tasks = Layout::order(rows.iter().map(|row| row.task.as_str()), &layout.tasks);
    let mut ordered: Vec<&ByExample> = rows.iter().collect();
    ordered.sort_by_key(|row| tasks.iter().position(|task| *task == row.task));
    let entries = |row: &&ByExample| {
        let [better, worse] = row.decided();
        let texts = [
            row.task.clone(),
            name(&row.row),
            name(&row.against),
            row.examples.to_string(),
            row.seeds.len().to_string(),
            shown(row.difference, POINTS),
            format!("{better} / {worse} / {}", row.seeds.len() - better - worse),
        ];
        texts.into_iter().map(Entry::Text).collect()
    };
    let mut notes = layout.notes.clone();
    notes.push(format!(
        "Split {}; accuracy in points, paired by seed and example. [95% interval] of a bootstrap over seeds and examples, {DRAWS} draws: it holds for other seeds and for other examples of the task, where the interval of a comparison holds for other seeds on these examples. McNemar: seeds whose two runs differ at 5% (better / worse / neither), exact binomial with mid-p, without correction over seeds and rows.",
        layout.split
    ));
    Table {
        caption: layout.caption.clone(),
        header: ["task", "row", "against", "examples", "n", "difference in accuracy", "McNemar"]
            .map(str::to_owned)
            .to_vec(),
        names: 3,
        blocks: vec![Block { title: None, rows: ordered.iter().map(entries).collect() }],
        notes,
    }
}
