//! A folder that PEFT wrote as a run's adapter of this program.
//!
//! `LORA` (rsLoRA, DoRA, starts by PiSSA and OLoRA included), `ADALORA` and `VERA` become the presets of the same names, their patterns,
//! layers and saved modules the plan's. A start that was taken off the base is decomposed from the base anew, as PEFT does when it
//! opens such a folder. What the format does not say is the task: it is given beside the folder, or lies in `lora_lab.json` where
//! [`export`](super::export) wrote it.
//!
//! Every tensor of the file has its place or is an error, and so is every one that is missing; a field that would change the function
//! and is not known here is refused by its name.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use models::{
    config::{Config, MapKind},
    modules::Modules,
    network::{Named, Network},
    target::Target,
    weights::widen,
};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value;
use variants::{
    adapted::AdaptedLinear,
    base::BiasSpec,
    delta::{DeltaSpec, anchored, shared_random::Keep},
    preset,
    rank::{AnyRankPolicy, constant::Constant},
    role::Role,
    scaling::Scaling,
    spec::VariantSpec,
    stream::Seeds,
};

use super::{
    CONFIG, Ordered, RESIDUAL_STARTS, WEIGHTS,
    export::{LOADED, PAIR},
    layout::{Kind, Layout, Matrix, WRAPPED, key, place},
};
use crate::{
    adapter::{self, Card},
    cell::{CellPlan, Given},
    error::TrainError,
    folder::{Free, ORIGIN},
    hyper::Hyper,
    library::{self, Base, Library},
};

/// The command's name in what it writes.
const COMMAND: &str = "lora-lab import";

/// What an adapter is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Purpose {
    /// Data suite.
    pub suite: String,
    /// Where its files are.
    pub data: Option<String>,
    /// Task of the suite.
    pub task: String,
    /// The task itself, where an experiment describes it.
    pub given: Option<Given>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// The base, if not where the configuration says.
    pub model: Option<&'a str>,
    /// The task, if the folder does not come from this program.
    pub purpose: Option<Purpose>,
}

/// An adapter that was read.
#[derive(Debug)]
pub struct Imported {
    /// Its recipe.
    pub card: Card,
    /// Base, adapter and head.
    pub network: Network,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// One or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    fn list(&self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one.clone()],
            Self::Many(many) => many.clone(),
        }
    }
}

/// What of adapter_config.json is read.
#[derive(Debug, Deserialize)]
struct Said {
    peft_type: String,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    r: Option<usize>,
    #[serde(default)]
    lora_alpha: Option<f64>,
    #[serde(default, alias = "vera_dropout")]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    init_lora_weights: Value,
    #[serde(default)]
    target_modules: Option<Target>,
    #[serde(default)]
    exclude_modules: Option<Target>,
    #[serde(default)]
    layers_to_transform: Option<OneOrMany<usize>>,
    #[serde(default)]
    layers_pattern: Option<OneOrMany<String>>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    bias: Option<String>,
    // AdaLoRA
    #[serde(default)]
    init_r: Option<usize>,
    #[serde(default)]
    target_r: Option<usize>,
    #[serde(default)]
    orth_reg_weight: Option<f64>,
    // VeRA
    #[serde(default)]
    d_initial: Option<f64>,
    #[serde(default)]
    projection_prng_key: Option<u64>,
    #[serde(default = "yes")]
    save_projection: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
struct LoraPatterns {
    #[serde(default)]
    rank_pattern: Ordered<usize>,
    #[serde(default)]
    alpha_pattern: Ordered<f64>,
}

/// Which components an AdaLoRA map has kept, by PEFT's name of its diagonal.
#[derive(Debug, Deserialize)]
struct KeptPatterns {
    #[serde(default)]
    rank_pattern: Option<BTreeMap<String, Vec<bool>>>,
}

/// Fields that change what an adapter computes and have no counterpart here, when they are neither null, false nor empty.
const UNKNOWN: &[&str] = &[
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
];

/// The file of weights.
struct Stored {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    used: BTreeSet<String>,
}

impl Stored {
    fn read(path: &Path) -> Result<Self, TrainError> {
        let bytes = super::bytes(path)?;
        let foreign = |reason: String| TrainError::Foreign { path: path.to_owned(), reason };
        let file = SafeTensors::deserialize(&bytes).map_err(|error| foreign(format!("not safetensors: {error}")))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let Some(numbers) = widen(&view) else {
                let reason = format!("`{name}` is {:?}, but an adapter is f64, f32, f16 or bf16", view.dtype());
                return Err(foreign(reason));
            };
            if let Some(bad) = numbers.iter().find(|value| !value.is_finite()) {
                return Err(foreign(format!(
                    "`{name}` holds `{bad}`, but every number must be finite; save the adapter again"
                )));
            }
            tensors.insert(name, (view.shape().to_vec(), numbers.into_iter().map(f64::from).collect()));
        }
        Ok(Self { tensors, used: BTreeSet::new() })
    }

