//! Tables of measures: the adapters of a study, measured by [`crate::subspace`]. This module decides which runs and maps are measured or
//! compared, and which rows each table has.
//!
//! | table | one row per | measures |
//! |---|---|---|
//! | [`pair::phi_rows`], [`pair::angle_rows`] | map of two adapters, and cut or angle | `φ(i, j)`; principal angles, projection distance |
//! | [`overlap::rows`] | pair of runs, map, side and cut | `φ(i, j)` beside its random mean and band |
//! | [`across::rows`] | pair of layers, tasks, variants or checkpoints, map, side and cut | `φ(k, k)` beside its random mean and band |
//! | [`heatmap::rows`] | map and cut | `W` against `ΔW`, appendix H.3 |
//! | [`projection::rows`] | run and map | LoRA's table 7 |
//! | [`seeds::rows`] | map and cut | overlap of seeds with its interval, difference of kinds |
//! | [`random_column::rows`] | map and number of directions | table 7's random column against its closed form |
//! | [`magnitude_direction::correlations`] | run | correlation of `ΔM` and `ΔD` |
//! | [`spectrum::rows`] | run and map | spectrum of `ΔW`, intruder dimensions |
//! | [`spectrum::directions`] | run, map and direction | singular value and share of the energy |
//! | [`magnitude_direction::rows`] | run, map and snapshot | `ΔM`, `ΔD`, distance to the end |
//! | [`captured_energy::rows`] | pair of a frozen factor and a full update | share of the update in the factor's span |
//!
//! Maps that a run left untouched (rank 0, as after pruning) have no directions; they have no rows.

use std::{collections::BTreeMap, sync::Arc};

use lowrank::Update;
use nalgebra::DMatrix;
use record::CellId;
use serde::Serialize;

use crate::subspace::{
    Side, SubspaceError,
    basis::Basis,
    factored::{SingularDirections as _, Svd, factor_basis},
};

pub mod across;
mod bases;
pub mod captured_energy;
pub mod frame;
pub mod heatmap;
mod known;
pub mod magnitude_direction;
pub mod overlap;
pub mod pair;
pub mod projection;
pub mod random_column;
pub mod seeds;
pub mod spectrum;
pub mod study;

/// The adapter of one run: its updates, and what the tables need to know of the run.
#[derive(Clone, Debug)]
pub struct AdapterSample {
    /// Name in messages.
    pub name: String,
    /// Its place in the grid.
    pub cell: CellId,
    /// Whether the factor on the inputs never trains, as LoRA-FA's and VeRA's.
    pub frozen_inputs: bool,
    /// Whether the base itself trains, as in full fine-tuning.
    pub trains_base: bool,
    /// Identity of the base; empty where it is not known.
    pub base_hash: String,
    /// Its maps, by name.
    pub maps: BTreeMap<String, Map>,
    /// `ΔW` of every map at steps of the training.
    pub snapshots: BTreeMap<u64, BTreeMap<String, Update>>,
}

/// One map of one run.
#[derive(Clone, Debug)]
pub struct Map {
    /// `W0`, `[d_in, d_out]`, which the adapters of one base share; none where the base is not known.
    pub base: Option<Arc<DMatrix<f64>>>,
    /// `ΔW`, `[d_in, d_out]`.
    pub update: Update,
}

/// What could not be measured, and where.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// A measure is not defined on a map.
    #[error("`{sample}`, map `{map}`: {source}")]
    Measure {
        /// Run or pair of runs.
        sample: String,
        /// The map.
        map: String,
        /// Why.
        source: SubspaceError,
    },
    /// Two adapters have no map in common.
    #[error(
        "`{first}` and `{second}` share no map; `{first}` has {}, `{second}` has {}",
        names(first_maps),
        names(second_maps)
    )]
    NothingShared {
        /// One adapter.
        first: String,
        /// Its maps.
        first_maps: Vec<String>,
        /// The other.
        second: String,
        /// Its maps.
        second_maps: Vec<String>,
    },
    /// Two adapters belong to different bases.
    #[error(
        "`{first}` and `{second}` were trained on different bases ({first_base} and {second_base}); compare adapters of one base"
    )]
    OtherBase {
        /// One adapter.
        first: String,
        /// Its base.
        first_base: String,
        /// The other.
        second: String,
        /// Its base.
        second_base: String,
    },
    /// A side needs factors, but the update is dense.
    #[error(
        "`{sample}`, map `{map}`: side `{side}` is a factor's, but this update has no factors; use `delta-input` or `delta-output`"
    )]
    NoFactors {
        /// Run or pair of runs.
        sample: String,
        /// The map.
        map: String,
        /// The side.
        side: &'static str,
    },
}

