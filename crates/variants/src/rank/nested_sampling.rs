//! A rank drawn at every step, so that every prefix of the components is a trained adapter.
//!
//! At each optimizer step `b ~ p_B` over `[r_min, rank]`; the step uses components `1..b` at scale `s(b)`
//! (`α/b` for DyLoRA). One draw serves all maps and micro-batches of a run's step. Two update modes:
//!
//! | `update` | components with a gradient | paper |
//! |---|---|---|
//! | `frozen` | `b` alone; `1..r_min` where `b = r_min` | Eq. 10, the mode that the authors' code runs |
//! | `nested` | `1..b` | Eq. 9, better in the paper's own ablation (Table 4) |
//!
//! The gradient is that of the loss with `1..b` in use, and 0 for the other components. Adam has a memory, so it must be said what it does
//! with a gradient of 0:
//!
//! | `optimizer_state` | a component without gradient | |
//! |---|---|---|
//! | `dense` | is stepped like all: its momentum goes on, its second moment falls by `β₂`, its weights decay | torch's AdamW, which the authors run |
//! | `masked` | keeps value, moments and count of steps | the equations read to the letter |
//!
//! The two are different algorithms. Under `masked`, a component that is drawn with probability `p` moves about `p` times as far as one
//! that every step draws; under `dense` about `√p` times, since the falling second moment makes each of its fewer steps longer.
//!
//! Valipour et al., *DyLoRA: Parameter-Efficient Tuning of Pre-trained Models using Dynamic Search-Free
//! Low-Rank Adaptation*, EACL 2023, arXiv:2210.07558.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::RankPolicy;
use crate::{
    capability::Capability,
    error::SpecProblem,
    stream::{self, Stream},
};

/// Which components have a gradient in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// The last active component alone.
    Frozen,
    /// All active components.
    Nested,
}

/// What the optimizer does with a component that has no gradient in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerState {
    /// Steps it with a gradient of 0.
    Dense,
    /// Leaves value, moments and count as they are.
    Masked,
}

/// `p_B`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Distribution {
    /// Every rank equally often.
    Uniform,
    /// `p(b) ∝ p·(1-p)^(b - r_min)`, truncated at the full rank.
    Geometric {
        /// In (0, 1); the paper's ablation uses 0.15.
        p: f64,
    },
    /// Relative weights of `r_min, r_min + 1, …, rank`.
    Weights {
        /// One per rank, none negative, not all zero.
        weights: Vec<f64>,
    },
}

/// Nested-rank sampling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NestedSampling {
    /// Smallest rank drawn.
    #[serde(default = "one")]
    pub r_min: usize,
    /// The distribution of ranks.
    #[serde(default = "uniform")]
    pub distribution: Distribution,
    /// Which components have a gradient in a step.
    #[serde(default = "nested")]
    pub update: Update,
    /// What the optimizer does with the others.
    #[serde(default = "dense")]
    pub optimizer_state: OptimizerState,
}

fn one() -> usize {
    1
}

fn uniform() -> Distribution {
    Distribution::Uniform
}

fn nested() -> Update {
    Update::Nested
}

fn dense() -> OptimizerState {
    OptimizerState::Dense
}

impl Default for NestedSampling {
    fn default() -> Self {
        Self { r_min: 1, distribution: uniform(), update: nested(), optimizer_state: dense() }
    }
}

impl NestedSampling {
    /// Relative weight of each rank in `r_min..=rank`.
    fn weights(&self, rank: usize) -> Vec<f64> {
        let n = rank + 1 - self.r_min;
        match &self.distribution {
            Distribution::Uniform => vec![1.0; n],
            Distribution::Geometric { p } => (0..n).map(|k| p * (1.0 - p).powi(k as i32)).collect(),
            Distribution::Weights { weights } => weights.clone(),
        }
    }
}

/// The index on which a share in `[0, 1)` of all weight falls.
fn pick(weights: &[f64], share: f64) -> Option<usize> {
    let mut left = share * weights.iter().sum::<f64>();
    for (index, weight) in weights.iter().enumerate() {
        if left < *weight {
            return Some(index);
        }
        left -= weight;
    }
    // Rounding ate the last sliver: the last that has weight at all.
    weights.iter().rposition(|weight| *weight > 0.0)
}

