//! Which maps a folder means, as the fields of a recipe.
//!
//! PEFT matches the names of the model that it wrapped, with a head's prefix or without; a recipe matches both. Where that would be
//! another choice, the maps are written out. What matches nothing is passed over by PEFT, so here it is taken out, with a note.

use std::collections::{BTreeMap, BTreeSet};

use models::{
    config::{Config, MapKind, Purpose},
    modules::Modules,
    pattern::{BadPattern, Pattern, ends_in},
    target::{ALL_LINEAR, Target},
};

use super::{
    super::{
        WRAPPED,
        said::{OneOrMany, Patterns, Said, TokenIndices},
    },
    stored::Stored,
};

/// The maps of a model by their names here, with those that PEFT knew them by.
struct Names<'a> {
    config: &'a Config,
    theirs: BTreeMap<String, String>,
}

impl<'a> Names<'a> {
    fn new(config: &'a Config, stored: &Stored) -> Self {
        let prefix = format!("{WRAPPED}{}", config.base_prefix());
        let has_head = stored.tensors.keys().any(|name| name.starts_with(&prefix));
        let maps = config.maps().into_iter().filter(|(_, map)| !matches!(map.kind, MapKind::Part(_)));
        let theirs = maps.map(|(name, _)| (name.clone(), if has_head { config.full(&name) } else { name })).collect();
        Self { config, theirs }
    }

    /// Those that an expression matches whole.
    fn whole(&self, pattern: &str) -> Result<BTreeSet<String>, BadPattern> {
        self.matching(&Pattern::whole(pattern)?)
    }

    fn matching(&self, pattern: &Pattern) -> Result<BTreeSet<String>, BadPattern> {
        let mut found = BTreeSet::new();
        for (name, theirs) in &self.theirs {
            if pattern.is_match(theirs)? {
                found.insert(name.clone());
            }
        }
        Ok(found)
    }

    /// Maps as a recipe names them in full.
    fn written(&self, maps: &BTreeSet<String>) -> Vec<String> {
        maps.iter().map(|name| self.config.full(name)).collect()
    }
}

/// Where a selection is made.
pub(super) struct Place<'a> {
    pub(super) config: &'a Config,
    pub(super) stored: &'a Stored,
}

/// Targets and modules of a recipe, or the rule that the configuration breaks.
pub(super) fn selection(
    said: &Said,
    patterns: Patterns,
    place: &Place<'_>,
    notes: &mut Vec<String>,
) -> Result<(Target, Modules), String> {
    let config = place.config;
    let names = Names::new(config, place.stored);
    let targets = said.target_modules.clone().ok_or(
        "target_modules is missing, so the maps are those that PEFT chose by the model's type; save it with a current PEFT",
    )?;
    let targets = targets_of(targets, &names, notes)?;
    let mut modules = Modules {
        exclude_modules: said.exclude_modules.clone(),
        layers_to_transform: said.layers_to_transform.as_ref().map(OneOrMany::list).unwrap_or_default(),
        layers_pattern: said.layers_pattern.as_ref().map(OneOrMany::list).unwrap_or_default(),
        rank_pattern: patterns.rank_pattern.0,
        alpha_pattern: patterns.alpha_pattern.0,
        modules_to_save: saved(said, config),
        trainable_token_indices: tokens(said, config)?,
    };
    keep_layers(&mut modules, config, notes);
    // What is selected before anything is taken off or given a rank of its own; a rule that forbids it is said with the recipe.
    let plain = Modules {
        layers_to_transform: modules.layers_to_transform.clone(),
        layers_pattern: modules.layers_pattern.clone(),
        ..Modules::default()
    };
    let Ok(selected) = plain.select(Some(&targets), config) else { return Ok((targets, modules)) };
    let selected: BTreeSet<String> = selected.maps.into_keys().collect();
    modules.exclude_modules = match modules.exclude_modules.take() {
        Some(exclude) => exclude_of(exclude, &selected, &names, notes)?,
        None => None,
    };
    spare_saved(said, &mut modules, &selected, &names, notes)?;
    modules.rank_pattern = own("rank_pattern", modules.rank_pattern, &selected, &names, notes)?;
    modules.alpha_pattern = own("alpha_pattern", modules.alpha_pattern, &selected, &names, notes)?;
    Ok((targets, modules))
}

