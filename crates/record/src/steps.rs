//! The log of training steps, as columns.

use serde::{Deserialize, Serialize};

use crate::number;

/// One training step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepEntry {
    /// Optimizer steps taken, this one included.
    pub step: u64,
    /// The task's loss without any penalty.
    #[serde(with = "number::single")]
    pub task_loss: f64,
    /// The method's penalty, already weighted; absent where the method has none.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub penalty: Option<f64>,
    /// The scheduled base learning rate.
    #[serde(with = "number::single")]
    pub learning_rate: f64,
    /// The global gradient norm before clipping.
    #[serde(with = "number::single")]
    pub gradient_norm: f64,
    /// Components left over all maps after this step; absent where the method prunes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub components: Option<u64>,
}

/// All logged steps of a run as columns of equal length: thousands of steps stay readable and small in JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Columns")]
pub struct StepLog {
    step: Vec<u64>,
    #[serde(with = "number::column")]
    task_loss: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none", with = "number::optional_column")]
    penalty: Option<Vec<f64>>,
    #[serde(with = "number::column")]
    learning_rate: Vec<f64>,
    #[serde(with = "number::column")]
    gradient_norm: Vec<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<u64>,
}

impl StepLog {
    /// Appends one step. Where only some steps have a penalty, the others count as 0: nothing was added to their loss.
    ///
    /// Components are a column of a run whose every step has them.
    pub fn push(&mut self, entry: StepEntry) {
        match entry.components {
            Some(components) if self.components.len() == self.len() => self.components.push(components),
            _ => self.components.clear(),
        }
        if entry.penalty.is_some() && self.penalty.is_none() {
            self.penalty = Some(vec![0.0; self.step.len()]);
        }
        if let Some(penalty) = &mut self.penalty {
            penalty.push(entry.penalty.unwrap_or(0.0));
        }
        self.step.push(entry.step);
        self.task_loss.push(entry.task_loss);
        self.learning_rate.push(entry.learning_rate);
        self.gradient_norm.push(entry.gradient_norm);
    }

    /// Number of logged steps.
    pub fn len(&self) -> usize {
        self.step.len()
    }

    /// Whether nothing was logged.
    pub fn is_empty(&self) -> bool {
        self.step.is_empty()
    }

    /// Step numbers, `[len]`.
    pub fn step(&self) -> &[u64] {
        &self.step
    }

    /// Task losses without penalty, `[len]`.
    pub fn task_loss(&self) -> &[f64] {
        &self.task_loss
    }

    /// Weighted penalties, `[len]`, where the method has any.
    pub fn penalty(&self) -> Option<&[f64]> {
        self.penalty.as_deref()
    }

    /// Scheduled base learning rates, `[len]`.
    pub fn learning_rate(&self) -> &[f64] {
        &self.learning_rate
    }

    /// Global gradient norms before clipping, `[len]`.
    pub fn gradient_norm(&self) -> &[f64] {
        &self.gradient_norm
    }

    /// Components left over all maps after each step, `[len]`, where the method prunes any.
    pub fn components(&self) -> Option<&[u64]> {
        (!self.components.is_empty()).then_some(&self.components)
    }

    /// The last logged step, 0 where nothing was logged.
    pub fn last(&self) -> u64 {
        self.step.last().copied().unwrap_or(0)
    }

    /// Steps between two entries, 1 where every step was logged.
    pub fn spacing(&self) -> u64 {
        self.step.first().copied().unwrap_or(1).max(1)
    }

    /// One entry for every `n` steps and one for those left at the end: losses, penalties and norms are means over them, and the rest is
    /// that of the last of them. A log of every step becomes a log of every `n`-th.
    pub fn every(&self, n: u64) -> Self {
        let rows: Vec<StepEntry> = self.iter().collect();
        let mean = |part: &[StepEntry], of: fn(&StepEntry) -> f64| part.iter().map(of).sum::<f64>() / part.len() as f64;
        let entry = |part: &[StepEntry]| {
            let last = part[part.len() - 1];
            StepEntry {
                task_loss: mean(part, |row| row.task_loss),
                penalty: last.penalty.map(|_| mean(part, |row| row.penalty.unwrap_or(0.0))),
                gradient_norm: mean(part, |row| row.gradient_norm),
                ..last
            }
        };
        rows.chunks(usize::try_from(n.max(1)).unwrap_or(usize::MAX)).map(entry).collect()
    }

    /// The steps as rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = StepEntry> + '_ {
        (0..self.len()).map(|i| StepEntry {
            step: self.step[i],
            task_loss: self.task_loss[i],
            penalty: self.penalty.as_ref().map(|penalty| penalty[i]),
            learning_rate: self.learning_rate[i],
            gradient_norm: self.gradient_norm[i],
            components: self.components.get(i).copied(),
        })
    }
}

impl Extend<StepEntry> for StepLog {
    fn extend<I: IntoIterator<Item = StepEntry>>(&mut self, entries: I) {
        entries.into_iter().for_each(|entry| self.push(entry));
    }
}

