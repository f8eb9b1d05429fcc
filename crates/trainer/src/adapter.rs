//! A trained adapter on disk: its tensors, head included, and everything needed to use them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;
use kernels::ops::snapshot;
use models::{
    modules::Selected,
    network::{NamedParam, Network},
};
use record::{CellId, RunRecord, Status, Store, adapter_file, record_beside, sha256_hex, write_atomic};
use variants::{
    error::SpecProblem,
    host::{inner, values},
    slot::{RunPlan, StackPlan},
};

use crate::{
    error::TrainError,
    model_cache::ModelCache,
    study::{context::StudyContext, run_state::RunState},
    tensor_file::{self, decode},
};
use assets::{error::AssetError, file::is_there};
use experiment::cell::{Cell, Recipe};
pub use experiment::start::AdapterMetadata;

/// What a file with a run's tensors says of itself; `network` has the run alone.
pub fn metadata(run: &RunState, network: &Network, context: &StudyContext<'_>) -> Result<AdapterMetadata, TrainError> {
    Ok(AdapterMetadata {
        cell: run.cell.id.clone(),
        plan: run.cell.recipe.clone(),
        outputs: run.task().info.objective.n_outputs(),
        model_hash: context.cache.base_of(&run.cell.recipe)?.hash.clone(),
        drawn: drawn(network),
        step: None,
    })
}

/// The file of an adapter, which is named by its run's folder or by the file; refused where there is none.
pub fn resolve(path: &Path) -> Result<PathBuf, TrainError> {
    let file = adapter_file(path);
    // What is there and is no file is said where it is opened.
    if is_there(&file) { Ok(file) } else { Err(TrainError::NoAdapter { path: path.to_owned() }) }
}

/// One run's tensors, `[1, rows, cols]`, by name, as they are now: later steps do not reach them.
pub fn tensors(network: &mut Network, stack: usize, run: usize) -> BTreeMap<String, Tensor<3>> {
    let one =
        |NamedParam { name, param, .. }: NamedParam<'_>| (name, snapshot(inner(&param.tensor).slice([run..run + 1])));
    network.parameters(stack).into_iter().map(one).collect()
}

/// What [`AdapterMetadata::drawn`] holds for the first stack of a network.
pub fn drawn(network: &Network) -> Option<String> {
    drawn_by(network, 0)
}

/// What [`AdapterMetadata::drawn`] holds for a stack of a network.
pub fn drawn_by(network: &Network, stack: usize) -> Option<String> {
    network.checksum(stack).map(|all| sha256_hex(all.as_bytes()))
}

/// The first tensor of a network's first stack that holds a number that is not finite.
pub fn first_non_finite(network: &mut Network) -> Option<String> {
    let finite = |named: &NamedParam<'_>| values(&inner(&named.param.tensor)).iter().all(|value| value.is_finite());
    network.parameters(0).into_iter().find(|named| !finite(named)).map(|named| named.name)
}

/// An adapter as the bytes of its file.
pub fn encode(metadata: &AdapterMetadata, tensors: &BTreeMap<String, Tensor<3>>) -> Result<Vec<u8>, TrainError> {
    let text = serde_json::to_string(metadata).unwrap_or_else(|error| unreachable!("metadata is JSON: {error}"));
    tensor_file::encode(tensors, "adapter", &text)
}

/// Writes an adapter, whole or not at all; returns the file's size in bytes.
pub fn save(path: &Path, metadata: &AdapterMetadata, tensors: &BTreeMap<String, Tensor<3>>) -> Result<u64, TrainError> {
    let bytes = encode(metadata, tensors)?;
    write_atomic(path, &bytes)?;
    Ok(bytes.len() as u64)
}

/// Removes the adapter that an earlier training of a cell has left: it is not the result of the one that begins.
pub fn forget(cell: &CellId, store: &Store) -> Result<(), TrainError> {
    let path = store.adapter_path(cell);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(path, source)),
        _ => Ok(()),
    }
}

