//! The host's half of a step: every number that the device will read, put into the upload buffer.

use std::collections::{BTreeMap, BTreeSet};

use variants::{
    base_update::BaseUpdate,
    layers::layer_of,
    pass::{Active, DropoutClock, GateKey, Pass, StackPass},
    rank::{Observed, RankPolicy},
    spec::VariantSpec,
    stream::{self, Stream},
};

use super::{
    inputs::{DeviceInputs, Slice, UploadBuffer},
    layout::{MicroLayout, StackLayout, StepLayout},
    optimizer::{Adam, ParamSlice, RunStep, Touched},
    pending::RunFacts,
};
use crate::{
    batch::HostBatch,
    cohort::{Cohort, Stack},
    study::run_state::RunState,
};

impl Stack {
    /// Ranks drawn for this step, where the policy draws any.
    pub(super) fn draw(&self, step: u64) -> Active {
        let spec = self.variant().spec();
        let draw = |run: &RunState| spec.rank_policy.draw(spec.rank, run.cell.recipe.seeds.rank, step);
        match self.runs.iter().map(draw).collect::<Option<Vec<_>>>() {
            Some(ranks) => Active::Prefix(ranks),
            None => Active::All,
        }
    }

    /// Whether components train or begin at different times: each is then a segment of its own.
    pub(crate) fn is_nested(&self, step: u64) -> bool {
        self.variant().spec().rank_policy.renews_components() || matches!(self.draw(step), Active::Prefix(_))
    }

    /// Components that have a gradient in a run's step; none means all.
    fn components(&self, active: &Active, run: usize) -> Option<std::ops::Range<usize>> {
        let Active::Prefix(ranks) = active else { return None };
        Some(self.variant().spec().rank_policy.touched(ranks[run]))
    }

    /// Which tensors a run's step trains, in the optimizer's order; none means all. `layers` are those that have anything to train.
    fn tensors(&self, layers: &BTreeSet<usize>, step: u64, run: usize) -> Option<Vec<bool>> {
        let (spec, state) = (self.variant().spec(), &self.runs[run]);
        let trained = spec.layers.trained(layers, state.cell.recipe.seeds.rank, step);
        if trained.is_none() && spec.bilevel.is_none() {
            return None;
        }
        let in_layer = |slot: &str| {
            let trains = |layer| trained.as_ref().is_none_or(|trained| trained.contains(&layer));
            layer_of(slot).is_none_or(trains)
        };
        let trains =
            |slice: &ParamSlice| in_layer(&slice.meta.slot) && spec.bilevel.trains(slice.meta.role, step, state.steps);
        Some(self.optimizer.slices().iter().map(trains).collect())
    }

    /// Every run's part in a step.
    fn run_steps(&self, step: u64) -> Vec<RunStep> {
        let VariantSpec { base_update, rank_policy, .. } = self.variant().spec();
        let of = |run: &RunState| {
            let train = &run.cell.recipe.train;
            let schedule = |step, steps| rank_policy.rate(step, steps, &|step, steps| train.rate(step, steps));
            let multiple = base_update.rate(step, run.steps, &schedule);
            RunStep {
                rate: train.learning_rate * multiple,
                multiple,
                head_rate: train.head_learning_rate.unwrap_or(train.learning_rate),
                decay: train.weight_decay,
                limit: train.clip,
                active: run.trains_at(step),
            }
        };
        self.runs.iter().map(of).collect()
    }

    /// Puts the settings of a step into the buffer, and counts the step in the optimizer. `active` has the ranks that were drawn, and
    /// `gates` what the forward pass multiplies components by.
    fn plan(
        &mut self,
        step: u64,
        active: &Active,
        gates: BTreeMap<GateKey, Vec<f64>>,
        adam: Adam,
        buffer: &mut UploadBuffer,
    ) -> (StackLayout, Vec<RunStep>) {
        let runs = self.run_steps(step);
        let actions = self.actions(step);
        let observing: Vec<bool> =
            actions.iter().zip(&runs).map(|(action, run)| action.observe && run.active).collect();
        // A run that has ended asks for nothing, and is shrunk by 0.
        let thresholds = actions.iter().map(|action| action.threshold.unwrap_or(0.0));
        let thresholds = self.counts_on_device().then(|| buffer.floats(thresholds));
        let policy = &self.variant().spec().rank_policy;
        // Contributions are those of diagonals, which may be frozen.
        let shows = policy.averages_of() == Observed::Numbers || self.optimizer.diagonal_columns() > 0;
        let keeps = !policy.averages().is_empty() && shows && observing.contains(&true);
        let layers: BTreeSet<usize> =
            self.optimizer.slices().iter().filter_map(|slice| layer_of(&slice.meta.slot)).collect();
        let of = |run| Touched { components: self.components(active, run), tensors: self.tensors(&layers, step, run) };
        let touched: Vec<Touched> = (0..runs.len()).map(of).collect();
        let spec = self.plan.variant.spec();
        let is_partial = matches!(active, Active::Prefix(_)) || !spec.layers.is_all() || !spec.bilevel.is_none();
        let visible = is_partial.then(|| self.optimizer.touched(&touched));
        let mut moved = touched;
        if !spec.rank_policy.keeps_untouched() {
            for moved in &mut moved {
                moved.components = None;
            }
        }
        let pulls = self.optimizer.pulls(&runs, &moved, &spec.train);
        let coefficients = self.optimizer.coefficients(&runs, &moved, &spec.train, adam);
        let one = |set: bool| f64::from(u8::from(set));
        let policy = &spec.rank_policy;
        let changing = spec.penalties().iter().any(|(penalty, _)| penalty.ends_with_pruning());
        let layout = StackLayout {
            gates: gates.into_iter().map(|(key, values)| (key, buffer.floats(values))).collect(),
            coefficients: buffer.floats(coefficients),
            pulls: pulls.map(|pulls| buffer.floats(pulls)),
            visible: visible.map(|visible| buffer.floats(visible)),
            limits: buffer.floats(runs.iter().map(|run| run.limit.unwrap_or(f64::INFINITY))),
            running: buffer.floats(runs.iter().map(|run| one(run.active))),
            observing: keeps.then(|| buffer.floats(observing.into_iter().map(one))),
            thresholds,
            changing: changing.then(|| {
                buffer.floats(
                    runs.iter()
                        .zip(&self.runs)
                        .map(|(run, state)| one(run.active && step < policy.settled(state.steps))),
                )
            }),
        };
        (layout, runs)
    }
}

