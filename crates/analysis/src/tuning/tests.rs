//! What a tuning's table and figures say, and the expected best against its definition.

use std::collections::BTreeMap;

use record::TuningGroup;
use serde_json::json;

use super::*;

fn trial(rate: f64, alpha: f64, scores: [f64; 2]) -> Trial {
    let setting =
        BTreeMap::from([("train.learning_rate".to_owned(), json!(rate)), ("with.alpha".to_owned(), json!(alpha))]);
    Trial { setting: Setting(setting), rungs: Vec::new(), scores: scores.map(Some).to_vec() }
}

fn tuned() -> Tuned {
    let group = |variant: &str, best: f64| TunedGroup {
        group: TuningGroup { task: Some("cola".to_owned()), variant: variant.to_owned(), rank: Some(8) },
        trials: vec![
            trial(1e-3, 8.0, [0.5, 0.6]),
            trial(1e-3, 16.0, [0.4, 0.5]),
            trial(3e-3, 8.0, [best, best]),
            trial(3e-3, 16.0, [0.1, 0.2]),
        ],
        chosen: 2,
        edges: BTreeMap::from([("train.learning_rate".to_owned(), End::Upper)]),
    };
    Tuned::new("h".to_owned(), vec![100, 101], 0.2, Goal::Maximise, vec![group("lora", 0.7), group("dora", 0.8)])
}

fn study() -> Study {
    Study { name: "x".to_owned(), tasks: vec!["cola".to_owned()], ..Study::default() }
}

/// Against the definition: the mean over all n^k draws of k scores.
#[test]
fn the_expected_best_is_the_mean_over_all_draws() {
    let scores = [0.3, 0.9, 0.5, 0.5];
    for (goal, better) in [(Goal::Maximise, f64::max as fn(f64, f64) -> f64), (Goal::Minimise, f64::min)] {
        let expected = expected_of_best(&scores, goal);
        for (at, expected) in expected.iter().enumerate() {
            let k = at + 1;
            let draws = scores.len().pow(k as u32);
            let best = |mut draw: usize| {
                let mut best = scores[draw % scores.len()];
                for _ in 0..k {
                    best = better(best, scores[draw % scores.len()]);
                    draw /= scores.len();
                }
                best
            };
            let mean = (0..draws).map(best).sum::<f64>() / draws as f64;
            assert!((expected - mean).abs() < 1e-12, "k = {k}: {expected} is not {mean}");
        }
    }
    assert!(expected_of_best(&[], Goal::Maximise).is_empty());
}

#[test]
fn the_table_says_what_was_chosen_and_where_it_lies() {
    let table = tuning_table(&study(), &tuned());
    let row: Vec<String> = table.blocks[0].rows[0]
        .iter()
        .map(|entry| match entry {
            Entry::Text(text) => text.clone(),
            other => unreachable!("{other:?}"),
        })
        .collect();
    // Means .55, .45, .7, .15: the best of two draws is worth (.15 + 3·.45 + 5·.55 + 7·.7)/16.
    let expected =
        ["cola", "lora", "8", "learning_rate 0.003, alpha 8.0", "4", "70.00", "57.19", "learning_rate (upper)"];
    assert_eq!(row, expected);
    assert_eq!(
        sentence(&tuned()),
        "Tuned for every row: alpha, learning rate, 4 settings of 2 seeds each, on a split cut from train; 2 of 2 lie at an edge of what was tried."
    );
}

#[test]
fn figures_show_the_best_at_every_rate() {
    let points = over(&tuned().groups[0], "train.learning_rate", Goal::Maximise, None);
    let values: Vec<(f64, f64)> = points.iter().map(|(x, measured)| (*x, measured.value)).collect();
    assert_eq!(values.iter().map(|value| value.0).collect::<Vec<_>>(), [1e-3, 3e-3]);
    assert!((values[0].1 - 55.0).abs() < 1e-9 && (values[1].1 - 70.0).abs() < 1e-9, "{values:?}");
    let names: Vec<String> = figures(&study(), &tuned()).into_iter().map(|named| named.name).collect();
    assert_eq!(names, ["sensitivity", "budget"]);
    for named in figures(&study(), &tuned()) {
        crate::figure::render(&named.figure).unwrap();
    }
}

