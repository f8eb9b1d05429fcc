//! Cohorts by their names and cells, without what it takes to train them.

use std::collections::BTreeMap;

use experiment::cell::Cell;

use super::{context::StudyContext, group, plan::CohortPlan};
use crate::error::TrainError;

/// A cohort that may be trained.
#[derive(Debug)]
pub(super) struct Outline {
    /// Its name.
    pub name: String,
    /// Its cells, stack by stack.
    pub cells: Vec<Cell>,
    /// The steps of each.
    pub steps: Vec<u64>,
}

impl Outline {
    /// Of these cells.
    pub(super) fn new(cells: &[Cell], context: &StudyContext<'_>) -> Result<Self, TrainError> {
        Ok(Self::of(&CohortPlan::new(cells, context)?))
    }

    /// Of a plan.
    pub(super) fn of(plan: &CohortPlan) -> Self {
        let cells = plan.cells().into_iter().cloned().collect();
        Self { name: plan.id().to_owned(), cells, steps: plan.steps() }
    }
}

/// Outlines of the cohorts that a process would form, by their cells. They are made before it has the lease on planning, for which others wait.
#[derive(Debug, Default)]
pub(super) struct Outlines(BTreeMap<Vec<String>, Outline>);

impl Outlines {
    /// Of all these cells; of none where the size of a cohort has to be measured first.
    pub(super) fn ahead(cells: &[Cell], context: &StudyContext<'_>) -> Result<Self, TrainError> {
        let mut found = Self::default();
        if group::is_measured(context) {
            return Ok(found);
        }
        for cells in group::group(cells, context)? {
            found.0.insert(key(&cells), Outline::new(&cells, context)?);
        }
        Ok(found)
    }

    /// The outline of these cells, made now where it was not.
    pub(super) fn take(&mut self, cells: &[Cell], context: &StudyContext<'_>) -> Result<Outline, TrainError> {
        self.0.remove(&key(cells)).map_or_else(|| Outline::new(cells, context), Ok)
    }
}

/// The cells in an order that does not depend on how they were stacked.
fn key(cells: &[Cell]) -> Vec<String> {
    let mut slugs: Vec<String> = cells.iter().map(|cell| cell.id.slug()).collect();
    slugs.sort();
    slugs
}