impl Cohort {
    /// Plans a step over these micro-batches: the buffer to upload, where everything lies in it, and what the report will say of each run.
    pub(super) fn plan(&mut self, batches: Vec<HostBatch>) -> (StepLayout, UploadBuffer, Vec<Vec<RunFacts>>) {
        let mut buffer = UploadBuffer::default();
        let mut tokens: Vec<Vec<u64>> = self.stacks.iter().map(|s| vec![0; s.runs.len()]).collect();
        let mut shares = shares_of_step(&batches).into_iter();
        let mut micros = Vec::new();
        for (micro, batch) in batches.into_iter().enumerate() {
            tokens.iter_mut().flatten().zip(batch.n_tokens.iter().flatten()).for_each(|(sum, more)| *sum += more);
            let keys = self.dropout_clock(micro as u64).keys();
            micros.push(MicroLayout {
                batch: batch.write_into(&mut buffer),
                keys: buffer.ints(keys.into_iter().map(|key| key as i64)),
                shares: shares.next().into_iter().flatten().map(|of_stack| buffer.floats(of_stack)).collect(),
            });
        }
        let (mut stacks, mut facts) = (Vec::new(), Vec::new());
        for (index, tokens) in tokens.iter().enumerate() {
            let active = self.stacks[index].draw(self.step);
            let gates = match &active {
                Active::All => BTreeMap::new(),
                drawn => self.network.gates(index, drawn),
            };
            let (layout, runs) = self.stacks[index].plan(self.step, &active, gates, self.adam, &mut buffer);
            stacks.push(layout);
            facts.push(runs.iter().zip(tokens).map(|(run, tokens)| RunFacts::new(run, *tokens)).collect());
        }
        (StepLayout { micros, stacks }, buffer, facts)
    }

    fn dropout_clock(&self, micro: u64) -> DropoutClock {
        let key = |run: &RunState| stream::key(run.cell.recipe.seeds.dropout, Stream::Dropout, "");
        let seeds = self.runs().map(key).collect();
        DropoutClock { seeds, step: self.step, micro }
    }

    /// What the forward pass of a micro-batch is told: gates and dropout keys.
    pub(super) fn pass(&self, layout: &StepLayout, micro: usize, inputs: &DeviceInputs) -> Pass {
        let of_stack = |(stack, here): (&Stack, &StackLayout)| {
            let runs = stack.runs.len();
            let gate = |(key, slice): &(GateKey, Slice)| (key.clone(), inputs.floats(*slice, [runs, 1, key.0]));
            StackPass { gates: here.gates.iter().map(gate).collect(), ..StackPass::evaluation(runs) }
        };
        Pass::of(self.stacks.iter().zip(&layout.stacks).map(of_stack).collect())
            .keyed(inputs.ints(layout.micros[micro].keys))
    }
}

/// What every micro-batch's mean loss weighs in the step's, by micro-batch, stack and run: its share of what the step's loss is a mean
/// over, so that a token (or a row) weighs the same wherever it lies. Empty where a step is one micro-batch, whose mean is the step's.
fn shares_of_step(batches: &[HostBatch]) -> Vec<Vec<Vec<f64>>> {
    if batches.len() == 1 {
        return Vec::new();
    }
    let share = |batch: &HostBatch, stack: usize, run: usize| {
        let of_step: u64 = batches.iter().map(|batch| batch.n_terms[stack][run]).sum();
        batch.n_terms[stack][run] as f64 / of_step.max(1) as f64
    };
    let of_stack =
        |batch: &HostBatch, stack: usize| (0..batch.n_terms[stack].len()).map(|run| share(batch, stack, run)).collect();
    batches.iter().map(|batch| (0..batch.n_terms.len()).map(|stack| of_stack(batch, stack)).collect()).collect()
}
