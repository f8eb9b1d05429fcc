//! The fields of PEFT's configurations and what each does here: the gate that every command goes through before it uses a folder.
//!
//! The lists have every field of `LoraConfig`, `AdaLoraConfig` and `VeraConfig` of PEFT 0.2 to 0.20, with `kasa_config`, which followed.
//! A field is read and done as PEFT does it, or must depart from nothing, or changes no number of a trained adapter.
//!
//! A tuner that a delta declares has the fields of its declaration beside those of every kind.
//!
//! A field of no list may be of a later release. Where it is null, false or empty it asks for nothing, and a note names it; any other
//! value is refused, because a new field is how PEFT adds a way to compute. PEFT itself warns and goes on, with another function.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use variants::{
    delta::{self, DeltaSpec},
    peft::{Field, PeftForm, Tuner, TunerConfig},
};

use super::values;
use Effect::{Honoured, OneOf, Passive, Unset};

/// What a field does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Its value is used.
    Honoured,
    /// As [`Honoured`], and has one of these values where it has any.
    OneOf(&'static [&'static str]),
    /// It changes what is computed in a way that has no counterpart here: this one.
    Unset(&'static str),
    /// It changes no number of a trained adapter.
    Passive,
}

type Fields = &'static [(&'static str, Effect)];

/// Of every kind.
const ALL: Fields = &[
    ("peft_type", Honoured),
    ("task_type", Honoured),
    ("base_model_name_or_path", Honoured),
    ("revision", Honoured),
    ("target_modules", Honoured),
    ("layers_to_transform", Honoured),
    ("layers_pattern", Honoured),
    ("modules_to_save", Honoured),
    // The class that opens a base which transformers does not know by its task.
    ("auto_mapping", Passive),
    // Whether tensors may train after they were opened.
    ("inference_mode", Passive),
    ("peft_version", Passive),
    // How the base keeps its maps; PEFT corrects it by the type of the map, and the base is read as it is here.
    ("fan_in_fan_out", Passive),
    // How work is spread over devices; PEFT drops it from a file.
    ("runtime_config", Passive),
];

/// Of LoRA, and of AdaLoRA, whose class inherits them.
const LOW_RANK: Fields = &[
    ("lora_alpha", Honoured),
    ("lora_dropout", Honoured),
    ("bias", OneOf(&["none", "all", "lora_only"])),
    ("exclude_modules", Honoured),
    ("ensure_weight_tying", Honoured),
    ("rank_pattern", Honoured),
    ("lora_bias", Unset("a bias of B")),
    ("layer_replication", Unset("layers of the base that are used several times")),
    ("target_parameters", Unset("adapters of parameters that are no maps")),
    ("trainable_token_indices", Honoured),
    ("alora_invocation_tokens", Unset("an adapter that acts from its invocation on (aLoRA)")),
    ("use_qalora", Unset("inputs that are averaged in groups (QA-LoRA)")),
    ("use_bdlora", Unset("factors of blocks (BD-LoRA)")),
    ("arrow_config", Unset("a router over adapters (Arrow)")),
    ("kasa_config", Unset("a base that is cut, and a diagonal between the factors (KaSA)")),
    ("monteclora_config", Unset("factors that are drawn (MonteCLoRA)")),
    ("megatron_config", Unset("maps that are spread over devices (Megatron)")),
    // PEFT 0.2: parts of a fused map by flags, and whether the base is changed while it evaluates.
    ("enable_lora", Unset("parts of a fused map that are adapted by themselves")),
    ("merge_weights", Passive),
    // Used with `megatron_config` alone.
    ("megatron_core", Passive),
    // Used with `use_qalora` alone.
    ("qalora_group_size", Passive),
    // Another backward pass of A; the forward pass is LoRA's.
    ("velora_config", Passive),
    // Of first values; those that change the base are named by `init_lora_weights`.
    ("loftq_config", Passive),
    ("eva_config", Passive),
    ("corda_config", Passive),
    ("lora_ga_config", Passive),
];

const LORA: Fields = &[
    ("r", Honoured),
    ("alpha_pattern", Honoured),
    ("use_rslora", Honoured),
    ("use_dora", Honoured),
    ("init_lora_weights", Honoured),
];

