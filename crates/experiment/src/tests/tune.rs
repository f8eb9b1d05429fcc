//! The block `tune`: its settings, its trials, and the experiment with what was chosen.

use std::collections::BTreeMap;

use record::{End, Goal, Setting, Trial, Tuned, TunedGroup, TuningGroup};
use serde_json::json;

use super::{good, parse, yaml};
use crate::{
    Experiment,
    tune::{Per, best},
};

const TUNED: &str = "tasks: [cola, rte]\nranks: [2]\nvariants: [lora, dora]\ntune:\n  space: {train.learning_rate: [1e-3, 3e-3, 1e-2]}\n  seeds: [100, 101]\n";

/// What is said of an experiment that may not be run.
fn errors(rest: &str) -> String {
    parse(&yaml(rest), &[]).expect_err("a problem was expected").to_string()
}

fn rate(value: f64) -> Setting {
    Setting(BTreeMap::from([("train.learning_rate".to_owned(), json!(value))]))
}

fn trial(setting: Setting, score: f64) -> Trial {
    Trial { setting, rungs: Vec::new(), scores: vec![Some(score)] }
}

fn rates(experiment: &Experiment) -> Vec<(String, f64)> {
    experiment.cells().iter().map(|cell| (cell.id.slug(), cell.recipe.train.learning_rate)).collect()
}

#[test]
fn a_grid_has_every_combination_and_entries_have_parameters_of_their_own() {
    let experiment = good(
        "variants:\n  - lora\n  - {preset: dora, tune: {with.alpha: [8, 16], train.learning_rate: [1e-2]}}\ntune: {space: \
         {train.learning_rate: [1e-3, 3e-3]}}\n",
        &[],
    );
    let tune = experiment.tune().unwrap();
    let shown = |label: &str| tune.settings(label).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown("lora"), ["learning_rate=0.001", "learning_rate=0.003"]);
    assert_eq!(shown("dora"), ["learning_rate=0.01+alpha=8", "learning_rate=0.01+alpha=16"]);
    assert_eq!((tune.per, tune.widen, tune.holdout, tune.seeds.as_slice()), (Per::Task, 2, 0.2, &[100, 101][..]));
}

#[test]
fn draws_are_the_same_whenever_they_are_made_and_all_different() {
    let yaml = "variants: [lora]\ntune: {trials: 20, space: {train.learning_rate: {from: 1e-4, to: 1e-1}, with.alpha: [8, 16]}}\n";
    let (one, other) = (good(yaml, &[]), good(yaml, &[]));
    let settings = one.tune().unwrap().settings("lora");
    assert_eq!(settings, other.tune().unwrap().settings("lora"));
    let rates: Vec<f64> = settings.iter().map(|s| s.0["train.learning_rate"].as_f64().unwrap()).collect();
    assert!(rates.iter().all(|rate| (1e-4..=1e-1).contains(rate)), "{rates:?}");
    // The logarithm is uniform: about half of the draws lie below the middle decade and a half.
    let below = rates.iter().filter(|rate| **rate < 10_f64.powf(-2.5)).count();
    assert!((5..=15).contains(&below), "{rates:?}");
    for (at, setting) in settings.iter().enumerate() {
        assert!(!settings[..at].contains(setting));
    }
}

#[test]
fn trials_have_the_setting_the_tuning_seeds_and_a_split_of_their_own() {
    let experiment = good(TUNED, &[]);
    let group = TuningGroup { task: Some("cola".to_owned()), variant: "lora".to_owned(), rank: Some(2) };
    assert!(experiment.groups().contains(&group), "{:?}", experiment.groups());
    let trials = experiment.trials(&[(group.clone(), rate(3e-3)), (group, rate(1e-2))]).unwrap();
    let slugs: Vec<String> = trials.iter().flatten().map(|cell| cell.id.slug()).collect();
    assert_eq!(
        slugs,
        [
            "cola-lora+learning_rate=0.003-r2-s100",
            "cola-lora+learning_rate=0.003-r2-s101",
            "cola-lora+learning_rate=0.01-r2-s100",
            "cola-lora+learning_rate=0.01-r2-s101"
        ]
    );
    for cell in trials.iter().flatten() {
        let holdout = cell.recipe.holdout.unwrap();
        assert_eq!((holdout.share, holdout.seed, cell.recipe.seeds.data), (0.2, cell.id.seed, cell.id.seed));
    }
    assert_eq!(trials[1][0].recipe.train.learning_rate, 1e-2);
    // What is reported has its own seeds and splits.
    assert!(experiment.cells().iter().all(|cell| cell.recipe.holdout.is_none() && cell.id.seed < 100));
}

