//! Which tables made-up records give.

use record::{Contrast, Readout};

use super::*;
use crate::summary::tests::run;

fn readout(label: &str, rank: usize) -> Readout {
    Readout { label: label.to_owned(), rank }
}

fn study() -> Study {
    Study {
        name: "probe".to_owned(),
        tasks: vec!["cola".to_owned()],
        variants: ["lora", "dora"].map(str::to_owned).to_vec(),
        baseline: Some("lora".to_owned()),
        contrasts: vec![
            Contrast { row: readout("dora", 8), against: readout("lora", 8), margin: Some(5.0), equivalence: None },
            Contrast { row: readout("vera", 8), against: readout("lora", 8), margin: None, equivalence: None },
        ],
        ..Study::default()
    }
}

fn runs(variant: &str, ranks: &[usize]) -> Vec<RunRecord> {
    let seeds = |rank: usize| [1, 2, 3].map(|seed| run("cola", variant, rank, seed, 0.5 + 0.01 * seed as f64));
    ranks.iter().flat_map(|rank| seeds(*rank)).collect()
}

fn shown(tables: &StudyTables) -> Vec<(&str, bool)> {
    tables.tables.iter().map(|named| (named.name.as_str(), named.is_shown)).collect()
}

#[test]
fn a_study_of_one_rank_shows_its_main_table_and_its_contrasts() {
    let found = tables(&study(), &[runs("lora", &[8]), runs("dora", &[8])].concat(), true).unwrap();
    assert_eq!(
        shown(&found),
        [("main", true), ("comparison", false), ("contrasts", true), ("noise", false), ("cost", false)]
    );
    // The row that nobody ran is no question yet; the margin is written in points.
    let contrasts = crate::render::text(&found.tables[2].table);
    assert!(contrasts.contains("at least +5: 0 of 1 tasks") && !contrasts.contains("vera"), "{contrasts}");
}

#[test]
fn ranks_are_shown_where_several_rows_have_several() {
    let one = tables(&study(), &[runs("lora", &[4, 8]), runs("dora", &[8])].concat(), true).unwrap();
    assert_eq!(shown(&one)[..2], [("main", true), ("ranks", false)]);
    let two = tables(&study(), &[runs("lora", &[4, 8]), runs("dora", &[4, 8])].concat(), true).unwrap();
    assert_eq!(shown(&two)[..2], [("main", false), ("ranks", true)]);
}

/// Means by hand: a made-up run reports its best checkpoint, a point above what it is given, so the best row is `full` at 0.60 + 0.02 + 0.01; methods 0.53
/// (`lora` r=8) and 0.63 lie 10 points apart, sd 7.07; three seeds a point apart
/// have a standard deviation of 1; rank 8 is 2 points above rank 1 on every seed.
#[test]
fn the_difficulty_of_a_task_follows_from_its_rows() {
    let of = |variant: &str, rank: usize, base: f64| {
        [1, 2, 3].map(|seed| run("cola", variant, rank, seed, base + 0.01 * seed as f64)).to_vec()
    };
    let rows = [
        of("lora", 1, 0.48),
        of("lora", 8, 0.50),
        of("full", 0, 0.60),
        of("head_only", 0, 0.20),
        of("full_random", 0, 0.10),
    ];
    let found = tables(&study(), &rows.concat(), true).unwrap();
    let table = &found.tables.iter().find(|named| named.name == "difficulty").unwrap().table;
    let cells: Vec<String> = table.blocks[0].rows[0]
        .iter()
        .map(|entry| if let crate::table::Entry::Text(text) = entry { text.clone() } else { String::new() })
        .collect();
    assert_eq!(cells, ["cola", "37.00", "23.00", "13.00", "53.00", "63.00", "7.07", "1.00", "7.07", "+2.00 ± 0.00"]);
    // Without a control on a random base there is no such table.
    let without = tables(&study(), &rows[..4].concat(), true).unwrap();
    assert!(without.tables.iter().all(|named| named.name != "difficulty"));
}

