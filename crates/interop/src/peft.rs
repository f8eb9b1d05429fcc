//! Adapters in the format of Hugging Face PEFT: a folder with `adapter_config.json` and `adapter_model.safetensors`.
//!
//! A LoRA in that format has per map `lora_A.weight` `[r, d_in]` and `lora_B.weight` `[d_out, r]` under
//! `base_model.model.<map>`, and the scale is `lora_alpha/r`, or `lora_alpha/√r` with `use_rslora`; `rank_pattern` and
//! `alpha_pattern` replace both for maps whose name matches the key; the first key of the file that does counts.
//!
//! Every reader goes through `said::Opened`, which refuses a configuration whose fields ask for what is not done here.

use std::path::{Path, PathBuf};
use trainer::error::TrainError;

pub mod card;
mod config;
pub mod export;
mod fields;
pub mod import;
mod layout;
pub mod read;
mod said;
mod values;
mod weights;
pub mod write;

pub use config::Base;
pub(crate) use config::task_type;
pub use read::read;
pub(crate) use read::{Read, read_whole};

pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts in front of a model's own names.
pub(crate) const WRAPPED: &str = "base_model.model.";

/// Whether PEFT wrote this folder.
pub fn is_folder(path: &Path) -> bool {
    path.join(CONFIG).is_file()
}

/// The folder that PEFT wrote, where it is named by itself or by the weights inside it.
pub fn folder(path: &Path) -> Option<PathBuf> {
    if is_folder(path) {
        return Some(path.to_owned());
    }
    path.parent().filter(|folder| path.is_file() && is_folder(folder)).map(Path::to_owned)
}

pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, TrainError> {
    assets::file::read(path).map_err(|source| TrainError::io(path.to_owned(), source))
}
