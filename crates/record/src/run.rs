//! The record of one run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cell::CellId;
use crate::evaluation::Evaluation;
use crate::hash::seedless_spec_hash;
use crate::number;
use crate::steps::StepLog;

/// The format that this build writes and reads, as [`RunRecord::format`] holds it.
pub const FORMAT: u32 = 1;

/// Everything a run leaves besides its adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// The layout of this file, [`FORMAT`].
    pub format: u32,
    /// Which cell of the grid this is.
    pub cell: CellId,
    /// How the run ended.
    pub status: Status,
    /// The resolved spec: every value that was in force, defaults written out. Seeds are under its top-level `seed` or `seeds`.
    pub spec: serde_json::Value,
    /// [`spec_hash`](crate::spec_hash) of `spec`.
    pub spec_hash: String,
    /// Where `spec` differs from the experiment's defaults.
    pub diff: serde_json::Value,
    /// The seed of each random stream: `init`, `data`, `dropout`, `rank`.
    pub seeds: BTreeMap<String, u64>,
    /// The code that ran.
    pub code: CodeIdentity,
    /// Crate names to versions.
    pub versions: BTreeMap<String, String>,
    /// The adapter that the run started from; none where it started from fresh values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Hash of the base model's weights.
    pub model_hash: String,
    /// Hash of the task's data.
    pub data_hash: String,
    /// Hash of what `tokenizer_config.json` and `chat_template.jinja` of the base say of how the task's texts become tokens; none where they
    /// become tokens by tokenizer.json alone, and in records of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading_hash: Option<String>,
    /// SHA-256 of the adapter's file; none where none was saved, and in records of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_hash: Option<String>,
    /// Splits, `train` among them, of which the length limit cut some texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub truncated: BTreeMap<String, Truncated>,
    /// Maps that train and that no gradient has moved, while others were moved; `head` is the task's head.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmoved: Vec<String>,
    /// The device as chosen, such as `cpu` or `tch:cuda:0`, with its name where it tells.
    pub device: String,
    /// The precision of base and activations, `f32` or `bf16`.
    pub precision: String,
    /// Which runs were trained together.
    pub cohort: Cohort,
    /// The metric by which the task is judged: first in tables, and the one `best` was chosen by.
    pub primary_metric: PrimaryMetric,
    /// The best checkpoint, where the experiment selects one.
    pub best: Option<Best>,
    /// What was measured during the run.
    pub measured: Measured,
    /// Steps at which the run was resumed after an interruption.
    pub resumed_at: Vec<u64>,
    /// Start of the first session, seconds since the Unix epoch.
    pub started: u64,
    /// End of the last session, seconds since the Unix epoch.
    pub finished: u64,
    /// Every evaluation, in the order in which they were made.
    pub evaluations: Vec<Evaluation>,
    /// Every logged training step.
    pub steps: StepLog,
}

impl RunRecord {
    /// Whether the run came to its end; only such runs enter means.
    pub fn is_finished(&self) -> bool {
        self.status == Status::Finished
    }

    /// A sentence on the maps that did not move; none where all did.
    pub fn note_unmoved(&self) -> Option<String> {
        let first = self.unmoved.first()?;
        let more = self.unmoved.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Some(format!("`{first}`{more} did not move in training"))
    }

    /// Equal for the runs of one group, which differ in their seeds only.
    pub fn group_hash(&self) -> String {
        seedless_spec_hash(&self.spec)
    }
}

/// How many texts of a split the length limit cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truncated {
    /// Texts that were cut.
    pub texts: usize,
    /// Texts in all.
    pub of: usize,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Status {
    /// All steps were taken.
    Finished,
    /// The run was stopped; the other runs of its cohort continued.
    Failed {
        /// The step at which it was stopped.
        step: u64,
        /// Why, such as `loss is NaN`.
        reason: String,
    },
}

/// Which code ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeIdentity {
    /// Hash of `crates/`, `Cargo.toml` and `Cargo.lock` when the binary was built; see [`code_hash`](crate::code_hash).
    pub code_hash: String,
    /// The commit that was checked out.
    pub commit: String,
    /// Whether the code differed from the commit's.
    pub dirty: bool,
}

/// An adapter that a run started from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The cell's slug, or the path as written.
    pub name: String,
    /// SHA-256 of its file.
    pub hash: String,
}

/// The runs that shared one frozen base on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    /// The cohort's name, unique within the experiment.
    pub id: String,
    /// Slugs of its cells, in the order in which they were stacked.
    pub members: Vec<String>,
    /// Changes of its members during the run; empty means that a repetition gives equal bits.
    #[serde(default)]
    pub changes: Vec<CohortChange>,
    /// What it took of its device's memory, where the device tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryUse>,
}

