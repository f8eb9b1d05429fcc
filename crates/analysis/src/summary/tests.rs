//! The summary of made-up records.

use std::collections::BTreeMap;

use proptest::prelude::*;
use record::{
    Best, CellId, CodeIdentity, Cohort, Evaluation, Goal, Measured, PrimaryMetric, Readout, RunRecord, Status, StepLog,
    spec_hash,
};
use serde_json::json;

use super::*;

/// A finished run whose last evaluation, at step 20, has `accuracy` and whose best one, at step 10, has 0.01 more.
pub(crate) fn run(task: &str, variant: &str, rank: usize, seed: u64, accuracy: f64) -> RunRecord {
    let spec = json!({"task": task, "variant": {"preset": variant, "rank": rank}, "seed": seed});
    let evaluation = |step, accuracy| Evaluation {
        step,
        split: "validation".into(),
        readout: Readout { label: variant.into(), rank },
        metrics: BTreeMap::from([("accuracy".into(), accuracy), ("a_f1".into(), accuracy / 2.0)]),
        undefined: BTreeMap::new(),
        examples: 100,
        loss: 1.0 - accuracy,
        generated: None,
        correct: None,
    };
    RunRecord {
        format: record::FORMAT,
        cell: CellId { task: task.into(), variant: variant.into(), rank, seed },
        status: Status::Finished,
        spec_hash: spec_hash(&spec),
        spec,
        diff: json!({}),
        seeds: BTreeMap::new(),
        code: CodeIdentity { code_hash: "0123456789abcdef".into(), commit: "c".into(), dirty: false },
        versions: BTreeMap::new(),
        start: None,
        model_hash: String::new(),
        data_hash: String::new(),
        reading_hash: None,
        adapter_hash: None,
        truncated: BTreeMap::new(),
        unmoved: Vec::new(),
        device: "cpu".into(),
        precision: "f32".into(),
        cohort: Cohort { id: "0".into(), members: vec![], changes: vec![], memory: None },
        primary_metric: PrimaryMetric { name: "accuracy".into(), goal: Goal::Maximise },
        best: Some(Best { step: 10, metric: "accuracy".into(), value: accuracy + 0.01 }),
        measured: Measured {
            trainable_params: 36_864 * rank as u64,
            head_params: 1_538,
            adapter_bytes: 4_096,
            seconds_per_step: 0.25 * seed as f64,
            tokens_per_second: 1_000.0,
            merge_error: Some(1e-6 * seed as f64),
            final_ranks: BTreeMap::from([("query".into(), rank), ("value".into(), rank + 1)]),
            ..Measured::default()
        },
        resumed_at: vec![],
        started: 0,
        finished: 1,
        evaluations: vec![evaluation(10, accuracy + 0.01), evaluation(20, accuracy)],
        steps: StepLog::default(),
    }
}

/// The same run, cut off before its first evaluation.
pub(crate) fn failed(mut run: RunRecord) -> RunRecord {
    run.status = Status::Failed { step: 3, reason: "loss is NaN".into() };
    run.evaluations.clear();
    run.best = None;
    run
}

fn accuracy(table: &SummaryTable) -> &SummaryRow {
    table.rows.iter().find(|row| row.metric == "accuracy").unwrap()
}

#[test]
fn seeds_are_averaged_at_the_reported_step() {
    let records = [run("cola", "lora", 8, 1, 0.5), run("cola", "lora", 8, 2, 0.6)];
    let last = summarise(&records, Selection::Last).unwrap();
    let row = accuracy(&last);
    assert_eq!((row.summary.n, row.steps, row.trainable_params, row.failed, row.dirty), (2, 20, 294_912, 0, 0));
    assert!((row.summary.mean - 0.55).abs() < 1e-12);
    assert!((row.seconds_per_step - 0.375).abs() < 1e-12);
    assert_eq!((row.merge_error, row.final_rank_mean), (Some(2e-6), Some(8.5)));
    assert_eq!(row.values, BTreeMap::from([(1, 0.5), (2, 0.6)]));
    let best = summarise(&records, Selection::Best).unwrap();
    assert!((accuracy(&best).summary.mean - 0.56).abs() < 1e-12);
}

