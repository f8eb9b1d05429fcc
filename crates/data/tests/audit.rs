//! Faults planted in the splits of a task, each found and none imagined.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use data::audit::{notes, notes_of_cut};
use data::holdout::Holdout;
use data::metric::Metric;
use data::suite;
use data::task::{Dataset, Example, Objective, TaskInfo};

/// A number that looks drawn, from 0 to `below`.
fn drawn(row: usize, below: usize) -> usize {
    let mut z = (row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678_9ABC_DEF1);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) % below as u64) as usize
}

fn example(first: String, label: usize) -> Example {
    Example { first, second: None, label: label as f32 }
}

/// Texts of drawn lengths with drawn labels: nothing to be found.
fn innocent(rows: usize, classes: usize) -> Vec<Example> {
    let row = |row: usize| example(format!("{row} {}", "x".repeat(drawn(row, 40))), drawn(row + 7_000_000, classes));
    (0..rows).map(row).collect()
}

fn dataset(train: Vec<Example>, dev: Vec<Example>, objective: Objective) -> Dataset {
    let info = TaskInfo {
        name: "t".to_owned(),
        doc: String::new(),
        objective,
        metrics: vec![Metric::Accuracy],
        splits: vec!["dev".to_owned()],
        pair: false,
    };
    Dataset { info, train, evaluation: vec![("dev".to_owned(), dev)], test: Vec::new() }
}

fn classes(labels: &[&str]) -> Objective {
    Objective::Classification { labels: labels.iter().map(|&label| label.to_owned()).collect() }
}

fn other_texts(rows: usize, n_classes: usize) -> Vec<Example> {
    (0..rows).map(|row| example(format!("dev {row}"), row % n_classes)).collect()
}

#[test]
fn innocent_splits_have_no_notes() {
    for (rows, n, labels) in [(100, 2, &["a", "b"][..]), (500, 2, &["a", "b"]), (5000, 3, &["a", "b", "c"])] {
        let found = notes(&dataset(innocent(rows, n), other_texts(30, n), classes(labels)));
        assert_eq!(found, [] as [&str; 0], "{rows} rows");
    }
    let scores = Objective::Regression { low: 0.0, high: 5.0 };
    assert_eq!(notes(&dataset(innocent(500, 6), other_texts(30, 6), scores)), [] as [&str; 0]);
    // The suite that comes with the build keeps its own promises.
    for task in suite::tasks(suite::GLUE_MINI).unwrap() {
        let found = notes(&suite::load(suite::GLUE_MINI, &task.name).unwrap());
        assert_eq!(found, [] as [&str; 0], "{}", task.name);
    }
}

#[test]
fn texts_of_dev_that_train_has_are_counted() {
    let train = innocent(100, 2);
    let mut dev = other_texts(8, 2);
    dev.extend_from_slice(&train[3..5]);
    let mut planted = dataset(train.clone(), dev, classes(&["a", "b"]));
    planted.test = vec![train[0].clone()];
    let note = |split: &str, count: &str| {
        format!("{split}: texts that train has as well: {count}; its metrics count what was seen in training")
    };
    assert_eq!(notes(&planted), [note("dev", "2 of 10"), note("test", "1 of 1")]);
    // A pair is the same only where both texts are.
    let pair = |second: &str| Example { second: Some(second.to_owned()), ..train[0].clone() };
    let pairs = dataset(vec![pair("x"), pair("y")], vec![pair("z"), example("q".to_owned(), 1)], classes(&["a", "b"]));
    assert!(notes(&pairs).iter().all(|note| !note.contains("as well")), "{:?}", notes(&pairs));
    // A split without labels has no metrics; what is predicted for it was learnt all the same.
    let unlabelled = |example: &Example| Example { label: f32::NAN, ..example.clone() };
    let mut of_test = dataset(train.clone(), other_texts(8, 2), classes(&["a", "b"]));
    of_test.test = train[..3].iter().chain(&other_texts(2, 2)).map(unlabelled).collect();
    let wanted = "test: texts that train has as well: 3 of 5; it has no labels, so that no metric counts them, but their labels in train \
                  were learnt";
    assert_eq!(notes(&of_test), [wanted]);
}

#[test]
fn a_class_that_dev_lacks_is_named() {
    let dev = other_texts(30, 2);
    let found = notes(&dataset(innocent(100, 3), dev, classes(&["a", "b", "c"])));
    assert_eq!(found, ["dev: no row has the label `c`; its metrics say nothing of it"]);
}

