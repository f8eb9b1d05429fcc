//! A run's adapter as a folder that PEFT opens.
//!
//! | method | in PEFT |
//! |---|---|
//! | LoRA, LoRA+, LoRA-FA, rsLoRA, DyLoRA (whole, or its first components) | `LORA` |
//! | DoRA | `LORA` with `use_dora` |
//! | PiSSA, MiLoRA, OLoRA | `LORA` of twice the rank, `s·[A, A₀]·[B; −B₀]`; or the factors alone with the name of the start, which PEFT takes off the base again when it opens them |
//! | AdaLoRA | `ADALORA` with the components that are left |
//! | VeRA | `VERA` with its pair |
//! | any other additive update, or any at a smaller rank | the best approximation as a LoRA ([`crate::model_merging`]) |
//!
//! GPT-2's query, key and value are one map there. Adapters on parts of it are joined: their ranks side by side, each in its own columns
//! of `B`, zeros elsewhere, and `alpha_pattern` keeps the scale. A magnitude of a part that has none is the base's column norm.
//!
//! Numbers are copied, never recomputed, where a tensor has a place of its own there, so an export that is imported again is the same to
//! the bit. Three forms come back as the same function in other tensors: AdaLoRA without its dropped components, a start that became a
//! LoRA of twice the rank, and parts of unlike scales, whose `B` is rounded once each way.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;
use models::{
    config::{Config, MapKind},
    error::ModelError,
    modules::{Modules, ending},
    network::Network,
    safetensors::{self, Stored, TORCH},
    target::{ALL_LINEAR, Target},
};
use serde_json::{Map, Value, json};
use variants::{
    base::BiasSpec,
    capability::Capability,
    delta::{
        DeltaSpec, low_rank,
        shared_random::{self, Save},
    },
    host::values,
    peft::{NoPeftForm, PeftForm},
    rank::AnyRankPolicy,
    role::Role,
    scaling::Scaling,
};

use super::{
    CONFIG, WEIGHTS,
    config::{self, Base, Common, Lora, number},
    import::DECISIVE,
    layout::{Kind, Matrix, Slots, gather, key, place},
};
use crate::{
    export::{Reduction, cut_to},
    output_dir::OutputDir,
};
use trainer::{
    adapter::{self, AdapterMetadata},
    error::TrainError,
    model_cache::ModelCache,
};

/// VeRA's pair in the file.
pub(super) const PAIR: [&str; 2] = ["base_model.vera_A", "base_model.vera_B"];

/// What PEFT puts behind the names of the pair in memory. Up to 0.18 at least it saves the pair without and never loads it, but draws it
/// from `projection_prng_key` with torch's generator; a pair of another generator must lie in the file under the name in memory.
pub(super) const LOADED: &str = ".default";

/// The command's name in what it writes.
pub(super) const COMMAND: &str = "lora-lab export";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct ExportRequest<'a> {
    /// A run's folder, or its `adapter.safetensors`.
    pub adapter: &'a Path,
    /// Where its base lies now, if elsewhere than in training.
    pub model: Option<&'a str>,
    /// Components to take, for an adapter of nested ranks.
    pub rank: Option<usize>,
    /// Write the factors of a residual-init method alone, to be taken off the base again.
    pub residual: bool,
    /// The folder to write.
    pub out: &'a Path,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct ExportReport {
    /// PEFT's name of the method.
    pub kind: &'static str,
    /// Adapted maps.
    pub maps: usize,
    /// Bytes of the weights.
    pub bytes: u64,
    /// The base, as the adapter names it.
    pub base: String,
    /// Outputs of the head: what `num_labels` must be; `None` for text.
    pub outputs: Option<usize>,
}

/// An adapter in the form in which it is written.
struct Form {
    metadata: AdapterMetadata,
    /// [`PeftForm::DoubledLora`] where the factors are written without their start, for PEFT to take it off the base.
    peft: PeftForm,
    slots: Slots,
    /// Rank and `α` of every adapted map, as PEFT names maps.
    maps: BTreeMap<String, (usize, f64)>,
    architecture: Config,
    /// Whether parts of a fused map were joined, so that names are not those of the plan.
    joined: bool,
    /// VeRA's pair, `A [r, d_in]` and `B [d_out, r]`.
    pair: Option<[(Vec<usize>, Vec<f64>); 2]>,
    /// AdaLoRA's components.
    kept: BTreeMap<String, Vec<bool>>,
}

