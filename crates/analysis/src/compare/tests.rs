//! Comparisons of made-up records.

use record::{Contrast, Readout, RunRecord};

use super::*;
use crate::summary::tests::{failed, run};
use crate::summary::{Selection, summarise};

mod decisions;

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
    let table = summarise(records, Selection::Last).unwrap();
    compare(&table, "validation", baseline, &Rules::default()).unwrap().comparisons
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
    assert_eq!(verdicts, [("dora", Verdict::Better), ("pissa", Verdict::Equivalent), ("vera", Verdict::Worse)]);
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
    let error = compare(&table, "validation", &lora(Some(4)), &Rules::default()).unwrap_err();
    insta::assert_snapshot!(error, @r"
    task `cola`: no row `lora` at rank 4 to compare with; name a baseline variant and rank among `bitfit` at rank 0, `lora` at rank 8
    ");
    assert_eq!(compared(&records, &lora(Some(8))).len(), 1);
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
        equivalence: None,
    };
    let rules = Rules::default();
    let found =
        contrast(&table, "validation", &[ask("dora", "lora"), ask("vera", "dora")], &rules).unwrap().comparisons;
    let rows: Vec<_> = found.iter().map(|c| (c.task.as_str(), c.variant.as_str(), c.baseline.as_str())).collect();
    // Only cola has vera, so the second question has no average.
    let expected = [("cola", "dora", "lora"), ("rte", "dora", "lora"), ("cola", "vera", "dora")];
    assert_eq!(rows, [&expected[..], &[(ALL_TASKS, "dora", "lora")]].concat());
    // Equal differences on the same pairs test alike, whatever the family; Holm's factor is the family's size.
    let all = compared(&records.concat(), &lora(None));
    assert_eq!(found[0].t_p, all.iter().find(|c| c.task == "cola" && c.variant == "dora").unwrap().t_p);
    assert!(found[0].holm_p.unwrap() <= 4.0 * found[0].t_p.unwrap() + 1e-15);
    assert!(contrast(&table, "validation", &[ask("dora", "pissa")], &rules).is_err());
}

/// `dora` on `seeds` of every task, with a gain and a spread in points; `lora` is 0.6 everywhere.
fn spread(tasks: &[(&str, f64, f64)], seeds: u64) -> Vec<RunRecord> {
    // Two orders that hardly go together.
    const SWINGS: [[f64; 6]; 2] = [[1.0, -1.0, 0.4, -0.4, 0.9, -0.9], [0.4, 0.9, -0.9, 1.0, -0.4, -1.0]];
    let evaluated = |mut record: RunRecord| {
        record.evaluations.iter_mut().for_each(|evaluation| evaluation.examples = 5000);
        record
    };
    let of = |(at, (task, gain, spread)): (usize, &(&str, f64, f64))| {
        let (task, gain, spread) = ((*task).to_owned(), *gain, *spread);
        (0..seeds).flat_map(move |seed| {
            let value = 0.6 + (gain + spread * SWINGS[at % 2][seed as usize % 6]) / 100.0;
            [run(&task, "lora", 8, seed, 0.6), run(&task, "dora", 8, seed, value)].map(evaluated)
        })
    };
    tasks.iter().enumerate().flat_map(of).collect()
}

fn asked(records: &[RunRecord], rules: &Rules, margin: Option<f64>, equivalence: Option<f64>) -> Compared {
    let table = summarise(records, Selection::Last).unwrap();
    let readout = |label: &str| Readout { label: label.into(), rank: 8 };
    let question = Contrast { row: readout("dora"), against: readout("lora"), margin, equivalence };
    contrast(&table, "validation", &[question], rules).unwrap()
}

#[test]
fn equivalence_goes_before_a_difference_that_is_there() {
    let records = spread(&[("cola", 0.5, 0.15)], 6);
    let small = &asked(&records, &Rules::default(), None, None).comparisons[0];
    assert!(small.holm_p.unwrap() < 0.05 && small.equivalence_p.unwrap() < 0.05);
    assert_eq!(small.verdict, Verdict::Equivalent);
    // A margin of its own that is smaller than the difference, and the experiment's.
    let own = &asked(&records, &Rules::default(), None, Some(0.4)).comparisons[0];
    assert_eq!((own.verdict, own.equivalence), (Verdict::Better, 0.004));
    let rules = Rules { equivalence: 0.4, ..Rules::default() };
    assert_eq!(asked(&records, &rules, None, None).comparisons[0].verdict, Verdict::Better);
    let loose = &asked(&spread(&[("cola", 0.5, 3.0)], 6), &Rules::default(), None, None).comparisons[0];
    assert_eq!(loose.verdict, Verdict::Undecided);
    assert!(loose.detectable.unwrap() > 0.03 && loose.seeds_needed.unwrap() > 6, "{loose:?}");
}

