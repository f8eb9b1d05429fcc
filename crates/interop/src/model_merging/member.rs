//! An adapter as an input of model merging: what it does to every map that PEFT knows, its head, its base.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use lowrank::{LowRank, Update};
use models::{
    config::{Config as Architecture, MapKind},
    network::NamedParam,
};
use nalgebra::DMatrix;
use variants::{adapted::AdaptedLinear, pass::Active, role::Role};

use super::{Input, foreign};
use crate::{
    head::{self, WholeTensor},
    peft::{self, Base, Read, task_type, write::Config},
    update::{self, MapUpdate, Updates},
};
use trainer::{adapter, error::TrainError, model_cache::ModelCache};

/// One adapter, read.
#[derive(Default)]
pub(super) struct Member {
    pub(super) shown: String,
    pub(super) weight: f64,
    /// By the name of a map that PEFT knows.
    pub(super) maps: BTreeMap<String, Update>,
    /// The maps of its base, where that is at hand.
    pub(super) known: Option<BTreeSet<String>>,
    /// The hash of its base, where it is known.
    pub(super) hash: Option<String>,
    /// What the folder says of its base and task.
    pub(super) config: Config,
    pub(super) head: Vec<WholeTensor>,
    /// What of it is neither a map's update nor a head.
    pub(super) left_out: Vec<String>,
    /// What is worth knowing of its files.
    pub(super) notes: Vec<String>,
}

impl Member {
    /// Reads a run's adapter or a folder that PEFT wrote.
    pub(super) fn read(input: &Input, cache: &ModelCache) -> Result<Self, TrainError> {
        let path = &input.path;
        let (updates, member) = match peft::folder(path) {
            Some(folder) => of_peft(&folder)?,
            None => of_run(path, cache)?,
        };
        let architecture = updates.metadata.as_ref().map(|metadata| cache.base(&metadata.plan.model)).transpose()?;
        let architecture = architecture.map(|base| base.backbone.config());
        let known = architecture.as_ref().map(|config| config.maps().into_keys().collect());
        let maps = whole_maps(updates.maps, architecture.as_ref());
        if maps.is_empty() {
            return Err(foreign(path, "changes no linear map, so there is nothing to combine".to_owned()));
        }
        Ok(Self { shown: path.display().to_string(), weight: input.weight, maps, known, ..member })
    }
}

/// Updates, head, base and the rest of a folder that PEFT wrote.
fn of_peft(folder: &Path) -> Result<(Updates, Member), TrainError> {
    let Read { updates, config, head, left_out } = peft::read_whole(folder)?;
    let notes = updates.notes.clone();
    Ok((updates, Member { config, head, left_out, notes, ..Member::default() }))
}

/// Updates, head, base and the rest of a run's adapter.
fn of_run(path: &Path, cache: &ModelCache) -> Result<(Updates, Member), TrainError> {
    let updates = update::read(path, cache)?;
    let (metadata, mut network) = adapter::load(&adapter::resolve(path)?, cache)?;
    let architecture = network.backbone.config();
    let maps: BTreeSet<String> = network.backbone.linears().iter().map(|map| map.name().to_owned()).collect();
    let scaled = |map: &&AdaptedLinear| map.is_adapted(0) && map.bias_gain(0, &Active::All).is_some();
    let scaled = network.backbone.linears().into_iter().filter(scaled);
    let mut left_out: Vec<String> = scaled.map(|map| format!("the scaled bias of `{}`", map.name())).collect();
    for NamedParam { slot, name, param, .. } in network.parameters(0) {
        // What maps own together is in the update of each.
        let is_own = !slot.is_empty() && param.owner.is_none();
        if is_own && (!maps.contains(&slot) || param.role == Role::Bias) {
            left_out.push(format!("`{name}`"));
        }
    }
    let mut head = head::tensors(&mut network);
    head.sort_by(|a, b| a.name.cmp(&b.name));
    let config = Config {
        base: Base::of(&metadata.plan.model),
        task_type: Some(task_type(metadata.plan.text().is_some()).to_owned()),
        prefix: architecture.base_prefix().to_owned(),
        fan_in_fan_out: architecture.stores_inputs_first(),
    };
    Ok((updates, Member { hash: Some(metadata.model_hash), config, head, left_out, ..Member::default() }))
}

/// Updates of whole maps: those of a fused map's parts go to their columns of it.
fn whole_maps(maps: BTreeMap<String, MapUpdate>, architecture: Option<&Architecture>) -> BTreeMap<String, Update> {
    let known = architecture.map(Architecture::maps).unwrap_or_default();
    let mut all: BTreeMap<String, Update> = BTreeMap::new();
    for (name, MapUpdate { update, .. }) in maps {
        let Some(MapKind::Part(whole)) = known.get(&name).map(|map| &map.kind) else {
            all.insert(name, update);
            continue;
        };
        let parts = architecture.and_then(|config| config.parts(whole)).unwrap_or_default();
        let at = parts.iter().position(|part| *part == name);
        let at = at.unwrap_or_else(|| unreachable!("a part is one of its fused map's"));
        let part = widened(&update, at * update.shape().1, known[whole].shape[1]);
        let sum = match all.remove(whole) {
            Some(before) => Update::weighted_sum(&[(1.0, &before), (1.0, &part)]),
            None => part,
        };
        all.insert(whole.clone(), sum);
    }
    all
}

/// The update at columns `from..` of a map with `width` outputs.
fn widened(update: &Update, from: usize, width: usize) -> Update {
    let wide = |matrix: &DMatrix<f64>| {
        let mut all = DMatrix::zeros(matrix.nrows(), width);
        all.columns_mut(from, matrix.ncols()).copy_from(matrix);
        all
    };
    match update {
        Update::LowRank(product) => Update::LowRank(
            LowRank::new(product.down().clone(), wide(product.up()))
                .unwrap_or_else(|_| unreachable!("zeros beside a factor keep it one")),
        ),
        Update::Dense(matrix) => Update::Dense(wide(matrix)),
    }
}
