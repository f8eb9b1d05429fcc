//! Axis 5: rank over time. A policy decides; the trainer acts.
//!
//! A policy that draws ranks or leaves them alone decides from step numbers. One that prunes also keeps averages of what it sees of
//! every component's numbers, scores the components by them, and chooses which stay. The trainer lays the numbers out, keeps the averages
//! with its checkpoints, and zeroes what is pruned; it does not know how a policy scores.

use std::{fmt::Debug, ops::Range};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{
    base_update::Schedule,
    capability::{Capability, Declaration, Requirement},
    error::SpecProblem,
};

/// What the trainer does for a run after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Action {
    /// Update the policy's averages from this step.
    pub observe: bool,
    /// Keep this many components over all maps, by score, and prune the rest.
    pub allocate: Option<usize>,
    /// Prune again what the last allocation pruned.
    pub hold: bool,
    /// Shrink every number of the diagonals by this much toward 0, as part of the step.
    pub threshold: Option<f64>,
    /// Set the gates of all components anew, by score.
    pub gate: Option<Gating>,
}

/// Gates that are set anew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gating {
    /// Which time of its run it is, from 1: a part of the key of the random draws.
    pub round: u64,
    /// What begins anew.
    pub renewed: Renewed,
}

/// What begins anew where gates are set: at first values drawn for the round, with new moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// Components that were closed and are open.
    Opened,
    /// The factors of every map; moments and counts of all that the run trains.
    Factors,
}

/// What a policy keeps averages of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Of every number of a component.
    Numbers,
    /// Of what every component contributes to the size of its map's update.
    Contributions,
    /// Of nothing: the logits of a softmax are the scores.
    Logits,
    /// Of nothing: scores are losses on examples that are held out, without a component and with it alone.
    Ablations,
}

/// What a step shows of it.
#[derive(Clone, Debug)]
pub enum Seen {
    /// The step's values (after the optimizer) with the clipped gradients that made them.
    Numbers {
        /// `[runs, n]`
        value: Tensor<2>,
        /// `[runs, n]`
        gradient: Tensor<2>,
    },
    /// [`Chain::contributions`](crate::form::Chain::contributions) after the step, `[runs, n]`.
    Contributions(Tensor<2>),
}

