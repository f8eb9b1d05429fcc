//! What a tuning must hold: equal budgets, seeds that nothing is reported with, settings that every rule of the experiment allows.

use std::collections::BTreeMap;

use data::metric::Metric;
use record::{Goal, Setting, Trial, Tuned, TunedGroup, TuningGroup, mean_over_seeds};
use serde_json::{Value, json};
use serde_yaml::{Mapping, Value as Yaml};
use variants::preset::Knob;

use super::{
    Experiment, Problem, SpecErrors,
    cell::{Cell, StartFrom, TaskSource},
    document::{Document, Entry, Task, WrittenTune, space},
    error::Report,
    path::Path,
    tune::{Parameter, Per, Tune, Values, best},
};

/// Fields that say how long a run trains.
const LENGTHS: [&str; 2] = ["train.steps", "train.epochs"];
/// Settings of a grid: more are a slip.
const MOST_SETTINGS: usize = 10_000;

/// The tuning with the parameters of every entry.
pub(super) fn resolve(document: &Document, cells: &[Cell], report: &mut Report) -> Option<Tune> {
    let Some(written) = &document.tune else {
        for entry in &document.variants {
            if let Some(own) = &entry.tune {
                report.add(
                    &own.at,
                    "this entry has a space of its own, but the experiment has no `tune`; give one, or leave this out",
                );
            }
        }
        return None;
    };
    let mut tune = written.tune.clone();
    if let Some(seed) = document.seeds.iter().find(|seed| tune.seeds.contains(seed)) {
        let rule = format!(
            "seed {seed} is also one of the experiment's `seeds`; a seed that chooses a setting may report no result, so give others"
        );
        report.add(&written.at.key("seeds"), rule);
    }
    check_goals(document, written, report);
    if let Some(cell) = cells.iter().find(|cell| matches!(cell.recipe.start_from, Some(StartFrom::Cell(_)))) {
        let rule = format!(
            "`{}` starts from a run of this experiment, which has no chosen setting yet; tune and train that task in an experiment of its \
             own, and give the adapter's folder as `start_from`",
            cell.id.task
        );
        report.add(&written.at, rule);
    }
    for entry in &document.variants {
        let knobs = if written.knobs { knobs(entry, cells, &written.at, report) } else { Vec::new() };
        tune.space.insert(entry.label.clone(), parameters(written, entry, knobs, report));
    }
    check_budgets(document, written, &tune, report);
    check_rungs(document, written, &tune, cells, report);
    Some(tune)
}

/// One experiment has one direction that is better: of metrics that differ in it there is no mean and no common table.
fn check_goals(document: &Document, written: &WrittenTune, report: &mut Report) {
    // The suites' own tasks are judged by metrics of which more is better.
    let primary = |task: &Task| match &task.given {
        Some(TaskSource::Text(text)) => text.metrics().first().copied(),
        _ => None,
    };
    let less = |task: &&Task| primary(task).is_some_and(Metric::is_minimised);
    let (falls, rises): (Vec<&Task>, Vec<&Task>) = document.tasks.iter().partition(less);
    if let (Some(falls), Some(rises)) = (falls.first(), rises.first()) {
        let rule = format!(
            "less is better for `{}`, which is judged by its first metric, `perplexity`, and more for `{}`; tune them in experiments of their \
             own",
            falls.name, rises.name
        );
        report.add(&written.at, rule);
    }
}

