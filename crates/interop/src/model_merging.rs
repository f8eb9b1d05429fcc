//! Several adapters as one, combined in the space of `ΔW` and written as a LoRA in PEFT's format.
//!
//! Adapters may be runs of this program, of any rank and method, or LoRA and rsLoRA folders that PEFT wrote: what is combined is what
//! each does to the weights of the linear maps ([`crate::update`]), scale included. A map that an adapter leaves alone counts as zero. Query, key and
//! value of GPT-2, where an adapter has them apart, are put back into the fused map that PEFT knows.
//!
//! What is no update of a linear map (biases, norms, tables) has no place in a LoRA and is left out, with a note; of the heads, which
//! belong to a task each, one can be taken along.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use models::{
    config::{Config as Architecture, MapKind},
    network::NamedParam,
};
use safetensors::SafeTensors;
use variants::{host::values, role::Role};

use crate::{
    output_dir::Free,
    peft::{
        self,
        write::{Config, Factors, Whole},
    },
    update::{self, Change, MapUpdate},
};
use assets::source::hub::{Repository, SCHEME};
use trainer::{adapter, error::TrainError, model_cache::ModelCache};

pub mod methods;

use methods::{Combined, Matrix, Method, Update};

/// The command's name in what it writes.
const COMMAND: &str = "lora-lab combine";

/// An adapter and its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// A run's folder or file, or a folder that PEFT wrote.
    pub path: PathBuf,
    /// `w_i`
    pub weight: f64,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What is combined, in this order.
    pub inputs: &'a [Input],
    /// How.
    pub method: Method,
    /// The adapter whose head is taken along.
    pub head: Option<&'a Path>,
    /// The folder to write.
    pub out: &'a Path,
}

/// One map of the combination.
#[derive(Clone, Debug, PartialEq)]
pub struct MapReport {
    /// Its name.
    pub map: String,
    /// Its rank.
    pub rank: usize,
    /// `‖ΔW‖_F` of the combination.
    pub norm: f64,
    /// What was lost by bringing it to this rank, in the same norm.
    pub lost: f64,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every map.
    pub maps: Vec<MapReport>,
    /// What a reader should know: maps that are missing somewhere, what was left out.
    pub notes: Vec<String>,
}

impl Report {
    /// Norm and loss over all maps, `‖·‖_F` of the blocks together.
    pub fn total(&self) -> (f64, f64) {
        let over = |of: fn(&MapReport) -> f64| self.maps.iter().map(|map| of(map).powi(2)).sum::<f64>().sqrt();
        (over(|map| map.norm), over(|map| map.lost))
    }
}

/// One adapter, read.
struct Member {
    shown: String,
    weight: f64,
    /// By the name of a map that PEFT knows.
    maps: BTreeMap<String, Update>,
    /// The maps of its base, where that is at hand.
    known: Option<BTreeSet<String>>,
    /// The hash of its base, where it is known.
    hash: Option<String>,
    /// What the folder says of its base and task.
    config: Config,
    head: Vec<Whole>,
    /// What of it is neither a map's update nor a head.
    left_out: Vec<String>,
}

/// Combines and writes.
pub fn combine(request: &Request<'_>, cache: &ModelCache) -> Result<Report, TrainError> {
    let free = Free::check(request.out, COMMAND)?;
    check(request)?;
    let members = request.inputs.iter().map(|input| read(input, cache)).collect::<Result<Vec<_>, _>>()?;
    let mut report = Report::default();
    fit_together(&members, &mut report.notes)?;
    let head = head(request, &members, &mut report.notes)?;

    let names: BTreeSet<&String> = members.iter().flat_map(|member| member.maps.keys()).collect();
    let mut maps = BTreeMap::new();
    for name in names {
        let updates: Vec<(f64, Option<&Update>)> =
            members.iter().map(|member| (member.weight, member.maps.get(name))).collect();
        let found = methods::combine(&updates, request.method, name)
            .map_err(|reason| foreign(request.out, format!("`{name}`: {reason}")))?;
        let (rank, norm, lost) = (found.rank(), found.norm, found.lost);
        report.maps.push(MapReport { map: name.clone(), rank, norm, lost });
        maps.insert(name.clone(), factors(&found));
    }
    let first = &members[0].config;
    let task_type = match first.task_type.as_deref() {
        // Without a head PEFT would look for one.
        Some("SEQ_CLS") if head.is_empty() => None,
        other if members.iter().all(|member| member.config.task_type.as_deref() == other) => other.map(str::to_owned),
        _ => None,
    };
    let config = Config { task_type, ..first.clone() };
    let mut draft = free.begin()?;
    for (name, bytes) in peft::write::encode(&config, &maps, &head)? {
        draft.write(name, &bytes)?;
    }
    peft::read(draft.folder())?; // what is written can be read again
    draft.finish(serde_json::json!({
        "method": format!("{:?}", request.method),
        "adapters": request.inputs.iter().map(|input| (&input.path, input.weight)).collect::<Vec<_>>(),
    }))?;
    Ok(report)
}

