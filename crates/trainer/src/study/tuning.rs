//! Tunes an experiment: trains its trials, round by round, and chooses a setting for every group.
//!
//! Trials are cells like any other, in a folder of their own: finished ones are skipped, unfinished cohorts resume, and on a device all
//! settings of a round fill its cohorts together. Which trials a round has follows from the scores of those before it alone, so an
//! interrupted tuning goes on where it stopped.

use data::holdout::TUNE;
use experiment::{
    Experiment,
    cell::Cell,
    tune::{Tune, best},
};
use record::{Goal, RunRecord, Setting, Trial, Tuned, TunedGroup, TuningGroup};

use super::{
    context::StudyContext,
    identity::{Standing, spec_of, standing},
    run,
};
use crate::{error::TrainError, sink::Sink};

/// The folder of an experiment's trials below its own.
pub const FOLDER: &str = "tune";

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
    context: &StudyContext<'_>,
    sink: &dyn Sink,
) -> Result<Tuned, TrainError> {
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
        run(&open(trials.concat(), context)?, context, sink)?;
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
    Ok(Tuned::new(experiment.tuning_hash(), tune.seeds.clone(), tune.holdout, goal, chosen))
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