/// How the bytes of an adapter differ from those that its run saved, by what the run's record says of them; records of earlier builds know
/// the length alone.
pub fn differs(bytes: &[u8], record: &RunRecord) -> Option<String> {
    let (found, saved) = (bytes.len() as u64, record.measured.adapter_bytes);
    if found != saved {
        return Some(format!("has {found} bytes, but its run saved {saved}"));
    }
    let hash = record.adapter_hash.as_ref()?;
    (sha256_hex(bytes) != *hash).then(|| "is not the file that its run saved (SHA-256)".to_owned())
}

/// Refuses a snapshot that is not of the run in whose folder it lies, or not of the step that its name says.
pub fn check_snapshot(path: &Path, found: &AdapterMetadata, run: &AdapterMetadata) -> Result<(), TrainError> {
    let reason = if found.cell != run.cell {
        format!("is a snapshot of {}, but lies among those of {}", found.cell, run.cell)
    } else if found.plan != run.plan || found.model_hash != run.model_hash {
        format!("is a snapshot of another training of {} than the adapter beside it", run.cell)
    } else {
        return check_step(path, found);
    };
    Err(TrainError::foreign(path, format!("{reason}; delete it, or train the run again")))
}

/// Refuses a snapshot under another step's name.
fn check_step(path: &Path, found: &AdapterMetadata) -> Result<(), TrainError> {
    let named = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
    match (found.step, named) {
        (Some(step), Some(named)) if step != named => {
            let reason = format!("is the snapshot of step {step}; give it its name back, or train the run again");
            Err(TrainError::foreign(path, reason))
        }
        _ => Ok(()),
    }
}

/// What the folders around an adapter say against it: a run's folder is named by its cell, and so are the snapshots in it.
fn check_place(path: &Path, metadata: &AdapterMetadata) -> Result<(), TrainError> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = absolute.parent();
    let is_snapshot = folder.is_some_and(|folder| folder.ends_with(SNAPSHOTS));
    let run = if is_snapshot { folder.and_then(Path::parent) } else { folder };
    let Some(run) = run.filter(|run| record::runs_around(run).as_deref() == run.parent()) else { return Ok(()) };
    let (name, slug) = (run.file_name().unwrap_or_default().to_string_lossy(), metadata.cell.slug());
    if name != slug {
        let reason =
            format!("is of the run `{slug}`, but lies in the folder of `{name}`; put it back, or train the run again");
        return Err(TrainError::foreign(path, reason));
    }
    if is_snapshot { check_step(path, metadata) } else { Ok(()) }
}

/// Folder of a run's snapshots.
pub const SNAPSHOTS: &str = "snapshots";

/// What the record beside an adapter says against it.
fn check_record(path: &Path, metadata: &AdapterMetadata) -> Result<(), TrainError> {
    let Some(record) = record_beside(path)? else { return check_place(path, metadata) };
    if let Status::Failed { step, reason } = &record.status {
        let failed =
            format!("the record beside it is of a run that failed at step {step} ({reason}) and has no adapter");
        return Err(TrainError::foreign(
            path,
            format!("{failed}; train its run again (`--retry-failed`), or give another"),
        ));
    }
    let bytes = assets::file::read(path).map_err(|source| TrainError::io(path, source))?;
    let reason = if record.cell == metadata.cell {
        differs(&bytes, &record)
    } else {
        Some(format!("is the adapter of {}, but the record beside it is of {}", metadata.cell, record.cell))
    };
    let Some(reason) = reason else { return check_place(path, metadata) };
    Err(TrainError::foreign(path, format!("{reason}; train its run again, or restore it")))
}

