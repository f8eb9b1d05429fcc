//! Tables as text, pinned by snapshots.

use record::{Contrast, Readout, RunRecord};

use super::{latex, markdown, text};
use crate::compare::{Baseline, Rules, compare, contrast};
use crate::summary::tests::{failed, run};
use crate::summary::{Selection, SummaryTable, summarise};
use crate::table::{Block, Entry, Layout, Table, comparison_table, contrast_table, pivot_table, rank_curve_table};

fn layout() -> Layout {
    Layout {
        split: "validation".into(),
        tasks: vec!["sst2".into(), "cola".into()],
        variants: vec!["full".into(), "lora_plus".into()],
        caption: "GLUE, RoBERTa-base. Matched: rank, data order & steps.".into(),
        notes: vec![],
    }
}

fn grid() -> SummaryTable {
    let mut records: Vec<RunRecord> = Vec::new();
    for seed in 1..=3 {
        let noise = 0.01 * seed as f64;
        records.push(run("cola", "lora_plus", 8, seed, 0.6 + noise));
        records.push(run("sst2", "lora_plus", 8, seed, 0.9 + noise / 10.0));
        records.push(run("cola", "bitfit", 0, seed, 0.55 - noise));
        let full = run("cola", "full", 0, seed, 0.63);
        records.push(if seed == 2 { failed(full) } else { full });
    }
    records[0].code.dirty = true;
    summarise(&records, Selection::Last).unwrap()
}

