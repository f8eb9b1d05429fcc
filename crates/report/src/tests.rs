//! Pages of made-up records: their numbers are those of the tables, and no text of theirs becomes markup.

use std::collections::BTreeMap;

use analysis::{
    compare::{Baseline, compare},
    render,
    study::Study,
    tables::tables,
};
use record::{
    CellId, CodeIdentity, Cohort, End, Evaluation, Goal, Measured, PrimaryMetric, Readout, RunRecord, Setting, Status,
    StepEntry, StepLog, Trial, Tuned, TunedGroup, TuningGroup, spec_hash,
};
use serde_json::{Value, json};

use crate::{Source, html, study::StudyView};

/// A finished run of forty steps, evaluated at step 20 and, with this accuracy, at step 40.
fn run(task: &str, variant: &str, rank: usize, seed: u64, accuracy: f64) -> RunRecord {
    let spec = json!({
        "task": task, "model": "mini", "suite": "made_up", "seed": seed,
        "preset": variant, "train": {"learning_rate": 0.01, "steps": 40}, "variant": {"rank": rank},
    });
    let evaluation = |step, accuracy| Evaluation {
        step,
        split: "dev".into(),
        readout: Readout { label: variant.into(), rank },
        metrics: BTreeMap::from([("accuracy".into(), accuracy)]),
        undefined: BTreeMap::new(),
        examples: 100,
        loss: 1.0 - accuracy,
        generated: None,
        correct: None,
    };
    let entry = |step: u64| StepEntry {
        step,
        task_loss: 1.0 / step as f64 + 0.001 * seed as f64,
        penalty: None,
        learning_rate: 0.01,
        gradient_norm: 2.0,
        components: None,
    };
    RunRecord {
        format: record::FORMAT,
        cell: CellId { task: task.into(), variant: variant.into(), rank, seed },
        status: Status::Finished,
        spec_hash: spec_hash(&spec),
        spec,
        diff: json!({"train": {"learning_rate": 0.01}}),
        seeds: BTreeMap::from([("init".into(), u64::MAX)]),
        code: CodeIdentity { code_hash: "0123456789abcdef".into(), commit: "fedcba9876543210".into(), dirty: false },
        versions: BTreeMap::from([("burn".into(), "0".into())]),
        start: None,
        model_hash: "m".into(),
        data_hash: "d".into(),
        reading_hash: None,
        adapter_hash: None,
        truncated: BTreeMap::new(),
        unmoved: Vec::new(),
        device: "cpu".into(),
        precision: "f32".into(),
        cohort: Cohort { id: "0".into(), members: vec![], changes: vec![], memory: None },
        primary_metric: PrimaryMetric { name: "accuracy".into(), goal: Goal::Maximise },
        best: None,
        measured: Measured {
            trainable_params: 1_000 * rank as u64 + 234,
            head_params: 10,
            adapter_bytes: 4_096,
            seconds_per_step: 0.25,
            tokens_per_second: 1_000.0,
            final_ranks: BTreeMap::from([("query".into(), rank), ("value".into(), rank)]),
            ..Measured::default()
        },
        resumed_at: vec![],
        started: 0,
        finished: 1,
        evaluations: vec![evaluation(20, accuracy - 0.1), evaluation(40, accuracy)],
        steps: (1..=40).map(entry).collect::<StepLog>(),
    }
}

fn failed(run: RunRecord, reason: &str) -> RunRecord {
    RunRecord { status: Status::Failed { step: 3, reason: reason.into() }, evaluations: Vec::new(), ..run }
}

fn study() -> Study {
    Study {
        name: "probe".to_owned(),
        title: "A probe.".to_owned(),
        tasks: ["cola", "rte"].map(str::to_owned).to_vec(),
        variants: ["lora", "dora"].map(str::to_owned).to_vec(),
        baseline: Some("lora".to_owned()),
        matched: "matched: all".to_owned(),
        ..Study::default()
    }
}

fn records() -> Vec<RunRecord> {
    let of = |variant: &'static str, base: f64| {
        ["cola", "rte"].into_iter().flat_map(move |task| {
            (0..3).map(move |seed| {
                run(task, variant, 8, seed, base + 0.003 * seed as f64 + 0.001 * f64::from(task == "rte"))
            })
        })
    };
    of("lora", 0.5).chain(of("dora", 0.6)).collect()
}

fn source<'a>(study: &'a Study, records: &'a [RunRecord]) -> Source<'a> {
    Source { study, records, planned: records.len(), notes: &[], text: "variants: [lora, dora]", measures: &[] }
}

