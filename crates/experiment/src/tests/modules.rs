//! The fields beside targets: what they become in a plan, and what is said of wrong ones.

use models::{modules::Modules, target::Target};
use serde_json::json;
use variants::base::BiasSpec;

use super::{check, check_set, good};
use crate::cell::{Cell, Recipe};

const QUERY_0: &str = "encoder.layer.0.attention.self.query";

fn first(rest: &str, sets: &[&str]) -> Cell {
    good(rest, sets).cells()[0].clone()
}

fn modules(rest: &str) -> Modules {
    first(rest, &[]).recipe.modules
}

#[test]
fn a_plan_without_them_says_nothing_of_them() {
    let cell = first("", &[]);
    assert!(cell.recipe.modules.is_default());
    let plan = serde_json::to_value(&cell.recipe).unwrap();
    assert!(plan.get("modules").is_none());
    assert_eq!(cell.diff, json!({}));
}

#[test]
fn each_field_is_read_and_kept_in_order() {
    let found = modules(
        "targets: [query, key, value]\nexclude_modules: [encoder.layer.0.attention.self.key]\nlayers_to_transform: [0, 1]\n\
         layers_pattern: layer\nrank_pattern: {value: 2, '.*': 3}\nalpha_pattern: {query: 4}\nmodules_to_save: [LayerNorm]\n\
         trainable_token_indices: [7, 2]\n",
    );
    let wanted = Modules {
        exclude_modules: Some(Target::Endings(vec!["encoder.layer.0.attention.self.key".to_owned()])),
        layers_to_transform: vec![0, 1],
        layers_pattern: vec!["layer".to_owned()],
        rank_pattern: vec![("value".to_owned(), 2), (".*".to_owned(), 3)],
        alpha_pattern: vec![("query".to_owned(), 4.0)],
        modules_to_save: vec!["LayerNorm".to_owned()],
        trainable_token_indices: vec![7, 2],
    };
    assert_eq!(found, wanted);
    // One item stands for a list of one.
    assert_eq!(modules("layers_to_transform: 1\n").layers_to_transform, [1]);
    assert_eq!(
        modules("exclude_modules: '.*layer\\.0\\..*'\n").exclude_modules,
        Some(Target::Pattern(r".*layer\.0\..*".into()))
    );
    // A plan on disk keeps the order of the expressions, which decides; JSON's maps need not.
    let plan = first("rank_pattern: {value: 2, '.*': 3}\n", &[]).recipe;
    let written = serde_json::to_value(&plan).unwrap();
    assert_eq!(written["modules"], json!({"rank_pattern": [["value", 2], [".*", 3]]}));
    assert_eq!(serde_json::from_value::<Recipe>(written).unwrap(), plan);
}

#[test]
fn an_entry_replaces_what_the_experiment_says() {
    let rest = "rank_pattern: {query: 2}\nmodules_to_save: [LayerNorm]\nvariants:\n  - lora\n  - {preset: lora, label: other, \
                rank_pattern: {value: 3}, modules_to_save: []}\n  - {preset: dylora, rank_pattern: {}}\n  - head_only\n  - full\n";
    let experiment = good(rest, &[]);
    let of = |index: usize| &experiment.cells()[index].recipe.modules;
    let norms = vec!["LayerNorm".to_owned()];
    assert_eq!(of(0).rank_pattern, [("query".to_owned(), 2)]);
    assert_eq!((of(1).rank_pattern.clone(), of(1).modules_to_save.len()), (vec![("value".to_owned(), 3)], 0));
    assert_eq!(*of(2), Modules { modules_to_save: norms.clone(), ..Modules::default() });
    assert_eq!(*of(3), Modules { modules_to_save: norms, ..Modules::default() });
    assert!(of(4).is_default(), "the whole base trains");
    let diffs: Vec<_> = experiment.cells().iter().map(|cell| cell.diff.clone()).collect();
    let other = json!({"modules": {"rank_pattern": [["value", 3]], "modules_to_save": null}});
    assert_eq!(diffs[..2], [json!({}), other]);
}

