//! One file per command.

mod analyze;
mod check;
mod claims;
mod combine;
mod devices;
mod eval;
mod export;
mod figures;
mod import;
mod list;
mod merge;
mod predict;
mod pretrain;
mod run;
mod table;

use std::path::{Path, PathBuf};

use experiment::Experiment;

use crate::{
    args::{Args, Command},
    terminal::Failure,
};

/// Runs what was asked for.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Run(what) => run::run(&what, &args.results),
        Command::Check(what) => check::run(&what, &args.results),
        Command::List { what } => list::run(what),
        Command::Devices => devices::run(),
        Command::Table(what) => table::run(&what, &args.results),
        Command::Eval(what) => eval::run(&what),
        Command::Export(what) => export::run(&what),
        Command::Import(what) => import::run(&what),
        Command::Combine(what) => combine::run(&what),
        Command::Merge(what) => merge::run(&what),
        Command::Predict(what) => predict::run(&what),
        Command::Analyze(what) => analyze::run(&what, &args.results),
        Command::Figures(what) => figures::run(&what, &args.results),
        Command::Claims(what) => claims::run(&what, &args.results),
        Command::Pretrain(what) => pretrain::run(&what),
    }
}

/// The file an experiment is written in: `exp/x.yaml` and a bare name stand for `experiments/x.yaml`.
fn locate(written: &Path) -> PathBuf {
    if written.is_file() {
        return written.to_owned();
    }
    let rest = written.strip_prefix("exp").unwrap_or(written);
    let under = Path::new("experiments").join(rest);
    let with_extension = under.with_extension("yaml");
    if with_extension.is_file() { with_extension } else { written.to_owned() }
}

/// Reads and checks an experiment.
fn read(written: &Path, overrides: &[String]) -> Result<Experiment, Failure> {
    let path = locate(written);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::Input(format!("{}: {error}\n\nhint: `lora-lab list experiments` shows what there is", path.display()))
    })?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    experiment::read(&text, &path.display().to_string(), &name, overrides)
        .map_err(|errors| Failure::Input(errors.to_string()))
}