    /// A tensor of a slot, under the name of a model with a head or of one without.
    fn find(&mut self, config: &Config, slot: &str, suffix: &str) -> Option<(String, Vec<usize>, Vec<f64>)> {
        let names = [key(config, slot, suffix), format!("{WRAPPED}{slot}.{suffix}")];
        let name = names.into_iter().find(|name| self.tensors.contains_key(name))?;
        self.used.insert(name.clone());
        let (shape, values) = self.tensors[&name].clone();
        Some((name, shape, values))
    }

    fn unused(&self) -> Vec<&str> {
        self.tensors.keys().filter(|name| !self.used.contains(*name)).map(String::as_str).collect()
    }
}

/// Reads a folder onto its base.
pub fn import(request: &Request<'_>, library: &Library) -> Result<Imported, TrainError> {
    let path = request.folder.join(CONFIG);
    let foreign = |reason: String| TrainError::Foreign { path: path.clone(), reason };
    let text = super::bytes(&path)?;
    let whole: Value = serde_json::from_slice(&text).map_err(|error| foreign(format!("not JSON: {error}")))?;
    let said: Said =
        serde_json::from_slice(&text).map_err(|error| foreign(format!("not a configuration of PEFT: {error}")))?;
    let mut stored = Stored::read(&request.folder.join(WEIGHTS))?;
    let mut notes = Vec::new();
    let mut card = match own_card(request.folder) {
        Some(card) if request.purpose.is_none() => card,
        _ => {
            let unknown = UNKNOWN.iter().find(|field| is_set(&whole[**field]));
            if let Some(field) = unknown {
                return Err(foreign(format!(
                    "`{field}` is `{}`, which has no counterpart here; convert it with PEFT first",
                    whole[*field]
                )));
            }
            foreign_card(&said, &text, request, library, &stored, &mut notes).map_err(|error| match error {
                Refused::Rule(reason) => foreign(reason),
                Refused::Other(error) => error,
            })?
        }
    };
    if let Some(model) = request.model {
        model.clone_into(&mut card.plan.model);
    }
    let base = library.base(&card.plan.model)?;
    if base.hash != card.model_hash {
        return Err(foreign(format!(
            "it belongs to a `{}` with hash {}, but the one found has {}; give the right base with `--model`",
            card.plan.model, card.model_hash, base.hash
        )));
    }
    let plan = adapter::stack_plan(&card.plan, &card.cell, library).map_err(|error| match error {
        TrainError::Variant { problems, .. } => foreign(problems),
        other => other,
    })?;
    let mut network = library.network(&card.plan, &[(plan, vec![card.outputs])])?;
    let kept: KeptPatterns = if said.peft_type == "ADALORA" {
        serde_json::from_slice(&text).map_err(|error| foreign(format!("rank_pattern: {error}")))?
    } else {
        KeptPatterns { rank_pattern: None }
    };
    let of_file = |reason: String| TrainError::Foreign { path: request.folder.join(WEIGHTS), reason };
    let pair = pair(&said, &mut stored).map_err(of_file)?;
    fill(&mut network, &card, &base, &mut stored, kept.rank_pattern.as_ref(), pair.as_ref(), &mut notes)
        .map_err(of_file)?;
    card.drawn = adapter::drawn(&network);
    Ok(Imported { card, network, notes })
}

