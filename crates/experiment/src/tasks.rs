//! The tasks that an experiment can name or describe, and their examples.

use assets::{error::AssetError, source};
use data::{
    glue, own, suite,
    task::{Loaded, TaskInfo},
};

use crate::cell::{Recipe, TaskSource};

/// The examples of a run's task, with the training set that its seed draws where that varies.
pub fn load_for(recipe: &Recipe) -> Result<Loaded, AssetError> {
    if recipe.seeds.sample.is_some() {
        let dataset = suite::load_sample(&recipe.suite, &recipe.task, recipe.seeds.sample)?;
        return Ok(Loaded { dataset, more_tests: Vec::new(), notes: Vec::new() });
    }
    load(&recipe.suite, &recipe.task, recipe.data.as_deref(), recipe.given.as_ref())
}

/// The examples of a task.
pub fn load(suite: &str, task: &str, data: Option<&str>, given: Option<&TaskSource>) -> Result<Loaded, AssetError> {
    let files = || source::files(data.unwrap_or("."));
    Ok(match (given, suite) {
        (Some(TaskSource::Custom(task)), _) => own::load(task, &*files()?)?,
        (Some(TaskSource::Text(task)), _) => {
            let reason = "is text, which has tokens and no examples";
            return Err(AssetError::Foreign { path: task.train.clone().into(), reason: reason.to_owned() });
        }
        (None, glue::GLUE) => glue::load(task, &*files()?)?,
        (None, suite) => Loaded { dataset: suite::load(suite, task)?, more_tests: Vec::new(), notes: Vec::new() },
    })
}

/// The tasks of a suite that can be named.
pub fn tasks(suite: &str) -> Vec<TaskInfo> {
    match suite {
        glue::GLUE => glue::tasks(),
        other => suite::tasks(other).unwrap_or_default(),
    }
}