/// What the entry's preset names, but for what the entry's own `with` decides. One space serves all ranks of an entry.
fn knobs(entry: &Entry, cells: &[Cell], at: &Path, report: &mut Report) -> Vec<Parameter> {
    let Some(preset) = entry.preset else { return Vec::new() };
    let mut ranks: Vec<usize> =
        cells.iter().filter(|cell| cell.id.variant == entry.label).map(|cell| cell.id.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let mut spaces = ranks.iter().map(|rank| (rank, (preset.knobs)(*rank)));
    let Some((first, knobs)) = spaces.next() else { return Vec::new() };
    if let Some((other, _)) = spaces.find(|(_, other)| *other != knobs) {
        report.add(
            &at.key("knobs"),
            format!(
                "`{}` has other values to tune at rank {first} than at rank {other}; give each rank an entry of its own, with a `label`",
                entry.label
            ),
        );
    }
    let number = |value: f64| if value.fract() == 0.0 { Value::from(value as i64) } else { Value::from(value) };
    let parameter = |knob: Knob| Parameter {
        path: format!("with.{}", knob.path),
        values: Values::Listed(knob.values.into_iter().map(number).collect()),
    };
    knobs.into_iter().filter(|knob| !decides(&entry.with, knob.path)).map(parameter).collect()
}

/// Whether a map of overrides has the field at a dotted path, or another part in its place.
fn decides(with: &Mapping, path: &str) -> bool {
    let mut map = with;
    for key in path.split('.') {
        match map.get(key) {
            None => return false,
            Some(Yaml::Mapping(inner)) if !inner.contains_key("kind") => map = inner,
            Some(_) => return true,
        }
    }
    true
}

/// The knobs and the experiment's parameters, each replaced by the next one's of the same path: of preset, experiment and entry.
fn parameters(written: &WrittenTune, entry: &Entry, knobs: Vec<Parameter>, report: &mut Report) -> Vec<Parameter> {
    let own = entry.tune.as_ref().and_then(|own| {
        space(&serde_yaml::Value::Mapping(own.value.clone()), &own.at, written.tune.trials.is_some(), report)
    });
    let mut parameters: BTreeMap<String, Parameter> = BTreeMap::new();
    for parameter in knobs.into_iter().chain(written.space.iter().cloned()).chain(own.into_iter().flatten()) {
        parameters.insert(parameter.path.clone(), parameter);
    }
    parameters.into_values().collect()
}

/// Every entry has as many settings as the others.
fn check_budgets(document: &Document, written: &WrittenTune, tune: &Tune, report: &mut Report) {
    let count = |entry: &Entry| match tune.trials {
        Some(trials) => trials.min(distinct(tune.parameters(&entry.label))),
        None => distinct(tune.parameters(&entry.label)),
    };
    let at = |entry: &Entry| entry.tune.as_ref().map_or_else(|| written.at.key("space"), |own| own.at.clone());
    let Some(first) = document.variants.first() else { return };
    for entry in &document.variants {
        let (own, others) = (count(entry), count(first));
        if own > MOST_SETTINGS {
            report.add(
                &at(entry),
                format!(
                    "`{}` has {own} settings, but may have at most {MOST_SETTINGS}; give fewer values, or `trials`",
                    entry.label
                ),
            );
        } else if own != others {
            report.add(
                &at(entry),
                format!(
                    "`{}` has {own} settings and `{}` has {others}, but a comparison tries equally many of each; give as many values, or `trials`",
                    entry.label, first.label
                ),
            );
        }
    }
}

/// A halving must have steps to divide and settings to drop.
fn check_rungs(document: &Document, written: &WrittenTune, tune: &Tune, cells: &[Cell], report: &mut Report) {
    let Some(halving) = tune.halving else { return };
    let at = written.at.key("halving");
    for entry in &document.variants {
        let own = tune.parameters(&entry.label);
        if let Some(parameter) = own.iter().find(|parameter| LENGTHS.contains(&parameter.path.as_str())) {
            let rule =
                format!("`{}` is tuned, but the rungs of a halving decide it; leave one of them out", parameter.path);
            report.add(&at, rule);
        }
        let settings = tune.trials.map_or_else(|| distinct(own), |trials| trials.min(distinct(own)));
        let counts = halving.counts(settings);
        if let Some(rung) = counts[..counts.len() - 1].iter().position(|count| *count == 1) {
            let rule = format!(
                "`{}` has {settings} settings, of which 1 is left at rung {} of {}, and nothing to drop; give more settings, or fewer `rungs`",
                entry.label,
                rung + 1,
                halving.rungs
            );
            report.add(&at, rule);
            return;
        }
    }
    let most = halving.divisors()[0];
    if let Some((cell, steps)) =
        cells.iter().find_map(|cell| Some((cell, cell.recipe.train.steps.filter(|steps| *steps < most)?)))
    {
        let rule = format!(
            "`{}` trains {steps} steps, of which the first of {} rungs has less than one; give fewer `rungs`, or more steps",
            cell.id.variant, halving.rungs
        );
        report.add(&at, rule);
    }
    if tune.per == Per::Variant {
        let length = |cell: &Cell| (cell.recipe.train.steps, cell.recipe.train.epochs.map(f64::to_bits));
        let differs = |cell: &&Cell| {
            let first = cells.iter().find(|other| other.id.variant == cell.id.variant);
            first.is_some_and(|first| length(first) != length(cell))
        };
        if let Some(cell) = cells.iter().find(differs) {
            let rule = format!(
                "`{}` trains for another number of steps on `{}` than on its first task, and a rung has one number of steps; write `per: task`",
                cell.id.variant, cell.id.task
            );
            report.add(&at, rule);
        }
    }
}

/// Settings that parameters can have.
fn distinct(parameters: &[Parameter]) -> usize {
    let of = |parameter: &Parameter| match &parameter.values {
        Values::Listed(listed) => listed.len(),
        Values::Between { .. } => usize::MAX,
    };
    parameters.iter().map(of).fold(1, usize::saturating_mul)
}

/// Reads the experiment with every setting, so that none breaks a rule after hours of training.
pub(super) fn check_settings(experiment: &Experiment) -> Result<(), SpecErrors> {
    let Some(tune) = &experiment.tune else { return Ok(()) };
    check_at(experiment, tune, 1, "space", "a setting breaks a rule")?;
    for divisor in tune.halving.map_or_else(Vec::new, |halving| halving.divisors()) {
        let what = format!("with 1/{divisor} of the steps, give fewer `rungs` or more steps: a setting breaks a rule");
        check_at(experiment, tune, divisor, "halving", &what)?;
    }
    Ok(())
}

/// Reads the experiment with every setting at a part of the steps.
fn check_at(experiment: &Experiment, tune: &Tune, divisor: u64, key: &str, what: &str) -> Result<(), SpecErrors> {
    let of_group = |group: TuningGroup| {
        let settings = tune.settings(&group.variant).into_iter();
        settings.map(move |setting| (group.clone(), experiment.shortened(&group, &setting, divisor)))
    };
    let tried: Vec<_> = experiment.groups().into_iter().flat_map(of_group).collect();
    let Err(errors) = experiment.trials(&tried) else { return Ok(()) };
    let at = Path::default().key("tune").key(key);
    let problem = |problem: Problem| Problem {
        path: at.to_string(),
        line: at.line(&experiment.text),
        message: format!("{what}: {problem}"),
    };
    Err(SpecErrors { problems: errors.problems.into_iter().map(problem).collect(), ..errors })
}

impl Experiment {
    /// The trials of every group's first setting. They stand for all in what they are trained on, and in everything that is not tuned.
    pub fn first_trials(&self) -> Vec<Cell> {
        let Some(tune) = &self.tune else { return Vec::new() };
        let first = |group: TuningGroup| {
            let setting = tune.settings(&group.variant).into_iter().next()?;
            Some((group, setting))
        };
        let first: Vec<_> = self.groups().into_iter().filter_map(first).collect();
        self.trials(&first)
            .unwrap_or_else(|errors| unreachable!("every setting was read with the file: {errors}"))
            .concat()
    }

    /// A hash of what the tuning depends on: the space, the tuning seeds, the split, and the recipes of the trials. What only reported runs
    /// have, such as their seeds and readouts, has no part in it.
    pub fn tuning_hash(&self) -> String {
        let recipe = |cell: &Cell| {
            let mut recipe = json!(cell.recipe);
            // An axis that came later and is not used, so that tunings of the time before keep their hash.
            for axis in cell.recipe.variant.unrecorded_axes() {
                if let Some(written) = recipe["variant"].as_object_mut() {
                    written.remove(axis);
                }
            }
            recipe
        };
        let recipes: Vec<Value> = self.first_trials().iter().map(recipe).collect();
        record::spec_hash(&json!({"tune": self.tune, "trials": recipes}))
    }

    /// Whether a file's tuning, whose hash is this experiment's, is one that it could have: an error says what is not.
    pub fn check_tuned(&self, tuned: &Tuned) -> Result<(), String> {
        let Some(tune) = &self.tune else { return Ok(()) };
        if tuned.halving != tune.halving {
            return Err("its halving is not the experiment's".to_owned());
        }
        if tuned.seeds != tune.seeds || tuned.holdout.to_bits() != tune.holdout.to_bits() {
            return Err("its seeds or its split are not the experiment's".to_owned());
        }
        let goal = self.goal();
        if tuned.goal != goal {
            return Err(format!("its goal is {:?}, and the experiment's is {goal:?}", tuned.goal).to_lowercase());
        }
        let found: Vec<&TuningGroup> = tuned.groups.iter().map(|group| &group.group).collect();
        let wanted = self.groups();
        if let Some(group) = wanted.iter().find(|group| !found.contains(group)) {
            return Err(format!("{group} is missing"));
        }
        if let Some(group) = found.iter().find(|group| !wanted.contains(group)) {
            return Err(format!("the experiment has no {group}"));
        }
        if found.len() != wanted.len() {
            return Err(format!("it has {} groups, and the experiment has {}", found.len(), wanted.len()));
        }
        tuned.groups.iter().try_for_each(|group| tune.check(group, goal))
    }

    /// Which direction of the tasks' first metrics is better: one for all, by the rules of a tuning.
    fn goal(&self) -> Goal {
        let first = self.cells.first().and_then(|cell| cell.recipe.text()?.metrics().first().copied());
        if first.is_some_and(Metric::is_minimised) { Goal::Minimise } else { Goal::Maximise }
    }
}

impl Tune {
    fn check(&self, tuned: &TunedGroup, goal: Goal) -> Result<(), String> {
        let TunedGroup { group, trials, chosen, .. } = tuned;
        for trial in trials {
            let is_complete = |scores: &Vec<Option<f64>>| scores.len() == self.seeds.len();
            let last = Some(&trial.scores).filter(|scores| !scores.is_empty() || trial.rungs.is_empty());
            if let Some(scores) = trial.rungs.iter().chain(last).find(|scores| !is_complete(scores)) {
                return Err(format!(
                    "{group} has {} scores of {}, not {}",
                    scores.len(),
                    trial.setting,
                    self.seeds.len()
                ));
            }
        }
        let first = self.settings(&group.variant);
        for (at, trial) in trials.iter().enumerate() {
            let is_known = match first.get(at) {
                Some(setting) => trial.setting == *setting,
                None => self.may_widen(&group.variant, &trial.setting),
            };
            if !is_known || trials[..at].iter().any(|other| other.setting == trial.setting) {
                return Err(format!("{group} has the trial {}, which is not next in its space", trial.setting));
            }
        }
        if trials.len() < first.len() {
            return Err(format!("{group} has {} trials, and its space has {}", trials.len(), first.len()));
        }
        let sign = if goal == Goal::Maximise { 1.0 } else { -1.0 };
        let (begun, added) = trials.split_at(first.len());
        if !self.went_on(begun, sign) || added.iter().any(|trial| !trial.rungs.is_empty()) {
            return Err(format!("{group} has trials that went on where others scored better"));
        }
        match best(trials, sign) {
            Some(best) if best == *chosen => Ok(()),
            Some(best) => Err(format!(
                "{group} has {} as chosen, but {} scored best",
                trials.get(*chosen).map_or_else(String::new, |trial| trial.setting.to_string()),
                trials[best].setting
            )),
            None => Err(format!("no setting of {group} has a score")),
        }
    }

    /// Whether the trials of a space reached the rungs that their scores say.
    fn went_on(&self, trials: &[Trial], sign: f64) -> bool {
        let Some(halving) = self.halving else {
            return trials.iter().all(|trial| trial.rungs.is_empty() && !trial.scores.is_empty());
        };
        let mut alive: Vec<usize> = (0..trials.len()).collect();
        for rung in 0..halving.rungs - 1 {
            let reached = |at: usize| trials[at].rungs.len() > rung;
            if (0..trials.len()).any(|at| reached(at) != alive.contains(&at)) {
                return false;
            }
            let means: Vec<Option<f64>> = alive.iter().map(|at| mean_over_seeds(&trials[*at].rungs[rung])).collect();
            alive = halving.promoted(&means, sign).into_iter().map(|place| alive[place]).collect();
        }
        (0..trials.len()).all(|at| trials[at].scores.is_empty() != alive.contains(&at))
    }

    /// Whether a setting may have come from widening: the fields of the space, each with one of its values or, where the experiment widens,
    /// a number beyond those that are listed.
    fn may_widen(&self, label: &str, setting: &Setting) -> bool {
        let parameters = self.parameters(label);
        let allowed = |parameter: &Parameter| {
            let Some(value) = setting.0.get(&parameter.path) else { return false };
            match &parameter.values {
                Values::Listed(listed) => {
                    let beyond = |number: f64| {
                        let mut numbers = listed.iter().filter_map(Value::as_f64);
                        self.widen > 0 && (numbers.clone().all(|of| of < number) || numbers.all(|of| of > number))
                    };
                    listed.contains(value) || value.as_f64().is_some_and(beyond)
                }
                Values::Between { from, to } => value.as_f64().is_some_and(|value| (*from..=*to).contains(&value)),
            }
        };
        setting.0.len() == parameters.len() && parameters.iter().all(allowed)
    }
}
