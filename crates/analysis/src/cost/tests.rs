//! What made-up records cost, by hand.

use record::{CohortChange, Forgetting, Matching, Quantity};
use serde_json::json;

use super::{settings::differing, *};
use crate::{render, study::Study, summary::tests::run, table::cost_table};

fn forgetting(before: f64, after: f64) -> Forgetting {
    let [text, text_hash] = ["pretraining", "t"].map(str::to_owned);
    Forgetting { text, text_hash, documents: 512, tokens: 4_000, before, after }
}

/// A run whose cohort has these members and took 8 MiB of weights and 2 + 1 + 3 MiB for moments, gradients and activations.
fn member(task: &str, variant: &str, seed: u64, members: &[&str]) -> RunRecord {
    let mut run = run(task, variant, 8, seed, 0.5);
    run.cohort.members = members.iter().map(|member| (*member).to_owned()).collect();
    run.cohort.id = members.join("+");
    let mib = 1 << 20;
    run.cohort.memory =
        Some(MemoryUse { weights: 8 * mib, optimizer: 2 * mib, gradients: mib, activations: 3 * mib, peak: 20 * mib });
    run
}

fn of<'a>(costs: &'a [Cost], variant: &str) -> &'a Cost {
    costs.iter().find(|cost| cost.variant == variant).unwrap()
}

#[test]
fn memory_is_a_rows_own_only_where_its_cohort_is() {
    let alone = ["cola-lora-r8-s1", "cola-lora-r8-s2"];
    let shared = ["cola-dora-r8-s1", "cola-vera-r8-s1", "cola-dora-r8-s2"];
    let stranger = ["cola-full-r8-s1", "cola-nobody-r8-s1"];
    let mut records: Vec<RunRecord> = vec![member("cola", "lora", 1, &alone), member("cola", "lora", 2, &alone)];
    records.extend([1, 2].map(|seed| member("cola", "dora", seed, &shared)));
    records.push(member("cola", "vera", 1, &shared));
    records.push(member("cola", "full", 1, &stranger));
    let found = costs(&records);
    // The cohort counts once: 6 MiB for two runs.
    let mib = f64::from(1 << 20);
    assert_eq!(of(&found, "lora").memory, Some(Memory { per_run: 3.0 * mib, weights: 8.0 * mib }));
    assert!(!of(&found, "lora").is_mixed);
    for mixed in ["dora", "vera", "full"] {
        assert!(of(&found, mixed).memory.is_none() && of(&found, mixed).is_mixed, "{mixed}");
    }
    // A cohort that was cut down to runs of one row is that row's.
    for record in records.iter_mut().filter(|record| record.cell.variant == "dora") {
        let members = ["cola-dora-r8-s1", "cola-dora-r8-s2"].map(str::to_owned).to_vec();
        record.cohort.changes = vec![CohortChange { step: 0, members, reason: "out of memory".to_owned() }];
    }
    assert_eq!(of(&costs(&records), "dora").memory.unwrap().per_run, 3.0 * mib);
}

#[test]
fn forgetting_is_a_mean_over_tasks_and_an_interval_over_seeds() {
    let mut records = Vec::new();
    for (seed, rises) in [(1, [0.1, 0.3]), (2, [0.3, 0.5]), (3, [0.5, 0.7])] {
        for (task, rise) in ["cola", "rte"].into_iter().zip(rises) {
            let mut record = run(task, "lora", 8, seed, 0.5);
            record.measured.forgetting = Some(forgetting(1.0, 1.0 + rise));
            records.push(record);
        }
    }
    // A seed without one of the tasks has another mean.
    let mut lone = run("cola", "lora", 8, 4, 0.5);
    lone.measured.forgetting = Some(forgetting(1.0, 9.0));
    records.push(lone);
    records.push(run("cola", "dora", 8, 1, 0.5));
    let found = costs(&records);
    let summary = of(&found, "lora").forgetting.unwrap();
    // 0.2, 0.4, 0.6: mean 0.4, sd 0.2, half-width 4.302653 · 0.2 / √3.
    assert_eq!(summary.n, 3);
    assert!((summary.mean - 0.4).abs() < 1e-12 && (summary.half_width().unwrap() - 0.496_827_6).abs() < 1e-6);
    assert!(of(&found, "dora").forgetting.is_none());
    // A failed run has no cost.
    let all_failed = [crate::summary::tests::failed(run("cola", "lora", 8, 1, 0.5))];
    assert!(costs(&all_failed).is_empty() && cost_table(&Study::default(), &all_failed).is_none());
}

