//! The outcome of one evaluation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cell::Readout;
use crate::correct::Correct;
use crate::number;

/// What one readout of a cell scored on one split after some step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Optimizer steps taken before this evaluation.
    pub step: u64,
    /// The split, such as `validation`.
    pub split: String,
    /// Which readout of the cell was evaluated.
    pub readout: Readout,
    /// Metric names to values, in the metric's own unit (accuracy lies in 0..=1); NaN where undefined.
    #[serde(with = "number::map")]
    pub metrics: BTreeMap<String, f64>,
    /// Why a metric is undefined here, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub undefined: BTreeMap<String, String>,
    /// Number of real examples evaluated, padding rows not counted.
    pub examples: usize,
    /// Mean loss over these examples.
    #[serde(with = "number::single")]
    pub loss: f64,
    /// What was generated for a metric that compares texts; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<Generated>,
    /// Which examples were right, where classes are predicted; in the evaluations that tables report, absent from older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct: Option<Correct>,
}

/// How many texts a model has generated, and how many of them it did not end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generated {
    /// Texts, one per prompt.
    pub texts: usize,
    /// Of these, texts that their greatest length has cut.
    pub cut: usize,
}

impl Generated {
    /// How many texts were cut, in words, where any was.
    pub fn note(self) -> Option<String> {
        let Self { texts, cut } = self;
        let percent = 100.0 * cut as f64 / texts.max(1) as f64;
        (cut > 0).then(|| format!("{cut} of {texts} generated texts cut at their greatest length ({percent:.0}%)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_generated_is_said_where_it_was_cut_and_is_absent_from_older_records() {
        assert_eq!(Generated { texts: 20, cut: 0 }.note(), None);
        let note = Generated { texts: 20, cut: 3 }.note();
        assert_eq!(note.as_deref(), Some("3 of 20 generated texts cut at their greatest length (15%)"));
        let written =
            r#"{"step":1,"split":"dev","readout":{"label":"lora","rank":4},"metrics":{},"examples":2,"loss":0.5}"#;
        let read: Evaluation = serde_json::from_str(written).unwrap();
        assert_eq!((read.generated, &read.correct), (None, &None));
        assert_eq!(serde_json::to_string(&read).unwrap(), written);
        let counted = Evaluation {
            generated: Some(Generated { texts: 20, cut: 3 }),
            correct: Some(Correct::pack(&[true, false])),
            ..read
        };
        assert_eq!(serde_json::from_str::<Evaluation>(&serde_json::to_string(&counted).unwrap()).unwrap(), counted);
    }
}
