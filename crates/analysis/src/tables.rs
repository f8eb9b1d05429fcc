//! The tables of a study: which ones its records allow, and which of them a reader is shown first.
//!
//! | table | where |
//! |---|---|
//! | `main` | always: tasks as columns, variants and ranks as rows |
//! | `ranks` | some row is read out at several ranks |
//! | `difficulty` | the rows are those that show how well tasks tell methods apart: `head_only`, `full`, `lora` at several ranks, a random base |
//! | `comparison` | the experiment names a baseline |
//! | `contrasts` | the experiment asks for comparisons, and both of their rows have records |
//! | `tuning` | the experiment tunes its rows |
//! | `examples` | records keep which examples were right: the contrasts, or without any the comparison, by example |
//! | `methods` | there are two tasks or more: interquartile means, chances to improve, ranks |
//! | `sequence`, `sequence_matrix` | tasks start from other tasks of the experiment: what is kept of earlier tasks, and `R[i][j]` |
//! | `cost` | always, one for all splits: settings that differ between rows, parameters, bytes, time, memory, merge error, forgetting |
//! | `noise` | always: what a second run of the same configuration would differ by |

use std::collections::{BTreeMap, BTreeSet};

use record::RunRecord;

use crate::{
    AnalysisError,
    compare::{Baseline, Compared, Comparison, answerable, compare, contrast},
    examples::by_example,
    methods::methods,
    sequence::sequences,
    study::Study,
    summary::{Selection, SummaryTable, summarise},
    table::{
        Layout, Table, comparison_table, contrast_table, cost_table, difficulty_table, examples_table, methods_table,
        noise_table, pivot_table, rank_curve_table, sequence_matrix_table, sequence_table,
    },
    tuning::{TABLE, tuning_table},
};

/// A table and its file name without ending.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTable {
    /// Such as `main`, or `main-test` where a study has several splits.
    pub name: String,
    /// The table.
    pub table: Table,
    /// Whether it answers what a reader asks first; the others are for the files.
    pub is_shown: bool,
}

/// Everything that the records of a study say.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyTables {
    /// One row per task, row, metric and split.
    pub summary: SummaryTable,
    /// The tables, split by split.
    pub tables: Vec<NamedTable>,
    /// What is left out, and why.
    pub notes: Vec<String>,
}

/// Every table that the records allow. `is_complete`: every run of the study has a record.
pub fn tables(study: &Study, records: &[RunRecord], is_complete: bool) -> Result<StudyTables, AnalysisError> {
    let summary = summarise(records, Selection::Reported)?;
    let (mut tables, mut notes) = (Vec::new(), unmoved(records));
    let ranks = ranks(records);
    let swept = ranks.values().filter(|ranks| ranks.len() > 1).count();
    let splits = summary.splits();
    for (at, split) in splits.iter().enumerate() {
        let mut layout = layout(study, &summary, split);
        layout.notes.extend(undefined(records, &summary, split)?);
        let mut of_split = vec![("main", pivot_table(&summary, &layout, &study.rules)?)];
        if swept > 0 {
            of_split.push(("ranks", rank_curve_table(&summary, &layout)?));
        }
        of_split.extend(difficulty_table(&summary, &layout)?.map(|table| ("difficulty", table)));
        let mut asked = Vec::new();
        match compared(study, &summary, &layout) {
            Ok(Some((compared, table))) => {
                of_split.push(("comparison", table));
                asked = compared.comparisons;
            }
            Ok(None) => {}
            // The rows of an unfinished study may not be there yet.
            Err(AnalysisError::NoBaseline { .. }) if !is_complete => {
                let label = study.baseline.as_deref().unwrap_or_default();
                notes.push(format!("no comparison on {split} yet: `{label}` has not run on every task"));
            }
            Err(error) => return Err(error),
        }
        let contrasts = answerable(&summary, split, &study.contrasts)?;
        if !contrasts.is_empty() {
            let compared = contrast(&summary, split, &contrasts, &study.rules)?;
            of_split.push(("contrasts", contrast_table(&compared, &contrasts, &layout)));
            asked = compared.comparisons;
        }
        of_split.extend(beside(study, (&summary, records), &asked, &layout)?);
        // Ranks as columns read well where several rows have several of them. The long family of comparisons is for its file.
        let hidden =
            ["comparison", "examples", "methods", "sequence_matrix", "noise", if swept > 1 { "main" } else { "ranks" }];
        tables.extend(of_split.into_iter().map(|(name, table)| NamedTable {
            name: if splits.len() > 1 { format!("{name}-{split}") } else { name.to_owned() },
            table,
            is_shown: at == 0 && !hidden.contains(&name),
        }));
    }
    let cost = cost_table(study, records);
    tables.extend(cost.map(|table| NamedTable { name: "cost".to_owned(), table, is_shown: false }));
    let tuning = study.tuned.as_ref().map(|tuned| tuning_table(study, tuned));
    tables.extend(tuning.map(|table| NamedTable { name: TABLE.to_owned(), table, is_shown: true }));
    Ok(StudyTables { summary, tables, notes })
}

