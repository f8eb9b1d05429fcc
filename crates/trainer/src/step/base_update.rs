//! What the base update asks for after a step: deltas that are stored beside the base, and runs that begin a new delta.

use variants::{
    base_update::{BaseUpdate, Change, Moments},
    role::Role,
};

use crate::{
    cohort::{Cohort, Stack},
    study::run_state::RunState,
};

impl Stack {
    /// What the base update asks of every run after this step. A run that has ended asks for nothing.
    fn base_changes(&self, step: u64) -> Vec<Change> {
        let kind = &self.variant().spec().base_update;
        let of = |run: &RunState| {
            if run.trains_at(step) { kind.after_step(step, run.steps) } else { Change::default() }
        };
        self.runs.iter().map(of).collect()
    }

    /// Treats a run's moments as a restart says; `renewed` has slot and name of every tensor that began anew.
    pub(super) fn treat_moments(&mut self, run: usize, moments: Moments, renewed: &[(String, &'static str)]) {
        let begins = |slot: &str, field: &str| renewed.iter().any(|(own, name)| own == slot && *name == field);
        for slice in self.optimizer.slices().to_vec() {
            let is_renewed = begins(&slice.meta.slot, slice.meta.field);
            match moments {
                Moments::Fresh => self.optimizer.forget(run, &slice),
                Moments::Zero if is_renewed => self.optimizer.forget(run, &slice),
                Moments::Pruned { share } if is_renewed => self.optimizer.prune_moments(run, &slice, share),
                Moments::Kept | Moments::Zero | Moments::Pruned { .. } => {}
            }
        }
    }
}

impl Cohort {
    /// Does what the base updates ask for after this step.
    pub(super) fn update_bases(&mut self) {
        for index in 0..self.stacks.len() {
            let changes = self.stacks[index].base_changes(self.step);
            if changes.iter().all(Change::is_none) {
                continue;
            }
            if changes.iter().any(|change| !change.store.is_empty()) {
                self.network.accumulate(index, &changes);
            }
            for (run, change) in changes.iter().enumerate() {
                if let Some(restart) = change.restart {
                    let renewed = self.begin_anew(index, run, restart.round, &|_| true);
                    self.stacks[index].treat_moments(run, restart.moments, &renewed);
                }
            }
            self.bind_views(index);
        }
    }

    /// Gives a run new first values of its delta's tensors of some roles on every map, by the draws of this round; returns slot and name of
    /// what has them.
    pub(super) fn begin_anew(
        &mut self,
        index: usize,
        run: usize,
        round: u64,
        begins: &dyn Fn(Role) -> bool,
    ) -> Vec<(String, &'static str)> {
        let mut renewed = Vec::new();
        for (slot, name, value) in self.network.drawn_anew(index, &self.stacks[index].plan, run, round) {
            let stack = &mut self.stacks[index];
            if let Some(slice) = stack.optimizer.find(&slot, name).filter(|slice| begins(slice.meta.role)) {
                stack.optimizer.replace(run, &slice, value);
                renewed.push((slot, name));
            }
        }
        renewed
    }
}
