//! Tunes an experiment: trains its trials, round by round, and chooses a setting for every group.
//!
//! Trials are cells like any other, in a folder of their own: finished ones are skipped, unfinished cohorts resume, and on a device all
//! settings of a round fill its cohorts together. Which trials a round has follows from the scores of those before it alone, so an
//! interrupted tuning goes on where it stopped.

use std::collections::BTreeSet;

use data::holdout::TUNE;
use experiment::{
    Experiment,
    cell::Cell,
    tune::{Tune, best},
};
use record::{Goal, RunRecord, Setting, Source, Store, Trial, Tuned, TunedGroup, TuningGroup, spec_hash};

use super::{
    Forget,
    context::StudyContext,
    forget,
    identity::{Standing, spec_of, standing},
    remove, run, whole_record,
};
use crate::{error::TrainError, model_cache::ModelCache, sink::Sink, warm_start};

/// The folder of an experiment's trials below its own.
pub const FOLDER: &str = "tune";

/// Which trials with a record are trained again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Again {
    /// Those whose recipe, base, data or start is another now. Without this they are an error.
    pub changed: bool,
    /// Those that failed.
    pub failed: bool,
}

/// A group while it is tuned.
struct Search {
    group: TuningGroup,
    trials: Vec<Trial>,
}

/// Trains every trial that has no record yet and gives every group the setting with the best mean over the tuning seeds. `context.store` is
/// that of the trials.
///
/// A round beyond the first adds the values at the ends where a group's best lies, as far as the experiment allows.
pub fn tune(
    experiment: &Experiment,
    tune: &Tune,
    again: Again,
    context: &StudyContext<'_>,
    sink: &dyn Sink,
) -> Result<Tuned, TrainError> {
    let mut again = again;
    let groups = experiment.groups();
    let mut searches: Vec<Search> = groups.into_iter().map(|group| Search { group, trials: Vec::new() }).collect();
    let first = |(at, search): (usize, &Search)| {
        tune.settings(&search.group.variant).into_iter().map(move |setting| (at, setting)).collect::<Vec<_>>()
    };
    let mut round: Vec<(usize, Setting)> = searches.iter().enumerate().flat_map(first).collect();
    let mut goal = Goal::Maximise;
    while !round.is_empty() {
        let pairs: Vec<(TuningGroup, Setting)> =
            round.iter().map(|(at, setting)| (searches[*at].group.clone(), setting.clone())).collect();
        // Settings of the first round were read with the experiment, and those of a wider one were tried by `wider`.
        let Ok(trials) = experiment.trials(&pairs) else { break };
        renew(&trials.concat(), again, context)?;
        run(&open(trials.concat(), context)?, context, sink)?;
        // Whoever replaces trials of the first round leaves these, so they are nobody's result.
        again.changed = true;
        for ((at, setting), cells) in round.iter().zip(&trials) {
            let records = finished(cells, context)?;
            goal = records.first().map_or(goal, |record| record.primary_metric.goal);
            let scores = tune.seeds.iter().map(|seed| mean_score(cells, &records, *seed)).collect();
            searches[*at].trials.push(Trial { setting: setting.clone(), scores });
        }
        let wider = |(at, search): (usize, &Search)| search.wider(at, experiment, tune, goal);
        round = searches.iter().enumerate().flat_map(wider).collect();
    }
    let chosen = searches.into_iter().map(|search| search.chosen(tune, goal)).collect::<Result<_, _>>()?;
    let found = Tuned::new(experiment.tuning_hash(), tune.seeds.clone(), tune.holdout, goal, chosen);
    Ok(found.on(sources(experiment, context.cache, context.store)?))
}

/// What the trials of an experiment are trained on, as its files are now.
pub fn sources(experiment: &Experiment, cache: &ModelCache, store: &Store) -> Result<BTreeSet<Source>, TrainError> {
    let of = |cell: Cell| {
        let task = cache.task(&cell.recipe)?;
        let start =
            cell.recipe.start_from.as_ref().map(|from| warm_start::identity(from, store)).transpose()?.flatten();
        Ok(Source {
            task: cell.id.task,
            seed: cell.id.seed,
            model_hash: cache.base_of(&cell.recipe)?.hash.clone(),
            data_hash: task.hash.clone(),
            reading_hash: task.reading.clone(),
            start_hash: start.map(|start| start.hash),
        })
    };
    experiment.first_trials().into_iter().map(of).collect()
}

