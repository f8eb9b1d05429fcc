//! Tunes an experiment: trains its trials, round by round, and chooses a setting for every group.
//!
//! Trials are cells like any other, in a folder of their own: finished ones are skipped, unfinished cohorts resume, and on a device all
//! settings of a round fill its cohorts together, so that what a rung drops leaves its rows to others. Which trials a round has follows
//! from the scores of those before it alone, so an interrupted tuning goes on where it stopped.

use std::collections::BTreeSet;

use data::holdout::TUNE;
use experiment::{
    Experiment,
    cell::Cell,
    tune::{Tune, best},
};
use record::{
    Goal, RunRecord, Setting, Source, Store, Trial, Tuned, TunedGroup, TuningGroup, mean_over_seeds, spec_hash,
};

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

/// Trials that are trained together: which search each belongs to, and its place there.
type Round = Vec<(usize, usize)>;

/// What the rounds of a tuning share.
struct Tuning<'a> {
    experiment: &'a Experiment,
    tune: &'a Tune,
    again: Again,
    context: &'a StudyContext<'a>,
    sink: &'a dyn Sink,
    searches: Vec<Search>,
    goal: Goal,
}

/// Trains every trial that has no record yet and gives every group the setting with the best mean over the tuning seeds. `context.store` is
/// that of the trials.
///
/// Where the experiment halves, the first rounds are its rungs, each a part of the steps, and what scores badly in one is not in the next. A
/// round beyond adds the values at the ends where a group's best lies, as far as the experiment allows.
pub fn tune(
    experiment: &Experiment,
    tune: &Tune,
    again: Again,
    context: &StudyContext<'_>,
    sink: &dyn Sink,
) -> Result<Tuned, TrainError> {
    let fresh = |setting| Trial { setting, rungs: Vec::new(), scores: Vec::new() };
    let search =
        |group: TuningGroup| Search { trials: tune.settings(&group.variant).into_iter().map(fresh).collect(), group };
    let searches = experiment.groups().into_iter().map(search).collect();
    let mut tuning = Tuning { experiment, tune, again, context, sink, searches, goal: Goal::Maximise };
    let mut round = tuning.first_round();
    let divisors = tune.halving.map_or_else(|| vec![1], |halving| halving.divisors());
    // No rung is trained where a later one would replace finished trials unasked.
    for divisor in &divisors {
        tuning.refuse_replaced(&round, *divisor)?;
    }
    for divisor in divisors {
        let scores = tuning.judge(&round, divisor)?;
        round = tuning.kept(&round, scores, divisor);
    }
    // Whoever replaces trials of the space leaves these, so they are nobody's result.
    tuning.again.changed = true;
    loop {
        let round = tuning.wider();
        if round.is_empty() {
            break;
        }
        let scores = tuning.judge(&round, 1)?;
        tuning.kept(&round, scores, 1);
    }
    let Tuning { searches, goal, .. } = tuning;
    let chosen = searches.into_iter().map(|search| search.chosen(tune, goal)).collect::<Result<_, _>>()?;
    let found = Tuned::new(experiment.tuning_hash(), tune.seeds.clone(), tune.holdout, goal, chosen);
    Ok(found.halved(tune.halving).on(sources(experiment, context.cache, context.store)?))
}

