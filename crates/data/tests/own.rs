//! A user's own task: what YAML says, what the files say, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/parquet_file.rs"]
mod parquet_file;

use data::metric::Metric;
use data::own::{Kind, OwnTask, examples, load};
use data::source::MemoryFiles;
use data::task::{Example, Loaded, Objective};
use parquet_file::{Column, Compression, bytes as parquet};

const SINGLE: &str = "name: reviews\ntrain: train.csv\ndev: dev.csv\ntext: review\nlabel: stars\n";

fn task(yaml: &str) -> OwnTask {
    serde_yaml::from_str(yaml).unwrap()
}

fn files(train: &str, dev: &str) -> MemoryFiles {
    MemoryFiles::default().with("train.csv", train).with("dev.csv", dev)
}

fn labels(loaded: &Loaded) -> Vec<String> {
    match &loaded.dataset.info.objective {
        Objective::Classification { labels } => labels.clone(),
        Objective::Regression { .. } | Objective::Text => Vec::new(),
    }
}

fn ids(examples: &[Example]) -> Vec<f32> {
    examples.iter().map(|example| example.label).collect()
}

#[track_caller]
fn refused(task: &OwnTask, files: &MemoryFiles, message: &str) {
    assert_eq!(load(task, files).unwrap_err().to_string(), message);
}

#[test]
fn a_task_needs_only_files_and_columns() {
    let files = files("stars,review\n10,\"good, \"\"very\"\"\"\n9,fair\n2,bad\n", "stars,review\n2,awful\n");
    let loaded = load(&task(SINGLE), &files).unwrap();
    let data = &loaded.dataset;
    assert_eq!(labels(&loaded), ["2", "9", "10"]);
    assert_eq!(ids(&data.train), [2.0, 1.0, 0.0]);
    assert_eq!(data.train[0].first, "good, \"very\"");
    assert_eq!((data.train[0].second.clone(), data.info.pair), (None, false));
    assert_eq!((data.evaluation[0].0.as_str(), ids(&data.evaluation[0].1)), ("dev", vec![0.0]));
    assert_eq!((data.info.name.as_str(), data.info.metrics.as_slice()), ("reviews", [Metric::Accuracy].as_slice()));
    assert_eq!(data.info.doc, "Predicts a class, the column `stars` of train.csv.");
    assert_eq!((data.test.len(), loaded.notes.len()), (0, 0));
}

#[test]
fn labels_are_sorted_by_size_or_by_letter_or_as_given() {
    let sorted = |yaml: &str, train: &str| labels(&load(&task(yaml), &files(train, train)).unwrap());
    assert_eq!(sorted(SINGLE, "review,stars\na,10\nb,-1\nc,2.5\n"), ["-1", "2.5", "10"]);
    assert_eq!(sorted(SINGLE, "review,stars\na,10\nb,no\nc,2\n"), ["10", "2", "no"]);
    let given = format!("{SINGLE}labels: [1, no, 0.5, true]\n");
    let loaded = load(&task(&given), &files("review,stars\na,no\n", "review,stars\na,1\n")).unwrap();
    assert_eq!(labels(&loaded), ["1", "no", "0.5", "true"]);
    let note = |label| format!("train.csv: no row has the label `{label}`");
    assert_eq!(loaded.notes, [note("1"), note("0.5"), note("true")]);
}

#[test]
fn every_format_gives_the_same_examples() {
    let yaml = |train: &str| format!("{{name: t, train: {train}, dev: dev.csv, text: a, text_pair: b, label: y}}");
    let dev = "a,b,y\nx,y,1\n";
    let columns =
        [("a", Column::Text(&["\"p", "q"])), ("b", Column::Text(&["r", ""])), ("y", Column::Integer(&[1, 0]))];
    let written: [(&str, Vec<u8>); 5] = [
        ("t.tsv", "\u{feff}a\tb\ty\r\n\"p\tr\t1\r\nq\t\t0\r\n".into()),
        ("t.csv", "y,b,a\n1,r,\"\"\"p\"\n0,,q\n".into()),
        ("t.jsonl", "{\"a\": \"\\\"p\", \"b\": \"r\", \"y\": 1}\n{\"y\": 0, \"a\": \"q\", \"b\": \"\"}\n".into()),
        ("t.parquet", parquet(&columns, Compression::Zstd)),
        ("t.data", "\"p;r;1\nq;;0\n".replace("\"p", "\"\"\"p\"").into()),
    ];
    for (file, bytes) in written {
        let mut task = task(&yaml(file));
        if file == "t.data" {
            task.format = Some(data::table::Format::Csv);
            task.delimiter = Some(';');
            task.columns = Some(["a", "b", "y"].map(str::to_owned).to_vec());
            task.dev = Some("dev.data".to_owned());
        }
        let files = MemoryFiles::default().with(file, bytes).with("dev.csv", dev).with("dev.data", "x;y;1\n");
        let loaded = load(&task, &files).unwrap();
        let example =
            |first: &str, second: &str, label| Example { first: first.into(), second: Some(second.into()), label };
        assert_eq!(loaded.dataset.train, [example("\"p", "r", 1.0), example("q", "", 0.0)], "{file}");
        assert_eq!(loaded.notes, [format!("{file}: rows with an empty text: 1")]);
    }
}

