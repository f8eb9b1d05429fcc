//! The block `match`: what the rows of a comparison have equal.

use record::{Matching, Quantity};
use serde_yaml::Value;

use super::reader::{Reader, unindexed};
use crate::{
    error::Report,
    fields::{given, list, map, shown, text, unknown},
    path::Path,
};

/// How far a row may be off the baseline where no number is given.
const TOLERANCE: f64 = 0.05;

/// A quantity, or a map that has it under `by`.
pub(crate) fn matched(value: &Value, at: &Path, labels: &[String], report: &mut Report) -> Option<Matching> {
    if !value.is_mapping() {
        return Some(Matching { by: quantity(value, at, report)?, tolerance: TOLERANCE, except: Vec::new() });
    }
    let fields = map(value, at, &["by", "tolerance", "except"], report)?;
    if given(fields, "by").is_none() {
        report.add(at, "`by` is missing: what is matched, such as `match: {by: parameters}`");
    }
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let label = |value: &Value, at: &Path, report: &mut Report| {
        let label = text(value, at, report)?;
        if !labels.contains(&label.as_str()) {
            report.add(at, unknown("label", &label, &labels));
        }
        Some(label)
    };
    let mut reader = Reader { fields, at: at.clone(), report };
    let by = reader.read("by", quantity);
    let tolerance = reader.read("tolerance", tolerance);
    let except = reader.read("except", |v, at, report| Some(unindexed(list(v, at, report, label))));
    Some(Matching {
        by: by?.value,
        tolerance: tolerance.map_or(TOLERANCE, |tolerance| tolerance.value),
        except: except.map(|except| except.value).unwrap_or_default(),
    })
}

fn quantity(value: &Value, at: &Path, report: &mut Report) -> Option<Quantity> {
    let wanted = text(value, at, report)?;
    let found = Quantity::ALL.into_iter().find(|quantity| quantity.name() == wanted);
    if found.is_none() {
        report.add(at, unknown("quantity", &wanted, &Quantity::ALL.map(Quantity::name)));
    }
    found
}

fn tolerance(value: &Value, at: &Path, report: &mut Report) -> Option<f64> {
    let share = value.as_f64().filter(|share| (0.0..1.0).contains(share));
    if share.is_none() {
        report.add(
            at,
            format!(
                "tolerance is {}, but must be a share of the baseline's, from 0 to below 1, such as `0.05`",
                shown(value)
            ),
        );
    }
    share
}
