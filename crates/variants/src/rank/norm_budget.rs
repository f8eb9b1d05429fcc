//! A budget of components over all maps that falls ever faster and is spent by what a component contributes to the size of its map's update.
//!
//! Component `k` contributes `‖λ_k·a_k·b_k‖_F / (‖ΔW‖_F + 1e-8)` (Eq. 7); a moving average of that over the steps is its score (Eq. 8). With
//! `b0 = rank·maps`, `bT = target_rank·maps` and `T` optimizer steps of which the first `tᵢ` and the last `t_f` do not prune, the budget after
//! step `t` is
//!
//! `b(t) = b0 − max(⌊(b0 − bT)·((t − tᵢ)/(T − tᵢ − t_f))³⌋, 1)`
//!
//! every `interval` steps from `tᵢ` and at `T − t_f`, where the pattern is fixed; until then a pruned component may come back. The `b(t)`
//! components above the threshold over *all* maps stay; ties with the threshold go.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `target_rank` | – | `1..rank` |
//! | `initial_steps` | 0.15 | below `T − final_steps` |
//! | `final_steps` | 0.5 | at least 1 |
//! | `interval` | 100 | at least 1 |
//! | `beta` | 0.9 | `[0, 1)` |
//!
//! Step lengths are counts of optimizer steps (an integer above or equal to 1) or shares of the run (a number below 1). Norms come from the
//! Gram matrices of the factors, so that no dense update is formed.
//!
//! Mao et al., *DoRA: Enhancing Parameter-Efficient Fine-Tuning with Dynamic Rank Distribution*, ACL 2024, arXiv:2405.17357, with the authors'
//! code for the schedule (MIkumikumi0116/DoRA).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    Action, Observed, RankPolicy, Seen,
    budget::{phases, resolve, values},
};
use crate::{
    capability::{Capability, Requirement},
    error::SpecProblem,
};

/// A falling budget by contributions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormBudget {
    /// Mean rank at the end.
    pub target_rank: usize,
    /// Steps, or share of the run, before pruning starts.
    #[serde(default = "initial_steps")]
    pub initial_steps: f64,
    /// Steps, or share of the run, with the pattern fixed.
    #[serde(default = "final_steps")]
    pub final_steps: f64,
    /// Steps between allocations.
    #[serde(default = "interval")]
    pub interval: u64,
    /// Smoothing of the contributions.
    #[serde(default = "beta")]
    pub beta: f64,
}

fn initial_steps() -> f64 {
    0.15
}

fn final_steps() -> f64 {
    0.5
}

fn interval() -> u64 {
    100
}

fn beta() -> f64 {
    0.9
}

impl Default for NormBudget {
    fn default() -> Self {
        Self {
            target_rank: 1,
            initial_steps: initial_steps(),
            final_steps: final_steps(),
            interval: interval(),
            beta: beta(),
        }
    }
}

impl NormBudget {
    /// Components that `maps` maps of `rank` may keep after `done` steps of a run of `steps` steps; all before pruning starts.
    fn kept(&self, rank: usize, maps: usize, done: u64, steps: u64) -> usize {
        let [initial, length] = self.pruning(steps);
        let (first, last) = ((rank * maps) as f64, (self.target_rank * maps) as f64);
        let at = done.saturating_sub(initial).min(length);
        rank * maps - ((first - last) * (at as f64 / length as f64).powi(3)) as usize
    }

    /// The step after which pruning starts, and how many steps it takes.
    fn pruning(&self, steps: u64) -> [u64; 2] {
        let [initial, last] = [self.initial_steps, self.final_steps].map(|written| resolve(written, steps));
        [initial, steps.saturating_sub(initial + last)]
    }
}

