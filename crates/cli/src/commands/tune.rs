//! What commands know of a tuning: whether it was done, and the experiment with the settings that it chose.

use std::{collections::BTreeMap, path::Path};

use experiment::Experiment;
use record::{Store, Tuned};
use trainer::study::tuning::FOLDER;

use crate::failure::Failure;

/// An experiment as its results are read: with the settings of its tuning, where it is tuned.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The experiment, whose cells have the settings that were chosen.
    pub(crate) experiment: Experiment,
    /// What the tuning found.
    pub(crate) tuned: Option<Tuned>,
}

impl Settled {
    /// Of an experiment whose tuning, if it has one, was done before.
    pub(crate) fn of(experiment: Experiment, store: &Store) -> Result<Self, Failure> {
        if experiment.tune().is_none() {
            return Ok(Self { experiment, tuned: None });
        }
        match found(&experiment, store)? {
            Some(tuned) => Self::with(&experiment, tuned),
            None => Err(Failure::Input(format!(
                "{}: no tuning of `{}` as it stands now\n\nhint: `lora-lab run` tunes it, and trains it with what was chosen",
                store.tuned_path().display(),
                experiment.name()
            ))),
        }
    }

    /// Of an experiment and what its tuning found.
    pub(crate) fn with(experiment: &Experiment, tuned: Tuned) -> Result<Self, Failure> {
        let setting = |group: &record::TunedGroup| (group.group.clone(), group.setting().clone());
        let chosen: BTreeMap<_, _> = tuned.groups.iter().map(setting).collect();
        Ok(Self { experiment: experiment.tuned(&chosen)?, tuned: Some(tuned) })
    }
}

/// What a tuning of exactly this experiment found; none where there was none, or another, or where nothing is tuned. An error where the
/// file cannot be what that tuning wrote.
pub(super) fn found(experiment: &Experiment, store: &Store) -> Result<Option<Tuned>, Failure> {
    if experiment.tune().is_none() {
        return Ok(None);
    }
    let hash = experiment.tuning_hash();
    let Some(tuned) = store.tuned()?.filter(|tuned| tuned.hash == hash) else { return Ok(None) };
    match experiment.check_tuned(&tuned) {
        Ok(()) => Ok(Some(tuned)),
        Err(reason) => Err(store.bad_tuned(reason).into()),
    }
}

/// Where an experiment's trials are.
pub(super) fn trials(results: &Path, experiment: &Experiment) -> Result<Store, Failure> {
    Ok(Store::open(results, &format!("{}/{FOLDER}", experiment.name()))?)
}
