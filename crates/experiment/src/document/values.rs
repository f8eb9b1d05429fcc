//! Fields that the experiment and its entries share, each by its own rules.

use std::collections::{BTreeMap, BTreeSet};

use assets::source;
use models::{modules::Modules, target::Target};
use serde_yaml::{Mapping, Value};
use variants::stream::Seeds;

use super::{
    At,
    reader::{Reader, unindexed},
};
use crate::{
    CohortSize, bounds,
    error::Report,
    fields::{given, list, map, name, shown, text, unknown, whole},
    path::Path,
};

pub(crate) fn model(value: &Value, at: &Path, report: &mut Report) -> Option<String> {
    let names: Vec<_> = models::catalog::MODELS.iter().map(|model| model.name).collect();
    // A name is one of the embedded; a folder and an address of the hub are not looked up in a list.
    let written =
        value.as_str().filter(|written| written.contains(['/', '.']) || std::path::Path::new(written).is_dir());
    let Some(written) = written else { return name(value, at, &names, "models", report) };
    match source::model(written) {
        Ok(_) => Some(written.to_owned()),
        Err(error) => {
            report.add(at, format!("model `{written}` cannot be used: {error}"));
            None
        }
    }
}

pub(crate) fn cohort(value: &Value, at: &Path, report: &mut Report) -> Option<CohortSize> {
    if value.as_str() == Some("auto") {
        return Some(CohortSize::Auto);
    }
    if let Some(runs) = value.as_u64().filter(|runs| bounds::COHORT.broken(*runs).is_none()) {
        return Some(CohortSize::Runs(runs as usize));
    }
    let bound = bounds::COHORT.missed_by(value.as_f64());
    report.add(at, format!("cohort is {}, but must be `auto` or a number of runs, {bound}", shown(value)));
    None
}

/// Random streams that can be pinned.
pub(crate) const N_STREAMS: usize = 4;

/// Seeds of pinned streams; the names are those of [`Seeds`].
pub(crate) fn streams(value: &Value, at: &Path, report: &mut Report) -> Option<BTreeMap<String, u64>> {
    let all = serde_yaml::to_value(Seeds::all(0)).unwrap_or_default();
    let names: Vec<&str> = all.as_mapping().into_iter().flat_map(Mapping::keys).filter_map(Value::as_str).collect();
    let pins = map(value, at, &names, report)?;
    let pins = names.iter().filter_map(|name| {
        let seed = whole(given(pins, name)?, &at.key(*name), bounds::ANY, report)?;
        Some(((*name).to_owned(), seed))
    });
    Some(pins.collect())
}

/// What follows the seed beside the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Varied {
    /// The training set.
    Sample,
}

/// `[sample]`: every seed draws a training set of its own, which only the generator of a suite in the build can do.
pub(crate) fn vary(value: &Value, at: &Path, suite: Option<&str>, report: &mut Report) -> BTreeSet<Varied> {
    let read = |v: &Value, at: &Path, report: &mut Report| {
        let written = text(v, at, report)?;
        if written == "sample" {
            return Some(Varied::Sample);
        }
        report.add(at, unknown("stream", &written, &["sample"]));
        None
    };
    let varied: BTreeSet<Varied> = listed(value, at, report, read).into_iter().collect();
    let embedded = data::suite::suites();
    if let Some(suite) = suite.filter(|suite| !varied.is_empty() && !embedded.contains(suite)) {
        let all = embedded.join(", ");
        report.add(
            at,
            format!(
                "the training set of suite `{}` is what its files hold, so seeds cannot draw others; leave `vary` out, or take a suite \
                 with a generator ({all})",
                crate::suites::shown(suite)
            ),
        );
    }
    varied
}

