//! Both files of a folder for PEFT.

use std::collections::{BTreeMap, BTreeSet};

use models::{
    config::Config,
    error::ModelError,
    modules::Modules,
    pattern::{BadPattern, Pattern, ends_in},
    safetensors::{self, Stored, TORCH},
    target::{ALL_LINEAR, Target},
};
use serde_json::{Map, Value, json};
use variants::{
    base::BiasSpec,
    delta::TIED_OWNER,
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConstant},
    rank::AnyRankPolicy,
    scaling::Scaling,
};

use super::{
    super::{
        config::{self, Base, Common, Lora, number},
        layout::{Kind, key, place, tuned_place},
    },
    LOADED, PAIR,
    form::Form,
};

/// `adapter_model.safetensors`
pub(super) fn weights(form: &Form) -> Result<Vec<u8>, ModelError> {
    let tensor = |name: String, shape: Vec<usize>, values: &[f64]| {
        Stored::of(name, shape, values.iter().map(|value| *value as f32))
    };
    let (mut all, known) = (Vec::new(), form.architecture.maps());
    let delta = form.metadata.plan.variant.delta.as_ref();
    for (slot, own) in &form.slots {
        let kind = Kind::of(slot, &form.architecture);
        for (name, matrix) in own {
            let map = form.maps.get(slot).zip(known.get(slot));
            let tuned = map.and_then(|((rank, _), map)| {
                let map = TunedMap { slot, shape: map.shape, rank: *rank };
                tuned_place(delta, map, name, matrix.shape)
            });
            // What all maps own together has no map of its own.
            let is_common = slot.starts_with(TIED_OWNER);
            let shared = || tuned_place(delta, *form.tuned().first().filter(|_| is_common)?, name, matrix.shape);
            let tuned = tuned.or_else(shared);
            let Some((suffix, layout)) = tuned.or_else(|| place(kind, name, map.is_some())) else { continue };
            let (shape, values) = layout.stored(matrix);
            all.push(tensor(key(&form.architecture, slot, &suffix), shape, &values));
        }
    }
    if let (Some(delta), PeftForm::Tuner(_)) = (&form.metadata.plan.variant.delta, &form.peft) {
        let maps = form.tuned();
        let of_map = |map: &TunedMap<'_>| {
            let constants = delta.peft_constants(*map).into_iter();
            constants.map(|own| (key(&form.architecture, map.slot, own.theirs), own)).collect::<Vec<_>>()
        };
        let of_base = |(slot, own): &(String, TunerConstant)| (key(&form.architecture, slot, own.theirs), own.clone());
        let shared = delta.peft_shared(&maps).into_iter().map(|own| (own.theirs.to_owned(), own));
        for (name, own) in maps.iter().flat_map(of_map).chain(form.of_base.iter().map(of_base)).chain(shared) {
            all.push(if own.is_whole {
                Stored::of(name, own.shape, own.numbers.iter().map(|number| *number as i32))
            } else {
                tensor(name, own.shape, &own.numbers)
            });
        }
    }
    if let Some([a, b]) = &form.pair {
        for (name, (shape, values)) in [(PAIR[0], a), (PAIR[1], b)] {
            all.push(tensor(name.to_owned(), shape.clone(), values));
            all.push(tensor(format!("{name}{LOADED}"), shape.clone(), values));
        }
    }
    Ok(safetensors::write(&all, Some(TORCH))?)
}

/// Whether the maps are written out by their full names: where they were joined, or PEFT would read the plan's choice otherwise.
fn is_written_out(form: &Form) -> bool {
    let plan = &form.metadata.plan;
    let exclude = plan.modules.exclude_modules.as_ref();
    form.joined
        || matches!(form.peft, PeftForm::Tuner(_))
        || (exclude.is_some() && form.peft.peft_type() == config::VERA)
        || ![Some(&plan.targets), exclude].into_iter().flatten().all(|target| is_exact(target, &form.architecture))
}

/// Whether PEFT reads a choice of maps as it is meant here, where a name may also be matched without the model's prefix.
fn is_exact(target: &Target, architecture: &Config) -> bool {
    let (Target::Pattern(pattern), Value::String(written)) = (target, selection(target, architecture)) else {
        return true;
    };
    let matching = |pattern: &str, is_bare: bool| {
        let pattern = Pattern::whole(pattern)?;
        let mut found = BTreeSet::new();
        for name in architecture.maps().into_keys() {
            if pattern.is_match(&architecture.full(&name))? || (is_bare && pattern.is_match(&name)?) {
                found.insert(name);
            }
        }
        Ok::<_, BadPattern>(found)
    };
    pattern == ALL_LINEAR
        || matches!((matching(pattern, true), matching(&written, false)), (Ok(ours), Ok(theirs)) if ours == theirs)
}

