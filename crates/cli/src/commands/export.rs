//! `export`: a trained adapter as a smaller one, or in PEFT's format.

use std::path::Path;

use assets::source::hub::SCHEME;
use burn::tensor::{DType, Device};
use interop::{
    export::{Cut, at_rank},
    model_merging::{Input, Request as Combination, combine, methods::Method},
    peft::{
        export::{Request, export},
        is_folder,
    },
};
use trainer::{adapter, library::Library};
use variants::host::Placement;

use crate::{
    args::{Export, FormatName},
    terminal::{Failure, note, print, unwritten},
};

/// Writes the new adapter.
pub(super) fn run(args: &Export) -> Result<(), Failure> {
    let library = Library::new(Placement::new(&Device::flex(), DType::F32));
    match args.to {
        FormatName::LoraLab => smaller(args, &library),
        FormatName::Peft if args.svd => approximated(args, &library),
        FormatName::Peft => {
            let Export { adapter, model, rank, residual, out, .. } = args;
            let request = Request { adapter, model: model.as_deref(), rank: *rank, residual: *residual, out };
            let report = export(&request, &library).map_err(unwritten)?;
            let labels =
                report.outputs.map(|outputs| format!("; open its base with num_labels={outputs}")).unwrap_or_default();
            if !report.base.starts_with(SCHEME) && !Path::new(&report.base).exists() {
                note(&format!(
                    "PEFT needs the base as a folder, but `{}` is built in: `lora-lab merge` of a `head_only` run writes it as one",
                    report.base
                ));
            }
            note(&format!(
                "wrote {} with {} maps to {} ({} bytes){labels}",
                report.kind,
                report.maps,
                out.display(),
                report.bytes
            ));
            Ok(())
        }
    }
}

/// An adapter of this program at a rank.
fn smaller(args: &Export, library: &Library) -> Result<(), Failure> {
    let Some(rank) = args.rank else {
        return Err(Failure::Input("`--to lora-lab` needs `--rank`, the rank of the new adapter".to_owned()));
    };
    if args.residual || args.model.is_some() {
        return Err(Failure::Input("`--residual` and `--model` are for `--to peft`; leave them out".to_owned()));
    }
    let path = if args.adapter.is_dir() { args.adapter.join("adapter.safetensors") } else { args.adapter.clone() };
    let cut = if args.svd { Cut::Svd } else { Cut::Prefix };
    let bytes = at_rank(&path, rank, cut, &args.out, library).map_err(|error| Failure::Input(error.to_string()))?;
    note(&format!("wrote {} ({bytes} bytes)", args.out.join("adapter.safetensors").display()));
    Ok(())
}

/// A plain LoRA of any update, with what it costs.
fn approximated(args: &Export, library: &Library) -> Result<(), Failure> {
    if args.model.is_some() {
        return Err(Failure::Input(
            "`--model` does not go with `--svd`; make its base lie where it lay in training".to_owned(),
        ));
    }
    if is_folder(&args.adapter) {
        return Err(Failure::Input(format!(
            "{}: is a PEFT folder already; `lora-lab combine FOLDER --method svd --rank R` approximates its update",
            args.adapter.display()
        )));
    }
    let file = if args.adapter.is_dir() { args.adapter.join("adapter.safetensors") } else { args.adapter.clone() };
    let (card, _) = adapter::load(&file, library).map_err(|error| Failure::Input(error.to_string()))?;
    let inputs = [Input { path: args.adapter.clone(), weight: 1.0 }];
    let head = card.plan.text().is_none().then_some(args.adapter.as_path());
    let method = Method::Svd { rank: args.rank.unwrap_or_default() };
    let report = combine(&Combination { inputs: &inputs, method, head, out: &args.out }, library).map_err(unwritten)?;
    report.notes.iter().for_each(|line| note(line));
    note(&format!("wrote LORA with {} maps to {}", report.maps.len(), args.out.display()));
    print(&super::combine::table(&report))
}
