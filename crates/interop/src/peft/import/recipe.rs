//! The recipe of an adapter that PEFT trained, from its configuration.

use std::collections::BTreeSet;

use models::{
    config::Config,
    modules::{Modules, ending},
    target::Target,
};
use serde::Deserialize;
use serde_json::Value;
use variants::{
    base::BiasSpec,
    delta::{DeltaSpec, residual_init, shared_random::Save},
    preset,
    rank::{AnyRankPolicy, constant::Constant},
    scaling::Scaling,
    spec::VariantSpec,
    stream::Seeds,
};

use super::{
    super::{
        RESIDUAL_STARTS, WRAPPED,
        config::{Ordered, task_type},
    },
    ImportRequest, Purpose,
    fill::Stored,
};
use experiment::{
    cell::{Recipe, TaskSource},
    hyper::Hyper,
};
use trainer::{
    adapter::AdapterMetadata,
    error::TrainError,
    model_cache::{BaseModel, ModelCache},
};

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

/// What of `adapter_config.json` is read.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    pub(super) peft_type: String,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    pub(super) r: Option<usize>,
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
    pub(super) save_projection: bool,
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

/// Why there is no recipe.
pub(super) enum Refused {
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

/// A recipe for an adapter that PEFT trained.
pub(super) fn metadata(
    said: &Said,
    text: &[u8],
    request: &ImportRequest<'_>,
    cache: &ModelCache,
    stored: &Stored,
    notes: &mut Vec<String>,
) -> Result<AdapterMetadata, Refused> {
    let rule = |reason: String| Refused::Rule(reason);
    let whole: Value = serde_json::from_slice(text).map_err(|error| rule(error.to_string()))?;
    if let Some(field) = UNKNOWN.iter().find(|field| is_set(&whole[**field])) {
        return Err(rule(format!(
            "`{field}` is `{}`, which has no counterpart here; convert it with PEFT first",
            whole[*field]
        )));
    }
    let Some(purpose) = request.purpose.clone() else {
        return Err(rule(
            "the folder does not say which task the adapter is for; give `--task NAME` of GLUE, or import it with `lora-lab import --experiment FILE --task NAME`"
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
    let base = cache.base(&model)?;
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
    let saved = (said.modules_to_save.iter().flatten().filter(|name| !is_head(name)))
        .flat_map(|name| modules_ending(&config, name))
        .collect();
    let mut modules = Modules {
        exclude_modules: said.exclude_modules.clone(),
        layers_to_transform: said.layers_to_transform.as_ref().map(OneOrMany::list).unwrap_or_default(),
        layers_pattern: said.layers_pattern.as_ref().map(OneOrMany::list).unwrap_or_default(),
        rank_pattern: patterns.rank_pattern.0,
        alpha_pattern: patterns.alpha_pattern.0,
        modules_to_save: saved,
    };
    let targets = matching(targets, &mut modules, &config, notes);
    let is_text = matches!(purpose.given, Some(TaskSource::Text(_)));
    let expected = task_type(is_text);
    if let Some(found) = said.task_type.as_deref().filter(|found| *found != expected) {
        notes.push(format!("task_type is `{found}`, but the task `{}` is one of {expected}", purpose.task));
    }
    let rank = variant.rank;
    let outputs = if is_text { 0 } else { outputs(&config, stored, &base, &purpose)? };
    let plan = Recipe {
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
    Ok(AdapterMetadata { cell, plan, outputs, model_hash: base.hash.clone(), drawn: None })
}

/// Full names of the outermost modules whose names end in `end`, which PEFT compares as plain text; the name itself where none does.
fn modules_ending(config: &Config, end: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for wanted in config.wanted(models::config::Purpose::Classify) {
        let full = config.full(&wanted.name);
        let Some((module, _)) = full.rsplit_once('.') else { continue };
        let ends = module.match_indices('.').map(|(at, _)| at).chain([module.len()]);
        found.extend(ends.map(|at| &module[..at]).find(|path| path.ends_with(end)).map(str::to_owned));
    }
    if found.is_empty() { vec![end.to_owned()] } else { found.into_iter().collect() }
}

/// Takes out what matches nothing, which PEFT passes over, and says so.
fn matching(targets: Target, modules: &mut Modules, config: &Config, notes: &mut Vec<String>) -> Target {
    let mut passed =
        |field: &str, what: &str| notes.push(format!("{field}: `{what}` matches nothing here, as PEFT passes over it"));
    let is_met = |end: &String| Target::Endings(vec![end.clone()]).select(config).is_ok();
    let targets = match targets {
        Target::Endings(list) => {
            let (met, missed): (Vec<String>, Vec<String>) = list.into_iter().partition(is_met);
            // Where nothing is left, the missed names are the error.
            if met.is_empty() {
                return Target::Endings(missed);
            }
            for end in &missed {
                passed("target_modules", end);
            }
            Target::Endings(met)
        }
        pattern @ Target::Pattern(_) => pattern,
    };
    let layers = config.layers();
    // No layer at all would mean every one.
    if modules.layers_to_transform.iter().any(|layer| *layer < layers) {
        modules.layers_to_transform.retain(|layer| {
            if *layer >= layers {
                passed("layers_to_transform", &layer.to_string());
            }
            *layer < layers
        });
    }
    // What is selected before anything is taken off or given a rank of its own.
    let plain = Modules {
        layers_to_transform: modules.layers_to_transform.clone(),
        layers_pattern: modules.layers_pattern.clone(),
        ..Modules::default()
    };
    let Ok(selected) = plain.select(Some(&targets), config) else { return targets };
    let names: Vec<String> = selected.maps.into_keys().collect();
    if let Some(exclude) = &modules.exclude_modules {
        let meets = |end: &String| {
            let dotted = format!(".{end}");
            names.iter().map(|name| config.full(name)).any(|name| name == *end || name.ends_with(&dotted))
        };
        let kept = match exclude {
            Target::Endings(list) => {
                let (met, missed): (Vec<String>, Vec<String>) = list.iter().cloned().partition(meets);
                for end in &missed {
                    passed("exclude_modules", end);
                }
                Some(Target::Endings(met.clone())).filter(|_| !met.is_empty())
            }
            pattern @ Target::Pattern(_) => Some(pattern.clone()),
        };
        modules.exclude_modules = kept;
    }
    // A key decides a map where no earlier one does.
    let decides = |earlier: &[String], key: &str| {
        let first = |name: &String| {
            let matches = |key: &str| ending(key).is_ok_and(|regex| regex.is_match(&config.full(name)));
            matches(key) && !earlier.iter().any(|earlier| matches(earlier))
        };
        names.iter().any(first)
    };
    let mut earlier = Vec::new();
    modules.rank_pattern.retain(|(key, _)| {
        let keeps = ending(key).is_err() || decides(&earlier, key);
        if !keeps {
            passed("rank_pattern", key);
        }
        earlier.push(key.clone());
        keeps
    });
    earlier.clear();
    modules.alpha_pattern.retain(|(key, _)| {
        let keeps = ending(key).is_err() || decides(&earlier, key);
        if !keeps {
            passed("alpha_pattern", key);
        }
        earlier.push(key.clone());
        keeps
    });
    targets
}

/// Outputs of the head: of the file, else of the checkpoint; those of the task, if they are known.
fn outputs(config: &Config, stored: &Stored, base: &BaseModel, purpose: &Purpose) -> Result<usize, Refused> {
    let weights = config.head_names().iter().rev().find(|name| name.ends_with("weight"));
    let of_file = weights
        .and_then(|name| stored.tensors.get(&format!("{WRAPPED}{name}")))
        .and_then(|(shape, _)| shape.first().copied());
    let of_base = || weights.and_then(|name| base.head.find(name)).and_then(|(shape, _)| shape.first().copied());
    let tasks = experiment::tasks::tasks(&purpose.suite);
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
        "LORA" if start == "pissa" => "pissa",
        "LORA" if start == "olora" => "olora",
        "LORA" if RESIDUAL_STARTS.iter().any(|residual| start.starts_with(residual)) => {
            return Err(format!(
                "init_lora_weights is `{start}`, which changed the base at the start in a way that cannot be repeated exactly here; save it with \
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
            vera.pair = Save::Yes;
            vera.projection_seed = said.projection_prng_key.unwrap_or(0);
            vera.d_initial = said.d_initial.unwrap_or(vera.d_initial);
        }
        Some(DeltaSpec::ResidualInit(own)) if name == "olora" => own.start = residual_init::Start::Qr,
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
