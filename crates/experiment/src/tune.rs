//! Tuning: every variant gets its own learning rate, and what else is asked for, on a split that no result is reported on.
//!
//! A *parameter* (Optuna's word) is a field of an entry of `variants`, such as `train.learning_rate` or `with.alpha`. A *setting* gives every parameter a value, and
//! a *trial* is one setting of one variant, rank and task, trained with each of the tuning seeds and judged by the mean of the task's
//! primary metric on the split that [`data::holdout`] cuts from the training examples. Every row has as many settings to begin with.
//!
//! ```
//! let yaml = "suite: glue_mini\nmodel: mini_roberta\ntasks: [cola]\nseeds: [0]\ntargets: [query]\nranks: [2]\ntrain: {steps: 5}\n\
//!     variants: [lora]\ntune: {space: {train.learning_rate: [1e-3, 1e-2]}}\n";
//! let experiment = experiment::read(yaml, "x.yaml", "x", &[]).unwrap();
//! let tune = experiment.tune().unwrap();
//! assert_eq!(tune.settings("lora").len(), 2);
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use data::holdout::Holdout;
use record::{End, Halving, Setting, Trial, TuningGroup};
use serde::Serialize;
use serde_json::Value;
use variants::stream::{self, Stream};

use crate::{Experiment, SpecErrors, cell::Cell};

/// The block `tune` of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tune {
    /// Seeds of the trials; no run is reported with them.
    pub seeds: Vec<u64>,
    /// Share of the training examples that a trial is judged on and does not train on.
    pub holdout: f64,
    /// How many values may be added beyond each end of a list while the best lies there.
    pub widen: usize,
    /// What shares a setting.
    pub per: Per,
    /// Draws from the space; the whole grid where absent.
    pub trials: Option<usize>,
    /// How settings are dropped before they had all steps; none are where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halving: Option<Halving>,
    /// The parameters of every label.
    pub(crate) space: BTreeMap<String, Vec<Parameter>>,
}

/// What shares one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// The runs of one task, variant and rank, which differ in their seeds alone.
    Task,
    /// All runs of a variant: the setting with the best mean over tasks and ranks.
    Variant,
}

/// A field that is tuned, and the values it may take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parameter {
    /// Its path in an entry, such as `train.learning_rate`.
    pub path: String,
    /// Its values.
    pub values: Values,
}

/// Values of a parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    /// One of these.
    Listed(Vec<Value>),
    /// Drawn so that its logarithm is uniform.
    Between {
        /// The least.
        from: f64,
        /// The greatest.
        to: f64,
    },
}

/// The group of a cell.
fn group_of(cell: &Cell, per: Per) -> TuningGroup {
    let variant = cell.id.variant.clone();
    match per {
        Per::Task => TuningGroup { task: Some(cell.id.task.clone()), variant, rank: Some(cell.id.rank) },
        Per::Variant => TuningGroup { task: None, variant, rank: None },
    }
}

/// The trial with the best mean, the first of equals; none where no trial has one. `sign` is 1 where more is better, else -1.
pub fn best(trials: &[Trial], sign: f64) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (at, trial) in trials.iter().enumerate() {
        let Some(mean) = trial.mean().map(|mean| sign * mean).filter(|mean| !mean.is_nan()) else { continue };
        if best.is_none_or(|(_, other)| mean > other) {
            best = Some((at, mean));
        }
    }
    best.map(|(at, _)| at)
}

impl Tune {
    /// The parameters of a label.
    pub fn parameters(&self, label: &str) -> &[Parameter] {
        self.space.get(label).map_or(&[], Vec::as_slice)
    }

    /// The settings that every group of a label begins with: the grid, or draws from the space.
    pub fn settings(&self, label: &str) -> Vec<Setting> {
        let parameters = self.parameters(label);
        match self.trials {
            Some(trials) => self.drawn(label, parameters, trials),
            None => grid(parameters),
        }
    }

