//! `import`: an adapter that PEFT trained as one of this program.

use std::path::PathBuf;

use interop::peft::import::{ImportRequest, import, output, write};
use record::ADAPTER;
use trainer::model_cache::ModelCache;

use super::purpose::TaskArgs;
use crate::{failure::Failure, terminal::note};

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab import peft_folder --model models/all-MiniLM-L6-v2 --task cola --out cola_adapter
  lora-lab predict --adapter cola_adapter --data CoLA/dev.tsv --out logits.safetensors
  lora-lab import e2e_folder --experiment experiments/lora_e2e_gpt2.yaml --task e2e --out e2e_adapter

The PEFT types LORA (with rsLoRA, DoRA, PiSSA, OLoRA), ADALORA and VERA are supported. A PEFT folder does not say which task it was
trained for: name it with `--task`, a GLUE task or one of an experiment. A folder that `export --to peft` wrote knows its task.")]
pub(crate) struct Import {
    /// A folder that PEFT wrote.
    pub folder: PathBuf,
    /// Folder for the adapter; it must be new, empty, or an earlier output of this command.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Write into a folder that this command did not make: files of the same names are replaced, the others stay.
    #[arg(long)]
    pub force: bool,
    /// Folder of the base, if not where `adapter_config.json` says.
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
    /// The task that the adapter was trained for.
    #[command(flatten)]
    pub task: TaskArgs,
    /// Largest number of tokens of a row, whatever the experiment says; without either, rows are as long as the base allows.
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
}

/// Reads the folder and writes the adapter.
pub(super) fn run(args: &Import) -> Result<(), Failure> {
    let request = ImportRequest {
        folder: &args.folder,
        model: args.model.as_deref(),
        purpose: args.task.purpose(args.max_length)?,
        max_length: args.max_length,
    };
    let target = output(&request, &args.out, args.force)?;
    let imported = import(&request, &ModelCache::on_cpu())?;
    imported.notes.iter().for_each(|line| note(line));
    let (label, length) = (imported.metadata.cell.to_string(), imported.metadata.plan.train.max_length);
    let bytes = write(imported, &args.folder, target)?;
    note(&format!(
        "wrote {label} to {} ({bytes} bytes); rows have at most {length} tokens",
        args.out.join(ADAPTER).display()
    ));
    Ok(())
}
