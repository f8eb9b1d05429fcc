//! The nine tasks of GLUE in both layouts, and what the loader says of files that do not fit.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/parquet_file.rs"]
mod parquet_file;

use data::glue::{load, submission, tasks};
use data::metric::Metric;
use data::source::{Files, MemoryFiles};
use data::task::{Example, Loaded, Objective};
use parquet_file::{Column, Compression, bytes as parquet};

/// A task in the benchmark's layout and what comes out.
struct Case {
    task: &'static str,
    folder: &'static str,
    files: &'static [(&'static str, &'static str)],
    train: &'static [(&'static str, &'static str, f32)],
    /// Of the first evaluation split.
    dev: (&'static str, &'static str, f32),
    /// Of the first test split; its label is NaN.
    test: (&'static str, &'static str),
}

const CASES: [Case; 9] = [
    Case {
        task: "cola",
        folder: "CoLA",
        files: &[
            ("train.tsv", "gj04\t1\t\t\" He said so.\nbc01\t0\t*\tHe so \"said\".\n"),
            ("dev.tsv", "gj04\t0\t*\tthe the\n"),
            ("test.tsv", "index\tsentence\n0\tA test.\n"),
        ],
        train: &[("\" He said so.", "", 1.0), ("He so \"said\".", "", 0.0)],
        dev: ("the the", "", 0.0),
        test: ("A test.", ""),
    },
    Case {
        task: "sst2",
        folder: "SST-2",
        files: &[
            ("train.tsv", "sentence\tlabel\nhide new secretions \t0\n\" charming\t1\n"),
            ("dev.tsv", "sentence\tlabel\nfine \t1\n"),
            ("test.tsv", "index\tsentence\n0\tuneasy mishmash\n"),
        ],
        train: &[("hide new secretions ", "", 0.0), ("\" charming", "", 1.0)],
        dev: ("fine ", "", 1.0),
        test: ("uneasy mishmash", ""),
    },
    Case {
        task: "mrpc",
        folder: "MRPC",
        files: &[
            ("train.tsv", "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t10\t11\tA \"b\t\"A b\r\n"),
            ("dev.tsv", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t10\t11\tA b\tC d\n"),
            ("test.tsv", "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t10\t11\tE\tF\n"),
        ],
        train: &[("A \"b", "\"A b", 1.0)],
        dev: ("A b", "C d", 0.0),
        test: ("E", "F"),
    },
    Case {
        task: "qqp",
        folder: "QQP",
        files: &[
            (
                "train.tsv",
                "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tWhy?\tHow so?\t1\n2\t3\t4\tbroken\nline\t0\n\
                 3\t4\t5\tWho?\t\t0\n",
            ),
            ("dev.tsv", "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tWhy?\tWhen?\t0\n"),
            ("test.tsv", "id\tquestion1\tquestion2\n0\tIs it?\tIt is?\n"),
        ],
        train: &[("Why?", "How so?", 1.0), ("Who?", "", 0.0)],
        dev: ("Why?", "When?", 0.0),
        test: ("Is it?", "It is?"),
    },
    Case {
        task: "stsb",
        folder: "STS-B",
        files: &[
            (
                "train.tsv",
                "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n\
                 0\tmain\tf\t2012\t1\tn\tn\tA plane.\tAn air plane.\t4.750\n",
            ),
            (
                "dev.tsv",
                "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n\
                 0\tmain\tf\t2012\t1\tn\tn\tA man.\tA dog.\t0.000\n",
            ),
            (
                "test.tsv",
                "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\n\
                 0\tmain\tf\t2012\t1\tn\tn\tA girl.\tA boy.\n",
            ),
        ],
        train: &[("A plane.", "An air plane.", 4.75)],
        dev: ("A man.", "A dog.", 0.0),
        test: ("A girl.", "A boy."),
    },
    Case {
        task: "mnli",
        folder: "MNLI",
        files: &[
            (
                "train.tsv",
                "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t\
                 sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label\n\
                 0\t1\t1n\tg\t(\t(\t(\t(\tP1\tH1\tcontradiction\tneutral\n1\t1\t1n\tg\t(\t(\t(\t(\tP2\tH2\tneutral\tentailment\n",
            ),
            (
                "dev_matched.tsv",
                "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t\
                 sentence2_parse\tsentence1\tsentence2\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n\
                 0\t1\t1n\tg\t(\t(\t(\t(\tP\tH\tneutral\tneutral\tneutral\tneutral\tneutral\tcontradiction\n",
            ),
            ("dev_mismatched.tsv", "index\tsentence1\tsentence2\tgold_label\n0\tPM\tHM\tentailment\n"),
            ("test_matched.tsv", "index\tsentence1\tsentence2\n0\tTP\tTH\n"),
            ("test_mismatched.tsv", "index\tsentence1\tsentence2\n0\tTPM\tTHM\n"),
        ],
        train: &[("P1", "H1", 1.0), ("P2", "H2", 0.0)],
        dev: ("P", "H", 2.0),
        test: ("TP", "TH"),
    },
    Case {
        task: "qnli",
        folder: "QNLI",
        files: &[
            ("train.tsv", "index\tquestion\tsentence\tlabel\n0\tQ?\tS.\tentailment\n1\tQ2?\tS2.\tnot_entailment\n"),
            ("dev.tsv", "index\tquestion\tsentence\tlabel\n0\tW?\tT.\tnot_entailment\n"),
            ("test.tsv", "index\tquestion\tsentence\n0\tX?\tU.\n"),
        ],
        train: &[("Q?", "S.", 0.0), ("Q2?", "S2.", 1.0)],
        dev: ("W?", "T.", 1.0),
        test: ("X?", "U."),
    },
    Case {
        task: "rte",
        folder: "RTE",
        files: &[
            ("train.tsv", "index\tsentence1\tsentence2\tlabel\n0\tA\tB\tnot_entailment\n1\tC\tD\tentailment\n"),
            ("dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\tE\tF\tentailment\n"),
            ("test.tsv", "index\tsentence1\tsentence2\n0\tG\tH\n"),
        ],
        train: &[("A", "B", 1.0), ("C", "D", 0.0)],
        dev: ("E", "F", 0.0),
        test: ("G", "H"),
    },
    Case {
        task: "wnli",
        folder: "WNLI",
        files: &[
            ("train.tsv", "index\tsentence1\tsentence2\tlabel\n0\tA\tB\t1\n1\tC\tD\t0\n"),
            ("dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\tE\tF\t0\n"),
            ("test.tsv", "index\tsentence1\tsentence2\n0\tG\tH\n"),
        ],
        train: &[("A", "B", 1.0), ("C", "D", 0.0)],
        dev: ("E", "F", 0.0),
        test: ("G", "H"),
    },
];

fn folder(case: &Case, name: &str) -> MemoryFiles {
    case.files.iter().fold(MemoryFiles::default(), |files, (file, text)| files.with(&format!("{name}/{file}"), *text))
}

fn case(task: &str) -> &'static Case {
    CASES.iter().find(|case| case.task == task).unwrap()
}