#[test]
fn overrides_reach_them() {
    let plan = first("", &["layers_to_transform=[1]", "variants.0.alpha_pattern={value: 2}"]).recipe.modules;
    assert_eq!((plan.layers_to_transform.as_slice(), plan.alpha_pattern.len()), (&[1][..], 1));
    check_set("", &["layers_to_transform=[9]"], &["layers_to_transform: layer is `9`, but this model has 4"]);
}

#[test]
fn exclusions_must_exclude_something_and_leave_something() {
    check(
        "exclude_modules: [quary]\n",
        &["exclude_modules (line 9): `quary` (did you mean `query`?) matches no map of this"],
    );
    check(
        "exclude_modules: [dense]\n",
        &["exclude_modules (line 9): exclude_modules matches none of the targets' maps, which end in `query`, `value`"],
    );
    check("exclude_modules: [query, value]\n", &["takes off every one of the 8 maps"]);
    check(
        "exclude_modules: '('\n",
        &[
            "exclude_modules (line 9): `(` is not a valid regular expression: parsing error at position 1: Opening parenthesis without closing parenthesis",
        ],
    );
    check("exclude_modules: 3\n", &["exclude_modules is `3`, but must be a list such as"]);
    check("exclude_modules: {a: 1}\n", &["exclude_modules is a map, but must be a list such as"]);
    check(
        "variants: [{preset: head_only, exclude_modules: [key]}]\n",
        &["`head_only` adapts no map, so it has no use for it"],
    );
}

#[test]
fn layers_belong_to_lists_of_targets() {
    check(
        "layers_to_transform: [0, 4]\n",
        &["layers_to_transform (line 9): layer is `4`, but this model has 4, counted from 0; use 0..=3"],
    );
    check(
        "targets: all-linear\nlayers_to_transform: 0\n",
        &["layers_to_transform (line 9): layers_to_transform is given beside the targets `all-linear`"],
    );
    check(
        "layers_pattern: layer\n",
        &["layers_pattern (line 9): layers_pattern says what the layers of layers_to_transform are called"],
    );
    check(
        "layers_to_transform: 0\nlayers_pattern: blocks\n",
        &["layers_pattern (line 10): `blocks` is no list of layers of this model, whose list is `encoder.layer`"],
    );
    check(
        "layers_to_transform: [one]\n",
        &["layers_to_transform[0] (line 9): layers_to_transform is `one`, but must be a whole number, 0 or more"],
    );
    check("layers_to_transform: -1\n", &["layers_to_transform is `-1`"]);
    check(
        "targets: [word_embeddings]\nlayers_to_transform: 0\n",
        &["layers_to_transform (line 9): none of the targets' maps is in layers 0"],
    );
}

#[test]
fn patterns_name_adapted_maps_and_fit_them() {
    check(
        "rank_pattern: {quary: 4}\n",
        &[
            "rank_pattern (line 9): `quary` (did you mean `query`?) matches no adapted map; the adapted maps end in `query`, `value`",
        ],
    );
    check("alpha_pattern: {key: 4}\n", &["alpha_pattern (line 9): `key` matches no adapted map"]);
    check(
        "rank_pattern: {query|value: 4, query: 2}\n",
        &["every map that `query` matches is matched by an expression before it"],
    );
    check(
        "rank_pattern: {query: 200}\n",
        &[
            "rank_pattern (line 9): `encoder.layer.0.attention.self.query` is [128, 128], so its rank is at most 128, but rank is `200`; use 1..=128 (`lora`)",
        ],
    );
    check(
        "rank_pattern: {query: 0}\n",
        &["rank_pattern.query (line 9): query is `0`, but must be a whole number, at least 1"],
    );
    check("rank_pattern: {query: wide}\n", &["query is `wide`, but must be a whole number"]);
    check(
        "rank_pattern: [query]\n",
        &["rank_pattern (line 9): rank_pattern is a list, but must be a map such as `rank_pattern: {query: 4}`"],
    );
    check("rank_pattern: {1: 4}\n", &["the key `1` is no name or expression"]);
    check("rank_pattern: {'(': 4}\n", &["`(` is not a valid regular expression"]);
    check("alpha_pattern: {query: high}\n", &["alpha_pattern.query (line 9): query is `high`, but must be a number"]);
    check("alpha_pattern: {query: 0}\n", &["the alpha of `query` is `0`, but must be finite and not 0"]);
    // A rank that no map is left to take is no rank of a map.
    good("ranks: [500]\nrank_pattern: {'.*': 4}\n", &[]);
}