    /// `trials` different draws, the same whenever they are made.
    fn drawn(&self, label: &str, parameters: &[Parameter], trials: usize) -> Vec<Setting> {
        let seed = self.seeds.first().copied().unwrap_or_default();
        let mut rng = stream::generator(seed, Stream::Init, &format!("tune {label}"));
        let mut settings: Vec<Setting> = Vec::new();
        // A space of few values has fewer settings than draws are asked for.
        for _ in 0..trials.saturating_mul(100) {
            if settings.len() == trials {
                break;
            }
            let draw = |parameter: &Parameter| (parameter.path.clone(), parameter.values.at(stream::unit(&mut rng)));
            let setting = Setting(parameters.iter().map(draw).collect());
            if !settings.contains(&setting) {
                settings.push(setting);
            }
        }
        settings
    }

    /// The parameters whose best value is the least or the greatest number of several that were tried, whatever order they are listed in.
    pub fn edges(&self, label: &str, trials: &[Trial], best: &Setting) -> Vec<(String, End)> {
        let mut edges = Vec::new();
        for parameter in self.parameters(label).iter().filter(|parameter| parameter.numbers().is_some()) {
            let Some(chosen) = best.0.get(&parameter.path).and_then(Value::as_f64) else { continue };
            let tried = || trials.iter().filter_map(|trial| trial.setting.0.get(&parameter.path)?.as_f64());
            if tried().all(|value| value == chosen) {
                continue; // draws may all have one value
            }
            if tried().all(|value| value >= chosen) {
                edges.push((parameter.path.clone(), End::Lower));
            }
            if tried().all(|value| value <= chosen) {
                edges.push((parameter.path.clone(), End::Upper));
            }
        }
        edges
    }

    /// Settings beyond the ends where the best lies, as far as `widen` allows: the next values by the list's own ratio at that end,
    /// with the other parameters as they are in the best.
    pub fn wider(&self, label: &str, trials: &[Trial], best: &Setting) -> Vec<Setting> {
        let mut wider = Vec::new();
        for (path, end) in self.edges(label, trials, best) {
            let Some(parameter) = self.parameters(label).iter().find(|parameter| parameter.path == path) else {
                continue;
            };
            let Some((listed, [lower, upper])) = parameter.ratios() else { continue };
            let Some(chosen) = best.0.get(&path).and_then(Value::as_f64) else { continue };
            let (outermost, factor) = match end {
                End::Lower => (listed[0], 1.0 / lower),
                End::Upper => (listed[listed.len() - 1], upper),
            };
            // Values beyond the list so far, counted from the list's end.
            let steps = ((chosen / outermost).ln() / factor.ln()).round().max(0.0);
            if (steps as usize) < self.widen {
                let next = parameter.written(rounded(chosen * factor));
                wider.push(Setting(best.0.clone().into_iter().chain([(path, next)]).collect()));
            }
        }
        wider
    }

    /// Numbers to which `widen` can add nothing, a sentence each with the reason and the way out.
    pub fn unwidened(&self) -> Vec<String> {
        if self.widen == 0 {
            return Vec::new();
        }
        let said = |parameter: &Parameter| {
            let least = *parameter.numbers()?.first()?;
            let reason = match &parameter.values {
                Values::Between { .. } => "an interval ends where it ends".to_owned(),
                Values::Listed(_) if least <= 0.0 => {
                    format!("its list has {least}, and only values above 0 have a ratio to go on by")
                }
                Values::Listed(_) => return None,
            };
            Some(format!(
                "`{}` is not widened: {reason}; where the best lies at an end, tune again beyond it",
                parameter.path
            ))
        };
        let all: BTreeSet<String> = self.space.values().flatten().filter_map(said).collect();
        all.into_iter().collect()
    }
}

/// A number without the last digits that a product leaves: six of them stay.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