/// Bytes in tensors on a device while a cohort trained, by the allocator's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryUse {
    /// Before the first step: the frozen base, adapters and heads at their start, and what the process holds besides (workspaces of products
    /// that earlier cohorts began).
    pub weights: u64,
    /// What the first step added and left: both moments, importance averages where there are any, step by step numbers.
    pub optimizer: u64,
    /// The gradients of everything that trains, side by side; counted, not read.
    pub gradients: u64,
    /// The rest of the first step's peak: what the backward pass needs, and what was being computed.
    pub activations: u64,
    /// The largest amount at any time, recordings of steps and evaluations in between included.
    pub peak: u64,
}

/// A change of a cohort's make-up while it was under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortChange {
    /// The step before which it changed.
    pub step: u64,
    /// Slugs of the members from there on.
    pub members: Vec<String>,
    /// Why, such as `out of memory`.
    pub reason: String,
}

/// The metric by which a task is judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrimaryMetric {
    /// The metric's name, as in [`Evaluation::metrics`].
    pub name: String,
    /// Which direction is better.
    pub goal: Goal,
}

/// Which direction of a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// More is better, as with accuracy.
    Maximise,
    /// Less is better, as with perplexity.
    Minimise,
}

/// The checkpoint that was selected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The step after which it was saved.
    pub step: u64,
    /// The metric that decided.
    pub metric: String,
    /// The metric's value there.
    #[serde(with = "number::single")]
    pub value: f64,
}

/// Costs and checks of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Trained parameters without the head's.
    pub trainable_params: u64,
    /// Trained parameters of the task's head.
    pub head_params: u64,
    /// Size of the adapter's file.
    pub adapter_bytes: u64,
    /// Mean wall time of a training step. In a cohort, the cohort's time divided by its runs.
    #[serde(with = "number::single")]
    pub seconds_per_step: f64,
    /// Real tokens trained on per second.
    #[serde(with = "number::single")]
    pub tokens_per_second: f64,
    /// Wall time spent in training.
    #[serde(with = "number::single")]
    pub train_seconds: f64,
    /// Wall time spent in evaluation.
    #[serde(with = "number::single")]
    pub eval_seconds: f64,
    /// Largest amount of device memory in tensors while its cohort trained, all runs together, where the device tells.
    pub peak_memory_bytes: Option<u64>,
    /// Largest difference between a logit of the merged and of the unmerged model, where the variant can be merged.
    #[serde(with = "number::optional")]
    pub merge_error: Option<f64>,
    /// What the base has forgotten of the text that it was pretrained on, where the experiment measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgetting: Option<Forgetting>,
    /// How the routers of a mixture of experts spread tokens of the first evaluation split, by map.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub routers: BTreeMap<String, Routing>,
    /// How the run's model does, at its end, on the tasks that led to it by warm starts, in the order in which they were trained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierTask>,
    /// Full names of the adapted maps to the ranks they ended with.
    pub final_ranks: BTreeMap<String, usize>,
}

/// A task that was trained before a run's own, judged after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlierTask {
    /// The task.
    pub task: String,
    /// SHA-256 of the adapter that its run ended with, whose head is used again.
    pub adapter_hash: String,
    /// The metric by which it is judged.
    pub primary_metric: PrimaryMetric,
    /// One for every split.
    pub evaluations: Vec<Evaluation>,
}

/// How a router spreads tokens over its experts: means over the tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Routing {
    /// What an expert's update is weighed by.
    pub weights: Vec<f64>,
    /// The share of the tokens that weigh an expert most.
    pub load: Vec<f64>,
    /// Entropy of a token's weights, in nats; `ln(experts)` where they are even.
    pub entropy: f64,
}

impl Routing {
    /// Entropy as a share of that of even weights; none of a single expert.
    pub fn evenness(&self) -> Option<f64> {
        (self.weights.len() > 1).then(|| self.entropy / (self.weights.len() as f64).ln())
    }
}

/// Loss of the base's own objective (masked tokens for an encoder, next tokens for a decoder) on held-out text, before and after a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forgetting {
    /// Where the text comes from: `pretraining` for documents of the base's own corpus that no training has seen, else a file as written.
    pub text: String,
    /// Hash of the tokens that are read and of those that are predicted.
    pub text_hash: String,
    /// Documents.
    pub documents: u64,
    /// Tokens that are predicted in them.
    pub tokens: u64,
    /// Mean cross-entropy of the base, in nats a token.
    #[serde(with = "number::single")]
    pub before: f64,
    /// The same with the run's adapter (its trained base, biases, ..) in use.
    #[serde(with = "number::single")]
    pub after: f64,
}

