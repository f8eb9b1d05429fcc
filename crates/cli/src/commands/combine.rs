//! `combine`: several adapters merged into one LoRA in PEFT's format (model merging).

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use interop::model_merging::{
    COMMAND, CombineReport, CombineRequest, Input, combine,
    lorahub::Mix,
    methods::{Method, SignElection},
};
use trainer::model_cache::ModelCache;

use crate::{
    failure::Failure,
    terminal::{note, print},
};

/// Arguments of `combine`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab combine RUN_A=0.5 RUN_B=0.5 --method linear --out mean                 the exact mean of two updates
  lora-lab combine RUN_A RUN_B=-0.4 --method svd --rank 8 --out difference        the best LoRA of rank 8 of A - 0.4*B
  lora-lab combine RUN_A RUN_B PEFT_C --method ties --density 0.2 --rank 16 --out ties
  lora-lab combine RUN_A RUN_B --method regmean --rank 16 --out regression        fits both on their own training inputs
  lora-lab combine RUN_A RUN_B --method lorahub --target RUN_C --out hub           weights by search on 16 examples of C's task
  lora-lab combine RUN_A RUN_B --method dare --density 0.1 --seed 1 --rank 16 --head RUN_A --out dare

Every method but lorahub merges the updates ΔW, scale included, and never A and B separately, so there are no cross terms. The adapters may
differ in rank, method and adapted maps; a map that an adapter does not have counts as zero. The folder has adapter_config.json and
adapter_model.safetensors with scale 1; PEFT and `analyze` read it. stdout has one line per map and one for all: the rank, the
Frobenius norm of the merged update, and what the reduction to that rank lost. Only linear, cat and svd give updates of low rank, so
reducing the others to a rank can lose much. fisher and regmean run every adapter's model on its own training data, so they take runs alone.")]
pub(crate) struct Combine {
    /// Runs' folders, their adapter.safetensors, or folders that PEFT wrote, each with its weight after `=` (1 by default).
    #[arg(required = true, value_name = "ADAPTER[=WEIGHT]")]
    pub adapters: Vec<String>,
    /// Merging method.
    #[arg(long)]
    pub method: MethodName,
    /// Largest rank of a map; linear and cat are exact and take none.
    #[arg(long)]
    pub rank: Option<usize>,
    /// TIES, DARE, ComPEFT, pruning: share of every update's entries that is kept, above 0 and at most 1.
    #[arg(long, value_name = "SHARE")]
    pub density: Option<f64>,
    /// LoRAHub: a run on the task that weights are searched for; its examples and its head are used.
    #[arg(long, value_name = "RUN")]
    pub target: Option<PathBuf>,
    /// LoRAHub: how often the loss is computed; 40 by default.
    #[arg(long, value_name = "N")]
    pub evaluations: Option<usize>,
    /// LoRAHub: what is mixed, `factors` by default.
    #[arg(long)]
    pub mix: Option<MixName>,
    /// DARE: seed of the random masks; LoRAHub: seed of the search; 0 by default.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Fisher: examples of every run's training whose gradients are taken, one by one; 256 by default. LoRAHub: examples of the target's
    /// training; 16 by default.
    #[arg(long, value_name = "N")]
    pub examples: Option<usize>,
    /// RegMean: micro-batches of every run's training over which the inputs of its maps are taken; 8 by default.
    #[arg(long, value_name = "N")]
    pub batches: Option<usize>,
    /// RegMean: what Gram matrices are multiplied by off the diagonal, 0 to 1; 0.9 by default, 1 is the regression itself.
    #[arg(long, value_name = "SHARE")]
    pub off_diagonal: Option<f64>,
    /// TIES: how the sign of each entry is elected, `total` by default.
    #[arg(long, alias = "election", value_name = "METHOD")]
    pub majority_sign_method: Option<SignMethod>,
    /// Copy the classification head of this adapter, named by its path as above.
    #[arg(long, value_name = "ADAPTER")]
    pub head: Option<PathBuf>,
    /// Folder for the new adapter; it must be new, empty, or an earlier output of this command.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Write into a folder that this command did not make: files of the same names are replaced, the others stay.
    #[arg(long)]
    pub force: bool,
}

/// Micro-batches that show a map enough inputs at a width of some hundreds.
const BATCHES: usize = 8;
/// Enough for a mean of squares.
const EXAMPLES: usize = 256;
/// LoRAHub's, in the authors' code.
const EVALUATIONS: usize = 40;
/// Few.
const SHOTS: usize = 16;
/// The authors' for encoders.
const OFF_DIAGONAL: f64 = 0.9;

/// Merging methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MethodName {
    /// The weighted sum, exact, at its own rank. Task arithmetic (arXiv:2212.04089); a negative weight forgets.
    #[value(alias = "task_arithmetic")]
    Linear,
    /// The same sum with the factors concatenated, at the sum of the ranks.
    Cat,
    /// The best approximation of the sum at a rank (truncated SVD).
    Svd,
    /// Keep the largest entries of each update, elect a sign per entry, average those that agree (arXiv:2306.01708).
    Ties,
    /// Drop entries at random, rescale the rest, sum (arXiv:2311.03099).
    Dare,
    /// The signs of each update's largest entries, all of one size, summed (arXiv:2311.13171).
    Compeft,
    /// A mean in which every entry counts as its squared gradient on the run's own training data (arXiv:2111.09832).
    Fisher,
    /// Fit the outputs of every run on its own training inputs (arXiv:2212.09849).
    Regmean,
    /// Weights that a search without gradients finds on a few examples of another task (arXiv:2307.13269).
    Lorahub,
    /// Keep the largest entries of each update, sum.
    #[value(name = "magnitude_prune")]
    MagnitudePrune,
}

