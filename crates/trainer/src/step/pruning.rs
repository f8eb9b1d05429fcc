//! What the rank policy asks for after a step: importance averages, allocation of components, pruning.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use variants::{
    host::{Placement, values},
    rank::{Action, Observed, RankPolicy, Seen},
    role::Role,
};

use super::{optimizer::ParamSlice, pending::RunFacts};
use crate::{
    cohort::{Cohort, Stack},
    study::run_state::RunState,
};

impl Stack {
    /// What the rank policy asks of every run after this step. A run that has ended asks for nothing.
    pub(super) fn actions(&self, step: u64) -> Vec<Action> {
        let spec = self.variant().spec();
        let of = |run: &RunState| {
            if run.trains_at(step) {
                spec.rank_policy.after_step(spec.rank, self.plan.targets.len(), step, run.steps)
            } else {
                Action::default()
            }
        };
        self.runs.iter().map(of).collect()
    }

    /// Takes a step into the importance averages of the runs with 1 in `observing` `[runs, 1]`. As the released codes have it, a score is
    /// this step's clipped gradient times the value that it made. `gradient` `[runs, n]`, `clip` `[runs]`; `contributions` `[runs, rank]` by map.
    pub(super) fn observe(
        &mut self,
        gradient: Tensor<2>,
        clip: &Tensor<1>,
        observing: Tensor<2>,
        contributions: impl FnOnce() -> BTreeMap<String, Tensor<2>>,
    ) {
        let [runs, _] = gradient.dims();
        let clip = clip.clone().reshape([runs, 1]);
        let observing = observing.greater_elem(0.5).bool_and(clip.clone().greater_equal_elem(0.0));
        let policy = &self.plan.variant.spec().rank_policy;
        let seen = match policy.averages_of() {
            Observed::Numbers => {
                let value = self.optimizer.ranked();
                let columns = value.dims();
                Seen::Numbers { value, gradient: (gradient * clip).slice([0..columns[0], 0..columns[1]]) }
            }
            Observed::Contributions => {
                let mut contributions = contributions();
                let of = |slice: &ParamSlice| contributions.remove(&slice.meta.slot);
                Seen::Contributions(Tensor::cat(self.diagonals().filter_map(of).collect(), 1))
            }
            Observed::Logits | Observed::Ablations => unreachable!("a policy without averages observes nothing"),
        };
        self.importance.observe(policy, &self.optimizer, seen, &observing);
    }

    /// The diagonals that train, in the optimizer's order.
    fn diagonals(&self) -> impl Iterator<Item = &ParamSlice> {
        self.optimizer.slices().iter().filter(|slice| slice.meta.role == Role::Lambda)
    }

    /// Whether steps have a threshold on diagonals that train, so that the device alone knows what is left of them.
    pub(super) fn counts_on_device(&self) -> bool {
        self.variant().spec().rank_policy.thresholds() && self.optimizer.diagonal_columns() > 0
    }

    /// How many numbers of the diagonals are not 0, `[runs]`, where steps have a threshold.
    pub(super) fn components_left(&self) -> Option<Tensor<1>> {
        self.counts_on_device().then(|| self.optimizer.nonzero_diagonals())
    }

    /// Components of a map whose number of the diagonal is not 0, by map. Reads the device.
    fn ranks_left(&self, run: usize) -> BTreeMap<String, usize> {
        let left = |slice: &ParamSlice| {
            let of_run = self.optimizer.value(slice).slice([run..run + 1]);
            (slice.meta.slot.clone(), values(&of_run).into_iter().filter(|number| *number != 0.0).count())
        };
        self.diagonals().map(left).collect()
    }

    /// Components that each map of a run has left: the final ranks of a pruned run.
    pub fn final_ranks(&self, run: usize) -> BTreeMap<String, usize> {
        if self.counts_on_device() {
            return self.ranks_left(run);
        }
        match &self.runs[run].kept {
            Some(kept) => kept.iter().map(|(map, keep)| (map.clone(), keep.iter().filter(|k| **k).count())).collect(),
            None => self.plan.targets.iter().map(|map| (map.clone(), self.components_at_start(map))).collect(),
        }
    }

    /// Components of a map that are in use before a policy changes that.
    fn components_at_start(&self, map: &str) -> usize {
        let (delta, rank) = (self.variant().spec().delta.as_ref(), self.plan.rank(map));
        delta.map_or(rank, |delta| delta.open(rank))
    }

    /// Allocates components anew in the runs whose action says so. Reads the importance scores.
    fn allocate(&mut self, actions: &[Action]) {
        let policy = &self.plan.variant.spec().rank_policy;
        let scores = self.importance.scores(policy, &self.optimizer);
        for (run, (state, action)) in self.runs.iter_mut().zip(actions).enumerate() {
            if let Some(budget) = action.allocate {
                let of_run: Vec<Vec<f64>> = scores.values().map(|runs| runs[run].clone()).collect();
                state.kept = Some(scores.keys().cloned().zip(policy.allocate(&of_run, budget)).collect());
            }
        }
    }

    /// 1 where a number of a diagonal is pruned, `[runs, n]`, in the runs that `due` names; 0 in other runs and before an allocation.
    fn pruned_mask(&self, due: &[bool], place: &Placement) -> Option<Tensor<2>> {
        let diagonals: Vec<&ParamSlice> = self.diagonals().collect();
        let of_run = |(run, due): (&RunState, &bool)| {
            let kept = run.kept.as_ref().filter(|_| *due);
            let of = |slice: &&ParamSlice| {
                let keep = kept.and_then(|kept| kept.get(&slice.meta.slot));
                (0..slice.len()).map(|i| f64::from(u8::from(keep.is_some_and(|keep| !keep[i])))).collect::<Vec<_>>()
            };
            diagonals.iter().flat_map(of).collect::<Vec<_>>()
        };
        let values: Vec<f64> = self.runs.iter().zip(due).flat_map(of_run).collect();
        let n = values.len() / self.runs.len();
        (n > 0).then(|| place.tensor(values, [self.runs.len(), n]))
    }
}

impl Cohort {
    /// Does what the rank policies ask for after this step: allocates where that is due, and zeroes the diagonals of pruned components.
    pub(super) fn prune(&mut self) {
        let place = self.place().clone();
        for index in 0..self.stacks.len() {
            let stack = &mut self.stacks[index];
            let actions = stack.actions(self.step);
            if actions.iter().all(|action| action.allocate.is_none() && !action.hold) {
                continue;
            }
            let allocates = actions.iter().any(|action| action.allocate.is_some());
            if allocates {
                stack.allocate(&actions);
            }
            let due: Vec<bool> = actions.iter().map(|action| action.allocate.is_some() || action.hold).collect();
            if allocates || stack.pruned.is_none() || !due.iter().all(|due| *due) {
                stack.pruned = stack.pruned_mask(&due, &place);
            }
            if let Some(pruned) = &stack.pruned {
                stack.optimizer.prune(pruned);
                self.bind_views(index);
            }
        }
    }

    /// Notes how many components each run has left, where a policy prunes and the host knows which.
    pub(super) fn count_components(&self, facts: &mut [Vec<RunFacts>]) {
        for (stack, facts) in self.stacks.iter().zip(facts) {
            if stack.variant().spec().rank_policy.prunes() && !stack.counts_on_device() {
                let left = |run| stack.final_ranks(run).values().sum::<usize>() as u64;
                facts.iter_mut().enumerate().for_each(|(run, facts)| facts.components = Some(left(run)));
            }
        }
    }
}
