//! Any trained update as a plain LoRA in PEFT's format, approximated at a rank.

use std::path::Path;

use trainer::{adapter, error::TrainError, model_cache::ModelCache};

use crate::{
    model_merging::{CombineReport, CombineRequest, Input, combine, methods::Method},
    peft,
};

/// Writes the best approximation of rank `rank` of the adapter at `path`, with its classification head; the report says what each map
/// lost.
pub fn as_lora(
    path: &Path,
    rank: usize,
    out: &Path,
    force: bool,
    cache: &ModelCache,
) -> Result<CombineReport, TrainError> {
    if peft::is_folder(path) {
        let reason =
            "is a PEFT folder already; `lora-lab combine FOLDER --method svd --rank R` approximates its update";
        return Err(TrainError::foreign(path, reason.to_owned()));
    }
    let (metadata, _) = adapter::load(&adapter::resolve(path)?, cache)?;
    let inputs = [Input { path: path.to_owned(), weight: 1.0 }];
    let head = metadata.plan.text().is_none().then_some(path);
    let method = Method::Svd { rank };
    combine(
        &CombineRequest { inputs: &inputs, method, head, target: None, out, force, command: peft::export::COMMAND },
        cache,
    )
}
