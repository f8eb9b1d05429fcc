//! Verdicts on made-up evidence whose truth is known.

use super::*;
use crate::summary::tests::run;

fn rows(header: &str, lines: &[String]) -> Rows {
    Rows::read(&format!("{header}\n{}\n", lines.join("\n"))).unwrap()
}

fn with(experiment: &str, name: &str, rows: Rows) -> Evidence {
    Evidence { tables: BTreeMap::from([((experiment.to_owned(), name.to_owned()), rows)]), ..Evidence::default() }
}

fn found(id: &str, evidence: &Evidence) -> Finding {
    let target = targets().into_iter().find(|target| target.id == id).unwrap();
    judge(&target, evidence).unwrap()
}

#[test]
fn the_embedded_targets_are_read_and_named_once() {
    let targets = targets();
    let ids: std::collections::BTreeSet<&str> = targets.iter().map(|target| target.id.as_str()).collect();
    assert_eq!(ids.len(), targets.len());
    assert_eq!(experiments(&targets), ["adalora_ranks", "dora_dynamics", "dylora_glue", "lora_subspace"]);
    for target in &targets {
        let empty = judge(target, &Evidence::default()).unwrap();
        let closed = matches!(target.check, Check::RandomClosedForm { .. });
        assert_eq!(matches!(empty.verdict, Verdict::NotTestable(_)), !closed, "{}", target.id);
    }
}

#[test]
fn the_papers_random_column_is_its_closed_form() {
    for id in ["lora-t7-random-4", "lora-t7-random-64"] {
        assert_eq!(found(id, &Evidence::default()).verdict, Verdict::Holds, "{id}");
    }
}

/// Overlaps of ranks 8 and 64 for three seeds with `φ(1, j) = phi`.
fn overlaps(phi: f64, shared: bool) -> Evidence {
    let header = "task,variant,between,map,side,first_rank,first_seed,second_rank,second_seed,i,j,phi,random_mean,random_low,random_high,ambiguous,shared_start";
    let mut lines = Vec::new();
    for seed in 0..3_u32 {
        for j in 1..=12 {
            let phi = phi + 0.01 * f64::from(seed);
            let mean = f64::from(j) / 128.0;
            lines.push(format!(
                "mnli,lora,ranks,encoder.layer.0.attention.self.query,a,8,{seed},64,{},1,{j},{phi},{mean},0,{},false,{shared}",
                (seed + 1) % 3,
                mean + 0.05
            ));
        }
    }
    with("lora_subspace", "overlap", rows(header, &lines))
}

#[test]
fn an_overlap_must_clear_its_value_and_the_band_without_a_shared_start() {
    assert_eq!(found("lora-f3-first-q", &overlaps(0.7, false)).verdict, Verdict::Holds);
    assert_eq!(found("lora-f3-row-q", &overlaps(0.7, false)).verdict, Verdict::Holds);
    assert_eq!(found("lora-f3-first-q", &overlaps(0.2, false)).verdict, Verdict::DoesNotHold);
    assert_eq!(found("lora-f3-first-q", &overlaps(0.49, false)).verdict, Verdict::Undecided);
    // What is shared from the start is no evidence.
    assert!(matches!(found("lora-f3-first-q", &overlaps(0.9, true)).verdict, Verdict::NotTestable(_)));
    let weak = found("lora-f3-row-q", &overlaps(0.7, false));
    assert_eq!((weak.n, weak.random.map(|ends| (ends[0] * 128.0).round())), (3, Some(1.0)));
}

#[test]
fn correlations_are_judged_by_their_sign() {
    let header = "task,variant,rank,seed,points,pearson";
    let line = |variant: &str, seed: usize, r: f64| format!("mnli,{variant},8,{seed},48,{r}");
    let lines: Vec<String> =
        (0..3).flat_map(|s| [line("full", s, -0.5), line("lora", s, -0.4), line("dora", s, -0.3)]).collect();
    let lines: Vec<String> = lines.into_iter().enumerate().map(|(n, l)| format!("{l}{}", n % 9)).collect();
    let evidence = with("dora_dynamics", "correlation", rows(header, &lines));
    assert_eq!(found("dora-full", &evidence).verdict, Verdict::Holds);
    assert_eq!(found("dora-lora", &evidence).verdict, Verdict::DoesNotHold);
    let dora = found("dora-dora", &evidence);
    assert!(dora.got.unwrap() < 0.0 && dora.interval.unwrap()[0] < dora.interval.unwrap()[1]);
}

#[test]
fn amplification_and_samples_are_read_from_their_tables() {
    let header =
        "task,variant,rank,seed,map,directions,base_norm,update_norm,onto_update,onto_base,onto_random,amplification";
    let map = "encoder.layer.0.attention.self.query";
    let line = |rank: usize, seed: u32, a: f64| {
        format!("mnli,lora,{rank},{seed},{map},{rank},1,1,0.4,1,0.1,{}", a * (1.0 + 0.01 * f64::from(seed)))
    };
    let lines: Vec<String> = (0..3).flat_map(|seed| [line(4, seed, 20.0), line(64, seed, 2.0)]).collect();
    let evidence = with("lora_subspace", "projection", rows(header, &lines));
    let falls = found("lora-t7-amplification", &evidence);
    assert!((falls.got.unwrap() - 10.0).abs() < 1e-9 && falls.verdict == Verdict::Holds, "{falls:?}");
    let over = found("lora-t7-over-random", &evidence);
    assert!((over.got.unwrap() - 4.0).abs() < 1e-9, "{over:?}");
    let header = "map,r,draws,mean_square,standard_error,expected";
    let sampled =
        |mean: f64| with("lora_subspace", "random_column", rows(header, &[format!("{map},4,400,{mean},0.01,1.0")]));
    assert_eq!(found("lora-t7-random-samples", &sampled(1.03)).verdict, Verdict::Holds);
    assert_eq!(found("lora-t7-random-samples", &sampled(1.05)).verdict, Verdict::DoesNotHold);
}

#[test]
fn rows_and_final_ranks_come_from_records() {
    let mut records = Vec::new();
    for seed in 1..=3 {
        let noise = 0.002 * seed as f64;
        records.push(run("cola", "dylora", 1, seed, 0.8 + noise));
        records.push(run("cola", "lora_truncated", 1, seed, 0.5 - noise));
    }
    let mut evidence =
        Evidence { records: BTreeMap::from([("dylora_glue".to_owned(), records)]), ..Evidence::default() };
    let far = found("dylora-truncated", &evidence);
    assert!(far.verdict == Verdict::Holds && (far.got.unwrap() - 30.8).abs() < 1e-9, "{far:?}");
    let pruned: Vec<RunRecord> = (1..=3)
        .map(|seed| {
            let mut record = run("mnli", "adalora", 6, seed, 0.9);
            let ranks =
                [("encoder.layer.0.attention.self.query", 2), ("encoder.layer.1.output.dense", 5 + seed as usize % 2)];
            record.measured.final_ranks = ranks.map(|(map, rank)| (map.to_owned(), rank)).into();
            record
        })
        .collect();
    evidence.records.insert("adalora_ranks".to_owned(), pruned);
    assert_eq!(found("adalora-ffn", &evidence).verdict, Verdict::Holds);
    let judged: Vec<(Target, Finding)> = targets()
        .into_iter()
        .map(|target| {
            let finding = judge(&target, &evidence).unwrap();
            (target, finding)
        })
        .collect();
    let shown = crate::render::text(&table(&judged));
    assert!(shown.contains("needs GPT-2 medium and GPT-3"), "{shown}");
}