#[test]
fn the_primary_metric_comes_first() {
    let table = summarise(&[run("cola", "lora", 8, 1, 0.5)], Selection::Last).unwrap();
    let metrics: Vec<(&str, bool)> = table.rows.iter().map(|row| (row.metric.as_str(), row.primary)).collect();
    assert_eq!(metrics, [("accuracy", true), ("a_f1", false)]);
}

#[test]
fn csv_has_its_columns_and_empty_fields_for_what_does_not_exist() {
    let mut second = run("cola", "lora", 8, 2, 0.75);
    second.code.dirty = true;
    second.code.code_hash = "fedcba9876543210".into();
    let records =
        [run("cola", "lora", 8, 1, 0.5), second, failed(run("cola", "lora", 8, 3, 0.0)), run("rte", "lora", 8, 1, 0.5)];
    let text = crate::render::csv(&summarise(&records, Selection::Last).unwrap()).unwrap();
    insta::assert_snapshot!(text, @r"
    task,variant,rank,metric,n,mean,std,ci_low,ci_high,trainable_params,head_params,seconds_per_step,split,failed,dirty,steps,adapter_bytes,tokens_per_second,merge_error,final_rank_mean,code_hash,peak_memory_bytes
    cola,lora,8,accuracy,2,0.625,0.1767766952966369,-0.9632755920218361,2.2132755920218363,294912,1538,0.375,validation,1,1,20,4096,1000.0,2e-6,8.5,0123456789ab+fedcba987654,
    cola,lora,8,a_f1,2,0.3125,0.08838834764831845,-0.48163779601091805,1.1066377960109182,294912,1538,0.375,validation,1,1,20,4096,1000.0,2e-6,8.5,0123456789ab+fedcba987654,
    rte,lora,8,accuracy,1,0.5,,,,294912,1538,0.25,validation,0,0,20,4096,1000.0,1e-6,8.5,0123456789ab,
    rte,lora,8,a_f1,1,0.25,,,,294912,1538,0.25,validation,0,0,20,4096,1000.0,1e-6,8.5,0123456789ab,
    ");
}

#[test]
fn every_readout_is_a_row_at_its_own_rank() {
    let mut dylora = run("cola", "dylora", 8, 1, 0.5);
    let last = dylora.evaluations.remove(1);
    dylora.evaluations =
        (1..=8).map(|rank| Evaluation { readout: Readout { label: "dylora".into(), rank }, ..last.clone() }).collect();
    let table = summarise(&[dylora], Selection::Last).unwrap();
    let ranks: Vec<usize> = table.rows.iter().filter(|row| row.primary).map(|row| row.rank).collect();
    assert_eq!(ranks, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(table.rows.iter().all(|row| row.trainable_params == 294_912));
}

#[test]
fn failed_runs_are_counted_and_not_averaged() {
    let mut diverged = failed(run("cola", "lora", 8, 2, 0.5));
    diverged.evaluations = run("cola", "lora", 8, 2, f64::NAN).evaluations;
    let table = summarise(&[run("cola", "lora", 8, 1, 0.5), diverged], Selection::Best).unwrap();
    let row = accuracy(&table);
    assert_eq!((row.summary.n, row.failed), (1, 1));
    assert_eq!(row.summary.ci_low, None);
}

#[test]
fn a_variant_that_always_fails_keeps_its_row() {
    let hopeless = [failed(run("cola", "full", 0, 1, 0.5)), failed(run("cola", "full", 0, 2, 0.5))];
    let table = summarise(&hopeless, Selection::Last).unwrap();
    assert_eq!((table.rows.len(), table.rows[0].failed, table.rows[0].split.as_str()), (1, 2, ""));
    let [one, two] = hopeless;
    let table = summarise(&[one, two, run("cola", "lora", 8, 1, 0.5)], Selection::Last).unwrap();
    let row = table.rows.iter().find(|row| row.variant == "full").unwrap();
    assert_eq!((row.summary.n, row.failed, row.split.as_str()), (0, 2, "validation"));
    assert!(row.summary.mean.is_nan());
}

#[test]
fn a_metric_that_is_undefined_for_one_seed_has_no_mean() {
    let table =
        summarise(&[run("cola", "lora", 8, 1, 0.5), run("cola", "lora", 8, 2, f64::NAN)], Selection::Last).unwrap();
    let row = accuracy(&table);
    assert_eq!((row.summary.n, row.summary.std), (2, None));
    assert!(row.summary.mean.is_nan());
}

#[test]
fn no_records_make_an_empty_table() {
    let table = summarise(&[], Selection::Best).unwrap();
    assert_eq!(table.rows, []);
    assert_eq!(crate::render::csv(&table).unwrap().lines().count(), 1);
}

#[track_caller]
fn refused(records: &[RunRecord], selection: Selection) -> String {
    summarise(records, selection).unwrap_err().to_string()
}

#[test]
fn records_that_cannot_be_averaged_are_refused_by_name() {
    let mut other = run("cola", "lora", 8, 2, 0.5);
    other.spec["variant"]["alpha"] = json!(32);
    insta::assert_snapshot!(refused(&[run("cola", "lora", 8, 1, 0.5), other.clone()], Selection::Last), @r"
    row cola/lora rank 8: cola/lora rank 8 seed 1 and cola/lora rank 8 seed 2 differ in their specs at `variant.alpha`, so they cannot share a row; run the experiment again to replace stale records, or give the variants different labels
    ");
    assert_eq!(
        refused(&[run("cola", "lora", 8, 1, 0.5), failed(other.clone())], Selection::Last)
            .matches("variant.alpha")
            .count(),
        1
    );

    let mut repeated = run("cola", "lora", 8, 1, 0.5);
    repeated.cell.variant = "lora_again".into();
    insta::assert_snapshot!(refused(&[run("cola", "lora", 8, 1, 0.5), repeated], Selection::Last), @r"
    row cola/lora rank 8: cola/lora rank 8 seed 1 and cola/lora_again rank 8 seed 1 have the same seed and the same spec; remove one of the records or give it another label
    ");

    let mut judged = run("cola", "dora", 8, 1, 0.5);
    judged.primary_metric = PrimaryMetric { name: "loss".into(), goal: Goal::Minimise };
    insta::assert_snapshot!(refused(&[run("cola", "lora", 8, 1, 0.5), judged], Selection::Last), @r"
    task `cola`: cola/lora rank 8 seed 1 is judged by `accuracy (maximise)`, but cola/dora rank 8 seed 1 by `loss (minimise)`; run the task again with one primary metric
    ");

    let mut unselected = run("cola", "lora", 8, 1, 0.5);
    unselected.best = None;
    insta::assert_snapshot!(refused(&[unselected], Selection::Best), @r"
    cola/lora rank 8 seed 1: no best checkpoint was selected, but the table reports the best one; report the last evaluation instead
    ");

    let mut late = run("cola", "lora", 8, 1, 0.5);
    late.evaluations[1].readout.label = "lora_svd".into();
    insta::assert_snapshot!(refused(&[late], Selection::Best), @r"
    cola/lora rank 8 seed 1: readout lora_svd rank 8 on `validation` was not evaluated at the best step 10, only at step 20; evaluate every readout at the selected checkpoint, or report the last evaluation
    ");

    let table = summarise(&[run("cola", "lora", 8, 1, 0.5)], Selection::Last).unwrap();
    insta::assert_snapshot!(table.primary("test").unwrap_err(), @r"
    no run reports its task's primary metric on split `test`; use `validation`
    ");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_order_of_the_records_does_not_matter(order in Just((0..8_u64).collect::<Vec<_>>()).prop_shuffle()) {
        let records = |order: &[u64]| -> Vec<RunRecord> {
            order.iter().map(|i| run(["cola", "rte"][(i / 4) as usize], "lora", 8, i % 4 + 1, 0.5 + 0.01 * *i as f64)).collect()
        };
        let sorted = summarise(&records(&[0, 1, 2, 3, 4, 5, 6, 7]), Selection::Last).unwrap();
        let shuffled = summarise(&records(&order), Selection::Last).unwrap();
        for (one, other) in sorted.rows.iter().zip(&shuffled.rows) {
            prop_assert_eq!(&one.summary, &other.summary);
            prop_assert_eq!((&one.task, &one.metric), (&other.task, &other.metric));
        }
    }
}