/// Writes a run's adapter; returns its size in bytes.
pub fn write(mut imported: Imported, from: &Path, out: &Path) -> Result<u64, TrainError> {
    let mut draft = Free::check(out, COMMAND)?.begin()?;
    let bytes = adapter::encode(&imported.card, &adapter::tensors(&mut imported.network, 0, 0))?;
    draft.write("adapter.safetensors", &bytes)?;
    draft.finish(serde_json::json!({ "folder": from }))?;
    Ok(bytes.len() as u64)
}

enum Refused {
    Rule(String),
    Other(TrainError),
}

impl From<TrainError> for Refused {
    fn from(error: TrainError) -> Self {
        Self::Other(error)
    }
}

/// Whether a field departs from nothing.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

/// The recipe that this program's export left beside the adapter.
fn own_card(folder: &Path) -> Option<Card> {
    let origin: Value = serde_json::from_slice(&std::fs::read(folder.join(ORIGIN)).ok()?).ok()?;
    if origin["written_by"] != super::export::COMMAND {
        return None;
    }
    serde_json::from_value(origin["from"]["card"].clone()).ok()
}

/// A recipe for an adapter that PEFT trained.
fn foreign_card(
    said: &Said,
    text: &[u8],
    request: &Request<'_>,
    library: &Library,
    stored: &Stored,
    notes: &mut Vec<String>,
) -> Result<Card, Refused> {
    let rule = |reason: String| Refused::Rule(reason);
    let Some(purpose) = request.purpose.clone() else {
        return Err(rule(
            "the folder does not say which task the adapter is for; give `--task NAME` of GLUE, or `--experiment FILE --task NAME`"
                .to_owned(),
        ));
    };
    let model = match (request.model, &said.base_model_name_or_path) {
        (Some(model), _) => model.to_owned(),
        (None, Some(model)) => model.clone(),
        (None, None) => {
            return Err(rule("base_model_name_or_path is missing; give the base with `--model DIR`".to_owned()));
        }
    };
    let base = library.base(&model)?;
    let config = base.backbone.config();
    let (preset, variant) = variant(said).map_err(rule)?;
    let patterns: LoraPatterns = if said.peft_type == "LORA" {
        serde_json::from_slice(text).map_err(|error| rule(format!("rank_pattern, alpha_pattern: {error}")))?
    } else {
        LoraPatterns { rank_pattern: Ordered::default(), alpha_pattern: Ordered::default() }
    };
    let targets = said.target_modules.as_ref().ok_or_else(|| {
        rule("target_modules is missing, so the maps are those that PEFT chose by the model's type; save it with a current PEFT".to_owned())
    })?;
    let is_head = |name: &String| {
        ["classifier", "score"].contains(&name.as_str())
            || config.head_names().iter().any(|head| head.split('.').next() == Some(name))
    };
    // PEFT writes `all-linear` out, the head's maps included, which it does not adapt because they are saved whole.
    let targets = match targets {
        Target::Endings(list) => {
            let head = |name: &&String| !name.split('.').next().is_some_and(|first| is_head(&first.to_owned()));
            Target::Endings(list.iter().filter(head).cloned().collect())
        }
        Target::Pattern(_) => targets.clone(),
    };
    let saved: Vec<String> =
        said.modules_to_save.clone().unwrap_or_default().into_iter().filter(|name| !is_head(name)).collect();
    let modules = Modules {
        exclude_modules: said.exclude_modules.clone(),
        layers_to_transform: said.layers_to_transform.as_ref().map(OneOrMany::list).unwrap_or_default(),
        layers_pattern: said.layers_pattern.as_ref().map(OneOrMany::list).unwrap_or_default(),
        rank_pattern: patterns.rank_pattern.0,
        alpha_pattern: patterns.alpha_pattern.0,
        modules_to_save: saved,
    };
    let is_text = matches!(purpose.given, Some(Given::Text(_)));
    let expected = if is_text { "CAUSAL_LM" } else { "SEQ_CLS" };
    if let Some(found) = said.task_type.as_deref().filter(|found| *found != expected) {
        notes.push(format!("task_type is `{found}`, but the task `{}` is one of {expected}", purpose.task));
    }
    let rank = variant.rank;
    let outputs = if is_text { 0 } else { outputs(&config, stored, &base, &purpose)? };
    let plan = CellPlan {
        suite: purpose.suite,
        data: purpose.data,
        task: purpose.task.clone(),
        given: purpose.given,
        model,
        start_from: None,
        targets,
        modules,
        preset: preset.to_owned(),
        variant,
        train: Hyper { max_length: Hyper::default().max_length.min(config.longest()), ..Hyper::default() },
        readouts: Vec::new(),
        seeds: Seeds::all(0),
    };
    let cell = record::CellId { task: purpose.task, variant: preset.to_owned(), rank, seed: 0 };
    Ok(Card { cell, plan, outputs, model_hash: base.hash.clone(), drawn: None })
}