fn view(study: &Study, records: &[RunRecord]) -> StudyView {
    StudyView::of(&source(study, records)).unwrap()
}

/// What the script reads.
fn data(view: &StudyView) -> Value {
    serde_json::from_str(&view.data).unwrap()
}

#[test]
fn the_main_table_is_that_of_the_tables_with_costs_and_verdicts() {
    let (study, records) = (study(), records());
    let view = view(&study, &records);
    let found = tables(&study, &records, true).unwrap();
    let table = &found.tables.iter().find(|named| named.name == "main").unwrap().table;
    let split = &view.splits[0];
    let heads: Vec<&str> = split.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(heads, ["params", "cola accuracy", "rte accuracy", "average", "ms/step", "adapter bytes"]);
    for (row, entries) in split.rows.iter().zip(&table.blocks[0].rows) {
        let shown: Vec<&str> = row.cells.iter().map(|cell| cell.text.as_str()).collect();
        let want: Vec<String> = entries[2..].iter().map(render::cell).collect();
        assert_eq!(shown[..4], want);
        assert_eq!((shown[4], row.cells[4].value), ("250", Some(250.0)));
        assert_eq!((shown[0], row.cells[0].value), ("8.23k", Some(8_234.0)));
    }
    assert_eq!(split.notes, table.notes);
    let compared = compare(&found.summary, "dev", &Baseline { variant: "lora".into(), rank: None }, &study.rules);
    for (shown, want) in split.comparisons.iter().zip(compared.unwrap().comparisons) {
        assert_eq!((&shown.task, &shown.verdict, shown.p), (&want.task, &want.verdict.to_string(), want.holm_p));
        assert!((shown.difference.unwrap() - 100.0 * want.difference).abs() < 1e-12);
    }
    let verdict = split.rows[1].verdict.as_ref().unwrap();
    assert_eq!((verdict.task.as_str(), verdict.verdict.as_str()), ("average", "better"));
    assert!(split.rows[0].is_baseline && split.rows[0].verdict.is_none());
    // Seeds that agree have the spread of half an example.
    let said =
        "better: +10.00 ± 0.57 [floor] points against lora rank 8 over 3 shared seeds, p Holm < 0.001, primary family";
    assert_eq!(verdict.said, said);
}

#[test]
fn curves_are_means_over_seeds_with_student_intervals() {
    let (study, records) = (study(), records());
    let data = data(&view(&study, &records));
    let training = &data["training"][0];
    assert_eq!((&training["name"], training["series"].as_array().unwrap().len()), (&json!("cola"), 2));
    assert_eq!(
        training["n"],
        "n = 3 seeds; bands: 95% Student intervals of the mean; each point is the mean over 10 steps"
    );
    let series = &training["series"][0];
    assert_eq!((&series["variant"], &series["x"]), (&json!("lora"), &json!([10.0, 20.0, 30.0, 40.0])));
    // Over ten steps the mean of 1/step, and 0.001 for the mean of the seeds 0, 1 and 2, whose standard deviation it is too.
    let mean = (1..=10).map(|step| 1.0 / f64::from(step)).sum::<f64>() / 10.0 + 0.001;
    let half = 4.302_652_729_749_462 * 0.001 / 3_f64.sqrt();
    let close = |value: &Value, want: f64| (value.as_f64().unwrap() - want).abs() < 1e-5;
    assert!(
        close(&series["y"][0], mean) && close(&series["low"][0], mean - half) && close(&series["high"][0], mean + half)
    );
    let dev = &data["dev"][0];
    assert_eq!((&dev["name"], &dev["series"][0]["x"]), (&json!("cola, dev"), &json!([20.0, 40.0])));
    assert!(close(&dev["series"][0]["y"][1], 50.3), "{dev}");
}

#[test]
fn a_run_evaluated_once_has_no_curve_of_its_metric() {
    let mut records = records();
    for record in &mut records {
        record.evaluations.remove(0);
    }
    assert_eq!(data(&view(&study(), &records))["dev"], json!([]));
}

