//! `check`: every problem of every experiment, before a device is touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use assets::{
    device,
    source::{self, Origin, hub},
};
use experiment::{
    Experiment,
    cell::{Cell, Recipe},
    gain::{self, Gain},
    matching::{Counted, counted},
    tasks::load_for,
};
use record::{Quantity, Store};
use trainer::{
    forgetting,
    model_cache::{ModelCache, check_tokenizer},
};

use super::{
    cost::{self, Costs},
    read,
    run::Array,
    tune::{self, Settled},
};
use crate::{failure::Failure, terminal::print};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab check experiments/*.yaml
  lora-lab check my.yaml --set train.learning_rate=1e-3
  lora-lab check my.yaml --estimate             how long the study takes")]
pub(crate) struct Check {
    /// Experiments: YAML files, or their names under `experiments/`.
    #[arg(required = true)]
    pub experiments: Vec<PathBuf>,
    /// Override a field, as in `run`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Say what the runs without a record cost, by the records of others like them and by steps that are timed now: seconds to a minute.
    /// Experiments with a block `launcher` are estimated in any case.
    #[arg(long)]
    pub estimate: bool,
    /// Where steps are timed: cpu, or a name that `lora-lab devices` lists.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Checks all files, and that their results can be written; fails if one has a problem.
pub(super) fn run(args: &Check, results: &Path) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for path in &args.experiments {
        match read(path, &args.set) {
            Ok(experiment) => {
                let mut reasons = unfit(&experiment);
                reasons.extend(writable(&results.join(experiment.name())).err());
                if reasons.is_empty() {
                    print(&format!(
                        "{}: {} cells{}, no problems\n",
                        path.display(),
                        experiment.cells().len(),
                        trials(&experiment)
                    ))?;
                    print(&unseen(&experiment))?;
                    print(&starts(&experiment))?;
                    print(&matched(&experiment))?;
                    print(&spaces(&experiment))?;
                    print(&unwidened(&experiment))?;
                    if args.estimate || experiment.launcher().is_some() {
                        match estimated(args, &experiment, results) {
                            Ok(said) => print(&said)?,
                            Err(Failure::Input(message)) => reasons.push(message),
                            Err(other) => return Err(other),
                        }
                    }
                }
                problems.extend(reasons.into_iter().map(|reason| format!("{}: {reason}", path.display())));
            }
            Err(Failure::Input(message)) => problems.push(message),
            Err(other) => return Err(other),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Input(problems.join("\nerror: "))) }
}

/// Lines with what the runs that are to be trained cost, and what a cluster would be asked for. Nothing is fetched for that.
fn estimated(args: &Check, experiment: &Experiment, results: &Path) -> Result<String, Failure> {
    if !unseen(experiment).is_empty() {
        return Ok("  cost: not estimated, since a model is not here yet\n".to_owned());
    }
    let store = Store::open(results, experiment.name())?;
    let tuned = tune::found(experiment, &store)?;
    let is_tuned = tuned.is_some();
    let settled = tuned.map(|tuned| Settled::with(experiment, tuned)).transpose()?;
    let experiment = settled.as_ref().map_or(experiment, |settled| &settled.experiment);
    let slurm = experiment.launcher();
    let named = device::parse(&args.device)?;
    let costs = cost::on(&named, slurm, (experiment, is_tuned, false), &store, results)?;
    let mut said = costs.as_ref().map_or_else(|| cost::UNKNOWN.to_owned(), Costs::said);
    if let Some(slurm) = slurm.filter(|_| !costs.as_ref().is_some_and(Costs::is_nothing)) {
        let array = Array::new(slurm, costs.as_ref(), None, experiment.cells().len());
        said += &format!("  {}\n", array.said(slurm));
    }
    Ok(said)
}

/// A line per model of the hub that is not in its cache, against which nothing was held.
fn unseen(experiment: &Experiment) -> String {
    let models: BTreeSet<&str> = experiment.cells().iter().map(|cell| &*cell.recipe.model).collect();
    let is_unseen = |name: &&str| matches!(source::config(name), Ok(None));
    let line = |name: &str| {
        format!(
            "  `{name}` is not here yet: `run` fetches it and checks targets and ranks against it before it trains\n"
        )
    };
    models.into_iter().filter(is_unseen).map(line).collect()
}

/// How many trials are made before the cells.
fn trials(experiment: &Experiment) -> String {
    let Some(tune) = experiment.tune() else { return String::new() };
    let settings = experiment.groups().iter().map(|group| tune.settings(&group.variant).len()).sum::<usize>();
    let rungs = tune.halving.map(|halving| format!(", by successive halving in {} rungs", halving.rungs));
    let seeds = tune.seeds.len();
    let seeds = if seeds == 1 { "1 tuning seed".to_owned() } else { format!("{seeds} tuning seeds") };
    format!(" after {settings} settings with {seeds} each{}", rungs.unwrap_or_default())
}

/// A line per entry with what is tuned in it, where entries differ in that.
fn spaces(experiment: &Experiment) -> String {
    let Some(tune) = experiment.tune() else { return String::new() };
    let mut labels: Vec<&str> = Vec::new();
    for cell in experiment.cells() {
        if !labels.contains(&cell.id.variant.as_str()) {
            labels.push(&cell.id.variant);
        }
    }
    let space = |label: &&str| tune.parameters(label);
    if labels.windows(2).all(|two| space(&two[0]) == space(&two[1])) {
        return String::new();
    }
    let line = |label: &&str| {
        let fields: Vec<String> = tune.parameters(label).iter().map(ToString::to_string).collect();
        format!("  tune: {label}: {}\n", fields.join("; "))
    };
    labels.iter().map(line).collect()
}

/// A line per tuned number that cannot be widened though the experiment widens.
fn unwidened(experiment: &Experiment) -> String {
    let said = experiment.tune().map(experiment::tune::Tune::unwidened).unwrap_or_default();
    said.iter().map(|line| format!("  tune: {line}\n")).collect()
}

/// A line per variant and rank whose update starts at 0 beside drawn factors: how far a unit of what starts at 0 moves the weight.
fn starts(experiment: &Experiment) -> String {
    let line = |gain: Gain| {
        let [least, most] = gain.norm.map(|norm| gain.scale * norm);
        let range = if most - least > 1e-9 { format!("{least:.3} to {most:.3}") } else { format!("{least:.3}") };
        format!("  {} rank {}: gain of the start {range}, at a scale of {:.3}\n", gain.variant, gain.rank, gain.scale)
    };
    gain::gains(experiment.cells()).into_iter().map(line).collect()
}

/// A line per row of an experiment that matches parameters: how many it trains.
fn matched(experiment: &Experiment) -> String {
    let by_parameters = experiment.matching().is_some_and(|matching| matching.by == Quantity::Parameters);
    let line = |Counted { variant, rank, parameters }: Counted| {
        let rank = if rank > 0 { format!(" rank {rank}") } else { String::new() };
        parameters.map(|parameters| format!("  {variant}{rank}: {parameters} trained parameters\n"))
    };
    if by_parameters { counted(experiment.cells()).into_iter().filter_map(line).collect() } else { String::new() }
}

/// What keeps the experiment from being trained: models and data that are not there, or are not what they should be. All of it, each once.
fn unfit(experiment: &Experiment) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    let mut add = |reason: String| {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    };
    // What `run` opens, by the same code; but no more of it than is at hand.
    let cache = ModelCache::on_cpu();
    let mut models: BTreeMap<&str, bool> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for Cell { recipe, .. } in experiment.cells() {
        let model: &str = &recipe.model;
        let opens = *models.entry(model).or_insert_with(|| {
            let reason = match source::absent(model, None) {
                Some(absent) => Some(absent.to_string()),
                None if source::is_here(model) => cache.base_of(recipe).err().map(|error| error.to_string()),
                None => check_tokenizer(model).err().map(|error| error.to_string()),
            };
            let opens = reason.is_none() && source::is_here(model);
            reason.into_iter().for_each(&mut add);
            opens
        });
        let task = (model, &recipe.task, recipe.train.max_length, recipe.seeds.sample);
        if !seen.insert(task) {
            continue;
        }
        let data = recipe.data.as_deref();
        let reason = match data.map(source::files) {
            Some(Err(absent)) => Some(absent.to_string()),
            // Files of the hub are fetched when it is run.
            Some(Ok(_)) if data.is_some_and(|data| data.starts_with(hub::SCHEME)) => None,
            _ if opens => cache.task(recipe).err().map(|error| error.to_string()),
            _ if recipe.text().is_none() => load_for(recipe).err().map(|error| error.to_string()),
            _ => None,
        };
        reason.into_iter().for_each(&mut add);
    }
    immeasurable(experiment).into_iter().for_each(&mut add);
    reasons
}

/// Why forgetting cannot be measured of models that are at hand, each model once.
fn immeasurable(experiment: &Experiment) -> Vec<String> {
    let is_here = |model: &str| matches!(source::model(model), Ok(Origin::Embedded(_))) || Path::new(model).is_dir();
    let recipes: BTreeMap<&str, &Recipe> =
        experiment.cells().iter().map(|cell| (&*cell.recipe.model, &cell.recipe)).collect();
    let of_model = |(_, recipe): (&str, &Recipe)| forgetting::check(recipe).err().map(|error| error.to_string());
    recipes.into_iter().filter(|(model, _)| is_here(model)).filter_map(of_model).collect()
}

/// Whether a folder can be made and written to; looks at the nearest part of the path that exists, and makes nothing.
fn writable(folder: &Path) -> Result<(), String> {
    let nearest = folder.ancestors().find(|part| part.exists()).unwrap_or(Path::new("."));
    let nearest = if nearest.as_os_str().is_empty() { Path::new(".") } else { nearest };
    let shown = nearest.display();
    let meta = std::fs::metadata(nearest).map_err(|error| format!("{shown}: {error}"))?;
    if !meta.is_dir() {
        return Err(format!("{shown}: results go into this folder, but it is a file; use `--results DIR`"));
    }
    if meta.permissions().readonly() {
        return Err(format!("{shown}: cannot be written to; use `--results DIR`"));
    }
    Ok(())
}
