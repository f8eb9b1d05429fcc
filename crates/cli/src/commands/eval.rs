//! `eval`: an adapter on its task's evaluation splits or on the rows of a file, at any rank it can be read out at.

use std::path::PathBuf;

use assets::device;
use interop::evaluate::{EvalRequest, Evaluated, evaluate};
use trainer::model_cache::ModelCache;

use super::purpose::TaskArgs;
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
  lora-lab eval results/own/runs/mine-lora-r8-s0 --data new.csv            rows of your own with their labels
  lora-lab eval peft_folder --model path/to/base --task cola               an adapter that PEFT trained
  lora-lab eval peft_folder --model path/to/base --experiment own.yaml --task mine --data new.csv

stdout has one line per rank, split and metric: `task,variant,rank,split,metric,value,examples`. A `--data` file has the layout of the
task; its split is named by the file. An adapter of this program, one that `import` wrote included, knows its task and its base.")]
pub(crate) struct Eval {
    /// A run's folder, its adapter.safetensors, or a folder that PEFT wrote.
    pub adapter: PathBuf,
    /// Folder of the base, if it has moved since training, or if PEFT trained the adapter.
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
    /// The task of a folder that PEFT wrote.
    #[command(flatten)]
    pub task: TaskArgs,
    /// Evaluate on the rows of this file in the place of the task's own splits.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Largest number of tokens of a row, whatever the run's recipe says; without either, rows are as long as the base allows.
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
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
    let purpose = args.task.purpose(args.max_length)?;
    let request = EvalRequest {
        adapter: &args.adapter,
        model: args.model.as_deref(),
        purpose: purpose.as_ref(),
        ranks: &args.rank,
        data: args.data.as_deref(),
        max_length: args.max_length,
    };
    let Evaluated { task, evaluations, notes } = evaluate(&request, &cache)?;
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