#[test]
fn an_unfinished_study_says_that_its_baseline_is_missing() {
    let found = tables(&study(), &runs("dora", &[8]), false).unwrap();
    assert_eq!(shown(&found), [("main", true), ("noise", false), ("cost", false)]);
    assert_eq!(found.notes, ["no comparison on validation yet: `lora` has not run on every task"]);
    assert!(matches!(tables(&study(), &runs("dora", &[8]), true), Err(AnalysisError::NoBaseline { .. })));
}

#[test]
fn an_undefined_metric_is_marked_with_its_reason() {
    let mut records = [runs("lora", &[8]), runs("dora", &[8])].concat();
    for evaluation in records.iter_mut().flat_map(|record| &mut record.evaluations) {
        evaluation.metrics.insert("accuracy".to_owned(), f64::NAN);
        evaluation.undefined.insert("accuracy".to_owned(), "the split has no example".to_owned());
    }
    let found = tables(&study(), &records, true).unwrap();
    let main = crate::render::text(&found.tables[0].table);
    assert!(main.contains("[undefined]"), "{main}");
    assert!(main.contains("`accuracy` of cola is undefined on validation: the split has no example."), "{main}");
    assert_eq!(main.matches("no example").count(), 1, "{main}");
}

#[test]
fn runs_of_which_a_map_did_not_move_are_said_once_per_row() {
    let mut records = [runs("lora", &[8]), runs("dora", &[8])].concat();
    assert_eq!(tables(&study(), &records, true).unwrap().notes, [""; 0]);
    records[1].unmoved = vec!["encoder.0.query".to_owned(), "encoder.1.query".to_owned()];
    let lora = records.iter().filter(|record| record.cell.variant == "lora").count();
    for record in &mut records[lora..] {
        record.unmoved = vec!["head".to_owned()];
    }
    let notes = tables(&study(), &records, true).unwrap().notes;
    let (first, second) = (&records[lora].cell, &records[1].cell);
    assert_eq!(
        notes,
        [
            format!(
                "{first}: `head` did not move in training; nor did maps of {} more of its seeds",
                records.len() - lora - 1
            ),
            format!("{second}: `encoder.0.query` and 1 more did not move in training"),
        ]
    );
}

#[test]
fn several_tasks_have_a_table_of_methods_and_bits_one_of_examples() {
    let mut records = Vec::new();
    for (at, task) in ["cola", "mrpc", "rte"].into_iter().enumerate() {
        for seed in 1..=3 {
            for (variant, gain) in [("lora", 0.0), ("dora", 0.1), ("full", 0.2)] {
                let mut record = run(task, variant, 8, seed, 0.5 + gain + 0.01 * (seed as f64 + at as f64));
                let bits: Vec<bool> = (0..100).map(|example| example < 50 + (100.0 * gain) as usize).collect();
                record.evaluations.iter_mut().for_each(|e| e.correct = Some(record::Correct::pack(&bits)));
                records.push(record);
            }
        }
    }
    let study = Study {
        tasks: ["cola", "mrpc", "rte"].map(str::to_owned).to_vec(),
        variants: ["lora", "dora", "full"].map(str::to_owned).to_vec(),
        contrasts: Vec::new(),
        ..study()
    };
    let found = tables(&study, &records, true).unwrap();
    let names: Vec<&str> = found.tables.iter().map(|named| named.name.as_str()).collect();
    assert_eq!(names, ["main", "comparison", "examples", "methods", "noise", "cost"]);
    let text = |at: usize| crate::render::text(&found.tables[at].table);
    let line = |at: usize, words: &[&str]| {
        let shown = text(at);
        let has = |line: &&str| words.iter().all(|word| line.contains(word));
        shown.lines().find(has).unwrap_or_else(|| panic!("no {words:?} in {shown}")).to_owned()
    };
    // Ten of a hundred examples more, on every seed.
    line(2, &["cola", "dora r=8", "lora r=8", "100", "10.00", "3 / 0 / 0"]);
    line(3, &["dora", "1.00 [1.00, 1.00]", "2.00"]);
    line(3, &["With 3 runs per task"]);
    line(3, &["Friedman", "p < 0.001"]);
    // The seeds' standard deviation is a point: the floor is 4.303 · √2 of it.
    line(4, &["lora", "1.00", "6.08"]);
}
