//! `export`: a trained adapter as a smaller one, or as a folder for PEFT.

use std::path::{Path, PathBuf};

use analysis::summary::{Selection, SummaryRow, summarise};
use assets::source::hub::SCHEME;
use clap::ValueEnum;
use interop::{
    approximate::as_lora,
    export::{CutRequest, Reduction, at_rank},
    peft::{
        card::Reported,
        export::{ExportRequest, export_with},
    },
};
use record::{ADAPTER, RunRecord, record_beside};
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
update. `--to peft` writes adapter_config.json and adapter_model.safetensors, which `PeftModel.from_pretrained(base, FOLDER)` opens, and a
model card with the results of the run's group, where the records of its study are beside it: mean over seeds, 95% interval, n.
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
    let reported = reported(adapter, *rank)?;
    let report = export_with(&request, &reported, cache)?;
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

/// What the records beside a run say of it and of the other seeds of its group, read out at a rank; nothing of an adapter without record.
fn reported(adapter: &Path, rank: Option<usize>) -> Result<Vec<Reported>, Failure> {
    let file = record::adapter_file(adapter);
    let Some(own) = record_beside(&file)?.filter(RunRecord::is_finished) else { return Ok(Vec::new()) };
    let group = own.group_hash();
    let mut records = vec![own.clone()];
    let runs = file.parent().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
    for entry in std::fs::read_dir(&runs).into_iter().flatten().flatten() {
        let beside = entry.path().join(ADAPTER);
        // What cannot be read is no result; `table` says why.
        let Ok(Some(other)) = record_beside(&beside) else { continue };
        let is_same = other.cell.task == own.cell.task && other.cell.variant == own.cell.variant;
        if other.cell.seed != own.cell.seed && is_same && other.is_finished() && other.group_hash() == group {
            records.push(other);
        }
    }
    let rank = rank.unwrap_or(own.cell.rank);
    let rows = summarise(&records, Selection::Reported)?.rows.into_iter();
    let is_row = |row: &SummaryRow| row.variant == own.cell.variant && row.rank == rank && row.summary.mean.is_finite();
    let shown = |row: SummaryRow| Reported {
        is_primary: row.primary,
        mean: row.summary.mean,
        interval: row.summary.ci_low.zip(row.summary.ci_high).map(|(low, high)| [low, high]),
        own: row.values.get(&own.cell.seed).copied(),
        seeds: row.values.into_keys().collect(),
        split: row.split,
        metric: row.metric,
    };
    Ok(rows.filter(is_row).map(shown).collect())
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
