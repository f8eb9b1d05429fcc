//! What a tuning found: every setting that was tried, its scores, and the one that is reported.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Goal, Halving, RecordError, Store, file::checksum, regular, write_atomic};

/// The layout of the file that this build writes and reads.
const FORMAT: u32 = 2;

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
    /// The scores at the rungs of a halving before the last, as `scores` are those at the last; empty where nothing is halved, and of
    /// settings that were added where the best lay at an end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<Vec<Option<f64>>>,
    /// The primary metric on the tuning split after all steps, by tuning seed: the mean over the group's tasks, ranks and readouts. None
    /// where a run failed or its metric is undefined. Empty where the setting was dropped before.
    pub scores: Vec<Option<f64>>,
}

/// Mean over seeds; none unless every one has a score, since a setting that fails now and then is no setting to report.
pub fn mean_over_seeds(scores: &[Option<f64>]) -> Option<f64> {
    let scores: Option<Vec<f64>> = scores.iter().copied().collect();
    let scores = scores.filter(|scores| !scores.is_empty())?;
    Some(scores.iter().sum::<f64>() / scores.len() as f64)
}

impl Trial {
    /// The score after all steps, the [mean over seeds](mean_over_seeds).
    pub fn mean(&self) -> Option<f64> {
        mean_over_seeds(&self.scores)
    }

    /// Whether it was dropped at a rung with a score: after all steps it might have one.
    pub fn is_dropped(&self) -> bool {
        self.scores.is_empty() && !self.has_failed()
    }

    /// Whether a run of it failed, at the last rung that it reached.
    pub fn has_failed(&self) -> bool {
        let last = if self.scores.is_empty() { self.rungs.last() } else { Some(&self.scores) };
        last.is_none_or(|scores| mean_over_seeds(scores).is_none())
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

/// What trials of a task were trained and judged on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The task.
    pub task: String,
    /// The tuning seed, which cuts a split of its own.
    pub seed: u64,
    /// Hash of the base model's weights.
    pub model_hash: String,
    /// Hash of the training examples and of the split that was cut from them.
    pub data_hash: String,
    /// Hash of what the base's files say of how texts become tokens, as in [`RunRecord::reading_hash`](crate::RunRecord::reading_hash).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading_hash: Option<String>,
    /// Hash of the adapter that the trials started from; none where they started from fresh values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_hash: Option<String>,
}

impl Source {
    /// Which part of it is another in `now`.
    fn differs(&self, now: &Self) -> &'static str {
        if self.model_hash != now.model_hash {
            "its base"
        } else if self.data_hash != now.data_hash {
            "its data"
        } else if self.start_hash != now.start_hash {
            "the adapter that it starts from"
        } else {
            "how its base reads texts"
        }
    }
}

/// The file `results/<experiment>/tuned.json`. A checksum over all of it is the file's last field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// The layout of this file.
    format: u32,
    /// Hash of the space, the tuning seeds, the split and the recipes of the trials: another tuning has another.
    pub hash: String,
    /// The tuning seeds, in the order of every trial's scores.
    pub seeds: Vec<u64>,
    /// Share of the training examples that the trials were judged on.
    pub holdout: f64,
    /// How settings were dropped before they had all steps; none were where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halving: Option<Halving>,
    /// Which direction of the primary metrics is better.
    pub goal: Goal,
    /// What the trials were trained on.
    pub sources: BTreeSet<Source>,
    /// Every group, in the order of the experiment.
    pub groups: Vec<TunedGroup>,
}

impl Tuned {
    /// What a tuning found.
    pub fn new(hash: String, seeds: Vec<u64>, holdout: f64, goal: Goal, groups: Vec<TunedGroup>) -> Self {
        Self { format: FORMAT, hash, seeds, holdout, halving: None, goal, sources: BTreeSet::new(), groups }
    }

    /// The same, found on these data, bases and starts.
    #[must_use]
    pub fn on(self, sources: BTreeSet<Source>) -> Self {
        Self { sources, ..self }
    }

    /// The same, whose settings were dropped so.
    #[must_use]
    pub fn halved(self, halving: Option<Halving>) -> Self {
        Self { halving, ..self }
    }

    /// What is another now than when the trials were made, given what they would be trained on: the task and what of it.
    pub fn outlived(&self, now: &BTreeSet<Source>) -> Option<(String, &'static str)> {
        if self.sources == *now {
            return None;
        }
        let other = now.difference(&self.sources).next().or_else(|| self.sources.difference(now).next())?;
        let same = |source: &&Source| (&source.task, source.seed) == (&other.task, other.seed);
        let before = self.sources.iter().find(|source| same(source) && *source != other);
        Some((other.task.clone(), before.map_or("its data", |before| before.differs(other))))
    }