/// Whether a record of a trial is that of a run that failed.
pub fn has_failed(experiment: &Experiment, tuned: &Tuned, store: &Store) -> Result<bool, TrainError> {
    let of_group = |group: &TunedGroup| {
        let of_trial = |trial: &Trial| (group.group.clone(), trial.setting.clone());
        group.trials.iter().filter(|trial| trial.mean().is_none()).map(of_trial).collect::<Vec<_>>()
    };
    let tried: Vec<_> = tuned.groups.iter().flat_map(of_group).collect();
    let Ok(cells) = experiment.trials(&tried) else { return Ok(false) };
    for cell in cells.concat() {
        if whole_record(&cell, store)?.is_some_and(|record| !record.is_finished()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the records of trials that are to be trained again; an error where that was not asked for and a record is of another recipe.
fn renew(trials: &[Cell], again: Again, context: &StudyContext<'_>) -> Result<(), TrainError> {
    if again.failed {
        forget(trials, context.store, Forget::Failed)?;
    }
    let stale: Vec<&Cell> = trials.iter().filter(|cell| is_stale(cell, context)).collect();
    if again.changed && !stale.is_empty() {
        context.store.prepare()?;
        let _lock = context.store.lock()?;
        return stale.iter().try_for_each(|cell| remove(&context.store.run_dir(&cell.id)));
    }
    let replaced = super::replaced(trials, context.store)?;
    let Some(first) = replaced.first() else { return Ok(()) };
    Err(TrainError::WouldReplace {
        path: context.store.runs_dir(),
        cells: replaced.len(),
        first: first.to_string(),
        what: "its recipe is another now".to_owned(),
    })
}

/// Whether a trial has a record, but not of its recipe, base, data and start as they are now, or one that cannot be read.
fn is_stale(cell: &Cell, context: &StudyContext<'_>) -> bool {
    match context.store.record(&cell.id) {
        Ok(None) => false,
        Ok(Some(record)) if record.spec_hash == spec_hash(&spec_of(cell)) => {
            matches!(standing(cell, context), Ok(Standing::Changed(_)))
        }
        Ok(Some(_)) | Err(_) => true,
    }
}

/// Trials that are not judged yet. A trial is judged by its record alone, so one whose adapter is gone counts.
fn open(trials: Vec<Cell>, context: &StudyContext<'_>) -> Result<Vec<Cell>, TrainError> {
    let is_open = |cell: Cell| match standing(&cell, context) {
        Ok(Standing::NoAdapter) => None,
        Ok(_) => Some(Ok(cell)),
        Err(error) => Some(Err(error)),
    };
    trials.into_iter().filter_map(is_open).collect()
}

/// Which way a score counts.
fn sign(goal: Goal) -> f64 {
    match goal {
        Goal::Maximise => 1.0,
        Goal::Minimise => -1.0,
    }
}

impl Search {
    /// What its next round adds: a value that the experiment's rules refuse ends the widening of this group at this end.
    fn wider(&self, at: usize, experiment: &Experiment, tune: &Tune, goal: Goal) -> Vec<(usize, Setting)> {
        let Some(best) = best(&self.trials, sign(goal)) else { return Vec::new() };
        let is_new = |setting: &Setting| self.trials.iter().all(|trial| trial.setting != *setting);
        let wider = tune.wider(&self.group.variant, &self.trials, &self.trials[best].setting);
        let is_allowed = |setting: &Setting| experiment.trials(&[(self.group.clone(), setting.clone())]).is_ok();
        wider.into_iter().filter(is_new).filter(is_allowed).map(|setting| (at, setting)).collect()
    }

    fn chosen(self, tune: &Tune, goal: Goal) -> Result<TunedGroup, TrainError> {
        let Self { group, trials } = self;
        let Some(chosen) = best(&trials, sign(goal)) else {
            return Err(TrainError::Untunable { group: group.to_string(), settings: trials.len() });
        };
        let edges = tune.edges(&group.variant, &trials, &trials[chosen].setting).into_iter().collect();
        Ok(TunedGroup { group, trials, chosen, edges })
    }
}

/// The records of a trial's cells.
fn finished(cells: &[Cell], context: &StudyContext<'_>) -> Result<Vec<RunRecord>, TrainError> {
    let of = |cell: &Cell| context.store.finished(&cell.id, &record::spec_hash(&spec_of(cell)));
    cells.iter().filter_map(|cell| of(cell).transpose()).map(|record| Ok(record?)).collect()
}

/// The mean score of the cells of one seed; none unless every one has a score.
fn mean_score(cells: &[Cell], records: &[RunRecord], seed: u64) -> Option<f64> {
    let of_seed = cells.iter().filter(|cell| cell.id.seed == seed);
    let scores: Option<Vec<f64>> =
        of_seed.map(|cell| score(records.iter().find(|record| record.cell == cell.id)?)).collect();
    mean(&scores?)
}

/// The primary metric on the tuning split at the run's reported step, the mean over its readouts: what DyLoRA reports at every rank counts
/// at every rank.
fn score(record: &RunRecord) -> Option<f64> {
    let of_split = || record.evaluations.iter().filter(|evaluation| evaluation.split == TUNE);
    let last = of_split().map(|evaluation| evaluation.step).max()?;
    let step = record.best.as_ref().map_or(last, |best| best.step);
    let values = of_split().filter(|evaluation| evaluation.step == step);
    let values: Option<Vec<f64>> = values.map(|e| e.metrics.get(&record.primary_metric.name).copied()).collect();
    record.is_finished().then_some(())?;
    mean(&values?).filter(|score| score.is_finite())
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