#[track_caller]
fn check_example(pair: bool, example: &Example, (first, second): (&str, &str), label: f32) {
    assert_eq!((example.first.as_str(), example.second.as_deref()), (first, pair.then_some(second)));
    assert_eq!(example.label.to_bits(), label.to_bits(), "{first}");
}

#[track_caller]
fn check(case: &Case, loaded: &Loaded) {
    let data = &loaded.dataset;
    assert_eq!(data.info, tasks().into_iter().find(|info| info.name == case.task).unwrap());
    assert_eq!(data.train.len(), case.train.len());
    for (example, &(first, second, label)) in data.train.iter().zip(case.train) {
        check_example(data.info.pair, example, (first, second), label);
    }
    let names: Vec<&String> = data.evaluation.iter().map(|(name, _)| name).collect();
    assert_eq!(names, data.info.splits.iter().collect::<Vec<_>>());
    let (first, second, label) = case.dev;
    assert_eq!(data.evaluation[0].1.len(), 1);
    check_example(data.info.pair, &data.evaluation[0].1[0], (first, second), label);
    assert_eq!(data.test.len(), 1);
    check_example(data.info.pair, &data.test[0], case.test, f32::NAN);
}

#[test]
fn every_task_loads_from_the_benchmarks_files() {
    for case in &CASES {
        for name in [case.folder, case.task, &case.folder.to_lowercase(), &case.task.to_uppercase()] {
            check(case, &load(case.task, &folder(case, name)).unwrap());
        }
    }
    let mnli = load("mnli", &folder(case("mnli"), "MNLI")).unwrap();
    check_example(true, &mnli.dataset.evaluation[1].1[0], ("PM", "HM"), 0.0);
    assert_eq!(mnli.more_tests[0].0, "test_mismatched");
    check_example(true, &mnli.more_tests[0].1[0], ("TPM", "THM"), f32::NAN);
    let qqp = load("qqp", &folder(case("qqp"), "QQP")).unwrap();
    assert_eq!(qqp.notes, ["QQP/train.tsv: broken lines left out: 2, the first is line 3"]);
}

