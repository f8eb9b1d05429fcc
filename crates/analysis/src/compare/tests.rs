//! Comparisons of made-up records.

use record::{Contrast, Readout, RunRecord};

use super::*;
use crate::summary::tests::{failed, run};
use crate::summary::{Selection, summarise};

const NOISE: [f64; 6] = [0.000, 0.004, -0.003, 0.002, -0.001, 0.003];

/// Six seeds on each task; `gain` over the baseline with a little noise of its own.
fn runs(task: &str, variant: &str, rank: usize, gain: f64) -> Vec<RunRecord> {
    let value = |i: usize| 0.6 + NOISE[i] + gain + if gain == 0.0 { 0.0 } else { NOISE[5 - i] / 4.0 };
    (0..6).map(|i| run(task, variant, rank, i as u64 + 1, value(i))).collect()
}

fn lora(rank: Option<usize>) -> Baseline {
    Baseline { variant: "lora".into(), rank }
}

fn compared(records: &[RunRecord], baseline: &Baseline) -> Vec<Comparison> {
    compare(&summarise(records, Selection::Last).unwrap(), "validation", baseline).unwrap()
}

#[test]
fn a_clear_gain_and_a_clear_loss_are_told_from_noise() {
    let records = [
        runs("cola", "lora", 8, 0.0),
        runs("cola", "dora", 8, 0.05),
        runs("cola", "vera", 8, -0.05),
        runs("cola", "pissa", 8, 1e-6),
    ];
    let comparisons = compared(&records.concat(), &lora(None));
    let verdicts: Vec<(&str, Verdict)> =
        comparisons.iter().map(|comparison| (comparison.variant.as_str(), comparison.verdict)).collect();
    assert_eq!(verdicts, [("dora", Verdict::Better), ("pissa", Verdict::Undecided), ("vera", Verdict::Worse)]);
    let dora = &comparisons[0];
    assert_eq!((dora.n, dora.sign_flip_p), (6, Some(2.0 / 64.0)));
    assert!(dora.holm_p >= dora.t_p && dora.ci_low < Some(dora.difference));
}

#[test]
fn less_is_better_where_the_task_says_so() {
    let mut records = [runs("wikitext", "lora", 8, 0.0), runs("wikitext", "dora", 8, 0.05)].concat();
    for record in &mut records {
        record.primary_metric.goal = Goal::Minimise;
    }
    assert_eq!(compared(&records, &lora(None))[0].verdict, Verdict::Worse);
}

#[test]
fn only_shared_seeds_are_paired() {
    let mut records = [runs("cola", "lora", 8, 0.0), runs("cola", "dora", 8, 0.05)].concat();
    records.retain(|record| record.cell.variant == "lora" || record.cell.seed > 4);
    records[0] = failed(records[0].clone());
    assert_eq!(compared(&records, &lora(None))[0].n, 2);
    records.retain(|record| record.cell.variant == "dora" || record.cell.seed < 4);
    let none = &compared(&records, &lora(None))[0];
    assert_eq!((none.n, none.t_p, none.verdict), (0, None, Verdict::Undecided));
    assert!(none.difference.is_nan());
}

#[test]
fn several_tasks_are_also_averaged_by_seed() {
    let records = [
        runs("cola", "lora", 8, 0.0),
        runs("rte", "lora", 8, 0.0),
        runs("cola", "dora", 8, 0.05),
        runs("rte", "dora", 8, 0.03),
    ];
    let comparisons = compared(&records.concat(), &lora(Some(8)));
    assert_eq!(
        comparisons.iter().map(|comparison| comparison.task.as_str()).collect::<Vec<_>>(),
        ["cola", "rte", ALL_TASKS]
    );
    let mean = f64::midpoint(comparisons[0].difference, comparisons[1].difference);
    assert!((comparisons[2].difference - mean).abs() < 1e-12);
}

#[test]
fn a_baseline_without_a_row_is_refused() {
    let records = [runs("cola", "lora", 8, 0.0), runs("cola", "bitfit", 0, 0.01)].concat();
    let table = summarise(&records, Selection::Last).unwrap();
    let error = compare(&table, "validation", &lora(Some(4))).unwrap_err();
    insta::assert_snapshot!(error, @r"
    task `cola`: no row `lora` at rank 4 to compare with; name a baseline variant and rank among `bitfit` at rank 0, `lora` at rank 8
    ");
    assert_eq!(compare(&table, "validation", &lora(Some(8))).unwrap().len(), 1);
}

#[test]
fn a_row_meets_the_baseline_at_its_own_rank_or_at_the_largest() {
    let records = [
        runs("cola", "lora", 4, 0.0),
        runs("cola", "lora", 8, 0.0),
        runs("cola", "dora", 4, 0.01),
        runs("cola", "dora", 6, 0.01),
        runs("cola", "bitfit", 0, 0.01),
    ];
    let ranks: Vec<(usize, usize)> =
        compared(&records.concat(), &lora(None)).iter().map(|c| (c.rank, c.baseline_rank)).collect();
    assert_eq!(ranks, [(0, 8), (4, 4), (6, 8)]);
}

#[test]
fn a_contrast_is_one_question_in_a_family_of_its_own() {
    let records = [
        runs("cola", "lora", 8, 0.0),
        runs("cola", "dora", 8, 0.05),
        runs("cola", "vera", 8, -0.05),
        runs("rte", "lora", 8, 0.0),
        runs("rte", "dora", 8, 0.03),
    ];
    let table = summarise(&records.concat(), Selection::Last).unwrap();
    let ask = |variant: &str, against: &str| Contrast {
        row: Readout { label: variant.into(), rank: 8 },
        against: Readout { label: against.into(), rank: 8 },
        margin: Some(4.0),
    };
    let found = contrast(&table, "validation", &[ask("dora", "lora"), ask("vera", "dora")]).unwrap();
    let rows: Vec<_> = found.iter().map(|c| (c.task.as_str(), c.variant.as_str(), c.baseline.as_str())).collect();
    // Only cola has vera, so the second question has no average.
    let expected = [("cola", "dora", "lora"), ("rte", "dora", "lora"), ("cola", "vera", "dora")];
    assert_eq!(rows, [&expected[..], &[(ALL_TASKS, "dora", "lora")]].concat());
    // Equal differences on the same pairs test alike, whatever the family; Holm's factor is the family's size.
    let all = compared(&records.concat(), &lora(None));
    assert_eq!(found[0].t_p, all.iter().find(|c| c.task == "cola" && c.variant == "dora").unwrap().t_p);
    assert!(found[0].holm_p.unwrap() <= 4.0 * found[0].t_p.unwrap() + 1e-15);
    assert!(contrast(&table, "validation", &[ask("dora", "pissa")]).is_err());
}
