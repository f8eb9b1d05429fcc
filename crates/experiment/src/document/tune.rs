//! The block `tune`: the space, the seeds and the split of the trials.

use record::Halving;
use serde_json::Value as Json;
use serde_yaml::{Mapping, Value};

use super::reader::{Reader, unindexed};
use crate::{
    bounds::{self, Whole},
    error::Report,
    fields::{list, map, quoted, shown, text, unknown, whole},
    path::Path,
    tune::{Parameter, Per, Tune, Values},
};

const KEYS: &[&str] = &["space", "knobs", "trials", "halving", "seeds", "holdout", "widen", "per"];
/// Seeds of the trials where none are given: far from those that studies count from 0.
const SEEDS: [u64; 2] = [100, 101];
/// Share of the training examples that is cut off where none is given.
const HOLDOUT: f64 = 0.2;
/// Values that may be added beyond each end where no number is given.
const WIDEN: u64 = 2;
const MOST_WIDENED: Whole = Whole { least: 0, most: 16 };
/// Draws from a space.
const TRIALS: Whole = Whole { least: 1, most: 10_000 };
/// Fields of an entry that can be tuned.
const TUNABLE: [&str; 2] = ["train.", "with."];
/// Of the settings of a rung, one in so many goes on; where no number is given, as in Hyperband's paper.
const FACTOR: u64 = 3;
const FACTORS: Whole = Whole { least: 2, most: 100 };
const RUNGS: Whole = Whole { least: 2, most: 10 };
const PER: [(&str, Per); 2] = [("task", Per::Task), ("variant", Per::Variant)];

/// The block as written, before the entries' own parameters.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) at: Path,
    pub(crate) tune: Tune,
    pub(crate) space: Vec<Parameter>,
    /// Whether the knobs of the entries' presets are tuned as well.
    pub(crate) knobs: bool,
}

/// Reads the block.
pub(crate) fn tune(value: &Value, at: &Path, report: &mut Report) -> Option<Written> {
    let fields = map(value, at, KEYS, report)?;
    let mut reader = Reader { fields, at: at.clone(), report };
    let trials = reader.read("trials", |v, at, report| whole(v, at, TRIALS, report)).map(|t| t.value as usize);
    let space = reader.read("space", |v, at, report| space(v, at, trials.is_some(), report));
    if space.is_none() && !fields.contains_key("space") {
        reader.report.add(
            at,
            "`space` is missing: the fields that are tuned and their values, such as `space: {train.learning_rate: [3e-4, 1e-3, 3e-3]}`",
        );
    }
    let seeds =
        reader.read("seeds", |v, at, r| Some(unindexed(list(v, at, r, |v, at, r| whole(v, at, bounds::ANY, r)))));
    let holdout = reader.read("holdout", holdout);
    let widen = reader.read("widen", |v, at, report| whole(v, at, MOST_WIDENED, report));
    let per = reader.read("per", per);
    let halving = reader.read("halving", halving);
    let knobs = reader.read("knobs", |value, at, report| {
        let knobs = value.as_bool();
        if knobs.is_none() {
            report.add(at, format!("knobs is {}, but must be `true` or `false`", shown(value)));
        }
        knobs
    });
    Some(Written {
        at: at.clone(),
        tune: Tune {
            seeds: seeds.map_or_else(|| SEEDS.to_vec(), |seeds| seeds.value),
            holdout: holdout.map_or(HOLDOUT, |share| share.value),
            // What is added beyond an end has all steps at once, which would leave little of an equal budget.
            widen: widen.map_or(if halving.is_some() { 0 } else { WIDEN }, |widen| widen.value) as usize,
            per: per.map_or(Per::Task, |per| per.value),
            trials,
            halving: halving.map(|halving| halving.value),
            space: std::collections::BTreeMap::new(),
        },
        space: space?.value,
        knobs: knobs.is_some_and(|knobs| knobs.value),
    })
}

