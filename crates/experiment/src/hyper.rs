//! What a run trains with, apart from its variant.

use serde::{Deserialize, Serialize};

/// The learning rate over time, after a linear warm-up from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Stays at the peak.
    Constant,
    /// Falls linearly to 0 at the last step.
    Linear,
    /// Falls along half a cosine to 0 at the last step.
    Cosine,
}

/// How often a run is evaluated during training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenInterval", into = "WrittenInterval")]
pub enum Interval {
    /// Every so many optimizer steps.
    Steps(u64),
    /// At the end of every pass over the training examples, `⌈examples/batch/accumulate⌉` steps.
    Epoch,
}

/// An interval as YAML and records have it: a number of steps, or `epoch`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenInterval {
    Steps(u64),
    Named(Period),
}

/// A stretch of training that has a name.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Period {
    Epoch,
}

impl From<WrittenInterval> for Interval {
    fn from(written: WrittenInterval) -> Self {
        match written {
            WrittenInterval::Steps(steps) => Self::Steps(steps),
            WrittenInterval::Named(Period::Epoch) => Self::Epoch,
        }
    }
}

impl From<Interval> for WrittenInterval {
    fn from(interval: Interval) -> Self {
        match interval {
            Interval::Steps(steps) => Self::Steps(steps),
            Interval::Epoch => Self::Named(Period::Epoch),
        }
    }
}

impl Interval {
    /// In optimizer steps, over a training set of `examples`.
    pub fn steps(self, hyper: &Hyper, examples: usize) -> u64 {
        match self {
            Self::Steps(steps) => steps,
            Self::Epoch => Hyper { steps: None, epochs: Some(1.0), ..hyper.clone() }.total_steps(examples),
        }
    }
}

/// Which checkpoint a run reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The one of the last step.
    Last,
    /// The one with the best primary metric on the first evaluation split.
    Best,
}

/// Precision of the frozen base and of activations. What trains, its gradients and moments, logits and losses are in f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 24 bits of mantissa, everywhere.
    #[default]
    F32,
    /// 8 bits of mantissa: half the memory, and the matrix units of a GPU. Norms and softmax sum in f32.
    Bf16,
}

/// Every step is logged.
fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_one(every: &u64) -> bool {
    *every == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_default(precision: &Precision) -> bool {
    *precision == Precision::F32
}

impl Precision {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// Hyperparameters of one run, all defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hyper {
    /// Optimizer steps. Exactly one of `steps` and `epochs` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Passes over the training examples, `⌈epochs·⌈examples/batch⌉/accumulate⌉` steps. A step may take its micro-batches from both sides of
    /// the end of a pass; transformers ends a pass with a step of fewer micro-batches, which makes `⌈epochs·⌈⌈examples/batch⌉/accumulate⌉⌉`.
    /// The two are equal where `accumulate` divides the micro-batches of a pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Rows per micro-batch.
    pub batch: usize,
    /// Micro-batches per optimizer step, whose loss is the mean over all tokens learnt in them, or over all their rows.
    pub accumulate: usize,
    /// Longest input in tokens; longer ones are truncated.
    pub max_length: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Peak learning rate of the head; the run's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_learning_rate: Option<f64>,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Share of the steps spent warming up.
    pub warmup: f64,
    /// The rate after the warm-up.
    pub schedule: Schedule,
    /// Adam's decay of the first moment.
    pub beta1: f64,
    /// Adam's decay of the second moment.
    pub beta2: f64,
    /// Adam's epsilon.
    pub epsilon: f64,
    /// Largest global gradient norm; no clipping where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Optimizer steps between evaluations, or `epoch`; the end only where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluate_every: Option<Interval>,
    /// Evaluations without improvement before the run stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// Which checkpoint is reported.
    pub select: Select,
    /// Optimizer steps between checkpoints inside the run.
    pub checkpoint_every: u64,
    /// Replaces every dropout of config.json (hidden states, attention, head); as there where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone_dropout: Option<f64>,
    /// Precision of the frozen base and of activations.
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// Activation checkpointing: the backward pass recomputes each layer instead of keeping its activations. The numbers are the same
    /// to rounding; it takes a fraction of the memory and one more forward pass.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
    /// Optimizer steps of one entry of the record's log, which has their mean loss.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub log_every: u64,
    /// Optimizer steps between adapters that are kept for analysis; none where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_every: Option<u64>,
}

/// What the runs of one cohort have in common, since one step computes all of them. Numbers with a fraction are held as their bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct SharedHyper {
    batch: usize,
    accumulate: usize,
    max_length: usize,
    beta1: u64,
    beta2: u64,
    epsilon: u64,
    checkpoint_every: u64,
    backbone_dropout: Option<u64>,
    precision: Precision,
    recompute: bool,
}