#[test]
fn every_group_gets_its_own_setting() {
    let experiment = good(TUNED, &[]);
    let groups = experiment.groups();
    let of = |at: usize| [1e-3, 3e-3, 1e-2][at % 3];
    let chosen = groups.iter().enumerate().map(|(at, group)| (group.clone(), rate(of(at)))).collect();
    let tuned = experiment.tuned(&chosen).unwrap();
    let before: Vec<String> = rates(&experiment).into_iter().map(|cell| cell.0).collect();
    let after = rates(&tuned);
    assert_eq!(after.iter().map(|cell| cell.0.clone()).collect::<Vec<_>>(), before, "the same cells in the same order");
    for cell in tuned.cells() {
        let group = TuningGroup {
            task: Some(cell.id.task.clone()),
            variant: cell.id.variant.clone(),
            rank: Some(cell.id.rank),
        };
        let at = groups.iter().position(|other| *other == group).unwrap();
        assert_eq!(cell.recipe.train.learning_rate, of(at), "{}", cell.id);
    }
    assert_eq!(tuned.tuning_hash(), experiment.tuning_hash());
}

#[test]
fn one_setting_may_serve_a_variant_on_all_tasks() {
    let experiment = good(&format!("{TUNED}  per: variant\n"), &[]);
    let groups = experiment.groups();
    assert_eq!(groups.len(), 2, "{groups:?}");
    let trials = experiment.trials(&[(groups[0].clone(), rate(1e-2))]).unwrap();
    let tasks: std::collections::BTreeSet<&str> = trials[0].iter().map(|cell| cell.id.task.as_str()).collect();
    assert_eq!(tasks.len(), 2, "{tasks:?}");
}

#[test]
fn a_grid_widens_where_its_best_lies_at_an_end_and_no_further_than_it_may() {
    let experiment = good(TUNED, &[]);
    let tune = experiment.tune().unwrap();
    let at = |scores: &[(f64, f64)]| -> Vec<Trial> { scores.iter().map(|&(r, score)| trial(rate(r), score)).collect() };
    let wider = |trials: &[Trial]| tune.wider("lora", trials, &trials[best(trials, 1.0).unwrap()].setting);
    let inside = at(&[(1e-3, 0.1), (3e-3, 0.9), (1e-2, 0.2)]);
    assert!(wider(&inside).is_empty() && tune.edges("lora", &inside, &rate(3e-3)).is_empty());
    // By the list's own ratio at that end, twice.
    let mut rising = at(&[(1e-3, 0.1), (3e-3, 0.2), (1e-2, 0.3)]);
    assert_eq!(wider(&rising), [rate(0.033_333_3)]);
    rising.push(trial(rate(0.033_333_3), 0.4));
    assert_eq!(wider(&rising), [rate(0.111_111)]);
    rising.push(trial(rate(0.111_111), 0.5));
    assert!(wider(&rising).is_empty(), "two values beyond the end are all it may add");
    assert_eq!(tune.edges("lora", &rising, &rate(0.111_111)), [("train.learning_rate".to_owned(), End::Upper)]);
    let falling = at(&[(1e-3, 0.9), (3e-3, 0.2), (1e-2, 0.3)]);
    assert_eq!(wider(&falling), [rate(0.000_333_333)]);
    assert_eq!(tune.edges("lora", &falling, &rate(1e-3)), [("train.learning_rate".to_owned(), End::Lower)]);
}

#[test]
fn the_best_is_the_first_of_equals_and_never_one_that_failed() {
    let mut trials = vec![trial(rate(1.0), 0.5), trial(rate(2.0), 0.7), trial(rate(3.0), 0.7), trial(rate(4.0), 0.9)];
    trials[3].scores.push(None);
    assert_eq!((best(&trials, 1.0), best(&trials, -1.0)), (Some(1), Some(0)));
    for trial in &mut trials {
        trial.scores = vec![None];
    }
    assert_eq!(best(&trials, 1.0), None);
}

const TEXTS: &str = "suite: text\nmodel: ./base\ndata: .\nvariants: [lora]\ntargets: [c_attn]\ntune: {space: {train.learning_rate: [1e-3]}}\n";

