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

use lowrank::Update;
use nalgebra::DMatrix;
use trainer::{error::TrainError, model_cache::ModelCache};

use crate::{
    head::WholeTensor,
    output::{Guard, OutputDir},
    peft::{self, write::Config},
};

pub mod fisher;
mod fit;
pub mod lorahub;
mod member;
pub mod methods;
pub mod regmean;

use fit::fit_together;
use lorahub::Search;
use member::Member;
use methods::Method;

/// The command's name in what it writes.
pub const COMMAND: &str = "lora-lab combine";

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
pub struct CombineRequest<'a> {
    /// What is combined, in this order.
    pub inputs: &'a [Input],
    /// How.
    pub method: Method,
    /// The adapter whose head is taken along; a search takes its target's.
    pub head: Option<&'a Path>,
    /// A run on the task that weights are searched for, where the method searches.
    pub target: Option<&'a Path>,
    /// The folder to write.
    pub out: &'a Path,
    /// Whether `out` may be a folder of others.
    pub force: bool,
    /// The command's name in what it writes: [`COMMAND`], or that of another command that combines.
    pub command: &'static str,
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
pub struct CombineReport {
    /// Every map.
    pub maps: Vec<MapReport>,
    /// What a reader should know: maps that are missing somewhere, what was left out.
    pub notes: Vec<String>,
}

impl CombineReport {
    /// Norm and loss over all maps, `‖·‖_F` of the blocks together.
    pub fn total(&self) -> (f64, f64) {
        let over = |of: fn(&MapReport) -> f64| self.maps.iter().map(|map| of(map).powi(2)).sum::<f64>().sqrt();
        (over(|map| map.norm), over(|map| map.lost))
    }
}

/// Combines and writes.
pub fn combine(request: &CombineRequest<'_>, cache: &ModelCache) -> Result<CombineReport, TrainError> {
    let guard = Guard::new(request.inputs.iter().map(|input| &input.path), request.force);
    let output = OutputDir::check(request.out, request.command, &guard)?;
    check(request)?;
    let members = request.inputs.iter().map(|input| Member::read(input, cache)).collect::<Result<Vec<_>, _>>()?;
    let mut report = CombineReport::default();
    fit_together(&members, &mut report.notes)?;
    let mut head = head(request, &members, &mut report.notes)?;
    let mut searched = match (request.method, request.target) {
        (Method::LoraHub { mix, examples, evaluations, seed }, Some(target)) => {
            let found = lorahub::search(&members, &Search { target, mix, examples, evaluations, seed }, cache)?;
            report.notes.extend(found.notes);
            head = found.head;
            found.maps
        }
        _ => BTreeMap::new(),
    };

    let names: BTreeSet<&String> = members.iter().flat_map(|member| member.maps.keys()).collect();
    let mut maps = BTreeMap::new();
    let measure = |input: &Input| match request.method {
        Method::RegMean { batches, .. } => regmean::grams(input, &names, batches, cache),
        Method::Fisher { examples, .. } => fisher::information(input, &names, examples, cache),
        _ => Ok(BTreeMap::new()),
    };
    let measured = request.inputs.iter().map(measure).collect::<Result<Vec<_>, _>>()?;
    for name in names {
        let updates: Vec<(f64, Option<&Update>)> =
            members.iter().map(|member| (member.weight, member.maps.get(name))).collect();
        let found = match request.method {
            Method::RegMean { rank, off_diagonal, .. } => {
                regmean::regression_mean(&updates, &of_map(&measured, name), off_diagonal, rank)
            }
            Method::Fisher { rank, .. } => fisher::weighted_mean(&updates, &of_map(&measured, name), rank),
            Method::LoraHub { .. } => searched.remove(name).ok_or_else(|| "was not searched".to_owned()),
            method => methods::combine(&updates, method, name),
        };
        let found = found.map_err(|reason| foreign(request.out, format!("`{name}`: {reason}")))?;
        report.maps.push(MapReport {
            map: name.clone(),
            rank: found.update.width(),
            norm: found.norm,
            lost: found.lost,
        });
        maps.insert(name.clone(), found.update);
    }
    if report.maps.iter().all(|map| map.norm == 0.0) {
        let way_out = "a larger density keeps more, and weights that cancel leave none";
        report.notes.push(format!("nothing is left: the merged update is zero in every map; {way_out}"));
    }
    let config = configuration(&members, !head.is_empty());
    let mut staged = output.begin()?;
    for (name, bytes) in peft::write::encode(&config, &maps, &head)? {
        staged.write(name, &bytes)?;
    }
    peft::read(staged.folder())?; // what is written can be read again
    staged.finish(serde_json::json!({
        "method": format!("{:?}", request.method),
        "adapters": request.inputs.iter().map(|input| (&input.path, input.weight)).collect::<Vec<_>>(),
    }))?;
    Ok(report)
}

