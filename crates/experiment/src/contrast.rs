//! Questions that are settled before looking: which rows are compared with which.

use std::collections::{BTreeMap, BTreeSet};

use record::{Contrast, Readout};
use serde_yaml::Value;
use variants::rank::RankPolicy;

use super::{
    bounds,
    error::Report,
    fields::{given, list, map, shown, text, unknown, whole},
    path::Path,
};
use crate::cell::Cell;

/// One question, as written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    at: Path,
    variant: String,
    rank: Option<usize>,
    against: String,
    against_rank: Option<usize>,
    margin: Option<f64>,
    equivalence: Option<f64>,
}

/// Where it was written is no part of a question.
impl PartialEq for Written {
    fn eq(&self, other: &Self) -> bool {
        (&self.variant, self.rank, &self.against, self.against_rank)
            == (&other.variant, other.rank, &other.against, other.against_rank)
    }
}

const KEYS: &[&str] = &["variant", "rank", "against", "against_rank", "margin", "equivalence"];

/// Reads the list; `labels` are those of every row that the experiment will make.
pub(super) fn read(value: &Value, at: &Path, labels: &[String], report: &mut Report) -> Vec<Written> {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let written = list(value, at, report, |value, at, report| {
        let fields = map(value, at, KEYS, report)?;
        let mut label = |key: &str| {
            let Some(value) = given(fields, key) else {
                report.add(at, format!("`{key}` is missing"));
                return None;
            };
            let label = text(value, &at.key(key), report)?;
            if !labels.contains(&label.as_str()) {
                report.add(&at.key(key), unknown("row", &label, &labels));
            }
            Some(label)
        };
        let (variant, against) = (label("variant"), label("against"));
        let mut rank = |key: &str| Some(whole(given(fields, key)?, &at.key(key), bounds::RANK, report)? as usize);
        let (rank, against_rank) = (rank("rank"), rank("against_rank"));
        let margin = given(fields, "margin").and_then(|value| {
            let margin = value.as_f64().filter(|margin| margin.is_finite());
            if margin.is_none() {
                report.add(&at.key("margin"), format!("margin is {}, but must be a number of points", shown(value)));
            }
            margin
        });
        let equivalence = given(fields, "equivalence").and_then(|v| equivalence(v, &at.key("equivalence"), report));
        Some(Written { at: at.clone(), variant: variant?, rank, against: against?, against_rank, margin, equivalence })
    });
    written.into_iter().map(|(_, written)| written).collect()
}

/// A margin of equivalence: points above 0.
pub(super) fn equivalence(value: &Value, at: &Path, report: &mut Report) -> Option<f64> {
    let margin = value.as_f64().filter(|margin| margin.is_finite() && *margin > 0.0);
    if margin.is_none() {
        let shown = shown(value);
        report.add(at, format!("equivalence is {shown}, but must be a number of points above 0, such as `1`"));
    }
    margin
}

/// Tasks whose comparisons are asked first, or `average`.
pub(super) fn primary(value: &Value, at: &Path, report: &mut Report) -> Vec<(usize, String)> {
    list(value, at, report, text)
}

/// Refuses names in `primary` that are neither a task nor the average.
pub(super) fn check_primary(named: &[(usize, String)], tasks: &[String], report: &mut Report) {
    let valid: Vec<&str> = tasks.iter().map(String::as_str).chain([AVERAGE]).collect();
    for (index, name) in named.iter().filter(|(_, name)| !valid.contains(&name.as_str())) {
        report.add(&Path::default().key("primary").index(*index), unknown("task", name, &valid));
    }
}

/// What `primary` calls the average over tasks.
const AVERAGE: &str = "average";

/// Questions about rows that the cells will make. Without a rank, a row is that of its label's largest rank; the row it
/// is compared with has the same rank where there is one, else its label's largest.
pub(super) fn resolve(written: &[Written], cells: &[Cell], report: &mut Report) -> Vec<Contrast> {
    let mut rows: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for cell in cells {
        let nested = cell.recipe.variant.rank_policy.readouts(cell.recipe.variant.rank);
        for (readout, _) in cell.readouts(&nested) {
            rows.entry(readout.label).or_default().insert(readout.rank);
        }
    }
    let mut row = |at: &Path, key: &str, label: &str, wanted: Option<usize>, preferred: Option<usize>| {
        let ranks = rows.get(label)?;
        let largest = ranks.last().copied().unwrap_or_default();
        match wanted {
            Some(rank) if ranks.contains(&rank) => Some(rank),
            Some(rank) => {
                let known: Vec<String> = ranks.iter().map(usize::to_string).collect();
                report.add(&at.key(key), format!("rank is `{rank}`, but `{label}` has rows at {}", known.join(", ")));
                None
            }
            None => Some(preferred.filter(|rank| ranks.contains(rank)).unwrap_or(largest)),
        }
    };
    let (mut contrasts, mut itself) = (Vec::new(), Vec::new());
    for Written { at, variant, rank, against, against_rank, margin, equivalence } in written {
        let own = row(at, "rank", variant, *rank, None);
        let other = row(at, "against_rank", against, *against_rank, own);
        if let (Some(own), Some(other)) = (own, other) {
            if (variant, own) == (against, other) {
                itself.push(at);
            }
            contrasts.push(Contrast {
                row: Readout { label: variant.clone(), rank: own },
                against: Readout { label: against.clone(), rank: other },
                margin: *margin,
                equivalence: *equivalence,
            });
        }
    }
    for at in itself {
        report.add(at, "a row is compared with itself; give `against` or `against_rank` another");
    }
    contrasts
}
