//! Warm starts: a run that begins with the adapter of another.
//!
//! As the LoRA paper does for MRPC, RTE and STS-B, which start from MNLI's adapter (appendix D.1). Every tensor that trains is taken
//! over; the head only where it tells the same classes apart, else it is drawn afresh. Moments, schedule and budget begin anew.
//!
//! A run that keeps the adapters of earlier tasks beside its own takes the source's factors and those that it was beside as frozen ones,
//! and draws its own anew, by other numbers than any task before it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use assets::file::is_there;
use burn::tensor::Tensor;
use data::task::Objective;
use models::network::{NamedParam, Network};
use record::{Store, adapter_file, sha256_hex};
use variants::{adapted::AdaptedLinear, form::Factors, role::Role, slot::StackPlan};

use crate::{
    adapter,
    error::TrainError,
    study::{context::StudyContext, run_state::RunAt},
};
use experiment::{
    cell::{Cell, Recipe},
    start::{StartFrom, fits},
    tasks,
};

/// The file of the adapter that a run starts from.
pub fn path(from: &StartFrom, store: &Store) -> PathBuf {
    match from {
        StartFrom::Cell(id) => store.adapter_path(id),
        StartFrom::Adapter(written) => adapter_file(Path::new(&**written)),
    }
}

/// SHA-256 of the adapter's file, and how records call it; none where it is not there yet.
pub fn identity(from: &StartFrom, store: &Store) -> Result<Option<record::Start>, TrainError> {
    let path = path(from, store);
    let name = match from {
        StartFrom::Cell(id) => id.slug(),
        StartFrom::Adapter(written) => written.written().to_owned(),
    };
    match assets::file::read(&path) {
        Ok(bytes) => Ok(Some(record::Start { name, hash: sha256_hex(&bytes) })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TrainError::io(path, source)),
    }
}

/// Puts the source's tensors on one run of one stack.
pub(crate) fn apply(
    network: &mut Network,
    (RunAt { stack, run }, plan): (RunAt, &StackPlan),
    cell: &Cell,
    from: &StartFrom,
    context: &StudyContext<'_>,
) -> Result<(), TrainError> {
    let path = path(from, context.store);
    let foreign = |reason: String| TrainError::foreign(path.clone(), reason);
    if !is_there(&path) {
        return Err(foreign(format!("`{}` starts from here, but there is no adapter", cell.id)));
    }
    let (metadata, mut source) = adapter::load(&path, context.cache)?;
    fits(&metadata.plan, &cell.recipe).map_err(foreign)?;
    if metadata.drawn != adapter::drawn_by(network, stack) {
        return Err(foreign(format!(
            "its frozen random factors are drawn from another seed than those of `{}`; start it with the same `init` seed",
            cell.id
        )));
    }
    let keeps_head = same_classes(&metadata.plan, &cell.recipe);
    let mut tensors = adapter::tensors(&mut source, 0, 0);
    let adapters = cell.recipe.variant.base_update.adapters();
    if adapters > 0 {
        tensors.extend(kept(&source));
        let drawn = network.drawn_anew(stack, plan, run, adapters as u64);
        tensors.extend(drawn.into_iter().map(|(map, name, value)| (format!("{map}.{name}"), value)));
    }
    let mut missing = BTreeSet::new();
    for NamedParam { name, mut param, .. } in network.parameters(stack) {
        if param.role == Role::Head && !keeps_head {
            continue;
        }
        let [runs, rows, cols] = param.tensor.dims();
        match tensors.get(&name).filter(|tensor| tensor.dims()[1] == rows && tensor.dims()[2] <= cols) {
            Some(tensor) => param.tensor.set(placed(&param.tensor, tensor, run, runs)),
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

/// The factors of a source's updates and of those that it was beside, by the names that they have in a run that keeps them.
fn kept(source: &Network) -> BTreeMap<String, Tensor<3>> {
    let of_map = |map: &AdaptedLinear| {
        let Factors { down, up } =
            map.kept(0).unwrap_or_else(|| unreachable!("the composition keeps low-rank updates"));
        [("accumulated_a", down), ("accumulated_b", up)].map(|(name, value)| (format!("{}.{name}", map.name()), value))
    };
    source.adapted(0).into_iter().flat_map(of_map).collect()
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
fn same_classes(one: &Recipe, other: &Recipe) -> bool {
    let objective = |plan: &Recipe| -> Option<Objective> {
        tasks::tasks(&plan.suite).into_iter().find(|info| info.name == plan.task).map(|info| info.objective)
    };
    match (objective(one), objective(other)) {
        (Some(one), Some(other)) => one == other,
        // A task of one's own has the classes of its files: the same task has the same.
        _ => one.given == other.given && one.given.is_some(),
    }
}