/// The first few of many names.
fn names(all: &[String]) -> String {
    let shown: Vec<String> = all.iter().take(3).map(|name| format!("`{name}`")).collect();
    let more = if all.len() > 3 { format!(" and {} more", all.len() - 3) } else { String::new() };
    shown.join(", ") + &more
}

/// Whose directions are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Directions {
    /// The factor on the inputs, the paper's `A`.
    A,
    /// The factor on the outputs, the paper's `B`.
    B,
    /// `ΔW` in the input space: the paper's right singular vectors.
    DeltaInput,
    /// `ΔW` in the output space: the paper's left singular vectors.
    DeltaOutput,
}

impl Directions {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::A, Self::B, Self::DeltaInput, Self::DeltaOutput];

    /// As written in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::DeltaInput => "delta-input",
            Self::DeltaOutput => "delta-output",
        }
    }

    /// The directions of one map; none where it has rank 0.
    pub fn of(self, update: &Update, sample: &str, map: &str) -> Result<Option<Basis>, MeasureError> {
        let found = match (self, update) {
            (Self::A, Update::LowRank(product)) => factor_basis(product, Side::Input),
            (Self::B, Update::LowRank(product)) => factor_basis(product, Side::Output),
            (Self::A | Self::B, Update::Dense(_)) => {
                return Err(MeasureError::NoFactors {
                    sample: sample.to_owned(),
                    map: map.to_owned(),
                    side: self.name(),
                });
            }
            (Self::DeltaInput, update) => update.svd().map(|svd| svd.basis(Side::Input)),
            (Self::DeltaOutput, update) => update.svd().map(|svd| svd.basis(Side::Output)),
        };
        trained(found, sample, map)
    }
}

impl AdapterSample {
    /// Whether every map's update is a product of factors.
    pub fn is_factored(&self) -> bool {
        self.maps.values().all(|map| matches!(map.update, Update::LowRank(_)))
    }
}

/// A map's layer, where its name has a number, and what it is within the layer.
pub fn place(map: &str) -> (Option<usize>, String) {
    let parts: Vec<&str> = map.split('.').collect();
    let Some(at) = parts.iter().position(|part| part.parse::<usize>().is_ok()) else { return (None, map.to_owned()) };
    let rest: Vec<&str> =
        parts[at + 1..].iter().copied().filter(|part| !["attention", "self"].contains(part)).collect();
    // Two maps of a layer are called `output.dense`; the attention's keeps its prefix.
    let kind = if parts[at + 1..].starts_with(&["attention", "output"]) {
        format!("attention.{}", rest.join("."))
    } else {
        rest.join(".")
    };
    (parts[at].parse().ok(), kind)
}

/// One map of one run.
struct RunMap<'a> {
    sample: &'a AdapterSample,
    name: &'a str,
    map: &'a Map,
}

/// Every map of every run, runs in their order and maps by name: the rows of a table with one row per run and map.
fn per_run_and_map<'a>(samples: impl IntoIterator<Item = &'a AdapterSample>) -> impl Iterator<Item = RunMap<'a>> {
    let maps = |sample: &'a AdapterSample| sample.maps.iter().map(move |(name, map)| RunMap { sample, name, map });
    samples.into_iter().flat_map(maps)
}

impl RunMap<'_> {
    /// The SVD of the map's update; none where it has rank 0.
    fn svd(&self) -> Result<Option<Svd>, MeasureError> {
        trained(self.map.update.svd(), &self.sample.name, self.name)
    }

    /// The error that names this run and map.
    fn failed(&self, source: SubspaceError) -> MeasureError {
        MeasureError::Measure { sample: self.sample.name.clone(), map: self.name.to_owned(), source }
    }
}

/// The value of a measure; none where the map has rank 0.
fn trained<T>(found: Result<T, SubspaceError>, sample: &str, map: &str) -> Result<Option<T>, MeasureError> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(SubspaceError::RankZero { .. }) => Ok(None),
        Err(source) => Err(MeasureError::Measure { sample: sample.to_owned(), map: map.to_owned(), source }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
