//! A run's adapter as a folder that PEFT opens.
//!
//! | method | in PEFT |
//! |---|---|
//! | LoRA, LoRA+, LoRA-FA, rsLoRA, EVA, DyLoRA (whole, or its first components) | `LORA` |
//! | DoRA | `LORA` with `use_dora` |
//! | PiSSA, MiLoRA, OLoRA, CorDA, LoRA-GA | `LORA` of twice the rank, `s·[A − A₀, A₀]·[B; B − B₀]`; or the factors alone with the name of the start, which PEFT takes off the base again when it opens them |
//! | ReLoRA, COLA, XGBLoRA | `LORA` of `restarts + 1` times the rank, `s·[A, A₁, A₂, ..]·[B; B₁; B₂; ..]`; of `min(d_in, d_out)` where that is less |
//! | Delta-LoRA | `LORA` of twice the rank, `s·[A − A_K, A_K]·[(1 + λ)·B; (1 + λ)·B − λ·B_K]` |
//! | AdaLoRA | `ADALORA` with the components that are left |
//! | VeRA | `VERA` with its pair |
//! | `LoHa`, (IA)³, HRA, OFT, `LoKr`, `MiSS`, Bone, BOFT, C³A | the tuner that the delta declares ([`variants::peft::Tuner`]) |
//! | DeLoRA | `DELORA`, of twice the rank where its start is subtracted |
//! | GraLoRA, HiRA, VB-LoRA, SHiRA, RandLoRA | `GRALORA`, `HIRA`, `VBLORA`, `SHIRA` with its places, `RANDLORA` with its pair |
//! | any other additive update, or any at a smaller rank | the best approximation as a LoRA ([`crate::model_merging`]) |
//!
//! GPT-2's query, key and value are one map there. Adapters on parts of it are joined: their ranks are concatenated, each in its own columns
//! of `B`, zeros elsewhere, and `alpha_pattern` keeps the scale. A magnitude of a part that has none is the base's column norm.
//!
//! Numbers are copied, never recomputed, where a tensor has a place of its own there, so an export that is imported again is the same to
//! the bit. Four forms come back as the same function in other tensors: AdaLoRA without its dropped components, a start that became a
//! LoRA of twice the rank, DeLoRA's subtracted start, and parts of unlike scales, whose `B` is rounded once each way.

use std::path::{Path, PathBuf};

use models::network::Network;
use serde_json::json;
use trainer::{
    adapter::{self, AdapterMetadata},
    error::TrainError,
    model_cache::ModelCache,
};

use super::{
    CONFIG, WEIGHTS,
    card::{Reported, Subject},
    config,
};
use crate::{
    export::{Reduction, cut_to},
    output::{Guard, OutputDir, spare_base},
};

mod files;
mod form;
mod join;

pub(super) use join::column_norms;

use files::{configuration, weights};
use form::form;

/// VeRA's pair in the file.
pub(super) const PAIR: [&str; 2] = ["base_model.vera_A", "base_model.vera_B"];

/// What PEFT puts behind the names of the pair in memory. Up to 0.18 at least it saves the pair without and never loads it, but draws it
/// from `projection_prng_key` with torch's generator; a pair of another generator must lie in the file under the name in memory.
pub(super) const LOADED: &str = ".default";

/// The command's name in what it writes.
pub(crate) const COMMAND: &str = "lora-lab export";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct ExportRequest<'a> {
    /// A run's folder, or its `adapter.safetensors`.
    pub adapter: &'a Path,
    /// Where its base lies now, if elsewhere than in training.
    pub model: Option<&'a str>,
    /// Components to take, for an adapter of nested ranks.
    pub rank: Option<usize>,
    /// Write the factors of a residual-init method alone, to be taken off the base again.
    pub residual: bool,
    /// The folder to write.
    pub out: &'a Path,
    /// Whether `out` may be a folder of others.
    pub force: bool,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct ExportReport {
    /// PEFT's name of the method.
    pub kind: &'static str,
    /// Adapted maps.
    pub maps: usize,
    /// Bytes of the weights.
    pub bytes: u64,
    /// The base, as the adapter names it.
    pub base: String,
    /// Outputs of the head: what `num_labels` must be; `None` for text.
    pub outputs: Option<usize>,
}

/// Exports, whole or not at all, with a card that knows no results.
pub fn export(request: &ExportRequest<'_>, cache: &ModelCache) -> Result<ExportReport, TrainError> {
    export_with(request, &[], cache)
}

/// The same with what the records of its group report, which the card shows.
pub fn export_with(
    request: &ExportRequest<'_>,
    reported: &[Reported],
    cache: &ModelCache,
) -> Result<ExportReport, TrainError> {
    let inputs = [Some(request.adapter), request.model.map(Path::new)];
    let output = OutputDir::check(request.out, COMMAND, &Guard::new(inputs.into_iter().flatten(), request.force))?;
    let path = file(request.adapter)?;
    let refused = |reason: String| TrainError::foreign(path.clone(), reason);
    let (metadata, mut network) = read(&path, request, cache)?;
    spare_base(&metadata, request.out)?;
    if let Some(name) = adapter::first_non_finite(&mut network) {
        return Err(refused(format!("`{name}` holds numbers that are not finite; train its run again")));
    }
    let form = form(metadata, &mut network, request.residual).map_err(refused)?;
    let (bytes, config) = (weights(&form).map_err(|error| refused(error.to_string()))?, configuration(&form));
    let mut staged = output.begin()?;
    staged.write(CONFIG, &config::encode(&config))?;
    staged.write(WEIGHTS, &bytes)?;
    for (name, text) in (Subject { metadata: &form.metadata, form: &form.peft, reported }).files() {
        staged.write(&name, text.as_bytes())?;
    }
    staged.finish(json!({ "card": form.metadata, "configuration": config }))?;
    Ok(ExportReport {
        kind: form.peft.peft_type(),
        base: form.metadata.plan.model.to_string(),
        maps: form.maps.len(),
        bytes: bytes.len() as u64,
        outputs: form.metadata.plan.text().is_none().then_some(form.metadata.outputs),
    })
}

/// The adapter's file; PEFT's own folders are no input.
fn file(path: &Path) -> Result<PathBuf, TrainError> {
    if super::is_folder(path) {
        let reason = "is a PEFT folder already; `lora-lab import` makes it a run's adapter".to_owned();
        return Err(TrainError::foreign(path.to_owned(), reason));
    }
    adapter::resolve(path)
}

fn read(
    path: &Path,
    request: &ExportRequest<'_>,
    cache: &ModelCache,
) -> Result<(AdapterMetadata, Network), TrainError> {
    let Some(rank) = request.rank else { return adapter::load_on(path, request.model, cache) };
    let (metadata, mut tensors) = cut_to(path, request.model, rank, Reduction::Prefix, cache)?;
    let network = adapter::assemble(&metadata, &mut tensors, cache)?;
    Ok((metadata, network))
}
