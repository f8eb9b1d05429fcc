//! What a trained adapter does to each map, as plain numbers: the way from tensors to the analysis.

use std::{collections::BTreeMap, path::Path};

use variants::{adapted::Canonical, host::values, pass::Active};

use crate::peft;
use trainer::{adapter, adapter::AdapterMetadata, error::TrainError, model_cache::ModelCache};

/// The change of one map.
#[derive(Clone, Debug, PartialEq)]
pub struct MapUpdate {
    /// Inputs.
    pub d_in: usize,
    /// Outputs.
    pub d_out: usize,
    /// `W0` row-major, `[d_in, d_out]`, where the base is at hand.
    pub base: Option<Vec<f64>>,
    /// What became of it.
    pub change: Change,
}

/// The change itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// `ΔW = down·up`, the scale (and a diagonal, where the method has one) folded in.
    LowRank {
        /// Width between the factors.
        rank: usize,
        /// Row-major, `[d_in, rank]`.
        down: Vec<f64>,
        /// Row-major, `[rank, d_out]`.
        up: Vec<f64>,
    },
    /// `W'` itself, row-major, `[d_in, d_out]`: methods whose update is not low-rank.
    Dense(Vec<f64>),
}

/// Every changed map of one adapter.
#[derive(Clone, Debug)]
pub struct Updates {
    /// How to call it in a table.
    pub name: String,
    /// The recipe of an adapter of this program; `None` for a foreign one.
    pub metadata: Option<AdapterMetadata>,
    /// By full name of the map, without the prefix of a model with a head.
    pub maps: BTreeMap<String, MapUpdate>,
}

/// Reads an adapter: a run's folder or `.safetensors` file of this program, or a folder that PEFT wrote.
pub fn read(path: &Path, cache: &ModelCache) -> Result<Updates, TrainError> {
    if peft::is_folder(path) {
        return peft::read(path);
    }
    // The weights inside such a folder stand for it.
    if let Some(folder) = path.parent().filter(|folder| path.is_file() && peft::is_folder(folder)) {
        return peft::read(folder);
    }
    let file = if path.is_dir() { path.join("adapter.safetensors") } else { path.to_owned() };
    if !file.is_file() {
        return Err(TrainError::NoAdapter { path: path.to_owned() });
    }
    let (metadata, network) = adapter::load(&file, cache)?;
    let mut maps = BTreeMap::new();
    for map in network.backbone.linears() {
        let Some(canonical) = map.canonical(0, &Active::All) else { continue };
        let [d_in, d_out] = map.shape();
        let change = match canonical {
            Canonical::LowRank(factors) => {
                let [_, _, rank] = factors.down.dims();
                Change::LowRank { rank, down: values(&factors.down), up: values(&factors.up) }
            }
            Canonical::Dense(weight) => Change::Dense(values(&weight)),
        };
        let base = Some(values(&map.base().0));
        maps.insert(map.name().to_owned(), MapUpdate { d_in, d_out, base, change });
    }
    Ok(Updates { name: metadata.cell.to_string(), metadata: Some(metadata), maps })
}