#[test]
fn ranks_that_another_mechanism_owns_are_refused() {
    let with =
        |preset: &str, field: &str| format!("ranks: [6]\nvariants: [{{preset: {preset}, {field}: {{query: 2}}}}]\n");
    for (preset, field, reason) in [
        ("dylora", "rank_pattern", "its rank policy is `nested_sampling`, which draws one rank for all maps"),
        ("adalora", "rank_pattern", "its rank policy is `budget`, which gives every map its rank"),
        (
            "vera",
            "rank_pattern",
            "its delta is `shared_random`, whose random pair has one rank and is shared by all maps",
        ),
        ("vera", "alpha_pattern", "its scaling is `constant`, which has no alpha"),
        ("head_only", "rank_pattern", "`head_only` adapts no map"),
    ] {
        check(&with(preset, field), &[&format!("variants[0].{field} (line 8): `{preset}` ")]);
        check(&with(preset, field), &[reason]);
    }
    check(
        "rank_pattern: {query: 2}\nvariants: [lora, vera]\n",
        &[
            "rank_pattern (line 8): `vera` takes no rank_pattern: its delta is `shared_random`, whose random pair has one rank and is shared by all maps; write `rank_pattern: {}` in its entry",
        ],
    );
    for preset in ["lora", "dora", "lora_fa", "lora_plus", "rslora", "lora_fa_preconditioned"] {
        good(&with(preset, "rank_pattern"), &[]);
        good(&with(preset, "alpha_pattern"), &[]);
    }
    good(&with("dylora", "alpha_pattern"), &[]);
}

#[test]
fn derived_readouts_go_up_to_the_largest_rank_of_a_map() {
    let rest = "ranks: [2]\nrank_pattern: {query: 4}\nvariants: [{preset: lora, readouts: [truncated]}]\n";
    let cell = first(rest, &[]);
    assert_eq!((cell.id.rank, cell.recipe.largest_rank()), (2, 4));
    let ranks: Vec<_> = cell.readouts(&[]).into_iter().map(|(readout, _)| readout.rank).collect();
    assert_eq!(ranks, [2, 1, 2, 3]);
    good("ranks: [1]\nrank_pattern: {query: 4}\nvariants: [{preset: lora, readouts: [svd]}]\n", &[]);
}

#[test]
fn modules_that_train_in_full_are_modules_and_no_targets() {
    check(
        "modules_to_save: [LayrNorm]\n",
        &["modules_to_save (line 9): `LayrNorm` (did you mean `LayerNorm`?) is no module that can train here"],
    );
    check(
        "modules_to_save: [classifier]\n",
        &["`classifier` is the task's head, which every run trains and saves; leave it out"],
    );
    check("modules_to_save: [query]\n", &[&format!("`{QUERY_0}` is a target and would also train in full")]);
    check("modules_to_save: pooler\n", &["`pooler` is no module that can train here"]); // RoBERTa has none
    check(
        "variants: [{preset: full, modules_to_save: [LayerNorm]}]\n",
        &["`full` trains the whole base; leave `modules_to_save` out"],
    );
    check("variants: [{preset: bitfit, modules_to_save: [poolr]}]\n", &["`poolr` is no module"]);
    // One wrong field does not hide the next.
    check(
        "layers_pattern: layer\nmodules_to_save: [poolr]\n",
        &["layers_pattern (line 9): layers_pattern says", "modules_to_save (line 10): `poolr` is no module"],
    );
    // Their roles are roles of the variant.
    let plan =
        |saved: &str| format!("{saved}variants: [{{preset: lora, with: {{train: {{norm: {{lr_multiplier: 2}}}}}}}}]\n");
    check(&plan(""), &["this variant has no tensor of role `norm`"]);
    good(&plan("modules_to_save: [LayerNorm]\n"), &[]);
}