/// Exports, whole or not at all.
pub fn export(request: &ExportRequest<'_>, cache: &ModelCache) -> Result<ExportReport, TrainError> {
    let output = OutputDir::check(request.out, COMMAND)?;
    let path = file(request.adapter)?;
    let refused = |reason: String| TrainError::foreign(path.clone(), reason);
    let (metadata, mut network) = read(&path, request, cache)?;
    if let Some(name) = adapter::first_non_finite(&mut network) {
        return Err(refused(format!("`{name}` holds numbers that are not finite; train its run again")));
    }
    let form = form(metadata, &mut network, request.residual).map_err(refused)?;
    let (bytes, config) = (weights(&form).map_err(|error| refused(error.to_string()))?, configuration(&form));
    let mut staged = output.begin()?;
    staged.write(CONFIG, &config::encode(&config))?;
    staged.write(WEIGHTS, &bytes)?;
    let decisive: Map<String, Value> =
        DECISIVE.iter().filter_map(|field| Some(((*field).to_owned(), config.get(*field)?.clone()))).collect();
    staged.finish(json!({ "card": form.metadata, "configuration": decisive }))?;
    Ok(ExportReport {
        kind: form.peft.peft_type(),
        base: form.metadata.plan.model.clone(),
        maps: form.maps.len(),
        bytes: bytes.len() as u64,
        outputs: form.metadata.plan.text().is_none().then_some(form.metadata.outputs),
    })
}

/// The adapter's file; PEFT's own folders are no input.
fn file(path: &Path) -> Result<PathBuf, TrainError> {
    if super::is_folder(path) {
        let reason = "is a PEFT folder already; `lora-lab import` makes it a run's adapter".to_owned();
        return Err(TrainError::foreign(path.to_owned(), reason));
    }
    adapter::resolve(path)
}

fn read(
    path: &Path,
    request: &ExportRequest<'_>,
    cache: &ModelCache,
) -> Result<(AdapterMetadata, Network), TrainError> {
    let Some(rank) = request.rank else { return adapter::load_on(path, request.model, cache) };
    let (metadata, mut tensors) = cut_to(path, request.model, rank, Reduction::Prefix, cache)?;
    let network = adapter::assemble(&metadata, &mut tensors, cache)?;
    Ok((metadata, network))
}

/// Brings an adapter into a form that PEFT has, or says why there is none and what to do.
fn form(mut metadata: AdapterMetadata, network: &mut Network, residual: bool) -> Result<Form, String> {
    let spec = metadata.plan.variant.clone();
    let label = metadata.cell.variant.clone();
    let other = "`--svd --rank R` approximates its update by a LoRA";
    let mut peft = spec.peft_form().map_err(|why| match why {
        NoPeftForm::NoAdapter => {
            format!("`{label}` adapts no map, so PEFT has no form for it; `lora-lab merge` writes a whole checkpoint")
        }
        NoPeftForm::NoCounterpart => format!("PEFT has no form for the update of `{label}`; {other}"),
    })?;
    let architecture = network.backbone.config();
    let mut maps = BTreeMap::new();
    for map in network.adapted(0) {
        if let (Some(rank), Some(&[alpha, ..])) = (map.rank(0), map.alphas(0)) {
            maps.insert(map.name().to_owned(), (rank, alpha));
        }
    }
    let mut slots = gather(network);
    if metadata.plan.text().is_some()
        && architecture.is_tied()
        && slots.get(network.backbone.word().name()).is_some_and(|own| own.contains_key("weight"))
    {
        return Err(format!(
            "`{label}` trains `{}`, which is also the output projection; PEFT would train a copy of it on the way in alone, so it has no \
             form there; `lora-lab merge` writes a whole checkpoint",
            network.backbone.word().name()
        ));
    }
    let plan = adapter_ranks(&metadata, &slots, &architecture);
    for (table, (rank, alpha)) in plan {
        maps.entry(table).or_insert((rank, alpha));
    }
    let (mut pair, mut kept) = (None, BTreeMap::new());
    match peft {
        PeftForm::DoubledLora { start } if residual => {
            let decomposed = spec.lacks(&[Capability::Additive]).is_some();
            let Some(start) = start.filter(|_| !decomposed) else {
                return Err(format!(
                    "PEFT has no start that `{label}` could be taken off the base by; leave `--residual` out"
                ));
            };
            if start == "olora" && architecture.stores_inputs_first() {
                // PEFT 0.18 decomposes `Conv1D` as if it lay as `[d_out, d_in]`, and then cannot hold the factors.
                return Err("PEFT cannot take OLoRA's start off GPT-2's maps; leave `--residual` out".to_owned());
            }
            for slot in maps.keys() {
                if let Some(own) = slots.get_mut(slot) {
                    own.retain(|name, _| !name.starts_with("start_"));
                }
            }
        }
        _ if residual => {
            return Err(format!(
                "`--residual` is for starts that are taken off the base, but `{label}` has none; leave it out"
            ));
        }
        PeftForm::Lora => {}
        PeftForm::DoubledLora { .. } => {
            double(&mut metadata, &mut slots, &mut maps);
            peft = PeftForm::Lora;
        }
        PeftForm::AdaLora => {
            if !metadata.plan.modules.rank_pattern.is_empty() || !metadata.plan.modules.alpha_pattern.is_empty() {
                return Err(format!(
                    "PEFT's AdaLoRA has one rank and alpha for all maps, but `{label}` has patterns; {other}"
                ));
            }
            kept = prune(&maps, &mut slots);
        }
        PeftForm::Vera(own) => {
            if spec.scaling != (Scaling::Constant { value: 1.0 }) {
                return Err(format!("PEFT's VeRA has no scale, but `{label}` has one; {other}"));
            }
            pair = Some(vera_pair(&own, spec.rank, &maps, &architecture, &mut slots));
        }
    }
    let mut form = Form { metadata, peft, slots, maps, architecture, joined: false, pair, kept };
    join(&mut form, network)?;
    if residual && form.joined {
        return Err(format!(
            "PEFT decomposes a fused map as one, but `{label}` started from its parts; leave `--residual` out"
        ));
    }
    Ok(form)
}