fn passed(notes: &mut Vec<String>, field: &str, what: &str) {
    notes.push(format!("{field}: `{what}` matches nothing here, as PEFT passes over it"));
}

/// Whether a module is the task's head, which every run trains.
fn is_head(name: &str, config: &Config) -> bool {
    let heads = config.head_names();
    ["classifier", "score"].contains(&name) || heads.iter().any(|head| head.split('.').next() == Some(name))
}

/// The targets without those of a list that match nothing.
fn targets_of(targets: Target, names: &Names<'_>, notes: &mut Vec<String>) -> Result<Target, String> {
    let pattern = match targets {
        Target::Endings(list) => {
            // PEFT writes `all-linear` out, the head's maps included, which it does not adapt because they are saved whole.
            let list = list
                .into_iter()
                .filter(|name| !name.split('.').next().is_some_and(|first| is_head(first, names.config)));
            let is_met = |end: &String| Target::Endings(vec![end.clone()]).select(names.config).is_ok();
            let (met, missed): (Vec<String>, Vec<String>) = list.partition(is_met);
            // Where nothing is left, the missed names are the error.
            if met.is_empty() {
                return Ok(Target::Endings(missed));
            }
            for end in &missed {
                passed(notes, "target_modules", end);
            }
            return Ok(Target::Endings(met));
        }
        Target::Pattern(pattern) if pattern.to_lowercase() == ALL_LINEAR => {
            return Ok(Target::Pattern(ALL_LINEAR.to_owned()));
        }
        Target::Pattern(pattern) => pattern,
    };
    let theirs = names.whole(&pattern).map_err(|bad| format!("target_modules: {bad}"))?;
    let Some((_, example)) = names.theirs.iter().next().filter(|_| theirs.is_empty()) else {
        let targets = Target::Pattern(pattern);
        let ours: BTreeSet<String> =
            targets.select(names.config).map(|maps| maps.into_keys().collect()).unwrap_or_default();
        return Ok(if ours == theirs { targets } else { Target::Endings(names.written(&theirs)) });
    };
    Err(format!("target_modules is `{pattern}`, which matches none of this model's maps, such as `{example}`"))
}

/// The rows of the table of words that train.
fn tokens(said: &Said, config: &Config) -> Result<Vec<usize>, String> {
    let word = config.word_table();
    match &said.trainable_token_indices {
        None => Ok(Vec::new()),
        Some(TokenIndices::Words(ids)) => Ok(ids.clone()),
        Some(TokenIndices::ByTable(tables)) => {
            let full = config.full(word);
            match tables.iter().find(|(table, ids)| !ids.is_empty() && !ends_in(&full, table)) {
                Some((table, _)) => Err(format!(
                    "trainable_token_indices has rows of `{table}`, but single rows train of the table of words alone here, `{word}`; merge it \
                     with PEFT's own `merge_and_unload`"
                )),
                None => Ok(tables.values().flatten().copied().collect()),
            }
        }
    }
}

/// The modules that are saved whole, the head left out; the name itself where no module has it.
fn saved(said: &Said, config: &Config) -> Vec<String> {
    let saved = said.modules_to_save.iter().flatten().filter(|name| !is_head(name, config));
    saved.flat_map(|name| modules_ending(config, name)).collect()
}

/// Full names of the outermost modules whose names end in `end`, which PEFT compares as plain text.
fn modules_ending(config: &Config, end: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for wanted in config.wanted(Purpose::Classify) {
        let full = config.full(&wanted.name);
        let Some((module, _)) = full.rsplit_once('.') else { continue };
        let ends = module.match_indices('.').map(|(at, _)| at).chain([module.len()]);
        found.extend(ends.map(|at| &module[..at]).find(|path| path.ends_with(end)).map(str::to_owned));
    }
    if found.is_empty() { vec![end.to_owned()] } else { found.into_iter().collect() }
}

