//! Which maps a target names: by last parts of the name, by regular expression, or all of them.

use std::collections::BTreeSet;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// A target as PEFT users write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Target {
    /// A list of full names or dotted endings of names, e.g. `[query, value]`.
    Endings(Vec<String>),
    /// `all-linear`, or a regular expression that must match the whole name.
    Pattern(String),
}

/// Every linear map of the backbone; the head is not among them, as in PEFT.
pub const ALL_LINEAR: &str = "all-linear";

impl Target {
    /// The names among `known` that this target selects. `tables` are embedding tables, selected by name or
    /// expression but not by `all-linear`.
    pub fn select(&self, known: &[String], tables: &[String]) -> Result<BTreeSet<String>, ModelError> {
        let last: BTreeSet<&str> = known.iter().filter_map(|name| name.rsplit('.').next()).collect();
        let nearest = |pattern: &str| {
            let close = last.iter().map(|ending| (strsim::damerau_levenshtein(pattern, ending), *ending)).min();
            close.filter(|(distance, _)| *distance <= 2).map(|(_, ending)| ending.to_owned())
        };
        let none = |patterns: Vec<&str>| ModelError::NoTarget {
            patterns: patterns.into_iter().map(|pattern| (pattern.to_owned(), nearest(pattern))).collect(),
            known: last.iter().map(|ending| format!("`{ending}`")).collect(),
        };
        let all = || known.iter().chain(tables);
        match self {
            Self::Pattern(pattern) if pattern == ALL_LINEAR => Ok(known.iter().cloned().collect()),
            Self::Pattern(pattern) => {
                let whole = Regex::new(&format!("^(?:{pattern})$"))
                    .map_err(|error| ModelError::BadPattern { pattern: pattern.clone(), reason: error.to_string() })?;
                let found: BTreeSet<_> = all().filter(|name| whole.is_match(name)).cloned().collect();
                if found.is_empty() { Err(none(vec![pattern])) } else { Ok(found) }
            }
            Self::Endings(list) => {
                let (mut found, mut missed) = (BTreeSet::new(), Vec::new());
                for ending in list {
                    let before = found.len();
                    found
                        .extend(all().filter(|name| *name == ending || name.ends_with(&format!(".{ending}"))).cloned());
                    if found.len() == before {
                        missed.push(ending.as_str());
                    }
                }
                if missed.is_empty() { Ok(found) } else { Err(none(missed)) }
            }
        }
    }
}