/// The stack of one cell alone.
pub fn stack_plan(cell: &Recipe, id: &CellId, cache: &ModelCache) -> Result<StackPlan, TrainError> {
    let base = cache.base_of(cell)?;
    let broken = |problems: Vec<SpecProblem>| TrainError::Variant {
        cell: id.to_string(),
        problems: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    };
    let variant = cell.variant.check_beside(None, cell.modules.roles()).map_err(broken)?;
    let targets = variant.adapts().then_some(&cell.targets);
    let selected = base.selected(targets, &cell.modules).map_err(broken)?;
    let Selected { maps, own, fully_trained, trained_rows } = &*selected;
    let runs = vec![RunPlan { init_seed: cell.seeds.init, alpha: cell.variant.alpha }];
    Ok(StackPlan {
        maps: own.clone(),
        fully_trained: fully_trained.clone(),
        trained_rows: trained_rows.clone(),
        ..StackPlan::new(variant, runs, maps.keys().cloned().collect())
    })
}

/// Reads an adapter onto its base.
pub fn load(path: &Path, cache: &ModelCache) -> Result<(AdapterMetadata, Network), TrainError> {
    load_on(path, None, cache)
}

/// Reads an adapter onto its base, which lies where `model` says and not where it lay in training.
pub fn load_on(path: &Path, model: Option<&str>, cache: &ModelCache) -> Result<(AdapterMetadata, Network), TrainError> {
    let way_out = "train its run again, or give another adapter";
    let damaged = |reason: String| TrainError::foreign(path.to_owned(), format!("{reason}; {way_out}"));
    let (mut tensors, text) = decode(path, "adapter", cache.place()).map_err(|error| match error {
        TrainError::Asset(AssetError::Damaged { reason, .. }) => damaged(reason),
        other => other,
    })?;
    let mut metadata: AdapterMetadata =
        AdapterMetadata::of_file(&text, path).map_err(|error| damaged(error.to_string()))?;
    check_record(path, &metadata)?;
    if let Some(model) = model {
        metadata.plan.model = model.into();
    }
    let found = &cache.base(&metadata.plan.model)?.hash;
    if *found != metadata.model_hash {
        return Err(damaged(format!(
            "it was trained on a `{}` with hash {}, but this build's has {found}",
            metadata.plan.model, metadata.model_hash
        )));
    }
    let network = assemble(&metadata, &mut tensors, cache).map_err(|error| match error {
        TrainError::Asset(AssetError::Damaged { reason, .. }) => damaged(reason),
        other => other,
    })?;
    match tensors.keys().next() {
        Some(extra) => Err(damaged(format!("`{extra}` belongs to nothing in its recipe"))),
        None => Ok((metadata, network)),
    }
}

/// The network that `metadata` describes with these tensors, which are taken; what is wrong with them comes as
/// [`AssetError::Damaged`] without a path.
pub fn assemble(
    metadata: &AdapterMetadata,
    tensors: &mut BTreeMap<String, Tensor<3>>,
    cache: &ModelCache,
) -> Result<Network, TrainError> {
    let damaged = |reason: String| TrainError::damaged(std::path::PathBuf::new(), reason);
    let plan = stack_plan(&metadata.plan, &metadata.cell, cache)?;
    let mut network = cache.network(&metadata.plan, &[(plan.with_given_values(), vec![metadata.outputs])])?;
    if metadata.drawn.is_some() && metadata.drawn != drawn(&network) {
        return Err(damaged(
            "its frozen tensors are not saved, and here they are not what they were in training: another build draws \
             others from its seed, and a base in another precision has another decomposition"
                .to_owned(),
        ));
    }
    for NamedParam { name, mut param, .. } in network.parameters(0) {
        let tensor = tensors.remove(&name).ok_or_else(|| damaged(format!("`{name}` is missing")))?;
        if tensor.dims() != param.tensor.dims() {
            return Err(damaged(format!(
                "`{name}` is {:?}, but the recipe says {:?}",
                tensor.dims(),
                param.tensor.dims()
            )));
        }
        param.tensor.set(tensor);
    }
    Ok(network)
}

/// The cell that trained an adapter.
pub fn cell(metadata: &AdapterMetadata) -> Cell {
    Cell { id: metadata.cell.clone(), recipe: metadata.plan.clone(), diff: serde_json::Value::Null }
}
