//! A budget of components over all maps that falls along a cubic and is spent by importance.
//!
//! With `b0 = rank·maps`, `bT = target_rank·maps` and `T` optimizer steps, the budget after step `t` is
//!
//! `b(t) = b0` for `t ≤ initial_steps`; `bT + (b0 − bT)·(1 − (t − tᵢ)/(T − tᵢ − t_f))³` in between;
//! `bT` for the last `final_steps`.
//!
//! The appendix of the paper prints the ratio as `(t − tᵢ − t_f)/(T − tᵢ − t_f)`, which exceeds 1 at
//! `t = tᵢ`; the form here is that of both released codes. In between, components are pruned every
//! `interval` steps and may come back; at `T − final_steps` the pattern is fixed.
//!
//! Importance of a component: the sum of the smoothed sensitivities `Ī·Ū` of its `λ` and the means over its
//! two vectors (Eqs. 8 to 13). The `b(t)` components above the threshold over *all* maps stay; ties with the
//! threshold go.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `target_rank` | – | `1..rank` |
//! | `initial_steps` | 0 | below `T − final_steps` |
//! | `final_steps` | – | at least 1 |
//! | `interval` | 1 | at least 1 |
//! | `beta1`, `beta2` | 0.85 | `[0, 1)` |
//!
//! Step lengths are counts of optimizer steps (an integer above or equal to 1) or shares of the run (a
//! number below 1).
//!
//! Zhang et al., *Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning*, ICLR 2023,
//! arXiv:2303.10512.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Action, RankPolicy, Seen};
use crate::{
    capability::{Capability, Requirement},
    error::SpecProblem,
    sensitivity,
};

/// A falling budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Mean rank at the end.
    pub target_rank: usize,
    /// Steps, or share of the run, before pruning starts.
    #[serde(default)]
    pub initial_steps: f64,
    /// Steps, or share of the run, with the pattern fixed.
    pub final_steps: f64,
    /// Steps between allocations.
    #[serde(default = "one")]
    pub interval: u64,
    /// Smoothing of the sensitivity.
    #[serde(default = "beta")]
    pub beta1: f64,
    /// Smoothing of its uncertainty.
    #[serde(default = "beta")]
    pub beta2: f64,
}

fn one() -> u64 {
    1
}

fn beta() -> f64 {
    0.85 // PEFT, adalora/config.py, and the authors' code
}

/// A count as written, or a share of `steps`.
pub(super) fn resolve(written: f64, steps: u64) -> u64 {
    if written > 0.0 && written < 1.0 { (written * steps as f64).round() as u64 } else { written as u64 }
}

/// What is wrong with the numbers of a budget, whatever the number of steps.
pub(super) fn values(
    target_rank: usize,
    rank: usize,
    lengths: [(&str, f64); 2],
    interval: u64,
    betas: &[(&str, f64)],
) -> Vec<SpecProblem> {
    let mut problems = Vec::new();
    let mut report = |field: &str, rule: String| problems.push(SpecProblem::new(field, rule));
    if target_rank == 0 || target_rank >= rank {
        report(
            "target_rank",
            format!(
                "target_rank is `{target_rank}`, but must lie below the initial rank `{rank}` and above 0, or nothing is pruned"
            ),
        );
    }
    for (field, value) in lengths {
        if !(value >= 0.0 && value.is_finite()) || (value >= 1.0 && value.fract() != 0.0) {
            report(field, format!("{field} is `{value}`, but must be a whole number of steps or a share below 1"));
        }
    }
    if interval == 0 {
        report("interval", "interval is `0`, but components are allocated every `interval` ≥ 1 steps".to_owned());
    }
    for (field, value) in betas {
        if !(0.0..1.0).contains(value) {
            report(field, format!("{field} is `{value}`, but must lie in [0, 1)"));
        }
    }
    problems
}

/// What is wrong with the phases of a run of so many steps.
pub(super) fn phases(lengths: [(&str, f64); 2], steps: u64) -> Vec<SpecProblem> {
    let mut problems = Vec::new();
    let [initial, last] = lengths.map(|(_, written)| resolve(written, steps));
    if last == 0 {
        problems.push(SpecProblem::new(
            "final_steps",
            format!(
                "final_steps is `{}`, 0 of {steps} steps, so the target would never be reached; use at least 1",
                lengths[1].1
            ),
        ));
    }
    if initial.saturating_add(last) >= steps {
        problems.push(SpecProblem::new(
            "initial_steps",
            format!(
                "initial_steps + final_steps is {initial} + {last}, but the run has {steps} steps, which leaves \
             no budgeting phase; shorten them or train longer"
            ),
        ));
    }
    problems
}

/// The schedule of the preset `adalora`, at the smallest target there is.
impl Default for Budget {
    fn default() -> Self {
        Self { target_rank: 1, initial_steps: 0.1, final_steps: 0.3, interval: 10, beta1: beta(), beta2: beta() }
    }
}

impl Budget {
    /// What is wrong with the phases of a run of so many steps.
    fn schedule(&self, steps: u64) -> Vec<SpecProblem> {
        let mut problems = phases(self.lengths(), steps);
        let [initial, last] = self.lengths().map(|(_, written)| resolve(written, steps));
        let nothing_due = || !(initial + 1..steps - last).any(|t| t.is_multiple_of(self.interval));
        if initial.saturating_add(last) < steps && nothing_due() {
            problems.push(SpecProblem::new(
                "interval",
                format!(
                    "interval is `{}`, but no step between {initial} and {} is a multiple of it, so nothing is \
                 allocated before the pattern is fixed; use a smaller one",
                    self.interval,
                    steps - last
                ),
            ));
        }
        problems
    }

