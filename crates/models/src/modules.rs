//! Which maps of a model are adapted, which have a rank and a scale of their own, and what trains in full besides.
//!
//! The fields are those of PEFT's `LoraConfig`, with its rules of names ([`crate::pattern`]). A name is matched as it stands in a model
//! with a head (`bert.encoder.layer.0.attention.self.query`); expressions may also match the name without the model's prefix.
//!
//! | field | what it does |
//! |---|---|
//! | `exclude_modules` | endings or an expression, as of targets; what they match is taken off the selected maps |
//! | `layers_to_transform` | keeps the selected maps of these layers, counted from 0; with a list of targets alone, and not for a map that is named in full |
//! | `layers_pattern` | what the list of layers is called, as an expression: `layer`, `layers`, `h`; by default any name before a number |
//! | `rank_pattern`, `alpha_pattern` | expressions for the end of a name after a dot, or for the complete name; the first that matches gives the map's `r` or `α`, so its scale is `α_map/r_map`, or `α_map/√r_map` |
//! | `trainable_token_indices` | rows of the table of words, by number, that train as each run's own copy while the others stay; a table that is also the output projection has them in both |
//! | `modules_to_save` | dotted endings of modules' names; everything in such a module trains in full, as each run's own copy |
//!
//! Where PEFT is silent or only warns, this is an error: a field that matches no module, a layer that the model does not have, a module that
//! is both adapted and trained in full. `modules_to_save` are matched at dots, as targets are; PEFT compares the ends of strings there, so
//! that its `norm` is also Llama's `input_layernorm`. A table that is also the output projection trains as both, as in full
//! fine-tuning; PEFT leaves the projection at the base's values unless it is told to tie them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use variants::{error::SpecProblem, role::Role, slot::MapPlan};

use crate::{
    config::{Config, Map, MapKind, Purpose},
    error::ModelError,
    pattern::{BadPattern, LayerLists, Pattern, ends_in},
    target::Target,
};

/// The fields that narrow targets, give maps their own rank and scale, and name what trains in full.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Modules {
    /// Maps that are not adapted although the targets select them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_modules: Option<Target>,
    /// Layers whose maps are adapted; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers_to_transform: Vec<usize>,
    /// What the list of layers is called; empty for any name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers_pattern: Vec<String>,
    /// Ranks by expression; the first that matches counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rank_pattern: Vec<(String, usize)>,
    /// `α` by expression; the first that matches counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpha_pattern: Vec<(String, f64)>,
    /// Modules that train in full.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules_to_save: Vec<String>,
    /// Rows of the table of words that train.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trainable_token_indices: Vec<usize>,
}

/// The slots of a model that a plan means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selected {
    /// Adapted maps, by full name.
    pub maps: BTreeMap<String, Map>,
    /// Their own ranks and scales, where they have any.
    pub own: BTreeMap<String, MapPlan>,
    /// Slots that train in full.
    pub fully_trained: BTreeSet<String>,
    /// Tables of which single rows train, with the rows.
    pub trained_rows: BTreeMap<String, Vec<usize>>,
}

/// Layers that maps are taken from.
pub(crate) struct Layers<'a> {
    indices: &'a [usize],
    lists: LayerLists,
}

impl Layers<'_> {
    /// Whether the first list that a name is in has it in one of the layers.
    pub(crate) fn hold(&self, name: &str) -> Result<bool, BadPattern> {
        Ok(self.lists.layer(name)?.is_some_and(|index| self.indices.contains(&index)))
    }
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// `` `x`, did you mean `y`? `` or `` `x` ``.
fn guessed(name: &str, known: &BTreeSet<&str>) -> String {
    suggested(name, suggest::nearest(name, known.iter().copied()))
}

fn suggested(name: &str, near: Option<&str>) -> String {
    match near {
        Some(nearest) => format!("`{name}` (did you mean `{nearest}`?)"),
        None => format!("`{name}`"),
    }
}

/// Last parts of names.
fn last_parts<'a>(names: impl IntoIterator<Item = &'a String>) -> BTreeSet<&'a str> {
    names.into_iter().filter_map(|name| name.rsplit('.').next()).collect()
}

impl Modules {
    /// Roles of the tensors of slots that train in full, and of rows that train.
    pub const ROLES: &'static [Role] = &[Role::Weight, Role::Bias, Role::Norm, Role::Token];

