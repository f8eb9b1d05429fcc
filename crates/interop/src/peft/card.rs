//! The model card beside an exported adapter, and the hub's files of evaluation results.
//!
//! The card's front matter says what the hub and its tools read: the base, the library, tags, metrics, and a `model-index` with results. A
//! result is the mean over the seeds of the adapter's group, with its interval and the number of seeds in the metric's `args`; the folder
//! holds one of these runs, and the text has the value of that run alone. `.eval_results/<benchmark>-<task>.yaml` has the same for tasks that are data sets
//! of the hub. Without records there are no results, and the card says so.
//!
//! Strings are written as JSON has them, which YAML reads.

use serde_json::{Value, json};
use trainer::adapter::AdapterMetadata;
use variants::peft::PeftForm;

use super::config::{Base, task_type};

/// The card's file.
pub(super) const CARD: &str = "README.md";
/// The data set of the hub that has GLUE's tasks.
const GLUE: &str = "nyu-mll/glue";

/// A metric of the adapter's group on one split, as records report it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    /// The split.
    pub split: String,
    /// The metric.
    pub metric: String,
    /// Whether it is the one by which the task is judged.
    pub is_primary: bool,
    /// Mean over seeds, in the metric's own unit.
    pub mean: f64,
    /// Its 95% Student interval; none of a single seed.
    pub interval: Option<[f64; 2]>,
    /// The seeds of the mean.
    pub seeds: Vec<u64>,
    /// The value of the run whose adapter this is, where it is finished.
    pub own: Option<f64>,
}

/// What a card is about.
pub(super) struct Subject<'a> {
    pub(super) metadata: &'a AdapterMetadata,
    pub(super) form: &'a PeftForm,
    pub(super) reported: &'a [Reported],
}

