//! What spans fields: every variant at every rank on every task, against the model's widths and the run's length.

use models::{
    config::{Config, Map, MapKind},
    modules::{Modules, Selected},
    target::Target,
};
use serde_yaml::{Mapping, Value};
use variants::{
    base::BaseSpec,
    capability::{Capability, Lack},
    delta::DeltaSpec,
    embedding,
    error::{AttachError, SpecProblem},
    preset::Preset,
    role::{Role, TrainConfig},
    spec::VariantSpec,
};

use super::{
    document::{At, BESIDE_TARGETS, Document, Entry, MODULE_KEYS, Ranks},
    error::Report,
    overlay::overlay,
    path::Path,
};
use crate::hyper::Hyper;
use crate::suites;
use assets::source;

pub(super) mod free;
mod recipes;
mod rules;

use recipes::{Examples, Recipes};
use rules::{check_held_out, check_init, check_nested, check_readouts, check_specs};

/// One entry of `variants`, resolved.
#[derive(Debug)]
pub(super) struct Row {
    /// Index into the document's variants.
    pub(super) entry: usize,
    /// The preset that it starts from.
    pub(super) preset: &'static Preset,
    pub(super) model: String,
    /// Empty where nothing is adapted.
    pub(super) targets: Target,
    /// What narrows them and trains beside them.
    pub(super) modules: Modules,
    /// The composition at every rank.
    pub(super) specs: Vec<VariantSpec>,
    /// The recipe on every task.
    pub(super) hypers: Vec<Hyper>,
}

/// Resolves every entry. Rows are complete where nothing is reported; what can be checked of an entry that cannot be resolved is.
pub(super) fn check(document: &Document, report: &mut Report) -> Vec<Row> {
    let mut examples = Examples::default();
    if document.variants.is_empty() {
        examples.recipes(document, None, None, report);
    }
    let mut row = |(index, entry): (usize, &Entry)| row(document, index, entry, &mut examples, report);
    document.variants.iter().enumerate().filter_map(&mut row).collect()
}

/// One entry of a document, which it need not stand in, resolved; what is wrong with it is told when all are.
pub(super) fn probe(document: &Document, entry: &Entry) -> Option<Row> {
    let mut report = Report::default();
    row(document, 0, entry, &mut Examples::default(), &mut report).filter(|_| report.is_empty())
}

fn row(document: &Document, index: usize, entry: &Entry, examples: &mut Examples, report: &mut Report) -> Option<Row> {
    let model = model(document, entry, report);
    let config = model.and_then(|model| config(model, report));
    if let Some(model) = model {
        check_held_out(document, entry, &model.value, report);
    }
    if let (Some(config), Some(model)) = (&config, model)
        && document.suite == suites::TEXT
        && !config.is_causal()
    {
        let name = &model.value;
        let rule = format!("model `{name}` is an encoder, but text is continued by a decoder such as GPT-2 or Llama");
        report.add(&model.at, rule);
    }
    let longest = config.as_ref().map(Config::longest);
    let Recipes { hypers, lengths } = examples.recipes(document, Some(entry), longest, report);
    let Some((preset, specs)) = entry.preset.zip(specs(document, entry, report)) else {
        maps_alone(document, entry, config.as_ref(), report);
        return None;
    };
    let modules = modules(document, entry, specs.first()?, report);
    check_specs(entry, document.ranks.as_ref(), &specs, modules.roles(), &lengths, report);
    check_init(entry, &specs, report);
    check_nested(entry, &specs, report);
    check_readouts(entry, &specs, &modules, report);
    let targets = targets(document, entry, &specs, &modules, config.as_ref(), report);
    Some(Row { entry: index, preset, model: model?.value.clone(), targets: targets?, modules, specs, hypers })
}