fn told(name: &str, rest: &str) -> String {
    format!("{{task: {{name: {name}, form: pairs, train: {name}.txt, dev: dev.txt{rest}}}}}")
}

#[test]
fn texts_are_tuned_on_a_part_of_their_training_file() {
    let experiment = good(&format!("{TEXTS}tasks: [{}, {}]\n", told("a", ""), told("b", "")), &[]);
    let trials = experiment.trials(&[(experiment.groups()[0].clone(), rate(1e-3))]).unwrap();
    assert!(trials[0].iter().all(|cell| cell.recipe.holdout.is_some() && cell.recipe.text().is_some()));
    // Perplexity falls and BLEU rises: no one direction is the better one.
    let mixed = format!("{TEXTS}tasks: [{}, {}]\n", told("a", ""), told("b", ", metrics: [bleu]"));
    let found = errors(&mixed);
    assert!(found.contains("less is better for `a`") && found.contains("more for `b`"), "{found}");
}

#[test]
fn a_task_that_starts_from_another_is_tuned_apart() {
    let found = errors(
        "tasks: [rte, {task: mrpc, start_from: rte}]\nvariants: [lora]\ntune: {space: {train.learning_rate: [1e-3]}}\n",
    );
    assert!(found.contains("`mrpc` starts from a run of this experiment"), "{found}");
}

#[test]
fn what_a_tuning_may_not_be_is_said_before_anything_trains() {
    let with = |tune: &str| errors(&format!("variants: [lora, dora]\ntune: {tune}\n"));
    for (tune, said) in [
        ("{space: {train.learning_rate: [1e-3]}, seeds: [0]}", "seed 0 is also one of the experiment's `seeds`"),
        ("{}", "`space` is missing"),
        ("{space: {}}", "needs at least one field to tune"),
        ("{space: {learning_rate: [1e-3]}}", "`learning_rate` cannot be tuned"),
        ("{space: {train.learning_rate: [1e-3, -1]}}", "learning_rate is `-1`, but must be finite and above 0"),
        ("{space: {train.learning_rat: [1e-3]}}", "unknown key `learning_rat`"),
        ("{space: {train.learning_rate: {from: 1e-4, to: 1e-1}}}", "an interval has no grid; give `trials`"),
        ("{space: {train.learning_rate: {from: 1e-1, to: 1e-4}}, trials: 3}", "two numbers, above 0 and rising"),
        ("{space: {train.learning_rate: [1e-3]}, holdout: 1}", "holdout is `1`, but must be a share"),
        ("{space: {train.learning_rate: [1e-3]}, per: rank}", "unknown value `rank`"),
        ("{space: {train.learning_rate: [1e-3, 1e-3]}}", "is there twice"),
    ] {
        let found = with(tune);
        assert!(found.contains(said), "{tune}: {found}");
    }
    let found = errors(
        "variants: [lora, {preset: dora, tune: {with.alpha: [8, 16]}}]\ntune: {space: {train.learning_rate: [1e-3, 1e-2]}}\n",
    );
    assert!(found.contains("`dora` has 4 settings and `lora` has 2"), "{found}");
    let found = errors("variants: [lora, {preset: dora, tune: {with.alpha: [8]}}]\n");
    assert!(found.contains("the experiment has no `tune`"), "{found}");
}

#[test]
fn the_order_of_a_list_does_not_matter() {
    let reversed = good(&TUNED.replace("[1e-3, 3e-3, 1e-2]", "[1e-2, 1e-3, 3e-3]"), &[]);
    let tune = reversed.tune().unwrap();
    let trials = [(1e-2, 0.3), (1e-3, 0.1), (3e-3, 0.2)].map(|(r, score)| trial(rate(r), score));
    assert_eq!(tune.edges("lora", &trials, &rate(1e-2)), [("train.learning_rate".to_owned(), End::Upper)]);
    assert_eq!(tune.wider("lora", &trials, &rate(1e-2)), [rate(0.033_333_3)]);
    assert_eq!(tune.wider("lora", &trials, &rate(1e-3)), [rate(0.000_333_333)]);
    assert!(tune.unwidened().is_empty());
}

