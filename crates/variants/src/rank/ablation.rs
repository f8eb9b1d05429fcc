//! Components move from map to map, by what the model loses without them.
//!
//! With `S(M)` the negative mean loss of the model on a batch of held-out examples, `S(M∖i)` that without component `i`, and `S(Mᵢ)` that with `i` as
//! the only component of all maps, the importance of `i` is (Eq. 6)
//!
//! `IS(i) = S(M) − S(M∖i) + S(Mᵢ)`
//!
//! After `initial_steps` steps, and every `interval` steps from there until there were `rounds` rounds, all open components are scored; the lowest
//! are closed, as many as there are maps; and as many are opened in the maps that lost none, one each in turn, maps of higher mean importance
//! first. An opened component begins anew: `A` drawn, `B` at zero, no moments. So the number of open components stays.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `initial_steps` | 0.1 | at least 1 |
//! | `interval` | 0.025 | at least 1 |
//! | `rounds` | 8 | at least 1; the last before the run ends |
//! | `held_out` | 0.1 | (0, 1), a share of the training examples |
//!
//! Step lengths are counts of optimizer steps (an integer above or equal to 1) or shares of the run (a number below 1); the defaults are the paper's one
//! epoch and quarter of an epoch in a run of ten. A map holds at most `rank` components. Where those that would move fit nowhere, fewer
//! move. A round costs two forward passes per component, without gradients.
//!
//! Departure: the paper scores on the validation set, which is for selection and reports here; so examples of the training set are held out.
//!
//! Liu et al., *ALoRA: Allocating Low-Rank Adaptation for Fine-tuning Large Language Models*, NAACL 2024, arXiv:2403.16187, §3.2 and §3.3.

use serde::{Deserialize, Serialize};

use super::{Action, Gating, Observed, RankPolicy, Renewed};
use crate::{
    base_update::{check_count, resolve},
    capability::{Capability, Requirement},
    error::SpecProblem,
};

/// Components that move by ablation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// Steps, or share of the run, before the first round.
    #[serde(default = "initial_steps")]
    pub initial_steps: f64,
    /// Steps, or share of the run, from round to round.
    #[serde(default = "interval")]
    pub interval: f64,
    /// Rounds.
    #[serde(default = "rounds")]
    pub rounds: u64,
    /// Share of the training examples that scores are taken on.
    #[serde(default = "held_out")]
    pub held_out: f64,
}

fn initial_steps() -> f64 {
    0.1
}

fn interval() -> f64 {
    0.025
}

fn rounds() -> u64 {
    8
}

fn held_out() -> f64 {
    0.1
}

impl Default for Ablation {
    fn default() -> Self {
        Self { initial_steps: initial_steps(), interval: interval(), rounds: rounds(), held_out: held_out() }
    }
}

impl Ablation {
    /// Steps before the first round, and from round to round; at least one each.
    fn lengths(&self, steps: u64) -> [u64; 2] {
        [self.initial_steps, self.interval].map(|written| resolve(written, steps).max(1))
    }

    /// Steps before the last round.
    fn last(&self, steps: u64) -> u64 {
        let [initial, interval] = self.lengths(steps);
        initial.saturating_add(interval.saturating_mul(self.rounds.saturating_sub(1)))
    }
}