/// Outputs of the head: of the file, else of the checkpoint; those of the task, if they are known.
fn outputs(config: &Config, stored: &Stored, base: &Base, purpose: &Purpose) -> Result<usize, Refused> {
    let weights = config.head_names().iter().rev().find(|name| name.ends_with("weight"));
    let of_file = weights.and_then(|name| stored.tensors.get(&format!("{WRAPPED}{name}"))).map(|(shape, _)| shape[0]);
    let of_base = || weights.and_then(|name| base.head.find(name)).map(|(shape, _)| shape[0]);
    let tasks = library::tasks(&purpose.suite);
    let known = match tasks.iter().find(|info| info.name == purpose.task) {
        _ if purpose.given.is_some() => None,
        Some(info) => Some(info.objective.n_outputs()),
        None => {
            let names: Vec<&str> = tasks.iter().map(|info| info.name.as_str()).collect();
            return Err(Refused::Rule(format!(
                "task is `{}`, but must be one of {}, or be described by an experiment",
                purpose.task,
                names.join(", ")
            )));
        }
    };
    match (of_file.or_else(of_base), known) {
        (Some(found), Some(known)) if found != known => Err(Refused::Rule(format!(
            "its head has {found} outputs, but `{}` has {known}; give the task that it was trained for",
            purpose.task
        ))),
        (Some(found), _) => Ok(found),
        (None, _) => Err(Refused::Rule(format!(
            "neither the folder nor its base has a head for `{}`; save the adapter with its head, as PEFT does for task_type SEQ_CLS",
            purpose.task
        ))),
    }
}