/// Rank and `α` of adapted tables, which are no linear maps.
fn adapter_ranks(metadata: &AdapterMetadata, slots: &Slots, config: &Config) -> Vec<(String, (usize, f64))> {
    let alpha = |slot: &str| {
        let full = config.full(slot);
        let matches = |pattern: &str| ending(pattern).is_ok_and(|regex| regex.is_match(&full) || regex.is_match(slot));
        let found = metadata.plan.modules.alpha_pattern.iter().find(|(pattern, _)| matches(pattern));
        found.map_or(metadata.plan.variant.alpha, |(_, alpha)| *alpha)
    };
    let table = |(slot, own): (&String, &BTreeMap<String, Matrix>)| {
        let a = own.get("a").filter(|a| a.role == Role::Embedding)?;
        Some((slot.clone(), (a.shape[1], alpha(slot))))
    };
    slots.iter().filter_map(table).collect()
}

/// `s·(A·B − A₀·B₀)` as a LoRA of twice the rank.
fn double(metadata: &mut AdapterMetadata, slots: &mut Slots, maps: &mut BTreeMap<String, (usize, f64)>) {
    let variant = &mut metadata.plan.variant;
    // The scale stays while the rank doubles.
    let factor = match variant.scaling {
        Scaling::AlphaOverRank => 2.0,
        Scaling::AlphaOverSqrtRank => 2.0_f64.sqrt(),
        Scaling::Constant { .. } => 1.0,
    };
    variant.delta = Some(DeltaSpec::LowRank(low_rank::Spec {}));
    variant.rank *= 2;
    variant.alpha *= factor;
    metadata.plan.modules.rank_pattern.iter_mut().for_each(|(_, rank)| *rank *= 2);
    metadata.plan.modules.alpha_pattern.iter_mut().for_each(|(_, alpha)| *alpha *= factor);
    metadata.plan.readouts.clear();
    metadata.cell.rank *= 2;
    for (slot, (rank, alpha)) in maps.iter_mut() {
        let Some(own) = slots.get_mut(slot) else { continue };
        if let (Some(start_a), Some(start_b)) = (own.remove("start_a"), own.remove("start_b")) {
            (*rank, *alpha) = (*rank * 2, *alpha * factor);
            own.entry("a".to_owned()).and_modify(|a| *a = a.beside(&start_a));
            own.entry("b".to_owned()).and_modify(|b| {
                b.values.extend(start_b.values.iter().map(|value| -value));
                b.shape[0] += start_b.shape[0];
            });
        }
    }
}

/// Takes components off whose `λ` is 0, and says which are left. PEFT cannot open a map without any, so the first stays there.
fn prune(maps: &BTreeMap<String, (usize, f64)>, slots: &mut Slots) -> BTreeMap<String, Vec<bool>> {
    let mut all = BTreeMap::new();
    for map in maps.keys() {
        let Some(own) = slots.get_mut(map) else { continue };
        let mut keep: Vec<bool> = own["lambda"].values.iter().map(|value| *value != 0.0).collect();
        if !keep.contains(&true) {
            keep[0] = true;
        }
        own.entry("q".to_owned()).and_modify(|q| *q = q.chosen_columns(&keep));
        own.entry("lambda".to_owned()).and_modify(|lambda| *lambda = lambda.chosen_columns(&keep));
        own.entry("p".to_owned()).and_modify(|p| *p = p.transposed().chosen_columns(&keep).transposed());
        all.insert(map.clone(), keep);
    }
    all
}

