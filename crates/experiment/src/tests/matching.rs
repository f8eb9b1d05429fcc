//! The block `match`, and ranks that are chosen by it.

use record::Quantity;

use super::{check, good};
use crate::matching::{Counted, counted};

fn rows(rest: &str) -> Vec<(String, usize, usize)> {
    let of = |row: Counted| (row.variant, row.rank, row.parameters.unwrap());
    counted(good(rest, &[]).cells()).into_iter().map(of).collect()
}

fn row(variant: &str, rank: usize, parameters: usize) -> (String, usize, usize) {
    (variant.to_owned(), rank, parameters)
}

/// By hand, on the query and value maps of 4 layers of width 128, `[128, 128]` each: LoRA at rank 8 has 8·8·(128 + 128) = 16,384, DoRA a
/// magnitude of 128 more on each of the 8 maps (17,408 at rank 8, 15,360 at rank 7), LoRA-FA half of LoRA's, VeRA 8·(128 + r), AdaLoRA 8·r·257.
#[test]
fn a_free_rank_comes_nearest_to_the_baselines_parameters() {
    let found = rows(
        "ranks: [8]\nbaseline: lora\nmatch: {by: parameters, tolerance: 0.07}\nvariants:\n  - lora\n  - {preset: dora, ranks: match}\n  \
         - {preset: lora_fa, ranks: match}\n  - {preset: vera, ranks: match}\n  - {preset: adalora, ranks: match}\n",
    );
    assert_eq!(
        found,
        [
            row("lora", 8, 16_384),
            row("dora", 7, 15_360), // 16,384 lies as near to 17,408, of which the smaller is taken
            row("lora_fa", 16, 16_384),
            row("vera", 1_920, 16_384),
            row("adalora", 8, 16_448)
        ]
    );
}

#[test]
fn every_rank_of_the_baseline_has_its_match() {
    let found = rows(
        "baseline: lora\nmatch: parameters\nvariants:\n  - {preset: lora, ranks: [4, 8]}\n  - {preset: lora_fa, ranks: match}\n",
    );
    assert_eq!(found[2..], [row("lora_fa", 8, 8_192), row("lora_fa", 16, 16_384)]);
    let equal = rows(
        "baseline: lora\nmatch: rank\nvariants:\n  - {preset: lora, ranks: [4, 8]}\n  - {preset: dora, ranks: match}\n",
    );
    assert_eq!(equal.iter().map(|row| row.1).collect::<Vec<_>>(), [4, 8, 4, 8]);
}

#[test]
fn rows_that_are_not_matched_are_reported() {
    let head = "ranks: [8]\nbaseline: lora\n";
    check(
        &format!("{head}match: parameters\nvariants: [lora, dora, head_only]\n"),
        &[
            "`dora` trains 17408 parameters at rank 8, but `lora` has 16384, +6.2%, and the experiment matches parameters; write `ranks: match`",
            "`head_only` trains 0 parameters, but `lora` has 16384, -100.0%, and the experiment matches parameters; name it under `match: {by: \
             parameters, except: [head_only]}`",
        ],
    );
    check(
        &format!("{head}match: rank\nvariants: [lora, {{preset: dora, ranks: [4, 8]}}, full]\n"),
        &["`dora` has rank 4, but `lora` has 8", "`full` has no rank"],
    );
    let fine = good(
        &format!("{head}match: {{by: parameters, tolerance: 0.1, except: [full]}}\nvariants: [lora, dora, full]\n"),
        &[],
    );
    assert_eq!(fine.matching().unwrap().except, ["full"]);
    // What is measured is not known before a run.
    let later = good(&format!("{head}match: time\nvariants: [lora, full]\n"), &[]);
    assert_eq!(later.matching().unwrap().by, Quantity::Time);
}

#[test]
fn what_cannot_be_matched_is_reported() {
    check("baseline: lora\nmatch: speed\n", &["unknown quantity `speed`"]);
    check("baseline: lora\nmatch: {tolerance: 0.1}\n", &["`by` is missing"]);
    check("baseline: lora\nmatch: {by: rank, tolerance: 5}\n", &["tolerance is `5`"]);
    check("baseline: lora\nmatch: {by: rank, except: [lorra]}\n", &["unknown label `lorra`, did you mean `lora`?"]);
    check("match: parameters\n", &["there is none; give `baseline`"]);
    check("baseline: lora\nvariants: [lora, {preset: dora, ranks: match}]\n", &["the experiment matches nothing"]);
    check("baseline: lora\nmatch: rank\nvariants: [{preset: lora, ranks: match}]\n", &["needs ranks of its own"]);
    check(
        "baseline: lora\nmatch: time\nvariants: [lora, {preset: dora, ranks: match}]\n",
        &["the time of a row is known when it has run"],
    );
    check(
        "baseline: lora\nmatch: parameters\nvariants: [lora, {preset: full, ranks: match}]\n",
        &["`full` adapts no map, so it has no rank; leave `ranks` out"],
    );
    check("ranks: match\n", &["which an entry of `variants` can say"]);
}
