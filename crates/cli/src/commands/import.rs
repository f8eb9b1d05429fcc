//! `import`: an adapter that PEFT trained as one of this program.

use burn::tensor::{DType, Device};
use interop::peft::import::{Purpose, Request, import, write};
use trainer::library::Library;
use variants::host::Placement;

use super::read;
use crate::{
    args::{Import, PurposeArgs},
    terminal::{Failure, note, unwritten},
};

/// Reads the folder and writes the adapter.
pub(super) fn run(args: &Import) -> Result<(), Failure> {
    let library = Library::new(Placement::new(&Device::flex(), DType::F32));
    let purpose = purpose(&args.purpose)?;
    let request = Request { folder: &args.folder, model: args.purpose.model.as_deref(), purpose };
    let imported = import(&request, &library).map_err(unwritten)?;
    imported.notes.iter().for_each(|line| note(line));
    let label = imported.card.cell.to_string();
    let bytes = write(imported, &args.folder, &args.out).map_err(unwritten)?;
    note(&format!("wrote {label} to {} ({bytes} bytes)", args.out.join("adapter.safetensors").display()));
    Ok(())
}

/// The task, by its name in GLUE or in an experiment; none where the folder must know it.
pub(super) fn purpose(args: &PurposeArgs) -> Result<Option<Purpose>, Failure> {
    let Some(task) = &args.task else { return Ok(None) };
    let Some(file) = &args.experiment else {
        return Ok(Some(Purpose { suite: args.suite.clone(), data: None, task: task.clone(), given: None }));
    };
    let experiment = read(file, &[])?;
    let cell = experiment.cells().iter().find(|cell| cell.plan.task == *task).ok_or_else(|| {
        let known = experiment.tasks().join(", ");
        Failure::Input(format!("{}: has no task `{task}`; its tasks are {known}", file.display()))
    })?;
    let plan = &cell.plan;
    Ok(Some(Purpose {
        suite: plan.suite.clone(),
        data: plan.data.clone(),
        task: plan.task.clone(),
        given: plan.given.clone(),
    }))
}