#[test]
fn a_share_of_the_rows_is_held_out_by_their_text() {
    let task = task("{name: t, train: train.csv, dev_share: 0.25, text: a, text_pair: b, label: y}");
    let rows = |n: usize| (0..n).map(|i| format!("text {},{i},{}\n", i / 2, i % 2)).collect::<Vec<_>>();
    let load = |rows: &[String]| load(&task, &files(&format!("a,b,y\n{}", rows.concat()), "")).unwrap();
    let loaded = load(&rows(2000));
    let (train, dev) = (&loaded.dataset.train, &loaded.dataset.evaluation[0].1);
    assert_eq!(train.len() + dev.len(), 2000);
    // Three standard deviations of a binomial of 1000 texts.
    assert!((dev.len() as f64 - 500.0).abs() < 2.0 * 3.0 * (1000.0f64 * 0.25 * 0.75).sqrt(), "{}", dev.len());
    assert!(dev.chunks(2).all(|pair| pair[0].first == pair[1].first), "equal texts stay together");
    assert_eq!(loaded.notes, [format!("train.csv: held out as dev: {} of 2000 rows", dev.len())]);
    // More rows, in another order, move no row to the other side.
    let mut more = rows(3000);
    more.reverse();
    let more = load(&more).dataset.evaluation.remove(0).1;
    assert!(dev.iter().all(|example| more.contains(example)));
}

#[test]
fn labels_of_a_test_file_may_be_withheld() {
    let with_test = format!("{SINGLE}test: test.jsonl\n");
    let train = "review,stars\na,no\nb,yes\n";
    let load = |test: &str| load(&task(&with_test), &files(train, train).with("test.jsonl", test));
    assert!(ids(&load("{\"review\": \"c\"}").unwrap().dataset.test)[0].is_nan());
    let loaded =
        load("{\"review\": \"c\", \"stars\": -1}\n{\"review\": \"d\", \"stars\": \"yes\"}\n{\"review\": \"e\"}")
            .unwrap();
    let test = ids(&loaded.dataset.test);
    assert!(test[0].is_nan() && test[1] == 1.0 && test[2].is_nan());
    assert_eq!(
        load("{\"review\": \"c\", \"stars\": \"maybe\"}").unwrap_err().to_string(),
        "test.jsonl, line 1: label `maybe` of column `stars` is unknown; the labels are `no`, `yes`; they are those of the \
         training file, so name all in `labels`, or mend the row"
    );
}

#[test]
fn a_regression_has_the_range_of_its_training_scores() {
    let task = task(&format!("{SINGLE}kind: regression\n"));
    let dev = "review,stars\nc,7\n";
    let loaded = load(&task, &files("review,stars\na,-1.5\nb, 2e0\n", dev)).unwrap();
    assert_eq!(loaded.dataset.info.objective, Objective::Regression { low: -1.5, high: 2.0 });
    assert_eq!(ids(&loaded.dataset.train), [-1.5, 2.0]);
    assert_eq!(loaded.dataset.info.metrics, [Metric::Pearson, Metric::Spearman]);
    for value in ["NaN", "inf", "1e39", "four"] {
        let message = format!(
            "train.csv, line 3: score `{value}` of column `stars` is not a number that is finite; mend it, or leave the row out"
        );
        refused(&task, &files(&format!("review,stars\na,1\nb,{value}\n"), dev), &message);
    }
}