/// The fields beside targets; one that is empty takes back what the experiment says.
pub(crate) fn modules(reader: &mut Reader<'_>) -> Modules {
    let words = |value: &Value, at: &Path, report: &mut Report| Some(listed(value, at, report, text));
    let index = |value: &Value, at: &Path, report: &mut Report| {
        whole(value, at, bounds::ANY, report).map(|index| index as usize)
    };
    let rank = |value: &Value, at: &Path, report: &mut Report| {
        whole(value, at, bounds::RANK, report).map(|rank| rank as usize)
    };
    let exclude = |value: &Value, at: &Path, report: &mut Report| match value {
        Value::Sequence(items) if items.is_empty() => None,
        other => targets(other, at, report),
    };
    Modules {
        exclude_modules: reader.read("exclude_modules", exclude).map(|found| found.value),
        layers_to_transform: taken(reader.read("layers_to_transform", |v, at, r| Some(listed(v, at, r, index)))),
        layers_pattern: taken(reader.read("layers_pattern", words)),
        rank_pattern: taken(reader.read("rank_pattern", |v, at, report| pattern(v, at, report, rank))),
        alpha_pattern: taken(reader.read("alpha_pattern", |v, at, report| pattern(v, at, report, number))),
        modules_to_save: taken(reader.read("modules_to_save", words)),
        trainable_token_indices: taken(
            reader.read("trainable_token_indices", |v, at, report| Some(listed(v, at, report, index))),
        ),
    }
}

fn taken<T: Default>(found: Option<At<T>>) -> T {
    found.map(|found| found.value).unwrap_or_default()
}

/// One item or a list of them, which may be empty.
fn listed<T: PartialEq>(
    value: &Value,
    at: &Path,
    report: &mut Report,
    mut item: impl FnMut(&Value, &Path, &mut Report) -> Option<T>,
) -> Vec<T> {
    match value {
        Value::Sequence(items) if items.is_empty() => Vec::new(),
        Value::Sequence(_) => unindexed(list(value, at, report, item)),
        one => item(one, at, report).into_iter().collect(),
    }
}

/// Values by expression, in the file's order.
fn pattern<T>(
    value: &Value,
    at: &Path,
    report: &mut Report,
    mut read: impl FnMut(&Value, &Path, &mut Report) -> Option<T>,
) -> Option<Vec<(String, T)>> {
    let Value::Mapping(pairs) = value else {
        let example = format!("`{}: {{query: 4}}`", at.last());
        report.add(at, format!("{} is {}, but must be a map such as {example}", at.last(), shown(value)));
        return None;
    };
    let mut found = Vec::new();
    for (key, value) in pairs {
        let Some(name) = key.as_str() else {
            report.add(at, format!("the key {} is no name or expression; write it in quotes", shown(key)));
            continue;
        };
        found.extend(read(value, &at.key(name), report).map(|value| (name.to_owned(), value)));
    }
    Some(found)
}

/// A number.
fn number(value: &Value, at: &Path, report: &mut Report) -> Option<f64> {
    let number = value.as_f64();
    let broken = number.map_or_else(|| Some("be a number".to_owned()), bounds::beyond_single);
    if let Some(rule) = &broken {
        report.add(at, format!("{} is {}, but must {rule}", at.last(), shown(value)));
    }
    number.filter(|_| broken.is_none())
}

pub(crate) fn targets(value: &Value, at: &Path, report: &mut Report) -> Option<Target> {
    match value {
        Value::String(pattern) => Some(Target::Pattern(pattern.clone())),
        Value::Sequence(_) => {
            Some(Target::Endings(unindexed(list(value, at, report, text)))).filter(|t| *t != Target::Endings(vec![]))
        }
        other => {
            report.add(
                at,
                format!(
                    "{} is {}, but must be a list such as `[query, value]`, `all-linear` or an expression",
                    at.last(),
                    shown(other)
                ),
            );
            None
        }
    }
}

pub(crate) fn ranks(value: &Value, at: &Path, report: &mut Report) -> Option<Vec<(usize, usize)>> {
    if value.as_str() == Some("match") {
        report
            .add(at, "ranks is `match`, which an entry of `variants` can say; here it must be a list such as `[4, 8]`");
        return None;
    }
    let ranks = list(value, at, report, |v, at, report| whole(v, at, bounds::RANK, report).map(|rank| rank as usize));
    (!ranks.is_empty()).then_some(ranks)
}
