//! The list of tasks: named ones of a suite, or described ones of the user's files.

use std::collections::BTreeMap;

use data::{causal::task::TextTask, own::OwnTask};
use serde_yaml::Value;

use super::At;
use crate::{
    cell::TaskSource,
    error::Report,
    fields::{given, list, map, name, path_safe, quoted, shown, text},
    overlay::whole,
    path::Path,
    suites::{self, CUSTOM, TEXT},
    train_fields::{self, Layer},
};

/// One task.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) at: Path,
    pub(crate) name: String,
    /// The task itself, where the file describes it.
    pub(crate) given: Option<TaskSource>,
    /// Another task of the file, or an adapter, that its runs start from.
    pub(crate) start_from: Option<At<String>>,
    pub(crate) train: Option<Layer>,
}

/// Every readable task.
pub(crate) fn tasks(value: &Value, at: &Path, suite: Option<&str>, report: &mut Report) -> Vec<Task> {
    let known = suite.map(crate::tasks::tasks).unwrap_or_default();
    let known: Vec<&str> = known.iter().map(|task| task.name.as_str()).collect();
    let (mut trains, mut described, mut starts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let names = list(value, at, report, |value, at, report| {
        let (task, path) = if value.is_mapping() {
            let fields = map(value, at, &["task", "train", "start_from"], report)?;
            let Some(task) = given(fields, "task") else {
                report.add(at, "`task` is missing");
                return None;
            };
            if let Some(train) =
                given(fields, "train").and_then(|train| train_fields::layer(train, &at.key("train"), report))
            {
                trains.insert(at.to_string(), train);
            }
            let start = at.key("start_from");
            if let Some(from) = given(fields, "start_from").and_then(|from| text(from, &start, report)) {
                starts.insert(at.to_string(), At { at: start, value: from });
            }
            (task, at.key("task"))
        } else {
            (value, at.clone())
        };
        if let Some(suite @ (CUSTOM | TEXT)) = suite {
            let own = described_task(suite, task, &path, report)?;
            let label = own.name().to_owned();
            path_safe(&label, &path.key("name"), "", report);
            described.insert(at.to_string(), own);
            return Some(label);
        }
        // Without a suite there is nothing to check a name against.
        if suite.is_none() { text(task, &path, report) } else { name(task, &path, &known, "tasks", report) }
    });
    let task = |(index, name)| {
        let at = at.index(index);
        let key = at.to_string();
        let (train, given, start_from) = (trains.remove(&key), described.remove(&key), starts.remove(&key));
        Task { at, name, given, start_from, train }
    };
    let tasks: Vec<Task> = names.into_iter().map(task).collect();
    check_starts(&tasks, report);
    tasks
}

/// Chains of warm starts must lead to a task that starts afresh, or to an adapter that is there.
fn check_starts(tasks: &[Task], report: &mut Report) {
    let find = |name: &str| tasks.iter().find(|task| task.name == name);
    for task in tasks {
        let Some(from) = &task.start_from else { continue };
        if find(&from.value).is_none() {
            if !std::path::Path::new(&from.value).exists() {
                let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
                report.add(
                    &from.at,
                    format!(
                        "start_from is `{}`, which is no task of this experiment ({}) and no folder or file",
                        from.value,
                        quoted(&names)
                    ),
                );
            }
            continue;
        }
        let chain = std::iter::successors(Some(task), |task| find(&task.start_from.as_ref()?.value));
        if chain.take(tasks.len() + 1).count() > tasks.len() {
            report.add(
                &from.at,
                format!(
                    "`{}` starts from `{}`, which leads back to itself; let one of them start afresh",
                    task.name, from.value
                ),
            );
        }
    }
}

/// A task that the file describes: a map under `task`.
fn described_task(suite: &str, value: &Value, at: &Path, report: &mut Report) -> Option<TaskSource> {
    if !value.is_mapping() {
        let form = if suite == CUSTOM { "text: column, label: column" } else { "form: pairs" };
        report.add(
            at,
            format!(
                "task is {}, but a task of suite `{}` is described: `task: {{name: .., train: file, dev: file, {form}}}`",
                shown(value),
                suites::shown(suite)
            ),
        );
        return None;
    }
    let (problems, task) = if suite == CUSTOM {
        let task = whole::<OwnTask>(value, at, report)?;
        (task.check(), TaskSource::Custom(task))
    } else {
        let task = whole::<TextTask>(value, at, report)?;
        (task.check(), TaskSource::Text(task))
    };
    let valid = problems.is_empty();
    for problem in problems {
        report.add(at, problem);
    }
    valid.then_some(task)
}
