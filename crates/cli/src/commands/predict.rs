//! `predict`: a row per example, logits, a benchmark's submission file, and generated texts.

use std::path::{Path, PathBuf};

use assets::device;
use interop::{
    output::{Guard, OutputFile},
    predict::{
        form::Form,
        run::{Prediction, Request, Rows, Source, run as predict},
    },
};
use trainer::model_cache::ModelCache;

use super::purpose::TaskArgs;
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
  lora-lab predict --adapter results/own/runs/mine-lora-r8-s0 --data new.csv --out predictions.csv
  lora-lab predict --adapter results/x/runs/cola-lora-r8-s0 --data CoLA/dev.tsv --out logits.safetensors
  lora-lab predict --adapter peft_folder --model path/to/base --task cola --data CoLA/dev.tsv --out logits.safetensors
  lora-lab predict --model path/to/finetuned --task rte --data RTE/dev.tsv --out logits.safetensors
  lora-lab predict --model path/to/merged --experiment my.yaml --task mine --split dev
  lora-lab predict --adapter results/e2e/runs/e2e-lora-r4-s0 --split test --out texts.jsonl

The ending of `--out` says what is written. CSV, TSV and JSON lines (.csv, .tsv, .jsonl) have a row per example: index from 0, predicted
class or score, the probability of every class, the label where it is known, and the texts. A .safetensors file has two f32 tensors:
`logits` [rows, outputs] and `labels` [rows], NaN where a label is unknown. Generated texts are JSON lines. A `--data` file has the
layout of the run's task; the column of labels may be absent. Where every label is known, stdout has the metrics.")]
pub(crate) struct Predict {
    /// A run's folder, its adapter.safetensors, or a folder that PEFT wrote.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// A checkpoint with a classification head; with `--adapter`, the folder of the adapter's base.
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
    /// The task of a checkpoint or of a folder that PEFT wrote.
    #[command(flatten)]
    pub task: TaskArgs,
    /// Predict the rows of this file.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Predict a split of the run's own data.
    #[arg(long, value_name = "NAME", conflicts_with = "data")]
    pub split: Option<String>,
    /// Write the predictions to this file: .csv, .tsv, .jsonl or .safetensors; texts of a run on text to a .jsonl file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace a file that this command did not write.
    #[arg(long)]
    pub force: bool,
    /// Largest number of tokens of a row, whatever the run's recipe says; without either, rows are as long as the base allows.
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
    /// Write the benchmark's submission file into this folder.
    #[arg(long, value_name = "DIR")]
    pub submission: Option<PathBuf>,
    /// Device, by its name in `lora-lab devices`.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Predicts, and writes what was asked for.
pub(super) fn run(args: &Predict) -> Result<(), Failure> {
    let outputs = outputs(args)?;
    let cache = ModelCache::on(&device::parse(&args.device)?);
    let purpose = args.task.purpose(args.max_length)?;
    let source = match (&args.adapter, &args.model, &purpose) {
        (Some(adapter), model, purpose) => {
            Source::Adapter { path: adapter, model: model.as_deref(), purpose: purpose.as_ref() }
        }
        (None, Some(model), Some(purpose)) => Source::Checkpoint { model, purpose },
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
    let submission = args.submission.as_ref().map(|_| submitted(args));
    let form = outputs.out.as_ref().map(|(_, form)| *form);
    let found = predict(&Request { source, rows, max_length: args.max_length, submission, form }, &cache)?;
    found.notes.iter().for_each(|line| note(line));
    write(args, &outputs, &found)?;
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

fn write(args: &Predict, outputs: &Outputs, found: &Prediction) -> Result<(), Failure> {
    if let (Some(path), Some((out, form))) = (&args.out, &outputs.out) {
        out.write(&found.to_bytes(*form)?)?;
        note(&format!("wrote {} of {} rows to {}", found.what(*form), found.rows(), path.display()));
    }
    if let Some(folder) = &args.submission {
        let (name, bytes) = found.submission(submitted(args))?;
        create_folder(folder)?;
        let path = folder.join(&name);
        submission_file(&path, &outputs.guard)?.write(&bytes)?;
        note(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// The split that a submission file is for.
fn submitted(args: &Predict) -> &str {
    args.split.as_deref().unwrap_or("test")
}

/// What is written.
struct Outputs {
    guard: Guard,
    out: Option<(OutputFile, Form)>,
}

/// A path that cannot be written is found before the work.
fn outputs(args: &Predict) -> Result<Outputs, Failure> {
    let model = args.model.as_ref().map(PathBuf::from);
    let guard = Guard::new([&args.adapter, &model, &args.data].into_iter().flatten(), args.force);
    let checked =
        |out: &PathBuf| Ok::<_, Failure>((OutputFile::check(out, &guard, &Prediction::is_own)?, Form::of(out)?));
    let out = args.out.as_ref().map(checked).transpose()?;
    if let Some(folder) = &args.submission {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.is_dir() {
            return Err(Failure::Input(format!("{}: its folder does not exist; make it first", folder.display())));
        }
        // The file's name is that of the benchmark; what lies there is looked at when it is written.
        guard.check(&folder.join("submission"))?;
    }
    Ok(Outputs { guard, out })
}

/// A submission file, which begins with the benchmark's header.
fn submission_file(path: &Path, guard: &Guard) -> Result<OutputFile, Failure> {
    Ok(OutputFile::check(path, guard, &|head| head.starts_with(b"index\tprediction\n"))?)
}
