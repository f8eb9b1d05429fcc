//! A trained adapter folded into its base: a whole checkpoint that other programs open without this one.
//!
//! Every tensor of the base's files keeps its name and its layout (torch's `Linear` `[d_out, d_in]`, GPT-2's `Conv1D` `[d_in, d_out]`
//! with query, key and value in one); merged maps and trained norms, biases and tables take the place of the base's, and the trained
//! head stands under the name that transformers gives it. The checkpoint is one of `AutoModelForSequenceClassification` or
//! `AutoModelForCausalLM`: names get the prefix of a model with a head, and tensors that this class does not have (another head,
//! RoBERTa's pooler) stay behind and are named.
//!
//! Merging rounds: `W0 + ΔW` is computed in f32, and a file of f16 or bf16 keeps 11 or 8 bits of it. What that does to the logits is
//! measured for all three types on rows of the run's own data, for the written type on the file as it was written and read again.
//!
//! A table that is tied to the output projection can be trained as a whole, not adapted: an adapter of it acts on the way in alone,
//! so that the two would have to part, which is another architecture of one table more. Such an adapter is refused.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use assets::source::{
    self,
    raw::{self, Files, GENERATION},
};
use experiment::cell::Recipe;
use models::{config::Config, network::Network};
use trainer::{
    adapter::{self, AdapterMetadata},
    error::TrainError,
    model_cache::ModelCache,
};
use variants::{host::Placement, pass::Active, rank::RankPolicy};

use crate::{
    dtype::Dtype,
    output::{Guard, OutputDir, StagedDir, spare_base},
    peft,
    update::mergeable,
};

mod check;
pub mod checkpoint;
mod configuration;
mod sample;

pub use check::Check;
pub use sample::Rows;

use check::{answers, compare, plain_network};
use checkpoint::{Tensor, assemble, encode, overflow, rounded};
use sample::{objective, sample};

/// The command's name in what it writes.
const COMMAND: &str = "lora-lab merge";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct MergeRequest<'a> {
    /// A run's folder, or its `adapter.safetensors`.
    pub adapter: &'a Path,
    /// Where its base lies now, if elsewhere than in training.
    pub model: Option<&'a str>,
    /// Components in use, for an adapter of nested ranks.
    pub rank: Option<usize>,
    /// The type of the written numbers.
    pub dtype: Dtype,
    /// The folder to write.
    pub out: &'a Path,
    /// Whether `out` may be a folder of others.
    pub force: bool,
    /// What the check reads.
    pub rows: Rows,
    /// Most rows of it.
    pub most: usize,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct MergeReport {
    /// Tensors in the file.
    pub tensors: usize,
    /// Bytes of the file.
    pub bytes: u64,
    /// Tensors of the base that the class of the checkpoint does not have.
    pub left_out: Vec<String>,
    /// Where the compared rows are from.
    pub compared_on: String,
    /// How many rows (or positions of a text) were compared.
    pub compared: usize,
    /// Largest magnitude among the unmerged logits.
    pub largest_logit: f64,
    /// One per type.
    pub checks: Vec<Check>,
}

/// Merges, writes the checkpoint and holds it against the unmerged model.
pub fn merge(request: &MergeRequest<'_>, cache: &ModelCache) -> Result<MergeReport, TrainError> {
    let output = OutputDir::check(request.out, COMMAND, &guard(request))?;
    let path = adapter_file(request.adapter)?;
    let (metadata, mut network) = adapter::load_on(&path, request.model, cache)?;
    spare_base(&metadata, request.out)?;
    let refused = |reason: String| TrainError::foreign(path.clone(), reason);
    mergeable(&metadata).map_err(refused)?;
    let active = active(request.rank, &metadata).map_err(refused)?;
    check_network(&mut network, &metadata.plan).map_err(refused)?;
    let base = cache.base(&metadata.plan.model)?;
    let config = base.backbone.config();
    let sample = sample(&request.rows, request.most, &metadata.plan, &base, cache)?;
    let unmerged = answers(&network, &sample.set, &metadata.plan, &active, base.pad);

    let mut files = raw::files(&metadata.plan.model)?;
    let stored = std::mem::take(&mut files.tensors);
    let (tensors, left_out) = assemble(stored, &mut network, &active, &config, metadata.plan.text().is_some());
    check_range(&tensors, request.dtype).map_err(refused)?;
    let content = encode(&tensors, request.dtype)?;
    let mut staged = output.begin()?;
    staged.write("model.safetensors", &content)?;
    let objective = objective(&metadata.plan, cache);
    let wanted = configuration::Wanted {
        outputs: metadata.plan.text().is_none().then_some(metadata.outputs),
        objective: objective.as_ref(),
        // RoBERTa's positions count from it.
        pad: base.backbone.scheme().padding.and_then(|padding| padding.try_into().ok()).unwrap_or(base.pad),
        dtype: request.dtype,
    };
    write_beside(&mut staged, &files, &wanted, &metadata.plan)?;

    let merged = Merged { tensors: &tensors, config: &config, metadata: &metadata, place: cache.place() };
    let ask = |network: &Network| answers(network, &sample.set, &metadata.plan, &Active::All, base.pad);
    let checks = merged.checks(request.dtype, staged.folder(), &unmerged, &ask)?;
    staged.finish(serde_json::json!({
        "adapter": request.adapter,
        "card": metadata,
        "rank": request.rank,
        "dtype": request.dtype.torch(),
        "largest_difference": checks.iter().map(|check| (check.dtype.torch(), check.difference)).collect::<BTreeMap<_, _>>(),
    }))?;
    Ok(MergeReport {
        tensors: tensors.len(),
        bytes: content.len() as u64,
        left_out,
        compared_on: sample.origin,
        compared: unmerged.len(),
        largest_logit: unmerged.iter().flatten().fold(0.0, |most, value| most.max(value.abs())),
        checks,
    })
}