fn holdout(value: &Value, at: &Path, report: &mut Report) -> Option<f64> {
    let share = value.as_f64().filter(|share| *share > 0.0 && *share < 1.0);
    if share.is_none() {
        report.add(
            at,
            format!("holdout is {}, but must be a share of the training examples, above 0 and below 1", shown(value)),
        );
    }
    share
}

/// `{rungs: 3, factor: 3}`
fn halving(value: &Value, at: &Path, report: &mut Report) -> Option<Halving> {
    let fields = map(value, at, &["rungs", "factor"], report)?;
    let mut reader = Reader { fields, at: at.clone(), report };
    let rungs = reader.read("rungs", |v, at, report| whole(v, at, RUNGS, report));
    let factor = reader.read("factor", |v, at, report| whole(v, at, FACTORS, report));
    if !fields.contains_key("rungs") {
        reader.report.add(
            at,
            "`rungs` is missing: how often settings are judged, each time after `factor` times as many steps, such as `{rungs: 3}`",
        );
    }
    let factor = factor.map_or(FACTOR, |factor| factor.value) as usize;
    Some(Halving { factor, rungs: rungs?.value as usize })
}

fn per(value: &Value, at: &Path, report: &mut Report) -> Option<Per> {
    let wanted = text(value, at, report)?;
    let found = PER.iter().find(|(name, _)| *name == wanted).map(|(_, per)| *per);
    if found.is_none() {
        report.add(at, unknown("value", &wanted, &PER.map(|(name, _)| name)));
    }
    found
}

/// Parameters by their paths. `draws`: settings are drawn, so that a parameter may have an interval.
pub(crate) fn space(value: &Value, at: &Path, draws: bool, report: &mut Report) -> Option<Vec<Parameter>> {
    let Value::Mapping(fields) = value else {
        report.add(at, format!("{} is {}, but must be a map of fields to their values", at.last(), shown(value)));
        return None;
    };
    if fields.is_empty() {
        report.add(at, format!("{} is empty, but needs at least one field to tune", at.last()));
    }
    Some(fields.iter().filter_map(|(key, value)| parameter(key, value, at, draws, report)).collect())
}

fn parameter(key: &Value, value: &Value, at: &Path, draws: bool, report: &mut Report) -> Option<Parameter> {
    let path = text(key, at, report)?;
    let at = at.key(path.clone());
    if !TUNABLE.iter().any(|start| path.starts_with(start)) {
        let starts = quoted(&["train.learning_rate", "with.alpha"]);
        report.add(
            &at,
            format!("`{path}` cannot be tuned; a field of an entry's `train` or `with` can, such as {starts}"),
        );
        return None;
    }
    let values = match value {
        Value::Mapping(ends) => interval(ends, &at, draws, report)?,
        _ => Values::Listed(listed(value, &at, report)?),
    };
    Some(Parameter { path, values })
}

fn listed(value: &Value, at: &Path, report: &mut Report) -> Option<Vec<Json>> {
    let before = report.met();
    let items = list(value, at, report, |value, at, report| {
        let plain = matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_));
        if !plain {
            report.add(at, format!("{} is no value of a field; give a number or a name", shown(value)));
        }
        plain.then(|| serde_json::to_value(value).unwrap_or_default())
    });
    (report.met() == before).then(|| unindexed(items))
}

fn interval(ends: &Mapping, at: &Path, draws: bool, report: &mut Report) -> Option<Values> {
    let value = Value::Mapping(ends.clone());
    map(&value, at, &["from", "to"], report)?;
    let end = |key: &str| ends.get(key).and_then(Value::as_f64);
    match (end("from"), end("to")) {
        (Some(from), Some(to)) if from > 0.0 && from < to && to.is_finite() => {
            if !draws {
                report.add(
                    at,
                    "an interval has no grid; give `trials`, the number of settings to draw, or a list of values",
                );
            }
            draws.then_some(Values::Between { from, to })
        }
        _ => {
            report.add(at, "an interval needs two numbers, above 0 and rising: `{from: 1e-4, to: 1e-1}`");
            None
        }
    }
}
