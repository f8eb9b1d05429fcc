//! `merge`: a trained adapter merged into its base, as a checkpoint of its own.

use std::path::PathBuf;

use assets::device;
use clap::ValueEnum;
use interop::{
    dtype::Dtype,
    merge::{MergeReport, MergeRequest, Rows, merge},
};
use trainer::model_cache::ModelCache;

use crate::{
    failure::Failure,
    terminal::{note, print},
};

/// Arguments of `merge`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab merge results/glue/runs/cola-lora-r8-s0 --out cola_merged
  lora-lab merge results/glue/runs/cola-lora-r8-s0 --out cola_half --dtype f16
  lora-lab merge results/dylora_glue/runs/sst2-dylora-r8-s0 --rank 2 --out sst2_rank2

The folder has config.json, model.safetensors and the tokenizer's files. `AutoModelForSequenceClassification.from_pretrained` opens
it, or `AutoModelForCausalLM` for a run on text. stdout has one line per dtype: the largest difference between the logits of the
merged model in that dtype and those of base and adapter in f32, and the number of rows whose largest logit changes.
The adapter and its base stay as they are: delete the folder to undo the merge.")]
pub(crate) struct Merge {
    /// A run's folder, or its adapter.safetensors.
    pub adapter: PathBuf,
    /// Folder for the checkpoint; it must be new, empty, or an earlier output of this command.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Write into a folder that this command did not make: files of the same names are replaced, the others stay.
    #[arg(long)]
    pub force: bool,
    /// Dtype of the written weights. f32 writes the merged weights as they are; f16 and bf16 round them and halve the file.
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub dtype: DtypeName,
    /// Number of components to merge, for a DyLoRA adapter; all by default.
    #[arg(long)]
    pub rank: Option<usize>,
    /// Folder of the base, if it has moved since training.
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
    /// Compare logits on the rows of this file, in the layout of the run's task.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Compare logits on this split of the run's own data; by default its first evaluation split.
    #[arg(long, value_name = "NAME", conflicts_with = "data")]
    pub split: Option<String>,
    /// Largest number of rows to compare on (of texts at most 16).
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: u32,
    /// Device, by its name in `lora-lab devices`.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Dtypes of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeName {
    /// 32 bits.
    F32,
    /// 16 bits, of which 11 are the significand.
    F16,
    /// 16 bits, of which 8 are the significand.
    Bf16,
}

impl From<DtypeName> for Dtype {
    fn from(name: DtypeName) -> Self {
        match name {
            DtypeName::F32 => Self::F32,
            DtypeName::F16 => Self::F16,
            DtypeName::Bf16 => Self::Bf16,
        }
    }
}

/// Merges, and prints how far the logits moved.
pub(super) fn run(args: &Merge) -> Result<(), Failure> {
    let cache = ModelCache::on(&device::parse(&args.device)?);
    let rows = match (&args.data, &args.split) {
        (Some(file), _) => Rows::File(file.clone()),
        (None, Some(split)) => Rows::Split(split.clone()),
        (None, None) => Rows::Any,
    };
    let request = MergeRequest {
        adapter: &args.adapter,
        model: args.model.as_deref(),
        rank: args.rank,
        dtype: args.dtype.into(),
        out: &args.out,
        force: args.force,
        rows,
        most: args.rows as usize,
    };
    let report = merge(&request, &cache)?;
    note(&format!("wrote {} tensors ({} bytes) to {}", report.tensors, report.bytes, args.out.display()));
    if !report.left_out.is_empty() {
        let names = report.left_out.join(", ");
        note(&format!("left out, because the target architecture has no such tensors: {names}"));
    }
    note(&format!("compared on {}; the largest logit is {:.3}", report.compared_on, report.largest_logit));
    print(&table(&report))
}

/// One line per dtype.
fn table(report: &MergeReport) -> String {
    let mut out = String::from("dtype,largest_difference,changed,rows\n");
    for check in &report.checks {
        out += &format!("{},{:.3e},{},{}\n", check.dtype.torch(), check.difference, check.changed, report.compared);
    }
    out
}
