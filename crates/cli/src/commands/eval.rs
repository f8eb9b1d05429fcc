//! `eval`: a trained adapter on its task's evaluation splits, at any rank it can be read out at.

use std::path::PathBuf;

use assets::device;
use interop::evaluate::{Evaluated, evaluate};
use trainer::model_cache::ModelCache;

use crate::{
    failure::Failure,
    terminal::{note, print},
};

/// Arguments of `eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab eval results/dylora_glue/runs/sst2-dylora-r8-s0                 every rank from one checkpoint
  lora-lab eval results/dylora_glue/runs/sst2-dylora-r8-s0 --rank 1,8

stdout has one line per rank, split and metric: `task,variant,rank,split,metric,value,examples`.")]
pub(crate) struct Eval {
    /// A run's folder, or its adapter.safetensors.
    pub adapter: PathBuf,
    /// Ranks to evaluate at, e.g. `1,2,8`; by default every rank of a DyLoRA adapter, and the full rank of any other.
    #[arg(long, value_delimiter = ',')]
    pub rank: Vec<usize>,
    /// Device, by its name in `lora-lab devices`.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Evaluates, and prints the scores as CSV.
pub(super) fn run(args: &Eval) -> Result<(), Failure> {
    let cache = ModelCache::on(&device::parse(&args.device)?);
    let Evaluated { task, evaluations, notes } = evaluate(&args.adapter, &args.rank, &cache)?;
    for line in &notes {
        note(line);
    }
    let mut out = String::from("task,variant,rank,split,metric,value,examples\n");
    for evaluation in evaluations {
        if let Some(cut) = evaluation.generated.and_then(record::Generated::note) {
            note(&format!("{} at rank {}: {cut}", evaluation.split, evaluation.readout.rank));
        }
        for (metric, reason) in &evaluation.undefined {
            note(&format!("{metric} is undefined on {}: {reason}", evaluation.split));
        }
        for (metric, value) in &evaluation.metrics {
            let record::Readout { label, rank } = &evaluation.readout;
            out += &format!("{task},{label},{rank},{},{metric},{value:.6},{}\n", evaluation.split, evaluation.examples);
        }
    }
    print(&out)
}