impl RankPolicy for NormBudget {
    fn lacks(&self) -> &'static [(Capability, &'static str)] {
        &[
            (Capability::ConstantRank, "under which the rank changes"),
            (Capability::OwnRanks, "which gives every map its rank"),
        ]
    }

    fn requires(&self) -> &'static [Requirement] {
        &[Requirement {
            needs: Capability::Prunable,
            rule: "a budget prunes a diagonal, which `{kind}` lacks; use {others}",
        }]
    }

    fn check(&self, rank: usize, steps: Option<u64>) -> Vec<SpecProblem> {
        let lengths = [("initial_steps", self.initial_steps), ("final_steps", self.final_steps)];
        let problems = values(self.target_rank, rank, lengths, self.interval, &[("beta", self.beta)]);
        match steps {
            // A schedule of wrong values would only repeat what is wrong with them.
            Some(steps) if problems.is_empty() => phases(lengths, steps),
            _ => problems,
        }
    }

    fn after_step(&self, rank: usize, maps: usize, step: u64, steps: u64) -> Action {
        let [initial, length] = self.pruning(steps);
        let done = step + 1; // steps that are done
        if done > initial + length {
            return Action { hold: true, ..Action::default() };
        }
        let allocate = done.checked_sub(initial).and_then(|at| {
            let due = at.is_multiple_of(self.interval) || at == length;
            // One goes at least, as in the code.
            due.then_some(self.kept(rank, maps, done, steps).min(rank * maps - 1))
        });
        Action { observe: true, allocate, ..Action::default() }
    }

    fn planned(&self, rank: usize, maps: usize, step: u64, steps: u64) -> Option<usize> {
        Some(self.kept(rank, maps, step + 1, steps))
    }

    fn settled(&self, steps: u64) -> u64 {
        let [initial, length] = self.pruning(steps);
        initial + length
    }

    fn averages(&self) -> &'static [&'static str] {
        &["contribution"]
    }

    fn averages_of(&self) -> Observed {
        Observed::Contributions
    }

    fn observe(&self, averages: &[Tensor<2>], seen: Seen) -> Vec<Tensor<2>> {
        let ([mean], Seen::Contributions(now)) = (averages, seen) else { unreachable!("as it says of its averages") };
        vec![mean.clone() * self.beta + now * (1.0 - self.beta)]
    }

    fn scores(&self, averages: &[Tensor<2>], _value: &Tensor<2>) -> Tensor<2> {
        let [mean] = averages else { unreachable!("as many as there are names") };
        mean.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> NormBudget {
        NormBudget { target_rank: 2, initial_steps: 0.15, final_steps: 0.5, interval: 10, beta: 0.9 }
    }

    #[test]
    fn the_budget_is_the_cubic_of_the_released_code() {
        // b0 = 24, bT = 8, tᵢ = 15, T' = 35.
        let act = |t: u64| policy().after_step(6, 4, t - 1, 100);
        assert_eq!(act(14), Action { observe: true, ..Action::default() });
        assert_eq!([15, 16, 25].map(|t| act(t).allocate), [Some(23), None, Some(23)], "one at least: 16·(10/35)³ = 0.37");
        assert_eq!(act(35).allocate, Some(24 - 2), "16·(20/35)³ = 2.98");
        assert_eq!(act(50), Action { observe: true, allocate: Some(8), ..Action::default() });
        assert_eq!(act(51), Action { hold: true, ..Action::default() });
        assert_eq!(policy().settled(100), 50);
        assert_eq!([1, 15, 35, 50, 100].map(|t| policy().planned(6, 4, t - 1, 100)), [24, 24, 22, 8, 8].map(Some));
    }

    #[test]
    fn schedules_that_cannot_work_are_refused() {
        let refuse = |policy: NormBudget, field: &str| {
            let problems = policy.check(6, Some(100));
            assert!(problems.iter().any(|p| p.field == field), "{field}: {problems:?}");
        };
        assert!(policy().check(6, Some(100)).is_empty());
        refuse(NormBudget { target_rank: 6, ..policy() }, "target_rank");
        refuse(NormBudget { initial_steps: 50.0, ..policy() }, "initial_steps");
        refuse(NormBudget { final_steps: 0.0, ..policy() }, "final_steps");
        refuse(NormBudget { interval: 0, ..policy() }, "interval");
        refuse(NormBudget { beta: 1.0, ..policy() }, "beta");
    }
}
