//! What the cells of a study cost: by the records of past runs, and by steps that are timed.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use data::batch::Encoded;
use experiment::{
    cell::{Cell, Recipe},
    start::StartFrom,
};
use kernels::memory;
use models::network::Network;
use record::{RunRecord, Store};
use schedule::{CostModel, Group, Taken, longest_first};

use super::{
    capacity::{one_of_each_stack, or_out_of_memory},
    context::StudyContext,
    group,
    identity::spec_of,
    plan::CohortPlan,
};
use crate::{
    batch::{BatchSource, HostBatch, SupervisedBatches},
    error::TrainError,
    model_cache::TokenizedTask,
};

/// Steps before the first that is timed: the first ones of a shape take longer, and on a card they are recorded.
const UNTIMED: usize = 2;
/// Steps that are timed, and how long they may take together.
const TIMED: (usize, Duration) = (5, Duration::from_secs(2));
/// The most runs of a cohort that is timed to cut a group, and the steps of it that are timed.
const CUT: (usize, u32) = (48, 3);
/// Batches among which a usual one is looked for.
const LOOKED_AT: u64 = 32;
/// Groups for each worker from which on little is cut, so that tokens tell enough and nothing is timed.
const PLENTY: usize = 4;
/// Cells that are timed in one cohort, where more fit on a device than one.
pub const TOGETHER: usize = 16;
/// Seconds that an evaluated token takes, as a share of those of a trained one: a forward pass beside one forward and backward.
const EVALUATED: f64 = 0.4;

/// What a device's name says of the kind of device: `tch:cuda` of `tch:cuda:0`.
pub fn kind(device: &str) -> &str {
    device.rsplit_once(':').filter(|(_, index)| index.parse::<usize>().is_ok()).map_or(device, |(kind, _)| kind)
}

/// Learns from the records that ended on the same kind of device.
pub fn learn<'a>(model: &mut CostModel, records: impl IntoIterator<Item = &'a RunRecord>, device: &str) -> usize {
    let is_of_kind = |record: &&RunRecord| record.is_finished() && kind(&record.device) == kind(device);
    let mut learned = 0;
    for record in records.into_iter().filter(is_of_kind) {
        let measured = &record.measured;
        let taken = Taken {
            step_seconds: measured.seconds_per_step,
            evaluation_seconds: measured.eval_seconds,
            peak_bytes: measured.peak_memory_bytes,
        };
        model.learn(&record.spec, taken);
        learned += 1;
    }
    learned
}

/// What was timed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timed {
    /// Cells.
    pub cells: usize,
    /// The most memory that this process has held, in bytes, where the system tells.
    pub peak_bytes: Option<u64>,
}

/// Times steps of the cells that have no run like them, one of each kind, and learns what they take. Where a device's memory can be read, as a card's,
/// up to [`TOGETHER`] of them share a cohort, as they will in training.
///
/// Evaluation is not timed, but counted in tokens. Cells that start from another cell are left out, since that may not be there yet.
pub fn measure(model: &mut CostModel, cells: &[Cell], context: &StudyContext<'_>) -> Result<Timed, TrainError> {
    let mut kinds = CostModel::new();
    let mut unknown = Vec::new();
    for cell in cells {
        let spec = spec_of(cell);
        let can_start = !matches!(cell.recipe.start_from, Some(StartFrom::Cell(_)));
        if can_start && !model.knows(&spec) && !kinds.knows(&spec) {
            kinds.learn(&spec, Taken::default());
            unknown.push(cell.clone());
        }
    }
    let together = if tells_memory(context) { TOGETHER } else { 1 };
    let context = &StudyContext { cohort: Some(context.cohort.unwrap_or(together).min(together)), ..*context };
    let mut waiting: Vec<Vec<Cell>> = group::group(&unknown, context)?;
    let mut found = Timed::default();
    while let Some(mut group) = waiting.pop() {
        context.stop.check()?;
        match or_out_of_memory(|| time_steps(&group, context), context) {
            Some(share) => {
                let share = share?;
                for cell in &group {
                    model.learn(&spec_of(cell), share);
                }
                found.cells += group.len();
                found.peak_bytes = found.peak_bytes.max(share.peak_bytes);
            }
            // One that does not fit alone is estimated by others.
            None if group.len() > 1 => {
                waiting.push(group.split_off(group.len() / 2));
                waiting.push(group);
            }
            None => {}
        }
    }
    Ok(found)
}