impl RankPolicy for Ablation {
    fn provides(&self) -> &'static [Capability] {
        &[Capability::RestingTensors]
    }

    fn lacks(&self) -> &'static [(Capability, &'static str)] {
        &[
            (Capability::ConstantRank, "under which the rank changes"),
            (Capability::OwnRanks, "which gives every map its rank"),
        ]
    }

    fn requires(&self) -> &'static [Requirement] {
        &[Requirement {
            needs: Capability::Gated,
            rule: "components move by gates that open and close, which `{kind}` lacks; use {others}",
        }]
    }

    fn check(&self, _rank: usize, steps: Option<u64>) -> Vec<SpecProblem> {
        let lengths = [("initial_steps", self.initial_steps), ("interval", self.interval)];
        let mut problems: Vec<_> = lengths.into_iter().filter_map(|(field, value)| check_count(field, value)).collect();
        for (field, value) in lengths.into_iter().filter(|(_, value)| *value == 0.0) {
            problems.push(SpecProblem::new(field, format!("{field} is `{value}`, but is at least one step")));
        }
        if self.rounds == 0 {
            let rule = "rounds is `0`, so that nothing would move; write `rank_policy: {kind: constant}`";
            problems.push(SpecProblem::new("rounds", rule));
        }
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            let rule = format!("held_out is `{}`, but must lie in (0, 1)", self.held_out);
            problems.push(SpecProblem::new("held_out", rule));
        }
        if let Some(steps) = steps.filter(|steps| problems.is_empty() && self.last(*steps) >= *steps) {
            let [initial, interval] = self.lengths(steps);
            let rule = format!(
                "rounds is `{}`, one after {initial} steps and the others every {interval}, but the run has {steps} steps, and some are left after \
                 the last; use fewer or train longer",
                self.rounds
            );
            problems.push(SpecProblem::new("rounds", rule));
        }
        problems
    }

    fn after_step(&self, _rank: usize, _maps: usize, step: u64, steps: u64) -> Action {
        let [initial, interval] = self.lengths(steps);
        let at = (step + 1).checked_sub(initial).filter(|at| at.is_multiple_of(interval)).map(|at| at / interval);
        let gate = at.filter(|round| *round < self.rounds).map(|round| Gating { round: round + 1, renewed: Renewed::Opened });
        Action { gate, ..Action::default() }
    }

    fn held_out(&self) -> Option<f64> {
        Some(self.held_out)
    }

    fn renews_components(&self) -> bool {
        true
    }

    fn settled(&self, steps: u64) -> u64 {
        self.last(steps)
    }

    fn averages_of(&self) -> Observed {
        Observed::Ablations
    }

    fn gates(&self, scores: &[Vec<f64>], now: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let is_open = |map: usize, component: usize| now[map][component] > 0.0;
        let of_map = |map: usize| (0..now[map].len()).filter(move |component| is_open(map, *component));
        let mut open: Vec<(usize, usize)> = (0..now.len()).flat_map(|map| of_map(map).map(move |k| (map, k))).collect();
        open.sort_by(|one, other| scores[one.0][one.1].total_cmp(&scores[other.0][other.1]));
        let mean = |map: usize| of_map(map).map(|k| scores[map][k]).sum::<f64>() / of_map(map).count().max(1) as f64;
        let room = |map: usize| now[map].len() - of_map(map).count();
        // As many move as find a place.
        for moved in (1..=now.len().min(open.len())).rev() {
            let (closed, _) = open.split_at(moved);
            let lost = |map: usize| closed.iter().any(|(of, _)| *of == map);
            let mut takers: Vec<usize> = (0..now.len()).filter(|map| !lost(*map)).collect();
            if takers.iter().map(|map| room(*map)).sum::<usize>() < moved {
                continue;
            }
            // A map that has none has lost them all: the last to be given more.
            takers.sort_by(|one, other| {
                let empty = |map: usize| of_map(map).next().is_none();
                empty(*one).cmp(&empty(*other)).then(mean(*other).total_cmp(&mean(*one)))
            });
            let mut gates = now.to_vec();
            for (map, component) in closed {
                gates[*map][*component] = 0.0;
            }
            let mut left = moved;
            while left > 0 {
                for map in &takers {
                    let place = gates[*map].iter_mut().find(|gate| **gate == 0.0).filter(|_| left > 0);
                    if let Some(gate) = place {
                        (*gate, left) = (1.0, left - 1);
                    }
                }
            }
            return gates;
        }
        now.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_close_and_maps_that_lost_none_take_their_places() {
        let policy = Ablation::default();
        let now = [vec![1.0, 1.0, 0.0, 0.0], vec![1.0, 1.0, 0.0, 0.0], vec![1.0, 1.0, 0.0, 0.0]];
        // The three lowest are 0.1 and 0.2 of map 0 and 0.3 of map 1; map 2 takes two, as it has room for no more.
        let scores = [vec![0.1, 0.2, 9.0, 9.0], vec![0.3, 4.0, 9.0, 9.0], vec![5.0, 6.0, 9.0, 9.0]];
        let gates = policy.gates(&scores, &now);
        // Three do not fit; of two, both are map 0's, and maps 2 and 1 take one each.
        assert_eq!(gates, [vec![0.0, 0.0, 0.0, 0.0], vec![1.0, 1.0, 1.0, 0.0], vec![1.0, 1.0, 1.0, 0.0]]);
        let even = [vec![0.1, 5.0, 0.0, 0.0], vec![0.2, 5.0, 0.0, 0.0], vec![0.3, 5.0, 0.0, 0.0]];
        let gates = policy.gates(&even, &now);
        // Were all three to lose one, nobody could take them; so two move to map 2.
        assert_eq!(gates, [vec![0.0, 1.0, 0.0, 0.0], vec![0.0, 1.0, 0.0, 0.0], vec![1.0, 1.0, 1.0, 1.0]]);
        let full = [vec![1.0; 2], vec![1.0; 2]];
        assert_eq!(policy.gates(&[vec![1.0, 2.0], vec![3.0, 4.0]], &full), full, "no room, nothing moves");
        for seed in 0..50_u64 {
            let score = |map: u64, k: u64| ((seed * 31 + map * 17 + k * 7) % 23) as f64;
            let scores: Vec<Vec<f64>> = (0..3).map(|map| (0..4).map(|k| score(map, k)).collect()).collect();
            let open: f64 = policy.gates(&scores, &now).iter().flatten().sum();
            assert!((open - 6.0).abs() < 1e-12, "the number of open components stays");
        }
    }

    #[test]
    fn rounds_follow_each_other_and_end() {
        let policy = Ablation { initial_steps: 10.0, interval: 5.0, rounds: 3, held_out: 0.1 };
        let due = |step: u64| policy.after_step(4, 3, step - 1, 100).gate.map(|gating| gating.round);
        assert_eq!([9, 10, 12, 15, 20, 25].map(due), [None, Some(1), None, Some(2), Some(3), None]);
        assert_eq!(policy.settled(100), 20);
    }

    #[test]
    fn schedules_that_cannot_work_are_refused() {
        let fields = |policy: Ablation| policy.check(4, Some(100)).into_iter().map(|p| p.field).collect::<Vec<_>>();
        let good = Ablation::default();
        assert!(fields(good).is_empty());
        assert_eq!(fields(Ablation { initial_steps: 0.0, ..good }), ["initial_steps"]);
        assert_eq!(fields(Ablation { interval: 1.5, ..good }), ["interval"]);
        assert_eq!(fields(Ablation { rounds: 0, ..good }), ["rounds"]);
        assert_eq!(fields(Ablation { rounds: 99, ..good }), ["rounds"]);
        assert_eq!(fields(Ablation { held_out: 0.0, ..good }), ["held_out"]);
    }
}