impl Parameter {
    /// Several numbers in rising order: those of a list, or the ends of an interval; none where there is a name among them.
    fn numbers(&self) -> Option<Vec<f64>> {
        let mut numbers: Vec<f64> = match &self.values {
            Values::Between { from, to } => vec![*from, *to],
            Values::Listed(listed) => listed.iter().map(Value::as_f64).collect::<Option<_>>()?,
        };
        numbers.sort_by(f64::total_cmp);
        numbers.dedup();
        (numbers.len() > 1).then_some(numbers)
    }

    /// A list of positive numbers in rising order, with the ratios of two in a row at its lower and its upper end; none of another list
    /// or of an interval.
    fn ratios(&self) -> Option<(Vec<f64>, [f64; 2])> {
        let numbers = self.numbers().filter(|numbers| numbers[0] > 0.0)?;
        let n = numbers.len();
        let ratios = [numbers[1] / numbers[0], numbers[n - 1] / numbers[n - 2]];
        matches!(self.values, Values::Listed(_)).then_some((numbers, ratios))
    }

    /// A number as the list has its own: a whole one stays whole, since a field may take no others.
    fn written(&self, number: f64) -> Value {
        let is_whole = match &self.values {
            Values::Listed(listed) => listed.iter().all(|value| value.is_u64() || value.is_i64()),
            Values::Between { .. } => false,
        };
        // Six digits are far below the limit of either type.
        if is_whole && number.fract() == 0.0 && number.abs() < 1e15 {
            return Value::from(number as i64);
        }
        Value::from(number)
    }
}

/// `with.alpha 8, 16, 32`
impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.path)?;
        match &self.values {
            Values::Between { from, to } => write!(f, "{from:?} to {to:?}"),
            Values::Listed(listed) => {
                let shown: Vec<String> = listed.iter().map(ToString::to_string).collect();
                f.write_str(&shown.join(", "))
            }
        }
    }
}

impl Values {
    /// The value at a place in [0, 1).
    fn at(&self, place: f64) -> Value {
        match self {
            Self::Listed(listed) => listed[(place * listed.len() as f64) as usize].clone(),
            Self::Between { from, to } => Value::from(rounded(from * (to / from).powf(place))),
        }
    }
}

/// Every combination, the last parameter changing fastest.
fn grid(parameters: &[Parameter]) -> Vec<Setting> {
    let mut settings = vec![Setting(BTreeMap::new())];
    for parameter in parameters {
        let Values::Listed(listed) = &parameter.values else { return Vec::new() };
        let with = |setting: &Setting| {
            let value = |value: &Value| {
                Setting(setting.0.clone().into_iter().chain([(parameter.path.clone(), value.clone())]).collect())
            };
            listed.iter().map(value).collect::<Vec<_>>()
        };
        settings = settings.iter().flat_map(with).collect();
    }
    settings
}

impl Experiment {
    /// The cells of settings that are tried, one list for each: those of its group, for every tuning seed, on the split that is cut from
    /// the training examples. An error where a setting breaks a rule of the experiment.
    pub fn trials(&self, tried: &[(TuningGroup, Setting)]) -> Result<Vec<Vec<Cell>>, SpecErrors> {
        let Some(tune) = &self.tune else { return Ok(vec![Vec::new(); tried.len()]) };
        let mut found = vec![Vec::new(); tried.len()];
        let mut left: Vec<usize> = (0..tried.len()).collect();
        while !left.is_empty() {
            // One reading of the file serves one setting of every label.
            let mut read: BTreeMap<&str, &Setting> = BTreeMap::new();
            let (now, later) = left.into_iter().partition(|&at| {
                let (group, setting) = &tried[at];
                *read.entry(&group.variant).or_insert(setting) == setting
            });
            left = later;
            let experiment = self.with(&read)?;
            for at in now {
                let (group, setting) = &tried[at];
                let first = experiment.cells.iter().map(|cell| cell.id.seed).next();
                let of_group = |cell: &&Cell| Some(cell.id.seed) == first && group_of(cell, tune.per) == *group;
                for cell in experiment.cells.iter().filter(of_group) {
                    found[at].extend(tune.seeds.iter().map(|seed| self.trial(cell, setting, *seed, tune.holdout)));
                }
            }
        }
        Ok(found)
    }