/// A merged checkpoint.
struct Merged<'a> {
    tensors: &'a [Tensor],
    config: &'a Config,
    metadata: &'a AdapterMetadata,
    place: &'a Placement,
}

impl Merged<'_> {
    /// Every type beside the unmerged answers: the written one as it lies in its folder, the others as they would be read.
    fn checks(
        &self,
        written: Dtype,
        folder: &Path,
        unmerged: &[Vec<f64>],
        ask: &dyn Fn(&Network) -> Vec<Vec<f64>>,
    ) -> Result<Vec<Check>, TrainError> {
        let opened = source::open(&folder.display().to_string())?;
        let check = |dtype: Dtype| {
            let merged = if dtype == written {
                plain_network(&opened.config, &opened.weights, self.metadata, self.place)?
            } else {
                plain_network(self.config, &rounded(self.tensors, dtype, self.config), self.metadata, self.place)?
            };
            Ok(compare(dtype, unmerged, &ask(&merged)))
        };
        Dtype::ALL.into_iter().map(check).collect()
    }
}

/// What the output must leave alone.
fn guard(request: &MergeRequest<'_>) -> Guard {
    let data = match &request.rows {
        Rows::File(file) => Some(file.as_path()),
        Rows::Any | Rows::Split(_) => None,
    };
    let inputs = [Some(request.adapter), request.model.map(Path::new), data];
    Guard::new(inputs.into_iter().flatten(), request.force)
}

/// The adapter's file; a folder of PEFT does not say what its task is.
fn adapter_file(path: &Path) -> Result<PathBuf, TrainError> {
    if peft::is_folder(path) {
        let reason = "is a PEFT folder, which names a base and no task; make it a run's adapter with `lora-lab import` first, or \
                      merge it with PEFT's own `merge_and_unload`";
        return Err(TrainError::foreign(path.to_owned(), reason.to_owned()));
    }
    adapter::resolve(path)
}

/// What keeps an adapter from being merged.
fn check_network(network: &mut Network, plan: &Recipe) -> Result<(), String> {
    if let Some(name) = adapter::first_non_finite(network) {
        return Err(format!("`{name}` holds numbers that are not finite; train its run again"));
    }
    match adapted_tied_table(network, plan) {
        Some(table) => Err(format!(
            "it adapts `{table}`, which is also the output projection; merged into one table it would act on the way out \
             too. Train the table as a whole (`base: trained`), or leave it out of `targets`"
        )),
        None => Ok(()),
    }
}

/// Refuses a type that cannot hold every number.
fn check_range(tensors: &[Tensor], dtype: Dtype) -> Result<(), String> {
    match overflow(tensors, dtype) {
        None => Ok(()),
        Some(name) => Err(format!(
            "`{name}` holds a number beyond {}'s largest; write it with `--dtype bf16` or `f32`",
            dtype.torch()
        )),
    }
}

/// config.json and the files of tokenizer and generation.
fn write_beside(
    staged: &mut StagedDir,
    files: &Files,
    wanted: &configuration::Wanted<'_>,
    plan: &Recipe,
) -> Result<(), TrainError> {
    let config = configuration::of_merged(&files.config, wanted)
        .map_err(|reason| TrainError::foreign(Path::new(&plan.model).join("config.json"), reason))?;
    staged.write("config.json", &config)?;
    for (name, content) in &files.beside {
        if name != GENERATION || plan.text().is_some() {
            staged.write(name, content)?;
        }
    }
    Ok(())
}

/// The components that are merged.
fn active(rank: Option<usize>, metadata: &AdapterMetadata) -> Result<Active, String> {
    let spec = &metadata.plan.variant;
    let Some(rank) = rank else { return Ok(Active::All) };
    let nested = spec.rank_policy.readouts(spec.rank);
    if nested.contains(&rank) {
        return Ok(Active::Prefix(vec![rank]));
    }
    if nested.is_empty() && rank == spec.rank {
        return Ok(Active::All);
    }
    let known: Vec<String> =
        if nested.is_empty() { vec![spec.rank.to_string()] } else { nested.iter().map(usize::to_string).collect() };
    Err(format!("rank is `{rank}`, but `{}` was trained to be used at {}", metadata.cell.variant, known.join(", ")))
}

/// The word table, where it has an adapter and is the output projection too.
fn adapted_tied_table(network: &mut Network, plan: &Recipe) -> Option<String> {
    let table = network.backbone.word().name().to_owned();
    let factor = format!("{table}.a");
    let is_adapted = network.parameters(0).iter().any(|named| named.name == factor);
    (plan.text().is_some() && network.backbone.config().is_tied() && is_adapted).then_some(table)
}