/// The pair for the widest map, of which every map uses the first rows and columns.
fn vera_pair(
    spec: &shared_random::Spec,
    rank: usize,
    maps: &BTreeMap<String, (usize, f64)>,
    config: &Config,
    slots: &mut Slots,
) -> [(Vec<usize>, Vec<f64>); 2] {
    let known = config.maps();
    let shapes: Vec<(&String, [usize; 2])> = maps.keys().map(|map| (map, known[map].shape)).collect();
    let widest = [0, 1].map(|axis| shapes.iter().map(|(_, shape)| shape[axis]).max().unwrap_or(0));
    let own = |name: &str, axis: usize| {
        let slot = shapes.iter().find(|(_, shape)| shape[axis] == widest[axis]).map(|(map, _)| *map)?;
        Some(slots.get(slot)?.get(name)?.transposed())
    };
    let found = if let (Save::Yes, Some(a), Some(b)) = (spec.pair, own("a", 0), own("b", 1)) {
        [(a.shape.to_vec(), a.values), (b.shape.to_vec(), b.values)]
    } else {
        let [a, b] = shared_random::pair(spec.projection_seed, rank, widest);
        [(vec![rank, widest[0]], a), (vec![widest[1], rank], b)]
    };
    for map in maps.keys() {
        if let Some(own) = slots.get_mut(map) {
            own.retain(|_, matrix| matrix.role != Role::Projection);
        }
    }
    found
}

/// Puts adapters of the parts of a fused map together.
fn join(form: &mut Form, network: &Network) -> Result<(), String> {
    let known = form.architecture.maps();
    let whole_of = |slot: &String| match known.get(slot).map(|map| &map.kind) {
        Some(MapKind::Part(whole)) => Some(whole.clone()),
        _ => None,
    };
    let wholes: BTreeSet<String> = form.slots.keys().filter_map(whole_of).collect();
    let (label, scaling) = (form.metadata.cell.variant.clone(), form.metadata.plan.variant.scaling);
    for whole in wholes {
        let Some(parts) = form.architecture.parts(&whole) else { continue };
        let found: Vec<_> = parts.iter().map(|part| form.slots.remove(part)).collect();
        let plain =
            |own: &BTreeMap<String, Matrix>| own.keys().all(|name| ["a", "b", "magnitude"].contains(&name.as_str()));
        if form.peft.peft_type() != "LORA" || !found.iter().flatten().all(plain) {
            return Err(format!(
                "`{label}` on parts of `{whole}` has no form in PEFT, which has one map there; adapt `c_attn`, or let `--svd --rank R` \
                 approximate its update by a LoRA"
            ));
        }
        let d_out = known[&parts[0]].shape[1];
        let scales: Vec<Option<(usize, f64)>> = parts.iter().map(|part| form.maps.remove(part)).collect();
        let scale = |own: Option<(usize, f64)>| own.map(|(rank, alpha)| scaling.at(alpha, rank));
        let first = scales.iter().find_map(|own| scale(*own)).unwrap_or(1.0);
        let (mut a, mut b, mut magnitude): (Option<Matrix>, Vec<f64>, Vec<f64>) = (None, Vec::new(), Vec::new());
        let decomposed = found.iter().flatten().any(|own| own.contains_key("magnitude"));
        for (index, own) in found.iter().enumerate() {
            if let Some(own) = own
                && let (Some(left), Some(right)) = (own.get("a"), own.get("b"))
            {
                a = Some(a.map_or_else(|| left.clone(), |a| a.beside(left)));
                let share = scale(scales[index]).unwrap_or(first) / first;
                for row in right.values.chunks(d_out) {
                    b.extend(
                        (0..3 * d_out).map(|c| if c / d_out == index { row[c - index * d_out] * share } else { 0.0 }),
                    );
                }
            }
            if decomposed {
                match own.as_ref().and_then(|own| own.get("magnitude")) {
                    Some(found) => magnitude.extend(&found.values),
                    None => magnitude.extend(column_norms(network, &parts[index])),
                }
            }
        }
        let Some(a) = a else { continue };
        let rank = a.shape[1];
        let alpha = match scaling {
            Scaling::AlphaOverSqrtRank => first * (rank as f64).sqrt(),
            Scaling::AlphaOverRank | Scaling::Constant { .. } => first * rank as f64,
        };
        let mut own = BTreeMap::from([
            ("b".to_owned(), Matrix { role: Role::B, shape: [rank, 3 * d_out], values: b }),
            ("a".to_owned(), a),
        ]);
        if decomposed {
            let matrix = Matrix { role: Role::Magnitude, shape: [1, 3 * d_out], values: magnitude };
            own.insert("magnitude".to_owned(), matrix);
        }
        form.maps.insert(whole.clone(), (rank, alpha));
        form.slots.insert(whole, own);
        form.joined = true;
    }
    Ok(())
}