    /// Its phases as written.
    fn lengths(&self) -> [(&'static str, f64); 2] {
        [("initial_steps", self.initial_steps), ("final_steps", self.final_steps)]
    }

    /// Components that `maps` maps of `rank` may keep after step `step` of a run of `steps` steps, `b(t)`.
    pub fn components(&self, rank: usize, maps: usize, step: u64, steps: u64) -> usize {
        self.at(rank, maps, step, steps).0
    }

    /// `b(t)` and whether it is applied at `t`.
    fn at(&self, rank: usize, maps: usize, step: u64, steps: u64) -> (usize, bool) {
        let (first, last) = (rank * maps, self.target_rank * maps);
        let initial = resolve(self.initial_steps, steps);
        let end = steps.saturating_sub(resolve(self.final_steps, steps)); // first step of the final phase
        if step <= initial {
            (first, false)
        } else if step >= end {
            (last, true)
        } else {
            let left = 1.0 - (step - initial) as f64 / (end - initial) as f64;
            let budget = last as f64 + (first - last) as f64 * left.powi(3);
            (budget as usize, step.is_multiple_of(self.interval))
        }
    }
}

impl RankPolicy for Budget {
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
        let betas = [("beta1", self.beta1), ("beta2", self.beta2)];
        let problems = values(self.target_rank, rank, self.lengths(), self.interval, &betas);
        match steps {
            // A schedule of wrong values would only repeat what is wrong with them.
            Some(steps) if problems.is_empty() => self.schedule(steps),
            _ => problems,
        }
    }

    fn after_step(&self, rank: usize, maps: usize, step: u64, steps: u64) -> Action {
        let end = steps.saturating_sub(resolve(self.final_steps, steps));
        let (budget, due) = self.at(rank, maps, step, steps);
        Action {
            observe: step < end,
            allocate: (due && step <= end).then_some(budget),
            hold: step > end,
            ..Action::default()
        }
    }

    fn planned(&self, rank: usize, maps: usize, step: u64, steps: u64) -> Option<usize> {
        Some(self.components(rank, maps, step, steps))
    }

    fn settled(&self, steps: u64) -> u64 {
        // The pattern is fixed after the step numbered `end`, which is the `end + 1`-th.
        steps.saturating_sub(resolve(self.final_steps, steps)) + 1
    }

    fn averages(&self) -> &'static [&'static str] {
        &["mean", "uncertainty"]
    }

    fn observe(&self, averages: &[Tensor<2>], seen: Seen) -> Vec<Tensor<2>> {
        let ([mean, uncertainty], Seen::Numbers { value, gradient }) = (averages, seen) else {
            unreachable!("as it says of its averages")
        };
        sensitivity::observe([mean, uncertainty], value, gradient, [self.beta1, self.beta2]).into()
    }

    fn scores(&self, averages: &[Tensor<2>], _value: &Tensor<2>) -> Tensor<2> {
        let [mean, uncertainty] = averages else { unreachable!("as many as there are names") };
        sensitivity::scores(mean, uncertainty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Budget {
        Budget { target_rank: 2, initial_steps: 10.0, final_steps: 20.0, interval: 5, beta1: 0.85, beta2: 0.85 }
    }

    #[test]
    fn the_budget_is_the_cubic_of_the_released_codes() {
        let budget = |t| policy().at(6, 4, t, 100).0; // b0 = 24, bT = 8, tᵢ = 10, end = 80
        assert_eq!([budget(0), budget(10), budget(80), budget(99)], [24, 24, 8, 8]);
        // Half-way: 8 + 16·0.5³ = 10.
        assert_eq!(budget(45), 10);
        assert!((10..80).all(|t| budget(t + 1) <= budget(t)), "never rises");
    }

    #[test]
    fn actions_follow_the_phases() {
        let act = |t| policy().after_step(6, 4, t, 100);
        let act_of = |observe, allocate, hold| Action { observe, allocate, hold, ..Action::default() };
        assert_eq!(act(5), act_of(true, None, false));
        assert_eq!(act(12), act_of(true, None, false));
        assert_eq!(act(45), act_of(true, Some(10), false));
        assert_eq!(act(80), act_of(false, Some(8), false));
        assert_eq!(act(81), act_of(false, None, true));
    }

    #[test]
    fn allocation_is_global_and_drops_ties() {
        let scores = [vec![5.0, 1.0, 3.0], vec![2.0, 2.0, 4.0]];
        assert_eq!(policy().allocate(&scores, 3), [vec![true, false, true], vec![false, false, true]]);
        // The threshold is the third smallest, 2.0, and both twos go with it.
        assert_eq!(policy().allocate(&scores, 4), [vec![true, false, true], vec![false, false, true]]);
        assert_eq!(policy().allocate(&scores, 6), [vec![true; 3], vec![true; 3]]);
    }

    #[test]
    fn schedules_that_cannot_work_are_refused() {
        let refuse = |policy: Budget, field: &str| {
            let problems = policy.check(6, Some(100));
            assert!(problems.iter().any(|p| p.field == field), "{field}: {problems:?}");
        };
        assert!(policy().check(6, Some(100)).is_empty());
        refuse(Budget { target_rank: 6, ..policy() }, "target_rank");
        refuse(Budget { target_rank: 0, ..policy() }, "target_rank");
        refuse(Budget { initial_steps: 90.0, ..policy() }, "initial_steps");
        refuse(Budget { final_steps: 0.0, ..policy() }, "final_steps");
        refuse(Budget { final_steps: 1.5, ..policy() }, "final_steps");
        refuse(Budget { interval: 0, ..policy() }, "interval");
        refuse(Budget { interval: 200, ..policy() }, "interval");
        refuse(Budget { beta1: 1.0, ..policy() }, "beta1");
    }
}
