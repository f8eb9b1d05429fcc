//! One file per command: its arguments, its help, and what it does. What they share is here.

pub(crate) mod analyze;
pub(crate) mod check;
pub(crate) mod claims;
pub(crate) mod combine;
pub(crate) mod complete;
mod cost;
mod devices;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod figures;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod merge;
pub(crate) mod predict;
pub(crate) mod pretrain;
mod purpose;
pub(crate) mod report;
mod results;
pub(crate) mod run;
pub(crate) mod table;
pub(crate) mod tensorboard;
mod tune;

use std::path::{Path, PathBuf};

use analysis::{compare::Rules, study::Study};
use experiment::Experiment;

use self::tune::Settled;
use crate::{
    args::{Args, Command},
    failure::Failure,
    shipped,
};

/// Runs the command that was asked for.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Run(what) => run::run(&what, &args.results),
        Command::Check(what) => check::run(&what, &args.results),
        Command::List { what } => list::run(what, &args.results),
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
        Command::Report(what) => report::run(&what, &args.results),
        Command::Tensorboard(what) => tensorboard::run(&what, &args.results),
        Command::Claims(what) => claims::run(&what, &args.results),
        Command::Pretrain(what) => pretrain::run(&what),
        Command::Init(what) => init::run(&what),
        Command::Completions(what) => complete::completions(&what),
        Command::Man(what) => complete::man(&what),
        Command::Schema => complete::schema(),
    }
}

/// The file of an experiment: `exp/x.yaml` and a bare name stand for `experiments/x.yaml`, and a bare name for a file here.
fn locate(written: &Path) -> PathBuf {
    if written.is_file() {
        return written.to_owned();
    }
    let rest = written.strip_prefix("exp").unwrap_or(written);
    let under = Path::new(shipped::FOLDER).join(rest);
    let named = [under, written.to_owned()].map(|path| path.with_extension("yaml"));
    named.into_iter().find(|path| path.is_file()).unwrap_or_else(|| written.to_owned())
}

/// The name of an experiment that is written as a bare name, as `exp/NAME.yaml` or as `experiments/NAME.yaml`.
fn bare(written: &Path) -> Option<&str> {
    let rest = ["exp", shipped::FOLDER].iter().find_map(|folder| written.strip_prefix(folder).ok()).unwrap_or(written);
    let is_bare = rest.components().count() == 1 && rest.extension().is_none_or(|end| end == "yaml");
    rest.file_stem()?.to_str().filter(|_| is_bare)
}

/// Reads and checks an experiment: a file, or one that comes with the program.
fn read(written: &Path, overrides: &[String]) -> Result<Experiment, Failure> {
    let path = locate(written);
    let bytes = assets::file::read(&path);
    if let (Err(_), Some(name)) = (&bytes, bare(written))
        && let Some(text) = shipped::find(name)
    {
        return Ok(experiment::read(text, &format!("{}/{name}.yaml", shipped::FOLDER), name, overrides)?);
    }
    let bytes = bytes.map_err(|error| {
        let path = path.display();
        Failure::Input(format!("{path}: {error}\n\nhint: `lora-lab list experiments` shows what there is"))
    })?;
    let text = experiment::text(&bytes, &path.display().to_string())?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(experiment::read(&text, &path.display().to_string(), &name, overrides)?)
}

/// What the tables and figures of an experiment need to know of it.
fn study(settled: &Settled) -> Study {
    let Settled { experiment, tuned } = settled;
    Study {
        name: experiment.name().to_owned(),
        title: experiment.title(),
        tasks: experiment.tasks().to_vec(),
        variants: experiment.labels(),
        baseline: experiment.baseline().map(str::to_owned),
        contrasts: experiment.contrasts().to_vec(),
        rules: Rules {
            equivalence: experiment.equivalence().unwrap_or(Rules::default().equivalence),
            primary: experiment.primary().to_vec(),
        },
        matched: experiment::controls::sentence(experiment.cells()),
        matching: experiment.matching().cloned(),
        tuned: tuned.clone(),
    }
}
