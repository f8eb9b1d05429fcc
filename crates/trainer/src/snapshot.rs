//! Adapters kept during training, as `snapshots/<step>.safetensors` beside a run's record.

use record::{CellId, create_directory};

use crate::{
    adapter::{self, AdapterMetadata, SNAPSHOTS},
    cohort::Cohort,
    error::TrainError,
    evaluate::single,
    study::{context::StudyContext, run_state::RunAt},
};

/// Saves the adapters of runs whose recipe keeps them at this step.
pub fn save_due(cohort: &Cohort, context: &StudyContext<'_>) -> Result<(), TrainError> {
    let is_due = |at: &RunAt| cohort.at(*at).saves_at(cohort.step);
    cohort.addresses().into_iter().filter(is_due).try_for_each(|at| save(cohort, at, context))
}

fn save(cohort: &Cohort, at: RunAt, context: &StudyContext<'_>) -> Result<(), TrainError> {
    let run = cohort.at(at);
    let mut network = single::network(cohort, at, None);
    let folder = context.store.run_dir(&run.cell.id).join(SNAPSHOTS);
    create_directory(&folder)?;
    // Zeros in front, so that names sort by step.
    let path = folder.join(format!("{:08}.safetensors", cohort.step));
    let metadata = AdapterMetadata { step: Some(cohort.step), ..adapter::metadata(run, &network, context)? };
    adapter::save(&path, &metadata, &adapter::tensors(&mut network, 0, 0))?;
    Ok(())
}

/// Removes what an earlier run of another recipe has kept under the same name.
pub fn forget(cell: &CellId, context: &StudyContext<'_>) -> Result<(), TrainError> {
    let path = context.store.run_dir(cell).join(SNAPSHOTS);
    match std::fs::remove_dir_all(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(path, source)),
        _ => Ok(()),
    }
}
