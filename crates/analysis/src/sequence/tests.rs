//! A sequence of three tasks by hand.

use record::{EarlierTask, Start};

use super::*;
use crate::{
    figure, figures, render,
    study::Study,
    summary::tests::run,
    table::{Layout, sequence_matrix_table, sequence_table},
    tables::tables,
};

const TASKS: [&str; 3] = ["cola", "rte", "sst2"];

/// The record of a stage: a row of `R`.
fn stage(variant: &str, seed: u64, row: &[f64]) -> RunRecord {
    let (own, earlier) = row.split_last().unwrap();
    let mut record = run(TASKS[earlier.len()], variant, 8, seed, *own);
    record.best = None;
    for evaluation in &mut record.evaluations {
        evaluation.metrics.insert(record.primary_metric.name.clone(), *own);
    }
    record.measured.earlier = earlier
        .iter()
        .zip(TASKS)
        .map(|(score, task)| {
            let mut evaluation = record.evaluations[0].clone();
            evaluation.metrics.insert(record.primary_metric.name.clone(), *score);
            EarlierTask {
                task: task.to_owned(),
                adapter_hash: "a".to_owned(),
                primary_metric: record.primary_metric.clone(),
                evaluations: vec![evaluation],
            }
        })
        .collect();
    if let Some(before) = earlier.len().checked_sub(1) {
        record.spec["start_from"] =
            serde_json::json!({"cell": {"task": TASKS[before], "variant": variant, "seed": seed}});
    }
    record.start = (!earlier.is_empty()).then(|| Start { name: "before".to_owned(), hash: "a".to_owned() });
    record
}

fn stages(variant: &str, seed: u64, rows: [&[f64]; 3]) -> Vec<RunRecord> {
    rows.into_iter().map(|row| stage(variant, seed, row)).collect()
}

/// Runs that start from the base on every task.
fn alone(seed: u64, scores: [f64; 3]) -> Vec<RunRecord> {
    let one = |(task, score): (&str, f64)| {
        let mut record = stage("alone", seed, &[score]);
        record.cell.task = task.to_owned();
        record
    };
    TASKS.into_iter().zip(scores).map(one).collect()
}

fn records() -> Vec<RunRecord> {
    [
        stages("lora", 1, [&[0.9], &[0.6, 0.8], &[0.5, 0.7, 0.9]]),
        stages("lora", 2, [&[0.9], &[0.7, 0.8], &[0.7, 0.8, 0.9]]),
        stages("o_lora", 1, [&[0.9], &[0.9, 0.7], &[0.8, 0.8, 0.8]]),
        stages("o_lora", 2, [&[0.9], &[0.9, 0.7], &[0.8, 0.8, 0.8]]),
        // Its last task is missing.
        stages("o_lora", 3, [&[0.9], &[0.9, 0.7], &[0.8, 0.8, 0.8]])[..2].to_vec(),
        alone(1, [0.9, 0.7, 0.8]),
        alone(2, [0.9, 0.8, 0.8]),
    ]
    .concat()
}

#[track_caller]
fn close(found: &BTreeMap<u64, f64>, wanted: &[(u64, f64)]) {
    assert!(found.keys().copied().eq(wanted.iter().map(|(seed, _)| *seed)), "{found:?}");
    for (seed, wanted) in wanted {
        assert!((found[seed] - wanted).abs() < 1e-12, "seed {seed}: {} is not {wanted}", found[seed]);
    }
}

#[test]
fn measures_are_those_of_the_definitions() {
    let found = sequences(&records(), "validation").unwrap();
    assert_eq!(found.iter().map(|one| one.variant.as_str()).collect::<Vec<_>>(), ["lora", "o_lora"]);
    let [lora, o_lora] = [&found[0], &found[1]];
    assert_eq!(lora.tasks, TASKS);
    close(&lora.averages(), &[(1, 0.7), (2, 0.8)]);
    // (0.5 − 0.9 + 0.7 − 0.8)/2 and (0.7 − 0.9 + 0.8 − 0.8)/2.
    close(&lora.backward(), &[(1, -0.25), (2, -0.1)]);
    close(&lora.forgetting(), &[(1, 0.25), (2, 0.1)]);
    // (0.8 − 0.7 + 0.9 − 0.8)/2 and (0.8 − 0.8 + 0.9 − 0.8)/2.
    close(&lora.transfer(), &[(1, 0.1), (2, 0.05)]);
    // A task that later ones improve is not forgotten: (0.9 − 0.8 + 0.7 − 0.8)/2 both ways.
    close(&o_lora.backward(), &[(1, 0.0), (2, 0.0)]);
    close(&o_lora.forgetting(), &[(1, 0.0), (2, 0.0)]);
    assert_eq!(lora.alone.as_ref().unwrap().0, "alone");
}

