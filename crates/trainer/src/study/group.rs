//! Which open cells train together.

use kernels::memory;
use schedule::{longest_first, split};
use variants::base::BaseSpec;

use super::{capacity::capacity, context::StudyContext, costs};
use crate::error::TrainError;
use experiment::{
    cell::{Cell, Recipe},
    hyper::SharedHyper,
};

/// Whether the number of runs in a cohort is what the device's memory takes, which has to be measured.
pub(super) fn is_measured(context: &StudyContext<'_>) -> bool {
    context.cohort.is_none() && memory::usage(&context.cache.place().device).is_some()
}

/// The cells of new cohorts, in the order in which they should be begun; `study` is all of which some have ended.
pub(super) fn in_order(
    open: &[Cell],
    study: &[(&Cell, usize)],
    context: &StudyContext<'_>,
) -> Result<Vec<Vec<Cell>>, TrainError> {
    if is_measured(context) { fill(open, context) } else { costs::order(group(open, context)?, study, context) }
}

/// The cells of new cohorts.
pub(super) fn group(open: &[Cell], context: &StudyContext<'_>) -> Result<Vec<Vec<Cell>>, TrainError> {
    if is_measured(context) {
        return fill(open, context);
    }
    let mut groups = Groups::new(context.cohort.unwrap_or(1));
    for cell in open {
        groups.put(CohortKey::of(cell), cell);
    }
    Ok(groups.all.into_iter().map(|(_, cells)| cells).collect())
}

/// New cohorts as large as the device's memory takes, as even as can be, each of one task: rows of other lengths would be padding. Where
/// several processes share the study, they are cut so that all end at about the same time, and the longest come first.
fn fill(open: &[Cell], context: &StudyContext<'_>) -> Result<Vec<Vec<Cell>>, TrainError> {
    let mut groups = Groups::new(usize::MAX);
    for cell in open {
        groups.put((CohortKey::of(cell), &cell.recipe.task, &cell.recipe.data), cell);
    }
    let groups: Vec<Vec<Cell>> = groups.all.into_iter().map(|(_, cells)| cells).collect();
    let capacities: Vec<usize> = groups.iter().map(|cells| capacity(cells, context)).collect::<Result<_, _>>()?;
    let sized = costs::of_groups(&groups, &capacities, context)?;
    let sizes = split(&sized, context.among);
    let (mut cohorts, mut costs) = (Vec::new(), Vec::new());
    for ((cells, sizes), group) in groups.into_iter().zip(sizes).zip(sized) {
        // Runs of one stack stay together.
        let mut rest = cells.into_iter();
        for runs in sizes {
            cohorts.push(rest.by_ref().take(runs).collect::<Vec<Cell>>());
            costs.push(group.cost(runs));
        }
    }
    if context.among < 2 {
        return Ok(cohorts);
    }
    Ok(longest_first(&costs).into_iter().map(|index| std::mem::take(&mut cohorts[index])).collect())
}

/// What cells of one cohort have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CohortKey {
    model: String,
    /// Whether it continues text: a batch has labels or tokens to predict.
    is_text: bool,
    /// Whether every run copies the whole base.
    copies_base: bool,
    train: SharedHyper,
}

impl CohortKey {
    /// No field is left out by `..`: whoever adds one to a recipe says here whether a cohort shares it.
    fn of(cell: &Cell) -> Self {
        let Recipe {
            model,
            given: _, // whether it is text is asked below
            variant,
            train,
            // A run's own, or its stack's:
            suite: _,
            data: _,
            task: _,
            start_from: _,
            targets: _,
            modules: _,
            preset: _,
            readouts: _,
            seeds: _,
            holdout: _,
            forgetting: _, // what it is of a cell's base is asked when runs end
        } = &cell.recipe;
        Self {
            model: model.written().to_owned(),
            is_text: cell.recipe.text().is_some(),
            copies_base: variant.base == BaseSpec::Trained,
            train: train.shared(),
        }
    }
}

/// Groups of cells under keys, none larger than `size`.
struct Groups<K> {
    size: usize,
    all: Vec<(K, Vec<Cell>)>,
    /// Places of those that have room for another: full ones are not looked through for every cell.
    open: Vec<usize>,
}

impl<K: PartialEq> Groups<K> {
    fn new(size: usize) -> Self {
        Self { size, all: Vec::new(), open: Vec::new() }
    }

    /// Appends a cell to the group with its key that has room for another, or opens one.
    fn put(&mut self, key: K, cell: &Cell) {
        let found = self.open.iter().position(|at| self.all[*at].0 == key);
        let place = found.unwrap_or_else(|| {
            self.open.push(self.all.len());
            self.all.push((key, Vec::new()));
            self.open.len() - 1
        });
        let cells = &mut self.all[self.open[place]].1;
        cells.push(cell.clone());
        if cells.len() >= self.size {
            self.open.remove(place);
        }
    }
}
