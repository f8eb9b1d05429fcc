//! `export`: a trained adapter as a plain one of a smaller rank.

use burn::tensor::{DType, Device};
use trainer::{
    export::{Cut, at_rank},
    library::Library,
};
use variants::host::Place;

use crate::{
    args::Export,
    terminal::{Failure, note},
};

/// Writes the smaller adapter.
pub(super) fn run(args: &Export) -> Result<(), Failure> {
    let path = if args.adapter.is_dir() { args.adapter.join("adapter.safetensors") } else { args.adapter.clone() };
    let library = Library::new(Place::new(&Device::flex(), DType::F32));
    let cut = if args.svd { Cut::Svd } else { Cut::Prefix };
    let bytes =
        at_rank(&path, args.rank, cut, &args.out, &library).map_err(|error| Failure::Input(error.to_string()))?;
    note(&format!("wrote {} ({bytes} bytes)", args.out.join("adapter.safetensors").display()));
    Ok(())
}
