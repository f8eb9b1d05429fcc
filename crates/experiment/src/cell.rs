//! One run of the grid, resolved: nothing in it is a default any more.

use data::{causal::task::TextTask, holdout::Holdout, own::OwnTask};
use models::{modules::Modules, target::Target};
use record::{CellId, Readout};
use serde::{Deserialize, Serialize};
use variants::{pass::Active, rank::RankPolicy, spec::VariantSpec, stream::Seeds};

use crate::{
    hyper::Hyper,
    located::{self, Located},
};

/// A run of the grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Task, label, rank and seed: its place in the grid.
    pub id: CellId,
    /// Everything that determines its result.
    pub recipe: Recipe,
    /// What differs from the experiment's defaults.
    pub diff: serde_json::Value,
}

/// Everything that determines a run's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Data suite.
    pub suite: String,
    /// Where the suite's files are, where it has any: a folder, or `hf://org/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Located>,
    /// Task of the suite.
    pub task: String,
    /// The task itself, where the experiment describes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<TaskSource>,
    /// Base model.
    pub model: Located,
    /// The adapter it starts from, where it does not start afresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_from: Option<StartFrom>,
    /// Adapted maps.
    pub targets: Target,
    /// What narrows them, gives them ranks and scales of their own, and trains in full beside them.
    #[serde(default, skip_serializing_if = "Modules::is_default")]
    pub modules: Modules,
    /// The preset the variant started from.
    pub preset: String,
    /// The resolved composition.
    pub variant: VariantSpec,
    /// The rest of the recipe.
    pub train: Hyper,
    /// Ways to read the trained adapter out, beside the plain one.
    pub readouts: Vec<Derived>,
    /// The seeds of the four streams.
    pub seeds: Seeds,
    /// The split that a trial of a tuning is judged on, cut from the training examples; none of a run that is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holdout: Option<Holdout>,
    /// Text on which it is measured what the base has forgotten, where that is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgetting: Option<HeldOutText>,
}

/// Held-out text on which the base's own loss is measured before and after a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutText {
    /// A text file with one document a line; documents of an embedded base's own corpus where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Located>,
    /// Documents that are read, from the first; all where there are fewer.
    pub documents: usize,
}

/// Where a run starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFrom {
    /// The end of another cell of the grid.
    Cell(CellId),
    /// An adapter on disk: a run's folder or its file.
    Adapter(Located),
}

/// A task that an experiment describes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskSource {
    /// Texts with labels, in the user's files.
    #[serde(rename = "own", alias = "custom")]
    Custom(OwnTask),
    /// Text that a causal model continues.
    Text(TextTask),
}

impl Recipe {
    /// The recipe of a file whose relative paths are relative to `root`.
    #[must_use]
    pub fn under(mut self, root: &std::path::Path) -> Self {
        let at = |path: &Located| Located::under(root, path.written());
        self.data = self.data.as_ref().map(at);
        self.model = if located::is_path(self.model.written(), root) { at(&self.model) } else { self.model };
        if let Some(StartFrom::Adapter(path)) = &mut self.start_from {
            *path = at(path);
        }
        if let Some(path) = self.forgetting.as_mut().and_then(|held_out| held_out.text.as_mut()) {
            *path = at(path);
        }
        self
    }

    /// Rank of the widest update of a map.
    pub fn largest_rank(&self) -> usize {
        self.modules.largest_rank(self.variant.rank)
    }

    /// The task, where it is text that a causal model continues.
    pub fn text(&self) -> Option<&TextTask> {
        match &self.given {
            Some(TaskSource::Text(task)) => Some(task),
            _ => None,
        }
    }
}

impl TaskSource {
    /// What the task is called.
    pub fn name(&self) -> &str {
        match self {
            Self::Custom(task) => &task.name,
            Self::Text(task) => &task.name,
        }
    }
}

/// A smaller adapter derived from a trained one, without retraining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Derived {
    /// The first `b` components of every map, or all where a map has fewer, at the training scale, for every `b` below the largest
    /// rank of a map.
    Truncated,
    /// The best approximation of every map's update at rank `b`, or at the map's own where that is smaller, for every `b` below the
    /// largest.
    Svd,
}

/// How a trained adapter is read out once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// Components in use.
    Active(Active),
    /// The best approximation at a rank.
    Svd(usize),
}

impl View {
    /// Whether it shows a trained update as it is; `rank` is the largest of a map.
    pub fn is_whole(&self, rank: usize) -> bool {
        match self {
            Self::Active(Active::All) => true,
            // At the full rank the scale is that of the full rank.
            Self::Active(Active::Prefix(ranks)) => ranks.iter().all(|b| *b >= rank),
            Self::Active(Active::Truncated(_)) | Self::Svd(_) => false,
        }
    }
}

impl Cell {
    /// The number of components that the rank policy plans to keep after every step, `(step, components)`; empty where the policy
    /// has no budget. `maps` is the number of adapted maps, `taken` the steps that the run took.
    pub fn planned_components(&self, maps: usize, taken: u64) -> Vec<(u64, usize)> {
        // A run that stopped early had planned for all of its steps.
        let steps = self.recipe.train.steps.unwrap_or(taken);
        let spec = &self.recipe.variant;
        let planned = |step| Some((step, spec.rank_policy.planned(spec.rank, maps, step, steps)?));
        (0..=steps).filter_map(planned).collect()
    }

    /// Every readout of this cell: its row in the tables and how to make it. The plain one is first where the
    /// policy has none of its own.
    pub fn readouts(&self, nested: &[usize]) -> Vec<(Readout, View)> {
        let label = &self.id.variant;
        let row = |label: String, rank| Readout { label, rank };
        let mut all: Vec<_> = if nested.is_empty() {
            vec![(row(label.clone(), self.id.rank), View::Active(Active::All))]
        } else {
            nested.iter().map(|&b| (row(label.clone(), b), View::Active(Active::Prefix(vec![b])))).collect()
        };
        for derived in &self.recipe.readouts {
            for b in 1..self.recipe.largest_rank() {
                all.push(match derived {
                    Derived::Truncated => (row(format!("{label}_truncated"), b), View::Active(Active::Truncated(b))),
                    Derived::Svd => (row(format!("{label}_svd"), b), View::Svd(b)),
                });
            }
        }
        all
    }
}