#[test]
fn sensitivity_says_what_its_bands_are() {
    let trial = |rate: f64, scores: &[f64]| Trial {
        setting: Setting(BTreeMap::from([("train.learning_rate".to_owned(), json!(rate))])),
        rungs: Vec::new(),
        scores: scores.iter().map(|score| Some(*score)).collect(),
    };
    let tuned = |seeds: Vec<u64>, trials: Vec<Trial>| {
        let group = TuningGroup { task: Some("cola".into()), variant: "lora".into(), rank: Some(8) };
        let edges = BTreeMap::from([("train.learning_rate".to_owned(), End::Upper)]);
        let groups = vec![TunedGroup { group, trials, chosen: 1, edges }];
        Study { tuned: Some(Tuned::new("h".into(), seeds, 0.2, Goal::Maximise, groups)), ..study() }
    };
    let two = tuned(vec![100, 101], vec![trial(0.001, &[0.5, 0.6]), trial(0.01, &[0.7, 0.9])]);
    let chart = &data(&view(&two, &records()))["sensitivity"][0];
    assert_eq!(chart["name"], "cola: learning rate");
    assert!(chart["n"].as_str().unwrap().starts_with("n = 2 tuning seeds; bands: least and greatest"), "{chart}");
    let series = &chart["series"][0];
    assert_eq!(
        (&series["y"], &series["low"], &series["high"]),
        (&json!([55.0, 80.0]), &json!([50.0, 70.0]), &json!([60.0, 90.0]))
    );
    let three = tuned(vec![1, 2, 3], vec![trial(0.001, &[0.5, 0.6, 0.7]), trial(0.01, &[0.7, 0.8, 0.9])]);
    let chart = &data(&view(&three, &records()))["sensitivity"][0];
    assert!(chart["n"].as_str().unwrap().contains("95% Student intervals"), "{chart}");
    // 0.1 of standard deviation: 4.3027 · 10 / √3 points.
    assert_eq!(chart["series"][0]["high"][0], 84.841);
}

#[test]
fn measures_stand_on_the_pages_of_their_runs_and_as_means() {
    let (study, records) = (study(), records());
    let row = |seed: u64, norm: f64| format!("cola,lora,8,{seed},encoder.layer.1.attention.self.query,{norm}\n");
    let text = format!("task,variant,rank,seed,map,norm\n{}{}{}", row(0, 1.0), row(1, 2.123_456_789), row(2, 3.0));
    let files = [("shape.csv".to_owned(), text), ("table7.txt".to_owned(), "as it is".to_owned())];
    let view = StudyView::of(&Source { measures: &files, ..source(&study, &records) }).unwrap();
    let data = data(&view);
    assert_eq!(
        (&data["measures"][0]["name"], &data["measures"][0]["series"][0]["x"]),
        (&json!("shape: norm, cola"), &json!(["1 query"]))
    );
    let pages: Value = serde_json::from_str(&view.chunks[0]).unwrap();
    let shown = &pages[1]["measures"][0];
    assert_eq!(
        (&shown["name"], &shown["header"], &shown["rows"][0][1]),
        (&json!("shape"), &json!(["map", "norm"]), &json!("2.123"))
    );
    assert_eq!((&pages[3]["measures"], &view.texts), (&json!([]), &vec!["as it is".to_owned()]));
    let torn = [("shape.csv".to_owned(), "a,b\n1\n".to_owned())];
    let error = html(&[Source { measures: &torn, ..source(&study, &records) }]).unwrap_err().to_string();
    assert!(error.starts_with("probe: analysis/shape.csv is no table of measures"), "{error}");
}

#[test]
fn no_text_of_a_record_becomes_markup() {
    let evil = "</script><script>alert(1)</script><b title='\"'>x</b><!--";
    let study = Study {
        title: evil.to_owned(),
        variants: vec!["lora".to_owned(), evil.to_owned()],
        matched: evil.to_owned(),
        ..study()
    };
    let mut records = records();
    for record in records.iter_mut().filter(|record| record.cell.variant == "dora") {
        record.cell.variant = evil.to_owned();
        record.evaluations.iter_mut().for_each(|evaluation| evaluation.readout.label = evil.to_owned());
        record.spec["model"] = json!(evil);
    }
    records.push(failed(run("cola", "lora", 8, 3, 0.5), evil));
    let notes = [evil.to_owned()];
    let page = html(&[Source { notes: &notes, text: evil, ..source(&study, &records) }]).unwrap();
    assert!(!page.contains("<script>alert") && !page.contains("<b title") && !page.contains("<b>"));
    let nonce = page.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    // Of all scripts the page's two may run.
    assert_eq!((nonce.len(), page.matches(&format!("<script nonce=\"{nonce}\">")).count()), (64, 2));
    assert_eq!(page.matches("</script>").count(), page.matches("<script").count());
    assert!(page.contains("alert(1)"), "it is shown as text");
}