/// Whether the device says how much of its memory is in use, as a card does: then a cohort is as large as its memory takes.
pub fn tells_memory(context: &StudyContext<'_>) -> bool {
    memory::usage(&context.cache.place().device).is_some()
}

/// What a step of a cohort of these cells takes of each, by steps that are made and thrown away.
pub fn time_steps(cells: &[Cell], context: &StudyContext<'_>) -> Result<Taken, TrainError> {
    let plan = CohortPlan::new(cells, context)?;
    let batches = plan.batches(context)?;
    let mut cohort = plan.build(context)?;
    (0..UNTIMED).for_each(|_| drop(cohort.advance(&batches)));
    let mut seconds = Vec::new();
    let begun = Instant::now();
    while seconds.is_empty() || (seconds.len() < TIMED.0 && begun.elapsed() < TIMED.1) {
        let clock = Instant::now();
        cohort.advance(&batches);
        seconds.push(clock.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let step_seconds = seconds[seconds.len() / 2] / cells.len() as f64;
    let mut evaluation_seconds = 0.0;
    for cell in cells {
        let task = context.cache.task(&cell.recipe)?;
        let tokens = Tokens::of(&cell.recipe, Lengths::of(&task));
        evaluation_seconds += tokens.evaluated * EVALUATED * step_seconds / tokens.of_a_step.max(1.0);
    }
    Ok(Taken {
        step_seconds,
        evaluation_seconds: evaluation_seconds / cells.len() as f64,
        peak_bytes: peak_of_process(),
    })
}

/// Tokens that a run reads.
#[derive(Clone, Copy, Debug)]
struct Tokens {
    of_a_step: f64,
    /// In all its evaluations.
    evaluated: f64,
}

impl Tokens {
    fn of(recipe: &Recipe, lengths: Lengths) -> Self {
        let train = &recipe.train;
        let steps = train.total_steps(lengths.rows);
        let times = train.evaluate_every.map_or(1, |every| (steps / every.steps(train, lengths.rows).max(1)).max(1));
        // The end is evaluated once more, merged.
        let passes = times as f64 * (1 + recipe.readouts.len()) as f64 + 1.0;
        let rows = train.batch.min(lengths.rows) * train.accumulate;
        Self { of_a_step: rows as f64 * lengths.of_a_row, evaluated: lengths.evaluated * passes }
    }
}

/// How long the examples of a task are.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    /// Training examples.
    rows: usize,
    /// Tokens of one of them, in the mean.
    of_a_row: f64,
    /// Tokens of all that is evaluated.
    evaluated: f64,
}

impl Lengths {
    fn of(task: &TokenizedTask) -> Self {
        let all = |rows: &[Encoded]| rows.iter().map(|row| row.ids.len()).sum::<usize>() as f64;
        let rows = task.train.rows.len();
        Self {
            rows,
            of_a_row: all(&task.train.rows) / rows.max(1) as f64,
            evaluated: task.evaluated().map(|split| all(&split.set.rows)).sum(),
        }
    }
}

/// What the runs of each group cost, in seconds where several workers are to share few groups: steps of a small cohort and of a large one are timed
/// then, between which lies what a cohort takes however few runs it has. In tokens elsewhere, or where a device's memory was full.
pub(super) fn of_groups(
    groups: &[Vec<Cell>],
    capacities: &[usize],
    context: &StudyContext<'_>,
) -> Result<Vec<Group>, TrainError> {
    let by_tokens = || -> Result<Vec<Group>, TrainError> {
        let of = |((cells, capacity), tokens): ((&Vec<Cell>, &usize), f64)| Group {
            runs: cells.len(),
            once: 0.0,
            each: tokens / cells.len().max(1) as f64,
            capacity: *capacity,
        };
        Ok(groups.iter().zip(capacities).zip(tokens(groups, context)?).map(of).collect())
    };
    if context.among < 2 || groups.len() >= PLENTY * context.among {
        return by_tokens();
    }
    let mut timed = Vec::new();
    for (cells, capacity) in groups.iter().zip(capacities) {
        context.stop.check()?;
        match or_out_of_memory(|| timed_group(cells, *capacity, context), context) {
            Some(group) => timed.push(group?),
            None => return by_tokens(),
        }
    }
    Ok(timed)
}

/// A group by what steps of its cohorts take.
fn timed_group(cells: &[Cell], capacity: usize, context: &StudyContext<'_>) -> Result<Group, TrainError> {
    let few = one_of_each_stack(cells, context)?;
    let many = &cells[..cells.len().min(capacity).min(CUT.0).max(1)];
    let large = steady(many, context)?;
    // A line through both. Steps are as noisy as to let it fall, or rise from below zero.
    let (once, each) = if few.len() < many.len() {
        let small = steady(&few, context)?;
        let each = (large.seconds - small.seconds) / (many.len() - few.len()) as f64;
        let each = each.clamp(0.0, large.seconds / many.len() as f64);
        (large.seconds - each * many.len() as f64, each)
    } else {
        (0.0, large.seconds / many.len() as f64)
    };
    memory::release(&context.cache.place().device);
    let (mut steps, mut evaluated) = (0, 0.0);
    for cell in cells {
        let task = context.cache.task(&cell.recipe)?;
        steps = steps.max(cell.recipe.train.total_steps(task.train.rows.len()));
        evaluated += Tokens::of(&cell.recipe, Lengths::of(&task)).evaluated / cells.len() as f64;
    }
    let evaluation = EVALUATED * evaluated * each / large.tokens.max(1.0);
    Ok(Group { runs: cells.len(), once: once * steps as f64, each: each * steps as f64 + evaluation, capacity })
}

/// Steps of one cohort on one batch.
struct Steady {
    /// Of a step.
    seconds: f64,
    /// Of a run in it, padding included.
    tokens: f64,
}

/// Times steps of a cohort of these cells, which are thrown away, on a batch that is about as wide as theirs are in the mean.
fn steady(cells: &[Cell], context: &StudyContext<'_>) -> Result<Steady, TrainError> {
    let plan = CohortPlan::new(cells, context)?;
    let batches = plan.batches(context)?;
    let mut cohort = plan.build(context)?;
    let (usual, tokens) = Usual::of(&batches, &cohort.network);
    (0..UNTIMED).for_each(|_| drop(cohort.advance(&usual)));
    let clock = Instant::now();
    (0..CUT.1).for_each(|_| drop(cohort.advance(&usual)));
    Ok(Steady { seconds: clock.elapsed().as_secs_f64() / f64::from(CUT.1), tokens: tokens / cells.len() as f64 })
}

/// The same batch at every step: a card records a step of each width once, which no time of one should have in it.
struct Usual<'a> {
    all: &'a SupervisedBatches,
    micro: u64,
}