impl Default for Hyper {
    /// torch's AdamW, the LoRA paper's schedule (Table 9: linear, warm-up 0.06, decay 0.1).
    fn default() -> Self {
        Self {
            steps: None,
            epochs: Some(3.0),
            batch: 32,
            accumulate: 1,
            max_length: 128,
            learning_rate: 5e-4,
            head_learning_rate: None,
            weight_decay: 0.1,
            warmup: 0.06,
            schedule: Schedule::Linear,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            clip: Some(1.0),
            evaluate_every: None,
            patience: None,
            select: Select::Last,
            checkpoint_every: 100,
            backbone_dropout: None,
            precision: Precision::F32,
            recompute: false,
            log_every: 1,
            snapshot_every: None,
        }
    }
}

impl Hyper {
    /// What a cohort's runs must have in common. No field is left out by `..`: whoever adds one says here whose it is.
    pub fn shared(&self) -> SharedHyper {
        let Self {
            batch,
            accumulate,
            max_length,
            beta1,
            beta2,
            epsilon,
            checkpoint_every,
            backbone_dropout,
            precision,
            recompute,
            // A run's own:
            steps: _,
            epochs: _,
            learning_rate: _,
            head_learning_rate: _,
            weight_decay: _,
            warmup: _,
            schedule: _,
            clip: _,
            evaluate_every: _,
            patience: _,
            select: _,
            log_every: _,
            snapshot_every: _,
        } = self;
        SharedHyper {
            batch: *batch,
            accumulate: *accumulate,
            max_length: *max_length,
            beta1: beta1.to_bits(),
            beta2: beta2.to_bits(),
            epsilon: epsilon.to_bits(),
            checkpoint_every: *checkpoint_every,
            backbone_dropout: backbone_dropout.map(f64::to_bits),
            precision: *precision,
            recompute: *recompute,
        }
    }

    /// Optimizer steps over a training set of `examples`.
    pub fn total_steps(&self, examples: usize) -> u64 {
        match (self.steps, self.epochs) {
            (Some(steps), _) => steps,
            (None, Some(epochs)) => {
                let per_epoch = examples.div_ceil(self.batch) as f64 / self.accumulate as f64;
                (epochs * per_epoch).ceil() as u64
            }
            (None, None) => 0,
        }
    }

