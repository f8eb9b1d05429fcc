//! A soft threshold on the diagonal after every step: `λ ← sign(λ)·max(|λ| − ξ, 0)`, the proximal step of `ξ·‖λ‖₁`.
//!
//! Components whose `λ` is 0 are pruned. They may come back: a step that moves `λ` by more than `ξ` leaves it different from 0. How many are
//! left is counted on the device in the same step and recorded with its losses.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `threshold` | 3e-4 | above 0 |
//!
//! Departures. The paper's `ξ` is the learning rate times a weight; the authors' code keeps it constant, as here. Their code
//! (`sparse_optimizer.py`) also sets to 0 what lies within `ξ` of 0 *after* it was shrunk, so that everything within `2ξ` goes; here it is the
//! paper's.
//!
//! Ding et al., *Sparse Low-rank Adaptation of Pre-trained Language Models* (SoRA), EMNLP 2023, arXiv:2311.11696; default from the authors'
//! scripts (`sparse_lambda_2`).

use serde::{Deserialize, Serialize};

use super::{Action, RankPolicy};
use crate::{
    capability::{Capability, Requirement},
    error::SpecProblem,
};

/// A soft threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftThreshold {
    /// `ξ`.
    #[serde(default = "threshold")]
    pub threshold: f64,
}

fn threshold() -> f64 {
    3e-4
}

impl Default for SoftThreshold {
    fn default() -> Self {
        Self { threshold: threshold() }
    }
}

impl RankPolicy for SoftThreshold {
    fn lacks(&self) -> &'static [(Capability, &'static str)] {
        &[(Capability::ConstantRank, "under which the rank changes")]
    }

    fn provides(&self) -> &'static [Capability] {
        &[Capability::OwnRanks]
    }

    fn requires(&self) -> &'static [Requirement] {
        &[Requirement {
            needs: Capability::Prunable,
            rule: "a soft threshold prunes a diagonal, which `{kind}` lacks; use {others}",
        }]
    }

    fn check(&self, _rank: usize, _steps: Option<u64>) -> Vec<SpecProblem> {
        if self.threshold.is_finite() && self.threshold > 0.0 {
            return Vec::new();
        }
        let rule = format!(
            "threshold is `{}`, but must be above 0, or nothing is pruned; for that write `rank_policy: {{kind: constant}}`",
            self.threshold
        );
        vec![SpecProblem::new("threshold", rule)]
    }

    fn after_step(&self, _rank: usize, _maps: usize, _step: u64, _steps: u64) -> Action {
        Action { threshold: Some(self.threshold), ..Action::default() }
    }

    fn thresholds(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_the_threshold_and_nothing_else() {
        let policy = SoftThreshold { threshold: 0.5 };
        let wanted = Action { threshold: Some(0.5), ..Action::default() };
        assert!([0, 1, 99].into_iter().all(|step| policy.after_step(4, 2, step, 100) == wanted));
        assert!(policy.check(4, Some(100)).is_empty());
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(SoftThreshold { threshold: wrong }.check(4, None)[0].field, "threshold");
        }
    }
}