#[test]
fn an_edge_is_told_of_every_number_and_what_cannot_be_widened_is_said() {
    let setting = |path: &str, value: serde_json::Value| Setting(BTreeMap::from([(path.to_owned(), value)]));
    let experiment = good("variants: [lora]\ntune: {space: {train.weight_decay: [0, 0.1, 0.2]}}\n", &[]);
    let tune = experiment.tune().unwrap();
    let decay = |value| setting("train.weight_decay", json!(value));
    let trials = [0.0, 0.1, 0.2].map(|value| trial(decay(value), 1.0 - value));
    assert_eq!(tune.edges("lora", &trials, &decay(0.0)), [("train.weight_decay".to_owned(), End::Lower)]);
    assert!(tune.edges("lora", &trials, &decay(0.1)).is_empty());
    assert!(tune.wider("lora", &trials, &decay(0.2)).is_empty());
    let [said] = &tune.unwidened()[..] else { unreachable!("one field") };
    assert!(said.starts_with("`train.weight_decay` is not widened: its list has 0"), "{said}");
    let silent = good("variants: [lora]\ntune: {widen: 0, space: {train.weight_decay: [0, 0.1, 0.2]}}\n", &[]);
    assert!(silent.tune().unwrap().unwidened().is_empty());

    let experiment =
        good("variants: [lora]\ntune: {trials: 3, space: {train.learning_rate: {from: 1e-4, to: 1e-1}}}\n", &[]);
    let tune = experiment.tune().unwrap();
    let trials = [2e-3, 1e-2, 3e-4].map(|value| trial(rate(value), value));
    assert_eq!(tune.edges("lora", &trials, &rate(1e-2)), [("train.learning_rate".to_owned(), End::Upper)]);
    assert_eq!(tune.edges("lora", &trials, &rate(3e-4)), [("train.learning_rate".to_owned(), End::Lower)]);
    assert!(
        tune.edges("lora", &trials, &rate(2e-3)).is_empty() && tune.edges("lora", &trials[..1], &rate(2e-3)).is_empty()
    );
    assert!(tune.wider("lora", &trials, &rate(1e-2)).is_empty());
    assert!(tune.unwidened()[0].contains("an interval ends where it ends"), "{:?}", tune.unwidened());

    // Names have no order.
    let experiment = good("variants: [lora]\ntune: {space: {train.schedule: [linear, cosine]}}\n", &[]);
    let schedules = ["linear", "cosine"].map(|name| trial(setting("train.schedule", json!(name)), 0.5));
    let tune = experiment.tune().unwrap();
    assert!(tune.edges("lora", &schedules, &schedules[0].setting).is_empty() && tune.unwidened().is_empty());
}

#[test]
fn whole_numbers_stay_whole() {
    let experiment = good("variants: [lora]\ntune: {space: {train.batch: [8, 16]}}\n", &[]);
    let batch = |n: u64| Setting(BTreeMap::from([("train.batch".to_owned(), json!(n))]));
    let trials = [(8, 0.1), (16, 0.2)].map(|(n, score)| trial(batch(n), score));
    let wider = experiment.tune().unwrap().wider("lora", &trials, &batch(16));
    assert_eq!(wider, [batch(32)]);
    assert!(experiment.trials(&[(experiment.groups()[0].clone(), wider[0].clone())]).is_ok());
}

const HALVED: &str = "variants: [lora]\ntune:\n  space: {train.learning_rate: [1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3, 7e-3, 8e-3, 9e-3]}\n  halving: {rungs: 3}\n";

#[test]
fn a_rung_trains_a_part_of_the_steps_and_the_last_one_the_same_trial_as_a_grid() {
    let experiment = good(&format!("{HALVED}train: {{steps: 100}}\n"), &[]);
    let group = experiment.groups()[0].clone();
    let short = |divisor| experiment.shortened(&group, &rate(3e-3), divisor).to_string();
    assert_eq!(
        [9, 3, 1].map(short),
        ["learning_rate=0.003+steps=12", "learning_rate=0.003+steps=34", "learning_rate=0.003"]
    );
    let trials = experiment.trials(&[(group.clone(), experiment.shortened(&group, &rate(3e-3), 9))]).unwrap();
    assert_eq!(trials[0][0].recipe.train.steps, Some(12));
    let passes = good(&format!("{HALVED}train: {{epochs: 3}}\n"), &[]);
    let short = passes.shortened(&passes.groups()[0], &rate(3e-3), 9);
    assert_eq!(short.to_string(), "epochs=0.333333+learning_rate=0.003");
    assert!(passes.trials(&[(passes.groups()[0].clone(), short)]).is_ok());
    // A study without it has the hash that it always had.
    let hash = |rest: &str| good(rest, &[]).tuning_hash();
    let grid = HALVED.replace("  halving: {rungs: 3}\n", "");
    assert!(hash(HALVED) != hash(&grid) && hash(HALVED) != hash(&HALVED.replace("rungs: 3", "rungs: 2")));
}