fn foreign(path: &Path, reason: String) -> TrainError {
    TrainError::foreign(path.to_owned(), reason)
}

/// Everything about the numbers that can be wrong, at once.
fn check(request: &Request<'_>) -> Result<(), TrainError> {
    let mut problems = Vec::new();
    if request.inputs.is_empty() {
        problems.push("no adapter is given; name at least one".to_owned());
    }
    for Input { path, weight } in request.inputs {
        if !weight.is_finite() {
            problems.push(format!("the weight of {} is `{weight}`, but must be a finite number", path.display()));
        }
    }
    let (rank, density) = match request.method {
        Method::Linear | Method::Cat => (None, None),
        Method::Svd { rank } => (Some(rank), None),
        Method::Ties { rank, density, .. }
        | Method::Dare { rank, density, .. }
        | Method::MagnitudePrune { rank, density } => (Some(rank), Some(density)),
    };
    if rank == Some(0) {
        problems.push("rank is `0`, but must be at least 1".to_owned());
    }
    if let Some(density) = density.filter(|density| !(*density > 0.0 && *density <= 1.0)) {
        problems.push(format!("density is `{density}`, but is the share that stays, above 0 and at most 1"));
    }
    if let Some(head) = request.head.filter(|head| request.inputs.iter().all(|input| input.path != **head)) {
        problems.push(format!("the head of `{}` is asked for, which is none of the adapters", head.display()));
    }
    if problems.is_empty() { Ok(()) } else { Err(foreign(request.out, problems.join("; "))) }
}

/// Refuses what is not of one base.
fn fit_together(members: &[Member], notes: &mut Vec<String>) -> Result<(), TrainError> {
    let mut hashes = members.iter().filter_map(|member| Some((member, member.hash.as_ref()?)));
    if let Some((first, hash)) = hashes.next()
        && let Some((other, found)) = hashes.find(|(_, found)| *found != hash)
    {
        let reason = format!(
            "was trained on a base with hash {found}, but {} on one with {hash}; updates of different weights cannot be added",
            first.shown
        );
        return Err(foreign(Path::new(&other.shown), reason));
    }
    let named: BTreeSet<&String> = members.iter().filter_map(|member| member.config.base.as_ref()).collect();
    if named.len() > 1 {
        let all: Vec<String> = named.into_iter().map(|name| format!("`{name}`")).collect();
        notes.push(format!(
            "the bases have different names ({}) and a PEFT folder has no hash to tell by: see that they are one",
            all.join(", ")
        ));
    }
    if let Some((first, known)) = members.iter().find_map(|member| Some((member, member.known.as_ref()?))) {
        for member in members {
            if let Some(map) = member.maps.keys().find(|map| !known.contains(*map)) {
                let reason = format!(
                    "adapts `{map}`, which the base of {} does not have; they are adapters of different models",
                    first.shown
                );
                return Err(foreign(Path::new(&member.shown), reason));
            }
        }
    }
    let mut shapes: BTreeMap<&String, (&Member, [usize; 2])> = BTreeMap::new();
    for member in members {
        for (name, update) in &member.maps {
            let (first, shape) = *shapes.entry(name).or_insert((member, update.shape()));
            if shape != update.shape() {
                let reason = format!(
                    "`{name}` is {:?}, but in {} it is {shape:?}; they are adapters of different models",
                    update.shape(),
                    first.shown
                );
                return Err(foreign(Path::new(&member.shown), reason));
            }
        }
    }
    for member in members {
        let missing: Vec<String> =
            shapes.keys().filter(|name| !member.maps.contains_key(**name)).map(|name| format!("`{name}`")).collect();
        if !missing.is_empty() {
            notes.push(format!("{}: counts as zero on {}", member.shown, missing.join(", ")));
        }
        if !member.left_out.is_empty() {
            notes.push(format!(
                "{}: left out, since a LoRA of linear maps has no place for them: {}",
                member.shown,
                shortened(&member.left_out)
            ));
        }
    }
    Ok(())
}