impl MethodName {
    fn text(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Cat => "cat",
            Self::Svd => "svd",
            Self::Ties => "ties",
            Self::Dare => "dare",
            Self::Compeft => "compeft",
            Self::Fisher => "fisher",
            Self::Regmean => "regmean",
            Self::Lorahub => "lorahub",
            Self::MagnitudePrune => "magnitude_prune",
        }
    }
}

/// How TIES elects a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SignMethod {
    /// The sign of the larger summed magnitude.
    Total,
    /// The sign that more adapters have.
    Frequency,
}

/// How LoRAHub makes one adapter of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MixName {
    /// Factor by factor, as in the paper; adapters share their rank.
    Factors,
    /// Update by update.
    Deltas,
}

/// Merges, and prints what the rank cost.
pub(super) fn run(args: &Combine) -> Result<(), Failure> {
    let method = method(args).map_err(Failure::Input)?;
    let inputs: Vec<Input> = args.adapters.iter().map(|written| input(written)).collect();
    let Combine { head, target, out, force, .. } = args;
    let (head, target) = (head.as_deref(), target.as_deref());
    let request = CombineRequest { inputs: &inputs, method, head, target, out, force: *force, command: COMMAND };
    let report = combine(&request, &ModelCache::on_cpu())?;
    report.notes.iter().for_each(|line| note(line));
    note(&format!("wrote {} maps to {}", report.maps.len(), args.out.display()));
    print(&table(&report))
}

/// `ADAPTER` or `ADAPTER=WEIGHT`; a path that exists is an adapter, whatever its name.
fn input(written: &str) -> Input {
    let unweighted = Input { path: PathBuf::from(written), weight: 1.0 };
    if Path::new(written).exists() {
        return unweighted;
    }
    match written.rsplit_once('=').and_then(|(path, weight)| Some((path, weight.parse().ok()?))) {
        Some((path, weight)) => Input { path: PathBuf::from(path), weight },
        None => unweighted,
    }
}

/// The method with its numbers.
fn method(args: &Combine) -> Result<Method, String> {
    check(args)?;
    let (rank, density) = (args.rank.unwrap_or_default(), args.density.unwrap_or_default());
    let election = match args.majority_sign_method {
        Some(SignMethod::Frequency) => SignElection::Frequency,
        Some(SignMethod::Total) | None => SignElection::Total,
    };
    Ok(match args.method {
        MethodName::Linear => Method::Linear,
        MethodName::Cat => Method::Cat,
        MethodName::Svd => Method::Svd { rank },
        MethodName::Ties => Method::Ties { rank, density, election },
        MethodName::Dare => Method::Dare { rank, density, seed: args.seed.unwrap_or(0) },
        MethodName::Compeft => Method::Compeft { rank, density },
        MethodName::Fisher => Method::Fisher { rank, examples: args.examples.unwrap_or(EXAMPLES) },
        MethodName::Regmean => Method::RegMean {
            rank,
            batches: args.batches.unwrap_or(BATCHES),
            off_diagonal: args.off_diagonal.unwrap_or(OFF_DIAGONAL),
        },
        MethodName::Lorahub => Method::LoraHub {
            mix: if args.mix == Some(MixName::Deltas) { Mix::Deltas } else { Mix::Factors },
            examples: args.examples.unwrap_or(SHOTS),
            evaluations: args.evaluations.unwrap_or(EVALUATIONS),
            seed: args.seed.unwrap_or(0),
        },
        MethodName::MagnitudePrune => Method::MagnitudePrune { rank, density },
    })
}

/// Names every number that is missing or has no part in the method, at once.
fn check(args: &Combine) -> Result<(), String> {
    let name = args.method.text();
    let hub = args.method == MethodName::Lorahub;
    let exact = hub || matches!(args.method, MethodName::Linear | MethodName::Cat);
    let regression = args.method == MethodName::Regmean;
    let fisher = args.method == MethodName::Fisher;
    let sparse = !exact && !regression && !fisher && args.method != MethodName::Svd;
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
    part("--density", args.density.is_some(), sparse, sparse, if sparse { ", the share that is kept" } else { "" });
    part("--seed", args.seed.is_some(), hub || args.method == MethodName::Dare, false, "");
    let ties = args.method == MethodName::Ties;
    part("--examples", args.examples.is_some(), fisher || hub, false, "");
    part("--target", args.target.is_some(), hub, hub, ", a run on the task that weights are searched for");
    part("--evaluations", args.evaluations.is_some(), hub, false, "");
    part("--mix", args.mix.is_some(), hub, false, "");
    part("--batches", args.batches.is_some(), regression, false, "");
    part("--off-diagonal", args.off_diagonal.is_some(), regression, false, "");
    part("--majority-sign-method", args.majority_sign_method.is_some(), ties, false, "");
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

/// One line per map, and one for all together.
pub(super) fn table(report: &CombineReport) -> String {
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