/// What a halving's file may hold is what its scores let go on.
#[test]
fn a_halving_is_checked_by_what_its_scores_promote() {
    let experiment = good(
        "variants: [lora]\ntune: {space: {train.learning_rate: [1e-3, 2e-3, 3e-3, 4e-3]}, seeds: [100], widen: 1, halving: {rungs: 3, factor: 2}}\n",
        &[],
    );
    let tune = experiment.tune().unwrap();
    let at = |place: usize, rungs: &[f64], scores: &[f64]| Trial {
        setting: rate([1e-3, 2e-3, 3e-3, 4e-3][place]),
        rungs: rungs.iter().map(|score| vec![Some(*score)]).collect(),
        scores: scores.iter().copied().map(Some).collect(),
    };
    let groups = experiment.groups();
    let tuned = |trials: Vec<Trial>, chosen| {
        let group = TunedGroup { group: groups[0].clone(), trials, chosen, edges: BTreeMap::new() };
        let found = Tuned::new(experiment.tuning_hash(), vec![100], 0.2, Goal::Maximise, vec![group]);
        experiment.check_tuned(&found.halved(tune.halving))
    };
    let right = || vec![at(0, &[0.1], &[]), at(1, &[0.3, 0.5], &[]), at(2, &[0.4, 0.6], &[0.7]), at(3, &[0.2], &[])];
    assert_eq!(tuned(right(), 2), Ok(()));
    let added = |rungs: &[f64]| {
        let mut trials = right();
        trials.push(Trial { setting: rate(5e-3), ..at(0, rungs, &[0.9]) });
        tuned(trials, 4)
    };
    assert_eq!(added(&[]), Ok(()));
    let wrong: [(usize, Trial); 6] = [
        (0, at(0, &[0.1], &[0.9])),      // dropped, and has all steps
        (0, at(0, &[0.1, 0.2], &[])),    // scored worst and went on
        (1, at(1, &[0.3], &[])),         // scored well and did not
        (1, at(1, &[0.3, 0.5], &[0.4])), // both had all steps
        (2, at(2, &[0.4, 0.6], &[])),    // none had
        (2, at(2, &[], &[0.7])),         // all steps without a rung
    ];
    for (place, trial) in wrong {
        let mut trials = right();
        trials[place] = trial;
        let said = tuned(trials, 2).unwrap_err();
        assert!(said.contains("went on where others scored better"), "{said}");
    }
    assert!(added(&[0.5]).unwrap_err().contains("went on"));
    let mut short = right();
    short[0].rungs[0].clear();
    assert!(tuned(short, 2).unwrap_err().contains("has 0 scores of learning_rate=0.001"));
    let group = TunedGroup { group: groups[0].clone(), trials: right(), chosen: 2, edges: BTreeMap::new() };
    let plain = Tuned::new(experiment.tuning_hash(), vec![100], 0.2, Goal::Maximise, vec![group]);
    assert!(experiment.check_tuned(&plain).unwrap_err().contains("halving is not"));
}

#[test]
fn a_halving_that_has_nothing_to_drop_or_to_divide_is_refused() {
    let with = |rest: &str| errors(&format!("variants: [lora, dora]\n{rest}"));
    for (rest, said) in [
        ("tune: {space: {train.learning_rate: [1e-3, 1e-2]}, halving: {}}", "`rungs` is missing"),
        ("tune: {space: {train.learning_rate: [1e-3, 1e-2]}, halving: {rungs: 1}}", "rungs is `1`, but must be"),
        (
            "tune: {space: {train.learning_rate: [1e-3, 1e-2]}, halving: {rungs: 2, factor: 1}}",
            "factor is `1`, but must be",
        ),
        (
            "tune: {space: {train.learning_rate: [1e-3, 1e-2, 1e-1]}, halving: {rungs: 3}}",
            "`lora` has 3 settings, of which 1 is left at rung 2 of 3, and nothing to drop",
        ),
        (
            "train: {steps: 8}\ntune: {space: {train.learning_rate: [1e-3, 2e-3, 3e-3, 1e-2]}, halving: {rungs: 3}}",
            "trains 8 steps, of which the first of 3 rungs has less than one",
        ),
        (
            "tune: {space: {train.steps: [10, 20, 30, 40]}, halving: {rungs: 2}}",
            "`train.steps` is tuned, but the rungs of a halving decide it",
        ),
        (
            "tasks: [cola, {task: rte, train: {steps: 7}}]\ntune: {per: variant, space: {train.learning_rate: [1e-3, 1e-2]}, halving: {rungs: 2, factor: 2}}",
            "trains for another number of steps on `rte`",
        ),
    ] {
        let found = with(rest);
        assert!(found.contains(said), "{rest}: {found}");
    }
}

