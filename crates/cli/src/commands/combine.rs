//! `combine`: several adapters as one LoRA in PEFT's format.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use interop::model_merging::{
    Input, Report, Request, combine,
    methods::{Election, Method},
};
use trainer::library::Library;
use variants::host::Placement;

use crate::{
    args::{Combine, ElectionName, MethodName},
    terminal::{Failure, note, print, unwritten},
};

/// Combines, and prints what a rank has cost.
pub(super) fn run(args: &Combine) -> Result<(), Failure> {
    let method = method(args).map_err(Failure::Input)?;
    let inputs: Vec<Input> = args.adapters.iter().map(|written| input(written)).collect();
    let library = Library::new(Placement::new(&Device::flex(), DType::F32));
    let request = Request { inputs: &inputs, method, head: args.head.as_deref(), out: &args.out };
    let report = combine(&request, &library).map_err(unwritten)?;
    report.notes.iter().for_each(|line| note(line));
    note(&format!("wrote {} maps to {}", report.maps.len(), args.out.display()));
    print(&table(&report))
}

/// `ADAPTER` or `ADAPTER=WEIGHT`; a path that is there is one, whatever it is called.
fn input(written: &str) -> Input {
    let whole = Input { path: PathBuf::from(written), weight: 1.0 };
    if Path::new(written).exists() {
        return whole;
    }
    match written.rsplit_once('=').and_then(|(path, weight)| Some((path, weight.parse().ok()?))) {
        Some((path, weight)) => Input { path: PathBuf::from(path), weight },
        None => whole,
    }
}

/// The method with its numbers; every number that is missing or has no part in it is named at once.
fn method(args: &Combine) -> Result<Method, String> {
    let name = match args.method {
        MethodName::Linear => "linear",
        MethodName::Cat => "cat",
        MethodName::Svd => "svd",
        MethodName::Ties => "ties",
        MethodName::Dare => "dare",
        MethodName::MagnitudePrune => "magnitude_prune",
    };
    let exact = matches!(args.method, MethodName::Linear | MethodName::Cat);
    let sparse = !exact && args.method != MethodName::Svd;
    let mut problems = Vec::new();
    let mut part = |flag: &str, is_given: bool, has_part: bool, is_needed: bool, meaning: &str| {
        if is_given && !has_part {
            problems.push(format!("`{flag}` has no part in `{name}`; leave it out{meaning}"));
        } else if !is_given && is_needed {
            problems.push(format!("`{name}` needs `{flag}`{meaning}"));
        }
    };
    let rank = if exact { ", or approximate the sum with `--method svd`" } else { ", the largest rank of a map" };
    part("--rank", args.rank.is_some(), !exact, !exact, rank);
    part("--density", args.density.is_some(), sparse, sparse, if sparse { ", the share that stays" } else { "" });
    part("--seed", args.seed.is_some(), args.method == MethodName::Dare, false, "");
    part("--election", args.election.is_some(), args.method == MethodName::Ties, false, "");
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    let (rank, density) = (args.rank.unwrap_or_default(), args.density.unwrap_or_default());
    let election = match args.election {
        Some(ElectionName::Frequency) => Election::Frequency,
        Some(ElectionName::Total) | None => Election::Total,
    };
    Ok(match args.method {
        MethodName::Linear => Method::Linear,
        MethodName::Cat => Method::Cat,
        MethodName::Svd => Method::Svd { rank },
        MethodName::Ties => Method::Ties { rank, density, election },
        MethodName::Dare => Method::Dare { rank, density, seed: args.seed.unwrap_or(0) },
        MethodName::MagnitudePrune => Method::MagnitudePrune { rank, density },
    })
}

/// One line per map, and one for all together.
pub(super) fn table(report: &Report) -> String {
    let share = |lost: f64, norm: f64| if norm > 0.0 { lost / norm } else { 0.0 };
    let mut out = String::from("map,rank,norm,lost,lost_share\n");
    for map in &report.maps {
        out += &format!("{},{},{:.6},{:.3e},{:.4}\n", map.map, map.rank, map.norm, map.lost, share(map.lost, map.norm));
    }
    let (norm, lost) = report.total();
    let ranks: usize = report.maps.iter().map(|map| map.rank).sum();
    out += &format!("all,{ranks},{norm:.6},{lost:.3e},{:.4}\n", share(lost, norm));
    out
}