#[test]
fn forgetting_is_below_the_best_and_not_below_the_first() {
    let rows: [&[f64]; 3] = [&[0.5], &[0.8, 0.7], &[0.6, 0.7, 0.9]];
    let found = sequences(&stages("lora", 1, rows), "validation").unwrap();
    close(&found[0].backward(), &[(1, 0.05)]);
    close(&found[0].forgetting(), &[(1, 0.1)]);
    assert!(found[0].transfer().is_empty(), "no run stands alone");
}

#[test]
fn where_less_is_better_signs_turn() {
    let mut all = records();
    for record in &mut all {
        record.primary_metric.goal = Goal::Minimise;
        record.measured.earlier.iter_mut().for_each(|earlier| earlier.primary_metric.goal = Goal::Minimise);
    }
    let found = sequences(&all, "validation").unwrap();
    close(&found[0].backward(), &[(1, 0.25), (2, 0.1)]);
    // The least before the last task: (0.5 − 0.6 + 0.7 − 0.8)/2 and (0.7 − 0.7 + 0.8 − 0.8)/2.
    close(&found[0].forgetting(), &[(1, -0.1), (2, 0.0)]);
    close(&found[0].transfer(), &[(1, -0.1), (2, -0.05)]);
}

/// Every run starts from the run of its own seed, and all of a row are averaged.
#[test]
fn a_study_in_sequence_has_all_its_tables() {
    let study = Study {
        tasks: TASKS.map(str::to_owned).to_vec(),
        variants: ["lora", "o_lora", "alone"].map(str::to_owned).to_vec(),
        baseline: Some("lora".to_owned()),
        ..Study::default()
    };
    let found = tables(&study, &records(), true).unwrap();
    let is_shown = |name: &str| found.tables.iter().find(|named| named.name == name).map(|named| named.is_shown);
    assert_eq!(
        [is_shown("main"), is_shown("sequence"), is_shown("sequence_matrix")],
        [Some(true), Some(true), Some(false)]
    );
}

/// A panel for every task but the last, with a point for the task itself and one for every task after it.
#[test]
fn a_figure_follows_every_task_through_those_after_it() {
    let study = Study {
        tasks: TASKS.map(str::to_owned).to_vec(),
        variants: ["lora", "o_lora", "alone"].map(str::to_owned).to_vec(),
        ..Study::default()
    };
    let all = figures::records::all(&study, &records(), &|_| Vec::new()).unwrap();
    let named = all.iter().find(|named| named.name == "sequence").unwrap();
    let drawn = figure::render(&named.figure).unwrap().data_csv;
    // Two methods, three points on the first task and two on the second, and a header; `lora` on the first after the second: 60 and 70.
    assert_eq!(drawn.lines().count(), 1 + 2 * (3 + 2), "{drawn}");
    assert!(drawn.lines().any(|line| line.contains("lora r=8") && line.contains(",2,65")), "{drawn}");
}

#[test]
fn tables_show_both() {
    let layout = Layout {
        split: "validation".to_owned(),
        tasks: TASKS.map(str::to_owned).to_vec(),
        variants: ["lora", "o_lora"].map(str::to_owned).to_vec(),
        ..Layout::default()
    };
    let found = sequences(&records(), "validation").unwrap();
    let table = render::text(&sequence_table(&found, Some("lora"), &layout).unwrap());
    for part in ["cola → rte → sst2", "75.00 ± 63.53", "-17.50 ± 95.30", "+7.50 ± 31.77", "+5.00 ± 63.53 (p = 0.500)"]
    {
        assert!(table.contains(part), "`{part}` in\n{table}");
    }
    let matrix = render::text(&sequence_matrix_table(&found, &layout).unwrap());
    let row = matrix.lines().find(|line| line.contains("after rte")).unwrap();
    assert!(row.contains("65.00 ± 63.53") && row.contains("80.00 ± 0.00"), "{matrix}");
    assert!(sequence_table(&[], None, &layout).is_none() && sequence_matrix_table(&[], &layout).is_none());
}
