//! What a trained adapter does to each map, as matrices on the host: the way from tensors to the analysis.

use std::{cell::RefCell, collections::BTreeMap, path::Path, sync::Arc};

use lowrank::{LowRank, Update, error::UpdateError};
use nalgebra::DMatrix;
use trainer::{adapter, adapter::AdapterMetadata, error::TrainError, model_cache::ModelCache};
use variants::{
    adapted::{AdaptedLinear, Canonical},
    host::values,
    pass::Active,
};

use crate::peft;

/// The change of one map.
#[derive(Clone, Debug, PartialEq)]
pub struct MapUpdate {
    /// `W0`, `[d_in, d_out]`, where the base is at hand; the updates that one [`Reader`] reads share it.
    pub base: Option<Arc<DMatrix<f64>>>,
    /// `ΔW`; the scale (and a diagonal, where the method has one) is folded into its factors.
    pub update: Update,
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
    /// What is worth knowing of its files.
    pub notes: Vec<String>,
}

/// `W0`, `[d_in, d_out]`, by hash of the base and name of the map.
type Weights = BTreeMap<(String, String), Arc<DMatrix<f64>>>;

/// Refuses an adapter whose update depends on the token, for whatever needs one matrix per map.
pub(crate) fn mergeable(metadata: &AdapterMetadata) -> Result<(), String> {
    match metadata.plan.variant.unmergeable() {
        Some(why) => Err(format!(
            "`{}` {why}; `lora-lab eval` and `lora-lab predict` use the adapter beside its base, as it is",
            metadata.cell.variant
        )),
        None => Ok(()),
    }
}

/// Reads adapters. Those of one base share its weights, which take more memory than thousands of adapters.
#[derive(Debug)]
pub struct Reader<'a> {
    pub(crate) cache: &'a ModelCache,
    weights: RefCell<Weights>,
}

impl<'a> Reader<'a> {
    /// A reader that has read nothing yet.
    pub fn new(cache: &'a ModelCache) -> Self {
        Self { cache, weights: RefCell::default() }
    }

    /// Reads an adapter: a run's folder or `.safetensors` file of this program, or a folder that PEFT wrote.
    pub fn read(&self, path: &Path) -> Result<Updates, TrainError> {
        if let Some(folder) = peft::folder(path) {
            return peft::read(&folder);
        }
        let file = adapter::resolve(path)?;
        let (metadata, network) = adapter::load(&file, self.cache)?;
        mergeable(&metadata).map_err(|why| TrainError::foreign(file.clone(), why))?;
        let mut maps = BTreeMap::new();
        for map in network.backbone.linears() {
            let Some(canonical) = map.canonical(0, &Active::All) else { continue };
            let [d_in, d_out] = map.shape();
            let base = self.weight(&metadata.model_hash, map);
            let update = match canonical {
                Canonical::LowRank(factors) => {
                    let [_, _, width] = factors.down.dims();
                    let (down, up) =
                        (matrix(d_in, width, &values(&factors.down)), matrix(width, d_out, &values(&factors.up)));
                    Update::LowRank(LowRank::new(down, up).map_err(|error| no_update(&file, map.name(), &error))?)
                }
                Canonical::Dense(weight) => Update::Dense(matrix(d_in, d_out, &values(&weight)) - &*base),
            };
            maps.insert(map.name().to_owned(), MapUpdate { base: Some(base), update });
        }
        Ok(Updates { name: metadata.cell.to_string(), metadata: Some(metadata), maps, notes: Vec::new() })
    }

    /// `W0` of a map of the base with this hash, `[d_in, d_out]`.
    pub(crate) fn weight(&self, base: &str, map: &AdaptedLinear) -> Arc<DMatrix<f64>> {
        let mut weights = self.weights.borrow_mut();
        let weight = weights.entry((base.to_owned(), map.name().to_owned())).or_insert_with(|| {
            let [d_in, d_out] = map.shape();
            Arc::new(matrix(d_in, d_out, &values(&map.base().0)))
        });
        Arc::clone(weight)
    }
}

/// Reads one adapter; see [`Reader::read`].
pub fn read(path: &Path, cache: &ModelCache) -> Result<Updates, TrainError> {
    Reader::new(cache).read(path)
}

/// Row-major numbers as a matrix.
pub fn matrix(rows: usize, cols: usize, values: &[f64]) -> DMatrix<f64> {
    DMatrix::from_row_slice(rows, cols, values)
}

/// Why the factors of a map in a file are no update.
pub(crate) fn no_update(path: &Path, map: &str, error: &UpdateError) -> TrainError {
    TrainError::foreign(path, format!("map `{map}`: {error}"))
}