#[test]
fn a_setting_stands_where_rows_differ_in_it() {
    let with = |mut record: RunRecord, variant: serde_json::Value, rate: f64| {
        record.spec = json!({"model": "m", "targets": ["query", "value"], "variant": variant, "train": {"learning_rate": rate, "batch": 32}});
        record
    };
    let lora = |alpha: f64| json!({"delta": {"kind": "low_rank"}, "alpha": alpha, "scaling": {"kind": "alpha_over_rank"}, "train": {}});
    let plus = json!({"delta": {"kind": "low_rank"}, "alpha": 16.0, "scaling": {"kind": "constant", "value": 1.0},
        "train": {"b": {"state": "trained", "lr_multiplier": 16.0}, "a": {"state": "frozen"}}});
    let full = json!({"delta": null, "alpha": 3.0, "train": {}});
    let mut records = vec![
        with(run("rte", "lora", 8, 1, 0.5), lora(16.0), 1e-2),
        with(run("cola", "lora", 8, 1, 0.5), lora(16.0), 1e-3),
        with(run("cola", "lora_plus", 8, 1, 0.5), plus, 1e-3),
        with(run("cola", "full", 0, 1, 0.5), full, 1e-3),
    ];
    records[3].spec["train"]["clip"] = json!(1.0);
    let tasks = ["cola", "rte"].map(str::to_owned);
    let found = differing(&records, &tasks);
    let shown = |name: &str, variant: &str, rank: usize| {
        let setting = found.iter().find(|setting| setting.name == name).unwrap_or_else(|| panic!("{name}: {found:?}"));
        setting.values.get(&(variant.to_owned(), rank)).cloned()
    };
    assert_eq!(shown("learning rate", "lora", 8).unwrap(), "0.001/0.01");
    assert_eq!(shown("learning rate", "full", 0).unwrap(), "0.001");
    assert_eq!(shown("scaling", "lora_plus", 8).unwrap(), "constant 1");
    assert_eq!(shown("rates by role", "lora_plus", 8).unwrap(), "a frozen, b rate ×16");
    assert_eq!(shown("rates by role", "lora", 8).unwrap(), "the run's");
    // What adapts nothing has no scale; what a recipe leaves out is said.
    assert_eq!(shown("scaling", "full", 0), None);
    assert_eq!(
        (shown("clip", "lora", 8).unwrap(), shown("clip", "full", 0).unwrap()),
        ("-".to_owned(), "1".to_owned())
    );
    let names: Vec<&str> = found.iter().map(|setting| setting.name.as_str()).collect();
    assert_eq!(
        names,
        ["rates by role", "scaling", "clip", "learning rate"],
        "alpha, targets, base and batch are equal"
    );
}

#[test]
fn a_column_without_a_number_is_left_out() {
    let mut records = vec![run("cola", "lora", 8, 1, 0.5), run("cola", "full", 0, 1, 0.5)];
    for record in &mut records {
        record.cohort.members = vec![record.cell.slug()];
    }
    let study = Study { name: "probe".to_owned(), variants: vec!["lora".to_owned()], ..Study::default() };
    insta::assert_snapshot!(render::text(&cost_table(&study, &records).unwrap()), @r"
    probe

    variant  rank  params  adapter bytes  ms/step  tokens/s  merge error
    --------------------------------------------------------------------
    lora        8    295k          4.10k      250     1.00k         1e-6
    full        -       0          4.10k      250     1.00k         1e-6
    --------------------------------------------------------------------
    One row per variant and rank that it trains with, over all tasks and seeds. Settings stand here where they differ between rows (a/b: between a row's tasks). params: trained parameters without the head's.
    adapter bytes: the adapter's file, head included.
    ms/step and tokens/s: means over runs on cpu.
    merge error: the largest difference of a logit between the merged and the unmerged model.
    ");
    records[0].measured.forgetting = Some(forgetting(0.75, 0.875));
    records[0].cohort.members.push("cola-full-r0-s1".to_owned());
    let text = render::text(&cost_table(&study, &records).unwrap());
    assert!(
        text.contains("1e-6  +0.125 [n=1]") && text.contains("(512 documents of the base's own corpus, 0.750 before)"),
        "{text}"
    );
    assert!(text.contains("\nlora trained in cohorts with other rows: its time is the cohort's divided"), "{text}");
}

#[test]
fn what_is_matched_afterwards_is_said_and_by_how_much_it_is_off() {
    let timed = |variant: &str, milliseconds: f64| {
        let mut record = run("cola", variant, 8, 1, 0.5);
        record.measured.seconds_per_step = milliseconds / 1e3;
        record.cohort.members = vec![record.cell.slug()];
        record
    };
    let records = [timed("lora", 10.0), timed("dora", 13.0), timed("vera", 10.4), timed("full", 40.0)];
    let except = vec!["full".to_owned()];
    let matching = |by| Some(Matching { by, tolerance: 0.05, except: except.clone() });
    let study = |by| Study { baseline: Some("lora".to_owned()), matching: matching(by), ..Study::default() };
    let shown = |by| render::text(&cost_table(&study(by), &records).unwrap());
    let time = shown(Quantity::Time);
    assert!(time.contains("time vs lora") && time.contains("+30.0%") && time.contains("+4.0%"), "{time}");
    assert!(time.contains("Rows are to have lora's time within 5%: not matched: dora r=8; excepted: full."), "{time}");
    // No device told of its memory.
    let memory = shown(Quantity::Memory);
    assert!(!memory.contains("memory vs lora") && memory.contains("not known of: dora r=8, vera r=8"), "{memory}");
}

#[test]
fn cohorts_that_overlap_in_time_shared_a_machine() {
    let span = |id: &str, device: &str, started: u64, finished: u64| {
        let mut record = run("cola", id, 8, 1, 0.5);
        record.cohort.id = id.to_owned();
        (record.device, record.started, record.finished) = (device.to_owned(), started, finished);
        record
    };
    let [first, next] = [span("a", "cpu", 10, 20), span("b", "cpu", 20, 30)];
    assert!(!ran_at_once(&[first.clone(), next.clone()]), "one follows the other");
    assert!(ran_at_once(&[first.clone(), span("c", "cpu", 19, 30)]));
    assert!(!ran_at_once(&[first.clone(), span("c", "tch:cuda:0", 15, 30)]), "another device");
    assert!(!ran_at_once(&[first.clone(), span("a", "cpu", 10, 20)]), "one cohort");
    let mut rested = span("c", "cpu", 15, 30);
    rested.resumed_at = vec![3];
    assert!(!ran_at_once(&[first, rested]));
}
