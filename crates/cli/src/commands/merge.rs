//! `merge`: a trained adapter folded into its base, as a checkpoint of its own.

use assets::device;
use burn::tensor::DType;
use interop::merge::{Report, Request, Rows, Width, merge};
use trainer::{error::TrainError, library::Library};
use variants::host::Placement;

use crate::{
    args::{Merge, WidthName},
    terminal::{Failure, note, print, unwritten},
};

/// Merges, and prints how far the logits moved.
pub(super) fn run(args: &Merge) -> Result<(), Failure> {
    let input = |error: TrainError| Failure::Input(error.to_string());
    let named = device::parse(&args.device).map_err(TrainError::from).map_err(input)?;
    let library = Library::new(Placement::new(&named.device, DType::F32));
    let rows = match (&args.data, &args.split) {
        (Some(file), _) => Rows::File(file.clone()),
        (None, Some(split)) => Rows::Split(split.clone()),
        (None, None) => Rows::Any,
    };
    let request = Request {
        adapter: &args.adapter,
        model: args.model.as_deref(),
        rank: args.rank,
        width: width(args.dtype),
        out: &args.out,
        rows,
        most: args.rows as usize,
    };
    let report = merge(&request, &library).map_err(unwritten)?;
    note(&format!("wrote {} tensors ({} bytes) to {}", report.tensors, report.bytes, args.out.display()));
    if !report.left_out.is_empty() {
        note(&format!("left out, as the checkpoint's class has no place for them: {}", report.left_out.join(", ")));
    }
    note(&format!("compared on {}; the largest logit is {:.3}", report.compared_on, report.largest_logit));
    print(&table(&report))
}

fn width(name: WidthName) -> Width {
    match name {
        WidthName::F32 => Width::F32,
        WidthName::F16 => Width::F16,
        WidthName::Bf16 => Width::Bf16,
    }
}

/// One line per type.
fn table(report: &Report) -> String {
    let mut out = String::from("dtype,largest_difference,changed,rows\n");
    for check in &report.checks {
        out += &format!("{},{:.3e},{},{}\n", check.width.torch(), check.difference, check.changed, report.compared);
    }
    out
}
