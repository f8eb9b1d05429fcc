//! `predict`: logits, a benchmark's submission file, and generated texts.

use std::path::{Path, PathBuf};

use assets::device;
use interop::predict::run::{Prediction, Request, Rows, Source, run as predict};
use record::write_atomic;
use trainer::model_cache::ModelCache;

use crate::{
    failure::Failure,
    output::create_folder,
    terminal::{note, print},
};

/// Arguments of `predict`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab predict --adapter results/x/runs/cola-lora-r8-s0 --split test --submission glue_upload
  lora-lab predict --adapter results/x/runs/cola-lora-r8-s0 --data CoLA/dev.tsv --out logits.safetensors
  lora-lab predict --adapter peft_folder --model path/to/base --task cola --data CoLA/dev.tsv --out logits.safetensors
  lora-lab predict --model path/to/finetuned --task rte --data RTE/dev.tsv --out logits.safetensors
  lora-lab predict --adapter results/e2e/runs/e2e-lora-r4-s0 --split test --out texts.jsonl

The file of logits has two f32 tensors: `logits` [rows, outputs] and `labels` [rows], NaN where a label is unknown. A `--data` file
has the layout of the run's task. Where every label is known, stdout has the metrics.")]
pub(crate) struct Predict {
    /// A run's folder, its adapter.safetensors, or a folder that PEFT wrote.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// A checkpoint with a classification head; with `--adapter`, the folder of the adapter's base.
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
    /// The GLUE task of a checkpoint or of a folder that PEFT wrote.
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// Predict the rows of this file.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Predict a split of the run's own data.
    #[arg(long, value_name = "NAME", conflicts_with = "data")]
    pub split: Option<String>,
    /// Write the logits (safetensors) or the texts (JSON lines) to this file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the benchmark's submission file into this folder.
    #[arg(long, value_name = "DIR")]
    pub submission: Option<PathBuf>,
    /// Device, by its name in `lora-lab devices`.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Predicts, and writes what was asked for.
pub(super) fn run(args: &Predict) -> Result<(), Failure> {
    check(args)?;
    let cache = ModelCache::on(&device::parse(&args.device)?);
    let source = match (&args.adapter, &args.model, &args.task) {
        (Some(adapter), model, task) => {
            Source::Adapter { path: adapter, model: model.as_deref(), task: task.as_deref() }
        }
        (None, Some(model), Some(task)) => Source::Checkpoint { model, task },
        (None, ..) => {
            return Err(Failure::Input(
                "give a run with `--adapter`, or a fine-tuned checkpoint with `--model` and `--task`".to_owned(),
            ));
        }
    };
    let rows = match (&args.data, &args.split) {
        (Some(file), _) => Rows::File(file),
        (None, Some(split)) => Rows::Split(split),
        (None, None) => Rows::Default,
    };
    let found = predict(&Request { source, rows }, &cache)?;
    found.notes.iter().for_each(|line| note(line));
    write(args, &found)?;
    match &found.scores {
        None => {
            note("some labels are withheld, so nothing is scored");
            Ok(())
        }
        Some(scores) => {
            let line = |(metric, value): &(String, f64)| format!("{metric},{value:.6},{}\n", found.rows());
            print(&format!("metric,value,examples\n{}", scores.iter().map(line).collect::<String>()))
        }
    }
}

fn write(args: &Predict, found: &Prediction) -> Result<(), Failure> {
    if let Some(out) = &args.out {
        write_atomic(out, &found.to_bytes()?)?;
        note(&format!("wrote {} of {} rows to {}", found.what(), found.rows(), out.display()));
    }
    if let Some(folder) = &args.submission {
        let (name, bytes) = found.submission(args.split.as_deref().unwrap_or("test"))?;
        create_folder(folder)?;
        write_atomic(&folder.join(&name), &bytes)?;
        note(&format!("wrote {}", folder.join(&name).display()));
    }
    Ok(())
}

/// A path that cannot be written is found before the work.
fn check(args: &Predict) -> Result<(), Failure> {
    for path in args.out.iter().chain(&args.submission) {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.is_dir() {
            return Err(Failure::Input(format!("{}: its folder does not exist; make it first", path.display())));
        }
    }
    Ok(())
}