/// Rank over time.
pub trait RankPolicy: Clone + Debug {
    /// What it offers to the other parts.
    fn provides(&self) -> &'static [Capability] {
        &[]
    }

    /// Why it lacks what it does not offer, where its kind alone does not tell: the words that follow the kind in a message.
    fn lacks(&self) -> &'static [(Capability, &'static str)] {
        &[]
    }

    /// What it needs of the other parts. A policy that prunes needs [`Capability::Prunable`].
    fn requires(&self) -> &'static [Requirement] {
        &[]
    }

    /// Every rule that its own numbers break at `rank`. `steps`: length of the run, where known.
    fn check(&self, _rank: usize, _steps: Option<u64>) -> Vec<SpecProblem> {
        Vec::new()
    }

    /// Components in use at `step`: the first `b`. `None` means all.
    fn draw(&self, _rank: usize, _seed: u64, _step: u64) -> Option<usize> {
        None
    }

    /// Components that have a gradient in a step with the first `active` in use.
    fn touched(&self, active: usize) -> Range<usize> {
        0..active
    }

    /// Whether the optimizer leaves the others as they are, moments, count and decay included; else it steps them with a gradient of 0.
    fn keeps_untouched(&self) -> bool {
        false
    }

    /// Fields that records leave out, since those of the time before the field existed mean the same.
    fn unrecorded(&self) -> &'static [&'static str] {
        &[]
    }

    /// What to do after optimizer step `step` (counted from 0) of `steps`, over `maps` adapted maps.
    fn after_step(&self, _rank: usize, _maps: usize, _step: u64, _steps: u64) -> Action {
        Action::default()
    }

    /// The rate of a run by its schedule, as a multiple of its peak, at a step of so many.
    fn rate(&self, step: u64, steps: u64, schedule: &Schedule<'_>) -> f64 {
        schedule(step, steps)
    }

    /// Share of the training examples that is held out, to score components by.
    fn held_out(&self) -> Option<f64> {
        None
    }

    /// Whether single components may begin anew, each with a count of its own steps.
    fn renews_components(&self) -> bool {
        false
    }

    /// The gates of every map of one run after they are set anew, from the scores of its components and their gates before.
    fn gates(&self, _scores: &[Vec<f64>], now: &[Vec<f64>]) -> Vec<Vec<f64>> {
        now.to_vec()
    }

    /// Whether steps have a threshold, so that the device alone knows which components are left.
    fn thresholds(&self) -> bool {
        false
    }

    /// The first step after which the ranks no longer change: earlier checkpoints are not what was asked for, and are not
    /// selected.
    fn settled(&self, _steps: u64) -> u64 {
        0
    }

    /// Components that it plans to keep over all maps after step `step` (counted from 0) of `steps`; `None` where it has no plan.
    fn planned(&self, _rank: usize, _maps: usize, _step: u64, _steps: u64) -> Option<usize> {
        None
    }

    /// Names of the averages that it keeps, as checkpoints name them. All start at 0.
    fn averages(&self) -> &'static [&'static str] {
        &[]
    }

    /// What its averages are of.
    fn averages_of(&self) -> Observed {
        Observed::Numbers
    }

    /// The averages after a step, `[runs, n]` each, in the order of their names: from those before it, and from what the step shows.
    fn observe(&self, averages: &[Tensor<2>], _seen: Seen) -> Vec<Tensor<2>> {
        averages.to_vec()
    }

    /// The score of everything that has an average, `[runs, n]`; `value` is what a number is now. A component's score is the sum over the
    /// tensors of its map of its mean there.
    fn scores(&self, _averages: &[Tensor<2>], value: &Tensor<2>) -> Tensor<2> {
        value.clone().abs()
    }

    /// Which components stay where `budget` of them may, from the scores of every map of one run.
    ///
    /// The `budget` largest stay, minus ties with the largest score that must go (AdaLoRA's `kthvalue` and `<=`).
    fn allocate(&self, scores: &[Vec<f64>], budget: usize) -> Vec<Vec<bool>> {
        let mut sorted: Vec<f64> = scores.iter().flatten().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let pruned = sorted.len().saturating_sub(budget);
        let keeps = |score: &f64| pruned == 0 || *score > sorted[pruned - 1];
        scores.iter().map(|map| map.iter().map(keeps).collect()).collect()
    }

    /// Ranks at which one checkpoint is evaluated; empty where only the full rank means anything.
    fn readouts(&self, _rank: usize) -> Vec<usize> {
        Vec::new()
    }
}

