//! What a tuning must hold: equal budgets, seeds that nothing is reported with, settings that every rule of the experiment allows.

use std::collections::BTreeMap;

use super::{
    Experiment, Problem, SpecErrors,
    cell::Cell,
    document::{Document, Entry, WrittenTune, space},
    error::Report,
    path::Path,
    suites,
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
    if document.suite == suites::TEXT {
        let rule = "a text task has no labelled examples to cut a split from; give its entries rates that were tuned elsewhere, and leave `tune` out";
        report.add(&written.at, rule);
    }
    if cells.iter().any(|cell| cell.recipe.start_from.is_some()) {
        report.add(
            &written.at,
            "tasks that start from another run are not tuned here; tune the first task in an experiment of its own",
        );
    }
    for entry in &document.variants {
        tune.space.insert(entry.label.clone(), parameters(written, entry, report));
    }
    check_budgets(document, written, &tune, report);
    Some(tune)
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