/// The first few of many.
fn shortened(all: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = all.len().saturating_sub(SHOWN);
    let shown = all[..all.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// The head that is taken along.
fn head(request: &Request<'_>, members: &[Member], notes: &mut Vec<String>) -> Result<Vec<Whole>, TrainError> {
    let Some(wanted) = request.head else {
        if members.iter().any(|member| !member.head.is_empty()) {
            notes.push("the heads are left out; `--head ADAPTER` takes that of one adapter along".to_owned());
        }
        return Ok(Vec::new());
    };
    let at = request.inputs.iter().position(|input| input.path == wanted);
    let chosen = &members[at.unwrap_or_else(|| unreachable!("`check` has found it among the adapters"))];
    let shape = |member: &Member| -> Vec<(String, Vec<usize>)> {
        member.head.iter().map(|one| (one.name.clone(), one.shape.clone())).collect()
    };
    if chosen.head.is_empty() {
        return Err(foreign(wanted, "has no head; leave `--head` out".to_owned()));
    }
    match members.iter().find(|member| shape(member) != shape(chosen)) {
        Some(other) => Err(foreign(
            wanted,
            format!("its head has other tensors or shapes than that of {}; leave `--head` out", other.shown),
        )),
        None => Ok(chosen.head.clone()),
    }
}

/// A combination as PEFT has it: `A` `[r, d_in]`, `B` `[d_out, r]`.
fn factors(found: &Combined) -> Factors {
    Factors { a: found.down.transposed().values, b: found.up.transposed().values, rank: found.rank() }
}

fn read(input: &Input, cache: &ModelCache) -> Result<Member, TrainError> {
    let path = &input.path;
    let updates = update::read(path, cache)?;
    let shown = path.display().to_string();
    let is_file_of_peft = path.parent().filter(|folder| path.is_file() && peft::is_folder(folder));
    let mut member = match &updates.metadata {
        Some(metadata) => {
            let file = if path.is_dir() { path.join("adapter.safetensors") } else { path.clone() };
            of_run(&file, metadata, cache)?
        }
        None => of_peft(is_file_of_peft.unwrap_or(path), &updates.maps)?,
    };
    let architecture = updates.metadata.as_ref().map(|metadata| cache.base(&metadata.plan.model)).transpose()?;
    let architecture = architecture.map(|base| base.backbone.config());
    member.known = architecture.as_ref().map(|config| config.maps().into_keys().collect());
    member.maps = whole_maps(updates.maps, architecture.as_ref(), path)?;
    if member.maps.is_empty() {
        return Err(foreign(path, "changes no linear map, so there is nothing to combine".to_owned()));
    }
    Ok(Member { shown, weight: input.weight, ..member })
}

/// Head, base and the rest of a run's adapter.
fn of_run(file: &Path, metadata: &adapter::AdapterMetadata, cache: &ModelCache) -> Result<Member, TrainError> {
    let (_, mut network) = adapter::load(file, cache)?;
    let architecture = network.backbone.config();
    let maps: BTreeSet<String> = network.backbone.linears().iter().map(|map| map.name().to_owned()).collect();
    let (mut head, mut left_out) = (Vec::new(), Vec::new());
    for NamedParam { slot, name, param, .. } in network.parameters(0) {
        let [_, rows, cols] = param.tensor.dims();
        if slot.is_empty() {
            let is_bias = name.ends_with("bias");
            let tensor = param.tensor.clone();
            head.push(Whole {
                name,
                shape: if is_bias { vec![cols] } else { vec![cols, rows] },
                values: values(&if is_bias { tensor } else { tensor.swap_dims(1, 2) }),
            });
        } else if !maps.contains(&slot) || param.role == Role::Bias {
            left_out.push(format!("`{name}`"));
        }
    }
    head.sort_by(|a: &Whole, b: &Whole| a.name.cmp(&b.name));
    let (base, revision) = match Repository::model(&metadata.plan.model) {
        Ok(found) if metadata.plan.model.starts_with(SCHEME) => (found.name, Some(found.revision)),
        _ => (metadata.plan.model.clone(), None),
    };
    let config = Config {
        base: Some(base),
        revision,
        task_type: Some(if metadata.plan.text().is_some() { "CAUSAL_LM" } else { "SEQ_CLS" }.to_owned()),
        prefix: architecture.prefixes()[0].to_owned(),
        fan_in_fan_out: matches!(architecture, Architecture::Gpt2(_)),
    };
    Ok(Member {
        shown: String::new(),
        weight: 1.0,
        maps: BTreeMap::new(),
        known: None,
        hash: Some(metadata.model_hash.clone()),
        config,
        head,
        left_out,
    })
}

/// Head, base and the rest of a folder that PEFT wrote, whose maps were read.
fn of_peft(folder: &Path, maps: &BTreeMap<String, MapUpdate>) -> Result<Member, TrainError> {
    let bytes = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|source| TrainError::io(path, source))
    };
    let said: serde_json::Value = serde_json::from_slice(&bytes(peft::CONFIG)?)
        .map_err(|error| foreign(&folder.join(peft::CONFIG), error.to_string()))?;
    let text = |key: &str| said[key].as_str().map(str::to_owned);
    let content = bytes(peft::WEIGHTS)?;
    let file = SafeTensors::deserialize(&content)
        .map_err(|error| foreign(&folder.join(peft::WEIGHTS), format!("not safetensors: {error}")))?;
    let (mut head, mut left_out, mut prefix) = (Vec::new(), Vec::new(), String::new());
    for (name, view) in file.tensors() {
        let plain = name.strip_prefix("base_model.model.").unwrap_or(&name);
        if let Some(full) = plain.strip_suffix(".lora_A.weight") {
            if let Some(found) = maps.keys().find_map(|map| full.strip_suffix(map.as_str())) {
                found.clone_into(&mut prefix);
            }
        } else if !plain.ends_with(".lora_B.weight") {
            let is_head = ["classifier.", "score."].iter().any(|start| plain.starts_with(start));
            match models::weights::widen(&view).filter(|_| is_head) {
                Some(numbers) => head.push(Whole {
                    name: plain.to_owned(),
                    shape: view.shape().to_vec(),
                    values: numbers.into_iter().map(f64::from).collect(),
                }),
                None => left_out.push(format!("`{plain}`")),
            }
        }
    }
    head.sort_by(|a: &Whole, b: &Whole| a.name.cmp(&b.name));
    left_out.sort();
    let config = Config {
        base: text("base_model_name_or_path"),
        revision: text("revision"),
        task_type: text("task_type"),
        prefix,
        fan_in_fan_out: said["fan_in_fan_out"].as_bool().unwrap_or(false),
    };
    Ok(Member {
        shown: String::new(),
        weight: 1.0,
        maps: BTreeMap::new(),
        known: None,
        hash: None,
        config,
        head,
        left_out,
    })
}