impl Subject<'_> {
    /// Every file beside the adapter: names and contents.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        let results = self.results().map(|(name, text)| (format!(".eval_results/{name}.yaml"), text));
        std::iter::once((CARD.to_owned(), self.card())).chain(results).collect()
    }

    fn card(&self) -> String {
        format!("---\n{}---\n\n{}", self.front_matter(), self.text())
    }

    /// The base as the hub knows it; none of a folder or of a base that is built in.
    fn hub_base(&self) -> Option<String> {
        let plan = &self.metadata.plan;
        plan.model.starts_with(assets::source::hub::SCHEME).then(|| Base::of(&plan.model).name).flatten()
    }

    fn front_matter(&self) -> String {
        let plan = &self.metadata.plan;
        let mut lines = Vec::new();
        let mut tags = vec![self.form.peft_type().to_lowercase(), plan.preset.clone(), "lora-lab".to_owned()];
        tags.dedup();
        if let Some(base) = self.hub_base() {
            lines.push(format!("base_model: {}", json!(base)));
            tags.insert(0, format!("base_model:adapter:{base}"));
        }
        lines.push("library_name: peft".to_owned());
        lines.push(format!("pipeline_tag: {}", self.pipeline()));
        lines.push("tags:".to_owned());
        lines.extend(tags.iter().map(|tag| format!("- {}", json!(tag))));
        if !self.reported.is_empty() {
            let mut metrics: Vec<&str> = self.reported.iter().map(|found| hub_metric(&found.metric)).collect();
            metrics.sort_unstable();
            metrics.dedup();
            lines.push("metrics:".to_owned());
            lines.extend(metrics.iter().map(|metric| format!("- {metric}")));
            lines.push("model-index:".to_owned());
            lines.push(format!("- name: {}", json!(self.metadata.cell.slug())));
            lines.push("  results:".to_owned());
            lines.extend(self.reported.iter().map(|found| format!("  - {}", self.result(found))));
        }
        lines.join("\n") + "\n"
    }

    fn pipeline(&self) -> &'static str {
        if self.metadata.plan.text().is_some() { "text-generation" } else { "text-classification" }
    }

    /// One result of the index, as a flow mapping.
    fn result(&self, found: &Reported) -> Value {
        let plan = &self.metadata.plan;
        let dataset = match glue_task(&plan.suite, plan.given.is_none(), &plan.task) {
            Some(task) => {
                json!({"name": format!("GLUE {task}"), "type": GLUE, "config": task, "split": hub_split(&found.split)})
            }
            None => json!({"name": plan.task, "type": plan.task, "split": found.split}),
        };
        json!({
            "task": {"type": self.pipeline(), "name": plan.task},
            "dataset": dataset,
            "metrics": [{
                "type": hub_metric(&found.metric),
                "name": found.metric,
                "value": found.mean,
                "args": {"n": found.seeds.len(), "seeds": found.seeds, "interval": found.interval, "confidence": 0.95},
            }],
        })
    }

    fn text(&self) -> String {
        let (plan, cell) = (&self.metadata.plan, &self.metadata.cell);
        let kind = self.form.peft_type();
        let rank = if cell.rank > 0 { format!(" of rank {}", cell.rank) } else { String::new() };
        let mut text = format!("# {}\n\n", cell.slug());
        text += &format!(
            "An adapter for PEFT (`{kind}`), written by LoRA Lab: `{}`{rank} on `{}`, trained on the task `{}` with seed {}.\n\n",
            cell.variant, plan.model, plan.task, cell.seed
        );
        if self.hub_base().is_none() {
            text += "The base is no repository of the hub: give its folder where PEFT asks for it.\n\n";
        }
        text += &self.usage();
        text += "\n## Results\n\n";
        if self.reported.is_empty() {
            return text
                + "No record of this run was beside it when it was exported, so nothing is said of its quality.\n";
        }
        text +=
            "| split | metric | mean | 95% interval | n | this adapter |\n| --- | --- | ---: | ---: | ---: | ---: |\n";
        for found in self.reported {
            let interval =
                found.interval.map_or_else(|| "–".to_owned(), |[low, high]| format!("[{low:.4}, {high:.4}]"));
            let own = found.own.map_or_else(|| "–".to_owned(), |own| format!("{own:.4}"));
            let mark = if found.is_primary { "**" } else { "" };
            let n = found.seeds.len();
            text += &format!(
                "| {} | {mark}{}{mark} | {:.4} | {interval} | {n} | {own} |\n",
                found.split, found.metric, found.mean
            );
        }
        let most = self.reported.iter().map(|found| found.seeds.len()).max().unwrap_or(0);
        text += "\n";
        text += if most > 1 {
            "n is the number of seeds that were trained with the same recipe; the interval is Student's for their mean. The adapter in \
             this folder is one of them.\n"
        } else {
            "These are the numbers of a single seed, so nothing is known of their spread.\n"
        };
        text
    }

    fn usage(&self) -> String {
        let plan = &self.metadata.plan;
        let (class, labels) = match (task_type(plan.text().is_some()), self.metadata.outputs) {
            ("SEQ_CLS", outputs) => ("AutoModelForSequenceClassification", format!(", num_labels={outputs}")),
            _ => ("AutoModelForCausalLM", String::new()),
        };
        let base = self.hub_base().unwrap_or_else(|| "path/to/base".to_owned());
        format!(
            "```python\nfrom peft import PeftModel\nfrom transformers import {class}\n\nbase = {class}.from_pretrained({}{labels})\nmodel = \
             PeftModel.from_pretrained(base, \"path/to/this/folder\")\n```\n",
            json!(base)
        )
    }

    /// The hub's file of results, for a task that is a data set of the hub: its name and its content.
    fn results(&self) -> Option<(String, String)> {
        let plan = &self.metadata.plan;
        let task = glue_task(&plan.suite, plan.given.is_none(), &plan.task)?;
        let entries: Vec<String> = self
            .reported
            .iter()
            .filter(|found| found.is_primary)
            .map(|found| {
                let notes = notes(found);
                format!(
                    "- dataset:\n    id: {GLUE}\n    task_id: {task}\n  value: {}\n  notes: {}\n",
                    json!(found.mean),
                    json!(notes)
                )
            })
            .collect();
        (!entries.is_empty()).then(|| (format!("glue-{task}"), entries.concat()))
    }
}

/// What a value of the results is.
fn notes(found: &Reported) -> String {
    let n = found.seeds.len();
    let spread = match found.interval {
        Some([low, high]) => format!("mean over {n} seeds, 95% interval [{low:.4}, {high:.4}]"),
        None if n == 1 => "a single seed".to_owned(),
        None => format!("mean over {n} seeds"),
    };
    format!("{} on {}: {spread}", hub_metric(&found.metric), hub_split(&found.split))
}

/// A task of GLUE itself.
fn glue_task<'a>(suite: &str, is_of_suite: bool, task: &'a str) -> Option<&'a str> {
    (suite == data::glue::GLUE && is_of_suite).then_some(task)
}

/// The hub's name of a metric.
fn hub_metric(metric: &str) -> &str {
    match metric {
        "matthews" => "matthews_correlation",
        "pearson" => "pearsonr",
        "spearman" => "spearmanr",
        other => other,
    }
}

/// The hub's name of a split of GLUE.
fn hub_split(split: &str) -> String {
    split.replace("dev", "validation")
}
