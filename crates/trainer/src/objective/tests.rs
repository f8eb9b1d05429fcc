//! Losses against numbers worked out by hand.

use burn::tensor::{DType, Device};
use data::{batch::Encoded, task};
use variants::host::{Placement, values};

use super::*;
use crate::step::inputs::UploadBuffer;

#[test]
fn losses_are_means_over_each_runs_own_rows_and_classes() {
    let place = Placement::new(&Device::flex(), DType::F64);
    let labels = |n: usize| task::Objective::Classification { labels: vec!["x".into(); n] };
    let (two, three, score) = (labels(2), labels(3), task::Objective::Regression { low: 0.0, high: 5.0 });
    let logits = vec![
        0.0, 0.0, 99.0, /**/ 1.0, 3.0, 99.0, // two classes; the third output is not this run's
        1.0, 1.0, 1.0, /**/ 7.0, 7.0, 7.0, // three classes; the second row only fills up
        2.0, 0.0, 0.0, /**/ 1.0, 0.0, 0.0, // regression
    ];
    let examples = [[0.0, 1.0].as_slice(), &[2.0], &[4.0, 1.5]].map(|labels| {
        let example = |label: &f32| Encoded { ids: vec![0], label: *label, ..Encoded::default() };
        labels.iter().map(example).collect::<Vec<_>>()
    });
    let runs = [(&examples[0], &two), (&examples[1], &three), (&examples[2], &score)];
    let runs = runs.map(|(examples, objective)| RunRows::new(examples.iter().collect(), 2, objective));
    let mut buffer = UploadBuffer::default();
    let slices: Vec<_> = LossInputs::collate(&runs, 1).into_iter().map(|inputs| inputs.map(&mut buffer)).collect();
    assert_eq!(slices.len(), 2, "a stack with two objectives has two losses");
    let inputs = buffer.upload(&place);
    let each = slices.into_iter().map(|slices| slices.map(&mut &inputs).loss(place.tensor(logits.clone(), [3, 2, 3])));
    let got = values(&each.reduce(|sum, loss| sum + loss).unwrap_or_else(|| unreachable!("two losses")));
    let expected = [f64::midpoint(2.0_f64.ln(), (1.0 + (-2.0_f64).exp()).ln()), 3.0_f64.ln(), f64::midpoint(4.0, 0.25)];
    for (got, want) in got.iter().zip(expected) {
        assert!((got - want).abs() < 1e-7, "{got} {want}"); // row shares are f32
    }
}
