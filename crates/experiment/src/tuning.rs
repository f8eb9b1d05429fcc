//! What a tuning must hold: equal budgets, seeds that nothing is reported with, settings that every rule of the experiment allows.

use std::collections::BTreeMap;

use data::metric::Metric;

use super::{
    Experiment, Problem, SpecErrors,
    cell::{Cell, StartFrom, TaskSource},
    document::{Document, Entry, Task, WrittenTune, space},
    error::Report,
    path::Path,
    tune::{Parameter, Tune, Values},
};

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
        tune.space.insert(entry.label.clone(), parameters(written, entry, report));
    }
    check_budgets(document, written, &tune, report);
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

/// The experiment's parameters, each replaced by the entry's of the same path, and the entry's others.
fn parameters(written: &WrittenTune, entry: &Entry, report: &mut Report) -> Vec<Parameter> {
    let own = entry.tune.as_ref().and_then(|own| {
        space(&serde_yaml::Value::Mapping(own.value.clone()), &own.at, written.tune.trials.is_some(), report)
    });
    let mut parameters: BTreeMap<String, Parameter> = BTreeMap::new();
    for parameter in written.space.iter().cloned().chain(own.into_iter().flatten()) {
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
    let of_group = |group: record::TuningGroup| {
        let settings = tune.settings(&group.variant);
        settings.into_iter().map(move |setting| (group.clone(), setting))
    };
    let tried: Vec<_> = experiment.groups().into_iter().flat_map(of_group).collect();
    match experiment.trials(&tried) {
        Ok(_) => Ok(()),
        Err(errors) => {
            let at = Path::default().key("tune").key("space");
            let problem = |problem: Problem| Problem {
                path: at.to_string(),
                line: at.line(&experiment.text),
                message: format!("a setting breaks a rule: {problem}"),
            };
            Err(SpecErrors { problems: errors.problems.into_iter().map(problem).collect(), ..errors })
        }
    }
}