/// The study's layout, with a note where a task's split has another name than the table's.
fn layout(study: &Study, summary: &SummaryTable, split: &str) -> Layout {
    let mut layout = study.layout(split);
    let renamed = summary.renamed(split);
    if !renamed.is_empty() {
        layout.notes.push(format!("Where a task has several splits, its first stands here ({}).", renamed.join(", ")));
    }
    layout
}

/// Lines on runs of which some maps did not move; one per task, variant and rank, since the seeds of a group are mostly alike.
fn unmoved(records: &[RunRecord]) -> Vec<String> {
    let mut groups: BTreeMap<(&str, &str, usize), Vec<String>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_finished()) {
        let cell = &record.cell;
        let of_group = groups.entry((&cell.task, &cell.variant, cell.rank));
        of_group.or_default().extend(record.note_unmoved().map(|note| format!("{cell}: {note}")));
    }
    let line = |runs: &Vec<String>| {
        let first = runs.first()?;
        let others = runs.len() - 1;
        let others = if others > 0 { format!("; nor did maps of {others} more of its seeds") } else { String::new() };
        Some(format!("{first}{others}"))
    };
    groups.values().filter_map(line).collect()
}

/// Sentences on the metrics of a split that are undefined, with the reason that the records give.
fn undefined(records: &[RunRecord], summary: &SummaryTable, split: &str) -> Result<BTreeSet<String>, AnalysisError> {
    let rows = summary.primary(split)?;
    let mut said = BTreeSet::new();
    for record in records {
        for evaluation in &record.evaluations {
            let is_shown = |metric: &String| {
                let of = (record.cell.task.as_str(), metric.as_str(), evaluation.split.as_str());
                rows.iter().any(|row| {
                    (row.task.as_str(), row.metric.as_str(), row.split.as_str()) == of && row.summary.mean.is_nan()
                })
            };
            for (metric, reason) in evaluation.undefined.iter().filter(|(metric, _)| is_shown(metric)) {
                said.insert(format!(
                    "`{metric}` of {} is undefined on {}: {reason}.",
                    record.cell.task, evaluation.split
                ));
            }
        }
    }
    Ok(said)
}

/// The tables beside those that answer the experiment's questions. `asked` are its comparisons.
fn beside(
    study: &Study,
    (summary, records): (&SummaryTable, &[RunRecord]),
    asked: &[Comparison],
    layout: &Layout,
) -> Result<Vec<(&'static str, Table)>, AnalysisError> {
    let mut tables = Vec::new();
    let rows = by_example(asked, records, summary, &layout.split)?;
    if !rows.is_empty() {
        tables.push(("examples", examples_table(&rows, layout)));
    }
    let methods = methods(summary, &layout.split, &study.variants)?;
    if methods.len() > 1 {
        tables.push(("methods", methods_table(&methods, study.baseline.as_deref(), layout)?));
    }
    let sequences = sequences(records, &layout.split)?;
    tables.extend(sequence_table(&sequences, study.baseline.as_deref(), layout).map(|table| ("sequence", table)));
    tables.extend(sequence_matrix_table(&sequences, layout).map(|table| ("sequence_matrix", table)));
    tables.push(("noise", noise_table(summary, layout)?));
    Ok(tables)
}

/// Every row against the baseline, where the experiment names one.
fn compared(
    study: &Study,
    summary: &SummaryTable,
    layout: &Layout,
) -> Result<Option<(Compared, Table)>, AnalysisError> {
    let Some(label) = &study.baseline else { return Ok(None) };
    let baseline = Baseline { variant: label.clone(), rank: None };
    let compared = compare(summary, &layout.split, &baseline, &study.rules)?;
    let table = comparison_table(&compared, &baseline, layout);
    Ok(Some((compared, table)))
}

/// Ranks at which each row is read out.
fn ranks(records: &[RunRecord]) -> BTreeMap<&str, BTreeSet<usize>> {
    let mut ranks: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for readout in records.iter().flat_map(|record| &record.evaluations).map(|evaluation| &evaluation.readout) {
        ranks.entry(&readout.label).or_default().insert(readout.rank);
    }
    ranks
}

#[cfg(test)]
mod tests;