impl Tuning<'_> {
    fn first_round(&self) -> Round {
        let of = |(at, search): (usize, &Search)| (0..search.trials.len()).map(move |trial| (at, trial));
        self.searches.iter().enumerate().flat_map(of).collect()
    }

    /// The settings of a round with a part of the steps.
    fn pairs(&self, round: &Round, divisor: u64) -> Vec<(TuningGroup, Setting)> {
        let pair = |&(at, trial): &(usize, usize)| {
            let Search { group, trials } = &self.searches[at];
            (group.clone(), self.experiment.shortened(group, &trials[trial].setting, divisor))
        };
        round.iter().map(pair).collect()
    }

    /// An error where trials of a round have records of another recipe, unless they may be replaced; failed ones go first, where they are to be
    /// made again.
    fn refuse_replaced(&self, round: &Round, divisor: u64) -> Result<(), TrainError> {
        let Ok(trials) = self.experiment.trials(&self.pairs(round, divisor)) else { return Ok(()) };
        if self.again.changed { Ok(()) } else { renew(&trials.concat(), self.again, self.context) }
    }

    /// Trains a round for a part of the steps, and gives every trial of it its scores, by tuning seed.
    fn judge(&mut self, round: &Round, divisor: u64) -> Result<Vec<Vec<Option<f64>>>, TrainError> {
        // Settings of the space were read with the experiment, at every rung, and those of a wider one were tried by `wider`.
        let Ok(trials) = self.experiment.trials(&self.pairs(round, divisor)) else {
            return Ok(vec![vec![None; self.tune.seeds.len()]; round.len()]);
        };
        renew(&trials.concat(), self.again, self.context)?;
        run(&open(trials.concat(), self.context)?, self.context, self.sink)?;
        let mut all = Vec::new();
        for cells in &trials {
            let records = finished(cells, self.context)?;
            self.goal = records.first().map_or(self.goal, |record| record.primary_metric.goal);
            all.push(self.tune.seeds.iter().map(|seed| mean_score(cells, &records, *seed)).collect());
        }
        Ok(all)
    }

    /// Keeps the scores of a round, and says what goes on after it: nothing where it had all steps.
    fn kept(&mut self, round: &Round, scores: Vec<Vec<Option<f64>>>, divisor: u64) -> Round {
        for (&(at, trial), scores) in round.iter().zip(scores) {
            let trial = &mut self.searches[at].trials[trial];
            if divisor == 1 {
                trial.scores = scores;
            } else {
                trial.rungs.push(scores);
            }
        }
        let Some(halving) = self.tune.halving.filter(|_| divisor > 1) else { return Vec::new() };
        let mut next = Vec::new();
        for (at, search) in self.searches.iter().enumerate() {
            let places: Vec<usize> = round.iter().filter(|(of, _)| *of == at).map(|(_, trial)| *trial).collect();
            let mean = |trial: &usize| search.trials[*trial].rungs.last().and_then(|scores| mean_over_seeds(scores));
            let means: Vec<Option<f64>> = places.iter().map(mean).collect();
            next.extend(halving.promoted(&means, sign(self.goal)).into_iter().map(|place| (at, places[place])));
        }
        next
    }

    /// Adds the settings beyond the ends where a group's best lies.
    fn wider(&mut self) -> Round {
        let (experiment, tune, goal) = (self.experiment, self.tune, self.goal);
        let mut round = Vec::new();
        for (at, search) in self.searches.iter_mut().enumerate() {
            for setting in search.wider(experiment, tune, goal) {
                round.push((at, search.trials.len()));
                search.trials.push(Trial { setting, rungs: Vec::new(), scores: Vec::new() });
            }
        }
        round
    }
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
    let divisors = tuned.halving.map_or_else(|| vec![1], |halving| halving.divisors());
    let mut tried = Vec::new();
    for TunedGroup { group, trials, .. } in &tuned.groups {
        for trial in trials.iter().filter(|trial| trial.has_failed()) {
            // The last rung that it reached.
            let rung = if trial.scores.is_empty() { trial.rungs.len().max(1) - 1 } else { divisors.len() - 1 };
            tried.push((group.clone(), experiment.shortened(group, &trial.setting, divisors[rung])));
        }
    }
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
    fn wider(&self, experiment: &Experiment, tune: &Tune, goal: Goal) -> Vec<Setting> {
        let Some(best) = best(&self.trials, sign(goal)) else { return Vec::new() };
        let is_new = |setting: &Setting| self.trials.iter().all(|trial| trial.setting != *setting);
        let wider = tune.wider(&self.group.variant, &self.trials, &self.trials[best].setting);
        let is_allowed = |setting: &Setting| experiment.trials(&[(self.group.clone(), setting.clone())]).is_ok();
        wider.into_iter().filter(is_new).filter(is_allowed).collect()
    }

    fn chosen(self, tune: &Tune, goal: Goal) -> Result<TunedGroup, TrainError> {
        let Self { group, trials } = self;
        let Some(chosen) = best(&trials, sign(goal)) else {
            let settings = trials.iter().filter(|trial| !trial.is_dropped()).count();
            return Err(TrainError::Untunable { group: group.to_string(), settings });
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
