//! `eval`: a trained adapter on its task's evaluation splits, at any rank it can be read out at.

use assets::device;
use burn::tensor::DType;
use experiment::cell::View;
use record::Readout;
use trainer::{adapter, library::Library, readout::Reader};
use variants::{host::Placement, rank::RankPolicy};

use crate::{
    args::Eval,
    terminal::{Failure, print},
};

/// Evaluates and prints one line per rank, split and metric as CSV.
pub(super) fn run(args: &Eval) -> Result<(), Failure> {
    let path = if args.adapter.is_dir() { args.adapter.join("adapter.safetensors") } else { args.adapter.clone() };
    let named = device::parse(&args.device).map_err(|error| Failure::Input(error.to_string()))?;
    let library = Library::new(Placement::new(&named.device, DType::F32));
    let (card, network) = adapter::load(&path, &library).map_err(|error| Failure::Input(error.to_string()))?;
    let plan = &card.plan;
    let task = library.task(plan)?;
    let base = library.base(&plan.model)?;
    let reader = Reader { base: &base, plan, task: &task, generates: true };
    let mut out = String::from("task,variant,rank,split,metric,value,examples\n");
    for (readout, view) in views(args, &card)? {
        let splits: Vec<_> = task.splits.iter().chain(&task.test).collect();
        for evaluation in reader.evaluate(&network, &splits, &readout, &view, 0)? {
            for (metric, value) in &evaluation.metrics {
                out += &format!(
                    "{},{},{},{},{metric},{value:.6},{}\n",
                    plan.task, readout.label, readout.rank, evaluation.split, evaluation.examples
                );
            }
        }
    }
    print(&out)
}

/// The readouts asked for, or all the adapter has.
fn views(args: &Eval, card: &adapter::Card) -> Result<Vec<(Readout, View)>, Failure> {
    let nested = card.plan.variant.rank_policy.readouts(card.plan.variant.rank);
    let all = adapter::cell(card).readouts(&nested);
    if args.rank.is_empty() {
        return Ok(all);
    }
    let mut wanted = Vec::new();
    for &rank in &args.rank {
        let before = wanted.len();
        wanted.extend(all.iter().filter(|(readout, _)| readout.rank == rank).cloned());
        if wanted.len() == before {
            let known: Vec<String> = all.iter().map(|(readout, _)| readout.rank.to_string()).collect();
            return Err(Failure::Input(format!(
                "{}: rank is `{rank}`, but `{}` can be read out at {}",
                args.adapter.display(),
                card.cell.variant,
                known.join(", ")
            )));
        }
    }
    Ok(wanted)
}
