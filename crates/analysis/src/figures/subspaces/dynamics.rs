//! DoRA's figure 2: changes of magnitude against changes of direction, one panel per method.

use std::collections::BTreeSet;

use super::{Group, Named};
use crate::{
    figure::{Caption, Dynamics, Fit, dynamics},
    figures::seeds,
    measures::{AdapterSample, MeasureError, magnitude_direction},
    subspace::decomposition::pearson,
};

/// `ΔM` against `ΔD` for every variant that kept snapshots, one figure per task.
pub(super) fn moved(study: &str, groups: &[Group<'_>]) -> Result<Vec<Named>, MeasureError> {
    let tasks: BTreeSet<&str> = groups.iter().map(|group| group.task).collect();
    let mut figures = Vec::new();
    for task in &tasks {
        let mut methods = Vec::new();
        let mut counts = Vec::new();
        let of_task: Vec<AdapterSample> = groups
            .iter()
            .filter(|group| group.task == *task)
            .flat_map(|group| {
                let largest = group.ranks().pop_last().unwrap_or(0);
                group.runs.iter().filter(move |run| run.cell.rank == largest).map(|run| (*run).clone())
            })
            .collect();
        let all = magnitude_direction::rows(&of_task)?;
        let shared = magnitude_direction::shared_maps(&all.iter().collect::<Vec<_>>());
        for group in groups.iter().filter(|group| group.task == *task) {
            let largest = group.ranks().pop_last().unwrap_or(0);
            let rows: Vec<&magnitude_direction::Row> = all
                .iter()
                .filter(|row| row.variant == group.variant && row.rank == largest && shared.contains(row.map.as_str()))
                .collect();
            let points: Vec<(f64, f64, f64)> = rows
                .iter()
                .filter_map(|row| Some((row.delta_direction?, row.delta_magnitude?, row.step as f64)))
                .collect();
            if points.is_empty() {
                continue;
            }
            let name = if largest > 0 { format!("{}, r = {largest}", group.variant) } else { group.variant.to_owned() };
            counts.push(group.seeds(largest).len());
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
    Ok(figures)
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
