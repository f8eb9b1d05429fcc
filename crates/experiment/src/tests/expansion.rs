//! What a valid experiment becomes: compositions, recipes, cells, targets.

use std::path::{Path, PathBuf};

use models::target::Target;
use serde_json::json;
use variants::{
    rank::{
        AnyRankPolicy,
        nested_sampling::{OptimizerState, Update},
    },
    role::{Role, RoleConfig},
    spec::VariantSpec,
};

use super::{good, parse};
use crate::cell::{Cell, Derived};
use crate::{CohortSize, read};

/// The composition of the only cell.
#[track_caller]
fn spec(variant: &str) -> VariantSpec {
    let experiment = good(&format!("variants:\n  - {variant}\n"), &[]);
    assert_eq!(experiment.cells().len(), 1);
    experiment.cells()[0].recipe.variant.clone()
}

#[test]
fn overrides_merge_into_a_preset() {
    let plain = spec("dylora");
    let frozen = spec("{preset: dylora, with: {alpha: 32, rank_policy: {update: frozen}}}");
    assert_eq!(frozen.alpha, 32.0);
    let AnyRankPolicy::NestedSampling(policy) = &frozen.rank_policy else { panic!("{frozen:?}") };
    assert_eq!((policy.update, policy.r_min), (Update::Frozen, 1));
    assert_eq!(VariantSpec { alpha: plain.alpha, rank_policy: plain.rank_policy.clone(), ..frozen }, plain);
    let masked = spec("{preset: dylora, with: {rank_policy: {optimizer_state: masked}}}");
    let AnyRankPolicy::NestedSampling(policy) = &masked.rank_policy else { panic!("{masked:?}") };
    assert_eq!(policy.optimizer_state, OptimizerState::Masked);
    // A new kind replaces the map.
    let constant = spec("{preset: dylora, with: {rank_policy: {kind: constant}}}");
    assert_eq!(constant, spec("lora"));
    // A role's plan keeps what is not overridden, whether or not the preset names the role.
    let plus = spec("{preset: lora_plus, with: {train: {b: {lr_multiplier: 4}}}}");
    assert!(plus.train.0.contains_key(&Role::Embedding));
    assert_eq!(
        plus.train.of_role(Role::B),
        RoleConfig::Trained { lr_multiplier: 4.0, learning_rate: None, weight_decay: None }
    );
    // LoRA+ raises the rate of `B` alone; what its authors' optimizer raises as well has to be written.
    let magnitude = |train: &str| {
        spec(&format!("{{preset: lora_plus, with: {{combine: {{kind: weight_decomposed}}{train}}}}}"))
            .train
            .of_role(Role::Magnitude)
    };
    assert_eq!(magnitude(""), RoleConfig::DEFAULT);
    assert_eq!(
        magnitude(", train: {magnitude: {lr_multiplier: 16}}"),
        RoleConfig::Trained { lr_multiplier: 16.0, learning_rate: None, weight_decay: None }
    );
    let decayed = spec("{preset: lora, with: {bias: all, train: {a: {state: frozen}, bias: {lr_multiplier: 2}}}}");
    assert_eq!(
        decayed.train.of_role(Role::Bias),
        RoleConfig::Trained { lr_multiplier: 2.0, learning_rate: None, weight_decay: Some(0.0) }
    );
    assert!(!decayed.train.trains(Role::A));
    // Adapting by override needs a rank, and not adapting has none.
    assert_eq!(spec("{preset: head_only, with: {delta: {kind: low_rank}}}").rank, 4);
    assert_eq!(spec("{preset: lora, with: {delta: null}}"), spec("head_only"));
}

#[test]
fn layers_of_a_recipe_go_from_experiment_to_task_to_variant() {
    let experiment = good(
        "tasks: [sst2, {task: cola, train: {epochs: 2, batch: 8}}]\nvariants: [lora, {preset: dora, train: {batch: 4, clip: null}}]\n",
        &[],
    );
    let of = |n: usize| {
        let train = &experiment.cells()[n].recipe.train;
        (train.steps, train.epochs, train.batch, train.clip)
    };
    assert_eq!([of(0), of(1)], [(Some(100), None, 32, Some(1.0)), (Some(100), None, 4, None)]);
    assert_eq!([of(2), of(3)], [(None, Some(2.0), 8, Some(1.0)), (None, Some(2.0), 4, None)]);
    assert_eq!(experiment.cells()[0].diff, json!({}));
    assert_eq!(experiment.cells()[3].diff, json!({"train": {"epochs": 2, "batch": 4, "clip": null}}));
}

#[test]
fn a_grid_expands_in_order() {
    let text = "\
# What it asks.
suite: glue_mini
model: mini_roberta
tasks: [cola, rte]
seeds: [2, 0]
targets: all-linear
ranks: [2, 8]
cohort: 4
variants: [head_only, {preset: lora, readouts: [truncated, svd]}, {preset: full, label: full_random, model: mini_roberta_random}]
baseline: head_only
";
    let experiment = parse(text, &[]).unwrap();
    let ids: Vec<_> = experiment.cells().iter().map(|cell| cell.id.to_string()).collect();
    assert_eq!(ids.len(), 2 * (1 + 2 + 1) * 2);
    assert_eq!(
        ids[..5],
        [
            "cola/head_only seed 2",
            "cola/head_only seed 0",
            "cola/lora rank 2 seed 2",
            "cola/lora rank 2 seed 0",
            "cola/lora rank 8 seed 2"
        ]
    );
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
    let lora: Vec<&Cell> = experiment.cells().iter().filter(|cell| cell.id.variant == "lora").collect();
    assert!(
        lora.iter().all(|cell| cell.recipe.readouts
            == if cell.id.rank == 8 { vec![Derived::Truncated, Derived::Svd] } else { vec![] })
    );
    let random = experiment.cells().iter().find(|cell| cell.id.variant == "full_random").unwrap();
    assert_eq!((&*random.recipe.model, random.recipe.preset.as_str()), ("mini_roberta_random", "full"));
    assert_eq!(
        (&random.recipe.targets, &random.diff),
        (&Target::Endings(vec![]), &json!({"model": "mini_roberta_random"}))
    );
    assert_eq!((experiment.name(), experiment.suite(), &*experiment.title()), ("x", "glue_mini", "What it asks."));
    assert_eq!(
        (experiment.cohort(), experiment.baseline(), experiment.text()),
        (CohortSize::Runs(4), Some("head_only"), text)
    );
    assert_eq!(experiment.tasks(), ["cola", "rte"]);
}

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            found.push(path);
        }
    }
}

#[test]
fn every_experiment_of_the_repository_is_valid() {
    let mut files = Vec::new();
    yaml_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments"), &mut files);
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let (text, stem) =
            (std::fs::read_to_string(&file).unwrap(), file.file_stem().unwrap().to_string_lossy().into_owned());
        let experiment =
            read(&text, &file.display().to_string(), &stem, &[]).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(!experiment.title().is_empty(), "{} opens with no comment", file.display());
        assert!(text.contains(&format!("run experiments/{stem}.yaml")), "{} gives no command", file.display());
        let runs = format!("{} runs", experiment.cells().len());
        assert!(!text.contains(" runs;") || text.contains(&runs), "{} makes {runs}", file.display());
    }
}