/// What was measured of every run on one map.
fn of_map(measured: &[BTreeMap<String, DMatrix<f64>>], name: &str) -> Vec<DMatrix<f64>> {
    measured.iter().map(|of_run| of_run[name].clone()).collect()
}

fn foreign(path: &Path, reason: String) -> TrainError {
    TrainError::foreign(path.to_owned(), reason)
}

/// What the written folder says of base and task.
fn configuration(members: &[Member], has_head: bool) -> Config {
    let first = &members[0].config;
    let task_type = match first.task_type.as_deref() {
        // Without a head PEFT would look for one.
        Some("SEQ_CLS") if !has_head => None,
        other if members.iter().all(|member| member.config.task_type.as_deref() == other) => other.map(str::to_owned),
        _ => None,
    };
    Config { task_type, ..first.clone() }
}

/// Everything about the numbers that can be wrong, at once.
fn check(request: &CombineRequest<'_>) -> Result<(), TrainError> {
    let mut problems = Vec::new();
    if request.inputs.is_empty() {
        problems.push("no adapter is given; name at least one".to_owned());
    }
    for Input { path, weight } in request.inputs {
        if weight.abs() > f64::from(f32::MAX) || weight.is_nan() {
            let rule = "must be a number in the range of single precision";
            problems.push(format!("the weight of {} is `{weight:e}`, but {rule}", path.display()));
        }
    }
    if let Method::LoraHub { examples, evaluations, .. } = request.method {
        for (what, count) in [("examples", examples), ("evaluations", evaluations)] {
            if count == 0 {
                problems.push(format!("{what} is `0`, but a search needs at least 1"));
            }
        }
        if request.target.is_none() {
            problems.push("no target is given; name a run on the task that weights are searched for".to_owned());
        }
        for Input { path, weight } in request.inputs.iter().filter(|input| input.weight != 1.0) {
            problems.push(format!(
                "the weight of {} is `{weight}`, but weights are what is searched; leave it out",
                path.display()
            ));
        }
        if request.head.is_some() {
            problems.push("a head is asked for, but the adapter has the target's; leave it out".to_owned());
        }
    }
    let (rank, density) = match request.method {
        Method::Linear | Method::Cat | Method::LoraHub { .. } => (None, None),
        Method::Svd { rank } | Method::Fisher { rank, .. } | Method::RegMean { rank, .. } => (Some(rank), None),
        Method::Ties { rank, density, .. }
        | Method::Compeft { rank, density }
        | Method::Dare { rank, density, .. }
        | Method::MagnitudePrune { rank, density } => (Some(rank), Some(density)),
    };
    if let Method::RegMean { batches, off_diagonal, .. } = request.method {
        if batches == 0 {
            problems.push("batches is `0`, but inputs are taken over at least 1".to_owned());
        }
        if !(0.0..=1.0).contains(&off_diagonal) {
            problems.push(format!("off_diagonal is `{off_diagonal}`, but must lie in [0, 1]"));
        }
    }
    if let Method::Fisher { examples: 0, .. } = request.method {
        problems.push("examples is `0`, but gradients are taken over at least 1".to_owned());
    }
    if matches!(request.method, Method::Fisher { .. } | Method::RegMean { .. }) {
        for Input { path, weight } in request.inputs.iter().filter(|input| input.weight <= 0.0) {
            let rule = "it weighs what was measured of the run, so it must be above 0";
            problems.push(format!("the weight of {} is `{weight:e}`, but {rule}", path.display()));
        }
    }
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

/// The head that is taken along.
fn head(
    request: &CombineRequest<'_>,
    members: &[Member],
    notes: &mut Vec<String>,
) -> Result<Vec<WholeTensor>, TrainError> {
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
