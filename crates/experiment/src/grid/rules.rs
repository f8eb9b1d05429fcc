//! The rules of the compositions themselves, and of what is read out of them.

use std::collections::BTreeSet;

use models::{catalog, modules::Modules};
use serde_yaml::Value;
use variants::{capability::Capability, error::SpecProblem, preset, rank::RankPolicy, role::Role, spec::VariantSpec};

use super::ranks;
use crate::{
    bounds,
    document::{Document, Entry, Ranks},
    error::Report,
    path::Path,
};

/// Forgetting without a text is measured on what the base was pretrained on, which is known of the embedded ones alone.
pub(super) fn check_held_out(document: &Document, entry: &Entry, model: &str, report: &mut Report) {
    let own = document.forgetting.as_ref().filter(|held_out| held_out.value.text.is_none());
    if let (Some(held_out), None) = (own, catalog::MODELS.iter().find(|embedded| embedded.name == model)) {
        report.add(
            &held_out.at,
            format!(
                "forgetting has no text, but `{model}` (of `{}`) does not come with the build, so the text that it was pretrained on is not \
                 at hand; name a file of held-out text, one document a line: `forgetting: {{text: FILE.txt}}`",
                entry.label
            ),
        );
    }
}

/// Each broken rule is reported once, with the ranks and tasks that break it.
pub(super) fn check_specs(
    entry: &Entry,
    shared: Option<&Ranks>,
    specs: &[VariantSpec],
    more: &[Role],
    tasks: &[(&str, Option<u64>)],
    report: &mut Report,
) {
    #[expect(clippy::type_complexity, reason = "a local grouping: problem, ranks, tasks")]
    let mut broken: Vec<((String, String), BTreeSet<usize>, BTreeSet<&str>)> = Vec::new();
    for spec in specs {
        for (task, steps) in tasks {
            let mut problems = spec.check_beside(*steps, more).err().unwrap_or_default();
            let known: BTreeSet<String> = problems.iter().map(|problem| problem.field.clone()).collect();
            problems.extend(beyond_single(spec).into_iter().filter(|problem| !known.contains(&problem.field)));
            for problem in problems {
                let key = (problem.field, problem.rule);
                let index = broken.iter().position(|(other, ..)| *other == key).unwrap_or_else(|| {
                    broken.push((key, BTreeSet::new(), BTreeSet::new()));
                    broken.len() - 1
                });
                broken[index].1.insert(spec.rank);
                broken[index].2.insert(task);
            }
        }
    }
    for ((field, rule), at_ranks, on_tasks) in broken {
        let mut places = Vec::new();
        if at_ranks.len() < specs.len() {
            places.push(format!("at rank {}", joined(at_ranks.iter().map(usize::to_string))));
        }
        if on_tasks.len() < tasks.len() {
            places.push(format!("on {}", joined(on_tasks.iter().map(|task| format!("`{task}`")))));
        }
        let place = if places.is_empty() { String::new() } else { format!(" ({})", places.join(", ")) };
        let path = match ranks(entry, shared) {
            Some(ranks) if field == "rank" => ranks.at.clone(),
            _ => entry.at.key("with").keys(field.split('.')),
        };
        report.add(&path, format!("{rule}{place}"));
    }
}

/// The numbers of a composition that single precision does not hold.
fn beyond_single(spec: &VariantSpec) -> Vec<SpecProblem> {
    fn walk(value: &Value, at: &Path, found: &mut Vec<SpecProblem>) {
        match value {
            Value::Mapping(map) => {
                map.iter().for_each(|(key, value)| walk(value, &at.key(key.as_str().unwrap_or_default()), found));
            }
            Value::Sequence(items) => items.iter().for_each(|value| walk(value, at, found)),
            _ => {
                let broken = value.as_f64().and_then(|number| Some((number, bounds::beyond_single(number)?)));
                if let Some((number, rule)) = broken {
                    let rule = format!("{} is `{}`, but must {rule}", at.last(), bounds::shown(number));
                    found.push(SpecProblem::new(at.to_string(), rule));
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(&serde_yaml::to_value(spec).unwrap_or_default(), &Path::default(), &mut found);
    found
}

fn joined(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// An `init` that nobody reads would change nothing but the record.
pub(super) fn check_init(entry: &Entry, specs: &[VariantSpec], report: &mut Report) {
    let needed = [Capability::DrawnFactors];
    let Some(lack) = specs.first().and_then(|spec| spec.lacks(&needed)) else { return };
    if entry.with.get("init").is_none_or(Value::is_null) {
        return;
    }
    let draws = preset::all().into_iter().filter(|preset| preset.at(1).lacks(&needed).is_none());
    let names: Vec<String> = draws.map(|preset| format!("`{}`", preset.name)).collect();
    report.add(
        &entry.at.key("with").key("init"),
        format!(
            "`{}` draws no factors, so an init has no effect: {lack}; leave `init` out, or take a variant that draws: {}",
            entry.label,
            names.join(", ")
        ),
    );
}

/// What derived readouts need of a composition.
const READOUTS: &[Capability] =
    &[Capability::TwoFactors, Capability::Additive, Capability::ConstantRank, Capability::ConstantBase];

/// Derived readouts cut a trained update down, so it must be one low-rank product of one fixed rank.
pub(super) fn check_readouts(entry: &Entry, specs: &[VariantSpec], modules: &Modules, report: &mut Report) {
    let Some(spec) = specs.iter().max_by_key(|spec| spec.rank).filter(|_| !entry.readouts.is_empty()) else { return };
    let reason = match spec.lacks(READOUTS) {
        Some(lack) => lack.to_string(),
        None if modules.largest_rank(spec.rank) == 1 => {
            "its largest rank is 1, below which there is nothing".to_owned()
        }
        None => return,
    };
    report.add(
        &entry.at.key("readouts"),
        format!(
            "readouts cut down an additive `low_rank` update of constant rank, but this is `{}`: {reason}; leave `readouts` out",
            entry.label
        ),
    );
}

/// A run of a nested policy is read out at several ranks, each a row of its own, in which no run of another rank can stand.
pub(super) fn check_nested(entry: &Entry, specs: &[VariantSpec], report: &mut Report) {
    let mut rows = BTreeSet::new();
    // What is wrong with a policy itself has been said.
    let clash = specs.iter().filter(|spec| spec.check(None).is_ok()).find_map(|spec| {
        let shared = spec.rank_policy.readouts(spec.rank).into_iter().find(|rank| !rows.insert(*rank));
        shared.map(|rank| (spec.rank, rank))
    });
    let Some((trained, rank)) = clash else { return };
    report.add(
        &entry.at,
        format!(
            "`{}` at rank {trained} is read out at rank {rank}, as its run of another rank is, and both would be one row; train the largest \
             rank alone, or give every rank an entry with a `label` of its own",
            entry.label
        ),
    );
}
