//! Tests are data: a YAML and what must be said of it.

use models::catalog;
use serde_json::json;

use super::{Experiment, SpecErrors, read};
use crate::hyper::Hyper;

mod expansion;
mod matching;
mod measure;
mod modules;
mod report;
mod start;
mod tune;

/// A valid experiment with `rest` in place of the lines whose keys it gives.
fn yaml(rest: &str) -> String {
    let defaults = [
        ("suite", "suite: glue_mini"),
        ("model", "model: mini_roberta"),
        ("tasks", "tasks: [sst2]"),
        ("seeds", "seeds: [0]"),
        ("targets", "targets: [query, value]"),
        ("ranks", "ranks: [4]"),
        ("train", "train: {steps: 100}"),
        ("variants", "variants: [lora]"),
    ];
    let missing = |key: &str| rest.lines().all(|line| !line.starts_with(&format!("{key}:")));
    let kept = defaults.iter().filter(|(key, _)| missing(key)).map(|(_, line)| format!("{line}\n"));
    kept.collect::<String>() + rest
}

fn parse(text: &str, sets: &[&str]) -> Result<Experiment, SpecErrors> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    read(text, "experiments/x.yaml", "x", &sets)
}

/// As many problems as texts, and every text somewhere in the report.
#[track_caller]
fn check(rest: &str, expected: &[&str]) {
    check_set(rest, &[], expected);
}

#[track_caller]
fn check_set(rest: &str, sets: &[&str], expected: &[&str]) {
    let errors = parse(&yaml(rest), sets).expect_err("a problem was expected");
    let shown = errors.to_string();
    for text in expected {
        assert!(shown.contains(text), "`{text}` is not in\n{shown}");
    }
    assert_eq!(errors.problems.len(), expected.len(), "{shown}");
}