impl<'a> Usual<'a> {
    /// The first whose number of tokens is the nearest to the mean, and that mean.
    fn of(all: &'a SupervisedBatches, network: &Network) -> (Self, f64) {
        let sizes: Vec<f64> = (0..LOOKED_AT)
            .map(|micro| {
                let tokens = all.batch(network, micro).arrays.tokens;
                (tokens.rows * tokens.seq) as f64
            })
            .collect();
        let mean = sizes.iter().sum::<f64>() / sizes.len() as f64;
        let distance = |micro: &u64| (sizes[*micro as usize] - mean).abs();
        let micro = (0..LOOKED_AT).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0);
        (Self { all, micro }, mean)
    }
}

impl BatchSource for Usual<'_> {
    fn batch(&self, network: &Network, _micro: u64) -> HostBatch {
        self.all.batch(network, self.micro)
    }

    fn held_out(&self, network: &Network, stack: usize, numbers: &[u64]) -> HostBatch {
        self.all.held_out(network, stack, numbers)
    }
}

/// The most memory that this process has held, where the system tells.
fn peak_of_process() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Groups of cells in the order in which several processes should begin them: those that take longest first. What they take is told by the
/// records of the study, one of every row; where those do not say it of all, by the tokens that they read.
pub(super) fn order(
    groups: Vec<Vec<Cell>>,
    study: &[(&Cell, usize)],
    context: &StudyContext<'_>,
) -> Result<Vec<Vec<Cell>>, TrainError> {
    if context.among < 2 || groups.len() < 2 {
        return Ok(groups);
    }
    let mut model = CostModel::new();
    learn(&mut model, &one_of_each_row(study, context.store), context.device);
    let estimated: Option<Vec<f64>> = groups
        .iter()
        .map(|group| seconds_of(group, &model, context).transpose())
        .collect::<Option<Result<_, _>>>()
        .transpose()?;
    let costs = match estimated {
        Some(costs) => costs,
        None => tokens(&groups, context)?,
    };
    let order = longest_first(&costs);
    let mut groups: Vec<Option<Vec<Cell>>> = groups.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|index| groups[index].take()).collect())
}