/// Preset and composition.
fn variant(said: &Said) -> Result<(&'static str, VariantSpec), String> {
    let bias = match said.bias.as_deref() {
        None | Some("none") => BiasSpec::None,
        Some("all") => BiasSpec::All,
        Some("lora_only" | "vera_only") => BiasSpec::LoraOnly,
        Some(other) => return Err(format!("bias is `{other}`, but must be none, all or lora_only")),
    };
    let start = said.init_lora_weights.as_str().unwrap_or_default();
    let name = match said.peft_type.as_str() {
        "LORA" if start.starts_with("pissa") => "pissa",
        "LORA" if start == "olora" => "olora",
        "LORA" if RESIDUAL_STARTS.iter().any(|residual| start.starts_with(residual)) => {
            return Err(format!(
                "init_lora_weights is `{start}`, which changed the base at the start in a way that cannot be repeated here; save it with \
                 PEFT's conversion to plain LoRA (path_initial_model_for_weight_conversion) first"
            ));
        }
        "LORA" if said.use_dora => "dora",
        "LORA" if said.use_rslora => "rslora",
        "LORA" => "lora",
        "ADALORA" => "adalora",
        "VERA" => "vera",
        other => {
            return Err(format!(
                "peft_type is `{other}`, but LORA, ADALORA and VERA are read; convert it to LoRA with PEFT first"
            ));
        }
    };
    let rank = if name == "adalora" { said.init_r.or(said.r) } else { said.r };
    let rank =
        rank.filter(|rank| *rank > 0).ok_or("r is missing or 0, but a rank is at least 1; save the adapter again")?;
    let preset = preset::find(name).unwrap_or_else(|_| unreachable!("a preset of that name is registered"));
    let mut spec = (preset.spec)(rank);
    (spec.bias, spec.dropout) = (bias, said.lora_dropout);
    if let Some(alpha) = said.lora_alpha {
        spec.alpha = alpha;
    }
    if said.use_rslora {
        spec.scaling = Scaling::AlphaOverSqrtRank;
    }
    if (name == "pissa" || name == "olora") && said.use_dora {
        return Err(format!("init_lora_weights `{start}` beside use_dora is not read"));
    }
    match &mut spec.delta {
        Some(DeltaSpec::SharedRandom(vera)) => {
            vera.pair = Keep::Kept;
            vera.projection_seed = said.projection_prng_key.unwrap_or(0);
            vera.d_initial = said.d_initial.unwrap_or(vera.d_initial);
        }
        Some(DeltaSpec::Anchored(own)) if name == "olora" => own.start = anchored::Start::Triangular,
        _ => {}
    }
    if let AnyRankPolicy::Budget(budget) = &mut spec.rank_policy {
        spec.orthogonality = said.orth_reg_weight.unwrap_or(spec.orthogonality);
        match said.target_r.filter(|target| (1..rank).contains(target)) {
            Some(target) => budget.target_rank = target,
            None => spec.rank_policy = AnyRankPolicy::Constant(Constant {}),
        }
    }
    Ok((name, spec))
}

/// VeRA's pair, `A [r, d_in]` and `B [d_out, r]`.
fn pair(said: &Said, stored: &mut Stored) -> Result<Option<[Matrix; 2]>, String> {
    if said.peft_type != "VERA" {
        return Ok(None);
    }
    let mut read = |name: &str| {
        let (shape, values) = stored.tensors.get(name).cloned().ok_or_else(|| {
            let why = if said.save_projection {
                "the file is not whole"
            } else {
                "save_projection was false, and torch's generator is not built in"
            };
            format!("`{name}` is missing: {why}; save the adapter with save_projection = True")
        })?;
        stored.used.extend([name.to_owned(), format!("{name}{LOADED}")]);
        Layout::Same
            .read(Role::Projection, &shape, values)
            .ok_or_else(|| format!("`{name}` is {shape:?}, not a matrix"))
    };
    Ok(Some([read(PAIR[0])?, read(PAIR[1])?]))
}