/// Looks at the maps of an entry whose composition is not known, so that one mistake does not hide the next.
fn maps_alone(document: &Document, entry: &Entry, config: Option<&Config>, report: &mut Report) {
    let given = if entry.gave.contains("targets") { &entry.targets } else { &document.targets };
    let (Some(targets), Some(config)) = (given, config) else { return };
    if let Err(problems) = merged(document, entry).select(Some(&targets.value), config) {
        refuse(document, entry, problems, report);
    }
}

/// Reports what is wrong with the selection of an entry's maps.
fn refuse(document: &Document, entry: &Entry, problems: Vec<SpecProblem>, report: &mut Report) {
    for SpecProblem { field, rule } in problems {
        report.add(&place(document, entry, &field), rule);
    }
}

/// Says that a field without which the entry cannot run is neither in it nor in the experiment. One that was given and refused
/// has its own problem.
fn require(document: &Document, entry: &Entry, key: &str, why: &str, report: &mut Report) {
    if !document.gave.contains(key) && !entry.gave.contains(key) {
        report.add(&entry.at, format!("`{}` {why}; give `{key}` here or for the whole experiment", entry.label));
    }
}

fn model<'a>(document: &'a Document, entry: &'a Entry, report: &mut Report) -> Option<&'a At<String>> {
    require(document, entry, "model", "has no model", report);
    if entry.gave.contains("model") { entry.model.as_ref() } else { document.model.as_ref() }
}

fn config(model: &At<String>, report: &mut Report) -> Option<Config> {
    match source::config(&model.value) {
        Ok(config) => config,
        Err(error) => {
            report.add(&model.at, format!("model `{}` cannot be used: {error}", model.value));
            None
        }
    }
}

/// The entry's composition at each of its ranks.
fn specs(document: &Document, entry: &Entry, report: &mut Report) -> Option<Vec<VariantSpec>> {
    let at = entry.at.key("with");
    let mut with = entry.with.clone();
    if with.remove("rank").is_some() {
        report.add(&at.key("rank"), "the rank is not an override; write `ranks: [..]` beside `with`");
    }
    // Types do not depend on the rank, so any will do to find what is wrong with them.
    let probe = compose(entry, &with, 8, &at, report)?;
    if probe.delta.is_none() {
        let unused = [("ranks", "has no rank"), ("targets", "has no targets")].into_iter();
        let narrowing =
            MODULE_KEYS.iter().filter(|key| !BESIDE_TARGETS.contains(key)).map(|key| (*key, "has no use for it"));
        for (key, why) in unused.chain(narrowing).filter(|(key, _)| entry.gave.contains(*key)) {
            report.add(&entry.at.key(key), format!("`{}` adapts no map, so it {why}; leave `{key}` out", entry.label));
        }
        return Some(vec![VariantSpec { rank: 0, ..probe }]);
    }
    if let Some(delta) = probe.delta.as_ref().filter(|delta| !delta.is_ranked()) {
        if entry.gave.contains("ranks") {
            let rule = format!("`{}` has no rank (`{}`); leave `ranks` out", entry.label, delta.kind());
            report.add(&entry.at.key("ranks"), rule);
        }
        return Some(vec![probe]);
    }
    require(document, entry, "ranks", "adapts maps, so it needs a rank", report);
    let ranks = ranks(entry, document.ranks.as_ref())?;
    ranks.value.iter().map(|(_, rank)| compose(entry, &with, *rank, &at, report)).collect()
}

/// Where a field of [`Modules`] that concerns an entry was given.
fn place(document: &Document, entry: &Entry, key: &str) -> Path {
    let own = entry.gave.contains(key) || !document.gave.contains(key);
    if own { entry.at.key(key) } else { Path::default().key(key) }
}