impl FromIterator<StepEntry> for StepLog {
    fn from_iter<I: IntoIterator<Item = StepEntry>>(entries: I) -> Self {
        let mut log = Self::default();
        log.extend(entries);
        log
    }
}

/// The columns as read from a file, before their lengths are compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Columns {
    step: Vec<u64>,
    #[serde(with = "number::column")]
    task_loss: Vec<f64>,
    #[serde(default, with = "number::optional_column")]
    penalty: Option<Vec<f64>>,
    #[serde(with = "number::column")]
    learning_rate: Vec<f64>,
    #[serde(with = "number::column")]
    gradient_norm: Vec<f64>,
    #[serde(default)]
    components: Vec<u64>,
}

impl TryFrom<Columns> for StepLog {
    type Error = String;

    fn try_from(columns: Columns) -> Result<Self, String> {
        let Columns { step, task_loss, penalty, learning_rate, gradient_norm, components } = columns;
        let lengths = [
            ("task_loss", task_loss.len()),
            ("penalty", penalty.as_ref().map_or(step.len(), Vec::len)),
            ("learning_rate", learning_rate.len()),
            ("gradient_norm", gradient_norm.len()),
            ("components", if components.is_empty() { step.len() } else { components.len() }),
        ];
        for (name, length) in lengths {
            if length != step.len() {
                return Err(format!("steps.{name} has {length} rows, but steps.step has {}", step.len()));
            }
        }
        Ok(Self { step, task_loss, penalty, learning_rate, gradient_norm, components })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(step: u64, penalty: Option<f64>) -> StepEntry {
        StepEntry { step, task_loss: 0.5, penalty, learning_rate: 1e-3, gradient_norm: f64::INFINITY, components: None }
    }

    #[test]
    fn rows_and_columns_agree() {
        let rows = [entry(1, None), entry(2, None)];
        let log: StepLog = rows.into_iter().collect();
        assert_eq!(log.iter().collect::<Vec<_>>(), rows);
        assert_eq!(log.penalty(), None);
    }

    #[test]
    fn a_penalty_that_begins_late_is_zero_before() {
        let log: StepLog = [entry(1, None), entry(2, Some(0.25)), entry(3, None)].into_iter().collect();
        assert_eq!(log.penalty(), Some([0.0, 0.25, 0.0].as_slice()));
    }

    #[test]
    fn a_thinner_log_has_means_and_the_last_of_every_window() {
        let row = |step: u64| StepEntry {
            task_loss: step as f64,
            penalty: Some(2.0 * step as f64),
            gradient_norm: 10.0 * step as f64,
            learning_rate: 0.1 * step as f64,
            components: Some(100 - step),
            step,
        };
        let log: StepLog = (1..=8).map(row).collect();
        let thin = log.every(3);
        assert_eq!(thin.step(), [3, 6, 8]);
        assert_eq!(thin.task_loss(), [2.0, 5.0, 7.5]);
        assert_eq!(thin.penalty(), Some([4.0, 10.0, 15.0].as_slice()));
        assert_eq!(thin.gradient_norm(), [20.0, 50.0, 75.0]);
        assert_eq!(thin.components(), Some([97, 94, 92].as_slice()));
        assert!((thin.learning_rate()[1] - 0.6).abs() < 1e-12);
        assert_eq!((thin.last(), thin.spacing(), log.spacing()), (8, 3, 1));
        assert_eq!(log.every(1), log);
        assert_eq!((StepLog::default().every(5).len(), StepLog::default().last()), (0, 0));
    }

    #[test]
    fn components_are_a_column_of_every_step_or_none() {
        let with = |step, components| StepEntry { components, ..entry(step, None) };
        let whole: StepLog = [with(1, Some(24)), with(2, Some(20))].into_iter().collect();
        assert_eq!(whole.components(), Some([24, 20].as_slice()));
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<StepLog>(&text).unwrap(), whole);
        let broken: StepLog = [with(1, Some(24)), with(2, None), with(3, Some(20))].into_iter().collect();
        assert_eq!(broken.components(), None);
    }

    #[test]
    fn json_is_columns_and_survives() {
        let log: StepLog = [entry(1, None)].into_iter().collect();
        let text = serde_json::to_string(&log).unwrap();
        assert_eq!(text, r#"{"step":[1],"task_loss":[0.5],"learning_rate":[0.001],"gradient_norm":["inf"]}"#);
        assert_eq!(serde_json::from_str::<StepLog>(&text).unwrap(), log);
    }

    #[test]
    fn columns_of_unequal_length_are_refused() {
        let error = serde_json::from_str::<StepLog>(
            r#"{"step":[1,2],"task_loss":[0.5],"learning_rate":[1,1],"gradient_norm":[1,1]}"#,
        );
        assert_eq!(error.unwrap_err().to_string(), "steps.task_loss has 1 rows, but steps.step has 2");
    }
}