    /// Whether every field has its default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Roles that a stack has beside those of its composition.
    pub fn roles(&self) -> &'static [Role] {
        match (self.modules_to_save.is_empty(), self.trainable_token_indices.is_empty()) {
            (true, true) => &[],
            (true, false) => &[Role::Token],
            (false, true) => Self::ROLES.split_last().map_or(&[], |(_, whole)| whole),
            (false, false) => Self::ROLES,
        }
    }

    /// The largest rank of a map where the others have `rank`.
    pub fn largest_rank(&self, rank: usize) -> usize {
        self.rank_pattern.iter().map(|(_, own)| *own).fold(rank, usize::max)
    }

    /// Every broken rule that needs no model to be seen.
    pub fn check(&self, targets: Option<&Target>) -> Vec<SpecProblem> {
        let mut problems = Vec::new();
        let mut report = |field: &str, rule: String| problems.push(SpecProblem::new(field, rule));
        if let (Some(Target::Pattern(pattern)), false) = (targets, self.layers_to_transform.is_empty()) {
            report(
                "layers_to_transform",
                format!(
                    "layers_to_transform is given beside the targets `{pattern}`, but as in PEFT layers are chosen for a list of \
                     endings alone; write targets as a list, or put the layers into an expression"
                ),
            );
        }
        if self.layers_to_transform.is_empty() && !self.layers_pattern.is_empty() {
            report(
                "layers_pattern",
                "layers_pattern says what the layers of layers_to_transform are called, but that is not given; give it, or leave \
                 both out"
                    .to_owned(),
            );
        }
        for pattern in &self.layers_pattern {
            if let Err(bad) = LayerLists::new(std::slice::from_ref(pattern)) {
                report("layers_pattern", bad.to_string());
            }
        }
        for (field, pattern) in (self.rank_pattern.iter().map(|(pattern, _)| ("rank_pattern", pattern)))
            .chain(self.alpha_pattern.iter().map(|(pattern, _)| ("alpha_pattern", pattern)))
        {
            if let Err(bad) = Pattern::ending(pattern) {
                report(field, bad.to_string());
            }
        }
        for (pattern, rank) in self.rank_pattern.iter().filter(|(_, rank)| *rank == 0) {
            report("rank_pattern", format!("the rank of `{pattern}` is `{rank}`, but must be at least 1"));
        }
        for (pattern, alpha) in self.alpha_pattern.iter().filter(|(_, alpha)| !alpha.is_finite() || *alpha == 0.0) {
            report(
                "alpha_pattern",
                format!(
                    "the alpha of `{pattern}` is `{alpha}`, but must be finite and not 0, or its maps have no effect"
                ),
            );
        }
        problems
    }

    /// The slots of a model that are adapted and that train in full; `targets` is none where nothing is adapted.
    pub fn select(&self, targets: Option<&Target>, config: &Config) -> Result<Selected, Vec<SpecProblem>> {
        let mut problems = self.check(targets);
        let mut selected = Selected::default();
        if let (Some(targets), true) = (targets, problems.is_empty()) {
            match self.narrowed(targets, config) {
                Ok(maps) => selected.maps = maps,
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            selected.own = self.own(&selected.maps, config, &mut problems);
        }
        match self.fully_trained(config) {
            Ok(fully_trained) => selected.fully_trained = fully_trained,
            Err(found) => problems.extend(found),
        }
        match self.trained_rows(config) {
            Ok(rows) => selected.trained_rows = rows,
            Err(problem) => problems.push(problem),
        }
        if problems.is_empty() {
            problems.extend(twice(&selected, config));
        }
        if problems.is_empty() { Ok(selected) } else { Err(problems) }
    }

    /// The targets' maps in the chosen layers, without the excluded ones.
    fn narrowed(&self, targets: &Target, config: &Config) -> Result<BTreeMap<String, Map>, SpecProblem> {
        let layers = self.layers(config)?;
        let mut maps =
            targets.within(config, layers.as_ref()).map_err(|error| SpecProblem::new("targets", error.to_string()))?;
        if maps.is_empty() && self.layers_to_transform.is_empty() {
            let rule =
                "targets select no map of this model's backbone, whose head is not among them; name at least one";
            return Err(SpecProblem::new("targets", rule.to_owned()));
        }
        if maps.is_empty() {
            return Err(SpecProblem::new(
                "layers_to_transform",
                format!(
                    "none of the targets' maps is in layers {}; choose other layers, or other targets",
                    self.layers_to_transform.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
                ),
            ));
        }
        let Some(exclude) = &self.exclude_modules else { return Ok(maps) };
        let excluded = exclude.names(config, None).map_err(|error| {
            let rule = match error {
                ModelError::NoTarget { patterns, known } => {
                    let missed = patterns.iter().map(|(pattern, near)| suggested(pattern, near.as_deref()));
                    let missed = missed.collect::<Vec<_>>().join(", ");
                    format!("{missed} matches no map of this model; its maps end in {}", known.join(", "))
                }
                ModelError::BadPattern(bad) => bad.to_string(),
                other => other.to_string(),
            };
            SpecProblem::new("exclude_modules", rule)
        })?;
        let before = maps.len();
        maps.retain(|name, _| !excluded.contains(name));
        let rule = if maps.is_empty() {
            format!("exclude_modules takes off every one of the {before} maps that the targets select; leave some")
        } else if maps.len() == before {
            let known = last_parts(maps.keys());
            format!("exclude_modules matches none of the targets' maps, which end in {}; leave it out", quoted(known))
        } else {
            return Ok(maps);
        };
        Err(SpecProblem::new("exclude_modules", rule))
    }

    fn layers(&self, config: &Config) -> Result<Option<Layers<'_>>, SpecProblem> {
        if self.layers_to_transform.is_empty() {
            return Ok(None);
        }
        let count = config.layers();
        if let Some(index) = self.layers_to_transform.iter().find(|index| **index >= count) {
            return Err(SpecProblem::new(
                "layers_to_transform",
                format!("layer is `{index}`, but this model has {count}, counted from 0; use 0..={}", count - 1),
            ));
        }
        let bad = |bad: BadPattern| SpecProblem::new("layers_pattern", bad.to_string());
        let lists = LayerLists::new(&self.layers_pattern).map_err(bad)?;
        let mut is_in_one = false;
        for name in config.maps().into_keys() {
            is_in_one = is_in_one || lists.layer(&config.full(&name)).map_err(bad)?.is_some();
        }
        if !is_in_one {
            let given = quoted(self.layers_pattern.iter().map(String::as_str));
            let list = config.layer_list();
            return Err(SpecProblem::new(
                "layers_pattern",
                format!("{given} is no list of layers of this model, whose list is `{list}`; use that or leave it out"),
            ));
        }
        Ok(Some(Layers { indices: &self.layers_to_transform, lists }))
    }

    /// Ranks and scales of the maps that have their own.
    fn own(
        &self,
        maps: &BTreeMap<String, Map>,
        config: &Config,
        problems: &mut Vec<SpecProblem>,
    ) -> BTreeMap<String, MapPlan> {
        let ranks = first_matches("rank_pattern", &self.rank_pattern, maps, config, problems);
        let alphas = first_matches("alpha_pattern", &self.alpha_pattern, maps, config, problems);
        let names = ranks.keys().chain(alphas.keys()).collect::<BTreeSet<_>>().into_iter();
        names
            .map(|name| (name.clone(), MapPlan { rank: ranks.get(name).copied(), alpha: alphas.get(name).copied() }))
            .collect()
    }

    /// The rows of the table of words that train.
    fn trained_rows(&self, config: &Config) -> Result<BTreeMap<String, Vec<usize>>, SpecProblem> {
        let ids = &self.trainable_token_indices;
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (word, field) = (config.word_table(), "trainable_token_indices");
        let vocabulary = config.maps().get(word).map_or(0, |map| map.shape[0]);
        if let Some(id) = ids.iter().find(|id| **id >= vocabulary) {
            let rule = format!(
                "token is `{id}`, but `{word}` of this model has {vocabulary} rows; use 0..={}",
                vocabulary - 1
            );
            return Err(SpecProblem::new(field, rule));
        }
        let mut seen = BTreeSet::new();
        if let Some(id) = ids.iter().find(|id| !seen.insert(**id)) {
            return Err(SpecProblem::new(field, format!("token `{id}` is there twice; list it once")));
        }
        Ok(BTreeMap::from([(word.to_owned(), ids.clone())]))
    }

    /// Slots inside the modules that train in full.
    fn fully_trained(&self, config: &Config) -> Result<BTreeSet<String>, Vec<SpecProblem>> {
        let slots = slots(config);
        let paths: BTreeSet<String> = slots.iter().flat_map(|slot| around(&config.full(slot))).collect();
        let known: BTreeSet<&str> =
            last_parts(&paths).into_iter().filter(|part| part.parse::<usize>().is_err()).collect();
        let (mut found_slots, mut problems) = (BTreeSet::new(), Vec::new());
        for module in &self.modules_to_save {
            let means = |path: &String| ends_in(path, module);
            let found: Vec<&String> =
                slots.iter().filter(|slot| around(&config.full(slot)).iter().any(means)).collect();
            let head = config.head_names().iter().any(|name| around(name).iter().any(means));
            if head && found.is_empty() {
                problems.push(SpecProblem::new(
                    "modules_to_save",
                    format!("`{module}` is the task's head, which every run trains and saves; leave it out"),
                ));
            } else if found.is_empty() {
                problems.push(SpecProblem::new(
                    "modules_to_save",
                    format!(
                        "{} is no module that can train here; names of modules end in {}",
                        guessed(module, &known),
                        quoted(known.iter().copied())
                    ),
                ));
            }
            found_slots.extend(found.into_iter().cloned());
        }
        // Where a fused map and its parts are meant, the map is.
        let all = found_slots.clone();
        let maps = config.maps();
        found_slots.retain(|slot| match maps.get(slot).map(|map| &map.kind) {
            Some(MapKind::Part(fused)) => !all.contains(fused),
            _ => true,
        });
        if problems.is_empty() { Ok(found_slots) } else { Err(problems) }
    }
}