/// The entry's fields beside targets, each the experiment's where it has none of its own.
fn merged(document: &Document, entry: &Entry) -> Modules {
    let own = |key: &str| if entry.gave.contains(key) { &entry.modules } else { &document.modules };
    Modules {
        exclude_modules: own("exclude_modules").exclude_modules.clone(),
        layers_to_transform: own("layers_to_transform").layers_to_transform.clone(),
        layers_pattern: own("layers_pattern").layers_pattern.clone(),
        rank_pattern: own("rank_pattern").rank_pattern.clone(),
        alpha_pattern: own("alpha_pattern").alpha_pattern.clone(),
        modules_to_save: own("modules_to_save").modules_to_save.clone(),
        trainable_token_indices: own("trainable_token_indices").trainable_token_indices.clone(),
    }
}

/// The fields beside targets as far as the composition takes them.
///
/// A composition that adapts nothing has nothing to narrow, and one that trains the whole base nothing to add to.
fn modules(document: &Document, entry: &Entry, spec: &VariantSpec, report: &mut Report) -> Modules {
    let mut modules = merged(document, entry);
    if spec.base == BaseSpec::Trained {
        for key in BESIDE_TARGETS.into_iter().filter(|key| entry.gave.contains(*key)) {
            let rule = format!("`{}` trains the whole base; leave `{key}` out", entry.label);
            report.add(&entry.at.key(key), rule);
        }
        return Modules::default();
    }
    if spec.delta.is_none() {
        let Modules { modules_to_save, trainable_token_indices, .. } = modules;
        return Modules { modules_to_save, trainable_token_indices, ..Modules::default() };
    }
    let ranks = spec.lacks(&[Capability::OwnRanks]);
    let alphas = spec.lacks(&[Capability::UsesAlpha]);
    let mut refuse = |key: &str, given: bool, lack: Option<&Lack>| {
        if let (true, Some(reason)) = (given, lack) {
            let way_out = if entry.gave.contains(key) {
                format!("leave `{key}` out")
            } else {
                format!("write `{key}: {{}}` in its entry, or the pattern in the entries that it is for")
            };
            report.add(&place(document, entry, key), format!("`{}` takes no {key}: {reason}; {way_out}", entry.label));
        }
    };
    refuse("rank_pattern", !modules.rank_pattern.is_empty(), ranks.as_ref());
    refuse("alpha_pattern", !modules.alpha_pattern.is_empty(), alphas.as_ref());
    // What was refused has its own problem and is looked at no further.
    if ranks.is_some() {
        modules.rank_pattern.clear();
    }
    if alphas.is_some() {
        modules.alpha_pattern.clear();
    }
    modules
}

fn ranks<'a>(entry: &'a Entry, shared: Option<&'a Ranks>) -> Option<&'a Ranks> {
    if entry.gave.contains("ranks") { entry.ranks.as_ref() } else { shared }
}

/// The preset at `rank` with the entry's overrides.
fn compose(entry: &Entry, with: &Mapping, rank: usize, at: &Path, report: &mut Report) -> Option<VariantSpec> {
    let preset = (entry.preset?.spec)(rank);
    let mut base = serde_yaml::to_value(&preset).unwrap_or_else(|error| unreachable!("a preset serialises: {error}"));
    // A role that the preset leaves alone has a plan all the same: overrides change single fields of it.
    if let (Some(Value::Mapping(roles)), Some(plans)) =
        (with.get("train"), base.get_mut("train").and_then(Value::as_mapping_mut))
    {
        for role in roles.keys().filter(|role| !plans.contains_key(*role)).cloned().collect::<Vec<_>>() {
            if let Ok(known) = serde_yaml::from_value::<Role>(role.clone()) {
                let plan = serde_yaml::to_value(TrainConfig::default().of_role(known)).unwrap_or_default();
                plans.insert(role, plan);
            }
        }
    }
    let spec = overlay::<VariantSpec>(&base, with, at, report)?;
    let ranked = spec.delta.as_ref().is_some_and(DeltaSpec::is_ranked);
    Some(VariantSpec { rank: if ranked { rank } else { 0 }, ..spec })
}