#[test]
fn labels_that_differ_in_white_space_or_case_alone_are_noted() {
    let rows = "review,stars\na,neg\nb,neg \nc,pos\nd,Pos\ne,fair\n";
    let loaded = load(&task(SINGLE), &files(rows, "review,stars\nf,neg\n")).unwrap();
    let note = |names: &str| {
        format!(
            "train.csv: labels that differ in white space or case alone are classes of their own: {names}; make them one in the file"
        )
    };
    assert_eq!(loaded.notes, [note("`neg`, `neg `"), note("`Pos`, `pos`")]);
    let silent = load(&task(SINGLE), &files("review,stars\na,neg\nb,pos\n", "review,stars\nf,neg\n")).unwrap();
    assert_eq!(silent.notes, [] as [&str; 0]);
}

#[test]
fn a_tsv_as_pandas_writes_it_is_read_as_it_was_meant() {
    let task = |more: &str| task(&format!("{{name: t, train: t.tsv, dev: d.tsv, text: a, label: y{more}}}"));
    let files = MemoryFiles::default()
        .with("t.tsv", "a\ty\nplain\t0\n\"he said \"\"so\"\" twice\"\t1\n")
        .with("d.tsv", "a\ty\n\"lone\t0\n");
    let texts = |loaded: &Loaded| loaded.dataset.train.iter().map(|e| e.first.clone()).collect::<Vec<_>>();
    let loaded = load(&task(""), &files).unwrap();
    assert_eq!(texts(&loaded), ["plain", "he said \"so\" twice"]);
    assert_eq!(loaded.dataset.evaluation[0].1[0].first, "\"lone");
    assert_eq!(loaded.notes.len(), 1, "{:?}", loaded.notes);
    let kept = load(&task(", format: tsv"), &files).unwrap();
    assert_eq!(texts(&kept), ["plain", "\"he said \"\"so\"\" twice\""]);
    assert!(kept.notes[0].starts_with("t.tsv: every quote follows the rules of csv"), "{:?}", kept.notes);
}

#[test]
fn rows_of_a_file_of_no_known_format_are_refused() {
    let files = MemoryFiles::default().with("rows.txt", "review,stars\na,1\n");
    let objective = Objective::Classification { labels: vec!["0".to_owned(), "1".to_owned()] };
    let error = |path: &str| examples(&task(SINGLE), &objective, &files, path).unwrap_err().to_string();
    assert_eq!(error("rows.txt"), "rows.txt: ends in no known format; use .tsv, .csv, .jsonl or .parquet");
    assert_eq!(
        error("nope.csv"),
        "task `reviews`: memory has no file `nope.csv`; it has 1 others; put it there, or correct the path"
    );
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let (single, good) = (task(SINGLE), "review,stars\na,0\nb,1\n");
    refused(
        &single,
        &files(good, "review,stars\nc,2\n"),
        "dev.csv, line 2: label `2` of column `stars` is unknown; the labels are `0`, `1`; they are those of the training file, \
         so name all in `labels`, or mend the row",
    );
    refused(
        &task(&format!("{SINGLE}labels: [0, 2]\n")),
        &files(good, good),
        "train.csv, line 3: label `1` of column `stars` is unknown; the labels are `0`, `2`; add it to `labels`, or mend the row",
    );
    refused(
        &single,
        &files("review,stars\na,0\nb,0\n", good),
        "train.csv: column `stars` has only the label `0`; a classification needs two or more, so check `label`",
    );
    refused(
        &task(&format!("{SINGLE}metrics: [f1]\n")),
        &files("review,stars\na,0\nb,1\nc,2\n", good),
        "task `reviews`: metric `f1` needs two labels, but there are 3 (`0`, `1`, `2`); use `accuracy` or `matthews`",
    );
    refused(
        &single,
        &files("review,stars\na,0\nb,\n", good),
        "train.csv, line 3: column `stars` has no value; fill it, or leave the row out",
    );
    refused(
        &single,
        &files("reviews,stars\na,0\nb,1\n", good),
        "train.csv: has no column `review`; did you mean `reviews`? the columns are `reviews`, `stars`",
    );
    refused(
        &single,
        &files(good, "review,stars\n"),
        "dev.csv: has no rows; a split needs at least one, so copy the file again",
    );
    refused(
        &single,
        &MemoryFiles::default().with("trian.csv", good).with("other.csv", good),
        "task `reviews`: memory has no file `train.csv`; it has 2 others; did you mean `trian.csv`?",
    );
    let share = task("{name: t, train: train.csv, dev_share: 0.5, text: review, label: stars}");
    refused(
        &share,
        &files("review,stars\na,0\na,1\n", ""),
        "task `t`: dev_share `0.5` of 2 rows leaves dev empty; change the share, or name a `dev` file",
    );
}

