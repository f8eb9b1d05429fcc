//! What an adapter of PEFT or a checkpoint is for, as `import` and `predict` are told.

use std::{collections::BTreeSet, path::PathBuf};

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
    /// The task's suite; GLUE without one.
    #[arg(long, value_name = "SUITE", requires = "task", conflicts_with = "experiment")]
    pub suite: Option<String>,
    /// An experiment that describes the task and its data.
    #[arg(long, value_name = "FILE", requires = "task")]
    pub experiment: Option<PathBuf>,
}

impl TaskArgs {
    /// The task, by its name in a suite or in an experiment; none where the folder must know it. Where the rows of an experiment have several
    /// length limits, `max_length` has to say which.
    pub(super) fn purpose(&self, max_length: Option<usize>) -> Result<Option<Purpose>, Failure> {
        let Some(task) = &self.task else { return Ok(None) };
        let Some(file) = &self.experiment else {
            return Ok(Some(Purpose::of_suite(self.suite.as_deref().unwrap_or(GLUE), task)));
        };
        let experiment = read(file, &[])?;
        let recipes = || experiment.cells().iter().map(|cell| &cell.recipe).filter(|recipe| recipe.task == *task);
        let Some(plan) = recipes().next() else {
            let known = experiment.tasks().join(", ");
            return Err(Failure::Input(format!("{}: has no task `{task}`; its tasks are {known}", file.display())));
        };
        let limits: BTreeSet<usize> = recipes().map(|recipe| recipe.train.max_length).collect();
        if limits.len() > 1 && max_length.is_none() {
            let all: Vec<String> = limits.iter().map(ToString::to_string).collect();
            return Err(Failure::Input(format!(
                "{}: the rows of `{task}` are cut at {} tokens by one entry or another; say with `--max-length` which counts",
                file.display(),
                all.join(" or ")
            )));
        }
        Ok(Some(Purpose {
            suite: plan.suite.clone(),
            data: plan.data.as_ref().map(ToString::to_string),
            task: plan.task.clone(),
            given: plan.given.clone(),
            max_length: Some(plan.train.max_length),
            draws_train: recipes().any(|recipe| recipe.seeds.sample.is_some()),
        }))
    }
}