/// The targets as PEFT reads them.
fn targets(form: &Form) -> Value {
    if is_written_out(form) {
        return json!(form.maps.keys().map(|map| form.architecture.full(map)).collect::<Vec<_>>());
    }
    selection(&form.metadata.plan.targets, &form.architecture)
}

/// A choice of maps as PEFT reads it: its expressions are for the name in a model with a head.
fn selection(target: &Target, architecture: &Config) -> Value {
    match target {
        Target::Endings(list) => json!(list),
        Target::Pattern(pattern) if pattern == ALL_LINEAR => json!(pattern),
        Target::Pattern(pattern) => {
            json!(format!("(?:{})?(?:{pattern})", architecture.base_prefix().replace('.', r"\.")))
        }
    }
}

/// Modules that are saved whole, by their full names: PEFT compares plain ends, so that `norm` would be `input_layernorm` too.
fn saved(form: &Form) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (slot, _) in form.slots.iter().filter(|(slot, _)| !slot.is_empty() && !form.maps.contains_key(*slot)) {
        let full = form.architecture.full(slot);
        let ends = full.match_indices('.').map(|(at, _)| at).chain([full.len()]);
        for module in &form.metadata.plan.modules.modules_to_save {
            let dotted = format!(".{module}");
            all.extend(
                ends.clone()
                    .map(|end| &full[..end])
                    .find(|path| path == module || path.ends_with(&dotted))
                    .map(str::to_owned),
            );
        }
    }
    all
}

/// Rank and `α`: of most maps, and of those that depart.
fn patterns(form: &Form, constant: bool) -> (usize, f64, Map<String, Value>, Map<String, Value>) {
    let (plan, mut ranks, mut alphas) = (&form.metadata.plan, Map::new(), Map::new());
    // An expression may be one for the name without the model's prefix, which PEFT does not know.
    let is_name = |pattern: &String| pattern.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    let names: Vec<&String> = (plan.modules.rank_pattern.iter().map(|(pattern, _)| pattern))
        .chain(plan.modules.alpha_pattern.iter().map(|(pattern, _)| pattern))
        .collect();
    let simple = names.iter().all(|pattern| is_name(pattern))
        && plan.modules.rank_pattern.len() <= 1
        && plan.modules.alpha_pattern.len() <= 1;
    if simple && !form.joined && !form.widened && !constant {
        ranks.extend(plan.modules.rank_pattern.iter().map(|(pattern, rank)| (pattern.clone(), json!(rank))));
        alphas.extend(plan.modules.alpha_pattern.iter().map(|(pattern, alpha)| (pattern.clone(), number(*alpha))));
        return (plan.variant.rank, plan.variant.alpha, ranks, alphas);
    }
    // Names in full, which no order of overlapping expressions can confuse.
    let alpha_of = |rank: usize, alpha: f64| match plan.variant.scaling {
        Scaling::Constant { value } => value * rank as f64,
        // A tuner divides by the rank.
        Scaling::AlphaOverSqrtRank if matches!(form.peft, PeftForm::Tuner(_)) => {
            plan.variant.scaling.at(alpha, rank) * rank as f64
        }
        _ => alpha,
    };
    let mut counts: BTreeMap<(usize, u64), usize> = BTreeMap::new();
    for (rank, alpha) in form.maps.values() {
        *counts.entry((*rank, alpha_of(*rank, *alpha).to_bits())).or_default() += 1;
    }
    let most = counts.iter().max_by_key(|(_, count)| **count).map_or((1, 1.0_f64.to_bits()), |(own, _)| *own);
    let (most_rank, most_alpha) = (most.0, f64::from_bits(most.1));
    for (map, (rank, alpha)) in &form.maps {
        let name = form.architecture.full(map);
        if *rank != most_rank {
            ranks.insert(name.clone(), json!(rank));
        }
        if alpha_of(*rank, *alpha) != most_alpha {
            alphas.insert(name, number(alpha_of(*rank, *alpha)));
        }
    }
    (most_rank, most_alpha, ranks, alphas)
}

/// `adapter_config.json`
pub(super) fn configuration(form: &Form) -> Map<String, Value> {
    let plan = &form.metadata.plan;
    let own = match &form.peft {
        PeftForm::Vera(vera) => json!({
            "r": plan.variant.rank,
            "vera_dropout": plan.variant.dropout,
            "d_initial": vera.d_initial,
            "projection_prng_key": vera.projection_seed,
            "save_projection": true,
            "init_weights": true,
        }),
        PeftForm::AdaLora => adalora(form),
        PeftForm::Lora | PeftForm::DoubledLora { .. } => lora(form).fields(),
        PeftForm::Tuner(tuner) | PeftForm::DoubledTuner(tuner) => return tuned(form, tuner),
    };
    config::configuration(&common(form), &own)
}