/// Every slot of a backbone, by full name.
fn slots(config: &Config) -> BTreeSet<String> {
    let names = config.wanted(Purpose::Classify).into_iter();
    let mut slots: BTreeSet<String> =
        names.filter_map(|tensor| Some(tensor.name.strip_suffix(".weight")?.to_owned())).collect();
    slots.extend(config.maps().into_keys());
    slots
}

/// A name and the names of the modules around it.
fn around(name: &str) -> Vec<String> {
    let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
    ends.map(|end| name[..end].to_owned()).collect()
}

/// Slots that are adapted and train in full, or that are fused with one that is.
fn twice(selected: &Selected, config: &Config) -> Option<SpecProblem> {
    let rule = "modules_to_save";
    if let Some(slot) = selected.fully_trained.iter().find(|slot| selected.maps.contains_key(*slot)) {
        return Some(SpecProblem::new(
            rule,
            format!(
                "`{slot}` is a target and would also train in full; leave it out of modules_to_save, or out of the targets (by \
                 exclude_modules)"
            ),
        ));
    }
    let rows = selected.trained_rows.keys();
    let whole = |table: &&String| selected.fully_trained.contains(*table) || selected.maps.contains_key(*table);
    if let Some(table) = rows.clone().find(whole) {
        return Some(SpecProblem::new(
            "trainable_token_indices",
            format!(
                "`{table}` has rows that would train, but is itself a target or trains in full; leave it out of targets and modules_to_save, \
                 or leave trainable_token_indices out"
            ),
        ));
    }
    let maps = config.maps();
    let used = || selected.fully_trained.iter().chain(selected.maps.keys());
    let fused = |slot: &String| match &maps.get(slot)?.kind {
        MapKind::Part(whole) if used().any(|other| other == whole) => Some((slot.clone(), whole.clone())),
        _ => None,
    };
    let (part, whole) = used().find_map(fused)?;
    Some(SpecProblem::new(
        rule,
        format!("`{whole}` and its part `{part}` are both named, by targets or modules_to_save; leave one of them out"),
    ))
}