#[test]
fn every_contradiction_is_reported_at_once() {
    let good = task(SINGLE);
    assert_eq!(good.check(), Vec::<String>::new());
    let check = |change: fn(&mut OwnTask), problems: &[&str]| {
        let mut task = good.clone();
        change(&mut task);
        assert_eq!(task.check(), problems);
    };
    let name = "name: is `A b`; it names folders, so use lower-case letters, digits, `_` and `-`";
    check(|t| t.name = "A b".into(), &[name]);
    check(|t| t.dev_share = Some(0.1), &["dev_share: `dev` names a file already; keep one of the two"]);
    check(|t| t.dev = None, &["dev: there is no evaluation split; name a file, or say `dev_share: 0.1`"]);
    check(
        |t| (t.dev, t.dev_share) = (None, Some(f64::NAN)),
        &["dev_share: is `NaN`; use a share between 0 and 1, such as 0.1"],
    );
    check(
        |t| t.test = Some("train.csv".into()),
        &["test: is `train.csv`, the file of `train`; splits must not share rows"],
    );
    check(
        |t| t.train = "a.txt".into(),
        &["train: `a.txt` ends in no known format; say `format: ` with one of `tsv`, `csv`, `jsonl`, `parquet`"],
    );
    check(|t| t.delimiter = Some('ä'), &["delimiter: is `\\u{e4}`; use one ASCII character"; 2]);
    check(
        |t| (t.delimiter, t.dev) = (Some(';'), Some("d.tsv".into())),
        &["delimiter: `d.tsv` of `dev` is tsv; only `csv` has one, so leave it out"],
    );
    check(
        |t| (t.columns, t.dev) = (Some(vec!["review".into(), "stars".into()]), Some("d.jsonl".into())),
        &["columns: `d.jsonl` of `dev` is jsonl, which names its columns; leave it out"],
    );
    check(
        |t| t.columns = Some(vec!["review".into(), "review".into()]),
        &[
            "label: `stars` is none of `columns`; use one of `review`, `review`",
            "columns: `review` is there twice; give every column its own name",
        ],
    );
    check(|t| t.label = "review".into(), &["label: is `review`, the column of `text`; name another column"]);
    check(
        |t| t.labels = Some(vec![String::new()]),
        &[
            "labels: has 1 entries; a classification needs two or more",
            "labels: one is empty; an empty cell is a missing label, so give the class a name",
        ],
    );
    check(
        |t| t.labels = Some(vec!["a".into(), "a".into()]),
        &["labels: `a` is there twice; give every class its own name"],
    );
    check(
        |t| (t.kind, t.labels) = (Kind::Regression, Some(vec!["a".into(), "b".into()])),
        &["labels: a regression has scores; leave it out, or say `kind: classification`"],
    );
    check(
        |t| t.metrics = Some(vec![Metric::Pearson, Metric::F1, Metric::F1]),
        &[
            "metrics: `pearson` does not judge a classification; use `accuracy`, `f1`, `matthews`",
            "metrics: `f1` is there twice; name it once",
        ],
    );
    check(|t| t.metrics = Some(vec![]), &["metrics: is empty; leave it out, or name one"]);
    let mut two = good.clone();
    (two.name, two.dev) = (String::new(), None);
    refused(
        &two,
        &MemoryFiles::default(),
        "task ``: 2 problems\n  name: is ``; it names folders, so use lower-case letters, digits, `_` and `-`\n  dev: there is no \
         evaluation split; name a file, or say `dev_share: 0.1`",
    );
}

#[test]
fn yaml_goes_there_and_back_and_unknown_keys_are_refused() {
    let full = format!(
        "{SINGLE}labels: [0, 1]\nmetrics: [f1, accuracy]\nformat: csv\ndelimiter: ;\ncolumns: [review, stars]\n"
    );
    for yaml in [SINGLE, &full] {
        let task = task(yaml);
        assert_eq!(serde_yaml::from_str::<OwnTask>(&serde_yaml::to_string(&task).unwrap()).unwrap(), task);
    }
    let message = serde_yaml::from_str::<OwnTask>(&format!("{SINGLE}lables: [0, 1]\n")).unwrap_err().to_string();
    assert!(message.contains("unknown field `lables`"), "{message}");
}