#[test]
fn responses_have_every_seed_of_the_best_setting_at_a_value() {
    let tuned = tuned();
    let found = fields(&tuned);
    assert_eq!(found[0], "train.learning_rate");
    let response = &responses(&tuned, "train.learning_rate")[0];
    assert_eq!(response.group, tuned.groups[0].group);
    let over = over(&tuned.groups[0], "train.learning_rate", Goal::Maximise, None);
    for ((x, scores), (at, measured)) in response.points.iter().zip(over) {
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        assert_eq!((*x, scores.len()), (at, 2));
        assert!((100.0 * mean - measured.value).abs() < 1e-9, "{scores:?}");
    }
    let said = "Other fields were tuned too; at each value stands the best of their settings.";
    assert_eq!(best_of(&tuned, "train.learning_rate"), Some(said));
    assert!(responses(&tuned, "train.batch").is_empty());
}

#[test]
fn what_was_tuned_without_a_number_has_no_axis() {
    let mut tuned = tuned();
    for group in &mut tuned.groups {
        for trial in &mut group.trials {
            trial.setting = Setting(BTreeMap::from([("with.scaling".to_owned(), json!("rank"))]));
        }
    }
    assert!(figures(&study(), &tuned).is_empty());
}

/// The texts of a row.
fn texts_of(row: &[Entry]) -> Vec<String> {
    let text = |entry: &Entry| match entry {
        Entry::Text(text) => text.clone(),
        other => unreachable!("{other:?}"),
    };
    row.iter().map(text).collect()
}

#[test]
fn a_setting_that_failed_is_counted_and_is_a_draw_like_the_others() {
    let mut some_failed = tuned();
    // Means .55, failed, .7, .15.
    some_failed.groups[0].trials[1].scores[1] = None;
    let table = tuning_table(&study(), &some_failed);
    assert_eq!(table.header[4..7], ["trials", "failed", "score"]);
    let row = texts_of(&table.blocks[0].rows[0]);
    // The best of two of four draws, the failed one as the worst: (.15 + 3·.15 + 5·.55 + 7·.7)/16.
    assert_eq!(row[4..8], ["4", "1", "70.00", "51.56"]);
    assert_eq!(texts_of(&table.blocks[0].rows[1])[5], "0");
    assert!(table.notes.iter().any(|note| note.starts_with("Failed: ")), "{:?}", table.notes);
    assert!(sentence(&some_failed).contains("; 1 of 8 settings failed"), "{}", sentence(&some_failed));
    // Where less is better the worst is the greatest.
    assert_eq!(budgeted(&some_failed.groups[0], Goal::Minimise)[1], 0.7);
    // The budget is what was spent.
    let found = figures(&study(), &some_failed);
    let csv = |at: usize| crate::figure::render(&found[at].figure).unwrap().data_csv;
    let points = csv(1).lines().filter(|line| line.starts_with("1,cola,lora,")).count();
    assert_eq!(points, 4, "{}", csv(1));
    // Without a failure nothing is said of any.
    let table = tuning_table(&study(), &tuned());
    assert!(table.notes.len() == 1 && !table.header.contains(&"failed".to_owned()), "{table:?}");
}

#[test]
fn a_tie_is_said() {
    let mut tied = tuned();
    tied.groups[1].trials[0].scores = vec![Some(0.8), Some(0.8)];
    tied.groups[1].chosen = 0;
    let found = tuning_table(&study(), &tied).notes.pop().unwrap();
    assert_eq!(
        found,
        "Ties: the best score is that of 2 of 4 settings of cola/dora rank 8; the first that was tried is taken."
    );
}

#[test]
fn a_small_share_is_not_nothing() {
    let shown = [0.2, 0.25, 0.07, 0.29, 0.005, 1e-12, 0.999_999_999].map(percent);
    assert_eq!(shown, ["20", "25", "7", "29", "0.5", "1e-10", "99.9999999"]);
}