impl Forgetting {
    /// How much the loss has risen, in nats a token.
    pub fn rise(&self) -> f64 {
        self.after - self.before
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cell::Readout;
    use crate::hash::spec_hash;
    use crate::steps::StepEntry;
    use serde_json::json;

    /// A small finished run.
    pub(crate) fn example(seed: u64) -> RunRecord {
        let spec = json!({"task": "cola", "seed": seed, "learning_rate": 4e-4});
        RunRecord {
            format: FORMAT,
            cell: CellId { task: "cola".into(), variant: "lora".into(), rank: 8, seed },
            status: Status::Finished,
            spec_hash: spec_hash(&spec),
            spec,
            diff: json!({"learning_rate": 4e-4}),
            seeds: BTreeMap::from([("data".into(), 7), ("init".into(), u64::MAX)]),
            code: CodeIdentity { code_hash: "c0de".into(), commit: "1a2b".into(), dirty: false },
            versions: BTreeMap::from([("burn".into(), "0.22.1".into())]),
            start: None,
            model_hash: "m".into(),
            data_hash: "d".into(),
            reading_hash: None,
            adapter_hash: None,
            truncated: BTreeMap::new(),
            unmoved: Vec::new(),
            device: "cpu".into(),
            precision: "f32".into(),
            cohort: Cohort { id: "0".into(), members: vec!["cola-lora-r8-s1".into()], changes: vec![], memory: None },
            primary_metric: PrimaryMetric { name: "matthews".into(), goal: Goal::Maximise },
            best: Some(Best { step: 2, metric: "matthews".into(), value: 0.5 }),
            measured: Measured { trainable_params: 10, merge_error: Some(1e-6), ..Measured::default() },
            resumed_at: vec![1],
            started: 1,
            finished: 2,
            evaluations: vec![Evaluation {
                step: 2,
                split: "validation".into(),
                readout: Readout { label: "lora".into(), rank: 8 },
                metrics: BTreeMap::from([("matthews".into(), 0.5)]),
                undefined: BTreeMap::new(),
                examples: 10,
                loss: 0.25,
                generated: None,
                correct: None,
            }],
            steps: [StepEntry {
                step: 1,
                task_loss: 0.7,
                penalty: None,
                learning_rate: 1e-3,
                gradient_norm: 2.0,
                components: None,
            }]
            .into_iter()
            .collect(),
        }
    }

    #[test]
    fn records_survive_json() {
        let record = example(1);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<RunRecord>(&text).unwrap(), record);
    }

    #[test]
    fn empty_and_non_finite_records_survive_json() {
        let mut record = example(1);
        record.status = Status::Failed { step: 3, reason: "loss is NaN".into() };
        record.evaluations[0].metrics =
            BTreeMap::from([("matthews".into(), f64::NAN), ("f1".into(), f64::NEG_INFINITY)]);
        record.evaluations[0].loss = f64::INFINITY;
        record.measured.merge_error = None;
        record.measured.seconds_per_step = f64::NAN;
        record.best = None;
        record.steps = StepLog::default();
        let text = serde_json::to_string(&record).unwrap();
        let read: RunRecord = serde_json::from_str(&text).unwrap();
        // NaN differs from itself, so the texts are compared.
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert!(read.evaluations[0].metrics["matthews"].is_nan());
        assert!(!read.is_finished());
    }

    #[test]
    fn what_was_forgotten_is_there_where_it_was_measured() {
        let mut record = example(1);
        let without = serde_json::to_value(&record).unwrap();
        assert!(without["measured"].get("forgetting").is_none());
        let text_hash = "t".to_owned();
        let forgetting =
            Forgetting { text: "pretraining".into(), text_hash, documents: 2, tokens: 9, before: 0.75, after: 1.0 };
        assert_eq!(forgetting.rise(), 0.25);
        record.measured.forgetting = Some(forgetting);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<RunRecord>(&text).unwrap(), record);
        record.measured.forgetting.as_mut().unwrap().after = f64::NAN;
        assert!(serde_json::to_string(&record).unwrap().contains("\"after\":\"NaN\""));
    }

    #[test]
    fn unknown_fields_are_refused() {
        let mut value = serde_json::to_value(example(1)).unwrap();
        value["colour"] = json!("red");
        assert!(serde_json::from_value::<RunRecord>(value).is_err());
    }

    #[test]
    fn seeds_do_not_change_the_group() {
        assert_eq!(example(1).group_hash(), example(2).group_hash());
        assert_ne!(example(1).spec_hash, example(2).spec_hash);
    }
}