/// The maps whose names match a key, with the prefix of a model with a head or without.
fn matching<'a>(key: &str, maps: &'a BTreeMap<String, Map>, config: &Config) -> Result<Vec<&'a String>, BadPattern> {
    let pattern = Pattern::ending(key)?;
    let mut found = Vec::new();
    for name in maps.keys() {
        if pattern.is_match(&config.full(name))? || pattern.is_match(name)? {
            found.push(name);
        }
    }
    Ok(found)
}

/// The value of the first pattern that matches each map.
fn first_matches<T: Copy>(
    field: &str,
    patterns: &[(String, T)],
    maps: &BTreeMap<String, Map>,
    config: &Config,
    problems: &mut Vec<SpecProblem>,
) -> BTreeMap<String, T> {
    let mut found = BTreeMap::new();
    let mut met = BTreeSet::new();
    for (pattern, value) in patterns {
        let matching = match matching(pattern, maps, config) {
            Ok(matching) => matching,
            Err(bad) => {
                problems.push(SpecProblem::new(field, bad.to_string()));
                continue;
            }
        };
        let free: Vec<&String> = matching.iter().copied().filter(|name| !met.contains(*name)).collect();
        if matching.is_empty() {
            let known = last_parts(maps.keys());
            problems.push(SpecProblem::new(
                field,
                format!(
                    "{} matches no adapted map; the adapted maps end in {}",
                    guessed(pattern, &known),
                    quoted(known.iter().copied())
                ),
            ));
        } else if free.is_empty() {
            problems.push(SpecProblem::new(
                field,
                format!(
                    "every map that `{pattern}` matches is matched by an expression before it, and the first counts; put it \
                     before that, or leave it out"
                ),
            ));
        }
        for name in free {
            met.insert(name.clone());
            found.insert(name.clone(), *value);
        }
    }
    found
}
