//! What a cell costs, from what cells like it took.
//!
//! A cell's seconds are `steps · s + e`, with `s` the seconds of one step and `e` those of evaluation, both means over the nearest past runs: those
//! of the same recipe but for seed, learning rate and length; else of the same method at any rank; else of any method on the same task;
//! else of any task with the same base and batch. In a cohort a run's `s` is its share of the cohort's step, so a study's cost is the
//! sum over its cells, however they are grouped.

use std::collections::BTreeMap;

use serde_json::Value;

/// What one run took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taken {
    /// Seconds of a step: the run's share of its cohort's.
    pub step_seconds: f64,
    /// Seconds of all its evaluations.
    pub evaluation_seconds: f64,
    /// The most memory that its process or device held, in bytes, where that is known.
    pub peak_bytes: Option<u64>,
}

/// How near the runs are that an estimate is made of, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// The same recipe but for what takes no time: seed, learning rate, length.
    Recipe,
    /// The same method on the same task, at another rank or with other settings.
    Method,
    /// Other methods on the same task.
    Task,
    /// Other tasks with the same base and batch.
    Base,
}

/// What a cell will cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Seconds of its training and evaluation.
    pub seconds: f64,
    /// The most memory of such runs, in bytes, where any of them knows.
    pub peak_bytes: Option<u64>,
    /// What the estimate is made of.
    pub basis: Basis,
}

/// Sums over runs of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    runs: f64,
    step_seconds: f64,
    evaluation_seconds: f64,
    peak_bytes: Option<u64>,
}

/// Past runs of one kind of device, by how near they are to a cell.
#[derive(Clone, Debug, Default)]
pub struct CostModel {
    kinds: BTreeMap<(Basis, String), Tally>,
}

/// Fields of `train` that a step takes no time for.
const TIMELESS: [&str; 12] = [
    "beta1",
    "beta2",
    "checkpoint_every",
    "epochs",
    "epsilon",
    "head_learning_rate",
    "learning_rate",
    "log_every",
    "schedule",
    "steps",
    "warmup",
    "weight_decay",
];
/// Fields of `train` that size a step.
const SIZES: [&str; 5] = ["accumulate", "batch", "max_length", "precision", "recompute"];

impl CostModel {
    /// A model that has seen no run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns from a run whose resolved recipe, as its record holds it, is `spec`.
    pub fn learn(&mut self, spec: &Value, taken: Taken) {
        for key in keys(spec) {
            let tally = self.kinds.entry(key).or_default();
            tally.runs += 1.0;
            tally.step_seconds += taken.step_seconds;
            tally.evaluation_seconds += taken.evaluation_seconds;
            tally.peak_bytes = tally.peak_bytes.max(taken.peak_bytes);
        }
    }

    /// Whether a run like this one, of the same recipe but for seed and length, was learned from.
    pub fn knows(&self, spec: &Value) -> bool {
        self.kinds.contains_key(&keys(spec)[0])
    }

    /// What a cell of this recipe and length costs; none where no run is near.
    pub fn estimate(&self, spec: &Value, steps: u64) -> Option<Estimate> {
        let (basis, tally) = keys(spec).into_iter().find_map(|key| Some((key.0, self.kinds.get(&key)?)))?;
        let seconds = (steps as f64 * tally.step_seconds + tally.evaluation_seconds) / tally.runs;
        Some(Estimate { seconds, peak_bytes: tally.peak_bytes, basis })
    }

    /// Seconds of a step of this very recipe, where it was learned from.
    pub fn step_seconds(&self, spec: &Value) -> Option<f64> {
        self.kinds.get(&keys(spec)[0]).map(|tally| tally.step_seconds / tally.runs)
    }

    /// Takes everything that was learned so far for `factor` times as long: the runs were made on a faster machine than this one.
    pub fn scale(&mut self, factor: f64) {
        for tally in self.kinds.values_mut() {
            tally.step_seconds *= factor;
            tally.evaluation_seconds *= factor;
        }
    }
}

/// The names of a cell's kinds, the nearest first.
fn keys(spec: &Value) -> [(Basis, String); 4] {
    let mut recipe = spec.clone();
    if let Some(fields) = recipe.as_object_mut() {
        for field in ["seed", "seeds", "start_from"] {
            fields.remove(field);
        }
    }
    if let Some(train) = recipe.get_mut("train").and_then(Value::as_object_mut) {
        train.retain(|field, _| !TIMELESS.contains(&field.as_str()));
    }
    if let Some(variant) = recipe.get_mut("variant").and_then(Value::as_object_mut) {
        variant.remove("alpha");
    }
    let sizes = SIZES.map(|field| spec["train"][field].to_string()).join(" ");
    let base = format!("{} {sizes}", spec["model"]);
    let task = format!("{base} {} {} {}", spec["suite"], spec["task"], spec["data"]);
    let method = format!("{task} {} {} {}", spec["preset"], spec["variant"]["base"], spec["variant"]["delta"]["kind"]);
    [(Basis::Recipe, recipe.to_string()), (Basis::Method, method), (Basis::Task, task), (Basis::Base, base)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(task: &str, preset: &str, rank: u64, rate: f64, seed: u64) -> Value {
        json!({
            "model": "m", "suite": "s", "task": task, "preset": preset, "seeds": {"data": seed},
            "train": {"batch": 8, "steps": 10, "learning_rate": rate},
            "variant": {"rank": rank, "alpha": 16.0, "base": "frozen", "delta": {"kind": "low_rank"}},
        })
    }

    fn taken(step_seconds: f64) -> Taken {
        Taken { step_seconds, evaluation_seconds: 1.0, peak_bytes: None }
    }

    #[test]
    fn the_nearest_runs_count() {
        let mut model = CostModel::new();
        assert_eq!(model.estimate(&spec("a", "lora", 8, 1e-3, 0), 100), None);
        model.learn(&spec("b", "lora", 8, 1e-3, 0), taken(0.5));
        model.learn(&spec("a", "dora", 8, 1e-3, 0), taken(0.4));
        model.learn(&spec("a", "lora", 2, 1e-3, 0), taken(0.3));
        let of = |model: &CostModel, task, preset, rank| {
            let found = model.estimate(&spec(task, preset, rank, 3e-3, 7), 100).unwrap_or_else(|| unreachable!());
            (found.basis, (found.seconds * 1e6).round() / 1e6)
        };
        assert_eq!(of(&model, "a", "lora", 2), (Basis::Recipe, 31.0));
        assert_eq!(of(&model, "a", "lora", 8), (Basis::Method, 31.0));
        assert_eq!(of(&model, "a", "vera", 8), (Basis::Task, 36.0));
        assert_eq!(of(&model, "c", "vera", 8), (Basis::Base, 41.0));
        assert!(model.knows(&spec("a", "lora", 2, 1.0, 9)) && !model.knows(&spec("a", "lora", 8, 1.0, 9)));
        assert_eq!(model.step_seconds(&spec("a", "lora", 2, 1.0, 9)), Some(0.3));
        model.scale(2.0);
        assert_eq!(of(&model, "a", "lora", 2), (Basis::Recipe, 62.0));
    }

    #[test]
    fn the_most_memory_counts() {
        let mut model = CostModel::new();
        let of = |peak_bytes| Taken { peak_bytes, ..taken(1.0) };
        for peak in [None, Some(7), Some(3)] {
            model.learn(&spec("a", "lora", 1, 1.0, 0), of(peak));
        }
        assert_eq!(model.estimate(&spec("a", "lora", 1, 1.0, 1), 1).and_then(|found| found.peak_bytes), Some(7));
    }
}