macro_rules! rank_policies {
    ($($file:ident :: $Policy:ident),+ $(,)?) => {
        $(pub mod $file;)+

        /// Any policy, as written in YAML and as used.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[expect(missing_docs, reason = "each variant is documented in its own file")]
        pub enum AnyRankPolicy { $($Policy($file::$Policy)),+ }

        impl RankPolicy for AnyRankPolicy {
            fn provides(&self) -> &'static [Capability] {
                match self { $(Self::$Policy(policy) => policy.provides()),+ }
            }
            fn lacks(&self) -> &'static [(Capability, &'static str)] {
                match self { $(Self::$Policy(policy) => policy.lacks()),+ }
            }
            fn requires(&self) -> &'static [Requirement] {
                match self { $(Self::$Policy(policy) => policy.requires()),+ }
            }
            fn check(&self, rank: usize, steps: Option<u64>) -> Vec<SpecProblem> {
                match self { $(Self::$Policy(policy) => policy.check(rank, steps)),+ }
            }
            fn draw(&self, rank: usize, seed: u64, step: u64) -> Option<usize> {
                match self { $(Self::$Policy(policy) => policy.draw(rank, seed, step)),+ }
            }
            fn touched(&self, active: usize) -> Range<usize> {
                match self { $(Self::$Policy(policy) => policy.touched(active)),+ }
            }
            fn keeps_untouched(&self) -> bool {
                match self { $(Self::$Policy(policy) => policy.keeps_untouched()),+ }
            }
            fn unrecorded(&self) -> &'static [&'static str] {
                match self { $(Self::$Policy(policy) => policy.unrecorded()),+ }
            }
            fn after_step(&self, rank: usize, maps: usize, step: u64, steps: u64) -> Action {
                match self { $(Self::$Policy(policy) => policy.after_step(rank, maps, step, steps)),+ }
            }
            fn planned(&self, rank: usize, maps: usize, step: u64, steps: u64) -> Option<usize> {
                match self { $(Self::$Policy(policy) => policy.planned(rank, maps, step, steps)),+ }
            }
            fn rate(&self, step: u64, steps: u64, schedule: &Schedule<'_>) -> f64 {
                match self { $(Self::$Policy(policy) => policy.rate(step, steps, schedule)),+ }
            }
            fn held_out(&self) -> Option<f64> {
                match self { $(Self::$Policy(policy) => policy.held_out()),+ }
            }
            fn renews_components(&self) -> bool {
                match self { $(Self::$Policy(policy) => policy.renews_components()),+ }
            }
            fn gates(&self, scores: &[Vec<f64>], now: &[Vec<f64>]) -> Vec<Vec<f64>> {
                match self { $(Self::$Policy(policy) => policy.gates(scores, now)),+ }
            }
            fn thresholds(&self) -> bool {
                match self { $(Self::$Policy(policy) => policy.thresholds()),+ }
            }
            fn settled(&self, steps: u64) -> u64 {
                match self { $(Self::$Policy(policy) => policy.settled(steps)),+ }
            }
            fn averages(&self) -> &'static [&'static str] {
                match self { $(Self::$Policy(policy) => policy.averages()),+ }
            }
            fn averages_of(&self) -> Observed {
                match self { $(Self::$Policy(policy) => policy.averages_of()),+ }
            }
            fn observe(&self, averages: &[Tensor<2>], seen: Seen) -> Vec<Tensor<2>> {
                match self { $(Self::$Policy(policy) => policy.observe(averages, seen)),+ }
            }
            fn scores(&self, averages: &[Tensor<2>], value: &Tensor<2>) -> Tensor<2> {
                match self { $(Self::$Policy(policy) => policy.scores(averages, value)),+ }
            }
            fn allocate(&self, scores: &[Vec<f64>], budget: usize) -> Vec<Vec<bool>> {
                match self { $(Self::$Policy(policy) => policy.allocate(scores, budget)),+ }
            }
            fn readouts(&self, rank: usize) -> Vec<usize> {
                match self { $(Self::$Policy(policy) => policy.readouts(rank)),+ }
            }
        }

        /// Every kind at its defaults.
        pub fn defaults() -> Vec<AnyRankPolicy> {
            vec![$(AnyRankPolicy::$Policy($file::$Policy::default())),+]
        }

        impl AnyRankPolicy {
            /// What it says of itself to the other parts.
            pub fn declaration(&self) -> Declaration {
                let kind = match self { $(Self::$Policy(_) => stringify!($file)),+ };
                Declaration { kind, provides: self.provides(), lacks: self.lacks(), requires: self.requires() }
            }

            /// Whether components go over the run, or come.
            pub fn prunes(&self) -> bool {
                let changing = [Capability::Prunable, Capability::Gated, Capability::SoftGates];
                self.requires().iter().any(|requirement| changing.contains(&requirement.needs))
            }
        }
    };
}

// Alphabetical.
rank_policies! {
    ablation::Ablation,
    budget::Budget,
    constant::Constant,
    nested_sampling::NestedSampling,
    norm_budget::NormBudget,
    soft_threshold::SoftThreshold,
    softmax_threshold::SoftmaxThreshold,
}