/// Gives every tensor of the network its numbers.
fn fill(
    network: &mut Network,
    card: &Card,
    base: &Base,
    stored: &mut Stored,
    kept: Option<&BTreeMap<String, Vec<bool>>>,
    pair: Option<&[Matrix; 2]>,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let config = network.backbone.config();
    let known = config.maps();
    let scaling = card.plan.variant.scaling;
    let own = |map: &&AdaptedLinear| {
        let (rank, alpha) = (map.rank(0)?, *map.alphas(0)?.first()?);
        Some((map.name().to_owned(), (rank, scaling.at(alpha, rank))))
    };
    let adapted: BTreeMap<String, (usize, f64)> = network.adapted(0).iter().filter_map(own).collect();
    let (mut missing, mut wrong, mut old) = (Vec::new(), Vec::new(), BTreeSet::new());
    // A head is taken whole: of the file, or of the base.
    let mut lacking = Vec::new();
    let (mut heads, mut widest) = (0, [0, 0]);
    let place_of = network.backbone.place().clone();
    for Named { slot, name, owned, .. } in network.owned(0) {
        let short = if slot.is_empty() { name.as_str() } else { owned.name };
        let [_, rows, cols] = owned.tensor.dims();
        let whole = match known.get(&slot).map(|map| &map.kind) {
            Some(MapKind::Part(whole)) => Some(whole.clone()),
            _ => None,
        };
        if owned.role == Role::Projection {
            // The start of an anchored method is that of the base; VeRA's pair is the file's.
            if let Some([a, b]) = pair {
                let (name, source, fits) = if short == "a" {
                    widest[0] = widest[0].max(rows);
                    (PAIR[0], a.transposed(), a.shape[0] == cols && a.shape[1] >= rows)
                } else {
                    widest[1] = widest[1].max(cols);
                    (PAIR[1], b.transposed(), b.shape[1] == rows && b.shape[0] >= cols)
                };
                if !fits {
                    let [columns, lines] = source.shape;
                    wrong.push(format!("`{name}` is [{lines}, {columns}], which has no part for `{slot}`"));
                    continue;
                }
                *owned.tensor = place_of.tensor(source.rows(0, rows).columns(0, cols).values, [1, rows, cols]);
            }
            continue;
        }
        let (at, kind) = match &whole {
            Some(whole) => (whole.as_str(), Kind::Conv),
            None => (slot.as_str(), Kind::of(&slot, &config)),
        };
        let is_adapted = adapted.contains_key(&slot);
        let Some((suffix, layout)) = place(kind, short, is_adapted) else { continue };
        heads += usize::from(slot.is_empty());
        let Some((key, shape, values)) = stored.find(&config, at, &suffix) else {
            let key = format!("`{}`", key(&config, at, &suffix));
            if slot.is_empty() {
                lacking.push((key, base.head.find(short).is_some()));
            } else if short == "bias" && is_adapted && card.plan.variant.bias == BiasSpec::LoraOnly {
                // PEFT's `lora_only` looks for the biases under a name that they do not have, and saves none.
                old.insert("biases of adapted maps");
            } else {
                missing.push(key);
            }
            continue;
        };
        let Some(mut matrix) = layout.read(owned.role, &shape, values) else {
            wrong.push(format!("`{key}` is {shape:?}"));
            continue;
        };
        if let Some(whole) = &whole {
            let parts = config.parts(whole).unwrap_or_default();
            matrix = match of_part(&matrix, short, &slot, &parts, &adapted) {
                Ok(part) => part,
                Err(why) => {
                    wrong.push(format!("`{key}`, which is {shape:?}, {why}"));
                    continue;
                }
            };
        }
        if let Some(kept) = kept
            && ["q", "lambda", "p"].contains(&short)
        {
            let keep =
                kept.iter().find(|(name, _)| name.strip_suffix(".lora_E").is_some_and(|name| name.ends_with(&slot)));
            if let Some((_, keep)) = keep {
                let left = keep.iter().filter(|k| **k).count();
                let turned = if short == "p" { matrix.transposed() } else { matrix };
                // A folder that was saved before its file was cut holds every component.
                let turned = if turned.shape[1] == left { turned.spread_columns(keep) } else { turned };
                matrix = if short == "p" { turned.transposed() } else { turned };
            }
        }
        if matrix.shape != [rows, cols] {
            let [found_rows, found_cols] = matrix.shape;
            wrong.push(format!(
                "`{key}` is {shape:?}, so `{slot}` would be {found_rows}x{found_cols} and not {rows}x{cols}"
            ));
            continue;
        }
        *owned.tensor = place_of.tensor(matrix.values, [1, rows, cols]);
    }
    if lacking.len() == heads && lacking.iter().all(|(_, is_of_base)| *is_of_base) {
        old.extend((heads > 0).then_some("the head"));
    } else {
        missing.extend(lacking.into_iter().map(|(key, _)| key));
    }
    // A pair that is drawn from a seed has no tensors of its own, and nothing is asked of it.
    if let Some([a, b]) = pair.filter(|_| wrong.is_empty() && widest != [0, 0])
        && [a.shape[1], b.shape[0]] != widest
    {
        wrong.push(format!(
            "`{}` is {:?} and `{}` {:?}, but the widest of the adapted maps is [{}, {}]",
            PAIR[0], a.shape, PAIR[1], b.shape, widest[0], widest[1]
        ));
    }
    // With `bias="all"` PEFT saves the biases of a wrapped head three times.
    let is_copy = |name: &&str| name.contains(".original_module.") || name.contains(".modules_to_save.");
    let (tables, extra): (Vec<&str>, Vec<&str>) = stored
        .unused()
        .into_iter()
        .filter(|name| !is_copy(name))
        .partition(|name| name.ends_with(".base_layer.weight"));
    if !tables.is_empty() {
        notes.push(format!("the base's own tables in the file are not read: {}", tables.join(", ")));
    }
    wrong.extend(extra.into_iter().map(|name| format!("`{name}` belongs to nothing in its configuration")));
    if !missing.is_empty() {
        wrong.push(format!("missing: {}", missing.join(", ")));
    }
    if !wrong.is_empty() {
        return Err(format!("{}; check that base and folder belong together", wrong.join("; ")));
    }
    if !old.is_empty() && card.plan.text().is_none() {
        let list: Vec<&str> = old.into_iter().collect();
        notes.push(format!("not in the file, so the base's own: {}", list.join(", ")));
    }
    Ok(())
}

