//! What an adapter of PEFT or a checkpoint is for, as `import` and `predict` are told.

use std::path::PathBuf;

use data::glue::GLUE;
use interop::peft::import::Purpose;

use super::read;
use crate::failure::Failure;

/// Arguments that name a task.
#[derive(Debug, clap::Args)]
pub(crate) struct TaskArgs {
    /// The task of a checkpoint, or of a folder that PEFT wrote.
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// The task's suite.
    #[arg(long, default_value = GLUE, conflicts_with = "experiment")]
    pub suite: String,
    /// An experiment that describes the task and its data.
    #[arg(long, value_name = "FILE", requires = "task")]
    pub experiment: Option<PathBuf>,
}

impl TaskArgs {
    /// The task, by its name in a suite or in an experiment; none where the folder must know it.
    pub(super) fn purpose(&self) -> Result<Option<Purpose>, Failure> {
        let Some(task) = &self.task else { return Ok(None) };
        let Some(file) = &self.experiment else { return Ok(Some(Purpose::of_suite(&self.suite, task))) };
        let experiment = read(file, &[])?;
        let cell = experiment.cells().iter().find(|cell| cell.recipe.task == *task).ok_or_else(|| {
            let known = experiment.tasks().join(", ");
            Failure::Input(format!("{}: has no task `{task}`; its tasks are {known}", file.display()))
        })?;
        let plan = &cell.recipe;
        Ok(Some(Purpose {
            suite: plan.suite.clone(),
            data: plan.data.clone(),
            task: plan.task.clone(),
            given: plan.given.clone(),
            max_length: Some(plan.train.max_length),
        }))
    }
}