    /// The multiple of the peak rate at optimizer step `step` (from 0) of `steps`.
    ///
    /// As transformers' schedules: the first step of a warm-up has rate 0.
    pub fn rate(&self, step: u64, steps: u64) -> f64 {
        let warmup = (self.warmup * steps as f64).ceil();
        let at = step as f64;
        if at < warmup {
            return at / warmup.max(1.0);
        }
        let left = ((steps as f64 - at) / (steps as f64 - warmup).max(1.0)).max(0.0);
        match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => left,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * (1.0 - left)).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_transformers() {
        // get_linear_schedule_with_warmup(num_warmup_steps=10, num_training_steps=110)
        let linear = Hyper { warmup: 10.0 / 110.0, ..Hyper::default() };
        for (step, expected) in [(0, 0.0), (5, 0.5), (10, 1.0), (60, 0.5), (109, 0.01)] {
            assert!((linear.rate(step, 110) - expected).abs() < 1e-12, "{step}");
        }
        let cosine = Hyper { warmup: 0.0, schedule: Schedule::Cosine, ..Hyper::default() };
        for (step, expected) in [(0, 1.0), (50, 0.5), (100, 0.0)] {
            assert!((cosine.rate(step, 100) - expected).abs() < 1e-12, "{step}");
        }
        let constant = Hyper { warmup: 0.0, schedule: Schedule::Constant, ..Hyper::default() };
        assert!((constant.rate(99, 100) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_setting_that_is_shared_keeps_runs_apart_and_no_other_does() {
        let every = Hyper {
            steps: Some(7),
            head_learning_rate: Some(1e-3),
            evaluate_every: Some(Interval::Steps(5)),
            patience: Some(2),
            backbone_dropout: Some(0.1),
            precision: Precision::Bf16,
            recompute: true,
            log_every: 5,
            snapshot_every: Some(9),
            ..Hyper::default()
        };
        let written = serde_json::to_value(&every).unwrap();
        let shared = serde_json::to_value(every.shared()).unwrap();
        let (written, shared) = (written.as_object().unwrap(), shared.as_object().unwrap());
        assert!(shared.keys().all(|key| written.contains_key(key)), "{shared:?}");
        for (key, value) in written {
            let other = match value {
                serde_json::Value::Bool(value) => (!value).into(),
                serde_json::Value::Number(number) if number.is_u64() => (number.as_u64().unwrap() + 1).into(),
                serde_json::Value::Number(number) => (number.as_f64().unwrap() / 2.0).into(),
                serde_json::Value::String(name) => {
                    let others = [("linear", "cosine"), ("last", "best"), ("bf16", "f32")];
                    others.iter().find(|(one, _)| one == name).unwrap().1.into()
                }
                other => unreachable!("{key} is {other}"),
            };
            let mut changed = written.clone();
            changed.insert(key.clone(), other);
            let changed: Hyper = serde_json::from_value(changed.into()).unwrap();
            assert_ne!(changed, every, "{key}");
            assert_eq!(changed.shared() != every.shared(), shared.contains_key(key), "{key}");
        }
    }

    /// `Trainer.set_initial_training_values` of transformers 4.57, and where it counts otherwise.
    #[test]
    fn epochs_are_those_of_transformers_but_for_a_short_last_step() {
        let theirs = |epochs: f64, examples: usize, batch: usize, accumulate: usize| {
            let micros = examples.div_ceil(batch);
            (epochs * (micros / accumulate + usize::from(!micros.is_multiple_of(accumulate))).max(1) as f64).ceil()
                as u64
        };
        let ours = |epochs: f64, examples: usize, batch, accumulate| {
            Hyper { epochs: Some(epochs), batch, accumulate, ..Hyper::default() }.total_steps(examples)
        };
        for (epochs, examples, batch) in [(3.0, 95, 10), (2.5, 101, 32), (0.1, 7, 8), (80.0, 8_551, 32)] {
            assert_eq!(ours(epochs, examples, batch, 1), theirs(epochs, examples, batch, 1));
        }
        assert_eq!((ours(3.0, 95, 10, 5), theirs(3.0, 95, 10, 5)), (6, 6), "5 divides 10 micro-batches");
        assert_eq!((ours(3.0, 95, 10, 4), theirs(3.0, 95, 10, 4)), (8, 9), "30 micro-batches by 4; theirs are 4, 4, 2");
    }

    #[test]
    fn steps_follow_epochs_batches_and_accumulation() {
        let hyper = Hyper { epochs: Some(2.0), batch: 10, accumulate: 2, ..Hyper::default() };
        assert_eq!(hyper.total_steps(95), 10); // 10 micro-batches an epoch, 5 steps
        assert_eq!(Interval::Epoch.steps(&hyper, 95), 5);
        assert_eq!(serde_yaml::from_str::<Interval>("epoch").unwrap(), Interval::Epoch);
        assert_eq!(serde_yaml::from_str::<Interval>("20").unwrap(), Interval::Steps(20));
        assert_eq!(Hyper { steps: Some(7), ..hyper }.total_steps(95), 7);
    }
}