/// Updates of whole maps: those of a fused map's parts go to their columns of it.
fn whole_maps(
    maps: BTreeMap<String, MapUpdate>,
    architecture: Option<&Architecture>,
    path: &Path,
) -> Result<BTreeMap<String, Update>, TrainError> {
    let known = architecture.map(Architecture::maps).unwrap_or_default();
    let mut all: BTreeMap<String, Update> = BTreeMap::new();
    for (name, update) in maps {
        let delta = delta(&name, update, path)?;
        match known.get(&name).map(|map| &map.kind) {
            Some(MapKind::Part(whole)) => {
                let parts = architecture.and_then(|config| config.parts(whole)).unwrap_or_default();
                let at = parts.iter().position(|part| *part == name);
                let at = at.unwrap_or_else(|| unreachable!("a part is one of its fused map's"));
                let width = known[whole].shape[1];
                let part = widened(&delta, at * delta.shape()[1], width);
                let sum = match all.remove(whole) {
                    Some(before) => added(&before, &part),
                    None => part,
                };
                all.insert(whole.clone(), sum);
            }
            _ => {
                all.insert(name, delta);
            }
        }
    }
    Ok(all)
}

/// `ΔW` of one map.
fn delta(name: &str, update: MapUpdate, path: &Path) -> Result<Update, TrainError> {
    let MapUpdate { d_in, d_out, base, change } = update;
    match change {
        Change::LowRank { rank, down, up } => Ok(Update::Factors {
            down: Matrix { rows: d_in, cols: rank, values: down },
            up: Matrix { rows: rank, cols: d_out, values: up },
        }),
        Change::Dense(weight) => match base {
            Some(base) => Ok(Update::Dense(Matrix {
                rows: d_in,
                cols: d_out,
                values: weight.iter().zip(base).map(|(weight, base)| weight - base).collect(),
            })),
            None => Err(foreign(path, format!("`{name}` is a weight and its base is not at hand"))),
        },
    }
}

/// The update at columns `from..` of a map with `width` outputs.
fn widened(update: &Update, from: usize, width: usize) -> Update {
    let wide = |matrix: &Matrix| {
        let mut all = Matrix::zeros(matrix.rows, width);
        for row in 0..matrix.rows {
            all.values[row * width + from..][..matrix.cols]
                .copy_from_slice(&matrix.values[row * matrix.cols..][..matrix.cols]);
        }
        all
    };
    match update {
        Update::Factors { down, up } => Update::Factors { down: down.clone(), up: wide(up) },
        Update::Dense(matrix) => Update::Dense(wide(matrix)),
    }
}

/// The sum of two updates of one map.
fn added(a: &Update, b: &Update) -> Update {
    methods::sum(&[(1.0, Some(a)), (1.0, Some(b))])
}