/// Seconds of a group; none where nothing like one of its cells has ended.
fn seconds_of(group: &[Cell], model: &CostModel, context: &StudyContext<'_>) -> Result<Option<f64>, TrainError> {
    let mut sum = 0.0;
    for cell in group {
        let steps = cell.recipe.train.total_steps(context.cache.task(&cell.recipe)?.train.rows.len());
        let Some(found) = model.estimate(&spec_of(cell), steps) else { return Ok(None) };
        sum += found.seconds;
    }
    Ok(Some(sum))
}

/// Tokens that each group reads.
pub(super) fn tokens(groups: &[Vec<Cell>], context: &StudyContext<'_>) -> Result<Vec<f64>, TrainError> {
    // Thousands of cells read the same few tasks.
    let mut lengths: Vec<(Arc<TokenizedTask>, Lengths)> = Vec::new();
    let mut of = |cell: &Cell| {
        let task = context.cache.task(&cell.recipe)?;
        let known = lengths.iter().find(|(known, _)| Arc::ptr_eq(known, &task)).map(|(_, lengths)| *lengths);
        let lengths = known.unwrap_or_else(|| {
            let counted = Lengths::of(&task);
            lengths.push((task, counted));
            counted
        });
        let (tokens, steps) = (Tokens::of(&cell.recipe, lengths), cell.recipe.train.total_steps(lengths.rows));
        Ok(steps as f64 * tokens.of_a_step + EVALUATED * tokens.evaluated)
    };
    groups.iter().map(|group| group.iter().map(&mut of).sum()).collect()
}

/// The first record of every row of a study that has one: runs that differ in their seed alone take equally long.
fn one_of_each_row(study: &[(&Cell, usize)], store: &Store) -> Vec<RunRecord> {
    let mut rows = BTreeSet::new();
    let mut found = Vec::new();
    for (cell, _) in study {
        let row = (&cell.id.task, &cell.id.variant, cell.id.rank);
        if rows.contains(&row) || store.record_stamp(&cell.id).is_none() {
            continue;
        }
        // One that cannot be read is said where the study reads it.
        if let Ok(Some(record)) = store.record(&cell.id) {
            rows.insert(row);
            found.push(record);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn cards_of_a_kind_are_of_one_kind() {
        assert_eq!(
            ["flex", "tch:cuda:0", "tch:cuda:11", "tch:mps"].map(kind),
            ["flex", "tch:cuda", "tch:cuda", "tch:mps"]
        );
    }
}