#[test]
fn a_pivot_in_every_format() {
    let table = pivot_table(&grid(), &layout(), &Rules::default()).unwrap();
    insta::assert_snapshot!(text(&table), @r"
    GLUE, RoBERTa-base. Matched: rank, data order & steps.

    variant    rank  params  sst2 accuracy                 cola accuracy        average
    -----------------------------------------------------------------------------------
    full          -       0              -  63.00 ± 0.00 [n=2, 1 failed]              -
    lora_plus     8    295k   90.20 ± 0.25                 62.00 ± 2.48*  76.10 ± 1.37*
    bitfit        -       0              -                  53.00 ± 2.48              -
    -----------------------------------------------------------------------------------
    Split validation; mean ± half-width of the 95% Student interval over n = 3 seeds.
    * some runs were made by code that differs from their commit.
    ");
    insta::assert_snapshot!(markdown(&table), @r"
    GLUE, RoBERTa-base. Matched: rank, data order & steps.

    | variant | rank | params | sst2 accuracy | cola accuracy | average |
    | :--- | ---: | ---: | ---: | ---: | ---: |
    | full | - | 0 | – | 63.00 ± 0.00 [n=2, 1 failed] | – |
    | lora_plus | 8 | 295k | 90.20 ± 0.25 | 62.00 ± 2.48\* | 76.10 ± 1.37\* |
    | bitfit | - | 0 | – | 53.00 ± 2.48 | – |

    Split validation; mean ± half-width of the 95% Student interval over n = 3 seeds.

    \* some runs were made by code that differs from their commit.
    ");
    insta::assert_snapshot!(latex(&table, "probe-main"), @r"
    % requires \usepackage{booktabs}
    \begin{table}
    \centering
    \caption{GLUE, RoBERTa-base. Matched: rank, data order \& steps.}
    \label{tab:probe-main}
    \scriptsize\setlength{\tabcolsep}{3pt}
    \begin{tabular}{lrrrrr}
    \toprule
    variant & rank & params & sst2 accuracy & cola accuracy & average \\
    \midrule
    full & -- & 0 & -- & 63.00 $\pm$ 0.00 [n=2, 1 failed] & -- \\
    lora\_plus & 8 & 295k & 90.20 $\pm$ 0.25 & 62.00 $\pm$ 2.48$^{*}$ & 76.10 $\pm$ 1.37$^{*}$ \\
    bitfit & -- & 0 & -- & 53.00 $\pm$ 2.48 & -- \\
    \bottomrule
    \end{tabular}
    \normalsize
    \par\smallskip\footnotesize Split validation; mean $\pm$ half-width of the 95\% Student interval over n = 3 seeds.
    \par\smallskip\footnotesize * some runs were made by code that differs from their commit.
    \end{table}
    ");
}

#[test]
fn a_rank_sweep_has_a_block_per_task_and_an_average() {
    let mut records = Vec::new();
    for task in ["cola", "sst2"] {
        for rank in [1, 8, 64] {
            records.push(run(task, "lora", rank, 1, 0.5 + rank as f64 / 1000.0));
            if rank < 64 {
                records.push(run(task, "dylora", rank, 1, 0.4 + rank as f64 / 1000.0));
            }
        }
    }
    let table = rank_curve_table(&summarise(&records, Selection::Last).unwrap(), &layout()).unwrap();
    insta::assert_snapshot!(text(&table), @r"
    GLUE, RoBERTa-base. Matched: rank, data order & steps.

    variant    r=1    r=8   r=64
    ----------------------------
    sst2 accuracy
    dylora   40.10  40.80      -
    lora     50.10  50.80  56.40
    ----------------------------
    cola accuracy
    dylora   40.10  40.80      -
    lora     50.10  50.80  56.40
    ----------------------------
    average
    dylora   40.10  40.80      -
    lora     50.10  50.80  56.40
    ----------------------------
    Split validation; n = 1 seed, so there are no intervals.
    ");
    assert_eq!(latex(&table, "probe-ranks").matches("\\midrule").count(), 3);
    assert!(markdown(&table).contains("| **average** |  |  |  |"));
}

#[test]
fn comparisons_show_their_verdicts() {
    let baseline = Baseline { variant: "lora_plus".into(), rank: Some(8) };
    let mut records = Vec::new();
    for seed in 1..=6 {
        records.push(run("cola", "lora_plus", 8, seed, 0.6 + 0.003 * (seed % 3) as f64));
        records.push(run("cola", "dora", 8, seed, 0.65 + 0.002 * (seed % 4) as f64));
    }
    records.push(run("cola", "bitfit", 0, 1, 0.5));
    let summary = summarise(&records, Selection::Last).unwrap();
    let comparisons = compare(&summary, "validation", &baseline, &Rules::default()).unwrap();
    let table = comparison_table(&comparisons, &baseline, &Layout { caption: String::new(), ..layout() });
    insta::assert_snapshot!(text(&table), @r"
    task  variant  rank  against  n           difference  p t-test  p sign-flip  p Holm  p equivalent    verdict  detectable  seeds needed
    --------------------------------------------------------------------------------------------------------------------------------------
    primary family of 2
    cola  bitfit      0      r=8  1               -10.30         -            -       -             -  undecided           -             -
    cola  dora        8      r=8  6  5.00 ± 0.52 [floor]    <0.001        0.031  <0.001         1.000     better           -             -
    --------------------------------------------------------------------------------------------------------------------------------------
    Split validation; difference in points to lora_plus at the rank under `against` on shared seeds, ± half-width of its 95% Student interval.
    p t-test: paired by seed. p sign-flip: exact test on the signs of the differences, from 6 seeds on. p Holm: the same after Holm's correction within the family. p equivalent: two one-sided tests against the margin of equivalence, after Holm's correction within the family.
    equivalent: p equivalent below 0.05, so that the difference is smaller than 1 point; this goes before better and worse: p Holm below 0.05. undecided: neither, which is no evidence of equality; detectable is the smallest difference that these seeds would have found with 80% power at the corrected level, and seeds needed is how many find the margin of equivalence.
    One family of 2.
    [floor]: the seeds agree within less than half an example of a split, which is taken for their spread; so few examples say no more.
    ");
}

#[test]
fn contrasts_say_whether_their_margin_is_reached() {
    let mut records = Vec::new();
    for seed in 1..=3 {
        for task in ["cola", "sst2"] {
            records.push(run(task, "lora_plus", 8, seed, 0.6 + 0.003 * (seed % 3) as f64));
            let gain = if task == "cola" { 0.07 } else { 0.02 };
            records.push(run(task, "dora", 8, seed, 0.6 + gain + 0.002 * (seed % 2) as f64));
        }
    }
    let summary = summarise(&records, Selection::Last).unwrap();
    let contrasts = [Contrast {
        row: Readout { label: "dora".into(), rank: 8 },
        against: Readout { label: "lora_plus".into(), rank: 8 },
        margin: Some(5.0),
        equivalence: None,
    }];
    let comparisons = contrast(&summary, "validation", &contrasts, &Rules::default()).unwrap();
    let table = contrast_table(&comparisons, &contrasts, &Layout { caption: String::new(), ..layout() });
    let shown = text(&table);
    assert!(shown.contains("dora r=8 minus lora_plus r=8, at least +5: 1 of 2 tasks"), "{shown}");
    let ends: Vec<&str> = shown.lines().filter(|line| line.ends_with("yes") || line.ends_with("no")).collect();
    let said: Vec<(&str, bool)> =
        ends.iter().map(|line| (line.split_whitespace().next().unwrap(), line.ends_with("yes"))).collect();
    assert_eq!(said, [("average", false), ("sst2", false), ("cola", true)], "{shown}");
}

/// The bold rows are those of `compare::best`, whose tests say which they are.
#[test]
fn what_may_be_the_best_of_its_column_is_bold() {
    let mut records = Vec::new();
    for seed in 1..=6 {
        let noise = 0.003 * (seed % 3) as f64;
        records.push(run("cola", "lora", 8, seed, 0.7 + noise));
        records.push(run("cola", "dora", 8, seed, 0.701 + 0.002 * (seed % 2) as f64));
        records.push(run("cola", "vera", 8, seed, 0.5 + noise));
    }
    let summary = summarise(&records, Selection::Last).unwrap();
    let layout = Layout { caption: "Three rows".into(), ..layout() };
    let table = pivot_table(&summary, &layout, &Rules::default()).unwrap();
    let written = latex(&table, "probe-main");
    assert_eq!(written.matches("\\textbf{").count(), 2, "{written}");
    for row in ["dora & 8 & 295k & \\textbf{", "lora & 8 & 295k & \\textbf{", "vera & 8 & 295k & 50"] {
        assert!(written.contains(row), "{row}: {written}");
    }
    assert!(written.contains("\\caption{Three rows. Bold: the best mean of a column"), "{written}");
    // Other formats are as they were.
    assert!(!markdown(&table).contains("**") && !text(&table).contains("Bold"));
    let undecided = summarise(&records[..2], Selection::Last).unwrap();
    let written = latex(&pivot_table(&undecided, &layout, &Rules::default()).unwrap(), "probe-main");
    assert!(!written.contains("textbf") && !written.contains("Bold"), "{written}");
}

fn plain_table(columns: usize, rows: usize, cell: &str) -> Table {
    let row = |_| vec![Entry::Text(cell.to_owned()); columns];
    Table {
        caption: "W·x ≤ α".into(),
        header: vec!["Δ|x|".to_owned(); columns],
        names: 1,
        blocks: vec![Block { title: Some("a_b".into()), rows: (0..rows).map(row).collect() }],
        notes: vec!["the last word".into()],
    }
}

#[test]
fn latex_is_ascii_and_fits_its_page() {
    let small = latex(&plain_table(3, 4, "1.0"), "probe 1/a_b");
    assert!(small.is_ascii(), "{small}");
    assert!(small.contains("\\label{tab:probe-1-a_b}") && !small.contains("\\makebox"), "{small}");
    assert!(
        small.contains("$\\Delta$$|$x$|$ &") && small.contains("\\caption{W$\\cdot$x $\\le$ $\\alpha$}"),
        "{small}"
    );
    let narrower = latex(&plain_table(8, 4, "-12345.67"), "x");
    assert!(narrower.contains("\\scriptsize\\setlength{\\tabcolsep}{3pt}"), "{narrower}");
    assert!(narrower.contains("$-$12345.67") && !narrower.contains("\\makebox"), "{narrower}");
    let wide = latex(&plain_table(20, 4, "-12345.67"), "x");
    assert!(wide.contains("\\tiny") && wide.contains("\\makebox[\\textwidth][c]{%"), "{wide}");
}

#[test]
fn a_table_longer_than_a_page_goes_on_under_its_number() {
    let long = latex(&plain_table(3, 100, "1.0"), "x");
    assert_eq!(long.matches("\\begin{table}").count(), 3, "{long}");
    assert_eq!(long.matches("\\addtocounter{table}{-1}\n\\caption{(continued)}").count(), 2);
    assert_eq!((long.matches("\\label{").count(), long.matches("the last word").count()), (1, 1));
    assert_eq!(long.matches("1.0 & 1.0 & 1.0").count(), 100);
    assert!(long.trim_end().ends_with("the last word\n\\end{table}"));
}
