//! Adapters in the format of Hugging Face PEFT: a folder with `adapter_config.json` and `adapter_model.safetensors`.
//!
//! A LoRA in that format has per map `lora_A.weight` `[r, d_in]` and `lora_B.weight` `[d_out, r]` under
//! `base_model.model.<map>`, and the scale is `lora_alpha/r`, or `lora_alpha/√r` with `use_rslora`; `rank_pattern` and
//! `alpha_pattern` replace both for maps whose name ends in the key or matches it as a regular expression; the first key of the file that
//! does counts.

use std::path::{Path, PathBuf};
use trainer::error::TrainError;

mod config;
pub mod export;
pub mod import;
mod layout;
pub mod read;
pub mod write;

pub use config::Base;
pub(crate) use config::task_type;
pub use read::read;

pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts in front of a model's own names.
pub(crate) const WRAPPED: &str = "base_model.model.";

/// Starts that subtract their first product from the base: `s·B·A` of such an adapter is not the change of the weights.
const RESIDUAL_STARTS: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

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
    std::fs::read(path).map_err(|source| TrainError::io(path.to_owned(), source))
}