impl RankPolicy for NestedSampling {
    fn lacks(&self) -> &'static [(Capability, &'static str)] {
        &[
            (Capability::ConstantRank, "under which the rank changes"),
            (Capability::OwnRanks, "which draws one rank for all maps"),
        ]
    }

    fn check(&self, rank: usize, _steps: Option<u64>) -> Vec<SpecProblem> {
        let mut problems = Vec::new();
        let mut report = |field: &str, rule: String| problems.push(SpecProblem::new(field, rule));
        if !(1..=rank).contains(&self.r_min) {
            report("r_min", format!("r_min is `{}`, but must lie in 1..={rank}, the rank", self.r_min));
            return problems;
        }
        match &self.distribution {
            Distribution::Geometric { p } if !(*p > 0.0 && *p < 1.0) => {
                report("distribution.p", format!("p is `{p}`, but must lie strictly between 0 and 1"));
            }
            Distribution::Weights { weights } => {
                let wanted = rank + 1 - self.r_min;
                if weights.len() != wanted {
                    report(
                        "distribution.weights",
                        format!(
                            "{} weights for the {wanted} ranks {}..={rank}; give one per rank",
                            weights.len(),
                            self.r_min
                        ),
                    );
                } else if weights.iter().any(|w| !w.is_finite() || *w < 0.0) || weights.iter().sum::<f64>() <= 0.0 {
                    report("distribution.weights", "weights must be finite, none negative and not all zero".to_owned());
                }
            }
            _ => {}
        }
        problems
    }

    fn draw(&self, rank: usize, seed: u64, step: u64) -> Option<usize> {
        let weights = self.weights(rank);
        let rng = &mut stream::generator(seed, Stream::Rank, &step.to_string());
        pick(&weights, stream::unit(rng)).map(|index| self.r_min + index)
    }

    fn touched(&self, active: usize) -> Range<usize> {
        match self.update {
            Update::Nested => 0..active,
            Update::Frozen if active == self.r_min => 0..active,
            Update::Frozen => active - 1..active,
        }
    }

    fn keeps_untouched(&self) -> bool {
        self.optimizer_state == OptimizerState::Masked
    }

    fn unrecorded(&self) -> &'static [&'static str] {
        match self.optimizer_state {
            OptimizerState::Dense => &[],
            OptimizerState::Masked => &["optimizer_state"],
        }
    }

    fn readouts(&self, rank: usize) -> Vec<usize> {
        (self.r_min..=rank).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn frequencies(policy: &NestedSampling, rank: usize, expected: &[f64]) {
        let n = 20_000;
        let mut counts = vec![0.0; rank];
        for step in 0..n {
            counts[policy.draw(rank, 11, step).unwrap() - 1] += 1.0;
        }
        for (count, p) in counts.iter().zip(expected) {
            // Four standard errors of a binomial share, and a floor for p = 0.
            let tolerance = 4.0 * (p * (1.0 - p) / n as f64).sqrt() + 1e-12;
            assert!((count / n as f64 - p).abs() <= tolerance, "{counts:?} against {expected:?}");
        }
    }

    #[test]
    fn draws_follow_the_distribution() {
        let with = |r_min, distribution| NestedSampling { r_min, distribution, ..Default::default() };
        frequencies(&with(1, Distribution::Uniform), 4, &[0.25; 4]);
        frequencies(&with(3, Distribution::Uniform), 4, &[0.0, 0.0, 0.5, 0.5]);
        frequencies(&with(1, Distribution::Geometric { p: 0.5 }), 3, &[4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0]);
        frequencies(&with(2, Distribution::Weights { weights: vec![1.0, 0.0, 3.0] }), 4, &[0.0, 0.25, 0.0, 0.75]);
    }

    #[test]
    fn a_share_falls_on_the_weight_that_covers_it() {
        let weights = [1.0, 0.0, 3.0, 0.0];
        let at = |share| pick(&weights, share);
        assert_eq!([at(0.0), at(0.24), at(0.25), at(0.99)], [Some(0), Some(0), Some(2), Some(2)]);
        assert_eq!(pick(&[0.0, 1.0], 0.0), Some(1), "what has no weight is never picked");
        // Past the end, where rounding can lead: the last that has weight.
        assert_eq!([at(1.0), pick(&[2.0, 0.0], 1.0), pick(&[0.0], 1.0)], [Some(2), Some(0), None]);
    }

    #[test]
    fn what_is_not_touched_is_kept_if_masked() {
        let of = |optimizer_state| NestedSampling { optimizer_state, ..Default::default() }.keeps_untouched();
        assert_eq!((of(OptimizerState::Masked), of(OptimizerState::Dense)), (true, false));
    }

    #[test]
    fn touched_components_follow_the_mode() {
        let mode = |update| NestedSampling { r_min: 2, update, ..Default::default() };
        assert_eq!(mode(Update::Nested).touched(4), 0..4);
        assert_eq!(mode(Update::Frozen).touched(4), 3..4);
        assert_eq!(mode(Update::Frozen).touched(2), 0..2, "b = r_min trains the whole smallest prefix");
    }

    #[test]
    fn records_leave_the_masked_state_out() {
        let of = |optimizer_state| NestedSampling { optimizer_state, ..Default::default() }.unrecorded();
        assert_eq!(of(OptimizerState::Masked), ["optimizer_state"]);
        assert!(of(OptimizerState::Dense).is_empty(), "written even where it is the default");
    }

    #[test]
    fn impossible_parameters_are_refused() {
        let refuse = |policy: NestedSampling, field: &str| {
            let problems = policy.check(4, None);
            assert!(problems.iter().any(|p| p.field == field), "{field}: {problems:?}");
        };
        refuse(NestedSampling { r_min: 0, ..Default::default() }, "r_min");
        refuse(NestedSampling { r_min: 5, ..Default::default() }, "r_min");
        let with = |distribution| NestedSampling { distribution, ..Default::default() };
        refuse(with(Distribution::Geometric { p: 1.0 }), "distribution.p");
        refuse(with(Distribution::Weights { weights: vec![1.0] }), "distribution.weights");
        refuse(with(Distribution::Weights { weights: vec![0.0; 4] }), "distribution.weights");
        refuse(with(Distribution::Weights { weights: vec![1.0, f64::NAN, 1.0, 1.0] }), "distribution.weights");
    }
}