#[test]
fn the_averages_are_a_family_of_their_own_unless_the_experiment_names_another() {
    let records = spread(&[("cola", 2.0, 1.0), ("rte", 2.0, 1.0), ("mrpc", 2.0, 1.0)], 6);
    let of = |compared: &Compared, family: Family| -> Vec<String> {
        let own = compared.comparisons.iter().filter(|c| c.family == family);
        own.map(|comparison| comparison.task.clone()).collect()
    };
    let plain = asked(&records, &Rules::default(), None, None);
    assert_eq!(of(&plain, Family::Primary), [ALL_TASKS]);
    assert_eq!(of(&plain, Family::Secondary), ["cola", "mrpc", "rte"]);
    // Alone in its family, the average needs no correction; the smallest of three is multiplied by three.
    let average = plain.comparisons.last().unwrap();
    assert_eq!(average.holm_p, average.t_p);
    let smallest = plain.comparisons[..3].iter().map(|c| c.t_p.unwrap()).fold(1.0, f64::min);
    let adjusted = plain.comparisons[..3].iter().map(|c| c.holm_p.unwrap()).fold(1.0, f64::min);
    assert!((adjusted - 3.0 * smallest).abs() < 1e-12);
    let rules = Rules { primary: vec!["rte".to_owned()], ..Rules::default() };
    assert_eq!(of(&asked(&records, &rules, None, None), Family::Primary), ["rte"]);
    let one = asked(&spread(&[("cola", 2.0, 1.0)], 6), &Rules::default(), None, None);
    assert_eq!(of(&one, Family::Primary), ["cola"]);
}

#[test]
fn averages_add_the_variances_of_tasks_unless_these_go_together() {
    let records = spread(&[("cola", 2.0, 1.0), ("rte", 1.0, 1.0)], 6);
    let apart = asked(&records, &Rules::default(), None, None);
    assert!(matches!(apart.averages, Averages::Stratified(Some(_))), "{:?}", apart.averages);
    let [cola, rte, average] = &apart.comparisons[..] else { panic!("{apart:?}") };
    let half = |c: &Comparison| c.ci_high.unwrap() - c.difference;
    // Ten degrees of freedom in place of five, and the errors of two tasks.
    let (five, ten) = (2.570_581_835_636_314, 2.228_138_851_964_939);
    let errors = (half(cola).powi(2) + half(rte).powi(2)).sqrt() / 2.0 / five;
    assert!((half(average) - errors * ten).abs() < 1e-9, "{} {}", half(average), errors * ten);
    // Differences that are the same on both tasks count once.
    let mut twice = spread(&[("cola", 2.0, 1.0)], 6);
    twice.extend(spread(&[("rte", 2.0, 1.0)], 6));
    let tied = asked(&twice, &Rules::default(), None, None);
    assert!(matches!(tied.averages, Averages::BySeed(_)), "{:?}", tied.averages);
    assert!((half(&tied.comparisons[2]) - half(&tied.comparisons[0])).abs() < 1e-9);
}

#[test]
fn a_margin_is_reached_by_the_interval_and_not_by_the_point() {
    let reached = |gain: f64, spread_points: f64, margin: f64| {
        let found = asked(&spread(&[("cola", gain, spread_points)], 6), &Rules::default(), Some(margin), None);
        let c = &found.comparisons[0];
        // Alone in its family, the interval's end says the same.
        let by_interval = match (c.ci_low.unwrap() * 100.0 > margin, c.ci_high.unwrap() * 100.0 < margin) {
            (true, _) => Reached::Yes,
            (_, true) => Reached::No,
            _ => Reached::Undecided,
        };
        assert_eq!(c.reached, Some(by_interval));
        by_interval
    };
    assert_eq!(reached(8.0, 1.0, 5.0), Reached::Yes);
    assert_eq!(reached(5.5, 3.0, 5.0), Reached::Undecided);
    assert_eq!(reached(2.0, 1.0, 5.0), Reached::No);
    assert_eq!(reached(-2.0, 0.5, -3.0), Reached::Yes);
    // Where less is better, a fall is the gain.
    let mut records = spread(&[("wikitext", -8.0, 1.0)], 6);
    for record in &mut records {
        record.primary_metric.goal = Goal::Minimise;
    }
    let fallen = &asked(&records, &Rules::default(), Some(5.0), None).comparisons[0];
    assert_eq!((fallen.reached, fallen.verdict), (Some(Reached::Yes), Verdict::Better));
}
