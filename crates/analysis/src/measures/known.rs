//! What the measures need of the maps of a base, computed once however many adapters share it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use nalgebra::DMatrix;

use crate::subspace::{
    SubspaceError,
    factored::Svd,
    top::{TopOptions, top},
};

/// The maps of bases that were measured so far.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<usize, KnownMap>);

/// One of them.
#[derive(Debug)]
pub(super) struct KnownMap {
    /// `W0`, `[d_in, d_out]`; held, so that no other map takes its address.
    weight: Arc<DMatrix<f64>>,
    norm: f64,
    whole: Option<Svd>,
    leading: BTreeMap<usize, Svd>,
}

impl Known {
    /// What is known of a map; maps are told apart by where they lie in memory.
    pub(super) fn of(&mut self, weight: &Arc<DMatrix<f64>>) -> &mut KnownMap {
        self.0.entry(Arc::as_ptr(weight).addr()).or_insert_with(|| KnownMap {
            weight: Arc::clone(weight),
            norm: weight.norm(),
            whole: None,
            leading: BTreeMap::new(),
        })
    }
}

impl KnownMap {
    /// `‖W0‖_F`.
    pub(super) fn norm(&self) -> f64 {
        self.norm
    }

    /// Every singular triplet.
    pub(super) fn whole(&mut self) -> Result<&Svd, SubspaceError> {
        if self.whole.is_none() {
            self.whole = Some(Svd::full(&self.weight)?);
        }
        Ok(self.whole.as_ref().unwrap_or_else(|| unreachable!("it was computed above")))
    }

    /// The leading `count` triplets, for their singular values.
    pub(super) fn leading(&mut self, count: usize) -> Result<&Svd, SubspaceError> {
        match self.leading.entry(count) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(top(&self.weight, count, TopOptions::values())?.svd)),
        }
    }
}
