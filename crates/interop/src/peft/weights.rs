//! `adapter_model.safetensors`: every tensor under the name that PEFT means.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use models::safetensors::{self, TensorView};
use trainer::error::TrainError;

use super::{WEIGHTS, bytes};
use crate::output::changed;

/// The older file, a pickle.
const PICKLE: &str = "adapter_model.bin";

/// What `torch.compile` puts into the names of a compiled module.
const COMPILED: &str = "_orig_mod.";

/// The file of weights.
#[derive(Debug)]
pub(super) struct WeightsFile {
    pub(super) path: PathBuf,
    bytes: Vec<u8>,
    /// What to say where this program wrote the file and it is another now.
    changed: Option<String>,
}

impl WeightsFile {
    /// Reads a folder's file.
    pub(super) fn read(folder: &Path) -> Result<Self, TrainError> {
        let (path, pickle) = (folder.join(WEIGHTS), folder.join(PICKLE));
        if !path.exists() && pickle.exists() {
            return Err(TrainError::foreign(
                pickle,
                format!(
                    "is a pickle, which can run any code and is not read; {WEIGHTS} is missing. Where you trust it, write that with \
                     `safetensors.torch.save_file(torch.load(\"{PICKLE}\", weights_only=True), \"{WEIGHTS}\")`, or with PEFT's \
                     `save_pretrained(FOLDER, safe_serialization=True)`"
                ),
            ));
        }
        let bytes = bytes(&path)?;
        Ok(Self { changed: changed(folder, WEIGHTS, &bytes), bytes, path })
    }

    /// Every tensor by its name without what a compiled model puts there.
    pub(super) fn tensors(&self, notes: &mut Vec<String>) -> Result<BTreeMap<String, TensorView<'_>>, TrainError> {
        let foreign = |reason: String| TrainError::foreign(self.path.clone(), reason);
        let file = safetensors::read(&self.bytes).map_err(|error| foreign(format!("not safetensors: {error}")))?;
        if let Some((name, view)) = file.tensors.iter().find(|(_, view)| view.shape().contains(&0)) {
            return Err(foreign(format!(
                "`{name}` is {:?}, so it has no numbers: DeepSpeed ZeRO-3 leaves that where weights were saved without being gathered; \
                 train with `stage3_gather_16bit_weights_on_model_save`, or gather them with `zero_to_fp32.py`, and save again",
                view.shape()
            )));
        }
        notes.extend(self.changed.clone());
        let (mut tensors, mut compiled) = (BTreeMap::new(), 0);
        for (name, view) in file.tensors {
            let plain = name.replace(COMPILED, "");
            compiled += usize::from(plain != name);
            if tensors.insert(plain, view).is_some() {
                return Err(foreign(format!("`{name}` is there with `{COMPILED}` and without; keep one of the two")));
            }
        }
        if compiled > 0 {
            notes.push(format!("`{COMPILED}` of torch.compile is taken off the names of {compiled} tensors"));
        }
        Ok(tensors)
    }
}