/// Takes out layers that the model does not have.
fn keep_layers(modules: &mut Modules, config: &Config, notes: &mut Vec<String>) {
    let layers = config.layers();
    // No layer at all would mean every one.
    if modules.layers_to_transform.iter().any(|layer| *layer < layers) {
        modules.layers_to_transform.retain(|layer| {
            if *layer >= layers {
                passed(notes, "layers_to_transform", &layer.to_string());
            }
            *layer < layers
        });
    }
}

/// What is taken off the selected maps; none where that is nothing, of which PEFT warns.
fn exclude_of(
    exclude: Target,
    selected: &BTreeSet<String>,
    names: &Names<'_>,
    notes: &mut Vec<String>,
) -> Result<Option<Target>, String> {
    match exclude {
        Target::Endings(list) => {
            let meets = |end: &String| selected.iter().any(|name| ends_in(&names.config.full(name), end));
            let (met, missed): (Vec<String>, Vec<String>) = list.into_iter().partition(meets);
            for end in &missed {
                passed(notes, "exclude_modules", end);
            }
            Ok(Some(Target::Endings(met.clone())).filter(|_| !met.is_empty()))
        }
        Target::Pattern(pattern) => {
            let theirs = names.whole(&pattern).map_err(|bad| format!("exclude_modules: {bad}"))?;
            if theirs.is_disjoint(selected) {
                passed(notes, "exclude_modules", &pattern);
                return Ok(None);
            }
            let exclude = Target::Pattern(pattern);
            let ours: BTreeSet<String> =
                exclude.select(names.config).map(|maps| maps.into_keys().collect()).unwrap_or_default();
            Ok(Some(if ours == theirs { exclude } else { Target::Endings(names.written(&theirs)) }))
        }
    }
}

/// Takes off what a saved module holds, which PEFT does not adapt.
fn spare_saved(
    said: &Said,
    modules: &mut Modules,
    selected: &BTreeSet<String>,
    names: &Names<'_>,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let bad = |bad: BadPattern| format!("modules_to_save: {bad}");
    let mut held = BTreeSet::new();
    for module in said.modules_to_save.iter().flatten() {
        let matching = names.matching(&Pattern::held_by(module).map_err(bad)?).map_err(bad)?;
        held.extend(matching.into_iter().filter(|name| selected.contains(name)));
    }
    if held.is_empty() {
        return Ok(());
    }
    let list = names.written(&held);
    notes.push(format!("saved whole and not adapted, as in PEFT: {}", list.join(", ")));
    let mut all = match modules.exclude_modules.take() {
        Some(Target::Endings(list)) => list,
        Some(Target::Pattern(pattern)) => {
            let theirs = names.whole(&pattern).map_err(|bad| format!("exclude_modules: {bad}"))?;
            names.written(&theirs)
        }
        None => Vec::new(),
    };
    all.extend(list);
    modules.exclude_modules = Some(Target::Endings(all));
    Ok(())
}

/// The keys that give a selected map its own value: where no earlier key does.
fn own<T: Copy>(
    field: &str,
    patterns: Vec<(String, T)>,
    selected: &BTreeSet<String>,
    names: &Names<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, T)>, String> {
    let bad = |bad: BadPattern| format!("{field}: {bad}");
    let (mut kept, mut written, mut is_same, mut met) = (Vec::new(), Vec::new(), true, BTreeSet::new());
    for (key, value) in patterns {
        let pattern = Pattern::ending(&key).map_err(bad)?;
        let theirs: BTreeSet<String> =
            names.matching(&pattern).map_err(bad)?.into_iter().filter(|name| selected.contains(name)).collect();
        for name in selected {
            let ours =
                pattern.is_match(name).map_err(bad)? || pattern.is_match(&names.config.full(name)).map_err(bad)?;
            is_same = is_same && ours == theirs.contains(name);
        }
        let own: Vec<&String> = theirs.iter().filter(|name| !met.contains(*name)).collect();
        if own.is_empty() {
            passed(notes, field, &key);
            continue;
        }
        written.extend(own.iter().map(|name| (names.config.full(name), value)));
        met.extend(own.into_iter().cloned());
        kept.push((key, value));
    }
    Ok(if is_same { kept } else { written })
}
