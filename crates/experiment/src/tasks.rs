//! The tasks that an experiment can name or describe, and their examples.

use assets::{error::AssetError, source};
use data::{
    glue, own, suite,
    task::{Loaded, TaskInfo},
};

use crate::cell::TaskSource;

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
