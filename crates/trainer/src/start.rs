//! Warm starts: a run that begins with the adapter of another.
//!
//! As the LoRA paper does for MRPC, RTE and STS-B, which start from MNLI's adapter (appendix D.1). Every tensor that trains is taken
//! over; the head only where it tells the same classes apart, else it is drawn afresh. Moments, schedule and budget begin anew.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;
use data::task::Objective;
use models::network::{NamedParam, Network};
use record::{CellId, Store, sha256_hex};
use serde::{Deserialize, Serialize};
use variants::role::Role;

use crate::{
    adapter::{self, Card},
    cell::{Cell, CellPlan},
    error::TrainError,
    library,
    study::{context::StudyContext, run_state::RunAt},
    tensor_file,
};

/// Where a run starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFrom {
    /// The end of another cell of the grid.
    Cell(CellId),
    /// An adapter on disk: a run's folder or its file.
    Adapter(String),
}

impl StartFrom {
    /// The adapter's file.
    pub fn path(&self, store: &Store) -> PathBuf {
        match self {
            Self::Cell(id) => store.run_dir(id).join("adapter.safetensors"),
            Self::Adapter(written) => file(written),
        }
    }

    /// SHA-256 of the adapter's file, and how records call it; none where it is not there yet.
    pub fn identity(&self, store: &Store) -> Result<Option<record::Start>, TrainError> {
        let path = self.path(store);
        let name = match self {
            Self::Cell(id) => id.slug(),
            Self::Adapter(written) => written.clone(),
        };
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(record::Start { name, hash: sha256_hex(&bytes) })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TrainError::Io { path, source }),
        }
    }
}

/// A run's adapter where its folder is named.
fn file(written: &str) -> PathBuf {
    let path = PathBuf::from(written);
    if path.is_dir() { path.join("adapter.safetensors") } else { path }
}

/// What keeps a run with `plan` from starting at this adapter; nothing is loaded onto a device.
pub fn check(written: &str, plan: &CellPlan) -> Result<(), TrainError> {
    let path = file(written);
    let card = card(&path)?;
    fits(&card.plan, plan).map_err(|reason| TrainError::Foreign { path, reason })
}

fn card(path: &Path) -> Result<Card, TrainError> {
    let place = variants::host::Placement::new(&burn::tensor::Device::flex(), burn::tensor::DType::F32);
    let (_, text) = tensor_file::decode(path, "adapter", &place)?;
    serde_json::from_str(&text).map_err(|error| TrainError::Foreign {
        path: path.to_owned(),
        reason: format!("not an adapter of this program: {error}"),
    })
}

fn said(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Whether the tensors of two plans are the same but for the head.
fn fits(source: &CellPlan, plan: &CellPlan) -> Result<(), String> {
    let rule = |same: bool, what: &str, theirs: &dyn std::fmt::Debug, ours: &dyn std::fmt::Debug| {
        if same {
            Ok(())
        } else {
            Err(format!("its {what} is {theirs:?}, but the run that starts from it has {ours:?}"))
        }
    };
    rule(source.model == plan.model, "model", &source.model, &plan.model)?;
    rule(source.targets == plan.targets, "targets", &source.targets, &plan.targets)?;
    for (what, theirs, ours) in [
        ("exclude_modules", said(&source.modules.exclude_modules), said(&plan.modules.exclude_modules)),
        ("layers_to_transform", said(&source.modules.layers_to_transform), said(&plan.modules.layers_to_transform)),
        ("layers_pattern", said(&source.modules.layers_pattern), said(&plan.modules.layers_pattern)),
        ("rank_pattern", said(&source.modules.rank_pattern), said(&plan.modules.rank_pattern)),
        ("modules_to_save", said(&source.modules.modules_to_save), said(&plan.modules.modules_to_save)),
    ] {
        if theirs != ours {
            return Err(format!("its {what} is `{theirs}`, but the run that starts from it has `{ours}`"));
        }
    }
    rule(source.variant.rank == plan.variant.rank, "rank", &source.variant.rank, &plan.variant.rank)?;
    rule(source.variant.delta == plan.variant.delta, "delta", &source.variant.delta, &plan.variant.delta)?;
    rule(source.variant.combine == plan.variant.combine, "combine", &source.variant.combine, &plan.variant.combine)?;
    rule(source.variant.base == plan.variant.base, "base", &source.variant.base, &plan.variant.base)?;
    rule(source.variant.bias == plan.variant.bias, "bias", &source.variant.bias, &plan.variant.bias)
}

/// Puts the source's tensors on one run of one stack.
pub(crate) fn apply(
    network: &mut Network,
    RunAt { stack, run }: RunAt,
    cell: &Cell,
    from: &StartFrom,
    context: &StudyContext<'_>,
) -> Result<(), TrainError> {
    let path = from.path(context.store);
    let foreign = |reason: String| TrainError::Foreign { path: path.clone(), reason };
    if !path.is_file() {
        return Err(foreign(format!("`{}` starts from here, but there is no adapter", cell.id)));
    }
    let (card, mut source) = adapter::load(&path, context.library)?;
    fits(&card.plan, &cell.plan).map_err(foreign)?;
    if card.drawn != adapter::drawn_by(network, stack) {
        return Err(foreign(format!(
            "its frozen random factors are drawn from another seed than those of `{}`; start it with the same `init` seed",
            cell.id
        )));
    }
    let keeps_head = same_classes(&card.plan, &cell.plan);
    let tensors = adapter::tensors(&mut source, 0, 0);
    let mut missing = BTreeSet::new();
    for NamedParam { name, param, .. } in network.parameters(stack) {
        if param.role == Role::Head && !keeps_head {
            continue;
        }
        let [runs, rows, cols] = param.tensor.dims();
        match tensors.get(&name).filter(|tensor| tensor.dims()[1] == rows && tensor.dims()[2] <= cols) {
            Some(tensor) => *param.tensor = placed(param.tensor, tensor, run, runs),
            None => {
                missing.insert(name);
            }
        }
    }
    match missing.first() {
        None => Ok(()),
        Some(first) => {
            Err(foreign(format!("`{first}` is missing or has another shape ({} such tensors)", missing.len())))
        }
    }
}

/// `all` with the slice of one run replaced; columns that a narrower head lacks stay.
fn placed(all: &Tensor<3>, one: &Tensor<3>, run: usize, runs: usize) -> Tensor<3> {
    let [_, rows, cols] = all.dims();
    let [_, _, narrow] = one.dims();
    let mut part = all.clone().slice([run..run + 1, 0..rows, 0..cols]);
    part = part.slice_assign([0..1, 0..rows, 0..narrow], one.clone());
    if runs == 1 { part } else { all.clone().slice_assign([run..run + 1, 0..rows, 0..cols], part) }
}

/// Whether two plans tell the same classes apart; scores are one class of their own.
fn same_classes(one: &CellPlan, other: &CellPlan) -> bool {
    let objective = |plan: &CellPlan| -> Option<Objective> {
        library::tasks(&plan.suite).into_iter().find(|info| info.name == plan.task).map(|info| info.objective)
    };
    match (objective(one), objective(other)) {
        (Some(one), Some(other)) => one == other,
        // A task of one's own has the classes of its files: the same task has the same.
        _ => one.given == other.given && one.given.is_some(),
    }
}