/// Norms of a map's frozen columns, `[d_out]`.
pub(super) fn column_norms(network: &Network, name: &str) -> Vec<f64> {
    let map = network.backbone.linears().into_iter().find(|map| map.name() == name);
    let Some((weight, _)) = map.map(variants::adapted::AdaptedLinear::base) else { return Vec::new() };
    let norms: Tensor<2> = weight.square().sum_dim(0).sqrt();
    values(&norms)
}

/// `adapter_model.safetensors`
fn weights(form: &Form) -> Result<Vec<u8>, ModelError> {
    let tensor = |name: String, shape: Vec<usize>, values: &[f64]| {
        Stored::of(name, shape, values.iter().map(|value| *value as f32))
    };
    let mut all = Vec::new();
    for (slot, own) in &form.slots {
        let kind = Kind::of(slot, &form.architecture);
        for (name, matrix) in own {
            let Some((suffix, layout)) = place(kind, name, form.maps.contains_key(slot)) else { continue };
            let (shape, values) = layout.stored(matrix);
            all.push(tensor(key(&form.architecture, slot, &suffix), shape, &values));
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

/// The targets as PEFT reads them.
fn targets(form: &Form) -> Value {
    match &form.metadata.plan.targets {
        _ if form.joined => json!(form.maps.keys().map(|map| form.architecture.full(map)).collect::<Vec<_>>()),
        target => selection(target, &form.architecture),
    }
}

/// A choice of maps as PEFT reads it: its expressions are for the name in a model with a head.
fn selection(target: &Target, architecture: &Config) -> Value {
    match target {
        Target::Endings(list) => json!(list),
        Target::Pattern(pattern) if pattern == ALL_LINEAR => json!(pattern),
        Target::Pattern(pattern) => json!(format!("(?:{})?(?:{pattern})", regex::escape(architecture.base_prefix()))),
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
    if simple && !form.joined && !constant {
        ranks.extend(plan.modules.rank_pattern.iter().map(|(pattern, rank)| (pattern.clone(), json!(rank))));
        alphas.extend(plan.modules.alpha_pattern.iter().map(|(pattern, alpha)| (pattern.clone(), number(*alpha))));
        return (plan.variant.rank, plan.variant.alpha, ranks, alphas);
    }
    // Names in full, which no order of overlapping expressions can confuse.
    let alpha_of = |rank: usize, alpha: f64| match plan.variant.scaling {
        Scaling::Constant { value } => value * rank as f64,
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
fn configuration(form: &Form) -> Map<String, Value> {
    let plan = &form.metadata.plan;
    let own = match form.peft {
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
    };
    config::configuration(&common(form), &own)
}

/// What every kind says.
fn common(form: &Form) -> Common {
    let plan = &form.metadata.plan;
    let is_text = plan.text().is_some();
    let mut whole: Vec<String> = if is_text { Vec::new() } else { ["classifier", "score"].map(str::to_owned).to_vec() };
    whole.extend(saved(form));
    // Names of joined maps are written out, so nothing selects among them.
    let modules = if form.joined { Modules::default() } else { plan.modules.clone() };
    Common {
        kind: form.peft.peft_type(),
        task_type: Some(config::task_type(is_text).to_owned()),
        base: Base::of(&plan.model),
        targets: targets(form),
        exclude: modules.exclude_modules.as_ref().map(|own| selection(own, &form.architecture)),
        layers: modules.layers_to_transform,
        layers_pattern: modules.layers_pattern,
        saved: whole,
        bias: match plan.variant.bias {
            BiasSpec::None => "none",
            BiasSpec::All => "all",
            BiasSpec::LoraOnly if matches!(form.peft, PeftForm::Vera(_)) => "vera_only",
            BiasSpec::LoraOnly => "lora_only",
        },
        fan_in_fan_out: form.architecture.stores_inputs_first(),
    }
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
