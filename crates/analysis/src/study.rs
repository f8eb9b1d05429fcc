//! What an experiment says of its tables and figures: names, order, and the comparisons it asks for.

use record::{Contrast, Matching, Tuned};

use crate::{compare::Rules, table::Layout, tuning};

/// An experiment as its tables and figures need it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Study {
    /// The experiment's name.
    pub name: String,
    /// One line on what it is about; may be empty.
    pub title: String,
    /// Tasks, in the experiment's order.
    pub tasks: Vec<String>,
    /// Labels of the rows, derived readouts included, in the experiment's order.
    pub variants: Vec<String>,
    /// The label that every other row is compared with.
    pub baseline: Option<String>,
    /// The comparisons that the experiment asks for.
    pub contrasts: Vec<Contrast>,
    /// What it settles about its comparisons: the margin of equivalence and the primary family.
    pub rules: Rules,
    /// The sentence that says which settings were identical across the compared runs.
    pub matched: String,
    /// What its rows have as much of as the baseline, where it says so.
    pub matching: Option<Matching>,
    /// What its tuning found, where its rows were tuned.
    pub tuned: Option<Tuned>,
}

impl Study {
    /// The experiment's name and what it is about.
    pub(crate) fn caption(&self) -> String {
        [self.name.as_str(), &self.title].join(": ").trim_end_matches(": ").to_owned()
    }

    /// Order, caption and notes of a table of one split.
    pub(crate) fn layout(&self, split: &str) -> Layout {
        Layout {
            split: split.to_owned(),
            tasks: self.tasks.clone(),
            variants: self.variants.clone(),
            caption: self.caption(),
            notes: std::iter::once(self.matched.clone()).chain(self.tuned.as_ref().map(tuning::sentence)).collect(),
        }
    }
}