    /// Its file: all fields, and the checksum.
    fn to_json(&self) -> serde_json::Result<String> {
        let mut value = serde_json::to_value(self)?;
        let sum = checksum(&value);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("checksum".to_owned(), Value::from(sum));
        }
        Ok(serde_json::to_string_pretty(&value)? + "\n")
    }

    /// What a file holds, or why it cannot be used.
    fn from_json(text: &str) -> Result<Self, String> {
        let mut value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match value.get("format").and_then(Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => return Err(format!("its format is {format}, and this build reads {FORMAT}")),
            None => return Err("it has no `format`".to_owned()),
        }
        let written = value.as_object_mut().and_then(|fields| fields.remove("checksum"));
        if written.is_none_or(|written| written != checksum(&value)) {
            return Err("it was changed after it was written (checksum)".to_owned());
        }
        let tuned: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        match tuned.groups.iter().find(|group| group.chosen >= group.trials.len()) {
            Some(group) => Err(format!("{} has no trial {}", group.group, group.chosen)),
            None => Ok(tuned),
        }
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
        let bytes = match regular::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|error| self.bad_tuned(error.to_string()))?,
        };
        let text = String::from_utf8(bytes).map_err(|error| self.bad_tuned(error.to_string()))?;
        Tuned::from_json(&text).map(Some).map_err(|reason| self.bad_tuned(reason))
    }

    /// The error for a file of a tuning that cannot be used.
    pub fn bad_tuned(&self, reason: String) -> RecordError {
        RecordError::Tuned { path: self.tuned_path().display().to_string(), reason }
    }

    /// Deletes what the tuning found, if it is there.
    pub fn forget_tuned(&self) -> Result<(), RecordError> {
        let path = self.tuned_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(RecordError::io("remove", &path)),
        }
    }

    /// Writes what the tuning found, in a single step.
    pub fn write_tuned(&self, tuned: &Tuned) -> Result<(), RecordError> {
        let path = self.tuned_path();
        let encode = |source| RecordError::Encode { path: path.display().to_string(), source };
        write_atomic(&path, tuned.to_json().map_err(encode)?.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tuned() -> Tuned {
        let setting = |rate: f64| Setting(BTreeMap::from([("train.learning_rate".to_owned(), json!(rate))]));
        let trial = |rate, score| Trial {
            setting: setting(rate),
            rungs: Vec::new(),
            scores: vec![Some(score), Some(score + 0.1)],
        };
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
        let written = tuned().to_json().unwrap();
        for (from, to, said) in [
            ("\"chosen\": 1", "\"chosen\": 0", "checksum"),
            ("0.7,", "0.99,", "checksum"),
            ("\"checksum\"", "\"sum\"", "checksum"),
            ("\"format\": 2", "\"format\": 1", "its format is 1"),
            ("\"format\"", "\"formal\"", "no `format`"),
            ("\n}\n", "", "EOF"),
        ] {
            assert!(written.contains(from), "{from} in {written}");
            fs::write(store.tuned_path(), written.replace(from, to)).unwrap();
            let error = store.tuned().unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("tuned.json"), "{error}");
        }
        // Another layout is the same file.
        let value: Value = serde_json::from_str(&written).unwrap();
        fs::write(store.tuned_path(), value.to_string()).unwrap();
        assert_eq!(store.tuned().unwrap(), Some(tuned()));
        let past = Tuned { groups: vec![TunedGroup { chosen: 2, ..tuned().groups[0].clone() }], ..tuned() };
        store.write_tuned(&past).unwrap();
        let error = store.tuned().unwrap_err().to_string();
        assert!(error.contains("cola/lora rank 8 has no trial 2"), "{error}");
    }

    #[test]
    fn a_tuning_knows_what_it_was_made_on() {
        let source = |data: &str, model: &str| Source {
            task: "cola".to_owned(),
            seed: 100,
            model_hash: model.to_owned(),
            data_hash: data.to_owned(),
            reading_hash: None,
            start_hash: None,
        };
        let of = |data, model| BTreeSet::from([source(data, model)]);
        let tuned = tuned().on(of("d", "m"));
        assert_eq!(tuned.outlived(&of("d", "m")), None);
        assert_eq!(tuned.outlived(&of("e", "m")), Some(("cola".to_owned(), "its data")));
        assert_eq!(tuned.outlived(&of("d", "n")), Some(("cola".to_owned(), "its base")));
        let started = BTreeSet::from([Source { start_hash: Some("s".to_owned()), ..source("d", "m") }]);
        assert_eq!(tuned.outlived(&started), Some(("cola".to_owned(), "the adapter that it starts from")));
    }

    #[test]
    fn a_setting_that_failed_once_has_no_mean() {
        let mut trial = tuned().groups[0].trials[0].clone();
        assert!((trial.mean().unwrap() - 0.55).abs() < 1e-12);
        assert!(!trial.has_failed() && !trial.is_dropped());
        trial.scores[1] = None;
        assert_eq!(trial.mean(), None);
        assert!(trial.has_failed() && !trial.is_dropped());
    }

    #[test]
    fn a_setting_that_was_dropped_has_a_score_at_its_rung_and_none_after_all_steps() {
        let trial = |rung: [Option<f64>; 2]| Trial {
            rungs: vec![rung.to_vec()],
            scores: Vec::new(),
            ..tuned().groups[0].trials[0].clone()
        };
        let (dropped, failed) = (trial([Some(0.1), Some(0.2)]), trial([Some(0.1), None]));
        assert_eq!((dropped.mean(), dropped.is_dropped(), dropped.has_failed()), (None, true, false));
        assert_eq!((failed.mean(), failed.is_dropped(), failed.has_failed()), (None, false, true));
    }
}
