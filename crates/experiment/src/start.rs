//! Where a run starts, and what an adapter file says of itself.
//!
//! A run that starts from an adapter needs every tensor of it that trains, so the two recipes must agree on whatever gives these tensors
//! their names and shapes, and on the scale of every map's update, which would otherwise begin at a multiple of the source's; heads may
//! differ.

use std::path::Path;

use assets::{error::AssetError, tensor_file};
use models::config::Config;
use record::{CellId, adapter_file};
use serde::{Deserialize, Serialize};
use variants::{capability::Capability, slot::MapPlan, spec::VariantSpec};

use crate::cell::Recipe;
pub use crate::cell::StartFrom;
use crate::located;

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
    /// The step of a snapshot; none of what a run ended with, nor of snapshots of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
}

/// What keeps a run with `plan` from starting at this adapter; nothing is loaded onto a device.
pub fn check(written: &str, plan: &Recipe) -> Result<(), AssetError> {
    let path = adapter_file(Path::new(written));
    let metadata = metadata(&path)?;
    fits(&metadata.plan, plan).map_err(|reason| AssetError::Foreign { path, reason })
}

/// Adapters of earlier tasks that an adapter is beside.
pub(crate) fn adapters_of(written: &str) -> Result<usize, AssetError> {
    Ok(metadata(&adapter_file(Path::new(written)))?.plan.variant.base_update.adapters())
}

/// What an adapter file says of itself; none of its tensors goes onto a device.
fn metadata(path: &Path) -> Result<AdapterMetadata, AssetError> {
    let (_, text) = tensor_file::read(path, "adapter")?;
    AdapterMetadata::of_file(&text, path).map_err(|error| AssetError::Foreign {
        path: path.to_owned(),
        reason: format!("not an adapter of this program: {error}"),
    })
}

impl AdapterMetadata {
    /// What an adapter's file says, with the paths of its recipe where they are: the study that it lies in knows what they are relative
    /// to. Without one they are relative to the present folder.
    pub fn of_file(text: &str, file: &Path) -> serde_json::Result<Self> {
        let read: Self = serde_json::from_str(text)?;
        Ok(match located::root_of_study(file) {
            Some(root) => Self { plan: read.plan.under(&root), ..read },
            None => read,
        })
    }
}

fn describe(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// A delta or a combine without what concerns the training alone: the direction of weight decay is the new run's own.
fn form(part: &impl Serialize) -> serde_json::Value {
    let mut form = describe(part);
    if let Some(fields) = form.as_object_mut() {
        fields.remove("weight_decay_toward");
    }
    form
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
        (
            "trainable_token_indices",
            describe(&source.modules.trainable_token_indices),
            describe(&plan.modules.trainable_token_indices),
        ),
    ] {
        if theirs != ours {
            return Err(format!("its {what} is `{theirs}`, but the run that starts from it has `{ours}`"));
        }
    }
    rule(source.variant.rank == plan.variant.rank, "rank", &source.variant.rank, &plan.variant.rank)?;
    let (theirs, ours) = (&source.variant, &plan.variant);
    rule(form(&theirs.delta) == form(&ours.delta), "delta", &theirs.delta, &ours.delta)?;
    rule(form(&theirs.combine) == form(&ours.combine), "combine", &theirs.combine, &ours.combine)?;
    // One that keeps the source beside it asks for no places in the source.
    let (kept, asked) = (theirs.base_update.adapters() + 1, ours.base_update.adapters());
    let keeps = ours.lacks(&[Capability::PreviousAdapters]).is_none();
    if keeps && kept != asked {
        return Err(format!(
            "it and the adapters that it is beside are {kept}, but the run that starts from it is beside {asked}"
        ));
    }
    for (whose, variant) in [("it", theirs), ("the run that starts from it", ours)] {
        let is_kept =
            keeps && (variant.base_update.is_none() || variant.lacks(&[Capability::PreviousAdapters]).is_none());
        if !is_kept && variant.lacks(&[Capability::ConstantBase]).is_some_and(|_| variant.delta.is_some()) {
            return Err(format!(
                "{whose} has `base_update: {{kind: {}}}`, whose places are for the deltas of one run; start from the base that `lora-lab \
                 merge` makes of it",
                variant.base_update.declaration().kind
            ));
        }
    }
    rule(source.variant.base == plan.variant.base, "base", &source.variant.base, &plan.variant.base)?;
    rule(source.variant.bias == plan.variant.bias, "bias", &source.variant.bias, &plan.variant.bias)?;
    same_scales(source, plan)
}

/// Refuses a plan under which the source's factors would be another update. Plans differ in nothing else that concerns their maps.
fn same_scales(source: &Recipe, plan: &Recipe) -> Result<(), String> {
    let given = |recipe: &Recipe| {
        let VariantSpec { alpha, scaling, .. } = recipe.variant;
        (alpha, scaling, recipe.modules.alpha_pattern.clone())
    };
    if plan.variant.delta.is_none() || given(source) == given(plan) {
        return Ok(());
    }
    // Where the rank in use changes, the scales of every rank must agree; those of two ranks tell.
    let varies = [source, plan].iter().any(|recipe| recipe.variant.lacks(&[Capability::ConstantRank]).is_some());
    for (map, rank, [theirs, ours]) in alphas(source, plan) {
        for rank in [rank, 1].into_iter().take(if varies { 2 } else { 1 }) {
            let (was, is) = (source.variant.scaling.at(theirs, rank), plan.variant.scaling.at(ours, rank));
            if (was - is).abs() > 1e-9 * was.abs() {
                let map = map.map(|map| format!(" of `{map}`")).unwrap_or_default();
                return Err(format!(
                    "its scale{map} at rank {rank} is {was} (alpha {theirs}), but the run that starts from it has {is} (alpha {ours}), so \
                     that it would begin at another update than the source ended with; give both the same alpha, scaling and alpha_pattern"
                ));
            }
        }
    }
    Ok(())
}

/// Rank of every map, with `α` of the source and of the plan; those that maps share where the model's configuration is not here yet.
fn alphas(source: &Recipe, plan: &Recipe) -> Vec<(Option<String>, usize, [f64; 2])> {
    let select = |recipe: &Recipe, config: &Config| recipe.modules.select(Some(&recipe.targets), config).ok();
    let selected = assets::source::config(&plan.model).ok().flatten();
    let selected = selected.and_then(|config| Some((select(source, &config)?, select(plan, &config)?)));
    let Some((from, to)) = selected else {
        let own = [source, plan].iter().any(|recipe| !recipe.modules.alpha_pattern.is_empty());
        let shared = (None, plan.variant.rank, [source.variant.alpha, plan.variant.alpha]);
        // Which maps have their own is known when the run starts.
        return if own || !plan.modules.rank_pattern.is_empty() { Vec::new() } else { vec![shared] };
    };
    let one = |map: &String| {
        let (theirs, ours) = (from.own.get(map), to.own.get(map));
        let rank = ours.and_then(|own| own.rank).unwrap_or(plan.variant.rank);
        let alpha =
            |own: Option<&MapPlan>, recipe: &Recipe| own.and_then(|own| own.alpha).unwrap_or(recipe.variant.alpha);
        (Some(map.clone()), rank, [alpha(theirs, source), alpha(ours, plan)])
    };
    to.maps.keys().map(one).collect()
}