/// Nine settings, three rungs of which two are shown, and one that was added beyond the end.
#[test]
fn a_halving_shows_its_rungs_and_no_budget() {
    let at = |rate: f64, rungs: &[f64], scores: &[f64]| Trial {
        rungs: rungs.iter().map(|score| vec![Some(*score), Some(score + 0.02)]).collect(),
        scores: scores.iter().flat_map(|score| [Some(*score), Some(score + 0.02)]).collect(),
        ..trial(rate, 8.0, [0.0, 0.0])
    };
    let mut halved = tuned().halved(Some(Halving { factor: 2, rungs: 3 }));
    halved.groups.truncate(1);
    halved.groups[0].trials = vec![
        at(1e-3, &[0.1], &[]),
        at(3e-3, &[0.3, 0.5], &[]),
        at(1e-2, &[0.4, 0.6], &[0.7]),
        at(3e-2, &[0.2], &[]),
        at(1e-1, &[], &[0.8]),
    ];
    halved.groups[0].chosen = 4;
    let table = crate::render::text(&tuning_table(&study(), &halved));
    assert!(
        table.contains("at each rung") && table.contains("4, 2, 1 + 1") && !table.contains("half the trials"),
        "{table}"
    );
    assert!(table.contains("trained for 1/4 and 1/2 of the steps, and for all of them, each time anew; the best 1/2 goes on, and what was"), "{table}");
    assert!(!table.contains("failed"), "dropped is not failed: {table}");
    assert!(sentence(&halved).contains(
        "5 settings of 2 seeds each by successive halving (the best 1/2 goes on after 1/4 and 1/2 of the steps)"
    ));
    let drawn = figures(&study(), &halved);
    assert_eq!(drawn.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["sensitivity"]);
    // The first rung has a score of every setting that began there, and only of those.
    let points = over(&halved.groups[0], "train.learning_rate", Goal::Maximise, None);
    let points: Vec<(f64, f64)> =
        points.into_iter().map(|(x, score)| (x, (10.0 * score.value).round() / 10.0)).collect();
    assert_eq!(points, [(1e-3, 11.0), (3e-3, 31.0), (1e-2, 41.0), (3e-2, 21.0)]);
    halved.groups[0].trials[0].rungs[0][1] = None;
    let table = crate::render::text(&tuning_table(&study(), &halved));
    assert!(table.contains("failed") && !table.contains("in half the trials"), "{table}");
}

/// Drawn values lie anywhere: a line joins the best of each third of a decade.
#[test]
fn drawn_rates_are_shown_by_the_best_in_each_third_of_a_decade() {
    let mut drawn = tuned();
    let rates = [1.1e-3, 1.5e-3, 2.1e-3, 2.2e-3, 3e-3, 4e-3, 4.6e-3, 4.7e-3, 6e-3, 8e-3, 9.9e-3];
    let score = |rate: f64| if rate == 2.1e-3 || rate == 3e-3 || rate == 6e-3 { 0.9 } else { 0.5 };
    drawn.groups[0].trials = rates.iter().map(|rate| trial(*rate, 8.0, [score(*rate), score(*rate) + 0.02])).collect();
    let shown = |bins| over(&drawn.groups[0], "train.learning_rate", Goal::Maximise, bins);
    assert!(are_many(&drawn, "train.learning_rate") && !are_many(&tuned(), "train.learning_rate"));
    assert_eq!(shown(None).len(), rates.len());
    let thirds = shown(Some(3.0));
    // Bins end at 10^(-8/3) = 2.154e-3 and 10^(-7/3) = 4.642e-3; their middles lie a sixth of a decade beyond where they begin.
    let middles = [1e-3, 2.154_434_69e-3, 4.641_588_83e-3].map(|from| from * 10_f64.powf(1.0 / 6.0));
    assert_eq!(thirds.len(), 3, "{thirds:?}");
    for ((x, score), middle) in thirds.iter().zip(middles) {
        // Nine digits of the middles are written.
        assert!((x / middle - 1.0).abs() < 1e-8 && (score.value - 91.0).abs() < 1e-9, "{x} {score:?}");
    }
    let notes = &figures(&study(), &drawn)[0].figure;
    assert!(format!("{notes:?}").contains("in each third of a decade stands the best setting"));
}
