//! What a tuning found: every setting that was tried, its scores, and the one that is reported.

use std::{collections::BTreeMap, fmt, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Goal, RecordError, Store, write_atomic};

/// The layout of the file that this build writes and reads.
const FORMAT: u32 = 1;

/// A value for every tuned field of an entry, by its path, such as `train.learning_rate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting(pub BTreeMap<String, Value>);

/// As labels of trials have it: `learning_rate=0.003`, several joined by `+`.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (path, value)) in self.0.iter().enumerate() {
            let name = path.rsplit('.').next().unwrap_or(path);
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            write!(f, "{}{name}={value}", if at > 0 { "+" } else { "" })?;
        }
        Ok(())
    }
}

/// The runs that share a setting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuningGroup {
    /// The task; none where all of a variant share the setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The label.
    pub variant: String,
    /// The rank as written; none where all of a variant share the setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
}

impl fmt::Display for TuningGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(task) = &self.task {
            write!(f, "{task}/")?;
        }
        f.write_str(&self.variant)?;
        match self.rank {
            Some(rank) if rank > 0 => write!(f, " rank {rank}"),
            _ => Ok(()),
        }
    }
}

/// One setting of a group and what it scored with every tuning seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// What was tried.
    pub setting: Setting,
    /// The primary metric on the tuning split, by tuning seed: the mean over the group's tasks, ranks and readouts. None where a run failed
    /// or its metric is undefined.
    pub scores: Vec<Option<f64>>,
}

impl Trial {
    /// Mean over the seeds; none unless every run has a score, since a setting that fails now and then is no setting to report.
    pub fn mean(&self) -> Option<f64> {
        let scores: Option<Vec<f64>> = self.scores.iter().copied().collect();
        let scores = scores.filter(|scores| !scores.is_empty())?;
        Some(scores.iter().sum::<f64>() / scores.len() as f64)
    }
}

/// An end of the values that were tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The least.
    Lower,
    /// The greatest.
    Upper,
}

/// A group with its trials and the setting that it got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunedGroup {
    /// Whose setting it is.
    pub group: TuningGroup,
    /// Every trial, in the order in which they were made.
    pub trials: Vec<Trial>,
    /// The trial with the best mean, by its place in `trials`.
    pub chosen: usize,
    /// Tuned fields whose chosen value lies at an end of those that were tried: the best may lie beyond.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub edges: BTreeMap<String, End>,
}

impl TunedGroup {
    /// The setting that is reported.
    pub fn setting(&self) -> &Setting {
        &self.trials[self.chosen].setting
    }
}

/// The file `results/<experiment>/tuned.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// The layout of this file.
    format: u32,
    /// Hash of the space, the seeds, the split and every untuned recipe: another experiment has another.
    pub hash: String,
    /// The tuning seeds, in the order of every trial's scores.
    pub seeds: Vec<u64>,
    /// Share of the training examples that the trials were judged on.
    pub holdout: f64,
    /// Which direction of the primary metrics is better.
    pub goal: Goal,
    /// Every group, in the order of the experiment.
    pub groups: Vec<TunedGroup>,
}

impl Tuned {
    /// What a tuning found.
    pub fn new(hash: String, seeds: Vec<u64>, holdout: f64, goal: Goal, groups: Vec<TunedGroup>) -> Self {
        Self { format: FORMAT, hash, seeds, holdout, goal, groups }
    }
}

impl Store {
    /// The file of an experiment's tuning, whether it exists or not.
    pub fn tuned_path(&self) -> PathBuf {
        self.directory().join("tuned.json")
    }

    /// What the tuning found; none where there is no file.
    pub fn tuned(&self) -> Result<Option<Tuned>, RecordError> {
        let path = self.tuned_path();
        let unreadable = |reason: String| RecordError::Tuned { path: path.display().to_string(), reason };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error.to_string())),
            Ok(text) => text,
        };
        let tuned: Tuned = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if tuned.format != FORMAT {
            return Err(unreadable(format!("its format is {}, and this build reads {FORMAT}", tuned.format)));
        }
        match tuned.groups.iter().find(|group| group.chosen >= group.trials.len()) {
            Some(group) => Err(unreadable(format!("{} has no trial {}", group.group, group.chosen))),
            None => Ok(Some(tuned)),
        }
    }

    /// Writes what the tuning found, in a single step.
    pub fn write_tuned(&self, tuned: &Tuned) -> Result<(), RecordError> {
        let path = self.tuned_path();
        let encode = |source| RecordError::Encode { path: path.display().to_string(), source };
        let text = serde_json::to_string_pretty(tuned).map_err(encode)? + "\n";
        write_atomic(&path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tuned() -> Tuned {
        let setting = |rate: f64| Setting(BTreeMap::from([("train.learning_rate".to_owned(), json!(rate))]));
        let trial = |rate, score| Trial { setting: setting(rate), scores: vec![Some(score), Some(score + 0.1)] };
        let group = TuningGroup { task: Some("cola".to_owned()), variant: "lora".to_owned(), rank: Some(8) };
        let edges = BTreeMap::from([("train.learning_rate".to_owned(), End::Upper)]);
        let trials = vec![trial(1e-3, 0.5), trial(3e-3, 0.7)];
        Tuned::new(
            "h".to_owned(),
            vec![100, 101],
            0.2,
            Goal::Maximise,
            vec![TunedGroup { group, trials, chosen: 1, edges }],
        )
    }

    #[test]
    fn a_tuning_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "x").unwrap();
        assert_eq!(store.tuned().unwrap(), None);
        store.prepare().unwrap();
        store.write_tuned(&tuned()).unwrap();
        assert_eq!(store.tuned().unwrap(), Some(tuned()));
        assert_eq!(tuned().groups[0].setting().to_string(), "learning_rate=0.003");
        assert_eq!(tuned().groups[0].group.to_string(), "cola/lora rank 8");
    }

    #[test]
    fn a_file_that_was_changed_by_hand_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "x").unwrap();
        store.prepare().unwrap();
        for (from, to, said) in [
            ("\"chosen\": 1", "\"chosen\": 2", "has no trial 2"),
            ("\"format\": 1", "\"format\": 9", "its format is 9"),
            ("\"holdout\"", "\"held\"", "held"),
        ] {
            let text = serde_json::to_string_pretty(&tuned()).unwrap().replace(from, to);
            fs::write(store.tuned_path(), text).unwrap();
            let error = store.tuned().unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("tuned.json"), "{error}");
        }
    }

    #[test]
    fn a_setting_that_failed_once_has_no_mean() {
        let mut trial = tuned().groups[0].trials[0].clone();
        assert!((trial.mean().unwrap() - 0.55).abs() < 1e-12);
        trial.scores[1] = None;
        assert_eq!(trial.mean(), None);
    }
}
