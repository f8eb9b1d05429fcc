//! DoRA's figure 2: changes of magnitude against changes of direction, one panel per method.

use std::collections::{BTreeMap, BTreeSet};

use super::{Group, Named};
use crate::{
    figure::{Caption, Dynamics, Fit, dynamics},
    figures::seeds,
    measures::{magnitude_direction, study::Measuring},
    subspace::decomposition::pearson,
};

/// `ΔM` against `ΔD` for every variant that kept snapshots, one figure per task.
pub(super) fn moved(study: &str, groups: &[Group<'_>], taken: &Measuring) -> Vec<Named> {
    let tasks: BTreeSet<&str> = groups.iter().map(|group| group.task).collect();
    let mut figures = Vec::new();
    for task in &tasks {
        let mut methods = Vec::new();
        let mut counts = Vec::new();
        let largest: BTreeMap<&str, usize> = groups
            .iter()
            .filter(|group| group.task == *task)
            .map(|group| (group.variant, group.ranks().pop_last().unwrap_or(0)))
            .collect();
        let is_shown =
            |row: &&magnitude_direction::Row| row.task == *task && largest.get(row.variant.as_str()) == Some(&row.rank);
        let all: Vec<&magnitude_direction::Row> = taken.moved.iter().filter(is_shown).collect();
        let shared = magnitude_direction::shared_maps(&all);
        for group in groups.iter().filter(|group| group.task == *task) {
            let largest = largest[group.variant];
            let of_group =
                |row: &&&magnitude_direction::Row| row.variant == group.variant && shared.contains(row.map.as_str());
            let points: Vec<(f64, f64, f64)> = all
                .iter()
                .filter(of_group)
                .filter_map(|row| Some((row.delta_direction?, row.delta_magnitude?, row.step as f64)))
                .collect();
            if points.is_empty() {
                continue;
            }
            let name = if largest > 0 { format!("{}, r = {largest}", group.variant) } else { group.variant.to_owned() };
            counts.push(taken.count(task, group.variant, largest));
            methods.push(Dynamics { method: name, fit: fit(&points), points });
        }
        if methods.is_empty() {
            continue;
        }
        let name = if tasks.len() > 1 { format!("dynamics-{task}") } else { "dynamics".to_owned() };
        let caption = Caption {
            title: format!("{study}: change of magnitude against change of direction, {task}"),
            n: seeds(counts.into_iter(), "").split(';').next().unwrap_or_default().to_owned(),
            notes: vec!["One point per map, snapshot and seed; the maps that every method changes.".to_owned()],
        };
        figures.push(Named::new(name, dynamics(caption, &methods)));
    }
    figures
}

/// Least squares of `ΔM` on `ΔD`; none where one of them does not vary.
fn fit(points: &[(f64, f64, f64)]) -> Option<Fit> {
    let (x, y): (Vec<f64>, Vec<f64>) = points.iter().map(|point| (point.0, point.1)).unzip();
    let correlation = pearson(&x, &y).ok()??;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mx, my) = (mean(&x), mean(&y));
    let slope = x.iter().zip(&y).map(|(a, b)| (a - mx) * (b - my)).sum::<f64>()
        / x.iter().map(|a| (a - mx).powi(2)).sum::<f64>();
    Some(Fit { slope, intercept: my - slope * mx, correlation })
}