#[test]
fn a_preset_names_what_is_tuned_in_it_beside_the_rate() {
    const DRAWN: &str =
        "tune: {knobs: true, trials: 12, space: {train.learning_rate: {from: 1e-4, to: 1e-2}}}\nranks: [12]\n";
    let paths = |experiment: &Experiment, label: &str| -> Vec<String> {
        experiment.tune().unwrap().parameters(label).iter().map(|parameter| parameter.path.clone()).collect()
    };
    let experiment = good(
        &format!(
            "variants: [lora, lora_plus, adalora, head_only, {{preset: lora, label: fixed, with: {{alpha: 8}}}}]\n{DRAWN}"
        ),
        &[],
    );
    assert_eq!(paths(&experiment, "lora"), ["train.learning_rate", "with.alpha"]);
    assert_eq!(paths(&experiment, "lora_plus"), ["train.learning_rate", "with.train.b.lr_multiplier"]);
    assert_eq!(
        paths(&experiment, "adalora"),
        ["train.learning_rate", "with.alpha", "with.init.std", "with.rank_policy.target_rank"]
    );
    for label in ["head_only", "fixed"] {
        assert_eq!(paths(&experiment, label), ["train.learning_rate"], "{label}");
    }
    // A part that the entry chose is not the preset's any more, and an entry's own values come before the preset's.
    let experiment = good(
        &format!(
            "variants: [{{preset: adalora, with: {{init: {{kind: kaiming}}}}, tune: {{with.alpha: [1, 2]}}}}]\n{DRAWN}"
        ),
        &[],
    );
    assert_eq!(paths(&experiment, "adalora"), ["train.learning_rate", "with.alpha", "with.rank_policy.target_rank"]);
    assert_eq!(
        experiment.tune().unwrap().parameters("adalora")[1].values,
        crate::tune::Values::Listed(vec![json!(1), json!(2)])
    );
    let found = errors(&format!("variants: [{{preset: adalora, ranks: [4, 8]}}]\n{DRAWN}"));
    assert!(found.contains("has other values to tune at rank 4 than at rank 8; give each rank an entry"), "{found}");
    assert!(errors(&format!("variants: [lora]\n{DRAWN}").replace("true", "all")).contains("knobs is `all`"));
}

/// Every value that a preset names is one that its composition takes and that changes it.
#[test]
fn every_knob_of_every_preset_turns() {
    let mut knobs = 0;
    for preset in variants::preset::all() {
        for knob in (preset.knobs)(12) {
            let ranked = preset.at(12).delta.is_some_and(|delta| delta.is_ranked());
            let ranks = if ranked { "ranks: [12]" } else { "" };
            let mut compositions = Vec::new();
            for value in &knob.values {
                let value = if value.fract() == 0.0 { (*value as i64).to_string() } else { value.to_string() };
                let set = format!("variants.{}.with.{}={value}", preset.name, knob.path);
                let experiment = good(&format!("variants: [{}]\n{ranks}\n", preset.name), &[&set]);
                compositions.push(experiment.cells()[0].recipe.variant.clone());
            }
            assert!(compositions.windows(2).all(|two| two[0] != two[1]), "{}: {}", preset.name, knob.path);
            let own = (preset.spec)(12);
            assert!(compositions.contains(&own), "{}: {} has not the preset's own value", preset.name, knob.path);
            assert!(knob.values.windows(2).all(|two| two[0] < two[1]), "{}: {}", preset.name, knob.path);
            knobs += 1;
        }
    }
    assert!(knobs >= 10, "{knobs}");
}