#[test]
fn labels_that_a_rows_place_gives_away_are_noted() {
    let of = |label: fn(usize) -> usize| {
        let mut train = innocent(600, 2);
        train.iter_mut().enumerate().for_each(|(row, example)| example.label = label(row) as f32);
        notes(&dataset(train, other_texts(30, 2), classes(&["a", "b"])))
    };
    let note = |percent: usize| {
        format!(
            "train: a row's place in the file alone takes off {percent}% of the errors of guessing the most frequent label (said from \
             50% on): rows are sorted by their label or come in a cycle; see to it that no text holds the number of its row"
        )
    };
    assert_eq!(of(|row| row / 300), [note(100)], "sorted");
    assert_eq!(of(|row| row % 2), [note(100)], "in turns");
    assert_eq!(of(|row| usize::from(row % 3 == 0)), [note(100)], "every third");
    // One row in ten breaks the order.
    assert_eq!(of(|row| if drawn(row, 10) == 0 { 1 - row / 300 } else { row / 300 }).len(), 1);
    // Half of the rows have drawn labels: a quarter of the errors is left of a guess's half.
    assert_eq!(of(|row| if row % 2 == 0 { drawn(row, 2) } else { drawn(row + 1, 2) }).len(), 0);
}

#[test]
fn labels_that_a_length_gives_away_are_noted() {
    let text = |row: usize| format!("{row:04} {}", "x".repeat(drawn(row, 40)));
    let long = |text: &str| usize::from(text.len() > 25);
    let train: Vec<Example> = (0..600).map(text).map(|text| example(text.clone(), long(&text))).collect();
    let found = notes(&dataset(train, other_texts(30, 2), classes(&["a", "b"])));
    let [note] = &found[..] else { panic!("{found:?}") };
    assert!(note.starts_with("train: the length of a text alone takes off "), "{note}");
    assert!(note.ends_with(": a model may learn lengths in place of the task; even them out between labels"), "{note}");
    // The second text alone gives it away, the sum of both does not.
    let pair = |row: usize| {
        let label = drawn(row + 9_000, 2);
        let second = "y".repeat(10 + 3 * label);
        Example {
            first: format!("{row:04} {}", "x".repeat(drawn(row, 200))),
            second: Some(second),
            label: label as f32,
        }
    };
    let found = notes(&dataset((0..600).map(pair).collect(), other_texts(30, 2), classes(&["a", "b"])));
    assert!(found.len() == 1 && found[0].contains("takes off 100%"), "{found:?}");
    // A score that grows with the length.
    let scored = |row: usize| Example { label: text(row).len() as f32, ..example(text(row), 0) };
    let scores = Objective::Regression { low: 0.0, high: 50.0 };
    let found = notes(&dataset((0..600).map(scored).collect(), other_texts(30, 2), scores));
    assert!(found.len() == 1 && found[0].contains("% of the variance of the scores"), "{found:?}");
}

#[test]
fn a_split_cut_from_train_says_its_size_what_it_shares_and_what_it_lacks() {
    // Ten texts, each six times, and one text of a third class, which stays in training.
    let mut train: Vec<Example> = (0..60).map(|row| example(format!("text {}", row % 10), row % 2)).collect();
    train.push(example("alone".to_owned(), 2));
    let whole = dataset(train, other_texts(9, 3), classes(&["a", "b", "rare"]));
    let cut = Holdout { share: 0.2, seed: 100 }.cut(whole).unwrap();
    let found = notes_of_cut(&cut, 100);
    let [size, shared, absent] = &found[..] else { unreachable!("three notes: {found:?}") };
    assert_eq!(size, "t, tune: settings are chosen on 12 of 61 training examples");
    assert_eq!(
        shared,
        "t, tune of seed 100: texts that train has as well: 12 of 12; its metrics count what was seen in training"
    );
    assert_eq!(absent, "t, tune of seed 100: no row has the label `rare`; its metrics say nothing of it");
    // Texts that are all different, and classes that are all there: the size alone.
    let plain = dataset(innocent(100, 2), other_texts(9, 2), classes(&["a", "b"]));
    let found = notes_of_cut(&Holdout { share: 0.2, seed: 1 }.cut(plain).unwrap(), 1);
    assert_eq!(found.len(), 1, "{found:?}");
}
