//! Change of magnitude (`ΔM`) and direction (`ΔD`) over training (DoRA section 3.2), and the distance to the final update.

use std::collections::{BTreeMap, BTreeSet};

use lowrank::Update;
use serde::Serialize;

use super::{AdapterSample, MeasureError, per_run_and_map};
use crate::subspace::{
    Side, SubspaceError,
    decomposition::{dynamics, pearson},
    trajectory::trajectory,
};

/// One run and map at one snapshot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The task.
    pub task: String,
    /// The variant.
    pub variant: String,
    /// The run's rank, 0 for methods without.
    pub rank: usize,
    /// The run's seed.
    pub seed: u64,
    /// The map.
    pub map: String,
    /// Optimizer step.
    pub step: u64,
    /// `ΔM`; empty without the base.
    pub delta_magnitude: Option<f64>,
    /// `ΔD`; empty without the base.
    pub delta_direction: Option<f64>,
    /// `‖ΔW_t‖_F`
    pub norm: f64,
    /// `‖ΔW_t − ΔW_T‖_F / ‖ΔW_T‖_F`
    pub to_final: f64,
    /// `φ(1, 1)` with the final update in the input space; empty where a direction does not exist or is not determined.
    pub first_direction: Option<f64>,
}

crate::tabular!(Row: task, variant, rank, seed, map, step, delta_magnitude, delta_direction, norm, to_final, first_direction);

/// How magnitude and direction change together in one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// The task.
    pub task: String,
    /// The variant.
    pub variant: String,
    /// The run's rank, 0 for methods without.
    pub rank: usize,
    /// The run's seed.
    pub seed: u64,
    /// Maps and snapshots that are correlated.
    pub points: usize,
    /// Pearson's correlation of `ΔM` and `ΔD`; empty where one of them does not vary.
    pub pearson: Option<f64>,
}

crate::tabular!(Correlation: task, variant, rank, seed, points, pearson);

/// `(ΔD, ΔM)` of maps and snapshots.
type Points = Vec<(f64, f64)>;

/// The correlation of every run (DoRA section 4.1), over the maps that every variant of the task changes: variants that train other
/// maps as well are judged on the same ones.
pub fn correlations(rows: &[Row]) -> Vec<Correlation> {
    let mut found = Vec::new();
    let tasks: BTreeSet<&str> = rows.iter().map(|row| row.task.as_str()).collect();
    for task in tasks {
        let of_task: Vec<&Row> = rows.iter().filter(|row| row.task == task).collect();
        let shared = shared_maps(&of_task);
        let mut runs: BTreeMap<(&str, usize, u64), Points> = BTreeMap::new();
        for row in of_task.iter().filter(|row| shared.contains(row.map.as_str())) {
            if let (Some(direction), Some(magnitude)) = (row.delta_direction, row.delta_magnitude) {
                runs.entry((&row.variant, row.rank, row.seed)).or_default().push((direction, magnitude));
            }
        }
        for ((variant, rank, seed), points) in runs {
            let (direction, magnitude): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
            found.push(Correlation {
                task: task.to_owned(),
                variant: variant.to_owned(),
                rank,
                seed,
                points: points.len(),
                pearson: pearson(&direction, &magnitude).ok().flatten(),
            });
        }
    }
    found
}

/// Maps that every variant of these rows has.
pub fn shared_maps<'a>(rows: &[&'a Row]) -> BTreeSet<&'a str> {
    let mut by_variant: BTreeMap<(&str, usize), BTreeSet<&'a str>> = BTreeMap::new();
    for row in rows {
        by_variant.entry((&row.variant, row.rank)).or_default().insert(&row.map);
    }
    by_variant.into_values().reduce(|one, other| one.intersection(&other).copied().collect()).unwrap_or_default()
}

/// Rows of every run that kept snapshots, for the maps that each of its snapshots has.
pub fn rows(samples: &[AdapterSample]) -> Result<Vec<Row>, MeasureError> {
    let mut rows = Vec::new();
    for run in per_run_and_map(samples.iter().filter(|sample| !sample.snapshots.is_empty())) {
        let snapshots = &run.sample.snapshots;
        let updates: Vec<Update> = snapshots.values().filter_map(|maps| maps.get(run.name)).cloned().collect();
        if updates.len() != snapshots.len() {
            continue;
        }
        let points = match trajectory(&updates, Side::Input) {
            Err(SubspaceError::RankZero { .. }) => continue,
            other => other.map_err(|source| run.failed(source))?,
        };
        let changes = run.map.base.as_ref().map(|base| dynamics(base, &updates)).transpose();
        let changes = changes.map_err(|source| run.failed(source))?;
        let cell = &run.sample.cell;
        for (at, (step, point)) in snapshots.keys().zip(points).enumerate() {
            rows.push(Row {
                task: cell.task.clone(),
                variant: cell.variant.clone(),
                rank: cell.rank,
                seed: cell.seed,
                map: run.name.to_owned(),
                step: *step,
                delta_magnitude: changes.as_ref().map(|changes| changes.magnitude[at]),
                delta_direction: changes.as_ref().map(|changes| changes.direction[at]),
                norm: point.norm,
                to_final: point.to_final,
                first_direction: point.phi_final.filter(|phi| !phi.is_ambiguous(1, 1)).map(|phi| phi.at(1, 1)),
            });
        }
    }
    Ok(rows)
}