const ADALORA: Fields = &[
    ("init_r", Honoured),
    ("target_r", Honoured),
    ("orth_reg_weight", Honoured),
    ("use_dora", Unset("a magnitude, which PEFT's AdaLoRA does not have")),
    // PEFT's AdaLoRA begins with `init_r`, has one alpha for all maps, divides by the rank, and draws its factors from one distribution.
    ("r", Passive),
    ("alpha_pattern", Passive),
    ("use_rslora", Passive),
    ("init_lora_weights", Passive),
    // When components were dropped.
    ("tinit", Passive),
    ("tfinal", Passive),
    ("deltaT", Passive),
    ("beta1", Passive),
    ("beta2", Passive),
    ("total_step", Passive),
];

const VERA: Fields = &[
    ("r", Honoured),
    ("vera_dropout", Honoured),
    ("bias", OneOf(&["none", "all", "vera_only"])),
    ("d_initial", Honoured),
    ("projection_prng_key", Honoured),
    ("save_projection", Honoured),
    // First values of the vectors, which lie in the file.
    ("init_weights", Passive),
];

/// Starts of LoRA's factors that leave the base as it is.
const PLAIN_STARTS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];

/// Starts that subtract their first product from the base: `s·B·A` of such an adapter is not the change of the weights.
const RESIDUAL_STARTS: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

/// Of a tuner beside its own.
const TUNER: Fields = &[("exclude_modules", Honoured), ("bias", OneOf(&["none"]))];

/// Every `peft_type` that is read.
fn kinds() -> String {
    let of_delta = |delta: DeltaSpec| match delta.peft() {
        Some(PeftForm::Tuner(tuner) | PeftForm::DoubledTuner(tuner)) => Some(tuner.peft_type),
        _ => None,
    };
    let tuners: BTreeSet<&str> = delta::defaults().into_iter().filter_map(of_delta).collect();
    let all: Vec<&str> = ["LORA", "ADALORA", "VERA"].into_iter().chain(tuners).collect();
    let (last, first) = all.split_last().unwrap_or((&"LORA", &[]));
    format!("{} and {last}", first.join(", "))
}

/// The tuner that a configuration is one of.
pub(super) fn tuner(configuration: &Map<String, Value>) -> Option<Tuner> {
    match DeltaSpec::of_peft(TunerConfig(configuration))?.peft()? {
        PeftForm::Tuner(tuner) => Some(tuner),
        _ => None,
    }
}

/// Whether a tuner's own field is what it must be; `None` of a field that is not its own.
fn of_tuner(tuner: &Tuner, field: &str, value: &Value) -> Option<Result<(), String>> {
    let (_, own) = tuner.fields.iter().find(|(name, _)| *name == field)?;
    let is_equal = |wanted: &Value| match (wanted.as_f64(), value.as_f64()) {
        (Some(wanted), Some(found)) => wanted == found,
        _ => wanted == value || !is_set(wanted) && !is_set(value),
    };
    let (is_right, rule) = match own {
        Field::Rank => (value.as_u64().is_some_and(|rank| rank > 0), "a whole number of at least 1".to_owned()),
        Field::Alpha => (value.as_f64().is_some_and(|alpha| alpha != 0.0), "a number that is not 0".to_owned()),
        Field::Dropout => (value.as_f64().is_some_and(|p| (0.0..1.0).contains(&p)), "in [0, 1)".to_owned()),
        Field::RankPattern | Field::AlphaPattern => {
            (value.is_object() || value.is_null(), "a map from names".to_owned())
        }
        Field::Endings(_) => (value.is_array() || value.is_null(), "a list of names".to_owned()),
        Field::Fixed(wanted) => (is_equal(wanted), format!("{}: another value is another function", shown(wanted))),
        Field::Passive(_) => (true, String::new()),
    };
    Some(if is_right { Ok(()) } else { Err(format!("`{field}` is {}, but must be {rule}", shown(value))) })
}

/// The lists of a kind.
fn lists(kind: &str) -> Option<&'static [Fields]> {
    Some(match kind {
        "LORA" => &[ALL, LOW_RANK, LORA],
        "ADALORA" => &[ALL, LOW_RANK, ADALORA],
        "VERA" => &[ALL, VERA],
        _ => return None,
    })
}