    /// A setting of a group with its steps divided: what a rung of a halving trains. Divided by 1, it is the same setting.
    pub fn shortened(&self, group: &TuningGroup, setting: &Setting, divisor: u64) -> Setting {
        let per = self.tune.as_ref().map_or(Per::Task, |tune| tune.per);
        let of_group = self.cells.iter().find(|cell| group_of(cell, per) == *group);
        let Some(train) = of_group.map(|cell| &cell.recipe.train).filter(|_| divisor > 1) else {
            return setting.clone();
        };
        let length = match (train.steps, train.epochs) {
            (Some(steps), _) => ("train.steps", Value::from(steps.div_ceil(divisor))),
            (None, epochs) => ("train.epochs", Value::from(rounded(epochs.unwrap_or_default() / divisor as f64))),
        };
        Setting(setting.0.clone().into_iter().chain([(length.0.to_owned(), length.1)]).collect())
    }

    fn trial(&self, cell: &Cell, setting: &Setting, seed: u64, share: f64) -> Cell {
        let mut cell = cell.clone();
        cell.id.variant = format!("{}+{setting}", cell.id.variant);
        cell.id.seed = seed;
        cell.recipe.seeds = self.seeds_of(seed);
        cell.recipe.readouts.clear();
        cell.recipe.holdout = Some(Holdout { share, seed });
        cell.recipe.forgetting = None; // nothing is chosen by it
        cell
    }

    /// Every group in the order of the cells.
    pub fn groups(&self) -> Vec<TuningGroup> {
        let Some(tune) = &self.tune else { return Vec::new() };
        let mut groups: Vec<TuningGroup> = Vec::new();
        for cell in &self.cells {
            let group = group_of(cell, tune.per);
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    }

    /// The experiment with a setting for every group: what is reported.
    pub fn tuned(&self, chosen: &BTreeMap<TuningGroup, Setting>) -> Result<Self, SpecErrors> {
        let Some(tune) = &self.tune else { return Ok(self.clone()) };
        let mut cells = self.cells.clone();
        let mut read: Vec<(BTreeMap<&str, &Setting>, Self)> = Vec::new();
        for cell in &mut cells {
            // The labels of one task and rank are read together.
            let of_label = |label: &str| {
                let like = Cell { id: record::CellId { variant: label.to_owned(), ..cell.id.clone() }, ..cell.clone() };
                chosen.get(&group_of(&like, tune.per))
            };
            let settings: BTreeMap<&str, &Setting> =
                tune.space.keys().filter_map(|label| Some((label.as_str(), of_label(label)?))).collect();
            if !read.iter().any(|(of, _)| *of == settings) {
                let experiment = self.with(&settings)?;
                read.push((settings.clone(), experiment));
            }
            let (_, experiment) =
                read.iter().find(|(of, _)| *of == settings).unwrap_or_else(|| unreachable!("read above"));
            if let Some(same) = experiment.cells.iter().find(|other| other.id == cell.id) {
                *cell = same.clone();
            }
        }
        Ok(Self { cells, ..self.clone() })
    }

    /// The file read again with a setting for every label.
    fn with(&self, settings: &BTreeMap<&str, &Setting>) -> Result<Self, SpecErrors> {
        let set = |(label, setting): (&&str, &&Setting)| -> Vec<String> {
            setting.0.iter().map(|(path, value)| format!("variants.{label}.{path}={value}")).collect()
        };
        let more: Vec<String> = settings.iter().flat_map(set).collect();
        let overrides = [self.overrides.clone(), more].concat();
        let read = crate::read_untuned(&self.text, &self.origin, &self.default_name, &overrides)?;
        Ok(Self { overrides: self.overrides.clone(), ..read })
    }
}
