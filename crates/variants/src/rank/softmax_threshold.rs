//! A search for ranks by the weights of a softmax, and training at the ranks that were found.
//!
//! For the first `search` steps of a run, or that share of them, the components of a map weigh `softmax(λ)`. Then a map of `rank` components keeps
//! those of weight `1/rank` or more, of which there is at least one: its rank `r`. They begin anew, at first values drawn for this and with new
//! moments of all that trains, and train to the end of the run with weight `rank/r` each: with a scale of `α/rank` for the search, `α/r`. Both parts
//! have the run's schedule over their own length.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `search` | 0.5 | at least 1 step, and at least 1 after it |
//!
//! The weights train as any role does; that they train on examples of their own is [`bilevel`](crate::bilevel)'s.
//!
//! Zhang et al., *AutoLoRA*, NAACL 2024, arXiv:2403.09113, §3.3, with the authors' code for the threshold and for the scale after the search
//! (ruz048/AutoLoRA, `finetune/lora_glue.py`).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Action, Gating, Observed, RankPolicy, Renewed};
use crate::{
    base_update::{Schedule, check_count, resolve},
    capability::{Capability, Requirement},
    error::SpecProblem,
};

/// Ranks by the weights of a softmax.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftmaxThreshold {
    /// Steps, or share of the run, of the search.
    #[serde(default = "half")]
    pub search: f64,
}

fn half() -> f64 {
    0.5
}

impl Default for SoftmaxThreshold {
    fn default() -> Self {
        Self { search: half() }
    }
}

impl RankPolicy for SoftmaxThreshold {
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
            needs: Capability::SoftGates,
            rule: "ranks are found by the weights of a softmax, which `{kind}` lacks; use {others}",
        }]
    }

    fn check(&self, _rank: usize, steps: Option<u64>) -> Vec<SpecProblem> {
        if let Some(problem) = check_count("search", self.search) {
            return vec![problem];
        }
        let Some(steps) = steps else { return Vec::new() };
        let search = resolve(self.search, steps);
        if search >= 1 && search < steps {
            return Vec::new();
        }
        let rule = format!(
            "search is `{}`, {search} of {steps} steps, but the search and the training after it have at least one each",
            self.search
        );
        vec![SpecProblem::new("search", rule)]
    }

    fn after_step(&self, _rank: usize, _maps: usize, step: u64, steps: u64) -> Action {
        let is_last = step + 1 == resolve(self.search, steps);
        Action { gate: is_last.then_some(Gating { round: 1, renewed: Renewed::Factors }), ..Action::default() }
    }

    fn rate(&self, step: u64, steps: u64, schedule: &Schedule<'_>) -> f64 {
        let search = resolve(self.search, steps);
        if step < search { schedule(step, search) } else { schedule(step - search, steps - search) }
    }

    fn settled(&self, steps: u64) -> u64 {
        resolve(self.search, steps)
    }

    fn averages_of(&self) -> Observed {
        Observed::Logits
    }

    fn scores(&self, _averages: &[Tensor<2>], value: &Tensor<2>) -> Tensor<2> {
        value.clone()
    }

    fn gates(&self, scores: &[Vec<f64>], _now: &[Vec<f64>]) -> Vec<Vec<f64>> {
        scores.iter().map(|logits| kept(logits)).collect()
    }
}

/// The gates of a map with these logits.
fn kept(logits: &[f64]) -> Vec<f64> {
    let (n, largest) = (logits.len() as f64, logits.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    let weights: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    // Equal weights are all kept, to rounding.
    let threshold = weights.iter().sum::<f64>() / n * (1.0 - 1e-12);
    let kept = weights.iter().filter(|weight| **weight >= threshold).count() as f64;
    weights.into_iter().map(|weight| if weight >= threshold { n / kept } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_keeps_what_weighs_its_share_or_more() {
        // exp: 1, e, 1/e; the mean is 1.36, so e alone stays.
        assert_eq!(kept(&[0.0, 1.0, -1.0]), [0.0, 3.0, 0.0]);
        assert_eq!(kept(&[2.0, 1.9, -9.0, 2.1]), [4.0 / 3.0, 4.0 / 3.0, 0.0, 4.0 / 3.0]);
        for n in 1..40 {
            assert_eq!(kept(&vec![0.7; n]), vec![1.0; n], "equal logits keep all");
        }
    }

    #[test]
    fn the_search_ends_once_and_both_parts_have_the_whole_schedule() {
        let policy = SoftmaxThreshold { search: 0.4 };
        let due: Vec<u64> = (0..10).filter(|step| policy.after_step(4, 2, *step, 10).gate.is_some()).collect();
        assert_eq!((due, policy.settled(10)), (vec![3], 4));
        let linear = |step: u64, steps: u64| 1.0 - step as f64 / steps as f64;
        let rates = [0, 2, 3, 4, 7].map(|step| policy.rate(step, 10, &linear));
        assert_eq!(rates, [1.0, 0.5, 0.25, 1.0, 0.5]);
    }

    #[test]
    fn searches_that_cannot_work_are_refused() {
        for search in [0.0, 10.0, -1.0, 2.5, 0.01] {
            assert_eq!(SoftmaxThreshold { search }.check(4, Some(10)).len(), 1, "{search}");
        }
        assert!(SoftmaxThreshold::default().check(4, Some(10)).is_empty());
    }
}
