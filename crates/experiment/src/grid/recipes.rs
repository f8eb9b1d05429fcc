//! The recipe of an entry on every task, and the steps that it makes of the task's examples.

use std::collections::BTreeMap;

use assets::source;

use crate::{
    bounds,
    cell::TaskSource,
    document::{Document, Entry, Task},
    error::Report,
    hyper::Hyper,
    path::Path,
    tasks, train_fields,
    train_fields::Layer,
};

/// What an entry trains with.
#[derive(Debug, Default)]
pub(super) struct Recipes<'a> {
    /// The recipe on every task, where all are valid.
    pub(super) hypers: Vec<Hyper>,
    /// The steps on every task, where they are known. Without a readable task one without a name, for the rules that need none.
    pub(super) lengths: Vec<(&'a str, Option<u64>)>,
}

/// Sizes of training sets, made once each.
#[derive(Default)]
pub(super) struct Examples(BTreeMap<String, Option<usize>>);

impl Examples {
    /// Resolves the recipe of `entry`, or of the experiment alone, on every task.
    pub(super) fn recipes<'a>(
        &mut self,
        document: &'a Document,
        entry: Option<&Entry>,
        longest: Option<usize>,
        report: &mut Report,
    ) -> Recipes<'a> {
        let own = entry.and_then(|entry| entry.train.as_ref());
        let mut recipes = Recipes::default();
        for task in &document.tasks {
            let layers = layers([document.train.as_ref(), task.train.as_ref(), own]);
            let hyper = train_fields::resolve(&layers, longest, report);
            let steps = hyper.as_ref().and_then(|hyper| self.steps(hyper, &layers, document, task, report));
            if let Some(hyper) = &hyper {
                check_block(task, hyper, report);
            }
            recipes.lengths.push((task.name.as_str(), steps));
            recipes.hypers.extend(hyper);
        }
        if document.tasks.is_empty() {
            train_fields::resolve(&layers([document.train.as_ref(), own, None]), longest, report);
            recipes.lengths.push(("", None));
        }
        recipes
    }

    fn steps(
        &mut self,
        hyper: &Hyper,
        layers: &[&Layer],
        document: &Document,
        task: &Task,
        report: &mut Report,
    ) -> Option<u64> {
        if hyper.steps.is_some() {
            return hyper.steps;
        }
        let data = document.data.as_ref().map(|data| data.value.as_str());
        // Checking downloads nothing.
        if data.is_some_and(|data| data.starts_with(source::hub::SCHEME)) {
            return None;
        }
        let load = || {
            let loaded = tasks::load(&document.suite, &task.name, data, task.given.as_ref());
            loaded.ok().map(|loaded| loaded.dataset.train.len())
        };
        let examples = (*self.0.entry(task.name.clone()).or_insert_with(load))?;
        let steps = hyper.total_steps(examples);
        let Some(rule) = bounds::STEPS.broken(steps) else { return Some(steps) };
        let giver = layers.iter().rev().find(|layer| layer.map.contains_key("epochs"));
        let at = giver.map_or_else(|| Path::default().key("train"), |layer| layer.at.clone());
        let epochs = bounds::shown(hyper.epochs.unwrap_or_default());
        let steps = format!("{steps} steps over the {examples} examples of `{}`", task.name);
        report.add(
            &at.key("epochs"),
            format!("epochs is `{epochs}`, which makes {steps}, but a run's steps must {rule}"),
        );
        None
    }
}

/// A block is an input, so that it has to fit into the length limit.
fn check_block(task: &Task, hyper: &Hyper, report: &mut Report) {
    let Some(TaskSource::Text(text)) = &task.given else { return };
    if let Some(block) = text.block.filter(|block| *block > hyper.max_length) {
        let rule =
            format!("block is `{block}`, but must be at most {}, the `max_length` of the recipe", hyper.max_length);
        report.add(&task.at.key("task").key("block"), rule);
    }
}

fn layers(layers: [Option<&Layer>; 3]) -> Vec<&Layer> {
    layers.into_iter().flatten().collect()
}
