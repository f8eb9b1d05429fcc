//! Where a run starts, and what an adapter file says of itself.
//!
//! A run that starts from an adapter needs every tensor of it that trains, so the two recipes must agree on whatever gives these tensors
//! their names and shapes; heads may differ.

use std::path::Path;

use assets::{error::AssetError, tensor_file};
use record::{CellId, adapter_file};
use serde::{Deserialize, Serialize};

use crate::cell::Recipe;
pub use crate::cell::StartFrom;

/// What the file says beside its tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdapterMetadata {
    /// Place in the grid.
    pub cell: CellId,
    /// Composition, targets, scale, seeds: the whole recipe.
    pub plan: Recipe,
    /// Outputs of the head.
    pub outputs: usize,
    /// Hash of the base it was trained on.
    pub model_hash: String,
    /// SHA-256 over frozen tensors that are drawn from a seed of the recipe and not saved (VeRA's pair), where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn: Option<String>,
}

/// What keeps a run with `plan` from starting at this adapter; nothing is loaded onto a device.
pub fn check(written: &str, plan: &Recipe) -> Result<(), AssetError> {
    let path = adapter_file(Path::new(written));
    let metadata = metadata(&path)?;
    fits(&metadata.plan, plan).map_err(|reason| AssetError::Foreign { path, reason })
}

/// What an adapter file says of itself; none of its tensors goes onto a device.
fn metadata(path: &Path) -> Result<AdapterMetadata, AssetError> {
    let (_, text) = tensor_file::read(path, "adapter")?;
    serde_json::from_str(&text).map_err(|error| AssetError::Foreign {
        path: path.to_owned(),
        reason: format!("not an adapter of this program: {error}"),
    })
}

fn describe(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Whether the tensors of two plans are the same but for the head.
pub fn fits(source: &Recipe, plan: &Recipe) -> Result<(), String> {
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
        ("exclude_modules", describe(&source.modules.exclude_modules), describe(&plan.modules.exclude_modules)),
        (
            "layers_to_transform",
            describe(&source.modules.layers_to_transform),
            describe(&plan.modules.layers_to_transform),
        ),
        ("layers_pattern", describe(&source.modules.layers_pattern), describe(&plan.modules.layers_pattern)),
        ("rank_pattern", describe(&source.modules.rank_pattern), describe(&plan.modules.rank_pattern)),
        ("modules_to_save", describe(&source.modules.modules_to_save), describe(&plan.modules.modules_to_save)),
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