#[test]
fn biases_are_a_field_of_the_variant() {
    for (written, wanted) in [("none", BiasSpec::None), ("all", BiasSpec::All), ("lora_only", BiasSpec::LoraOnly)] {
        let plan =
            good(&format!("variants: [{{preset: lora, with: {{bias: {written}}}}}]\n"), &[]).cells()[0].recipe.clone();
        assert_eq!(plan.variant.bias, wanted);
    }
    check(
        "variants: [{preset: lora, with: {bias: lora}}]\n",
        &["variants[0].with.bias (line 8): unknown bias `lora`; use one of `none`, `all`, `lora_only`"],
    );
    check(
        "variants: [{preset: lora, bias: all}]\n",
        &["unknown key `bias`; which biases train is a field of the variant: write `with: {bias: all}`"],
    );
}

#[test]
fn pefts_other_names_are_pointed_to_ours() {
    for (rest, path) in [
        ("fan_in_fan_out: true\n", "fan_in_fan_out (line 9)"),
        ("variants: [{preset: lora, fan_in_fan_out: true}]\n", "variants[0].fan_in_fan_out (line 8)"),
        ("variants: [{preset: lora, with: {fan_in_fan_out: true}}]\n", "variants[0].with.fan_in_fan_out (line 8)"),
    ] {
        check(rest, &[&format!("{path}: unknown key `fan_in_fan_out`; how a map is stored follows from the model")]);
    }
    check("target_modules: [query]\n", &["unknown key `target_modules`; the adapted maps are called `targets`"]);
    check("variants: [{preset: lora, lora_alpha: 8}]\n", &["write `with: {alpha: 16}`"]);
    check("rank_patern: {query: 2}\n", &["unknown key `rank_patern`, did you mean `rank_pattern`?"]);
}

#[test]
fn rows_that_train_are_rows_of_the_table_once_each() {
    let at = "trainable_token_indices (line 9): ";
    let refused = |rest: &str, rule: &str| check(rest, &[&format!("{at}{rule}")]);
    refused(
        "trainable_token_indices: [5, 999999]\n",
        "token is `999999`, but `embeddings.word_embeddings` of this model has",
    );
    check(
        "trainable_token_indices: [5, 7, 5]
",
        &["trainable_token_indices[2] (line 9): `5` is there twice, first at trainable_token_indices[0]"],
    );
    check("trainable_token_indices: [five]\n", &["must be a whole number, 0 or more"]);
    check(
        "targets: [query, word_embeddings]\ntrainable_token_indices: [5]\n",
        &["`embeddings.word_embeddings` has rows that would train, but is itself a target or trains in full"],
    );
    check(
        "modules_to_save: [word_embeddings]\ntrainable_token_indices: [5]\n",
        &["`embeddings.word_embeddings` has rows that would train, but is itself a target or trains in full"],
    );
    check(
        "variants: [{preset: full, trainable_token_indices: [5]}]\n",
        &["`full` trains the whole base; leave `trainable_token_indices` out"],
    );
    // What the experiment says for all of them is nothing to such an entry, and an empty list is none.
    assert!(modules("trainable_token_indices: [5]\nvariants: [full]\n").is_default());
    assert!(modules("trainable_token_indices: []\n").is_default());
    assert_eq!(modules("trainable_token_indices: [5]\nvariants: [head_only]\n").trainable_token_indices, [5]);
}