/// The entry's targets, if they select maps of the model that are wide enough for every rank.
fn targets(
    document: &Document,
    entry: &Entry,
    specs: &[VariantSpec],
    modules: &Modules,
    config: Option<&Config>,
    report: &mut Report,
) -> Option<Target> {
    let Some(delta) = &specs.first()?.delta else {
        let found = config.map_or_else(|| Ok(Selected::default()), |config| modules.select(None, config));
        found.map_err(|problems| refuse(document, entry, problems, report)).ok()?;
        return Some(Target::Endings(Vec::new()));
    };
    require(document, entry, "targets", "adapts maps, so it needs targets", report);
    let targets = if entry.gave.contains("targets") { entry.targets.as_ref() } else { document.targets.as_ref() }?;
    // Of a model that is still to be downloaded nothing is known; its targets are looked at when the run starts.
    let Some(config) = config else {
        let problems = modules.check(Some(&targets.value));
        let holds = problems.is_empty();
        refuse(document, entry, problems, report);
        return holds.then(|| targets.value.clone());
    };
    let Selected { maps, own, .. } = modules
        .select(Some(&targets.value), config)
        .map_err(|problems| refuse(document, entry, problems, report))
        .ok()?;
    let refuses_tables = specs[0].lacks(embedding::REQUIRES).is_some();
    if let Some((table, _)) = maps.iter().find(|(_, map)| map.kind == MapKind::Table && refuses_tables) {
        let error = AttachError::NotAnEmbeddingDelta { slot: table.clone(), delta: delta.kind() };
        report.add(&targets.at, format!("{error} (`{}`)", entry.label));
    }
    let own_rank = |slot: &String| own.get(slot).and_then(|own| own.rank);
    let too_large = |slot: &String, map: &Map, rank: usize| {
        let ([d_in, d_out], max) = (map.shape, map.max_rank());
        let error = AttachError::RankTooLarge { slot: slot.clone(), d_in, d_out, max, rank };
        format!("{error} (`{}`)", entry.label)
    };
    let shared = maps.iter().filter(|(slot, _)| own_rank(slot).is_none());
    let narrowest = shared.min_by_key(|(_, map)| map.max_rank()).filter(|_| delta.rank_bounded());
    if let (Some((slot, map)), Some(ranks)) = (narrowest, ranks(entry, document.ranks.as_ref())) {
        for &(index, rank) in ranks.value.iter().filter(|(_, rank)| *rank > map.max_rank()) {
            report.add(&ranks.at.index(index), too_large(slot, map, rank));
        }
    }
    let wider =
        maps.iter().find_map(|(slot, map)| Some((slot, map, own_rank(slot).filter(|rank| *rank > map.max_rank())?)));
    if let Some((slot, map, rank)) = wider.filter(|_| delta.rank_bounded()) {
        report.add(&place(document, entry, "rank_pattern"), too_large(slot, map, rank));
    }
    for (index, spec) in specs.iter().enumerate() {
        let misfit = |(slot, map): (&String, &Map)| {
            let rank = own_rank(slot).unwrap_or(spec.rank);
            let too_wide = delta.rank_bounded() && rank > map.max_rank(); // which has a problem of its own
            let why = spec.delta.as_ref()?.misfit(rank, map.shape).filter(|_| !too_wide)?;
            let [d_in, d_out] = map.shape;
            let error = AttachError::Misfit { slot: slot.clone(), d_in, d_out, why };
            Some((own_rank(slot).is_some(), format!("{error} (`{}`)", entry.label)))
        };
        let Some((is_own, problem)) = maps.iter().find_map(misfit) else { continue };
        let ranks = ranks(entry, document.ranks.as_ref()).filter(|ranks| ranks.value.len() == specs.len());
        let at = match ranks {
            Some(ranks) if !is_own => ranks.at.index(ranks.value[index].0),
            None if !is_own => entry.at.key("with"),
            _ => place(document, entry, "rank_pattern"),
        };
        report.add(&at, problem);
    }
    Some(targets.value.clone())
}
