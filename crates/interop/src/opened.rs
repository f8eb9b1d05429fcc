//! An adapter on its base, whether this program wrote it or PEFT did.

use std::path::Path;

use models::network::Network;
use trainer::{
    adapter::{self, AdapterMetadata},
    error::TrainError,
    model_cache::ModelCache,
};

use crate::{
    length,
    peft::{
        self,
        import::{ImportRequest, Purpose},
    },
};

/// An adapter that can be read out.
pub(crate) struct Opened {
    /// Its recipe, with the length of a row that counts here.
    pub(crate) metadata: AdapterMetadata,
    /// Base, adapter and head.
    pub(crate) network: Network,
    /// What is worth knowing.
    pub(crate) notes: Vec<String>,
}

/// Which adapter, on which base, for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// A run's folder or file, or a folder that PEFT wrote (or the weights inside one).
    pub(crate) path: &'a Path,
    /// The base, if not where it was in training.
    pub(crate) model: Option<&'a str>,
    /// The task of a folder that PEFT wrote and that does not know it.
    pub(crate) purpose: Option<&'a Purpose>,
    /// Tokens of a row at most; by default what the recipe says, or all that the base allows.
    pub(crate) max_length: Option<usize>,
}

/// Opens an adapter.
pub(crate) fn open(wanted: Wanted<'_>, cache: &ModelCache) -> Result<Opened, TrainError> {
    let Wanted { path, model, purpose, max_length } = wanted;
    // The weights inside a folder of PEFT stand for it.
    if let Some(folder) = peft::folder(path) {
        let request = ImportRequest { folder: &folder, model, purpose: purpose.cloned(), max_length };
        let imported = peft::import::import(&request, cache)?;
        return Ok(Opened { metadata: imported.metadata, network: imported.network, notes: imported.notes });
    }
    if purpose.is_some() {
        let reason = "knows its task; leave out `--task`".to_owned();
        return Err(TrainError::foreign(path, reason));
    }
    let (mut metadata, network) = adapter::load_on(&adapter::resolve(path)?, model, cache)?;
    let longest = network.backbone.config().longest();
    metadata.plan.train.max_length = length::limit(max_length, Some(metadata.plan.train.max_length), longest)
        .map_err(|reason| TrainError::foreign(path, reason))?;
    let notes = cache.base(&metadata.plan.model)?.said_of(&metadata.plan.model);
    Ok(Opened { metadata, network, notes })
}
