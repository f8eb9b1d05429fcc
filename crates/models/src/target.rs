//! Which maps a target names: by last parts of the name, by regular expression, or all of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Map, MapKind},
    error::ModelError,
    modules::Layers,
    pattern::{Pattern, ends_in},
};

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
    /// The maps of a model that this target selects, by full name.
    ///
    /// Tables and the parts of fused maps are selected by name or expression, not by `all-linear`; where an expression matches a fused
    /// map and its parts, the map is meant. A name may have the prefix of a model with a head (`bert.encoder.layer..`) or not.
    pub fn select(&self, config: &Config) -> Result<BTreeMap<String, Map>, ModelError> {
        self.within(config, None)
    }

    /// As [`select`](Self::select), of maps in some layers; empty where none of what is selected is in them.
    pub(crate) fn within(
        &self,
        config: &Config,
        layers: Option<&Layers<'_>>,
    ) -> Result<BTreeMap<String, Map>, ModelError> {
        let mut maps = config.maps();
        let selected = self.names(config, layers)?;
        if let Self::Endings(_) = self {
            let both = |name: &String| match &maps[name].kind {
                MapKind::Part(whole) if selected.contains(whole) => Some((whole.clone(), name.clone())),
                _ => None,
            };
            if let Some((whole, part)) = selected.iter().find_map(both) {
                return Err(ModelError::Overlap { whole, part });
            }
        }
        let wholes = selected.clone();
        maps.retain(|name, map| {
            let covered = matches!(&map.kind, MapKind::Part(whole) if wholes.contains(whole));
            selected.contains(name) && !covered
        });
        Ok(maps)
    }

    /// Every map and part of one that is matched. As in PEFT, layers do not concern a map that is named in full.
    pub(crate) fn names(&self, config: &Config, layers: Option<&Layers<'_>>) -> Result<BTreeSet<String>, ModelError> {
        let maps = config.maps();
        let linear = || maps.iter().filter(|(_, map)| map.kind == MapKind::Linear).map(|(name, _)| name);
        let last: BTreeSet<&str> = linear().filter_map(|name| name.rsplit('.').next()).collect();
        let none = |patterns: Vec<&str>| ModelError::NoTarget {
            patterns: patterns
                .into_iter()
                .map(|pattern| (pattern.to_owned(), suggest::nearest(pattern, last.iter().copied()).map(str::to_owned)))
                .collect(),
            known: last.iter().map(|ending| format!("`{ending}`")).collect(),
        };
        match self {
            Self::Pattern(pattern) if pattern == ALL_LINEAR => Ok(linear().cloned().collect()),
            Self::Pattern(pattern) => {
                let whole = Pattern::whole(pattern)?;
                let mut found = BTreeSet::new();
                for name in maps.keys() {
                    if whole.is_match(name)? || whole.is_match(&config.full(name))? {
                        found.insert(name.clone());
                    }
                }
                if found.is_empty() { Err(none(vec![pattern])) } else { Ok(found) }
            }
            Self::Endings(list) => {
                let (mut found, mut missed) = (BTreeSet::new(), Vec::new());
                for ending in list {
                    let mut met = false;
                    for name in maps.keys() {
                        let full = config.full(name);
                        if ends_in(&full, ending) {
                            met = true;
                            if full == *ending || layers.map_or(Ok(true), |layers| layers.hold(&full))? {
                                found.insert(name.clone());
                            }
                        }
                    }
                    if !met {
                        missed.push(ending.as_str());
                    }
                }
                if missed.is_empty() { Ok(found) } else { Err(none(missed)) }
            }
        }
    }
}