/// What every kind says.
fn common(form: &Form) -> Common {
    let plan = &form.metadata.plan;
    let is_text = plan.text().is_some();
    let mut whole: Vec<String> = if is_text { Vec::new() } else { ["classifier", "score"].map(str::to_owned).to_vec() };
    whole.extend(saved(form));
    // Nothing selects among names that are written out.
    let modules = if is_written_out(form) { Modules::default() } else { plan.modules.clone() };
    Common {
        kind: form.peft.peft_type(),
        task_type: Some(config::task_type(is_text).to_owned()),
        base: Base::of(&plan.model),
        targets: targets(form),
        exclude: modules.exclude_modules.as_ref().map(|own| selection(own, &form.architecture)),
        layers: modules.layers_to_transform,
        layers_pattern: modules.layers_pattern,
        saved: whole,
        tokens: plan.modules.trainable_token_indices.clone(),
        bias: match plan.variant.bias {
            BiasSpec::None => "none",
            BiasSpec::All => "all",
            BiasSpec::LoraOnly if matches!(form.peft, PeftForm::Vera(_)) => "vera_only",
            BiasSpec::LoraOnly => "lora_only",
        },
        fan_in_fan_out: form.architecture.stores_inputs_first(),
    }
}

/// A configuration of a tuner: of what all kinds have, only what every class has and a plan of written out maps needs.
fn tuned(form: &Form, tuner: &Tuner) -> Map<String, Value> {
    let spec = &form.metadata.plan.variant;
    let (rank, alpha, ranks, alphas) = patterns(form, true);
    let endings = |ends: &[String]| {
        let is_met = |map: &&String| ends.iter().any(|end| ends_in(map, end));
        json!(form.maps.keys().filter(is_met).map(|map| form.architecture.full(map)).collect::<Vec<_>>())
    };
    let value = |field: &Field| match field {
        Field::Rank => json!(rank),
        Field::RankPattern => json!(ranks),
        Field::Alpha => number(alpha),
        Field::AlphaPattern => json!(alphas),
        Field::Dropout => json!(spec.dropout),
        Field::Endings(ends) => endings(ends),
        Field::Fixed(value) | Field::Passive(value) => value.clone(),
    };
    let own: Map<String, Value> = tuner.fields.iter().map(|(name, field)| ((*name).to_owned(), value(field))).collect();
    let mut all = config::configuration(&common(form), &Value::Object(own));
    for field in ["exclude_modules", "layers_to_transform", "layers_pattern", "bias", "fan_in_fan_out"] {
        all.remove(field);
    }
    all
}

/// LoRA's fields.
fn lora(form: &Form) -> Lora {
    let spec = &form.metadata.plan.variant;
    let (rank, alpha, ranks, alphas) = patterns(form, matches!(spec.scaling, Scaling::Constant { .. }));
    Lora {
        rank,
        alpha,
        ranks,
        alphas,
        dropout: spec.dropout,
        rank_stabilized: spec.scaling == Scaling::AlphaOverSqrtRank,
        decomposed: spec.combine.peft_use_dora() == Some(true),
        start: match form.peft {
            PeftForm::DoubledLora { start: Some(start) } => json!(start),
            _ => json!(true),
        },
    }
}

/// AdaLoRA's fields; the schedule is over, so PEFT needs its numbers for nothing but its own checks.
fn adalora(form: &Form) -> Value {
    let spec = &form.metadata.plan.variant;
    let budget = match &spec.rank_policy {
        AnyRankPolicy::Budget(budget) => Some(budget),
        _ => None,
    };
    // PEFT divides by the rank, whatever the rule here.
    let alpha = match spec.scaling {
        Scaling::AlphaOverRank => spec.alpha,
        other => other.at(spec.alpha, spec.rank) * spec.rank as f64,
    };
    let total = form.metadata.plan.train.steps.unwrap_or(1);
    let pattern: Map<String, Value> =
        form.kept.iter().map(|(map, keep)| (format!("{}.lora_E", form.architecture.full(map)), json!(keep))).collect();
    json!({
        "r": spec.rank,
        "init_r": spec.rank,
        "target_r": budget.map_or(spec.rank, |budget| budget.target_rank),
        "tinit": 0,
        "tfinal": 0,
        "deltaT": budget.map_or(1, |budget| budget.interval),
        "beta1": budget.map_or(0.85, |budget| budget.beta1),
        "beta2": budget.map_or(0.85, |budget| budget.beta2),
        "orth_reg_weight": spec.orthogonality,
        "total_step": total,
        "rank_pattern": pattern,
        "lora_alpha": number(alpha),
        "lora_dropout": spec.dropout,
        "init_lora_weights": true,
    })
}