#[test]
fn nothing_of_the_page_asks_for_a_file() {
    let (study, records) = (study(), records());
    let page = html(&[source(&study, &records)]).unwrap();
    let own = page.replace(crate::page::PLOTLY, "");
    for asked in ["src=", "@import", "url(", "<link", "<iframe", "http://", "https://", "fetch(", "XMLHttpRequest"] {
        assert!(!own.contains(asked), "{asked}");
    }
    assert!(own.contains("default-src 'none'"));
}

#[test]
fn a_row_whose_runs_all_failed_has_no_difference() {
    let runs = records().into_iter().map(|run| if run.cell.variant == "dora" { failed(run, "NaN") } else { run });
    let (study, records) = (study(), runs.collect::<Vec<_>>());
    let view = view(&study, &records);
    let shown = view.splits[0].comparisons.iter().find(|one| one.task == "cola").unwrap();
    assert_eq!((shown.difference, shown.verdict.as_str()), (None, "undecided"));
    assert_eq!(shown.said, "undecided: no seed has a value of this row and of lora rank 8");
    assert!(!html(&[source(&study, &records)]).unwrap().contains(">NaN<"));
}

#[test]
fn failed_and_lacking_runs_are_counted() {
    let mut records = records();
    records.push(failed(run("cola", "lora", 8, 3, 0.5), "loss is NaN"));
    let study = study();
    let view = StudyView::of(&Source { planned: 14, ..source(&study, &records) }).unwrap();
    assert_eq!(view.facts[0], ("runs", "12 finished, 1 failed, 1 of 14 without a record".to_owned()));
    assert_eq!(view.facts[2], ("seeds", "4 (0 to 3)".to_owned()));
    let rows = &data(&view)["runs"]["rows"];
    assert_eq!(rows[0], json!(["cola-lora-r8-s0", 1, "cola", "lora", 8, "0", 50.0, 0.0]));
    assert_eq!(rows[12], json!(["cola-lora-r8-s3", 0, "cola", "lora", 8, "3", null, 0.0]));
    let pages: Value = serde_json::from_str(&view.chunks[0]).unwrap();
    assert_eq!(pages[12]["failed"], json!([3, "loss is NaN"]));
}

#[test]
fn a_study_of_which_no_run_finished_is_a_page() {
    let records: Vec<RunRecord> = records().into_iter().map(|run| failed(run, "loss is NaN")).collect();
    let study = study();
    let page = html(&[Source { planned: 20, ..source(&study, &records) }]).unwrap();
    assert!(page.contains("No run has finished yet"));
    let page = html(&[source(&Study::default(), &[])]).unwrap();
    assert!(page.contains("No run has finished yet"));
}

#[test]
fn what_runs_share_is_there_once() {
    let (study, records) = (study(), records());
    let view = view(&study, &records);
    let runs = &data(&view)["runs"];
    let count = |name: &str| runs[name].as_array().unwrap().len();
    assert_eq!((count("rows"), count("configurations"), count("environments"), count("steps")), (12, 4, 1, 1));
    let rate = json!(["train.learning_rate", "0.01", true]);
    assert!(runs["configurations"][0]["rows"].as_array().unwrap().contains(&rate));
    let pages: Value = serde_json::from_str(&view.chunks[0]).unwrap();
    assert_eq!((&pages[0]["curves"]["loss"]["x"], &pages[0]["final_ranks"]), (&json!(0), &json!(2)));
    assert_eq!(pages[0]["seeds"]["init"], u64::MAX.to_string());
}

#[test]
fn several_studies_are_one_file() {
    let (one, records) = (study(), records());
    let other = Study { name: "second".to_owned(), ..study() };
    let page = html(&[source(&one, &records), source(&other, &records)]).unwrap();
    assert!(page.contains("<title>probe, second</title>"));
    for id in ["study-0", "study-1", "runs-0-0", "runs-1-0"] {
        assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1);
    }
}

#[test]
fn the_views_of_a_small_study() {
    let (study, records) = (study(), records());
    let few: Vec<RunRecord> = records.into_iter().filter(|record| record.cell.seed < 2).collect();
    let view = view(&study, &few);
    insta::assert_snapshot!(serde_json::to_string_pretty(&data(&view)).unwrap());
    insta::assert_snapshot!(
        serde_json::to_string_pretty(&serde_json::from_str::<Value>(&view.chunks[0]).unwrap()[0]).unwrap()
    );
}
