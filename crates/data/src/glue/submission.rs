//! Predictions as the benchmark wants them handed in.

use super::registry::{Answer, SCORES};
use crate::error::DataError;

/// The file's name and bytes for predictions over a test split: class ids, or scores.
///
/// The split `test` of `mnli` is `test_matched`.
pub fn submission(task: &str, split: &str, predictions: &[f64]) -> Result<(String, Vec<u8>), DataError> {
    let entry = super::entry(task)?;
    let by_name = entry.tests.iter().find(|test| test.split.name == split);
    let Some(test) = by_name.or_else(|| entry.tests.first().filter(|_| split == "test")) else {
        let all: Vec<String> = entry.tests.iter().map(|test| format!("`{}`", test.split.name)).collect();
        let (task, split) = (task.to_owned(), split.to_owned());
        return Err(DataError::NotSubmitted { task, split, all: all.join(" or ") });
    };
    let mut text = "index\tprediction\n".to_owned();
    for (index, &value) in predictions.iter().enumerate() {
        let refuse = |rule| DataError::Prediction { task: task.to_owned(), index, value, rule };
        let class = || {
            let n = entry.labels.len();
            let id = (0..n).find(|&id| id as f64 == value);
            id.ok_or_else(|| refuse(format!("a class id from 0 to {}", n.saturating_sub(1))))
        };
        let answer = match entry.answer {
            Answer::Id => class()?.to_string(),
            Answer::Name => entry.labels[class()?].to_owned(),
            // Adding 0 turns -0 into 0.
            Answer::Score if value.is_finite() => format!("{:.3}", value.clamp(SCORES.0, SCORES.1) + 0.0),
            Answer::Score => return Err(refuse("a finite score".to_owned())),
        };
        text.push_str(&format!("{index}\t{answer}\n"));
    }
    Ok((test.submission.to_owned(), text.into_bytes()))
}