/// The hub's names of the columns with text.
fn hub_columns(task: &str) -> &'static [&'static str] {
    match task {
        "cola" | "sst2" => &["sentence"],
        "qqp" => &["question1", "question2"],
        "mnli" => &["premise", "hypothesis"],
        "qnli" => &["question", "sentence"],
        _ => &["sentence1", "sentence2"],
    }
}

/// Texts and label.
type Row<'a> = (&'a str, &'a str, f32);

/// One split as the hub has it.
fn hub_split(task: &str, rows: &[Row<'_>], jsonl: bool) -> Vec<u8> {
    let (names, score) = (hub_columns(task), task == "stsb");
    if jsonl {
        let line = |(i, (first, second, label)): (usize, &Row<'_>)| {
            let mut object = serde_json::json!({ "idx": i });
            for (name, text) in names.iter().zip([first, second]) {
                object[name] = serde_json::json!(text);
            }
            object["label"] = if score { serde_json::json!(label) } else { serde_json::json!(*label as i64) };
            format!("{object}\n")
        };
        return rows.iter().enumerate().map(line).collect::<String>().into_bytes();
    }
    let first: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let second: Vec<&str> = rows.iter().map(|row| row.1).collect();
    let scores: Vec<f32> = rows.iter().map(|row| row.2).collect();
    let ids: Vec<i64> = scores.iter().map(|&label| label as i64).collect();
    let indices: Vec<i64> = (0..rows.len() as i64).collect();
    let texts = names.iter().copied().zip([Column::Text(&first), Column::Text(&second)]);
    let mut columns: Vec<(&str, Column<'_>)> = texts.collect();
    columns.push(("label", if score { Column::Float(&scores) } else { Column::Integer(&ids) }));
    columns.push(("idx", Column::Integer(&indices)));
    parquet(&columns, Compression::Snappy)
}

fn hub(case: &Case, jsonl: bool) -> MemoryFiles {
    let dev = [case.dev];
    let test = [(case.test.0, case.test.1, -1.0)];
    let mut splits: Vec<(&str, &[Row<'_>])> = vec![("train", case.train)];
    if case.task == "mnli" {
        splits.extend([("validation_matched", &dev[..]), ("validation_mismatched", &dev), ("test_matched", &test)]);
        splits.push(("test_mismatched", &test));
    } else {
        splits.extend([("validation", &dev[..]), ("test", &test)]);
    }
    splits.into_iter().fold(MemoryFiles::default(), |files, (split, rows)| {
        let ending = if jsonl { ".jsonl" } else { "-00000-of-00001.parquet" };
        files.with(&format!("{}/{split}{ending}", case.task), hub_split(case.task, rows, jsonl))
    })
}

#[test]
fn every_task_loads_from_the_hubs_files_to_the_same_examples() {
    for case in &CASES {
        let train_hash = |loaded: Loaded| {
            let mut data = loaded.dataset;
            // NaN has no one bit pattern, and MNLI's mismatched splits differ between these fixtures.
            data.test.clear();
            data.evaluation.truncate(1);
            data.hash()
        };
        let official = train_hash(load(case.task, &folder(case, case.folder)).unwrap());
        for jsonl in [false, true] {
            let loaded = load(case.task, &hub(case, jsonl)).unwrap();
            check(case, &loaded);
            assert_eq!(loaded.notes, Vec::<String>::new());
            assert_eq!(loaded.more_tests.len(), usize::from(case.task == "mnli"));
            assert_eq!(train_hash(loaded), official, "{}", case.task);
        }
    }
}

/// The fixture was written by pyarrow 26.0.1 with the schema of `nyu-mll/glue`, the library's metadata included.
#[test]
fn a_file_of_another_writer_is_read() {
    let bytes = include_bytes!("fixtures/rte_by_pyarrow.parquet").to_vec();
    let files = MemoryFiles::default()
        .with("rte/train-00000-of-00001.parquet", bytes.clone())
        .with("rte/validation-00000-of-00001.parquet", bytes);
    let train = load("rte", &files).unwrap().dataset.train;
    check_example(true, &train[0], ("\" A lone quote.", "A quote."), 1.0);
    check_example(true, &train[1], ("Zoë wrote\ta tab.", "Zoë wrote."), 0.0);
    assert_eq!(train.len(), 2);
}

#[test]
fn shards_follow_one_another_and_none_may_be_missing() {
    let shard = |i: usize| hub_split("rte", &[(["a", "b", "c"][i], "x", 0.0)], false);
    let dev = hub_split("rte", &[("d", "x", 1.0)], true);
    let files = MemoryFiles::default()
        .with("rte/train-00001-of-00003.parquet", shard(1))
        .with("rte/train-00002-of-00003.parquet", shard(2))
        .with("rte/validation.jsonl", dev);
    assert_eq!(
        load("rte", &files).unwrap_err().to_string(),
        "task `rte`: memory has 2 of the 3 files of split `train`; copy the others beside rte/train-00001-of-00003.parquet"
    );
    let loaded = load("rte", &files.with("rte/train-00000-of-00003.parquet", shard(0))).unwrap();
    assert_eq!(loaded.dataset.train.iter().map(|e| e.first.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(loaded.dataset.test, []);
    assert_eq!(loaded.more_tests, []);
}

#[test]
fn mrpc_is_divided_by_the_benchmarks_ids() {
    let header = "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n";
    let files = MemoryFiles::default()
        .with("MRPC/msr_paraphrase_train.txt", format!("{header}1\t1\t2\ta\tb\r\n0\t3\t4\tc\td\r\n1\t5\t6\te\tf\r\n"))
        .with("MRPC/msr_paraphrase_test.txt", format!("{header}1\t7\t8\tg\th\r\n"));
    let message = load("mrpc", &files).unwrap_err().to_string();
    assert!(message.contains("has no `dev_ids.tsv`, the pairs of ids that the benchmark takes out of"), "{message}");
    let loaded = load("mrpc", &files.clone().with("MRPC/dev_ids.tsv", "3\t4\n")).unwrap();
    let firsts = |examples: &[Example]| examples.iter().map(|e| e.first.clone()).collect::<String>();
    let data = loaded.dataset;
    assert_eq!(
        (firsts(&data.train), firsts(&data.evaluation[0].1), firsts(&data.test)),
        ("ae".into(), "c".into(), "g".into())
    );
    // Microsoft's test file has its labels.
    assert_eq!((data.evaluation[0].0.as_str(), data.test[0].label), ("dev", 1.0));
    let message = load("mrpc", &files.with("MRPC/mrpc_dev_ids.tsv", "9\t4\n")).unwrap_err().to_string();
    assert!(message.contains("has no pair `9`, `4` in `MRPC/msr_paraphrase_train.txt`"), "{message}");
}

#[track_caller]
fn refused(task: &str, files: &MemoryFiles, message: &str) {
    assert_eq!(load(task, files).unwrap_err().to_string(), message);
}

#[test]
fn errors_name_place_value_rule_and_way_out() {
    let rte = folder(case("rte"), "RTE");
    let header = "index\tsentence1\tsentence2\tlabel\n";
    let remedy = "put there the benchmark's TSV files or the files of the dataset `nyu-mll/glue`";
    refused(
        "rtee",
        &rte,
        "task: suite `glue` has no task `rtee`; did you mean `rte`? its tasks are cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli",
    );
    refused("cola", &rte, &format!("task `cola`: memory has no files in `CoLA` or `cola`; it has `RTE`; {remedy}"));
    let no_files = MemoryFiles::default();
    refused(
        "cola",
        &no_files,
        &format!("task `cola`: memory has no files in `CoLA` or `cola`; it has no files; {remedy}"),
    );
    let mut no_dev = rte.clone();
    no_dev.files.remove("RTE/dev.tsv");
    refused(
        "rte",
        &no_dev,
        &format!(
            "task `rte`: memory has no `dev.tsv`, `validation-*.parquet` or `validation.jsonl` of the task; it has \
             `RTE/test.tsv`, `RTE/train.tsv`; {remedy}"
        ),
    );
    refused(
        "rte",
        &rte.clone().with("rte/train.jsonl", "{}"),
        "task `rte`: memory has the split `train` more than once: RTE/train.tsv, rte/train.jsonl; keep one of them",
    );
    refused(
        "rte",
        &rte.clone().with("RTE/dev.tsv", format!("{header}0\ta\tb\tmaybe\n")),
        "RTE/dev.tsv, line 2: label `maybe` of column `label` is unknown; the labels are `entailment`, `not_entailment`, or \
         their ids from 0",
    );
    refused(
        "rte",
        &rte.clone().with("RTE/dev.tsv", format!("{header}0\ta\tb\t-1\n")),
        "RTE/dev.tsv, line 2: label `-1` of column `label` is unknown; the labels are `entailment`, `not_entailment`; -1 marks \
         labels of a test split",
    );
    refused(
        "rte",
        &rte.clone().with("RTE/train.tsv", "index\tsentence1\tsentence\tlabel\n0\ta\tb\t1\n"),
        "RTE/train.tsv: has no column `sentence2`; did you mean `sentence1`? the columns are `index`, `sentence1`, `sentence`, \
         `label`",
    );
    let message = load("rte", &rte.with("RTE/train.tsv", format!("{header}0\ta\tb\n"))).unwrap_err().to_string();
    assert!(message.starts_with("RTE/train.tsv, line 2: has 3 cells, but the table has 4 columns"), "{message}");
    // A short row of a test split would shift the predictions that are handed in.
    let qqp = folder(case("qqp"), "QQP").with("QQP/test.tsv", "id\tquestion1\tquestion2\n0\ta\n");
    let message = load("qqp", &qqp).unwrap_err().to_string();
    assert!(message.starts_with("QQP/test.tsv, line 2: has 2 cells"), "{message}");
    let stsb = hub(case("stsb"), true).with("stsb/train.jsonl", hub_split("stsb", &[("a", "b", 5.5)], true));
    refused(
        "stsb",
        &stsb,
        "stsb/train.jsonl, line 1: score `5.5` of column `label` is not a number from 0 to 5; mend it, or leave the row out",
    );
}

#[test]
fn metrics_are_those_of_the_papers_tables() {
    let of = |task: &str| tasks().into_iter().find(|info| info.name == task).unwrap().metrics;
    assert_eq!(of("cola"), [Metric::Matthews]);
    assert_eq!(of("mrpc"), [Metric::Accuracy, Metric::F1]);
    assert_eq!(of("qqp"), [Metric::Accuracy, Metric::F1]);
    assert_eq!(of("stsb"), [Metric::Pearson, Metric::Spearman]);
    for task in ["sst2", "mnli", "qnli", "rte", "wnli"] {
        assert_eq!(of(task), [Metric::Accuracy]);
    }
    let stsb = tasks().into_iter().find(|info| info.name == "stsb").unwrap();
    assert_eq!(stsb.objective, Objective::Regression { low: 0.0, high: 5.0 });
}

#[test]
fn submissions_are_as_the_benchmark_wants_them() {
    let check = |task, split, predictions: &[f64], file: &str, rows: &str| {
        let (name, bytes) = submission(task, split, predictions).unwrap();
        assert_eq!((name.as_str(), String::from_utf8(bytes).unwrap()), (file, format!("index\tprediction\n{rows}")));
    };
    check("cola", "test", &[1.0, 0.0], "CoLA.tsv", "0\t1\n1\t0\n");
    check("sst2", "test", &[1.0], "SST-2.tsv", "0\t1\n");
    check("mrpc", "test", &[0.0], "MRPC.tsv", "0\t0\n");
    check("qqp", "test", &[0.0], "QQP.tsv", "0\t0\n");
    check("stsb", "test", &[-0.5, 2.34567, 9.0, -0.0], "STS-B.tsv", "0\t0.000\n1\t2.346\n2\t5.000\n3\t0.000\n");
    check("mnli", "test_matched", &[0.0, 1.0, 2.0], "MNLI-m.tsv", "0\tentailment\n1\tneutral\n2\tcontradiction\n");
    check("mnli", "test", &[1.0], "MNLI-m.tsv", "0\tneutral\n");
    check("mnli", "test_mismatched", &[1.0], "MNLI-mm.tsv", "0\tneutral\n");
    check("qnli", "test", &[0.0, 1.0], "QNLI.tsv", "0\tentailment\n1\tnot_entailment\n");
    check("rte", "test", &[1.0], "RTE.tsv", "0\tnot_entailment\n");
    check("wnli", "test", &[1.0], "WNLI.tsv", "0\t1\n");
    let refused = |task, split, predictions: &[f64], message: &str| {
        assert_eq!(submission(task, split, predictions).unwrap_err().to_string(), message);
    };
    let evaluate = "so evaluate the run that made it";
    refused(
        "rte",
        "test",
        &[0.0, 2.0],
        &format!("task `rte`: prediction 1 is `2`; it has to be a class id from 0 to 1, {evaluate}"),
    );
    refused(
        "stsb",
        "test",
        &[f64::NAN],
        &format!("task `stsb`: prediction 0 is `NaN`; it has to be a finite score, {evaluate}"),
    );
    refused(
        "mnli",
        "dev_matched",
        &[],
        "task `mnli`: no predictions are handed in for split `dev_matched`; use `test_matched` or `test_mismatched`",
    );
}

/// A folder of this machine, for the one test that reads real files.
struct Disk(std::path::PathBuf);

impl Files for Disk {
    fn read(&self, relative: &str) -> std::io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.0.join(relative)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn list(&self) -> std::io::Result<Vec<String>> {
        let mut paths = Vec::new();
        for folder in std::fs::read_dir(&self.0)?.collect::<Result<Vec<_>, _>>()? {
            for file in std::fs::read_dir(folder.path())?.collect::<Result<Vec<_>, _>>()? {
                paths.push(format!("{}/{}", folder.file_name().display(), file.file_name().display()));
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn place(&self) -> String {
        self.0.display().to_string()
    }
}

#[test]
#[ignore = "needs LORA_LAB_GLUE, a folder with the benchmark's files"]
fn the_real_files_have_their_published_sizes() {
    let folder = std::env::var_os("LORA_LAB_GLUE").expect("LORA_LAB_GLUE names a folder with the benchmark's files");
    let disk = Disk(folder.into());
    let sizes = [("cola", 8551, 1043, 0.7044), ("rte", 2490, 277, 0.4984), ("sst2", 67349, 872, 0.5578)];
    for (task, n_train, n_dev, share_of_ones) in sizes {
        let loaded = load(task, &disk).unwrap();
        let data = &loaded.dataset;
        assert_eq!((data.train.len(), data.evaluation[0].1.len()), (n_train, n_dev), "{task}");
        let ones = data.train.iter().filter(|example| example.label == 1.0).count() as f64 / n_train as f64;
        assert!((ones - share_of_ones).abs() < 5e-5, "{task}: {ones}");
        assert!(loaded.notes.is_empty() && data.test.is_empty());
    }
}
