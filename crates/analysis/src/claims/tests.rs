//! Verdicts on made-up evidence whose truth is known.

use std::collections::BTreeMap;

use record::RunRecord;

use super::*;
use crate::{study::Study, summary::tests::run};

fn rows(header: &str, lines: &[String]) -> Rows {
    Rows::read(&format!("{header}\n{}\n", lines.join("\n"))).unwrap()
}

fn with(experiment: &str, name: &str, rows: Rows) -> Evidence {
    Evidence { tables: BTreeMap::from([((experiment.to_owned(), name.to_owned()), rows)]), ..Evidence::default() }
}

fn found(id: &str, evidence: &Evidence) -> Finding {
    let targets = targets();
    let at = targets.iter().position(|target| target.id == id).unwrap();
    judge(&targets, evidence).unwrap().swap_remove(at)
}

#[test]
fn the_embedded_targets_are_read_and_named_once() {
    let targets = targets();
    let ids: std::collections::BTreeSet<&str> = targets.iter().map(|target| target.id.as_str()).collect();
    assert_eq!(ids.len(), targets.len());
    assert_eq!(
        experiments(&targets),
        [
            "adalora_ranks",
            "compare_tuned",
            "dora_dynamics",
            "dylora_tuned",
            "lora_fa_memory",
            "lora_subspace",
            "survey"
        ]
    );
    for target in &targets {
        let empty = found(&target.id, &Evidence::default());
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

/// Correlations of four seeds about a value.
fn correlations(of: &[(&str, f64)]) -> Evidence {
    let line = |variant: &str, seed: usize, r: f64| {
        format!("mnli,{variant},8,{seed},48,{}", r + [0.02, -0.01, 0.01, -0.02][seed] * if r > 0.7 { 1.0 } else { 2.0 })
    };
    let lines: Vec<String> = of.iter().flat_map(|(variant, r)| (0..4).map(|seed| line(variant, seed, *r))).collect();
    with("dora_dynamics", "correlation", rows("task,variant,rank,seed,points,pearson", &lines))
}

#[test]
fn a_correlation_that_full_fine_tuning_has_too_is_no_mark_of_lora() {
    let alone = found("dora-lora", &correlations(&[("lora", 0.8)]));
    assert!(alone.verdict == Verdict::Holds && alone.remark.is_none(), "{alone:?}");
    let alike = found("dora-lora", &correlations(&[("lora", 0.8), ("full", 0.8)]));
    assert_eq!(alike.verdict, Verdict::Undecided, "{alike:?}");
    assert_eq!((alike.got, alike.interval), (alone.got, alone.interval));
    let remark = alike.remark.unwrap();
    assert!(remark.starts_with("`full` has 0.800 (0.771 to 0.829)"), "{remark}");
    assert_eq!(found("dora-lora", &correlations(&[("lora", 0.8), ("full", -0.6)])).verdict, Verdict::Holds);
    // Two tasks are averaged: three seeds of each are no six runs.
    let header = "task,variant,rank,seed,points,pearson";
    let line =
        |(task, seed): (&str, usize)| format!("{task},lora,8,{seed},48,0.{}{seed}", 7 + usize::from(task == "rte"));
    let lines: Vec<String> =
        ["mnli", "rte"].into_iter().flat_map(|task| (0..3).map(move |seed| line((task, seed)))).collect();
    let two = found("dora-lora", &with("dora_dynamics", "correlation", rows(header, &lines)));
    assert!(two.n == 3 && close(two.got, 0.76), "{two:?}");
    assert_eq!(found("dora-lora", &correlations(&[("lora", 0.3), ("full", 0.8)])).verdict, Verdict::DoesNotHold);
}

const QUERY: &str = "encoder.layer.0.attention.self.query";

/// Projections of four seeds and what random directions have: `‖UᵀWV‖_F` at ranks 4 and 64, `S` and its standard error over 400 draws.
fn amplified(onto: impl Fn(usize, usize) -> f64, drawn: [(usize, f64, f64); 2]) -> Evidence {
    let header =
        "task,variant,rank,seed,map,directions,base_norm,update_norm,onto_update,onto_base,onto_random,amplification";
    let line = |rank: usize, seed: usize| {
        let (onto, random) = (onto(rank, seed), drawn[usize::from(rank > 4)].1.sqrt());
        format!("mnli,lora,{rank},{seed},{QUERY},{rank},1,2,{onto},1,{random},{}", 2.0 / onto)
    };
    let lines: Vec<String> = (0..4).flat_map(|seed| [line(4, seed), line(64, seed)]).collect();
    let mut evidence = with("lora_subspace", "projection", rows(header, &lines));
    let header = "map,r,draws,mean_square,standard_error,expected";
    let lines = drawn.map(|(r, square, error)| format!("{QUERY},{r},400,{square},{error},{square}"));
    let key = ("lora_subspace".to_owned(), "random_column".to_owned());
    evidence.tables.insert(key, rows(header, &lines));
    evidence
}

#[test]
fn amplification_must_fall_by_more_than_that_of_random_directions() {
    // It falls by a factor of 10 here.
    let onto = |rank: usize, seed: usize| if rank > 4 { 4.0 + 0.1 * seed as f64 } else { 0.4 + 0.01 * seed as f64 };
    let beside = |factor: f64| {
        found("lora-t7-amplification", &amplified(onto, [(4, 0.04, 0.0), (64, 0.04 * factor * factor, 0.0)]))
    };
    let more = beside(5.0);
    assert!(close(more.got, 10.0) && more.random.is_some_and(|ends| close(Some(ends[0]), 5.0)), "{more:?}");
    // Every seed falls by the same, so that no test has an answer; with a spread it has.
    assert_eq!(more.verdict, Verdict::Undecided);
    let onto =
        |rank: usize, seed: usize| onto(rank, seed) * if rank > 4 { 1.0 + 0.02 * (seed % 2) as f64 } else { 1.0 };
    let beside = |factor: f64| {
        found("lora-t7-amplification", &amplified(onto, [(4, 0.04, 0.0), (64, 0.04 * factor * factor, 0.0)]))
    };
    let (more, less) = (beside(5.0), beside(20.0));
    assert_eq!((&more.verdict, &less.verdict), (&Verdict::Holds, &Verdict::DoesNotHold));
    assert_eq!((more.got, more.interval), (less.got, less.interval), "what was found does not depend on chance");
    assert!(less.remark.as_ref().unwrap().starts_with("the fall is 0.50"), "{less:?}");
    let over = found("lora-t7-over-random", &amplified(onto, [(4, 0.04, 0.0), (64, 4.0, 0.0)]));
    assert!(over.got.is_some_and(|got| (2.0..2.2).contains(&got)) && over.verdict == Verdict::Holds, "{over:?}");
    // Every row has 1 on W's own directions and 0.2 on random ones at rank 4.
    assert!(over.remark.as_ref().unwrap().ends_with("W's own directions would have 5.00"), "{over:?}");
}

/// Updates whose directions are drawn have no excess: the fall lies in its band, where it was ten and more in every one of them.
#[test]
fn random_directions_stay_within_their_band() {
    let mut gaussian = crate::subspace::random::Gaussian::new(5);
    let w = gaussian.matrix(96, 80);
    let (repetitions, seeds) = (150, 4);
    let draw =
        |r: usize| crate::subspace::projection::random_projections(&w, r, repetitions * seeds, 7 + r as u64).unwrap();
    let norms = [draw(4), draw(64)];
    let drawn = |r: usize, norms: &[f64]| {
        let n = norms.len() as f64;
        let mean = norms.iter().map(|norm| norm * norm).sum::<f64>() / n;
        let variance = norms.iter().map(|norm| (norm * norm - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (r, mean, (variance / 400.0).sqrt())
    };
    let column = [drawn(4, &norms[0]), drawn(64, &norms[1])];
    // The second-order mean and variance of the logarithm against the drawn ones.
    for (norms, (_, square, error)) in norms.iter().zip(column) {
        let n = norms.len() as f64;
        let mean = norms.iter().map(|norm| norm.ln()).sum::<f64>() / n;
        let variance = norms.iter().map(|norm| (norm.ln() - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let [expected, spread] = amplification::logarithm(square, error, 400.0);
        assert!((mean - expected).abs() < 0.01, "{mean} is not {expected}");
        assert!((variance / spread - 1.0).abs() < 0.25, "{variance} is not {spread}");
    }
    let (mut beyond, mut held) = (0, 0);
    for repetition in 0..repetitions {
        let onto = |rank: usize, seed: usize| norms[usize::from(rank > 4)][repetition * seeds + seed];
        let found = found("lora-t7-amplification", &amplified(onto, column));
        assert!(found.got.unwrap() > 8.0, "{found:?}");
        beyond += usize::from(found.got > found.random.map(|ends| ends[1]));
        held += usize::from(found.verdict == Verdict::Holds);
    }
    // 2.5% of 150 are 3.75; more than 9 would be a chance of one in a hundred.
    assert!((1..=9).contains(&beyond) && held <= 9, "{beyond} beyond the band, {held} held");
}

#[test]
fn sampled_squares_are_compared_with_their_expectation() {
    let header = "map,r,draws,mean_square,standard_error,expected";
    let sampled =
        |mean: f64| with("lora_subspace", "random_column", rows(header, &[format!("{QUERY},4,400,{mean},0.01,1.0")]));
    assert_eq!(found("lora-t7-random-samples", &sampled(1.03)).verdict, Verdict::Holds);
    assert_eq!(found("lora-t7-random-samples", &sampled(1.05)).verdict, Verdict::DoesNotHold);
}

fn close(got: Option<f64>, want: f64) -> bool {
    got.is_some_and(|got| (got - want).abs() < 1e-9 * want.abs())
}

/// What an interval of its own would decide, its family may not.
#[test]
fn claims_about_one_study_are_corrected_together() {
    let header = "task,variant,rank,side,layer,kind,k,n,mean,ci_low,ci_high,random_mean";
    let seeds =
        |high: f64| rows(header, &[format!("mnli,lora,64,a,,query minus value,8,4,-0.018,{},{high},", -0.036 - high)]);
    let key = ("lora_subspace".to_owned(), "seeds".to_owned());
    let alone = with("lora_subspace", "seeds", seeds(-0.002));
    assert_eq!(found("lora-f4-q-over-v", &alone).verdict, Verdict::DoesNotHold);
    let mut beside = overlaps(0.49, false);
    beside.tables.insert(key, seeds(-0.002));
    let found = found("lora-f4-q-over-v", &beside);
    assert_eq!(found.verdict, Verdict::Undecided, "{found:?}");
    assert_eq!(found.interval.map(|ends| ends[1]), Some(-0.002));
}

/// scipy 1.17: `ttest_ind(a, -b, equal_var=False)` tests the mean of two means with Satterthwaite's degrees of freedom.
#[test]
fn runs_of_two_tasks_are_no_independent_runs() {
    let (one, other) = ([1.4, 0.9, 1.27], [0.9, -0.35, 0.2]);
    let by_seed = |values: [f64; 3]| (0..).zip(values).collect::<BTreeMap<u64, f64>>();
    let pooled = pruning::pooled(&[by_seed(one), by_seed(other)]).unwrap();
    assert!((pooled.freedom - 2.666_271_338_483_95).abs() < 1e-9 && pooled.n == 3, "{pooled:?}");
    assert!((pooled.p_of(0.0).unwrap() - 0.042_310_037_741_463_045).abs() < 1e-9);
    let six = Estimate::of(&[one, other].concat()).unwrap();
    assert!((six.freedom, six.n) == (5.0, 6) && (six.difference - pooled.difference).abs() < 1e-12);
    assert_eq!(pruning::pooled(&[]), None);
}

#[test]
fn a_method_beside_the_baseline_has_the_verdict_of_the_studys_own_table() {
    // Two rows that differ by nothing but noise, and one that is 5 points below. Tasks have whatever names the records give them.
    let records = |[one, same, below]: [&str; 3]| -> Vec<RunRecord> {
        let of_seed = |seed: u64| {
            [("blue", 0.0), ("green", 0.1)].into_iter().flat_map(move |(task, shift)| {
                let score = move |at: u64| 0.002 * ((seed * 7 + at * 3) % 5) as f64 + shift;
                let rank = |label: &str| if label == "vera" { 256 } else { 8 };
                [(one, 0.8 + score(0)), (same, 0.8 + score(1)), (below, 0.75 + score(2))]
                    .map(|(label, score)| run(task, label, rank(label), seed, score))
            })
        };
        (0..10).flat_map(of_seed).collect()
    };
    let evidence = |records: Vec<RunRecord>, baseline: Option<&str>| Evidence {
        records: BTreeMap::from([("compare_tuned".to_owned(), records)]),
        studies: BTreeMap::from([(
            "compare_tuned".to_owned(),
            Study { baseline: baseline.map(str::to_owned), ..Study::default() },
        )]),
        ..Evidence::default()
    };
    let all = evidence(records(["lora", "vera", "lora_plus"]), Some("lora"));
    let (level, worse) = (found("vera-t2", &all), found("lora-plus-better", &all));
    assert_eq!((&level.verdict, &worse.verdict), (&Verdict::Holds, &Verdict::DoesNotHold), "{level:?} {worse:?}");
    let remark = level.remark.unwrap();
    assert!(remark.starts_with("`vera` is equivalent in `compare_tuned`, with 9437184 trained"), "{remark}");
    assert!((worse.got.unwrap() + 5.0).abs() < 0.5 && worse.n == 10, "{worse:?}");
    // Better is as good as level; equivalent is not better.
    let swapped = evidence(records(["lora_plus", "vera", "lora"]), Some("lora"));
    assert_eq!(found("vera-t2", &swapped).verdict, Verdict::Holds);
    assert_eq!(found("lora-plus-better", &swapped).verdict, Verdict::Holds);
    let alike = evidence(records(["lora", "lora_plus", "vera"]), Some("lora"));
    assert_eq!(found("lora-plus-better", &alike).verdict, Verdict::DoesNotHold);
    assert_eq!(found("vera-t2", &alike).verdict, Verdict::DoesNotHold);
    let none = found("vera-t2", &evidence(vec![run("blue", "vera", 256, 0, 0.5)], Some("lora")));
    assert!(matches!(none.verdict, Verdict::NotTestable(_)), "{none:?}");
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
        Evidence { records: BTreeMap::from([("dylora_tuned".to_owned(), records)]), ..Evidence::default() };
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
            let finding = found(&target.id, &evidence);
            (target, finding)
        })
        .collect();
    let shown = crate::render::text(&table(&judged));
    assert!(shown.contains("needs GPT-2 medium and GPT-3"), "{shown}");
}

/// Seeds of 10 and 20 GB saved 3 and 4 GB: shares of .3 and .2, mean .25.
#[test]
fn memory_is_compared_between_runs_that_trained_alone() {
    let gib = 1u64 << 30;
    let of = |variant: &str, seed: u64, gibibytes: u64, companions: usize| {
        let mut record = run("answer", variant, 8, seed, 0.5);
        record.measured.peak_memory_bytes = Some(gibibytes * gib);
        record.cohort.members = (0..=companions).map(|at| format!("{variant}-{seed}-{at}")).collect();
        record
    };
    let records = |companions| {
        vec![of("lora", 0, 10, 0), of("lora", 1, 20, 0), of("lora_fa", 0, 7, 0), of("lora_fa", 1, 16, companions)]
    };
    let evidence =
        |records| Evidence { records: BTreeMap::from([("lora_fa_memory".to_owned(), records)]), ..Evidence::default() };
    let both = found("lora-fa-memory", &evidence(records(0)));
    assert!(both.n == 2 && (both.got.unwrap() - 0.25).abs() < 1e-12, "{both:?}");
    // The peak of a cohort is no run's own, and one seed has no interval.
    let one = found("lora-fa-memory", &evidence(records(1)));
    assert!(one.n == 1 && one.verdict == Verdict::Undecided, "{one:?}");
    assert_eq!(
        both.remark.as_deref(),
        Some("judged by whether `lora_fa` saves anything, not by how much the paper has")
    );
}

/// What a finding says is absent is absent, and what is there is not named.
#[test]
fn only_what_is_missing_is_said_to_be_missing() {
    let reason = |found: Finding| match found.verdict {
        Verdict::NotTestable(reason) => reason,
        other => unreachable!("{other:?}"),
    };
    let study = |labels: [&str; 2]| Study {
        name: "survey".into(),
        tasks: vec!["cola".into()],
        variants: labels.map(str::to_owned).to_vec(),
        baseline: Some("lora".into()),
        ..Study::default()
    };
    let of = |labels: &[&str]| Evidence {
        records: BTreeMap::from([(
            "survey".to_owned(),
            labels.iter().flat_map(|label| (1..=3).map(|seed| run("cola", label, 8, seed, 0.5))).collect(),
        )]),
        studies: BTreeMap::from([("survey".to_owned(), study(["lora", "pissa"]))]),
        ..Evidence::default()
    };
    assert_eq!(reason(found("survey-pissa", &of(&["pissa"]))), "`survey` has no runs of `lora`");
    assert_eq!(reason(found("survey-pissa", &of(&["lora"]))), "`survey` has no runs of `pissa`");
    assert_eq!(reason(found("survey-pissa", &of(&["dora"]))), "`survey` has no runs of `pissa` and of `lora`");
    assert_eq!(reason(found("survey-init-b", &of(&["lora"]))), "`survey` has no runs of `init_b` at rank 8");
    // The variant is in the table, without the map.
    let header = "task,variant,rank,seed,map,onto_update,onto_random,onto_base";
    let line = |map: &str| format!("mnli,lora,4,0,encoder.layer.0.attention.self.{map},1,2,3");
    let projection = |map: &str| with("lora_subspace", "projection", rows(header, &[line(map)]));
    let said = reason(found("lora-t7-over-random", &projection("value")));
    assert_eq!(said, "the analysis of `lora_subspace` has no map `query` of `lora` at rank 4");
    let said = reason(found(
        "lora-t7-over-random",
        &with("lora_subspace", "projection", rows(header, &[line("query").replace("lora", "dora")])),
    ));
    assert_eq!(said, "the analysis of `lora_subspace` has no `lora` at rank 4");
    let said = reason(found(
        "lora-f3-row-q",
        &with("lora_subspace", "overlap", rows("map,j,random_mean", &["x,1,0.1".to_owned()])),
    ));
    assert_eq!(said, "the analysis of `lora_subspace` has no overlap of `query`");
}