fn effect(lists: &[Fields], field: &str) -> Option<Effect> {
    lists.iter().copied().flatten().find(|(name, _)| *name == field).map(|(_, effect)| *effect)
}

/// Refuses a configuration with a field that would be passed over; returns notes.
pub(super) fn check(configuration: &Map<String, Value>) -> Result<Vec<String>, String> {
    let named = configuration.get("peft_type");
    let tuner = tuner(configuration);
    let lists = |kind| if tuner.is_some() { Some(&[ALL, TUNER][..]) } else { lists(kind) };
    let Some((kind, lists)) = named.and_then(Value::as_str).and_then(|kind| Some((kind, lists(kind)?))) else {
        let found = named.map_or_else(|| "missing".to_owned(), shown);
        return Err(format!("peft_type is {found}, but {} are read; convert it to LoRA with PEFT first", kinds()));
    };
    let (mut notes, mut problems) = (Vec::new(), Vec::new());
    for (field, value) in configuration {
        let shown = shown(value);
        if let Some(problem) = tuner.as_ref().and_then(|tuner| of_tuner(tuner, field, value)) {
            problems.extend(problem.err());
            continue;
        }
        match effect(lists, field) {
            Some(OneOf(values)) => match value.as_str() {
                Some(found) if values.contains(&found) => {}
                _ if value.is_null() => {}
                _ => problems.push(format!("{field} is {shown}, but must be {}", listed(values))),
            },
            Some(Unset(what)) if is_set(value) => problems.push(format!(
                "`{field}` is {shown}: {what}, which has no counterpart here; convert it with PEFT first, if a plain LoRA can do \
                 the same"
            )),
            Some(Honoured | Passive | Unset(_)) => {}
            None if is_set(value) => problems.push(format!(
                "`{field}` is {shown}, but is no field of PEFT's {kind} that is known here, so it may change what the adapter computes; \
                 if it does not, take it out of the file"
            )),
            None => notes.push(format!("`{field}` is no field that is known here; it is {shown}, so nothing is asked")),
        }
    }
    if kind == "LORA" {
        problems.extend(unknown_start(configuration.get("init_lora_weights")));
    }
    problems.extend(values::problems(configuration));
    if problems.is_empty() { Ok(notes) } else { Err(problems.join("; ")) }
}

/// Whether no change of a field can change what is computed or trained here.
pub(super) fn is_passive(configuration: &Map<String, Value>, field: &str) -> bool {
    if let Some(tuner) = tuner(configuration) {
        let own = tuner.fields.iter().find(|(name, _)| *name == field);
        return own.map_or_else(
            || effect(&[ALL, TUNER], field) == Some(Passive),
            |(_, own)| matches!(own, Field::Passive(_)),
        );
    }
    let kind = configuration.get("peft_type").and_then(Value::as_str).unwrap_or_default();
    lists(kind).and_then(|lists| effect(lists, field)) == Some(Passive)
}

/// Whether a field departs from nothing.
pub(super) fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

/// The name of the start that was taken off the base.
pub(super) fn residual_start(start: &Value) -> Option<String> {
    let name = start.as_str()?.to_lowercase();
    RESIDUAL_STARTS.iter().any(|residual| name.starts_with(residual)).then_some(name)
}

/// A start of a later release may change the base.
fn unknown_start(start: Option<&Value>) -> Option<String> {
    let start = start?;
    let name = start.as_str()?.to_lowercase();
    if PLAIN_STARTS.contains(&name.as_str()) || residual_start(start).is_some() {
        return None;
    }
    Some(format!(
        "init_lora_weights is `{name}`, but must be true, false, or one of {}: another start may have changed the base; convert it to \
         plain LoRA with PEFT first",
        listed(&[&PLAIN_STARTS[..], &RESIDUAL_STARTS].concat())
    ))
}

/// `a, b or c`
fn listed(values: &[&str]) -> String {
    match values {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        all => all.concat(),
    }
}

/// A value in an error, cut where it is long.
pub(super) fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}..`", &text[..end]),
        None => format!("`{text}`"),
    }
}

/// Letters of a value that are shown.
const LONGEST: usize = 80;