/// The part's share of a joined factor, or what forbids one.
fn of_part(
    matrix: &Matrix,
    name: &str,
    slot: &str,
    parts: &[String],
    adapted: &BTreeMap<String, (usize, f64)>,
) -> Result<Matrix, &'static str> {
    let misfit = "is not what its parts need";
    let index = parts.iter().position(|part| part == slot).ok_or(misfit)?;
    let ranks: Vec<usize> = parts.iter().map(|part| adapted.get(part).map_or(0, |(rank, _)| *rank)).collect();
    let (before, own) = (ranks[..index].iter().sum::<usize>(), ranks[index]);
    let third = matrix.shape[1] / 3;
    match name {
        "a" if matrix.shape[1] == ranks.iter().sum::<usize>() => Ok(matrix.columns(before, before + own)),
        "b" if matrix.shape[0] == ranks.iter().sum::<usize>() => {
            // The joined map has the scale of its first part; the others' departure from it lies in B.
            let scale = |part: &String| adapted.get(part).map(|(_, scale)| *scale);
            let share = parts.iter().find_map(scale).ok_or(misfit)? / scale(&parts[index]).ok_or(misfit)?;
            let rows = matrix.rows(before, before + own);
            let is_elsewhere = |at: usize| (at % rows.shape[1]) / third.max(1) != index;
            if rows.values.iter().enumerate().any(|(at, value)| is_elsewhere(at) && *value != 0.0) {
                return Err("mixes its parts, as after training in PEFT; give `--task`, and it is read as one map");
            }
            let mut part = rows.columns(index * third, (index + 1) * third);
            part.values.iter_mut().for_each(|value| *value *= share);
            Ok(part)
        }
        "magnitude" => Ok(matrix.columns(index * third, (index + 1) * third)),
        _ => Err(misfit),
    }
}