#[track_caller]
fn good(rest: &str, sets: &[&str]) -> Experiment {
    parse(&yaml(rest), sets).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn a_default_may_be_written_out() {
    let spelt =
        good("train: {steps: 100, precision: f32, recompute: false, clip: 1.0}\n", &["train.snapshot_every=null"]);
    assert_eq!(spelt.cells()[0].recipe.train, good("", &[]).cells()[0].recipe.train);
    check("train: {steps: 100, recomputes: false}\n", &["recomputes"]);
}

#[test]
fn a_report_has_the_house_form() {
    let text = "\
# title
suite: glue_mini
model: mini_roberta
tasks: [sst]
seeds: [0]
targets: [query]
ranks: [6]
variants:
  - lora
  - preset: adalora
    with:
      rank_policy:
        target_rank: 9
  - preset: lora_fa_preconditionned
    label: other
";
    assert_eq!(parse(text, &[]).unwrap_err().to_string(), "\
experiments/x.yaml: 3 problems
  tasks[0] (line 4): unknown task `sst`, did you mean `sst2`?
  variants[1].with.rank_policy.target_rank (line 13): target_rank is `9`, but must lie below the initial rank `6` and above 0, or nothing is pruned
  variants[2].preset (line 14): unknown preset `lora_fa_preconditionned`, did you mean `lora_fa_preconditioned`?

hint: `lora-lab list tasks` and `lora-lab list variants` show all");
}

#[test]
fn syntax_errors_have_a_position() {
    check("variants: [lora\n", &["not valid YAML: did not find expected ',' or ']' at line 9 column 1"]);
    check(
        "seeds: [1]\nseeds: [2]\n",
        &["not valid YAML: duplicate entry with key \"seeds\" at line 9 column 1; keep one of them"],
    );
    check(
        "train: {batch: 1, steps: 2, batch: 2}\n",
        &["duplicate entry with key \"batch\" at line 8 column 29; keep one of them"],
    );
    check(
        "variants:\n  - preset: lora\n    preset: dora\n",
        &["duplicate entry with key \"preset\" at line 10 column 5"],
    );
    check("seeds: [\0]\n", &["control characters are not allowed: `\\u{0}` at line 8 column 9; delete it"]);
    check("seeds: [1]\n# \u{7}\n", &["control characters are not allowed: `\\u{7}` at line 9 column 3; delete it"]);
    let errors = parse("", &[]).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "experiments/x.yaml: 1 problem\n  the file is empty; an experiment needs `suite`, `tasks`, `seeds`, `variants`"
    );
    assert_eq!(parse("- a\n", &[]).unwrap_err().problems.len(), 1);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_file() {
    let (plain, marked) = (yaml("# what it asks\n"), format!("\u{feff}{}", yaml("# what it asks\n")));
    let (plain, marked) = (parse(&plain, &[]).unwrap(), parse(&marked, &[]).unwrap());
    assert_eq!((plain.cells(), plain.text()), (marked.cells(), marked.text()));
    let errors = parse(&format!("\u{feff}{}", yaml("seed: 1\n")), &[]).unwrap_err();
    assert_eq!(errors.problems[0].line, Some(9));
    assert_eq!(crate::text("\u{feff}a: 1".as_bytes(), "x.yaml").unwrap(), "a: 1");
    let message = crate::text(b"a: 1\nb: \xff\n", "x.yaml").unwrap_err().to_string();
    assert_eq!(message, "x.yaml: 1 problem\n  byte `0xff` is not UTF-8 at line 2 column 4; save the file as UTF-8");
}

#[test]
fn one_mistake_does_not_hide_the_next() {
    check(
        "variants: [loar]\ntrain: {batch: 0, learning_rate: -1}\n",
        &[
            "variants[0] (line 7): unknown preset `loar`, did you mean `lora`?",
            "train.batch (line 8): batch is `0`",
            "train.learning_rate (line 8): learning_rate is `-1`",
        ],
    );
    check(
        "variants: [loar]\ntasks: [sst]\ntargets: [quary]\nmodel: mini_roberta\ntrain: {batch: 0}\n",
        &["unknown preset `loar`", "unknown task `sst`", "`quary` (did you mean `query`?)", "batch is `0`"],
    );
    check(
        "variants: [{preset: lora, with: {alpha: high}}]\ntargets: [quary]\ntrain: {batch: 0}\n",
        &["alpha is `high`", "`quary` (did you mean `query`?)", "batch is `0`"],
    );
    check("variants: [{label: x}]\ntrain: {batch: 0}\n", &["`preset` is missing", "batch is `0`"]);
    check("variants: 3\ntrain: {batch: 0}\n", &["variants is `3`", "batch is `0`"]);
    check(
        "variants: [loar, {preset: lora, train: {clip: 0}}]\ntasks: [{task: sst2, train: {beta1: 2}}]\n",
        &["unknown preset `loar`", "tasks[0].train.beta1", "variants[1].train.clip"],
    );
}

#[test]
fn an_init_needs_factors_that_are_drawn() {
    let with = |preset: &str| format!("variants: [{{preset: {preset}, with: {{init: {{kind: gaussian}}}}}}]\n");
    for preset in ["lora", "adalora, ranks: [6]", "dora", "dylora", "lora_fa"] {
        good(&with(preset), &[]);
    }
    let draws = "leave `init` out, or take a variant that draws: `adalora`, ";
    for (preset, reason) in [
        ("pissa", "its delta is `residual_init`, which starts at a decomposition of the base"),
        ("vera", "its delta is `shared_random`, whose random pair has a seed and a distribution of its own"),
        ("head_only", "it adapts no map"),
        ("full", "it adapts no map"),
    ] {
        let rule = format!("`{preset}` draws no factors, so an init has no effect: {reason}; {draws}");
        check(&with(preset), &[&format!("variants[0].with.init (line 8): {rule}")]);
        let shown = parse(&yaml(&with(preset)), &[]).unwrap_err().to_string();
        assert!(["`lora`", "`relora`", "`tri_lora`"].iter().all(|draws| shown.contains(draws)), "{shown}");
        assert!(!shown[shown.find(draws).unwrap()..].contains("`pissa`"), "{shown}");
    }
}

#[test]
fn every_seed_draws_a_training_set_where_that_varies() {
    let fixed = good("", &[]);
    assert!(fixed.cells().iter().all(|cell| cell.recipe.seeds.sample.is_none()));
    let varied = good("vary: [sample]\n", &[]);
    assert!(varied.cells().iter().all(|cell| cell.recipe.seeds.sample == Some(cell.id.seed)));
    check("vary: [init]\n", &["vary[0] (line 9): unknown stream `init`; use one of `sample`"]);
}

#[test]
fn unknown_keys_are_found_at_every_level() {
    check("modell: x\n", &["modell (line 9): unknown key `modell`, did you mean `model`?"]);
    check("optimizer: adam\n", &["optimizer (line 9): unknown key `optimizer`; use one of `name`, `suite`"]);
    check("streams: {dat: 7}\n", &["streams.dat (line 9): unknown key `dat`, did you mean `data`?"]);
    check("train: {step: 100}\n", &["train.step (line 8): unknown key `step`, did you mean `steps`?"]);
    check(
        "tasks: [{task: sst2, trian: {steps: 3}}]\n",
        &["tasks[0].trian (line 8): unknown key `trian`, did you mean `train`?"],
    );
    check(
        "variants: [{preset: lora, rank: 8}]\n",
        &["variants[0].rank (line 8): unknown key `rank`, did you mean `ranks`?"],
    );
    check(
        "variants: [{preset: lora, with: {alhpa: 8}}]\n",
        &["variants[0].with.alhpa (line 8): unknown key `alhpa`, did you mean `alpha`?"],
    );
    check(
        "variants: [{preset: dylora, with: {rank_policy: {updates: frozen}}}]\n",
        &["with.rank_policy.updates (line 8): unknown key `updates`, did you mean `update`?"],
    );
    check(
        "variants: [{preset: lora, with: {rank_policy: {update: frozen}}}]\n",
        &["with.rank_policy.update (line 8): unknown key `update`; none is taken here"],
    );
    check("variants: [{preset: lora, with: {train: {bb: {lr_multiplier: 2}}}}]\n", &["unknown key `bb`, did you mean"]);
    check(
        "variants: [{preset: lora, with: {train: {b: {lr_multipler: 2}}}}]\n",
        &["with.train.b.lr_multipler (line 8): unknown key `lr_multipler`, did you mean `lr_multiplier`?"],
    );
    // serde drops these without a word.
    check(
        "variants: [{preset: lora, with: {scaling: {kind: alpha_over_rank, alpha: 8}}}]\n",
        &["with.scaling.alpha (line 8): unknown key `alpha`; `kind: alpha_over_rank` takes no such key"],
    );
    check(
        "variants: [{preset: lora_fa, with: {train: {a: {lr_multiplier: 2}}}}]\n",
        &["with.train.a.lr_multiplier (line 8): unknown key `lr_multiplier`; `state: frozen` takes no such key"],
    );
}

#[test]
fn types_are_checked_where_they_are_wrong() {
    check("name: [a]\n", &["name (line 9): name is a list, but must be a name"]);
    check("seeds: 0\n", &["seeds (line 8): seeds is `0`, but must be a list; write `[0]`"]);
    check(
        "seeds: [0, -1, x]\n",
        &["seeds[1]", "seeds[2] (line 8): seeds is `x`, but must be a whole number, 0 or more"],
    );
    check("train: 3\n", &["train (line 8): train is not a map"]);
    check(
        "train: {batch: 1.5, learning_rate: fast, schedule: linaer, select: 3}\n",
        &[
            "train.batch (line 8): batch is `1.5`, but must be a whole number, at least 1",
            "train.learning_rate (line 8): learning_rate is `fast`, but must be a number",
            "train.schedule (line 8): unknown schedule `linaer`, did you mean `linear`?",
            "train.select (line 8): select is `3`, but must be a name",
        ],
    );
    check("cohort: many\n", &["cohort (line 9): cohort is `many`, but must be `auto` or a number of runs"]);
    check("targets: 3\n", &["targets is `3`, but must be a list such as"]);
    check("variants:\n  - {preset: lora, with: 3}\n", &["with is `3`, but must be a map of overrides"]);
    check(
        "variants:\n  - preset: adalora\n    with:\n      alpha: big\n      dropout: 0.1\n      rank_policy:\n        target_rank: two\n        beta1: x\n",
        &[
            "variants[0].with.alpha (line 11): alpha is `big`, but must be a number",
            "variants[0].with.rank_policy.target_rank (line 14): target_rank is `two`, but must be a whole number, 0 or more",
            "variants[0].with.rank_policy.beta1 (line 15): beta1 is `x`, but must be a number",
        ],
    );
    check(
        "variants: [{preset: lora, with: {init: gaussian}}]\n",
        &["init is `gaussian`, but must be a map with a `kind` or `state`"],
    );
}

#[test]
fn numbers_beyond_64_bits_are_refused_by_each_field_s_own_bound() {
    let beyond = "18446744073709551616";
    check(
        &format!("seeds: [{beyond}, -1, -9223372036854775809, 1e30]\nranks: [{beyond}]\ncohort: {beyond}\n"),
        &[
            "seeds[0] (line 7): seeds is `18446744073709551616`, but must be a whole number, at most 18446744073709551615",
            "seeds[1] (line 7): seeds is `-1`, but must be a whole number, 0 or more",
            "seeds[2] (line 7): seeds is `-9223372036854775808`, but must be a whole number, 0 or more",
            "seeds[3] (line 7): seeds is `1e30`, but must be a whole number, at most 18446744073709551615",
            "ranks[0] (line 8): ranks is `18446744073709551616`, but must be a whole number, at most 1048576",
            "cohort (line 9): cohort is `18446744073709551616`, but must be `auto` or a number of runs, at most 65536",
        ],
    );
    check(
        &format!("train: {{steps: {beyond}, batch: -3, max_length: -1}}\nstreams: {{init: {beyond}}}\n"),
        &[
            "train.steps (line 8): steps is `18446744073709551616`, but must be a whole number, at most 10000000",
            "train.batch (line 8): batch is `-3`, but must be a whole number, at least 1",
            "train.max_length (line 8): max_length is `-1`, but must be a whole number, at least 3",
            "streams.init (line 9): init is `18446744073709551616`, but must be a whole number, at most 18446744073709551615",
        ],
    );
    check(
        &format!("train: {{steps: 2, learning_rate: {beyond}}}\n"),
        &["train.learning_rate (line 8): learning_rate is `1.8446744073709552e19`, but must be at most 1000"],
    );
}

#[test]
fn replaced_maps_are_checked_as_a_whole() {
    let with = |with: &str| format!("variants: [{{preset: adalora, with: {{{with}}}}}]\n");
    check(
        &with("init: {kind: gausian}"),
        &["with.init.kind (line 8): unknown kind `gausian`, did you mean `gaussian`?"],
    );
    check(
        &with("rank_policy: {kind: nested_sampling, update: nestd}"),
        &["with.rank_policy.update (line 8): unknown update `nestd`, did you mean `nested`?"],
    );
    check(
        &with("rank_policy: {kind: nested_sampling, r_min: one}"),
        &["with.rank_policy.r_min (line 8): r_min is `one`"],
    );
    check(
        &with("rank_policy: {kind: nested_sampling, target_rank: 2, foo: 3}"),
        &["rank_policy.target_rank (line 8): unknown key", "rank_policy.foo (line 8): unknown key"],
    );
    check(
        "variants: [{preset: lora, with: {rank_policy: {kind: budget, target_rank: 2}}}]\n",
        &["with.rank_policy (line 8): rank_policy lacks `final_steps`"],
    );
    check(
        "variants: [{preset: lora, with: {scaling: {kind: constant}}}]\n",
        &["with.scaling (line 8): scaling lacks `value`"],
    );
}

#[test]
fn unknown_names_get_the_nearest() {
    check("suite: glue_min\n", &["suite (line 8): unknown suite `glue_min`, did you mean `glue_mini`?"]);
    check("model: mini_robarta\n", &["model (line 8): unknown model `mini_robarta`, did you mean `mini_roberta`?"]);
    check("tasks: [imagenet]\n", &["tasks[0] (line 8): unknown task `imagenet`; use one of `cola`, `sst2`"]);
    check("variants: [lorra]\n", &["variants[0] (line 8): unknown preset `lorra`, did you mean `lora`?"]);
    check("targets: [qeury]\n", &["targets (line 8): target `qeury` (did you mean `query`?) selects no linear map"]);
    check("targets: [qeury, values]\n", &["targets `qeury` (did you mean `query`?), `values` (did you mean `value`?)"]);
    check("targets: '('\n", &["targets (line 8): target `(` is not a valid regular expression"]);
    check(
        "contrasts: [{variant: lorra, against: lora}]\n",
        &["contrasts[0].variant (line 9): unknown row `lorra`, did you mean `lora`?"],
    );
    check("baseline: lorra\n", &["baseline (line 9): unknown label `lorra`, did you mean `lora`?"]);
    check(
        "variants: [{preset: lora, readouts: [svdd]}]\n",
        &["readouts[0] (line 8): unknown readout `svdd`, did you mean `svd`?"],
    );
}

#[test]
fn names_are_safe_in_paths() {
    check("name: a/b\n", &["name (line 9): name is `a/b`, but names a folder"]);
    check("name: ../x\n", &["name is `../x`"]);
    check("variants: [{preset: lora, label: a b}]\n", &["variants[0].label (line 8): label is `a b`"]);
    assert_eq!(read(&yaml(""), "a b.yaml", "a b", &[]).unwrap_err().problems.len(), 1);
}

#[test]
fn what_is_missing_is_named() {
    let errors = parse("train: {}\n", &[]).unwrap_err();
    let paths: Vec<_> = errors.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["suite", "tasks", "seeds", "variants"]);
    check("ranks:\n", &["variants[0] (line 7): `lora` adapts maps, so it needs a rank; give `ranks` here or"]);
    check(
        "targets:\nvariants: [head_only, lora]\n",
        &["variants[1] (line 8): `lora` adapts maps, so it needs targets"],
    );
    check("model:\n", &["variants[0] (line 7): `lora` has no model"]);
    check("variants: [{label: x}]\n", &["variants[0] (line 8): `preset` is missing"]);
    check("tasks: [{train: {steps: 3}}]\n", &["tasks[0] (line 8): `task` is missing"]);
    good("ranks:\ntargets:\nvariants: [head_only]\n", &[]);
}

#[test]
fn lists_are_neither_empty_nor_repetitive() {
    for key in ["tasks", "seeds", "ranks", "targets", "variants"] {
        check(&format!("{key}: []\n"), &[&format!("{key} (line 8): {key} is empty, but needs at least one item")]);
    }
    check("tasks: [sst2, {task: sst2}]\n", &["tasks[1] (line 8): a map is there twice, first at tasks[0]"]);
    check("seeds: [1, 2, 1]\n", &["seeds[2] (line 8): `1` is there twice, first at seeds[0]"]);
    check("ranks: [4, 4]\n", &["ranks[1] (line 8): `4` is there twice"]);
    check("variants: [lora, {preset: lora}]\n", &["variants[1] (line 8): label `lora` is there twice"]);
    check(
        "variants: [lora, {preset: dora, label: LoRA}]\n",
        &["variants[1] (line 8): label `LoRA` is there twice, case aside"],
    );
    check(
        "variants: [{preset: lora, readouts: [svd]}, {preset: dora, label: lora_svd}]\n",
        &["label `lora_svd` is also the row of `lora`'s readout `svd`"],
    );
}

#[test]
fn recipes_out_of_range_are_refused() {
    for (train, message) in [
        ("learning_rate: 0", "learning_rate is `0`, but must be finite and above 0"),
        ("learning_rate: .inf", "learning_rate is `inf`"),
        ("head_learning_rate: -1e-3", "head_learning_rate is `-0.001`"),
        ("batch: 0", "batch is `0`, but must be at least 1"),
        ("accumulate: 0", "accumulate is `0`"),
        ("warmup: 1.0", "warmup is `1`, but must lie in [0, 1)"),
        ("beta1: -0.1", "beta1 is `-0.1`"),
        ("beta2: 1", "beta2 is `1`"),
        ("epsilon: 0", "epsilon is `0`"),
        ("clip: 0", "clip is `0`"),
        ("weight_decay: -1", "weight_decay is `-1`"),
        ("steps: 0", "steps is `0`"),
        ("epochs: 0", "epochs is `0`"),
        ("max_length: 2", "max_length is `2`, but must be at least 3"),
        ("max_length: 100000", "the positions of the model"),
        ("evaluate_every: 0", "evaluate_every is `0`"),
        ("patience: 3", "patience counts evaluations during the run"),
        ("checkpoint_every: 0", "checkpoint_every is `0`"),
        ("select: best", "select is `best`, but only the last step is evaluated"),
        ("epochs: null", "steps and epochs are both empty"),
        ("batch: 1000000000000", "batch is `1000000000000`, but must be at most 65536"),
        ("batch: 18446744073709551615", "batch is `18446744073709551615`, but must be at most 65536"),
        ("accumulate: 1000000000000", "accumulate is `1000000000000`, but must be at most 65536"),
        (
            "batch: 65536, accumulate: 17",
            "accumulate is `17`, 1114112 rows a step with the batch of 65536, but they must be at most 1048576",
        ),
        ("learning_rate: 1e308", "learning_rate is `1e308`, but must be at most 1000"),
        ("epsilon: 1e-60", "must be at least 1.1754943508222875e-38, the least of single precision"),
        ("epochs: 999999", "which makes"),
    ] {
        check(&format!("train: {{{train}}}\n"), &[message]);
    }
    check("train: {steps: 3, epochs: 2}\n", &["train.epochs (line 8): epochs is given beside steps"]);
    check("tasks: [sst2, {task: cola, train: {batch: 0}}]\n", &["tasks[1].train.batch (line 8)"]);
    check("variants: [{preset: lora, train: {batch: 0}}]\n", &["variants[0].train.batch (line 8)"]);
    // The variant's value hides the experiment's wrong one, except from the entry without.
    check("train: {batch: 0}\nvariants: [head_only, {preset: lora, train: {batch: 2}}]\n", &["train.batch (line 7)"]);
}

#[test]
fn ranks_fit_maps_and_policies() {
    check("ranks: [4, 100000]\n", &["ranks[1] (line 8): `encoder.layer.0.attention.self."]);
    check("ranks: [100000]\nvariants: [lora, vera]\n", &["so its rank is at most"]);
    check("ranks: [0]\n", &["ranks[0] (line 8): ranks is `0`, but must be a whole number, at least 1"]);
    check(
        "variants: [{preset: head_only, ranks: [4]}]\n",
        &["variants[0].ranks (line 8): `head_only` adapts no map, so it has no rank"],
    );
    check("variants: [{preset: bitfit, targets: [query]}]\n", &["`bitfit` adapts no map, so it has no targets"]);
    check(
        "variants: [{preset: lora, with: {rank: 4}}]\n",
        &["variants[0].with.rank (line 8): the rank is not an override"],
    );
    check(
        "targets: [word_embeddings]\nvariants: [lora, dora]\n",
        &["targets (line 7): `embeddings.word_embeddings` is an embedding table"],
    );
}

#[test]
fn a_variants_own_rules_name_rank_and_task() {
    check(
        "variants: [{preset: lora, with: {dropout: 1.0, alpha: 0}}]\n",
        &["variants[0].with.dropout (line 8): dropout is `1`", "with.alpha (line 8): alpha is `0`"],
    );
    check(
        "variants:\n  - preset: adalora\n    ranks: [1, 12]\n",
        &[
            "variants[0].with.rank_policy.target_rank (line 9): target_rank is `1`, but must lie below the initial rank `1` and above 0, or nothing is pruned (at rank 1)",
        ],
    );
    check(
        "ranks: [2, 6]\nvariants: [{preset: dylora, with: {rank_policy: {r_min: 3}}}]\n",
        &["must lie in 1..=2, the rank (at rank 2)"],
    );
    check(
        "tasks: [sst2, {task: cola, train: {steps: 4}}]\nvariants: [{preset: adalora, ranks: [6]}]\n",
        &["(on `cola`)"],
    );
    check(
        "tasks: [sst2, wnli]\ntrain: {epochs: 1, batch: 100}\nvariants: [{preset: adalora, ranks: [6]}]\n",
        &["(on `wnli`)"],
    );
}

#[test]
fn readouts_need_an_additive_low_rank_update_of_constant_rank() {
    let with = |entry: &str| format!("ranks: [6]\nvariants: [{{readouts: [svd], {entry}}}]\n");
    for (entry, reason) in [
        ("preset: dylora", "its rank policy is `nested_sampling`, under which the rank changes"),
        ("preset: dora", "its combine is `weight_decomposed`, not additive"),
        ("preset: adalora", "its delta is `svd_form`"),
        ("preset: full", "it adapts no map"),
        ("preset: lora, ranks: [1]", "its largest rank is 1"),
    ] {
        check(&with(entry), &[reason]);
    }
    good(&with("preset: lora_plus"), &[]);
}

#[test]
fn a_nested_variant_is_trained_at_one_rank() {
    check(
        "variants: [{preset: dylora, ranks: [2, 4]}]\n",
        &["`dylora` at rank 4 is read out at rank 1, as its run of another rank is"],
    );
    good("variants: [{preset: dylora, ranks: [4]}, {preset: dylora, label: dylora_2, ranks: [2]}]\n", &[]);
}

#[test]
fn pinned_streams_leave_something_to_the_seeds() {
    let experiment = good("seeds: [3, 4]\nstreams: {data: 7}\n", &[]);
    let seeds: Vec<_> =
        experiment.cells().iter().map(|cell| (cell.recipe.seeds.init, cell.recipe.seeds.data)).collect();
    assert_eq!(seeds, [(3, 7), (4, 7)]);
    check(
        "seeds: [0, 1]\nstreams: {init: 0, data: 0, dropout: 0, rank: 0}\n",
        &["streams (line 9): every stream is pinned"],
    );
}

#[test]
fn overrides_reach_every_place() {
    let rest = "tasks: [sst2, cola]\ntrain: {epochs: 2}\nvariants:\n  - lora\n  - {preset: lora, label: other}\n";
    let sets = [
        "train.steps=50",
        "seeds=[5]",
        "variants.0.with.alpha=8",
        "variants.other.train.learning_rate=1e-3",
        "tasks.cola.train.batch=4",
    ];
    let experiment = good(rest, &sets);
    let cell = |task: usize, variant: usize| &experiment.cells()[2 * task + variant];
    assert_eq!(experiment.cells().len(), 4);
    // No layer gives a length, so it is all that the model takes.
    let config = catalog::find("mini_roberta").unwrap().config().unwrap();
    let max_length = Hyper::default().max_length.min(config.longest());
    assert_eq!(cell(0, 0).recipe.train, Hyper { steps: Some(50), epochs: None, max_length, ..Hyper::default() });
    assert_eq!(
        cell(0, 0).diff,
        json!({"with": {"alpha": 8}, "set": {"train.steps": 50, "seeds": [5], "variants[0].with.alpha": 8}})
    );
    assert_eq!((cell(0, 0).recipe.variant.alpha, cell(0, 1).recipe.variant.alpha), (8.0, 16.0));
    assert_eq!((cell(1, 1).recipe.train.batch, cell(1, 1).recipe.train.learning_rate), (4, 1e-3));
    assert_eq!(
        cell(1, 1).diff,
        json!({
            "train": {"batch": 4, "learning_rate": 1e-3},
            "set": {"train.steps": 50, "seeds": [5], "variants[1].train.learning_rate": 1e-3, "tasks[1].train.batch": 4},
        })
    );
    assert_eq!(experiment.overrides(), sets);
}

#[test]
fn overrides_that_go_nowhere_are_problems() {
    check_set("", &["trian.steps=50"], &["  trian: unknown key `trian`, did you mean `train`?"]);
    check_set(
        "",
        &["train.stepz=50"],
        &["  train.stepz: unknown key `stepz`, did you mean `steps`? (from `--set train.stepz=50`)"],
    );
    check_set(
        "",
        &["train.batch=0"],
        &["  train.batch: batch is `0`, but must be at least 1 (from `--set train.batch=0`)"],
    );
    check_set(
        "",
        &["variants.dora.with.alpha=1"],
        &["`--set variants.dora.with.alpha=1`: `variants` has no item `dora`; its items are lora"],
    );
    check_set("", &["variants.3.with.alpha=1"], &["`variants` has 1 items, counted from 0"]);
    check_set("", &["suite.x=1"], &["`suite` is `glue_mini`, which has no keys"]);
    check_set("", &["seeds"], &["must be `key=value`"]);
    check_set("", &["train..steps=1"], &["the key has an empty part"]);
    check_set("", &["seeds=[1"], &["the value is not valid YAML"]);
    check_set("train: {}\n", &["train.steps=5", "train.epochs=1"], &["train.epochs: epochs is given beside steps"]);
}

#[test]
fn contrasts_name_rows_that_there_will_be() {
    let rows =
        "variants:\n  - {preset: lora, ranks: [2, 4], readouts: [truncated]}\n  - {preset: dylora, ranks: [4]}\n";
    let ask = |contrast: &str| format!("{rows}contrasts: [{contrast}]\n");
    let experiment = good(
        &ask(
            "{variant: dylora, rank: 1, against: lora_truncated, margin: 5}, {variant: dylora, against: lora}, {variant: dylora, rank: 3, against: lora}",
        ),
        &[],
    );
    let found: Vec<_> = experiment.contrasts().iter().map(|c| (c.row.rank, c.against.rank, c.margin)).collect();
    // The same rank where the other row has it, else its largest.
    assert_eq!(found, [(1, 1, Some(5.0)), (4, 4, None), (3, 4, None)]);
    check(&ask("{variant: dylora, rank: 5, against: lora}"), &["rank is `5`, but `dylora` has rows at 1, 2, 3, 4"]);
    check(&ask("{variant: lora, against: lora}"), &["a row is compared with itself"]);
    check(&ask("{variant: lora}"), &["`against` is missing"]);
    check(&ask("{variant: dylora, against: lora}, {variant: dylora, against: lora}"), &["is there twice"]);
    check(
        &ask("{variant: dylora, against: lora, margin: wide}"),
        &["margin is `wide`, but must be a number of points"],
    );
}

#[test]
fn the_margin_of_equivalence_and_the_primary_family_are_settled_in_the_file() {
    let plain = good("", &[]);
    assert_eq!((plain.equivalence(), plain.primary().len()), (None, 0));
    let said = good("tasks: [cola, sst2]\nequivalence: 0.5\nprimary: [average, cola]\n", &[]);
    assert_eq!((said.equivalence(), said.primary()), (Some(0.5), ["average", "cola"].map(str::to_owned).as_slice()));
    let rows = "variants:\n  - {preset: lora, ranks: [2, 4]}\n  - {preset: dylora, ranks: [4]}\n";
    let own = good(&format!("{rows}contrasts: [{{variant: dylora, against: lora, equivalence: 2}}]\n"), &[]);
    assert_eq!(own.contrasts()[0].equivalence, Some(2.0));
    for wrong in ["0", "-1", ".inf", "small"] {
        check(&format!("equivalence: {wrong}\n"), &["but must be a number of points above 0"]);
    }
    check(
        "tasks: [cola]\nprimary: [cola, colo]\n",
        &["primary[1] (line 9): unknown task `colo`, did you mean `cola`?"],
    );
    check("primary: average\n", &["primary is `average`, but must be a list; write `[average]`"]);
}

#[test]
fn what_cannot_train_is_refused() {
    let with = |preset: &str, with: &str| format!("variants: [{{preset: {preset}, with: {{{with}}}}}]\n");
    check(&with("lora", "train: {magnitude: {lr_multiplier: 2}}"), &["this variant has no tensor of role `magnitude`"]);
    check(&with("head_only", "train: {head: {state: frozen}}"), &["nothing trains"]);
    check(&with("head_only", "dropout: 0.1"), &["`dropout` concerns adapters"]);
    check(&with("lora", "init: {kind: gaussian, std: 0}"), &["with.init.std"]);
    check(&with("vera", "delta: {d_initial: 0}"), &["delta.d_initial"]);
    check(&with("vera", "scaling: {value: 0}"), &["scaling.value"]);
    check(&with("dylora", "gradient: {kind: preconditioned}, train: {a: {state: frozen}}"), &["one rank and scale"]);
}

#[test]
fn evaluation_is_every_so_many_steps_or_once_an_epoch() {
    assert!(good("train: {epochs: 1, evaluate_every: epoch, select: best}\n", &[]).cells().len() == 1);
    check("train: {steps: 10, evaluate_every: 0}\n", &["evaluate_every is `0`"]);
}

#[test]
fn a_cluster_is_asked_for_in_the_words_of_submitit() {
    assert_eq!(good("", &[]).launcher(), None);
    let block = "launcher: {partition: gpu, gpus_per_node: 1, timeout_min: 30, setup: [module load cuda], additional_parameters: {mail_user: me, exclusive: true}}\n";
    let plain = good("", &[]);
    let asked = good(block, &["launcher.partition=long"]);
    let slurm = asked.launcher().unwrap();
    assert_eq!(slurm.texts, [("partition", "long".to_owned())]);
    assert_eq!(
        (slurm.gpus_per_node.as_deref(), slurm.timeout_min, slurm.array_parallelism),
        (Some("1"), Some(30), 256)
    );
    let more = [("mail-user".to_owned(), Some("me".to_owned())), ("exclusive".to_owned(), None)];
    assert_eq!(
        (slurm.setup.as_slice(), slurm.additional_parameters.as_slice()),
        (["module load cuda".to_owned()].as_slice(), more.as_slice())
    );
    assert!(slurm.asks_for_cards());
    let recipes = |of: &Experiment| of.cells().iter().map(|cell| cell.recipe.clone()).collect::<Vec<_>>();
    assert_eq!(recipes(&plain), recipes(&asked), "it changes no run");
}

#[test]
fn what_a_scheduler_cannot_be_asked_for_is_refused() {
    check("launcher: slurm\n", &["launcher (line 9): launcher is `slurm`, but must be a map"]);
    check("launcher: {partitoin: gpu}\n", &["unknown key `partitoin`, did you mean `partition`?"]);
    check("launcher: {timeout_min: 0}\n", &["timeout_min is `0`, but must be a whole number, at least 1"]);
    check("launcher: {timeout_min: 2}\n", &["timeout_min is `2`, but a task saves 120 seconds before its end"]);
    check("launcher: {account: \"a\\nb\"}\n", &["b`, but must be a text of one line"]);
    check("launcher: {gpus_per_node: a100:4}\n", &["gpus_per_node asks for 4 cards, but a task trains on one"]);
    check("launcher: {gres: gpu:2}\n", &["gres asks for 2 cards, but a task trains on one"]);
    check("launcher: {setup: 3}\n", &["setup is `3`, but must be a list of lines of shell"]);
    check(
        "launcher: {additional_parameters: {time: 3, requeue: true, --x: 1}}\n",
        &[
            "`time` has a field of its own; write `timeout_min`",
            "`requeue` is given by the launcher",
            "no long option of sbatch",
        ],
    );
}
