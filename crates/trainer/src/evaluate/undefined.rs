//! Metrics that are undefined, and why: a correlation needs variation, F1 an example of its class, and all of them predictions.

use data::{metric::Metric, task::Objective};

/// Why `metric` is undefined for these predictions and labels, `[n]` each; none where it is defined. A prediction that is not finite is
/// that of a model whose logits are not. A prediction that never varies is not
/// the split's fault: it gives a correlation of classes its worst value, 0, and only a correlation of scores none.
pub fn reason(metric: Metric, predictions: &[f64], labels: &[f64], objective: &Objective) -> Option<String> {
    let Some(first) = labels.first() else { return Some("the split has no example".to_owned()) };
    if let Some(example) = predictions.iter().position(|value| !value.is_finite()) {
        return Some(format!("a logit of example {} is not finite", example + 1));
    }
    let constant = |values: &[f64]| values.iter().all(|value| value.to_bits() == values[0].to_bits());
    let name = |label: f64| match objective {
        Objective::Classification { labels } => labels.get(label as usize).cloned().unwrap_or_default(),
        Objective::Regression { .. } | Objective::Text => label.to_string(),
    };
    match metric {
        Metric::Matthews if constant(labels) => Some(format!("every label is `{}`", name(*first))),
        Metric::F1 if labels.iter().all(|label| label.round() as i64 != 1) => {
            Some(format!("no label is `{}`", name(1.0)))
        }
        Metric::Pearson | Metric::Spearman if constant(labels) => Some(format!("every score is {first}")),
        Metric::Pearson | Metric::Spearman if constant(predictions) => Some("every prediction is the same".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_split_leaves_undefined_is_said() {
        let classes = Objective::Classification { labels: vec!["neg".into(), "pos".into()] };
        let scores = Objective::Regression { low: 0.0, high: 5.0 };
        let (both, neg, pos) = ([0.0, 1.0], [0.0, 0.0], [1.0, 1.0]);
        let said = |metric, predictions: &[f64], labels: &[f64], objective: &Objective| {
            reason(metric, predictions, labels, objective).unwrap_or_default()
        };
        assert_eq!(said(Metric::Matthews, &both, &pos, &classes), "every label is `pos`");
        assert_eq!(said(Metric::Matthews, &pos, &both, &classes), "");
        assert_eq!(said(Metric::F1, &both, &neg, &classes), "no label is `pos`");
        assert_eq!(said(Metric::F1, &neg, &both, &classes), "");
        assert_eq!(said(Metric::Accuracy, &both, &pos, &classes), "");
        for metric in [Metric::Pearson, Metric::Spearman] {
            assert_eq!(said(metric, &both, &[3.5, 3.5], &scores), "every score is 3.5");
            assert_eq!(said(metric, &pos, &both, &scores), "every prediction is the same");
            assert_eq!(said(metric, &both, &both, &scores), "");
        }
        assert_eq!(said(Metric::Accuracy, &[], &[], &classes), "the split has no example");
        for (metric, objective) in [(Metric::Accuracy, &classes), (Metric::F1, &classes), (Metric::Pearson, &scores)] {
            assert_eq!(said(metric, &[1.0, f64::NAN], &both, objective), "a logit of example 2 is not finite");
        }
    }
}
