//! `export`: a trained adapter as a smaller one, or as a folder for PEFT.

use std::path::{Path, PathBuf};

use assets::source::hub::SCHEME;
use clap::ValueEnum;
use interop::{
    approximate::as_lora,
    export::{CutRequest, Reduction, at_rank},
    peft::export::{ExportRequest, export},
};
use record::ADAPTER;
use trainer::model_cache::ModelCache;

use super::combine::table;
use crate::{
    failure::Failure,
    terminal::{note, print},
};

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab export results/dylora_glue/runs/sst2-dylora-r8-s0 --rank 3 --out my_adapter
  lora-lab eval my_adapter                         the same numbers as `eval RUN --rank 3`
  lora-lab export results/glue/runs/cola-lora-r8-s0 --to peft --out for_peft
  lora-lab export results/glue/runs/cola-vera-r256-s0 --to peft --svd --rank 16 --out as_lora

`--to lora-lab` keeps the first R components of a DyLoRA adapter, or with `--svd` the best approximation of rank R of any additive
update. `--to peft` writes adapter_config.json and adapter_model.safetensors, which `PeftModel.from_pretrained(base, FOLDER)` opens.
Methods that PEFT has keep their numbers. A start that is not 0 (PiSSA, OLoRA) becomes a LoRA of twice the rank, or keeps its factors
with `--residual`, and what was merged over time a LoRA of all its components. With `--svd --rank R` any update becomes a plain LoRA,
and stdout says what each map lost. The guide's page of methods says what PEFT gets of each.")]
pub(crate) struct Export {
    /// A run's folder, or its adapter.safetensors.
    pub adapter: PathBuf,
    /// Format of the new adapter.
    #[arg(long, value_name = "FORMAT", default_value = "lora-lab")]
    pub to: AdapterFormat,
    /// Rank of the new adapter; `--to peft` keeps the rank by default.
    #[arg(long)]
    pub rank: Option<usize>,
    /// Folder for the new adapter; it must be new, empty, or an earlier output of this command.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Write into a folder that this command did not make: files of the same names are replaced, the others stay.
    #[arg(long)]
    pub force: bool,
    /// Take the best approximation of the update (truncated SVD) instead of its first components.
    #[arg(long, requires = "rank")]
    pub svd: bool,
    /// For PEFT: write the trained factors of PiSSA or OLoRA; PEFT subtracts their start from the base when it opens them.
    #[arg(long, conflicts_with = "svd")]
    pub residual: bool,
    /// Folder of the base, if it has moved since training.
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
}

/// Formats of adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AdapterFormat {
    /// adapter.safetensors of this program.
    LoraLab,
    /// The folder of Hugging Face PEFT: configuration and weights.
    Peft,
}

/// Writes the new adapter.
pub(super) fn run(args: &Export) -> Result<(), Failure> {
    let cache = ModelCache::on_cpu();
    match args.to {
        AdapterFormat::LoraLab => smaller(args, &cache),
        AdapterFormat::Peft if args.svd => approximated(args, &cache),
        AdapterFormat::Peft => for_peft(args, &cache),
    }
}

/// A folder for PEFT that computes the same function.
fn for_peft(args: &Export, cache: &ModelCache) -> Result<(), Failure> {
    let Export { adapter, model, rank, residual, out, force, .. } = args;
    let request =
        ExportRequest { adapter, model: model.as_deref(), rank: *rank, residual: *residual, out, force: *force };
    let report = export(&request, cache)?;
    if !report.base.starts_with(SCHEME) && !Path::new(&report.base).exists() {
        note(&format!(
            "PEFT needs the base as a folder, but `{}` is built in: `lora-lab merge` of a `head_only` run writes it as one",
            report.base
        ));
    }
    let (kind, maps, bytes) = (report.kind, report.maps, report.bytes);
    let labels = report.outputs.map(|n| format!("; open its base with num_labels={n}")).unwrap_or_default();
    note(&format!("wrote {kind} with {maps} maps to {} ({bytes} bytes){labels}", out.display()));
    Ok(())
}

/// An adapter of this program at a rank.
fn smaller(args: &Export, cache: &ModelCache) -> Result<(), Failure> {
    let Some(rank) = args.rank else {
        return Err(Failure::Input("`--to lora-lab` needs `--rank`, the rank of the new adapter".to_owned()));
    };
    if args.residual || args.model.is_some() {
        return Err(Failure::Input("`--residual` and `--model` are for `--to peft`; leave them out".to_owned()));
    }
    let reduction = if args.svd { Reduction::Svd } else { Reduction::Prefix };
    let Export { adapter, out, force, .. } = args;
    let bytes = at_rank(&CutRequest { adapter, rank, reduction, out, force: *force }, cache)?;
    note(&format!("wrote {} ({bytes} bytes)", args.out.join(ADAPTER).display()));
    Ok(())
}

/// A plain LoRA that approximates any update, with what each map lost.
fn approximated(args: &Export, cache: &ModelCache) -> Result<(), Failure> {
    if args.model.is_some() {
        return Err(Failure::Input(
            "`--model` does not go with `--svd`; put the base where it was in training".to_owned(),
        ));
    }
    let report = as_lora(&args.adapter, args.rank.unwrap_or_default(), &args.out, args.force, cache)?;
    report.notes.iter().for_each(|line| note(line));
    note(&format!("wrote LORA with {} maps to {}", report.maps.len(), args.out.display()));
    print(&table(&report))
}
