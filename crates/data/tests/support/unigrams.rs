//! How far the words of a text get without their order and meaning.

use std::collections::{BTreeMap, BTreeSet};

use data::task::{Dataset, Example};

/// The primary metric on the first evaluation split of a linear model on the words present in each text.
///
/// The words of the two texts are separate features. The model is fitted to the labels by stochastic gradient steps on squared error
/// per class, which needs no tuning to show a leak.
pub(crate) fn baseline(dataset: &Dataset) -> f64 {
    let n_outputs = dataset.info.objective.n_outputs();
    let features = |e: &Example| -> BTreeSet<String> {
        let second = e.second.as_deref().unwrap_or_default();
        let marked = |tag: char, text: &str| text.split(' ').map(|w| format!("{tag}{w}")).collect::<Vec<_>>();
        marked('a', &e.first).into_iter().chain(marked('b', second)).chain(["bias".to_owned()]).collect()
    };
    let target =
        |label: f32, k: usize| if n_outputs == 1 { f64::from(label) } else { f64::from(u8::from(label as usize == k)) };
    let mut weights: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let scores = |weights: &BTreeMap<String, Vec<f64>>, features: &BTreeSet<String>| -> Vec<f64> {
        let known: Vec<&Vec<f64>> = features.iter().filter_map(|f| weights.get(f)).collect();
        (0..n_outputs).map(|k| known.iter().map(|w| w[k]).sum()).collect()
    };
    let rows: Vec<(BTreeSet<String>, f32)> = dataset.train.iter().map(|e| (features(e), e.label)).collect();
    for epoch in 0..20 {
        let rate = 0.05 / f64::from(1 + epoch);
        for (features, label) in &rows {
            let now = scores(&weights, features);
            for feature in features {
                let weight = weights.entry(feature.clone()).or_insert_with(|| vec![0.0; n_outputs]);
                for k in 0..n_outputs {
                    weight[k] += rate * (target(*label, k) - now[k]);
                }
            }
        }
    }
    let (_, examples) = &dataset.evaluation[0];
    let predict = |e: &Example| {
        let scores = scores(&weights, &features(e));
        if n_outputs == 1 {
            return scores[0];
        }
        (0..n_outputs).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0) as f64
    };
    let predictions: Vec<f64> = examples.iter().map(predict).collect();
    let labels: Vec<f64> = examples.iter().map(|e| f64::from(e.label)).collect();
    dataset.info.primary().evaluate(&predictions, &labels)
}
