//! How updates move over training: DoRA's changes of magnitude and direction, and the way to the final update.

use serde::Serialize;

use super::{Subject, SurveyError};
use crate::subspace::{Side, SubspaceError, decomposition::dynamics, factored::Update, movement};

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

/// Rows of every run that kept snapshots.
pub fn rows(subjects: &[Subject]) -> Result<Vec<Row>, SurveyError> {
    let mut rows = Vec::new();
    for subject in subjects.iter().filter(|subject| !subject.snapshots.is_empty()) {
        let steps: Vec<u64> = subject.snapshots.keys().copied().collect();
        for (name, map) in &subject.maps {
            let failed = |source| SurveyError::Measure { subject: subject.name(), map: name.clone(), source };
            let updates: Vec<Update> = subject.snapshots.values().filter_map(|maps| maps.get(name)).cloned().collect();
            if updates.len() != steps.len() {
                continue;
            }
            let moments = match movement::movement(&updates, Side::Input) {
                Err(SubspaceError::RankZero { .. }) => continue,
                other => other.map_err(failed)?,
            };
            let changes = map.base.as_ref().map(|base| dynamics(base, &updates)).transpose().map_err(failed)?;
            for (at, (step, moment)) in steps.iter().zip(moments).enumerate() {
                rows.push(Row {
                    task: subject.cell.task.clone(),
                    variant: subject.cell.variant.clone(),
                    rank: subject.cell.rank,
                    seed: subject.cell.seed,
                    map: name.clone(),
                    step: *step,
                    delta_magnitude: changes.as_ref().map(|changes| changes.magnitude[at]),
                    delta_direction: changes.as_ref().map(|changes| changes.direction[at]),
                    norm: moment.norm,
                    to_final: moment.to_final,
                    first_direction: moment.phi_final.filter(|phi| !phi.is_ambiguous(1, 1)).map(|phi| phi.at(1, 1)),
                });
            }
        }
    }
    Ok(rows)
}
